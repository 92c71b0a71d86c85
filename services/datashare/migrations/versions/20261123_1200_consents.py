"""Consents: signers, use, versions, receipts and erasure duties."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "61c7a0d94e21"
down_revision = "5d0c6f1e92b7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the platform's keys, what consents say and undergo from now on, and erasure duties."""
    lock(["consent"])
    with op.batch_alter_table("consent") as consent:
        consent.add_column(
            sa.Column("notice", sa.Text(), nullable=False, server_default=sa.text("''"))
        )
        consent.add_column(
            sa.Column("platform_jws", sa.String(1024), nullable=False, server_default=sa.text("''"))
        )
        consent.add_column(sa.Column("answer_by", UtcTime()))
        consent.add_column(
            sa.Column("one_time", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        consent.add_column(
            sa.Column("superseded_by", sa.String(64), nullable=False, server_default=sa.text("''"))
        )
        consent.add_column(sa.Column("termination", sa.LargeBinary()))
        consent.add_column(
            sa.Column(
                "termination_jws", sa.String(1024), nullable=False, server_default=sa.text("''")
            )
        )
        consent.alter_column(
            "state",
            existing_type=sa.String(16),
            existing_nullable=False,
            type_=sa.String(32),
        )
    op.create_table(
        "erasure_duty",
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("consent_id", sa.String(64), nullable=False),
        sa.Column("recipient_id", sa.String(64), nullable=False),
        sa.Column("life_days", sa.Integer(), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=False),
        sa.Column("due_at", UtcTime(), nullable=False),
        sa.Column("attested_at", UtcTime()),
        sa.Column("officer", sa.String(64), nullable=False),
        sa.Column("file_reference", sa.String(64), nullable=False),
        sa.Column("statement", sa.String(500), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "consent_id", name=op.f("pk_erasure_duty")),
    )
    op.create_index(
        op.f("ix_erasure_duty_recipient_id_due_at_consent_id"),
        "erasure_duty",
        ["recipient_id", "due_at", "consent_id"],
    )
    op.create_index(
        op.f("ix_erasure_duty_due_at_consent_id"), "erasure_duty", ["due_at", "consent_id"]
    )
    op.create_table(
        "platform_key",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("public_jwk", sa.String(1024), nullable=False),
        sa.Column("suite", sa.String(16), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_platform_key")),
    )


def check_downgrade(connection: sa.Connection) -> None:
    """Refuse to go back where there are consents that the version before cannot read."""
    newer = sa.text("SELECT 1 FROM consent WHERE notice <> '' LIMIT 1")
    if connection.scalar(newer) is not None:
        raise RuntimeError(
            "there are consents of schema version 2, which the version before cannot read: "
            "go on with this version, or restore a backup of before"
        )


def downgrade() -> None:
    """Take it away."""
    lock(["consent"])
    check_downgrade(op.get_bind())
    op.drop_table("platform_key")
    op.drop_table("erasure_duty")
    with op.batch_alter_table("consent") as consent:
        # To shorten it PostgreSQL would write all of the table anew, and keep everybody out.
        if op.get_context().dialect.name == "sqlite":
            consent.alter_column(
                "state",
                existing_type=sa.String(32),
                existing_nullable=False,
                type_=sa.String(16),
            )
        for column in (
            "termination_jws",
            "termination",
            "superseded_by",
            "one_time",
            "answer_by",
            "platform_jws",
            "notice",
        ):
            consent.drop_column(column)
