"""Records: what providers supply about subjects."""
