"""Score products: what a bank asks for when it asks for a score, and what is missing for it."""
