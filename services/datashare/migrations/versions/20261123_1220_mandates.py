"""Mandates and signing rules."""

revision = "83e9c2fb6043"
down_revision = "72d8b1ea5f32"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
