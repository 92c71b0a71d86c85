"""Decisions and their readings: append-only, by subject; each decision's request, by caller."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import UtcTime, compiled
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Entered,
    Inputs,
    Linked,
    NoticeCode,
    Order,
    Read,
    Said,
    outcome_of,
)
from services.scoring.features.domain import Coverage, FeatureVector, Relation
from services.scoring.products.domain import Declared
from services.scoring.schema import metadata

decision = sa.Table(
    "decision",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("caller_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("consent_id", sa.String(64), nullable=False),
    sa.Column("access_id", sa.String(64), nullable=False),
    sa.Column("purpose", sa.String(64), nullable=False),
    sa.Column("asked_as_of", UtcTime, nullable=True),
    sa.Column("asked_version", sa.String(64), nullable=True),
    sa.Column("officer", sa.String(64), nullable=False),
    sa.Column("file_reference", sa.String(64), nullable=False),
    sa.Column("as_of", UtcTime, nullable=False),
    sa.Column("decided_at", UtcTime, nullable=False),
    sa.Column("model_version", sa.String(64), nullable=False),
    sa.Column("model_class", sa.String(32), nullable=False),
    # {"version": 1, "names": [...], "units": [...], "values": [...], "missing": [...]}, values null
    # where missing. Names and units are a part of it, so that a decision can be told alone.
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Column("coverage", sa.LargeBinary, nullable=False),
    sa.Column("notices", sa.LargeBinary, nullable=False),
    # RFC 8785 canonical JSON, but for decisions from before there was a detail.
    sa.Column("outcome", sa.LargeBinary, nullable=False),
    # The rest of it, likewise: what the version before does not read. NULL of a decision from then.
    sa.Column("detail", sa.LargeBinary),
    # A list, as JSON; NULL is none.
    sa.Column("disputes", sa.LargeBinary),
    # Pairs of type and provider, as JSON; NULL of a decision from before they were kept.
    sa.Column("sources", sa.LargeBinary),
    # What of linked subjects entered, a list as JSON; NULL where none was named.
    sa.Column("linked", sa.LargeBinary),
    # Code of the score product; NULL where the order named none.
    sa.Column("product", sa.String(64)),
    # What the bank said of the firm: an object, as JSON; NULL is nothing.
    sa.Column("declared", sa.LargeBinary),
    sa.Index(None, "decision_id"),
    sa.Index(None, "caller_id", "decision_id"),
)

request = sa.Table(
    "score_request",
    metadata,
    sa.Column("caller_id", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("decision_id", sa.String(64), nullable=False),
)

# Into which decisions a subject's data entered beside that of the firm that they are about.
decision_link = sa.Table(
    "decision_link",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("firm_id", sa.String(64), nullable=False),
    # Its data was read then.
    sa.Column("read_at", UtcTime, nullable=False),
)

decision_read = sa.Table(
    "decision_read",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("read_id", sa.String(64), primary_key=True),
    sa.Column("decision_id", sa.String(64), nullable=False),
    sa.Column("reader_id", sa.String(64), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("use", sa.String(32), nullable=False),
    sa.Column("read_at", UtcTime, nullable=False),
    sa.Index(None, "decision_id"),
)

_NAN = float("nan")


def _by_request(dialect: str) -> sa.Select[Any]:
    """Decisions by the lists `callers` and `requests`.

    Made once: to make a statement costs more than to run it.
    """
    joined = request.join(
        decision,
        (decision.c.subject_id == request.c.subject_id)
        & (decision.c.decision_id == request.c.decision_id),
    )
    return (
        sa.select(decision)
        .select_from(joined)
        .where(
            _among(dialect, request.c.caller_id, "callers"),
            _among(dialect, request.c.request_id, "requests"),
        )
    )


def _among(dialect: str, column: sa.Column[str], name: str) -> sa.ColumnElement[bool]:
    if dialect == "sqlite":
        return column.in_(sa.bindparam(name, expanding=True))
    # One statement for any number of values, so that PostgreSQL plans it once.
    return column == sa.any_(sa.bindparam(name, type_=ARRAY(sa.String)))


_BY_REQUEST: Final = {name: _by_request(name) for name in ("sqlite", "postgresql")}
_CLAIM: Final = sqlite.insert(request).on_conflict_do_nothing().returning(request.c.decision_id)


def _storing() -> sa.Insert:
    """Return what claims requests and stores the decisions of those it got.

    One statement for both, as each waits for PostgreSQL's answer; of arrays, so that it is prepared
    once.
    """
    columns = list(decision.columns)
    arrays = [sa.bindparam(column.name, type_=ARRAY(column.type)) for column in columns]
    given = sa.select(
        sa.func.unnest(*arrays)
        .table_valued(*(sa.column(column.name, column.type) for column in columns))
        .render_derived()
    ).cte("given")
    claimed = (
        postgresql.insert(request)
        .from_select(
            list(request.columns), sa.select(*(given.c[column.name] for column in request.columns))
        )
        .on_conflict_do_nothing()
        .returning(request.c.decision_id)
        .cte("claimed")
    )
    ours = sa.select(given).where(given.c.decision_id.in_(sa.select(claimed.c.decision_id)))
    return sa.insert(decision).from_select(columns, ours).returning(decision.c.decision_id)


_STORING: Final = _storing()


class DecisionStore:
    """Decisions in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def by_request(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Decision]:
        """Return what was decided under (caller_id, request_id)."""
        found = await self._conn.execute(
            _BY_REQUEST[self._conn.dialect.name],
            {
                "callers": sorted({caller for caller, _ in keys}),
                "requests": [request_id for _, request_id in keys],
            },
        )
        wanted = set(keys)
        decisions = (decision_of(row) for row in found.mappings())
        return {
            (made.caller_id, made.order.request_id): made
            for made in decisions
            if (made.caller_id, made.order.request_id) in wanted
        }

    async def add(self, decisions: Sequence[Decision]) -> Mapping[tuple[str, str], Decision]:
        """Store new decisions; those whose (caller_id, request_id) exists are left out.

        Returns:
            What stands under each (caller_id, request_id): a new one, or the one that was there.
        """
        ordered = sorted(decisions, key=lambda made: made.key)
        ours = await self._store(ordered) if ordered else set()
        stored = {made.key: made for made in ordered if made.decision_id in ours}
        links = [link for made in stored.values() for link in _links(made)]
        if links:
            await self._conn.execute(sa.insert(decision_link), links)
        lost = [made.key for made in ordered if made.key not in stored]
        if lost:
            stored |= await self.by_request(lost)
        return stored

    async def _store(self, ordered: Sequence[Decision]) -> set[str]:
        """Store the decisions whose request is free and return their ids."""
        rows = [_row(made) for made in ordered]
        if self._conn.dialect.name == "postgresql":
            text, names, _ = compiled(_STORING)
            values = tuple([row[name] for row in rows] for name in names)
            return set((await self._conn.exec_driver_sql(text, values)).scalars())
        claims = [{column.name: row[column.name] for column in request.columns} for row in rows]
        ours = set((await self._conn.execute(_CLAIM, claims)).scalars())
        if free := [row for row in rows if row["decision_id"] in ours]:
            await self._conn.execute(sa.insert(decision), free)
        return ours

    async def get(self, decision_id: str) -> Decision | None:
        """Return one."""
        found = await self._conn.execute(
            sa.select(decision).where(decision.c.decision_id == decision_id)
        )
        row = found.mappings().first()
        return None if row is None else decision_of(row)

    async def page(
        self, *, caller_id: str | None, subject_id: str | None, before: str | None, limit: int
    ) -> list[Decision]:
        """Return decisions, newest first, with ids below `before`."""
        query = sa.select(decision).order_by(decision.c.decision_id.desc()).limit(limit)
        if caller_id is not None:
            query = query.where(decision.c.caller_id == caller_id)
        if subject_id is not None:
            query = query.where(decision.c.subject_id == subject_id)
        if before is not None:
            query = query.where(decision.c.decision_id < before)
        found = await self._conn.execute(query)
        return [decision_of(row) for row in found.mappings()]

    async def add_read(self, read: Read) -> None:
        """Record a reading."""
        await self._conn.execute(sa.insert(decision_read), dataclasses.asdict(read))


