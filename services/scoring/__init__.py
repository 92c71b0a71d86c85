"""Features, models, scores with reasons, decisions and monitoring."""
