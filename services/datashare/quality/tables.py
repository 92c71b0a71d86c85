"""The tables of quality: arrivals to look at, what was counted of them, marks, and findings.

Invariants: an arrival is there until its records are counted, in the transaction that counts them;
a mark is of the newest version of its record that was counted; of one contradiction at most one
finding is open. Nothing here holds a registration number, an invoice number or a name in clear.
"""

from typing import Final

import sqlalchemy as sa

from services.datashare.schema import metadata
from services.kit.db import UtcTime

arrival = sa.Table(
    "quality_arrival",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("recorded_at", UtcTime, primary_key=True),
    sa.Column("records", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

day = sa.Table(
    "quality_day",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    # Of arrival, since 1970-01-01 in China Standard Time; here and below.
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("corrections", sa.BigInteger, nullable=False),
    sa.Column("retractions", sa.BigInteger, nullable=False),
    sa.Column("described", sa.BigInteger, nullable=False),
    sa.Column("last_arrival", UtcTime, nullable=False),
    sa.Column("last_month", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

lateness = sa.Table(
    "quality_lateness",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("bucket", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("records", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

missing = sa.Table(
    "quality_missing",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("field", sa.String(64), primary_key=True),
    sa.Column("records", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

invoice = sa.Table(
    "quality_invoice",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record", sa.LargeBinary(16), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("provider_id", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(16), index=True),
    sa.Column("month", sa.Integer, nullable=False),
    sa.Column("hidden_on", sa.Integer),
    # Another subject had the same one, once.
    sa.Column("shared", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_quality_invoice_subject_id_shared",
    invoice.c.subject_id,
    postgresql_where=sa.text("shared"),
    sqlite_where=sa.text("shared = 1"),
)

guarantee = sa.Table(
    "quality_guarantee",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record", sa.LargeBinary(16), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("provider_id", sa.String(64), nullable=False),
    sa.Column("token", sa.LargeBinary(16)),
    sa.Column("given", sa.Boolean, nullable=False),
    # Fen.
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("month", sa.Integer, nullable=False),
    sa.Column("ends_on", sa.Integer, nullable=False),
    sa.Column("hidden_on", sa.Integer),
    sqlite_with_rowid=False,
)

token = sa.Table(
    "quality_token",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    # NULL of a subject without a registration number.
    sa.Column("token", sa.LargeBinary(16), index=True),
)

due = sa.Table(
    "quality_due",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("since", UtcTime, nullable=False, index=True),
)

state = sa.Table(
    "quality_state",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(64), nullable=False),
)

finding = sa.Table(
    "finding",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("finding_id", sa.String(64), primary_key=True),
    sa.Column("rule", sa.String(32), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    # What the digest is of besides rule and subjects; lists and figures as JSON.
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("others", sa.LargeBinary, nullable=False),
    sa.Column("provider_ids", sa.LargeBinary, nullable=False),
    sa.Column("record_types", sa.LargeBinary, nullable=False),
    sa.Column("first_month", sa.Integer, nullable=False),
    sa.Column("last_month", sa.Integer, nullable=False),
    sa.Column("figures", sa.LargeBinary, nullable=False),
    # From this day on it is not shown, as a record is hidden then; until it is looked at again.
    sa.Column("holds_until", sa.Integer),
    sa.Column("found_at", UtcTime, nullable=False),
    sa.Column("cleared_at", UtcTime),
    sa.Column("checked_on", sa.Integer, nullable=False),
    sa.Index(None, "finding_id"),
)
IS_OPEN: Final = finding.c.cleared_at.is_(None)
sa.Index(
    "uq_finding_digest_open",
    finding.c.digest,
    unique=True,
    postgresql_where=IS_OPEN,
    sqlite_where=IS_OPEN,
)

finding_subject = sa.Table(
    "finding_subject",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("finding_id", sa.String(64), primary_key=True),
)

finding_provider = sa.Table(
    "finding_provider",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("finding_id", sa.String(64), primary_key=True),
)
