"""Note for which webhooks and contacts something may wait."""

import sqlalchemy as sa
from alembic import op

from services.kit.partitions import lock

revision = "a4c1e87d3b96"
down_revision = "e2d9a06b4c73"
branch_labels = None
depends_on = None

TABLES = ("webhook", "contact")


def upgrade() -> None:
    """Add it; of those that are there it is found out by the first look."""
    lock(TABLES)
    for name in TABLES:
        with op.batch_alter_table(name) as table:
            table.add_column(
                sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.true())
            )
        op.create_index(
            f"ix_{name}_next_attempt_at_waits",
            name,
            ["next_attempt_at"],
            postgresql_where=sa.text("waits IS true"),
            sqlite_where=sa.text("waits IS 1"),
        )


def downgrade() -> None:
    """Take it away."""
    lock(TABLES)
    for name in TABLES:
        op.drop_index(f"ix_{name}_next_attempt_at_waits", name)
        with op.batch_alter_table(name) as table:
            table.drop_column("waits")
