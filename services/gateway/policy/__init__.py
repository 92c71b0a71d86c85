"""Which role may call what, for which product, and how much."""
