"""The state's own codes, classes and points, as pure functions with their sources."""
