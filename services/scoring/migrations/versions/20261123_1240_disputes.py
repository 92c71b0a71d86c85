"""Disputes in decisions, and what makes decisions due to be made again."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "c4d92e1f85b3"
down_revision = "b3c81d0e74a2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that writers of the version before leave empty, and the tables."""
    lock(["decision"])
    op.add_column("decision", sa.Column("disputes", sa.LargeBinary(), nullable=True))
    op.add_column("decision", sa.Column("sources", sa.LargeBinary(), nullable=True))
    op.create_table(
        "correction",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("cause", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id",
            "record_type",
            "provider_id",
            "changed_at",
            "cause",
            name=op.f("pk_correction"),
        ),
    )
    op.create_table(
        "feed_cursor",
        sa.Column("feed", sa.String(length=32), nullable=False),
        sa.Column("cursor", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("feed", name=op.f("pk_feed_cursor")),
    )


def downgrade() -> None:
    """Take them away; the feed is there to be read again."""
    lock(["decision"])
    op.drop_table("feed_cursor")
    op.drop_table("correction")
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.drop_column("sources")
        batch_op.drop_column("disputes")
