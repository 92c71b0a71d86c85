"""Which model serves, who said so, and what challengers would have said."""

revision = "a93c1e60d7b2"
down_revision = "f5b20d6c81a7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the registry's tables."""


def downgrade() -> None:
    """Take them away."""
