"""The one entrance: authenticates, authorises, limits and routes bytes; it knows no credit."""
