"""The outbox: changes that others must act on."""
