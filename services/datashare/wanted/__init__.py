"""What providers may and should supply, because a consent stands."""
