"""Whatever comes, goes, is repaired, runs out and is deleted, in whatever order: a summary is the
fold over what was known at its `as_of` and may still be read, and says when something is withheld.
"""

import asyncio
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2, records_pb2, summaries_pb2
from services.datashare.china import china_day
from services.datashare.idempotency.domain import RequestKey
from services.datashare.main import MIGRATIONS
from services.datashare.records.domain import Incoming
from services.datashare.subjects.uscc import make
from services.datashare.summaries import derived
from services.datashare.summaries.codec import encode
from services.datashare.summaries.domain import Fact, Layout, SeriesKey, SummaryQuery, fold
from tests.contract.datashare.engines import Open, opener
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    day,
    filing,
    invoice,
    money,
    provider,
    record,
    retraction,
)

KEPT = {"vat_invoice": 10_950, "tax_filing": 10_950, "social_insurance": 3_650, "penalty": 365}
PROVIDERS = {
    "vat_invoice": "par_tax",
    "tax_filing": "par_tax",
    "social_insurance": "par_social_insurance",
    "penalty": "par_department",
}
TYPES = tuple(sorted(KEPT))
MONTHS = (190001, 209912)
TODAY = NOW.date()


class Say(NamedTuple):
    """What a provider says about a record, or, without an amount, that it takes it back.

    Args:
        record_type: its type.
        number: its id.
        due: in so many days from the beginning it has to be hidden, or not within this test.
        amount: fen.
        detail: counterparty, grade, severity or repair.
    """

    record_type: str
    number: int
    due: int | None
    amount: int | None
    detail: int


class Wait(NamedTuple):
    """Days pass."""

    days: int


class Job(NamedTuple):
    """The operator plans and runs retention."""


class Rebuild(NamedTuple):
    """The operator folds every summary anew."""


class Read(NamedTuple):
    """A bank reads, which stores what it derives."""


says = st.builds(
    Say,
    record_type=st.sampled_from(TYPES),
    number=st.integers(0, 2),
    due=st.sampled_from([-3, 2, 9, 40, None]),
    amount=st.one_of(st.none(), st.integers(-300, 1000)),
    detail=st.integers(0, 5),
)
steps = st.lists(
    st.one_of(
        says,
        says,
        says,
        says,
        st.builds(Wait, days=st.sampled_from([1, 7, 40])),
        st.just(Job()),
        st.just(Rebuild()),
        st.just(Read()),
    ),
    min_size=2,
    max_size=30,
)


def message(said: Say, version: int) -> records_pb2.Record:
    name, amount = str(said.number), said.amount or 0
    kept = KEPT[said.record_type]
    on = (
        TODAY - timedelta(days=20 if said.record_type == "penalty" else 400)
        if said.due is None
        else TODAY + timedelta(days=said.due - kept)
    )
    written = on.isoformat()
    if said.record_type == "vat_invoice":
        side, counterparty = 1 + said.number % 2, str(said.detail % 3)
        made = invoice(name, amount, on=written, side=side, counterparty=counterparty)
    elif said.record_type == "tax_filing":
        made = filing(name, "ABCDM"[said.detail % 5], on=written)
    elif said.record_type == "social_insurance":
        insured = payloads_pb2.SocialInsurance(headcount=abs(amount), paid=money(abs(amount)))
        made = record(name, written, record_type=said.record_type, social_insurance=insured)
    else:
        made = record(name, written, record_type="penalty", penalty=_penalty(said, on))
    made.version = version
    return made if said.amount is not None else retraction(made, version)


def _penalty(said: Say, on: date) -> payloads_pb2.Penalty:
    payload = payloads_pb2.Penalty(
        document_number="1",
        kind="fine",
        severity=("general", "minor", "serious")[said.detail % 3],
        amount=money(abs(said.amount or 0)),
        decided=day(on.isoformat()),
    )
    if said.detail == 3:
        payload.publish_until.CopyFrom(day((on + timedelta(days=30)).isoformat()))
    if said.detail == 4:
        payload.repaired_at.CopyFrom(day(TODAY.isoformat()))
    return payload


