"""Disputes."""

revision = "a50be41d8265"
down_revision = "94fad30c7154"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
