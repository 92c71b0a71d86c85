"""Seal what is sensitive under a key per subject.

The mapping of registration numbers stays readable to programs of the version before until the
operator seals it (`python -m services datashare seal`), except in a database that is new.
"""

import sqlalchemy as sa
from alembic import op

from services.datashare.sealing.trigger import install, remove
from services.kit.db import UtcTime
from services.kit.partitions import lock

revision = "257d8188d398"
down_revision = "55f04705aafe"
branch_labels = None
depends_on = None

# In the order in which a batch locks them.
_DATA = ("summary_series", "record")
_UNSAMPLED = (
    ("subject", "uscc_token"),
    ("subject", "uscc_sealed"),
    ("subject_key", "wrapped"),
)


def upgrade() -> None:
    """Add keys, tokens and sealed columns."""
    lock(("subject", *_DATA))
    op.create_table(
        "subject_key",
        sa.Column("subject_id", sa.String(80), nullable=False),
        sa.Column("kek_id", sa.String(64), nullable=False),
        sa.Column("wrapped", sa.LargeBinary),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("destroyed_at", UtcTime),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_subject_key")),
    )
    with op.batch_alter_table("subject") as batch_op:
        batch_op.add_column(sa.Column("uscc_token", sa.LargeBinary(16)))
        batch_op.add_column(sa.Column("uscc_sealed", sa.LargeBinary))
        batch_op.alter_column("uscc", existing_type=sa.String(18), nullable=True)
        batch_op.create_unique_constraint(batch_op.f("uq_subject_uscc_token"), ["uscc_token"])
    for table in _DATA:
        # Not in a batch: SQLite would write the whole table anew.
        op.add_column(
            table, sa.Column("sealed", sa.Boolean, nullable=False, server_default=sa.false())
        )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # Statistics are samples of a column, which would outlive a row.
        for table, column in _UNSAMPLED:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")
    if not _any(connection, "subject") and not _any(connection, "participant"):
        install(connection)


def downgrade() -> None:
    """Take them away, once nothing is sealed."""
    connection = op.get_bind()
    for table, sealed in (
        ("subject", "uscc IS NULL AND uscc_token IS NOT NULL"),
        ("record", "sealed"),
        ("summary_series", "sealed"),
    ):
        if _any(connection, f"{table} WHERE {sealed}"):
            raise RuntimeError(
                f"the version before cannot read what is sealed in {table}: stop datashare, run "
                "`python -m services datashare unseal --apply`, then go back"
            )
    lock(("subject", *_DATA))
    remove(connection)
    # Erased subjects: they name nobody, and the version before has none without a number.
    op.execute("DELETE FROM subject WHERE uscc IS NULL")
    for table in _DATA:
        op.drop_column(table, "sealed")
    with op.batch_alter_table("subject") as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_subject_uscc_token"), type_="unique")
        batch_op.alter_column("uscc", existing_type=sa.String(18), nullable=False)
        batch_op.drop_column("uscc_sealed")
        batch_op.drop_column("uscc_token")
    op.drop_table("subject_key")


def _any(connection: sa.Connection, rows: str) -> bool:
    return connection.scalar(sa.text(f"SELECT 1 FROM {rows} LIMIT 1")) is not None  # noqa: S608 - names of our own tables
