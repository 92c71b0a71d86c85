"""What a model sees of a firm: pure functions of its summary, as of a date."""