@functools.lru_cache(64)
def _described(inputs: Inputs) -> bytes:
    """What is the same in all decisions of a model: made once, up to its last brace."""
    return orjson.dumps(inputs)[:-1]


def _declared(order: Order) -> bytes | None:
    if not order.declared:
        return None
    return orjson.dumps({each.name: each.value for each in order.declared})


def _row(made: Decision) -> dict[str, Any]:
    order, said = made.order, made.answered
    return {
        "subject_id": order.subject_id,
        "decision_id": made.decision_id,
        "caller_id": made.caller_id,
        "request_id": order.request_id,
        "consent_id": order.consent_id,
        "access_id": made.access_id,
        "purpose": order.purpose,
        "asked_as_of": order.as_of,
        "asked_version": order.model_version,
        "officer": order.officer,
        "file_reference": order.file_reference,
        "as_of": made.as_of,
        "decided_at": made.decided_at,
        "model_version": made.model_version,
        "model_class": made.model_class,
        # orjson writes NaN as null.
        "features": _described(made.inputs)
        + b","
        + orjson.dumps({"values": made.features.values, "missing": made.features.missing})[1:],
        "coverage": orjson.dumps(made.coverage),
        "notices": orjson.dumps(made.notices),
        "outcome": said.outcome,
        "detail": said.detail or None,
        "disputes": orjson.dumps(made.disputes) if made.disputes else None,
        "sources": None if made.sources is None else orjson.dumps(sorted(made.sources)),
        "linked": orjson.dumps(list(map(_stated, made.linked))) if made.linked else None,
        "product": order.product or None,
        "declared": _declared(order),
    }


