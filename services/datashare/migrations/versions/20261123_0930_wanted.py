"""Tell providers what is due and what was used."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "ca9066873bf3"
down_revision = "f69b1725bd4a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "wanted",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("consent_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("first_day", sa.Integer(), nullable=False),
        sa.Column("last_day", sa.Integer(), nullable=False),
        sa.Column("until", UtcTime(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_wanted")),
        sqlite_autoincrement=True,
    )
    for columns in (["provider_id", "position"], ["subject_id", "provider_id", "record_type"]):
        op.create_index(op.f(f"ix_wanted_{'_'.join(columns)}"), "wanted", columns)
    op.create_table(
        "record_use",
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "provider_id",
            "day",
            "record_type",
            "purpose",
            "batch_id",
            name=op.f("pk_record_use"),
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("record_use")
    op.drop_table("wanted")
