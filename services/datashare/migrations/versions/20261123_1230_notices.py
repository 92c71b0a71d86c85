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
    op.create_table(
        "notice_late",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notice_late")),
    )
    # Of what changed before there were notices, nobody is told.
    op.execute(
        "INSERT INTO notice_late (name, position) "
        "SELECT 'changes', coalesce(max(position), 0) FROM change"
    )
    op.create_table(
        "webhook",
        sa.Column("party_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.LargeBinary(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcTime()),
        sa.Column("last_failure", sa.String(length=200), nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("party_id", name=op.f("pk_webhook")),
    )
    op.create_table(
        "contact",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("mailed", sa.BigInteger(), nullable=False),
        sa.Column("window_at", UtcTime(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_contact")),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("contact")
    op.drop_table("webhook")
    op.drop_table("notice_late")
    op.drop_table("notice_acknowledgement")
    op.drop_table("notice")
