"""Initial tables."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "1615017ff21a"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("access_id", sa.String(length=64), nullable=False),
        sa.Column("recipient_id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("accessed_at", UtcTime(), nullable=False),
        sa.Column("as_of", UtcTime(), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("record_types", sa.LargeBinary(), nullable=False),
        sa.Column("content_level", sa.SmallInteger(), nullable=False),
        sa.Column("first_month", sa.Integer(), nullable=False),
        sa.Column("last_month", sa.Integer(), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("consent_revision", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("refusal_reason", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("officer", sa.String(length=64), nullable=False),
        sa.Column("file_reference", sa.String(length=64), nullable=False),
        sa.Column("leaf_id", sa.String(length=64), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "access_id", name=op.f("pk_access")),
    )
    with op.batch_alter_table("access", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_access_recipient_id_access_id"),
            ["recipient_id", "access_id"],
            unique=False,
        )
        batch_op.create_index(
            "uq_access_recipient_id_request_id_released",
            ["recipient_id", "request_id"],
            unique=True,
            postgresql_where=sa.text("outcome = 'RELEASED'"),
            sqlite_where=sa.text("outcome = 'RELEASED'"),
        )

    op.create_table(
        "change",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_change")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "consent",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("recipient_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.Column("canonical", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("signatures", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "consent_id", name=op.f("pk_consent")),
    )
    with op.batch_alter_table("consent", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_consent_consent_id"), ["consent_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_consent_recipient_id_consent_id"),
            ["recipient_id", "consent_id"],
            unique=False,
        )

    op.create_table(
        "delivery",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=64), nullable=False),
        sa.Column("historical", sa.Boolean(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_ack", sa.LargeBinary(), nullable=False),
        sa.Column("last_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("advanced_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("provider_id", "delivery_id", name=op.f("pk_delivery")),
    )
    op.create_table(
        "leaf",
        sa.Column("leaf_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("leaf_id", name=op.f("pk_leaf")),
    )
    with op.batch_alter_table("leaf", schema=None) as batch_op:
        batch_op.create_index(
            "uq_leaf_position",
            ["position"],
            unique=True,
            postgresql_where=sa.text("position IS NOT NULL"),
            sqlite_where=sa.text("position IS NOT NULL"),
        )

    op.create_table(
        "participant",
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("provider_kind", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=True),
        sa.Column("historical_source", sa.Boolean(), nullable=False),
        sa.Column("standing", sa.String(length=16), nullable=False),
        sa.Column("registered_at", UtcTime(), nullable=False),
        sa.Column("simulated_source", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("participant_id", name=op.f("pk_participant")),
        sa.UniqueConstraint("subject_id", name=op.f("uq_participant_subject_id")),
    )
    op.create_table(
        "record",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("provider_record_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("occurred_from", sa.Integer(), nullable=False),
        sa.Column("occurred_to", sa.Integer(), nullable=False),
        sa.Column("obtained_at", UtcTime(), nullable=False),
        sa.Column("recorded_at", UtcTime(), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.Column("retracted", sa.Boolean(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id",
            "record_type",
            "provider_id",
            "provider_record_id",
            "version",
            name=op.f("pk_record"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "request",
        sa.Column("caller_id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("caller_id", "request_id", name=op.f("pk_request")),
    )
    op.create_table(
        "subject",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("uscc", sa.String(length=18), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_subject")),
        sa.UniqueConstraint("uscc", name=op.f("uq_subject_uscc")),
    )
    op.create_table(
        "summary_counterparty",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("side", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("invoices", sa.BigInteger(), nullable=False),
        sa.Column("net", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id",
            "provider_id",
            "side",
            "month",
            "token",
            name=op.f("pk_summary_counterparty"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "summary_series",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("derived_revision", sa.BigInteger(), nullable=False),
        sa.Column("first_known_at", UtcTime(), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("first_month", sa.Integer(), nullable=False),
        sa.Column("last_month", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id", "record_type", "provider_id", name=op.f("pk_summary_series")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "summary_supply",
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("first_known_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("record_type", "provider_id", name=op.f("pk_summary_supply")),
    )
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("issued_at", UtcTime(), nullable=False),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.participant_id"],
            name=op.f("fk_api_key_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_key")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_api_key_participant_id"), ["participant_id"], unique=False
        )
