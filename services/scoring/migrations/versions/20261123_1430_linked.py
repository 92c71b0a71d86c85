"""Linked subjects: what of them entered decisions, and which decisions their data is in."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "e1a7c05b96d4"
down_revision = "c4d92e1f85b3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column that writers of the version before leave empty, and the table."""
    lock(["decision"])
    op.add_column("decision", sa.Column("linked", sa.LargeBinary(), nullable=True))
    op.create_table(
        "decision_link",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("decision_id", sa.String(length=64), nullable=False),
        sa.Column("firm_id", sa.String(length=64), nullable=False),
        sa.Column("read_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "decision_id", name=op.f("pk_decision_link")),
    )


def downgrade() -> None:
    """Take them away: decisions keep their features, and with them their reproduction."""
    lock(["decision"])
    op.drop_table("decision_link")
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.drop_column("linked")
