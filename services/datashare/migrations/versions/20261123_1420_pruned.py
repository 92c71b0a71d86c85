"""Keep from where on notices are kept."""

import sqlalchemy as sa
from alembic import op

revision = "f04c7be2915d"
down_revision = "0b6ce94f17d3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "notice_pruned",
        sa.Column("party_id", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("party_id", name=op.f("pk_notice_pruned")),
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("notice_pruned")
