"""Look at quality across sources."""

revision = "acef2c15bcd3"
down_revision = "546410512038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
