"""Subjects: the one place where a registration number becomes an opaque id."""
