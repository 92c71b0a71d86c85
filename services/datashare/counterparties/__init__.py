"""The keys that counterparties are named by: their file, their check value, their rotation."""