class Version(NamedTuple):
    incoming: Incoming
    known_at: datetime


@dataclass
class Kept:
    """A record as it should be kept."""

    versions: list[Version] = field(default_factory=list)
    latest: int = 0
    content_hash: bytes = b""
    hidden_on: int | None = None

    def is_hidden(self, today: int) -> bool:
        return self.hidden_on is not None and self.hidden_on <= today


class Gap(NamedTuple):
    record_type: str
    month: int
    known_at: datetime


@dataclass
class Model:
    """What datashare should know of one firm."""

    records: dict[tuple[str, int], Kept] = field(default_factory=dict)
    gaps: set[Gap] = field(default_factory=set)

    def run_job(self, today: int) -> None:
        for key, kept in list(self.records.items()):
            if not kept.is_hidden(today):
                continue
            self.gaps |= set(_gaps(key[0], kept))
            if kept.latest == 1:
                del self.records[key]
            else:
                self.records[key] = Kept(latest=kept.latest)

    def facts(self, as_of: datetime, today: int) -> dict[str, list[Fact]]:
        found: dict[str, list[Fact]] = {}
        for (record_type, _), kept in self.records.items():
            known = [version for version in kept.versions if version.known_at <= as_of]
            if known and not kept.is_hidden(today) and known[-1].incoming.fact:
                found.setdefault(record_type, []).append(known[-1].incoming.fact)
        return found

    def withheld(self, as_of: datetime, today: int, first: int, last: int) -> bool:
        gaps = set(self.gaps)
        for (record_type, _), kept in self.records.items():
            if kept.is_hidden(today):
                gaps |= set(_gaps(record_type, kept))
        return any(gap.known_at <= as_of and first <= gap.month <= last for gap in gaps)


def _gaps(record_type: str, kept: Kept) -> Iterator[Gap]:
    for version in kept.versions:
        if not version.incoming.retracted:
            yield Gap(record_type, version.incoming.month, version.known_at)


def expected(key: SeriesKey, layout: Layout, facts: Iterable[Fact]) -> summaries_pb2.Series:
    facts = list(facts)
    table = fold(layout, facts)
    columns: dict[str, list[int]] = {}
    for side, word in derived.SIDES.items() if layout.derived else ():
        totals: dict[tuple[int, bytes], list[int]] = {}
        for fact in facts:
            if fact.trade and fact.trade.side == side:
                total = totals.setdefault((fact.month, fact.trade.token), [0, 0])
                total[0] += 1
                total[1] += fact.trade.net
        rows = [(month, token, *total) for (month, token), total in totals.items()]
        values = derived.derive(derived.trades(rows), sorted(table.rows))  # type: ignore[arg-type]  # mypy does not see that a total is two numbers
        columns |= {f"{word}_{name}": column for name, column in values.items()}
    ordered = {name: columns[name] for name in layout.derived}
    return summaries_pb2.Series.FromString(encode(key, layout, table, ordered))


