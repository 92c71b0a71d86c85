"""Mark the summaries of the version before: their types have the measures that they had.

Without a mark a series is folded from its records at every read. On PostgreSQL they are marked few
at a time, so that batches never wait for long; what was broken off goes on.
"""

import sqlalchemy as sa
from alembic import op

revision = "5d0c6f1e92b7"
down_revision = "8e220124401d"
branch_labels = None
depends_on = None

# `Layout.mark` of the types that the version before had.
MARKS = {
    "court_case": "8a119823858f1fa8",
    "credit_facility": "20d7fb598b44ccc5",
    "grant": "5c3d0febf535890a",
    "ip_right": "45469570e5ed8c72",
    "registration": "1fbcf29ba127edc6",
    "social_insurance": "d6817a323cac6393",
    "tax_filing": "916ea7396fefbcac",
    "tech_status": "aae95aabedf2722f",
    "vat_invoice": "173e6750506e45a1",
}
KEY = "subject_id, record_type, provider_id"
AT_ONCE = 2_000


def upgrade() -> None:
    """Write `Layout.mark` into series that have none."""
    if op.get_context().dialect.name != "postgresql":
        _mark("TRUE", {})
        return
    last = sa.text(
        "SELECT max(subject_id) FROM (SELECT subject_id FROM summary_series "
        "WHERE subject_id > :done ORDER BY subject_id LIMIT :most) AS part"
    )
    with op.get_context().autocommit_block():
        done = ""
        while found := op.get_bind().scalar(last, {"done": done, "most": AT_ONCE}):
            _mark("subject_id > :done AND subject_id <= :last", {"done": done, "last": found})
            done = found


def downgrade() -> None:
    """Leave the marks to the migration that drops their column."""


def _mark(which: str, place: dict[str, str]) -> None:
    marks = " ".join(f"WHEN '{record_type}' THEN '{mark}'" for record_type, mark in MARKS.items())
    types = ", ".join(f"'{record_type}'" for record_type in MARKS)
    which = f"{which} AND layout IS NULL AND record_type IN ({types})"
    # In the order in which batches lock series, so that the two cannot wait for each other.
    held = "" if op.get_context().dialect.name == "sqlite" else f"ORDER BY {KEY} FOR UPDATE"
    op.get_bind().execute(
        sa.text(
            f"WITH held AS (SELECT {KEY} FROM summary_series WHERE {which} {held}) "  # noqa: S608 - nothing from outside
            f"UPDATE summary_series SET layout = CASE record_type {marks} END, "
            f"layout_revision = revision WHERE {which} AND ({KEY}) IN (SELECT * FROM held)"
        ),
        place,
    )
