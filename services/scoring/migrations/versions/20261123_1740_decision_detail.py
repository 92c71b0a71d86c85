"""What a decision says beside its score: product, declared values, interval, whole points."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "c47e0b925fd8"
down_revision = "a93c1e60d7b2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that writers of the version before leave empty."""
    lock(["decision"])
    op.add_column("decision", sa.Column("detail", sa.LargeBinary(), nullable=True))
    op.add_column("decision", sa.Column("product", sa.String(length=64), nullable=True))
    op.add_column("decision", sa.Column("declared", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Take them away: decisions keep their outcome, which the version before reads."""
    lock(["decision"])
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.drop_column("declared")
        batch_op.drop_column("product")
        batch_op.drop_column("detail")
