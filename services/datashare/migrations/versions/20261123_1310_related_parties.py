"""The firm whose score an access was for, where it was not the subject's own."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "d52b8e3c07f1"
down_revision = "d7e2f0b1c934"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let accesses say it; none of before was for another firm's score."""
    lock(["access"])
    with op.batch_alter_table("access") as access:
        access.add_column(
            sa.Column("for_subject_id", sa.String(64), nullable=False, server_default=sa.text("''"))
        )


def downgrade() -> None:
    """Take it away: from then on the leaves of these accesses cannot be shown."""
    lock(["access"])
    with op.batch_alter_table("access") as access:
        access.drop_column("for_subject_id")
