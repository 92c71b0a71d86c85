"""Usage and contributions by month."""

revision = "d2a5b8e31c72"
down_revision = "c1f4a7d20b61"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""


def downgrade() -> None:
    """Change nothing yet."""
