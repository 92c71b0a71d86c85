"""Incidents and their handling, and where the watch that raises them stands."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "e3b6c9f42d83"
down_revision = "d2a5b8e31c72"
branch_labels = None
depends_on = None

TABLES = (
    "incident",
    "incident_step",
    "incident_window",
    "watch_place",
    "watch_count",
    "watch_seen",
)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "incident",
        sa.Column("incident_id", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("opened_at", UtcTime(), nullable=False),
        sa.Column("summary_zh", sa.Text(), nullable=False),
        sa.Column("summary_en", sa.Text(), nullable=False),
        sa.Column("observed", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("window_begin", UtcTime(), nullable=True),
        sa.Column("window_end", UtcTime(), nullable=True),
        sa.Column("access_ids", sa.LargeBinary(), nullable=False),
        sa.Column("shared_at", UtcTime(), nullable=True),
        sa.Column("repeats", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_incident")),
    )
    op.create_index(
        op.f("ix_incident_participant_id_incident_id"),
        "incident",
        ["participant_id", "incident_id"],
    )
    op.create_table(
        "incident_step",
        sa.Column("incident_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("by_participant_id", sa.String(length=64), nullable=False),
        sa.Column("by_person_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.Column("leaf_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "number", name=op.f("pk_incident_step")),
    )
    op.create_table(
        "incident_window",
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("who", sa.String(length=32), nullable=False),
        sa.Column("incident_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint(
            "rule", "participant_id", "since", "who", name=op.f("pk_incident_window")
        ),
    )
    op.create_table(
        "watch_place",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("place", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_watch_place")),
    )
    key = (
        ("rule", sa.String(length=32)),
        ("participant_id", sa.String(length=64)),
        ("since", sa.BigInteger()),
        ("who", sa.String(length=32)),
    )
    op.create_table(
        "watch_count",
        *(sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in key),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*(name for name, _ in key), name=op.f("pk_watch_count")),
    )
    op.create_table(
        "watch_seen",
        *(sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in key),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint(*(name for name, _ in key), "what", name=op.f("pk_watch_seen")),
    )
    lock(("notice",))
    with op.batch_alter_table("notice") as table:
        table.add_column(
            sa.Column(
                "incident_id", sa.String(length=64), nullable=False, server_default=sa.text("''")
            )
        )


def downgrade() -> None:
    """Take them away."""
    lock(("notice",))
    with op.batch_alter_table("notice") as table:
        table.drop_column("incident_id")
    for name in TABLES:
        op.drop_table(name)
