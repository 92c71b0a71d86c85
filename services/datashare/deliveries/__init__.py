"""What providers sent and what became of it, as counted and signed at both ends."""
