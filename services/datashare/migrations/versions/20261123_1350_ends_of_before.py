"""Mark the ends of consents that lie before today as told, and index those that are not.

On PostgreSQL they are marked few at a time, so that nobody waits for long; what was broken off goes
on.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from services.kit.db import UtcTime

revision = "b81f63d2a95c"
down_revision = "2c9a4be7f610"
branch_labels = None
depends_on = None

AT_ONCE = 2_000
TO_TELL = sa.text("NOT end_told")
TO_ANSWER = sa.text("NOT end_told AND state IN ('REQUESTED', 'PARTIALLY_APPROVED')")
INDICES = (
    ("ix_consent_expires_at_to_tell", "expires_at", TO_TELL),
    ("ix_consent_answer_by_to_tell", "answer_by", TO_ANSWER),
)
CONSENT = sa.table(
    "consent",
    sa.column("subject_id", sa.String()),
    sa.column("state", sa.String()),
    sa.column("expires_at", UtcTime()),
    sa.column("answer_by", UtcTime()),
    sa.column("end_told", sa.Boolean()),
)


def upgrade() -> None:
    """Mark and index."""
    if op.get_context().dialect.name != "postgresql":
        _mark(sa.true())
    else:
        subject_id = CONSENT.c.subject_id
        with op.get_context().autocommit_block():
            done = ""
            while found := op.get_bind().scalar(_last(done)):
                _mark(sa.and_(subject_id > done, subject_id <= found))
                done = found
    for name, column, where in INDICES:
        op.create_index(name, "consent", [column], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Leave the marks to the migration that drops their column."""
    for name, _, _ in INDICES:
        op.drop_index(name, "consent")


def _last(done: str) -> sa.Select[Any]:
    """Return the query of the subject with which the next part ends."""
    subject_id = CONSENT.c.subject_id
    part = sa.select(subject_id).where(subject_id > done).order_by(subject_id).limit(AT_ONCE)
    return sa.select(sa.func.max(part.subquery().c.subject_id))


def _mark(part: sa.ColumnElement[bool]) -> None:
    now, row = datetime.now(UTC), CONSENT.c
    waits = row.state.in_(("REQUESTED", "PARTIALLY_APPROVED"))
    over = sa.or_(
        row.expires_at <= now,
        sa.and_(waits, row.answer_by <= now),
        row.state.not_in(("REQUESTED", "PARTIALLY_APPROVED", "ACTIVE", "PAUSED")),
    )
    op.get_bind().execute(sa.update(CONSENT).where(part, over).values(end_told=True))
