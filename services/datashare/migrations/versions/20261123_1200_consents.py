"""Consents: signers, use, versions, receipts and erasure duties."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "61c7a0d94e21"
down_revision = "5d0c6f1e92b7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the platform's keys."""
    op.create_table(
        "platform_key",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("public_jwk", sa.String(1024), nullable=False),
        sa.Column("suite", sa.String(16), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_platform_key")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("platform_key")
