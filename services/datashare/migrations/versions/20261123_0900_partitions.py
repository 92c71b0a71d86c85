"""Partition what grows by subject."""

from services.kit.partitions import partition, swap, unpartition

revision = "55f04705aafe"
down_revision = "1615017ff21a"
branch_labels = None
depends_on = None

PARTS = 16
# In the order in which a batch writes to them.
TABLES = ("summary_series", "record", "summary_counterparty")


def upgrade() -> None:
    """Cut what grows with subjects and time into partitions by subject."""
    for table in TABLES:
        partition(table, "subject_id", PARTS)
    swap(TABLES)


def downgrade() -> None:
    """Put it together again."""
    for table in TABLES:
        unpartition(table)
    swap(TABLES)
