"""Which model serves, who said so, and what challengers would have said."""

import sqlalchemy as sa
from alembic import op

revision = "a93c1e60d7b2"
down_revision = "f5b20d6c81a7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the registry's tables."""
    op.create_table(
        "registry_event",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_registry_event")),
        sa.UniqueConstraint("event_id", name=op.f("uq_registry_event_event_id")),
        sa.UniqueConstraint(
            "participant_id",
            "request_id",
            name=op.f("uq_registry_event_participant_id_request_id"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "registry_leaf",
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("leaf_id", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_registry_leaf")),
    )
    op.create_table(
        "shadow_difference",
        sa.Column("challenger", sa.String(length=64), nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("answered_by", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("pd_answered", sa.Double(), nullable=True),
        sa.Column("pd_challenger", sa.Double(), nullable=True),
        sa.Column("score_answered", sa.Integer(), nullable=False),
        sa.Column("score_challenger", sa.Integer(), nullable=False),
        sa.Column("grade_answered", sa.String(length=16), nullable=False),
        sa.Column("grade_challenger", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("challenger", "decision_id", name=op.f("pk_shadow_difference")),
    )
    with op.batch_alter_table("shadow_difference") as batch_op:
        batch_op.create_index(
            batch_op.f("ix_shadow_difference_challenger_answered_by_day"),
            ["challenger", "answered_by", "day"],
        )
        batch_op.create_index(batch_op.f("ix_shadow_difference_day"), ["day"])
    op.create_table(
        "shadow_loss",
        sa.Column("challenger", sa.String(length=64), nullable=False),
        sa.Column("answered_by", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("challenger", "answered_by", "day", name=op.f("pk_shadow_loss")),
    )


def downgrade() -> None:
    """Take them away."""
    for table in ("shadow_loss", "shadow_difference", "registry_leaf", "registry_event"):
        op.drop_table(table)
