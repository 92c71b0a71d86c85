"""Notices, webhooks and contacts."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "94fad30c7154"
down_revision = "83e9c2fb6043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "notice",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("notice_id", sa.String(length=64), nullable=False),
        sa.Column("party_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", UtcTime(), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("dispute_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("due_at", UtcTime()),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_notice")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_notice_party_id_position"), "notice", ["party_id", "position"])
    op.create_table(
        "notice_acknowledgement",
        sa.Column("party_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party_id", name=op.f("pk_notice_acknowledgement")),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("notice_acknowledgement")
    op.drop_table("notice")
