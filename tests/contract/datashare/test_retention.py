"""What is hidden, the job that deletes it, and erasing subjects, on SQLite and PostgreSQL alike."""

import asyncio
import threading
from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from puhui.datashare.v1 import payloads_pb2, records_pb2, summaries_pb2
from services.datashare.catalogue.loader import load
from services.datashare.changes.domain import ChangeKind
from services.datashare.china import china_day
from services.datashare.consent.document import request as request_consent
from services.datashare.consent.domain import Receipt
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.store import leaf
from services.datashare.main import Work
from services.datashare.quota.domain import LIFE, ONE_TIME
from services.datashare.records.hiding import hidings
from services.datashare.records.store import RecordStore
from services.datashare.records.store import record as record_table
from services.datashare.retention import app
from services.datashare.retention.domain import Due, Reason
from services.datashare.retention.files import Files
from services.datashare.retention.store import KEPT, HiddenStore
from services.datashare.schema import metadata
from services.datashare.subjects.uscc import make
from services.datashare.summaries.domain import Found, Gap, SeriesKey, SummaryQuery
from services.datashare.summaries.reader import SummaryReader
from services.datashare.summaries.store import series as series_table
from services.kit.db import Database
from services.kit.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from tests.contract.datashare.test_erasure_duties import stored_for
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    Datashare,
    day,
    invoice,
    money,
    provider,
    record,
    table,
)

DEPARTMENT = "par_department"
TAX = "par_tax"


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    built = Datashare(database)
    await built.register(provider("department"), provider("tax"))
    return built


def penalty(
    record_id: str = "p",
    on: str = "2024-05-01",
    *,
    severity: str = "serious",
    until: str = "",
    repaired: str = "",
    **fields: Any,
) -> records_pb2.Record:
    payload = payloads_pb2.Penalty(
        document_number=f"京罚〔{record_id}〕",
        kind="fine",
        severity=severity,
        amount=money(500_00),
        decided=day(on),
    )
    if until:
        payload.publish_until.CopyFrom(day(until))
    if repaired:
        payload.repaired_at.CopyFrom(day(repaired))
    return record(record_id, on, record_type="penalty", penalty=payload, **fields)


def request(name: str = "r1", body: bytes = b"f" * 32) -> RequestKey:
    return RequestKey("par_operator", name, body)


async def find(datashare: Datashare, *record_types: str, as_of: Any = None) -> Found:
    now = datashare.clock.now()
    subject_id = await datashare.subject_id()
    return await datashare.find(
        SummaryQuery(subject_id, record_types, None, 190001, 209912, as_of or now, china_day(now))
    )


async def penalties(datashare: Datashare, as_of: Any = None) -> tuple[int, bool]:
    """Return how many penalties a summary counts, and whether it says that some are withheld."""
    series = await datashare.read("penalty", as_of=as_of)
    counted = sum(sum(each.record_counts) for each in series)
    return counted, (await find(datashare, "penalty", as_of=as_of)).withheld


async def changes(datashare: Datashare) -> list[tuple[ChangeKind, str]]:
    async with datashare.transactions.read() as work:
        entries = await work.changes.after(0, 100)
    return [(entry.change.kind, entry.change.record_type) for entry in entries]


async def rows(database: Database, query: sa.Select[Any]) -> list[Any]:
    async with database.read() as conn:
        return [tuple(row) for row in await conn.execute(query)]


async def run(datashare: Datashare, name: str = "r1") -> Any:
    plan = await datashare.retention.plan()
    return await datashare.retention.run(request(name), plan.plan_id)


async def test_a_repair_hides_every_version_at_once(datashare: Datashare) -> None:
    await datashare.submit(DEPARTMENT, penalty())
    datashare.clock.advance(timedelta(hours=1))
    before = datashare.clock.now()
    assert await penalties(datashare) == (1, False)
    datashare.clock.advance(timedelta(hours=1))
    await datashare.submit(DEPARTMENT, penalty(repaired="2024-06-15", version=2))
    assert await penalties(datashare) == (0, True)
    assert await penalties(datashare, before) == (0, True)
    assert await penalties(datashare, NOW - timedelta(days=1)) == (0, False)
    assert await changes(datashare) == [(ChangeKind.RECORD_REPAIRED, "penalty")]


