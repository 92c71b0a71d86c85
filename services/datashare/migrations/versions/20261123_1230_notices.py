"""Notices, webhooks and contacts."""

revision = "94fad30c7154"
down_revision = "83e9c2fb6043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
