"""Hide what is due."""

revision = "8e220124401d"
down_revision = "acef2c15bcd3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
