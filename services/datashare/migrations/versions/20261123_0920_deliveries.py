"""Count deliveries at both ends and keep their signatures."""

revision = "f69b1725bd4a"
down_revision = "257d8188d398"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
