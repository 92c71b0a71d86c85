"""Decisions: every score that was given, with all that reproduces it."""
