"""Disputes of which readers of records are told, as the feed says."""

import sqlalchemy as sa
from alembic import op

revision = "f5b20d6c81a7"
down_revision = "e1a7c05b96d4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and read the feed anew to fill it: what is read twice is kept once."""
    op.create_table(
        "standing_dispute",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("dispute_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "dispute_id", name=op.f("pk_standing_dispute")),
    )
    op.execute("DELETE FROM feed_cursor")


def downgrade() -> None:
    """Take it away."""
    op.drop_table("standing_dispute")
