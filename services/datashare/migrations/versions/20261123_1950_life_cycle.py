"""Participants' steps and credentials."""

revision = "c1f4a7d20b61"
down_revision = "b7e30c5a91d8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""


def downgrade() -> None:
    """Change nothing yet."""
