"""Which tenant the database is of."""

revision = "f4c7dab53e94"
down_revision = "e3b6c9f42d83"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""


def downgrade() -> None:
    """Change nothing yet."""
