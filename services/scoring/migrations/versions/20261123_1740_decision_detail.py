"""What a decision says beside its score: product, declared values, interval, whole points."""

revision = "c47e0b925fd8"
down_revision = "a93c1e60d7b2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""


def downgrade() -> None:
    """Take them away."""
