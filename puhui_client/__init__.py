"""The Python client for banks and data providers.

Depends on the generated `puhui.*` packages alone, never on `services`.
"""
