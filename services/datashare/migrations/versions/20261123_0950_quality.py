"""Look at quality across sources."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "acef2c15bcd3"
down_revision = "546410512038"
branch_labels = None
depends_on = None

TABLES = (
    "finding",
    "finding_provider",
    "finding_subject",
    "quality_arrival",
    "quality_day",
    "quality_due",
    "quality_guarantee",
    "quality_invoice",
    "quality_lateness",
    "quality_missing",
    "quality_state",
    "quality_token",
)


def upgrade() -> None:
    """Add the tables, and say since when records are there that were never looked at."""
    op.create_table(
        "finding",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("others", sa.LargeBinary(), nullable=False),
        sa.Column("provider_ids", sa.LargeBinary(), nullable=False),
        sa.Column("record_types", sa.LargeBinary(), nullable=False),
        sa.Column("first_month", sa.Integer(), nullable=False),
        sa.Column("last_month", sa.Integer(), nullable=False),
        sa.Column("figures", sa.LargeBinary(), nullable=False),
        sa.Column("holds_until", sa.Integer(), nullable=True),
        sa.Column("found_at", UtcTime(), nullable=False),
        sa.Column("cleared_at", UtcTime(), nullable=True),
        sa.Column("checked_on", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "finding_id", name=op.f("pk_finding")),
    )
    op.create_index(op.f("ix_finding_finding_id"), "finding", ["finding_id"], unique=False)
    op.create_index(
        "uq_finding_digest_open",
        "finding",
        ["digest"],
        unique=True,
        postgresql_where=sa.text("cleared_at IS NULL"),
        sqlite_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "finding_provider",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", "finding_id", name=op.f("pk_finding_provider")),
    )
    op.create_table(
        "finding_subject",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "finding_id", name=op.f("pk_finding_subject")),
    )
    op.create_table(
        "quality_arrival",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("recorded_at", UtcTime(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id",
            "record_type",
            "provider_id",
            "recorded_at",
            name=op.f("pk_quality_arrival"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quality_day",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("corrections", sa.BigInteger(), nullable=False),
        sa.Column("retractions", sa.BigInteger(), nullable=False),
        sa.Column("described", sa.BigInteger(), nullable=False),
        sa.Column("last_arrival", UtcTime(), nullable=False),
        sa.Column("last_month", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", "record_type", "day", name=op.f("pk_quality_day")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quality_due",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_quality_due")),
    )
    op.create_index(op.f("ix_quality_due_since"), "quality_due", ["since"], unique=False)
    op.create_table(
        "quality_guarantee",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record", sa.LargeBinary(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("token", sa.LargeBinary(length=16), nullable=True),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("ends_on", sa.Integer(), nullable=False),
        sa.Column("hidden_on", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("subject_id", "record", name=op.f("pk_quality_guarantee")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quality_invoice",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record", sa.LargeBinary(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=True),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("hidden_on", sa.Integer(), nullable=True),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "record", name=op.f("pk_quality_invoice")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_quality_invoice_fingerprint"), "quality_invoice", ["fingerprint"], unique=False
    )
    op.create_index(
        "ix_quality_invoice_subject_id_shared",
        "quality_invoice",
        ["subject_id"],
        unique=False,
        postgresql_where=sa.text("shared"),
        sqlite_where=sa.text("shared = 1"),
    )
    op.create_table(
        "quality_lateness",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id", "record_type", "day", "bucket", name=op.f("pk_quality_lateness")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quality_missing",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("field", sa.String(length=64), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id", "record_type", "day", "field", name=op.f("pk_quality_missing")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quality_state",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_quality_state")),
    )
    op.create_table(
        "quality_token",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("token", sa.LargeBinary(length=16), nullable=True),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_quality_token")),
    )
    op.create_index(op.f("ix_quality_token_token"), "quality_token", ["token"], unique=False)
    op.get_bind().execute(
        sa.text(
            "INSERT INTO quality_state (name, value) "
            "SELECT 'catch_up', :now WHERE EXISTS (SELECT 1 FROM record)"
        ),
        {"now": datetime.now(UTC).isoformat()},
    )


def downgrade() -> None:
    """Take them away."""
    for table in reversed(TABLES):
        op.drop_table(table)
