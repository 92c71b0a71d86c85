"""Keep where messages to firms are refused."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "e81d0c35fa64"
down_revision = "d52b8e3c07f1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    lock(["contact"])
    with op.batch_alter_table("contact") as contact:
        contact.add_column(
            sa.Column("is_open", sa.Boolean(), nullable=False, server_default=sa.true())
        )
        contact.add_column(
            sa.Column("texted", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        )
        for way in ("mail", "text"):
            contact.add_column(sa.Column(f"{way}_refused_since", UtcTime()))
            contact.add_column(
                sa.Column(f"{way}_parked", sa.Boolean(), nullable=False, server_default=sa.false())
            )
    op.execute("UPDATE contact SET texted = position")


def downgrade() -> None:
    """Take them away: what is parked is tried again."""
    lock(["contact"])
    with op.batch_alter_table("contact") as contact:
        for way in ("text", "mail"):
            contact.drop_column(f"{way}_parked")
            contact.drop_column(f"{way}_refused_since")
        contact.drop_column("texted")
        contact.drop_column("is_open")
