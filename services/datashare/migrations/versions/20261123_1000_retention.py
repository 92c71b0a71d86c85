"""Hide what is due.

What was stored before has no day yet on which it is hidden: `python -m services datashare
rebuild-summaries` gives it one, by the policies of the version that runs.
"""

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "8e220124401d"
down_revision = "acef2c15bcd3"
branch_labels = None
depends_on = None

# In the order in which a batch takes them.
TABLES = ("summary_series", "record")
SERIES_COLUMNS = ("layout", "layout_revision", "next_hidden_on", "due_on", "withheld")


def upgrade() -> None:
    """Add days, columns of marks, and the tables of runs and of what was withheld."""
    lock(TABLES)
    # Not in a batch: SQLite would write the whole table anew.
    for column in (
        sa.Column("layout", sa.String(16)),
        sa.Column("layout_revision", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("next_hidden_on", sa.Integer()),
        sa.Column("due_on", sa.Integer()),
        sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        op.add_column("summary_series", column)
    op.add_column("record", sa.Column("hidden_on", sa.Integer()))
    op.create_table(
        "withheld",
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("record_type", sa.String(64), nullable=False),
        sa.Column("provider_id", sa.String(64), nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("known_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "subject_id", "record_type", "provider_id", "month", "reason", name=op.f("pk_withheld")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retention_run",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("plan_id", sa.String(64), nullable=False),
        sa.Column("operator_id", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("ran_at", UtcTime(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("deleted", sa.LargeBinary(), nullable=False),
        sa.Column("finished_at", UtcTime()),
        sa.Column("leaf_hash", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_retention_run")),
        sa.UniqueConstraint(
            "operator_id", "request_id", name=op.f("uq_retention_run_operator_id_request_id")
        ),
    )
    op.create_index(op.f("ix_retention_run_subject_id"), "retention_run", ["subject_id"])


def downgrade() -> None:
    """Take them away; what was hidden and not yet deleted would be seen again."""
    connection = op.get_bind()
    today = (
        "CAST((julianday('now', '+8 hours') - julianday('1970-01-01')) AS INTEGER)"
        if connection.dialect.name == "sqlite"
        else "(timezone('Asia/Shanghai', now())::date - date '1970-01-01')"
    )
    hidden = f"SELECT 1 FROM record WHERE hidden_on <= {today} LIMIT 1"  # noqa: S608 - nothing from outside
    if connection.scalar(sa.text(hidden)) is not None:
        raise RuntimeError(
            "the version before would show what is hidden: run `puhui retention plan` and "
            "`puhui retention run`, then go back"
        )
    lock(TABLES)
    op.drop_index(op.f("ix_retention_run_subject_id"), "retention_run")
    op.drop_table("retention_run")
    op.drop_table("withheld")
    for column in SERIES_COLUMNS:
        op.drop_column("summary_series", column)
    op.drop_column("record", "hidden_on")
