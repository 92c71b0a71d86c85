"""The `puhui` command."""
