"""Envelope encryption at rest: a data key per subject, wrapped by a key-encryption key."""
