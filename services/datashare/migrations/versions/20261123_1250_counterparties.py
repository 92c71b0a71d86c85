"""Keep which keys counterparties are named by, as a check value.

The row comes with the first start of the program, which has the key.
"""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "c41f7a90d2e6"
down_revision = "a50be41d8265"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "counterparty_chain",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("check_value", sa.LargeBinary(length=16), nullable=False),
        sa.Column("links", sa.Integer(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counterparty_chain")),
    )


def check_downgrade(connection: sa.Connection) -> None:
    """Refuse to go back where the version before cannot go on with the key."""
    rotated = sa.text("SELECT 1 FROM counterparty_chain WHERE links > 1")
    if connection.scalar(rotated) is not None:
        raise RuntimeError(
            "the version before knows one counterparty key, and here it was rotated: restore the "
            "backup from before the rotation, and its key file, then go back"
        )


def downgrade() -> None:
    """Take it away."""
    check_downgrade(op.get_bind())
    op.drop_table("counterparty_chain")