async def test_the_job_makes_it_physical_and_no_read_can_tell(
    datashare: Datashare, database: Database
) -> None:
    await datashare.submit(DEPARTMENT, penalty(), penalty("kept"))
    datashare.clock.advance(timedelta(hours=1))
    await datashare.submit(DEPARTMENT, penalty(repaired="2024-06-15", version=2))
    told = await find(datashare, "penalty"), await find(datashare, "penalty", as_of=NOW)
    plan = await datashare.retention.plan()
    due = (Due("penalty", DEPARTMENT, Reason.REPAIRED, 1, 2, 1),)
    assert plan.due == due
    assert (await datashare.retention.plan()).plan_id == plan.plan_id

    done = await datashare.retention.run(request(), plan.plan_id)
    assert done.deleted == due
    assert await datashare.retention.run(request(), plan.plan_id) == done
    assert (await datashare.retention.plan()).due == ()
    assert (
        await find(datashare, "penalty"),
        await find(datashare, "penalty", as_of=NOW),
    ) == told

    left = await rows(
        database,
        sa.select(record_table.c.payload, record_table.c.content_hash).where(
            record_table.c.provider_record_id == "p"
        ),
    )
    assert left == [(b"", b"")] * 2
    assert (done.leaf_hash, "retention") in await rows(
        database, sa.select(leaf.c.hash, leaf.c.kind)
    )
    # A repair was told when it came.
    assert await changes(datashare) == [(ChangeKind.RECORD_REPAIRED, "penalty")]


class _Interrupted(RecordStore):
    """Raw records; something happens between two looks at them."""

    def __init__(self, work: Work, conn: AsyncConnection, made: Datashare) -> None:
        super().__init__(conn, made.stores.readers, work.seals, made.stores.hidings)
        self._made = made

    async def hidden(self, keys: Collection[SeriesKey], today: int) -> dict[SeriesKey, list[Gap]]:
        await run(self._made)
        return await super().hidden(keys, today)


async def test_a_run_in_the_middle_of_a_read_hides_nothing_unsaid(postgres: Database) -> None:
    made = Datashare(postgres)

    def interrupted(conn: AsyncConnection) -> Work:
        work, stores = made.stores(conn), made.stores
        facts = _Interrupted(work, conn, made)
        work.summaries = SummaryReader(
            conn, facts, work.withheld, work.disputes, stores.layouts, stores.cuts, work.seals
        )
        return work

    await made.register(provider("department"))
    await made.submit(DEPARTMENT, penalty(repaired="2024-06-15"), penalty("kept"))
    reader = Datashare(postgres, interrupted)
    found = await find(reader, "penalty")
    assert len(found.series) == 1
    assert found.withheld


async def test_much_is_read_in_a_thread(database: Database) -> None:
    """The calls of others go on."""
    made = Datashare(database)
    await made.register(provider("tax"))
    threads = set()
    read = made.stores.readers["vat_invoice"]

    def recording(*arguments: Any) -> Any:
        threads.add(threading.current_thread())
        return read(*arguments)

    await made.submit(TAX, *(invoice(f"i{number}") for number in range(300)))
    made.stores.readers = {**made.stores.readers, "vat_invoice": recording}
    await made.rebuild(lambda _: None)
    assert threads
    assert threading.current_thread() not in threads


async def test_a_month_is_withheld_since_the_first_that_is_deleted_of_it(
    datashare: Datashare,
) -> None:
    await datashare.submit(DEPARTMENT, penalty("early", until="2024-06-16"))
    between = datashare.clock.now() + timedelta(minutes=1)
    datashare.clock.advance(timedelta(hours=1))
    await datashare.submit(DEPARTMENT, penalty("late", until="2024-06-15"))
    for number in range(2):
        datashare.clock.advance(timedelta(days=1))
        await run(datashare, f"r{number}")
    assert await penalties(datashare, between) == (0, True)
    assert await penalties(datashare, NOW - timedelta(minutes=1)) == (0, False)


async def test_what_was_repaired_does_not_come_back_as_a_new_record(datashare: Datashare) -> None:
    await datashare.submit(DEPARTMENT, penalty())
    await datashare.submit(DEPARTMENT, penalty(repaired="2024-06-15", version=2))
    await run(datashare)
    ack = await datashare.submit(DEPARTMENT, penalty())
    assert [each.reason for each in ack.rejections] == ["RECORD_CONFLICT"]
    assert await penalties(datashare) == (0, True)
    # The department takes the repair back 撤销修复: it says so with the next version.
    await datashare.submit(DEPARTMENT, penalty(version=3))
    assert await penalties(datashare) == (1, True)


