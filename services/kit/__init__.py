"""Plumbing shared by the services; it knows nothing about credit."""
