"""How often a consent was fetched under, and how often it may be."""