def _links(made: Decision) -> Iterator[dict[str, Any]]:
    for entered in made.linked:
        if entered.as_of is not None:
            yield {
                "subject_id": entered.linked.subject_id,
                "decision_id": made.decision_id,
                "firm_id": made.order.subject_id,
                # A past was read when it was decided.
                "read_at": entered.as_of if made.order.as_of is None else made.decided_at,
            }


def _stated(entered: Entered) -> dict[str, Any]:
    return {
        "linked": entered.linked,
        "access_id": entered.access_id,
        "as_of": entered.as_of,
        "pd": entered.pd,
        "coverage": entered.coverage,
        "notices": entered.notices,
        "disputes": entered.disputes,
        "sources": sorted(entered.sources),
    }


def _entered(stated: Mapping[str, Any]) -> Entered:
    linked, as_of = stated["linked"], stated["as_of"]
    return Entered(
        linked=Linked(Relation(linked["relation"]), linked["subject_id"], linked["consent_id"]),
        access_id=stated["access_id"],
        as_of=None if as_of is None else datetime.fromisoformat(as_of),
        pd=stated["pd"],
        coverage={name: Coverage(state) for name, state in stated["coverage"].items()},
        notices=tuple(map(NoticeCode, stated["notices"])),
        disputes=tuple(DisputeMark(**mark) for mark in stated["disputes"]),
        sources=frozenset(map(tuple, stated["sources"])),
    )


def decision_of(row: sa.RowMapping) -> Decision:
    """Return the decision of a row of the table."""
    features = orjson.loads(row["features"])
    titles: list[list[str]] = features.get("titles", [])
    linked = tuple(map(_entered, orjson.loads(row["linked"] or b"[]")))
    return Decision(
        decision_id=row["decision_id"],
        caller_id=row["caller_id"],
        order=Order(
            request_id=row["request_id"],
            subject_id=row["subject_id"],
            consent_id=row["consent_id"],
            purpose=row["purpose"],
            as_of=row["asked_as_of"],
            model_version=row["asked_version"],
            officer=row["officer"],
            file_reference=row["file_reference"],
            linked=tuple(entered.linked for entered in linked),
            product=row["product"] or "",
            declared=tuple(
                Declared(name, value)
                for name, value in orjson.loads(row["declared"] or b"{}").items()
            ),
        ),
        access_id=row["access_id"],
        as_of=row["as_of"],
        decided_at=row["decided_at"],
        model_version=row["model_version"],
        model_class=row["model_class"],
        inputs=Inputs(
            features["version"],
            tuple(features["names"]),
            tuple(features["units"]),
            tuple((group, zh, en) for group, zh, en in titles),
        ),
        features=FeatureVector(
            values=tuple(_NAN if value is None else value for value in features["values"]),
            missing=tuple(None if kind is None else Coverage(kind) for kind in features["missing"]),
        ),
        coverage={name: Coverage(state) for name, state in orjson.loads(row["coverage"]).items()},
        notices=tuple(map(NoticeCode, orjson.loads(row["notices"]))),
        outcome=outcome_of(
            orjson.loads(row["outcome"]),
            orjson.loads(row["detail"] or b"null"),
            [group for group, _, _ in titles],
        ),
        disputes=tuple(DisputeMark(**mark) for mark in orjson.loads(row["disputes"] or b"[]")),
        sources=frozenset(map(tuple, orjson.loads(row["sources"]))) if row["sources"] else None,
        linked=linked,
        said=None if row["detail"] is None else Said(row["outcome"], row["detail"]),
    )
