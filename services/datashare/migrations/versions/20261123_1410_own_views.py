"""Who looked at what is held of its own firm."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "0b6ce94f17d3"
down_revision = "f3a7d5c81b20"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "own_view",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("viewed_at", UtcTime(), nullable=False),
        sa.Column("participant_id", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("principal_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id", "viewed_at", "participant_id", "what", name=op.f("pk_own_view")
        ),
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("own_view")
