"""Receipts of the ends that uses of one-time consents made."""

import sqlalchemy as sa
from alembic import op

revision = "e2d9a06b4c73"
down_revision = "f04c7be2915d"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "consent_consumption",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("termination", sa.LargeBinary(), nullable=False),
        sa.Column("termination_jws", sa.String(length=1024), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "consent_id", name=op.f("pk_consent_consumption")),
    )


def downgrade() -> None:
    """Take it away: the version before shows no receipts of such ends."""
    op.drop_table("consent_consumption")