async def test_what_ran_out_is_hidden_again_when_it_is_sent_again(datashare: Datashare) -> None:
    await datashare.submit(DEPARTMENT, penalty(severity="minor", on="2024-05-01"))
    assert await penalties(datashare) == (1, False)
    datashare.clock.advance(timedelta(days=44))  # 2024-07-29
    assert await penalties(datashare) == (1, False)
    datashare.clock.advance(timedelta(hours=12))  # 2024-07-30 in China, 90 days after
    assert await penalties(datashare) == (0, True)
    deleted = (await run(datashare)).deleted
    assert deleted == (Due("penalty", DEPARTMENT, Reason.EXPIRED, 1, 1, 1),)
    # Others learn of it now: only time was the cause.
    assert await changes(datashare) == [(ChangeKind.RECORD_ERASED, "penalty")]
    await datashare.submit(DEPARTMENT, penalty(severity="minor", on="2024-05-01"))
    assert await penalties(datashare) == (0, True)


@pytest.mark.parametrize(
    ("said", "hidden_on", "why"),
    [
        ({"severity": "minor"}, "2024-03-31", Reason.EXPIRED),
        ({"severity": "general"}, "2024-12-31", Reason.EXPIRED),
        ({"severity": "serious"}, "2026-12-31", Reason.EXPIRED),
        ({"severity": "serious", "until": "2024-02-29"}, "2024-03-01", Reason.PUBLISHED_UNTIL),
        # The law bounds what the department may set.
        ({"severity": "minor", "until": "2025-12-31"}, "2024-03-31", Reason.EXPIRED),
        ({"severity": "serious", "repaired": "2024-02-01"}, "2024-02-01", Reason.REPAIRED),
    ],
)
def test_penalties_are_hidden_as_the_policy_says(
    said: dict[str, str], hidden_on: str, why: Reason
) -> None:
    payload = penalty(on="2024-01-01", **said).penalty
    found, reason = hidings(load())["penalty"].of(payload, _ordinal("2024-01-15"))
    assert (found, reason) == (_ordinal(hidden_on), why)


def _ordinal(written: str) -> int:
    return (date.fromisoformat(written) - date(1970, 1, 1)).days


async def test_a_later_correction_may_shorten_or_lengthen(datashare: Datashare) -> None:
    await datashare.submit(DEPARTMENT, penalty())
    datashare.clock.advance(timedelta(hours=1))
    shorter = penalty(until="2024-05-31", version=2)
    await datashare.submit(DEPARTMENT, shorter)
    assert await penalties(datashare, NOW) == (0, True)
    await datashare.submit(DEPARTMENT, penalty(until="2024-12-31", version=3))
    assert await penalties(datashare) == (1, False)
    assert await penalties(datashare, NOW) == (1, False)


async def test_a_plan_that_is_no_longer_right_is_not_run(datashare: Datashare) -> None:
    await datashare.submit(DEPARTMENT, penalty(), penalty("other"))
    await datashare.submit(DEPARTMENT, penalty(repaired="2024-06-15", version=2))
    plan = await datashare.retention.plan()
    await datashare.submit(DEPARTMENT, penalty("other", repaired="2024-06-15", version=2))
    with pytest.raises(FailedPreconditionError) as refused:
        await datashare.retention.run(request(), plan.plan_id)
    assert refused.value.reason == "PLAN_STALE"
    # The id stands for nothing yet.
    assert len((await run(datashare)).deleted) == 1
    with pytest.raises(AlreadyExistsError):
        await datashare.retention.run(request(body=b"g" * 32), plan.plan_id)


class KilledError(Exception):
    """The process is gone."""


