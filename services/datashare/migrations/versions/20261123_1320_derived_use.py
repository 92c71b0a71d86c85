"""What is made of the data of an access."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "d7e2f0b1c934"
down_revision = "7f7da172418b"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let accesses say it; nobody knows it of those of before."""
    lock(["access"])
    with op.batch_alter_table("access") as access:
        access.add_column(sa.Column("score", sa.Boolean()))
        access.add_column(sa.Column("automated_decision", sa.Boolean()))


def downgrade() -> None:
    """Take it away: from then on the leaves of these accesses cannot be shown."""
    lock(["access"])
    with op.batch_alter_table("access") as access:
        access.drop_column("automated_decision")
        access.drop_column("score")
