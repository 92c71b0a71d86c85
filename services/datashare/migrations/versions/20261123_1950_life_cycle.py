"""Participants' steps and credentials."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "c1f4a7d20b61"
down_revision = "b7e30c5a91d8"
branch_labels = None
depends_on = None

# What there was to be licensed for when participants acted without a licence on record.
_PRODUCTS = "credit_reporting data_service"


def upgrade() -> None:
    """Add them; who takes part already goes on as before, without steps on record."""
    lock(("participant",))
    with op.batch_alter_table("participant") as table:
        table.add_column(
            sa.Column(
                "products", sa.String(length=1100), nullable=False, server_default=sa.text("''")
            )
        )
        table.add_column(sa.Column("licence_ends", sa.Date(), nullable=True))
    op.execute(f"UPDATE participant SET products = '{_PRODUCTS}'")  # noqa: S608 - a constant
    op.create_table(
        "participant_step",
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("by_participant_id", sa.String(length=64), nullable=False),
        sa.Column("by_person_id", sa.String(length=64), nullable=False),
        sa.Column("by_name", sa.String(length=200), nullable=False),
        sa.Column("evidence_kind", sa.String(length=64), nullable=False),
        sa.Column("evidence_reference", sa.String(length=200), nullable=False),
        sa.Column("evidence_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("evidence_dated", sa.Date(), nullable=True),
        sa.Column("evidence_ends", sa.Date(), nullable=True),
        sa.Column("products", sa.String(length=1100), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("leaf_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.participant_id"],
            name=op.f("fk_participant_step_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("participant_id", "number", name=op.f("pk_participant_step")),
    )
    op.create_table(
        "credential",
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("held", sa.String(length=96), nullable=True),
        sa.Column("public_jwk", sa.String(length=4096), nullable=False),
        sa.Column("issuer", sa.String(length=512), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("registered_at", UtcTime(), nullable=False),
        sa.Column("ends_at", UtcTime(), nullable=True),
        sa.Column("revoked_at", UtcTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.participant_id"],
            name=op.f("fk_credential_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_credential")),
        sa.UniqueConstraint("held", name=op.f("uq_credential_held")),
    )
    op.create_index(op.f("ix_credential_participant_id"), "credential", ["participant_id"])


def downgrade() -> None:
    """Take them away; who is neither active nor suspended is suspended."""
    op.drop_table("credential")
    op.drop_table("participant_step")
    lock(("participant",))
    op.execute("UPDATE participant SET standing = 'SUSPENDED' WHERE standing != 'ACTIVE'")
    with op.batch_alter_table("participant") as table:
        table.drop_column("licence_ends")
        table.drop_column("products")
