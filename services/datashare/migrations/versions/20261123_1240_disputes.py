"""Disputes."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "a50be41d8265"
down_revision = "94fad30c7154"
branch_labels = None
depends_on = None

IS_OPEN = sa.text("state = 'OPEN'")
IS_TOLD = sa.text("told_next_at IS NOT NULL")


def upgrade() -> None:
    """Add disputes, and to changes which one they are of."""
    op.create_table(
        "dispute",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("dispute_id", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_record_id", sa.String(length=128), nullable=False),
        sa.Column("field", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("opened_at", UtcTime(), nullable=False),
        sa.Column("answer_due_at", UtcTime(), nullable=False),
        sa.Column("remind_at", UtcTime(), nullable=False),
        sa.Column("correction_due_at", UtcTime(), nullable=True),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("closed_at", UtcTime(), nullable=True),
        sa.Column("stage", sa.String(length=32), nullable=True),
        sa.Column("told_next_at", UtcTime(), nullable=True),
        sa.Column("told", sa.LargeBinary(), nullable=False),
        sa.Column("marked", sa.Boolean(), nullable=False),
        sa.Column("words", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "dispute_id", name=op.f("pk_dispute")),
    )
    op.create_index(op.f("ix_dispute_dispute_id"), "dispute", ["dispute_id"])
    op.create_index(
        op.f("ix_dispute_provider_id_answer_due_at_dispute_id"),
        "dispute",
        ["provider_id", "answer_due_at", "dispute_id"],
    )
    op.create_index(
        op.f("ix_dispute_answer_due_at_dispute_id"), "dispute", ["answer_due_at", "dispute_id"]
    )
    op.create_index(
        "uq_dispute_open",
        "dispute",
        ["subject_id", "record_type", "provider_id", "provider_record_id", "field"],
        unique=True,
        postgresql_where=IS_OPEN,
        sqlite_where=IS_OPEN,
    )
    op.create_index(
        "ix_dispute_marked",
        "dispute",
        ["subject_id", "record_type", "provider_id"],
        postgresql_where=sa.text("marked IS true"),
        sqlite_where=sa.text("marked IS 1"),
    )
    op.create_index(
        "ix_dispute_told_next_at",
        "dispute",
        ["told_next_at"],
        postgresql_where=IS_TOLD,
        sqlite_where=IS_TOLD,
    )
    lock(["change"])
    # A default, as writers of the version before go on meanwhile.
    op.add_column(
        "change",
        sa.Column("dispute_id", sa.String(length=64), server_default=sa.text("''"), nullable=False),
    )


def check_downgrade(connection: sa.Connection) -> None:
    """Refuse to go back where something is disputed, of which nobody would be told any more."""
    marked = sa.text("SELECT 1 FROM dispute WHERE state = 'OPEN' LIMIT 1")
    if connection.scalar(marked) is not None:
        raise RuntimeError(
            "the version before shows no disputes, and some are open: have them answered or "
            "closed first (`puhui dispute list --state open`)"
        )


def downgrade() -> None:
    """Take them away."""
    lock(["dispute", "change"])
    check_downgrade(op.get_bind())
    with op.batch_alter_table("change", schema=None) as batch_op:
        batch_op.drop_column("dispute_id")
    op.drop_table("dispute")