async def test_a_run_that_was_killed_goes_on(
    datashare: Datashare, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SERIES_AT_ONCE", 1)
    firms = ["MA01ABCD", "MA01ABCE", "MA01ABCF"]
    for firm in firms:
        for version in (1, 2):
            row = penalty(repaired="2024-06-15" if version == 2 else "", version=version)
            row.subject.uscc = make("91", "110108", firm)
            await datashare.submit(DEPARTMENT, row)

    class Killing(HiddenStore):
        async def delete(self, keys: Collection[SeriesKey], on: int) -> None:
            await super().delete(keys, on)
            if calls:
                raise KilledError
            calls.append(on)

    calls: list[int] = []

    def work(conn: AsyncConnection) -> Work:
        made = datashare.stores(conn)
        made.hidden = Killing(conn, made.records, datashare.stores.hidings)
        return made

    other = Datashare(database, work)
    plan = await datashare.retention.plan()
    with pytest.raises(KilledError):
        await other.retention.run(request(), plan.plan_id)
    left_over = (await datashare.retention.plan()).due
    assert 0 < sum(due.records for due in left_over) < 3
    assert (await datashare.retention.runs("", 10))[0] == []

    # Another call of the same plan goes on with it, though its own is no longer what is due.
    done = await datashare.retention.run(request("again"), plan.plan_id)
    assert done.deleted == plan.due
    assert done.request.request_id == "r1"
    assert (await datashare.retention.plan()).due == ()
    assert (await datashare.retention.runs("", 10))[0] == [done]


async def test_a_run_that_was_given_up_ends_with_what_it_did(
    datashare: Datashare, monkeypatch: pytest.MonkeyPatch
) -> None:
    await datashare.submit(DEPARTMENT, penalty(), penalty("other"))
    await datashare.submit(DEPARTMENT, penalty(repaired="2024-06-15", version=2))
    plan = await datashare.retention.plan()

    async def killed(*_: object) -> None:
        raise KilledError

    monkeypatch.setattr(datashare.retention, "_step", killed)
    with pytest.raises(KilledError):
        await datashare.retention.run(request(), plan.plan_id)
    monkeypatch.undo()
    await datashare.submit(DEPARTMENT, penalty("other", repaired="2024-06-15", version=2))
    datashare.clock.advance(timedelta(seconds=1))
    second = await run(datashare, "r2")
    runs, _ = await datashare.retention.runs("", 10)
    assert [(each.request.request_id, len(each.deleted)) for each in runs] == [("r2", 1), ("r1", 0)]
    assert runs[0] == second
    page, before = await datashare.retention.runs("", 1)
    assert page == [second]
    assert (await datashare.retention.runs(before, 1))[0] == [runs[1]]


async def test_invoices_that_ran_out_leave_their_dealings_too(
    datashare: Datashare, database: Database
) -> None:
    # Kept for 10,950 days: until 2024-06-20.
    old = invoice("old", 300_00, on="1994-06-26", counterparty="Old", obtained_at=_obtained())
    await datashare.submit(TAX, old, invoice("new", 100_00))
    (series,) = await datashare.read("vat_invoice")
    assert list(series.months) == [199406, 202401]
    datashare.clock.advance(timedelta(days=5))
    hidden = await find(datashare, "vat_invoice")
    (series,) = await datashare.read("vat_invoice")
    assert list(series.months) == [202401]
    assert hidden.withheld
    # A batch that comes in between folds anew what is stored.
    await datashare.submit(TAX, invoice("newer", 100_00))
    (series,) = await datashare.read("vat_invoice")
    assert table(series)[202401]["output_valid"] == 2
    tokens = sa.select(metadata.tables["summary_counterparty"].c.token)
    assert len(set(await rows(database, tokens))) == 1
    await run(datashare)
    assert await datashare.read("vat_invoice") == [series]
    assert (await find(datashare, "vat_invoice")).withheld


def _obtained() -> Any:
    return Timestamp(seconds=int((NOW - timedelta(days=1)).timestamp()))


class TestErasing:
    async def test_nothing_is_left_but_evidence(
        self, datashare: Datashare, database: Database
    ) -> None:
        await datashare.submit(DEPARTMENT, penalty(), penalty(version=2, until="2024-12-31"))
        await datashare.submit(TAX, invoice("a"))
        subject_id = await datashare.subject_id()
        due = (
            Due("penalty", DEPARTMENT, Reason.ERASED, 1, 2, 1),
            Due("vat_invoice", TAX, Reason.ERASED, 1, 1, 1),
        )
        assert await datashare.erase.plan(subject_id) == due
        done = await datashare.erase(request(), subject_id, "the firm asked for it")
        assert (done.deleted, done.subject_id, done.note) == (
            due,
            subject_id,
            "the firm asked for it",
        )
        for each in metadata.sorted_tables:
            if "subject_id" in each.c and each.name not in KEPT:
                found = await rows(database, sa.select(each).where(each.c.subject_id == subject_id))
                assert found == [], each.name
        async with datashare.transactions.read() as work:
            assert await work.subjects.resolve(USCC) is None
            assert await work.erasures.erased([subject_id]) == {subject_id}
        assert (ChangeKind.RECORD_ERASED, "") in await changes(datashare)
        assert await datashare.erase(request(), subject_id, "the firm asked for it") == done
        with pytest.raises(FailedPreconditionError) as refused:
            await datashare.erase(request("r2"), subject_id, "again")
        assert refused.value.reason == "SUBJECT_ERASED"
        with pytest.raises(NotFoundError):
            await datashare.erase.plan("sub_nobody")

    async def test_what_recipients_owe_is_not_forgotten(self, datashare: Datashare) -> None:
        await datashare.submit(TAX, invoice("a"))
        subject_id = await datashare.subject_id()
        stored = stored_for(1)
        consent = replace(stored, core=replace(stored.core, subject_id=subject_id))
        terms = replace(consent.core.terms, fetch_limit=ONE_TIME)
        used = request_consent(
            replace(consent.core, consent_id="con_2", subject_id=subject_id, terms=terms), NOW
        )
        use = (subject_id, used.core.consent_id, LIFE)
        async with datashare.transactions.begin() as work:
            await work.duties.begin(consent)
            await work.quotas.add([(use, 1)])
            await work.consents.add(used)
            await work.consents.consume(used, Receipt(b"ended", "jws"))
        await datashare.erase(request(), subject_id, "asked for")
        async with datashare.transactions.begin() as work:
            assert await work.duties.lock(consent.core.consent_id, consent.core.recipient_id)
            assert await work.quotas.used([use]) == {use: 1}
            kept = await work.consents.get(used.core.consent_id, NOW)
        assert kept
        assert kept.termination == Receipt(b"ended", "jws")

    async def test_the_same_firm_begins_anew(self, datashare: Datashare) -> None:
        await datashare.submit(TAX, invoice("a"))
        erased = await datashare.subject_id()
        await datashare.erase(request(), erased, "asked for")
        await datashare.submit(TAX, invoice("a", 50_00))
        assert await datashare.subject_id() != erased
        (series,) = await datashare.read("vat_invoice")
        assert table(series)[202401]["output_net"] == 50_00
        row = invoice("b")
        row.subject.Clear()
        row.subject.subject_id = erased
        ack = await datashare.submit(TAX, row)
        assert [each.reason for each in ack.rejections] == ["NOT_FOUND"]

    async def test_a_batch_that_comes_meanwhile_leaves_nothing(self, postgres: Database) -> None:
        datashare = Datashare(postgres)
        await datashare.register(provider("tax"), provider("department"))
        await datashare.submit(TAX, invoice("a"))
        subject_id = await datashare.subject_id()

        async def push(number: int) -> None:
            row = invoice(f"b{number}") if number % 2 else penalty(f"p{number}")
            row.subject.Clear()
            row.subject.subject_id = subject_id
            await datashare.submit(TAX if number % 2 else DEPARTMENT, row)

        await asyncio.gather(
            datashare.erase(request(), subject_id, "asked for"),
            *(push(number) for number in range(8)),
            return_exceptions=True,
        )
        for name in ("record", "summary_series", "summary_counterparty"):
            each = metadata.tables[name]
            assert (
                await rows(postgres, sa.select(each).where(each.c.subject_id == subject_id)) == []
            )


async def test_what_was_deleted_is_given_free_while_others_work(
    migrated_postgres_url: str, postgres: Database
) -> None:
    # Else it would wait five seconds for the reader, to give back what earlier tests left empty.
    await Files(migrated_postgres_url)()
    async with postgres.begin() as conn:
        await conn.execute(sa.select(record_table.c.version))
        with capture_logs() as told:
            await Files(migrated_postgres_url)()
    assert told == []


class TestRebuilding:
    async def test_a_new_measure_is_there_at_the_next_read(
        self, datashare: Datashare, database: Database
    ) -> None:
        await datashare.submit(TAX, invoice("a", 70_00), invoice("b", 30_00))
        (series,) = await datashare.read("vat_invoice")
        older = summaries_pb2.Series.FromString(series.SerializeToString())
        kept = [column for column in older.columns if column.name != "output_net"]
        del older.columns[:]
        older.columns.extend(kept)
        async with database.begin() as conn:
            # As the version before left it.
            content = older.SerializeToString()
            await conn.execute(sa.update(series_table).values(content=content, layout="before"))
        assert await datashare.read("vat_invoice") == [series]
        assert await datashare.rebuild.count() == (1, 1)
        assert await datashare.rebuild(lambda _: None) == 1
        assert await datashare.rebuild.count() == (1, 0)
        assert await datashare.read("vat_invoice") == [series]

    async def test_a_new_policy_counts_for_what_is_stored(
        self, datashare: Datashare, database: Database
    ) -> None:
        await datashare.submit(DEPARTMENT, penalty())
        async with database.begin() as conn:
            # As the version before left it.
            await conn.execute(sa.update(record_table).values(hidden_on=None))
        await datashare.rebuild(lambda _: None)
        assert await rows(database, sa.select(record_table.c.hidden_on)) == [
            (_ordinal("2024-05-01") + 1095,)
        ]
        datashare.clock.advance(timedelta(days=1095))
        assert await penalties(datashare) == (0, True)
