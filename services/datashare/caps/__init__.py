"""How much the sandbox holds."""
