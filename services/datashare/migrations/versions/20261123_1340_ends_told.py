"""Whether the parties were told of a consent's end."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "2c9a4be7f610"
down_revision = "e81d0c35fa64"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    lock(["consent"])
    with op.batch_alter_table("consent") as consent:
        consent.add_column(
            sa.Column("end_told", sa.Boolean(), nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    """Take it away: the version before tells of no ends that time makes."""
    lock(["consent"])
    with op.batch_alter_table("consent") as consent:
        consent.drop_column("end_told")
