"""Which tenant the database is of."""

import sqlalchemy as sa
from alembic import op

revision = "d58f1ca36ae9"
down_revision = "c47e0b925fd8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark; the first service that starts sets it."""
    op.create_table(
        "tenant",
        sa.Column("only", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.CheckConstraint('"only" = 1', name=op.f("ck_tenant_only")),
        sa.PrimaryKeyConstraint("only", name=op.f("pk_tenant")),
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("tenant")
