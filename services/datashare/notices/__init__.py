"""What each party is told, and how it is delivered."""
