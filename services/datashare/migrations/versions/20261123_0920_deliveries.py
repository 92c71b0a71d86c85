"""Count deliveries at both ends and keep their signatures."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "f69b1725bd4a"
down_revision = "257d8188d398"
branch_labels = None
depends_on = None

# In the order in which a batch takes them.
TABLES = ("participant", "delivery")
NEW_OF_DELIVERY = (
    ("chain_sequence", sa.BigInteger()),
    ("chain_sha256", sa.LargeBinary(length=32)),
    ("opened_at", UtcTime()),
    ("closed_at", UtcTime()),
    ("rows_sent", sa.BigInteger()),
    ("agrees", sa.Boolean()),
)


def upgrade() -> None:
    """Add signing keys, both ends' counts, refusals by day and evidence."""
    lock(TABLES)
    op.add_column(
        "participant",
        sa.Column("signs", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.create_table(
        "signing_key",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("public_jwk", sa.String(length=512), nullable=False),
        sa.Column("registered_at", UtcTime(), nullable=False),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.participant_id"],
            name=op.f("fk_signing_key_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_signing_key")),
    )
    op.create_index(op.f("ix_signing_key_participant_id"), "signing_key", ["participant_id"])
    for name, kind in NEW_OF_DELIVERY:
        op.add_column("delivery", sa.Column(name, kind, nullable=True))
    for name in ("opened_at", "closed_at"):
        op.create_index(op.f(f"ix_delivery_{name}"), "delivery", [name])
    op.create_table(
        "delivery_total",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows_received", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("sum_received", sa.BigInteger(), nullable=False),
        sa.Column("rows_sent", sa.BigInteger(), nullable=False),
        sa.Column("sum_sent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id", "delivery_id", "record_type", "month", name=op.f("pk_delivery_total")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "intake_reject",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id", "record_type", "day", "reason", name=op.f("pk_intake_reject")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch_evidence",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id", "delivery_id", "sequence", name=op.f("pk_batch_evidence")
        ),
    )


def downgrade() -> None:
    """Take them away, participants first: in the order in which batches lock what they need."""
    lock(TABLES)
    op.drop_table("signing_key")
    with op.batch_alter_table("participant") as batch:
        batch.drop_column("signs")
    for name in ("closed_at", "opened_at"):
        op.drop_index(op.f(f"ix_delivery_{name}"), table_name="delivery")
    with op.batch_alter_table("delivery") as batch:
        for name, _kind in reversed(NEW_OF_DELIVERY):
            batch.drop_column(name)
    for table in ("batch_evidence", "intake_reject", "delivery_total"):
        op.drop_table(table)
