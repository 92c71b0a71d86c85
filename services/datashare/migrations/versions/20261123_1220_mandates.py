"""Mandates and signing rules."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "83e9c2fb6043"
down_revision = "72d8b1ea5f32"
branch_labels = None
depends_on = None

POWERS = '["DISPUTE","GRANT","READ","SUBMIT","WITHDRAW"]'
STANDS = "ended_at IS NULL"


def upgrade() -> None:
    """Add the tables; make every registered firm's account its representative."""
    op.create_table(
        "mandate",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("mandate_id", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("powers", sa.LargeBinary(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("appointed_by", sa.String(length=64), nullable=False),
        sa.Column("until", UtcTime(), nullable=True),
        sa.Column("suspended_at", UtcTime(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("proved_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "mandate_id", name=op.f("pk_mandate")),
    )
    for name, column, which in (
        ("uq_mandate_participant_id_stands", "participant_id", STANDS),
        (
            "uq_mandate_subject_id_representative",
            "subject_id",
            f"{STANDS} AND kind = 'REPRESENTATIVE'",
        ),
    ):
        op.create_index(
            name,
            "mandate",
            [column],
            unique=True,
            postgresql_where=sa.text(which),
            sqlite_where=sa.text(which),
        )
    op.create_table(
        "signing_rule",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("signer_ids", sa.LargeBinary(), nullable=False),
        sa.Column("required", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_signing_rule")),
    )
    op.create_table(
        "proof_use",
        sa.Column("proof_id", sa.String(length=128), nullable=False),
        sa.Column("used_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("proof_id", name=op.f("pk_proof_use")),
    )
    # "00" sorts before every id that is made of a time.
    op.get_bind().execute(
        sa.text(
            "INSERT INTO mandate (subject_id, mandate_id, participant_id, kind, powers, since, "
            "appointed_by, proved_by) "
            "SELECT subject_id, 'man_00' || substr(participant_id, 5), participant_id, "
            "'REPRESENTATIVE', :powers, registered_at, '', 'operator' "
            "FROM participant WHERE role = 'FIRM' AND subject_id IS NOT NULL"
        ),
        {"powers": POWERS.encode()},
    )


def check_downgrade(connection: sa.Connection) -> None:
    """Refuse to go back where the version before lets somebody act who may not act now."""
    stopped = sa.text(
        "SELECT 1 FROM participant WHERE role = 'FIRM' AND subject_id IS NOT NULL "
        "AND standing = 'ACTIVE' AND NOT EXISTS (SELECT 1 FROM mandate "
        "WHERE mandate.participant_id = participant.participant_id "
        "AND mandate.subject_id = participant.subject_id "
        "AND ended_at IS NULL AND suspended_at IS NULL) LIMIT 1"
    )
    if connection.scalar(stopped) is not None:
        raise RuntimeError(
            "the version before knows no mandates, and would let accounts act whose mandate is "
            "suspended or ended: suspend those participants, then go back"
        )


def downgrade() -> None:
    """Take them away."""
    lock(["participant", "mandate"])
    check_downgrade(op.get_bind())
    op.drop_table("proof_use")
    op.drop_table("signing_rule")
    op.drop_table("mandate")
