"""Seal what is sensitive under a key per subject."""

revision = "257d8188d398"
down_revision = "55f04705aafe"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
