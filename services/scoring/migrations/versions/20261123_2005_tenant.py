"""Which tenant the database is of."""

revision = "d58f1ca36ae9"
down_revision = "c47e0b925fd8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""


def downgrade() -> None:
    """Change nothing yet."""
