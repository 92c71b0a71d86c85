"""Partition what grows by subject."""

revision = "55f04705aafe"
down_revision = "1615017ff21a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
