"""Find what a party was told of a moment."""

from alembic import op

revision = "7f7da172418b"
down_revision = "c41f7a90d2e6"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(op.f("ix_notice_party_id_occurred_at"), "notice", ["party_id", "occurred_at"])


def downgrade() -> None:
    """Take it away."""
    op.drop_index(op.f("ix_notice_party_id_occurred_at"), "notice")
