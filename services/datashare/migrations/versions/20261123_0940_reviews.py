"""Hold rows whose subject is not certain."""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "546410512038"
down_revision = "ca9066873bf3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "subject_name",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("provider_record_id", sa.String(length=128), nullable=False),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("text", sa.String(length=200), nullable=False),
        sa.Column("name_key", sa.String(length=220), nullable=False),
        sa.Column("first_second", sa.String(length=2), nullable=False),
        sa.Column("second_third", sa.String(length=2), nullable=False),
        sa.Column("first_third", sa.String(length=2), nullable=False),
        sa.Column("district", sa.String(length=6), nullable=False),
        sa.Column("occurred_to", sa.Integer(), nullable=False),
        sa.Column("obtained_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id",
            "provider_id",
            "provider_record_id",
            "place",
            name=op.f("pk_subject_name"),
        ),
        sqlite_with_rowid=False,
    )
    for column in ("name_key", "first_second", "second_third", "first_third"):
        op.create_index(op.f(f"ix_subject_name_{column}"), "subject_name", [column])
    op.create_table(
        "review",
        sa.Column("review_id", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("record_type", sa.String(length=64), nullable=False),
        sa.Column("provider_record_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_token", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("held_at", UtcTime(), nullable=False),
        sa.Column("decided_at", UtcTime(), nullable=True),
        sa.Column("decided_by", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_review")),
        sa.UniqueConstraint(
            "provider_id",
            "record_type",
            "provider_record_id",
            "version",
            "content_token",
            name="uq_review_row",
        ),
    )
    for columns in (["provider_id", "state", "review_id"], ["state", "review_id"]):
        op.create_index(op.f(f"ix_review_{'_'.join(columns)}"), "review", columns)


def downgrade() -> None:
    """Take them away."""
    op.drop_table("review")
    op.drop_table("subject_name")
