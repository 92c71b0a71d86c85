"""Quotas of consents."""

import sqlalchemy as sa
from alembic import op

revision = "72d8b1ea5f32"
down_revision = "61c7a0d94e21"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of uses of consents."""
    op.create_table(
        "consent_use",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("period", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", "consent_id", "period", name=op.f("pk_consent_use")),
    )


def downgrade() -> None:
    """Take it away: the version before knows no quotas."""
    op.drop_table("consent_use")
