"""Usage and contributions by month."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "d2a5b8e31c72"
down_revision = "c1f4a7d20b61"
branch_labels = None
depends_on = None

COUNTS = ("served", "refused", "failed", "request_bytes", "response_bytes")
TABLES = ("usage", "usage_report", "refusal", "contribution", "contribution_subject")


def upgrade() -> None:
    """Add the tables; of releases of before it is not known who the recipient was."""
    op.create_table(
        "usage",
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint(
            "participant_id", "day", "product", "method", name=op.f("pk_usage")
        ),
    )
    op.create_index(op.f("ix_usage_day"), "usage", ["day"])
    op.create_table(
        "usage_report",
        sa.Column("report_id", sa.String(length=64), nullable=False),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_usage_report")),
    )
    op.create_index(op.f("ix_usage_report_received_at"), "usage_report", ["received_at"])
    op.create_table(
        "refusal",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("in_a_row", sa.BigInteger(), nullable=False),
        sa.Column("last_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_refusal")),
        sqlite_autoincrement=True,
    )
    place = (
        ("provider_id", sa.String(length=64)),
        ("record_type", sa.String(length=64)),
        ("month", sa.Integer()),
    )
    op.create_table(
        "contribution",
        *(sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in place),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*(name for name, _ in place), name=op.f("pk_contribution")),
    )
    op.create_table(
        "contribution_subject",
        *(sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in place),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint(
            *(name for name, _ in place), "subject_id", name=op.f("pk_contribution_subject")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_contribution_subject_subject_id"), "contribution_subject", ["subject_id"]
    )
    lock(("record_use",))
    with op.batch_alter_table("record_use") as table:
        table.add_column(
            sa.Column(
                "recipient_id", sa.String(length=64), nullable=False, server_default=sa.text("''")
            )
        )


def downgrade() -> None:
    """Take them away."""
    lock(("record_use",))
    with op.batch_alter_table("record_use") as table:
        table.drop_column("recipient_id")
    for name in TABLES:
        op.drop_table(name)
