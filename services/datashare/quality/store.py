"""What is kept of quality, in one transaction."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import (
    copy_rows,
    insert_free,
    probe,
    relation,
    stored_time,
    upsert_rows,
)
from services.datashare.quality.app import CATCH_UP, Arrival, Arrived, Due, Statement
from services.datashare.quality.domain import (
    FILINGS,
    REGISTRATION,
    REPORTS,
    Contradiction,
    Edge,
    Finding,
    Reconciled,
    Rule,
    Shared,
    Summary,
    earliest,
)
from services.datashare.quality.figures import Places, is_shown
from services.datashare.quality.report import Figures
from services.datashare.quality.tables import (
    IS_OPEN,
    arrival,
    day,
    due,
    finding,
    finding_provider,
    finding_subject,
    guarantee,
    invoice,
    lateness,
    missing,
    state,
    token,
)
from services.datashare.quality.tally import Tally
from services.datashare.records.store import opened, record
from services.datashare.sealing.store import Seals
from services.datashare.subjects.store import subject
from services.datashare.summaries.codec import decode
from services.datashare.summaries.domain import (
    Fact,
    FactWanted,
    Layout,
    SeriesKey,
    Table,
    fold,
    is_due,
)
from services.datashare.summaries.store import is_laid_out, series
from services.kit.db import UtcTime, from_microseconds

_ALONE: Final = sa.select(sa.func.pg_try_advisory_xact_lock(0x7175616C))
_STATEMENTS: Final = (FILINGS, REGISTRATION, REPORTS)
_Columns = Mapping[str, sa.types.TypeEngine[Any]]
_SERIES: Final[_Columns] = {name: sa.String() for name in SeriesKey._fields}
_SPANS: Final[_Columns] = {**_SERIES, "since": UtcTime(), "until": UtcTime()}
_ARRIVAL: Final[_Columns] = {**_SERIES, "recorded_at": UtcTime()}
_DUE: Final[_Columns] = {"subject_id": sa.String(), "since": UtcTime()}


class Facts(Protocol):
    """Raw records, as the facts that they are to a summary."""

    async def facts(self, wanted: FactWanted, today: int) -> Mapping[SeriesKey, Sequence[Fact]]:
        """Return the facts of the records that count and are not hidden today."""
        ...

    async def next_hidden_on(
        self, keys: Collection[SeriesKey], today: int
    ) -> Mapping[SeriesKey, int]:
        """Return the first day after today on which a record of each series is hidden, if any."""
        ...


class QualityStore:
    """What is kept of quality, in one transaction.

    Args:
        conn: the transaction.
        facts: raw records in the same transaction.
        layouts: by record type.
        seals: opens payloads.
    """

    def __init__(
        self, conn: AsyncConnection, facts: Facts, layouts: Mapping[str, Layout], seals: Seals
    ) -> None:
        self._conn = conn
        self._facts = facts
        self._layouts = layouts
        self._seals = seals
        self._sqlite = conn.dialect.name == "sqlite"

    async def note_arrivals(self, records: Mapping[SeriesKey, int], recorded_at: datetime) -> None:
        """Leave the arrivals of a batch, to be looked at later.

        Args:
            records: how many came in, by series.
            recorded_at: of the batch.
        """
        at = stored_time(self._conn, recorded_at)
        rows = [(*key, at, count) for key, count in sorted(records.items())]
        await insert_free(self._conn, arrival, rows)

    async def alone(self) -> bool:
        """Tell whether nobody else inspects until the end of this transaction."""
        # SQLite serves one process.
        return self._sqlite or bool(await self._conn.scalar(_ALONE))

    async def state(self) -> dict[str, str]:
        """Return what was noted."""
        rows = await self._conn.execute(sa.select(state.c.name, state.c.value))
        return {row.name: row.value for row in rows}

    async def note(self, name: str, value: str | None) -> None:
        """Note something under a name; None forgets it."""
        if value is None:
            await self._conn.execute(sa.delete(state).where(state.c.name == name))
        else:
            await upsert_rows(self._conn, state, [(name, value)], {"value": "excluded.value"})

    async def arrivals(self, after: Arrival | None, limit: int) -> list[Arrival]:
        """Return arrivals behind one, in the order of their series."""
        columns = arrival.primary_key.columns
        query = sa.select(arrival).order_by(*columns).limit(limit)
        if after is not None:
            place = [
                sa.literal(value, column.type)
                for value, column in zip(after, columns, strict=False)
            ]
            query = query.where(sa.tuple_(*columns) > sa.tuple_(*place))
        return [Arrival(*row) for row in await self._conn.execute(query)]

    async def records(self, arrivals: Sequence[Arrival]) -> list[Arrived]:
        """Return the records of arrivals."""
        wanted = {
            (*item[:3], stored_time(self._conn, item.recorded_at)): item.recorded_at
            for item in arrivals
        }
        spans: dict[tuple[str, str, str], list[Any]] = {}
        for *key, at in wanted:
            spans.setdefault((key[0], key[1], key[2]), []).append(at)
        # One look at a series for all of its arrivals: its records have no index by time.
        rows_asked = [(*key, min(times), max(times)) for key, times in sorted(spans.items())]
        asked = relation(self._conn, "asked", _SPANS, rows_asked)
        # As it is stored: a million times need no conversion to be compared.
        recorded_at = sa.type_coerce(
            record.c.recorded_at,
            sa.BigInteger() if self._sqlite else sa.DateTime(timezone=True),
        ).label("recorded_at")
        query = probe(
            self._conn,
            (
                *(record.c[name] for name in _SERIES),
                recorded_at,
                *_ARRIVED,
                record.c.payload,
                record.c.sealed,
            ),
            asked,
            *(record.c[name] == asked.c[name] for name in _SERIES),
            record.c.recorded_at.between(asked.c.since, asked.c.until),
        )
        result = await self._conn.execute(query)
        rows = result.all()
        keys = await self._seals.keys({row.subject_id for row in rows if row[-1]})

        def arrived() -> list[Arrived]:
            # By place and not by name, which took ten times as long.
            return [
                Arrived._make(
                    (
                        *row[:3],
                        at,
                        *row[4:-2],
                        opened(row, keys) if row[-1] else row[-2],
                    )
                )
                for row in rows
                if (at := wanted.get(row[:4])) is not None
            ]

        return await asyncio.to_thread(arrived)

    async def take(self, arrivals: Sequence[Arrival]) -> bool:
        """Take arrivals away; False when somebody else took one of them."""
        names = _ARRIVAL
        rows = [(*item[:3], stored_time(self._conn, item.recorded_at)) for item in arrivals]
        asked = relation(self._conn, "asked", names, rows)
        taken = await self._conn.execute(
            sa.delete(arrival).where(
                sa.tuple_(*(arrival.c[name] for name in names)).in_(
                    sa.select(*(asked.c[name] for name in names))
                )
            )
        )
        return taken.rowcount == len(arrivals)

    async def add(self, tally: Tally, at: datetime) -> None:
        """Add what was counted; its subjects and those with the same invoices are due."""
        await self._add_days(tally)
        await self._mark(invoice, [(*mark, False) for mark in tally.invoices])
        await self._mark(guarantee, tally.guarantees)
        others = await self._share(
            {mark.fingerprint for mark in tally.invoices if mark.fingerprint is not None}
        )
        await self._make_due(tally.subjects | others, at)

    async def _add_days(self, tally: Tally) -> None:
        days, late, left_out = [], [], []
        for place, counted in sorted(tally.days.items()):
            last = stored_time(self._conn, from_microseconds(counted.last_arrival))
            days.append(
                (
                    *place,
                    counted.accepted,
                    counted.corrections,
                    counted.retractions,
                    counted.described,
                    last,
                    counted.last_month,
                )
            )
            late += [(*place, *item) for item in sorted(counted.lateness.items())]
            left_out += [(*place, *item) for item in sorted(counted.missing.items())]
        await upsert_rows(self._conn, day, days, _ADDED_DAY)
        for table, rows in ((lateness, late), (missing, left_out)):
            added = {"records": f"{table.name}.records + excluded.records"}
            await upsert_rows(self._conn, table, rows, added)

    async def _mark(self, table: sa.Table, marks: Sequence[tuple[Any, ...]]) -> None:
        """Store marks, but for those of which a newer version is stored."""
        rows = sorted(marks, key=lambda mark: (mark[0], mark[1]))
        try:
            # Most records have one version: a COPY is three times as fast as an upsert.
            async with self._conn.begin_nested():
                await copy_rows(self._conn, table, rows)
        except (sa.exc.IntegrityError, asyncpg.UniqueViolationError):
            names = [c.name for c in table.columns if not c.primary_key]
            newer = f"excluded.version > {table.name}.version"
            update = {
                name: f"CASE WHEN {newer} THEN excluded.{name} ELSE {table.name}.{name} END"
                for name in names
                if name != "shared"
            }
            await upsert_rows(self._conn, table, rows, update)

    async def _share(self, fingerprints: set[bytes]) -> set[str]:
        """Mark the invoices that several subjects have; return whose they are."""
        if not fingerprints:
            return set()
        same = await self._conn.execute(
            sa.select(invoice.c.fingerprint)
            .where(self._one_of(invoice.c.fingerprint, fingerprints))
            .group_by(invoice.c.fingerprint)
            .having(sa.func.min(invoice.c.subject_id) != sa.func.max(invoice.c.subject_id))
        )
        shared = {bytes(found) for found in same.scalars()}
        if not shared:
            return set()
        those = self._one_of(invoice.c.fingerprint, shared)
        await self._conn.execute(
            sa.update(invoice).where(those, invoice.c.shared.is_(False)).values(shared=True)
        )
        rows = await self._conn.execute(sa.select(invoice.c.subject_id).distinct().where(those))
        return set(rows.scalars())

    def _one_of(self, column: sa.Column[Any], values: Iterable[bytes]) -> sa.ColumnElement[bool]:
        if self._sqlite:
            return column.in_(list(values))
        return column == sa.any_(sa.bindparam(None, list(values), type_=ARRAY(sa.LargeBinary)))

    async def _make_due(self, subject_ids: Iterable[str], at: datetime) -> None:
        since = stored_time(self._conn, at)
        rows = [(subject_id, since) for subject_id in sorted(subject_ids)]
        await upsert_rows(self._conn, due, rows, {"since": "excluded.since"})

    async def enqueue_past(self, after: str, subjects: int) -> str:
        """Make arrivals of all records of some subjects, where there are none.

        Returns:
            The last of these subjects; "" when there was none.
        """
        ids = list(
            (
                await self._conn.execute(
                    sa.select(series.c.subject_id)
                    .distinct()
                    .where(series.c.subject_id > after)
                    .order_by(series.c.subject_id)
                    .limit(subjects)
                )
            ).scalars()
        )
        if not ids:
            return ""
        columns = [record.c[name] for name in (*_SERIES, "recorded_at")]
        rows = await self._conn.execute(
            sa.select(*columns, sa.func.count())
            .where(record.c.subject_id.in_(ids))
            .group_by(*columns)
        )
        past = [(*row[:3], stored_time(self._conn, row[3]), row[4]) for row in rows]
        await insert_free(self._conn, arrival, past)
        return str(ids[-1])

    async def enqueue_open(self, today: int, at: datetime) -> None:
        """Make the subjects due whose open findings were not looked at today."""
        mine = sa.select(finding_subject.c.subject_id).distinct()
        mine = mine.join(finding, finding.c.finding_id == finding_subject.c.finding_id)
        await self._enqueue(mine.where(IS_OPEN, finding.c.checked_on < today), at)

    async def enqueue_all(self, at: datetime) -> None:
        """Make every subject due."""
        await self._enqueue(sa.select(subject.c.subject_id), at)

    async def _enqueue(self, ids: sa.Select[Any], at: datetime) -> None:
        waiting = sa.select(due.c.subject_id)
        chosen = ids.subquery()
        await self._conn.execute(
            sa.insert(due).from_select(
                ["subject_id", "since"],
                sa.select(chosen.c.subject_id, sa.literal(at, UtcTime)).where(
                    chosen.c.subject_id.not_in(waiting)
                ),
            )
        )

    async def due(self, limit: int) -> list[Due]:
        """Return subjects to look at, those first that wait longest."""
        query = sa.select(due).order_by(due.c.since, due.c.subject_id).limit(limit)
        return [Due(*row) for row in await self._conn.execute(query)]

    async def done(self, looked_at: Sequence[Due]) -> None:
        """Say that subjects were looked at; those stay due that changed since."""
        rows = [(item.subject_id, stored_time(self._conn, item.since)) for item in looked_at]
        asked = relation(self._conn, "asked", _DUE, rows)
        await self._conn.execute(
            sa.delete(due).where(
                sa.tuple_(due.c.subject_id, due.c.since).in_(
                    sa.select(asked.c.subject_id, asked.c.since)
                )
            )
        )

    async def summaries(
        self, subject_ids: Collection[str], record_types: Collection[str], today: int
    ) -> dict[str, list[Summary]]:
        """Return the series of subjects, without what is hidden today."""
        rows = (
            await self._conn.execute(
                sa.select(series).where(
                    series.c.subject_id.in_(sorted(subject_ids)),
                    series.c.record_type.in_(sorted(record_types)),
                )
            )
        ).all()
        whole, stale = {}, []
        for row in rows:
            key = SeriesKey(row.subject_id, row.record_type, row.provider_id)
            layout = self._layouts[row.record_type]
            if row.sealed or is_due(row.next_hidden_on, today) or not is_laid_out(layout, row):
                stale.append(key)
            else:
                whole[key] = row.content, row.next_hidden_on
        facts = await self._facts.facts(dict.fromkeys(stale), today) if stale else {}
        hidden_on = dict(await self._facts.next_hidden_on(stale, today)) if stale else {}

        def tables() -> dict[str, list[Summary]]:
            found: dict[str, list[Summary]] = {}
            for key, (content, hides) in whole.items():
                layout = self._layouts[key.record_type]
                mine = found.setdefault(key.subject_id, [])
                mine.append(_summary(key, layout, decode(layout, content), hides))
            for key in stale:
                layout = self._layouts[key.record_type]
                mine = found.setdefault(key.subject_id, [])
                table = fold(layout, facts.get(key, ()))
                mine.append(_summary(key, layout, table, hidden_on.get(key)))
            return found

        return await asyncio.to_thread(tables)

    async def statements(self, subject_ids: Collection[str], today: int) -> list[Statement]:
        """Return the records that rules read one by one, in the order of their occurrence."""
        newer = record.alias("newer")
        rows = (
            await self._conn.execute(
                sa.select(*_STATED)
                .where(
                    record.c.subject_id.in_(sorted(subject_ids)),
                    record.c.record_type.in_(_STATEMENTS),
                    record.c.retracted.is_(False),
                    is_shown(record.c.hidden_on, today),
                    ~sa.exists().where(
                        newer.c.version > record.c.version,
                        *(newer.c[name] == record.c[name] for name in _RECORD),
                    ),
                )
                .order_by(record.c.occurred_to, record.c.obtained_at, record.c.provider_record_id)
            )
        ).all()
        keys = await self._seals.keys({row.subject_id for row in rows if row.sealed})
        return [
            Statement(
                row.subject_id,
                row.record_type,
                row.provider_id,
                row.occurred_from,
                row.occurred_to,
                row.obtained_at,
                row.hidden_on,
                content,
            )
            for row in rows
            if (content := opened(row, keys)) is not None
        ]

    async def shared(self, subject_ids: Collection[str], today: int) -> list[Shared]:
        """Return the invoices that any of the subjects has on the same side as another one."""
        other = invoice.alias("other")
        counted = (
            sa.func.count(invoice.c.fingerprint.distinct()),
            sa.func.min(
                sa.case((other.c.month < invoice.c.month, other.c.month), else_=invoice.c.month)
            ),
            sa.func.max(
                sa.case((other.c.month > invoice.c.month, other.c.month), else_=invoice.c.month)
            ),
        )
        hides = (sa.func.min(invoice.c.hidden_on), sa.func.min(other.c.hidden_on))
        pair = (invoice.c.subject_id, other.c.subject_id)
        both = (invoice.c.provider_id, other.c.provider_id)
        same = sa.and_(
            other.c.fingerprint == invoice.c.fingerprint, other.c.subject_id != invoice.c.subject_id
        )
        mine = (
            invoice.c.subject_id.in_(sorted(subject_ids)),
            invoice.c.shared,
            is_shown(invoice.c.hidden_on, today),
            is_shown(other.c.hidden_on, today),
        )
        rows = await self._conn.execute(
            sa.select(*pair, *counted, *hides).join(other, same).where(*mine).group_by(*pair)
        )
        sums = {_pair(*row[:2]): row[2:] for row in rows}
        if not sums:
            return []
        rows = await self._conn.execute(
            sa.select(*pair, *both).distinct().join(other, same).where(*mine)
        )
        providers: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            providers.setdefault(_pair(*row[:2]), set()).update(row[2:])
        return [
            Shared(
                subject_ids=ids,
                provider_ids=providers[ids],
                invoices=sums[ids][0],
                first_month=sums[ids][1],
                last_month=sums[ids][2],
                hidden_on=earliest(sums[ids][3:]),
            )
            for ids in sorted(sums)
        ]

    async def edges(self, today: int) -> list[Edge]:
        """Return the guarantees in force between subjects."""
        rows = await self._conn.execute(
            sa.select(
                guarantee.c.subject_id,
                token.c.subject_id.label("other_id"),
                guarantee.c.given,
                guarantee.c.provider_id,
                guarantee.c.amount,
                guarantee.c.month,
                guarantee.c.ends_on,
                guarantee.c.hidden_on,
            )
            .join(token, token.c.token == guarantee.c.token)
            .where(
                guarantee.c.ends_on >= today,
                is_shown(guarantee.c.hidden_on, today),
                token.c.subject_id != guarantee.c.subject_id,
            )
        )
        return [
            Edge(
                *((row.subject_id, row.other_id) if row.given else (row.other_id, row.subject_id)),
                row.provider_id,
                row.amount,
                row.month,
                earliest((row.ends_on + 1, row.hidden_on)),
            )
            for row in rows
        ]

    async def unnamed(self, limit: int) -> list[str]:
        """Return subjects without a token, while a guarantee names somebody unknown."""
        unknown = sa.exists().where(
            guarantee.c.token.is_not(None), ~sa.exists().where(token.c.token == guarantee.c.token)
        )
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id)
            .where(unknown, ~sa.exists().where(token.c.subject_id == subject.c.subject_id))
            .limit(limit)
        )
        return list(rows.scalars())

    async def name(self, tokens: Mapping[str, bytes | None]) -> None:
        """Store the tokens of subjects; None of one without a registration number."""
        await upsert_rows(self._conn, token, sorted(tokens.items()), {"token": "excluded.token"})

    async def opened(
        self, rules: Collection[Rule], subject_ids: Collection[str] | None
    ) -> list[Finding]:
        """Return open findings of rules, of any of the subjects, or of all."""
        query = sa.select(finding).where(IS_OPEN, finding.c.rule.in_(sorted(rules)))
        if subject_ids is not None:
            query = query.where(
                finding.c.finding_id.in_(
                    sa.select(finding_subject.c.finding_id).where(
                        finding_subject.c.subject_id.in_(sorted(subject_ids))
                    )
                )
            )
        return [_finding(row) for row in await self._conn.execute(query)]

    async def settle(
        self, reconciled: Reconciled, added: Sequence[Finding], today: int, at: datetime
    ) -> None:
        """Store what looking again changed.

        Args:
            reconciled: what changes about findings that are there.
            added: new ones.
            today: when this was looked at.
            at: when what no longer holds is cleared.
        """
        held_now = [found.contradiction for found in added] + [*reconciled.changed.values()]
        there = await self._hold({who for held in held_now for who in _subjects(held)})
        added = [each for each in added if there.issuperset(_subjects(each.contradiction))]
        changed = {
            finding_id: held
            for finding_id, held in sorted(reconciled.changed.items())
            if there.issuperset(_subjects(held))
        }
        await copy_rows(
            self._conn,
            finding,
            [
                (
                    found.contradiction.subject_id,
                    found.finding_id,
                    found.contradiction.rule,
                    found.contradiction.digest,
                    orjson.dumps(found.contradiction.key),
                    *_contents(found.contradiction).values(),
                    stored_time(self._conn, found.found_at),
                    None,
                    today,
                )
                for found in added
            ],
        )
        for finding_id, held in changed.items():
            await self._conn.execute(
                sa.update(finding)
                .where(finding.c.subject_id == held.subject_id, finding.c.finding_id == finding_id)
                .values(**_contents(held), checked_on=today)
            )
        told = [(found.finding_id, found.contradiction) for found in added]
        await insert_free(
            self._conn,
            finding_subject,
            [(who, id_) for id_, held in told for who in _subjects(held)],
        )
        await self._conn.execute(
            sa.delete(finding_provider).where(finding_provider.c.finding_id.in_(list(changed)))
        )
        told += changed.items()
        await insert_free(
            self._conn,
            finding_provider,
            [(who, id_) for id_, held in told for who in held.provider_ids],
        )
        if reconciled.cleared:
            await self._conn.execute(
                sa.update(finding)
                .where(finding.c.finding_id.in_(reconciled.cleared))
                .values(cleared_at=at, checked_on=today)
            )
        if reconciled.same:
            await self._conn.execute(
                sa.update(finding)
                .where(finding.c.finding_id.in_(reconciled.same), finding.c.checked_on < today)
                .values(checked_on=today)
            )

    async def _hold(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the subjects that were not erased; none of them is until the end.

        Not shared with the first batch of a series: readers see one holder (`underway`).
        """
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id)
            .where(
                subject.c.subject_id.in_(sorted(subject_ids)),
                sa.or_(subject.c.uscc_token.is_not(None), subject.c.uscc.is_not(None)),
            )
            .order_by(subject.c.subject_id)
            .with_for_update(key_share=True)
        )
        return set(rows.scalars())

    async def forget(self, subject_id: str) -> None:
        """Delete what is kept about a subject: marks, and the findings in which it takes part.

        To be called after the subject's own row is changed: who stores findings holds that.
        """
        ids = sa.select(finding_subject.c.finding_id).where(
            finding_subject.c.subject_id == subject_id
        )
        theirs = list((await self._conn.execute(ids)).scalars())
        for table in (finding, finding_provider, finding_subject):
            await self._conn.execute(sa.delete(table).where(table.c.finding_id.in_(theirs)))
        for table in (arrival, invoice, guarantee, due):
            await self._conn.execute(sa.delete(table).where(table.c.subject_id == subject_id))
        await self._conn.execute(
            sa.update(token).where(token.c.subject_id == subject_id).values(token=None)
        )
        await self._conn.execute(sa.delete(state).where(state.c.name == "circles"))

    async def forget_hidden(self, subject_ids: Collection[str], today: int, at: datetime) -> None:
        """Delete what is kept of records that no read shows any more; look at the rest again.

        Args:
            subject_ids: whose records.
            today: marks and past findings of what is hidden on this day are deleted.
            at: the time.
        """
        for table in (invoice, guarantee):
            await self._conn.execute(
                sa.delete(table).where(
                    table.c.subject_id.in_(sorted(subject_ids)), table.c.hidden_on <= today
                )
            )
        past = sa.select(finding.c.finding_id).where(
            finding.c.subject_id.in_(sorted(subject_ids)),
            finding.c.cleared_at.is_not(None),
            finding.c.holds_until <= today,
        )
        gone = list((await self._conn.execute(past)).scalars())
        for table in (finding, finding_provider, finding_subject):
            await self._conn.execute(sa.delete(table).where(table.c.finding_id.in_(gone)))
        await self._make_due(subject_ids, at)

    async def page(
        self,
        *,
        rule: str,
        subject_id: str,
        provider_id: str,
        cleared: bool,
        before: str,
        limit: int,
        today: int,
    ) -> list[Finding]:
        """Return findings that say something today, newest first; an empty filter is any."""
        query = sa.select(finding).where(is_shown(finding.c.holds_until, today))
        query = query.order_by(finding.c.finding_id.desc()).limit(limit)
        for table, column, value in (
            (finding_subject, finding_subject.c.subject_id, subject_id),
            (finding_provider, finding_provider.c.provider_id, provider_id),
        ):
            if value:
                query = query.join(
                    table, sa.and_(table.c.finding_id == finding.c.finding_id, column == value)
                )
        if rule:
            query = query.where(finding.c.rule == rule)
        if not cleared:
            query = query.where(IS_OPEN)
        if before:
            query = query.where(finding.c.finding_id < before)
        return [_finding(row) for row in await self._conn.execute(query)]

    async def figures(self, provider_id: str, first: int, last: int, today: int) -> Figures:
        """Return what a report is made of, of one provider or "" for all, for days of arrival."""
        places = Places(self._conn, provider_id, first, last)
        return Figures(
            counts=await places.counts(),
            rejects=await places.rejects(),
            observed=await places.observed(),
            lateness=await places.of_days(lateness.c.bucket, lateness.c.records),
            missing=await places.of_days(missing.c.field, missing.c.records),
            findings=await places.findings(today),
            pending_since=await places.pending_since(),
            catching_up=CATCH_UP in await self.state(),
        )


