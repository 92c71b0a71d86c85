"""Accesses: quotas and what receipts need."""

revision = "72d8b1ea5f32"
down_revision = "61c7a0d94e21"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