class Town:
    """A datashare with one firm, beside what it should know."""

    def __init__(self, datashare: Datashare, uscc: str) -> None:
        self.datashare = datashare
        self.uscc = uscc
        self.model = Model()
        self.moments: list[datetime] = []
        self.jobs = 0

    async def say(self, *said: Say) -> None:
        rows = []
        for one in said:
            kept = self.model.records.get((one.record_type, one.number))
            if kept is None and one.amount is None:
                continue
            row = message(one, kept.latest + 1 if kept else 1)
            row.subject.uscc = self.uscc
            (incoming,) = self._read(row)
            if kept and incoming.content_hash == kept.content_hash:
                continue
            self._note(one, incoming)
            rows.append(row)
        if rows:
            provider_id = PROVIDERS[said[0].record_type]
            ack = await self.datashare.submit(provider_id, *rows)
            assert len(ack.accepted) == len(rows), ack

    def _read(self, row: records_pb2.Record) -> list[Incoming]:
        copy = records_pb2.Record()
        copy.CopyFrom(row)
        kind = PROVIDERS[row.record_type].removeprefix("par_")
        incoming, rejections = self.datashare.intake.read(
            [copy], 0, kind, self.datashare.clock.now()
        )
        assert not rejections
        return incoming

    def _note(self, said: Say, incoming: Incoming) -> None:
        kept = self.model.records.setdefault((said.record_type, said.number), Kept())
        kept.versions.append(Version(incoming, self.datashare.clock.now()))
        kept.latest += 1
        kept.content_hash = incoming.content_hash
        if not incoming.retracted:
            kept.hidden_on = incoming.hidden_on

    async def job(self) -> None:
        self.jobs += 1
        plan = await self.datashare.retention.plan()
        key = RequestKey("par_operator", f"{self.uscc}{self.jobs}", b"f" * 32)
        run = await self.datashare.retention.run(key, plan.plan_id)
        assert run.deleted == plan.due
        self.model.run_job(self.today)

    @property
    def today(self) -> int:
        return china_day(self.datashare.clock.now())

    async def compare(self, as_of: datetime, first: int, last: int) -> None:
        subject_id = await self.datashare.subject_id(self.uscc)
        query = SummaryQuery(subject_id, TYPES, None, first, last, as_of, self.today)
        found = await self.datashare.find(query)
        facts = self.model.facts(as_of, self.today)
        wanted = []
        for record_type in TYPES:
            layout = self.datashare.stores.layouts[record_type]
            begin = first if layout.bounded else 0
            mine = [fact for fact in facts.get(record_type, ()) if begin <= fact.month <= last]
            if mine:
                key = SeriesKey(subject_id, record_type, PROVIDERS[record_type])
                wanted.append(expected(key, layout, mine))
        assert [summaries_pb2.Series.FromString(each.content) for each in found.series] == wanted
        if first == MONTHS[0]:
            assert found.withheld == self.model.withheld(as_of, self.today, first, last)


async def live(opened: Open, taken: list[object], batch: int, period: tuple[int, int]) -> None:
    database = opened()
    try:
        datashare = Datashare(database)
        async with database.read() as conn:
            firms = len((await conn.exec_driver_sql("SELECT 1 FROM subject")).all())
        town = Town(datashare, make("91", "110108", f"MA{firms:06}"))
        await town.say(Say("vat_invoice", 9, None, 100, 0))
        waiting: list[Say] = []
        for step in [*taken, Read()]:
            if waiting and not (
                isinstance(step, Say)
                and len(waiting) < batch
                and PROVIDERS[step.record_type] == PROVIDERS[waiting[0].record_type]
            ):
                await town.say(*waiting)
                waiting = []
            datashare.clock.advance(timedelta(hours=1))
            town.moments.append(datashare.clock.now())
            if isinstance(step, Say):
                waiting.append(step)
            elif isinstance(step, Wait):
                datashare.clock.advance(timedelta(days=step.days))
                await town.compare(datashare.clock.now(), *MONTHS)
            elif isinstance(step, Job):
                await town.job()
                await town.compare(town.moments[len(town.moments) // 2], *MONTHS)
            elif isinstance(step, Rebuild):
                await datashare.rebuild(lambda _: None)
            else:
                await town.compare(datashare.clock.now(), *MONTHS)
        await town.compare(datashare.clock.now(), *period)
        for moment in town.moments[:: max(1, len(town.moments) // 5)]:
            await town.compare(moment, *MONTHS)
    finally:
        await database.close()


async def _register(opened: Open) -> None:
    database = opened()
    await Datashare(database).register(
        provider("tax"), provider("social_insurance"), provider("department")
    )
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "sqlite":
        path = tmp_path / "datashare.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        made = f"sqlite:///{path}"
    else:
        made = request.getfixturevalue("migrated_copy")(MIGRATIONS)
    opened = opener(made)
    asyncio.run(_register(opened))
    return opened


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    taken=steps,
    batch=st.integers(1, 4),
    period=st.sampled_from([(202301, 202312), (199001, 202406), (202405, 202612)]),
)
def test_a_summary_is_what_may_still_be_read(
    opened: Open, taken: list[object], batch: int, period: tuple[int, int]
) -> None:
    asyncio.run(live(opened, taken, batch, period))
