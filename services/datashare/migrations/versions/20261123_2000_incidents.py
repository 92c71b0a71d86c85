"""Incidents and their handling."""

revision = "e3b6c9f42d83"
down_revision = "d2a5b8e31c72"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""


def downgrade() -> None:
    """Change nothing yet."""
