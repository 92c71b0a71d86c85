"""Tell providers what is due and what was used."""

revision = "ca9066873bf3"
down_revision = "f69b1725bd4a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""


def downgrade() -> None:
    """Take it away."""
