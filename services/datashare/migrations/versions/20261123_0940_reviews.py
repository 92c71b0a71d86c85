"""Hold rows whose subject is not certain."""

revision = "546410512038"
down_revision = "ca9066873bf3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