_RECORD: Final = ("subject_id", "record_type", "provider_id", "provider_record_id")
_OPENED: Final = (
    *(record.c[name] for name in (*_RECORD, "version")),
    record.c.sealed,
    record.c.payload,
)
_ARRIVED: Final = (
    *(record.c[name] for name in Arrived._fields[4:-2]),
    (record.c.known_at < record.c.recorded_at).label("imported"),
)
_STATED: Final = (
    *_OPENED,
    record.c.occurred_from,
    record.c.occurred_to,
    record.c.obtained_at,
    record.c.hidden_on,
)
_ADDED_DAY: Final = {
    name: f"quality_day.{name} + excluded.{name}"
    for name in ("accepted", "corrections", "retractions", "described")
} | {
    name: f"CASE WHEN excluded.{name} > quality_day.{name} THEN excluded.{name} "
    f"ELSE quality_day.{name} END"
    for name in ("last_arrival", "last_month")
}


def _pair(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first < second else (second, first)


def _summary(key: SeriesKey, layout: Layout, table: Table, hidden_on: int | None) -> Summary:
    columns = {
        name: {month: row[index] for month, row in table.rows.items()}
        for index, name in enumerate(layout.names, start=1)
    }
    return Summary(key.record_type, key.provider_id, columns, hidden_on)


def _subjects(held: Contradiction) -> tuple[str, ...]:
    return (held.subject_id, *held.others)


def _contents(held: Contradiction) -> dict[str, Any]:
    """Return the columns of a contradiction that may change, in their order."""
    return {
        "others": orjson.dumps(held.others),
        "provider_ids": orjson.dumps(held.provider_ids),
        "record_types": orjson.dumps(held.record_types),
        "first_month": held.first_month,
        "last_month": held.last_month,
        "figures": orjson.dumps(dict(held.figures)),
        "holds_until": held.holds_until,
    }


def _finding(row: Any) -> Finding:
    return Finding(
        row.finding_id,
        Contradiction(
            rule=Rule(row.rule),
            key=tuple(orjson.loads(row.key)),
            subject_id=row.subject_id,
            others=tuple(orjson.loads(row.others)),
            provider_ids=tuple(orjson.loads(row.provider_ids)),
            record_types=tuple(orjson.loads(row.record_types)),
            first_month=row.first_month,
            last_month=row.last_month,
            figures=orjson.loads(row.figures),
            holds_until=row.holds_until,
        ),
        row.found_at,
        row.cleared_at,
    )
