"""What the platform signs, and the keys to check it."""
