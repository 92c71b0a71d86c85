"""Note for which product a bank asked, so that enquiries count once per product."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "b7e30c5a91d8"
down_revision = "a4c1e87d3b96"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of accesses of before it is not known."""
    lock(("access",))
    with op.batch_alter_table("access") as table:
        table.add_column(
            sa.Column("product", sa.String(length=64), nullable=False, server_default=sa.text("''"))
        )


def downgrade() -> None:
    """Take it away."""
    lock(("access",))
    with op.batch_alter_table("access") as table:
        table.drop_column("product")
