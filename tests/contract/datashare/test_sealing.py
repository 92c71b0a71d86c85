"""Sealed types and the mapping of subjects, on SQLite and PostgreSQL alike.

`registration` stands for a type of level 4: what is true of it holds for every sealed type.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import payloads_pb2, records_pb2, summaries_pb2
from services.datashare.records.store import record as record_table
from services.datashare.sealing import maintenance as maintenance_module
from services.datashare.sealing.domain import (
    MissingKekError,
    SealBrokenError,
    SubjectTokens,
    provider_owner,
)
from services.datashare.sealing.maintenance import Amount, Maintenance, WrongTokenKeyError
from services.datashare.sealing.store import subject_key
from services.datashare.subjects.store import subject
from services.datashare.subjects.uscc import make
from services.datashare.summaries.store import series
from services.kit.db import Database
from services.kit.errors import UnavailableError
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    Datashare,
    day,
    filing,
    invoice,
    money,
    provider,
    record,
    retraction,
    table,
)
from tests.fakes.sealing import FakeKms

SEALED = frozenset({"registration", "tax_filing"})
OTHER = make("91", "110108", "MA01XTHE")
REGULATOR, TAX = provider("market_regulator"), provider("tax")
BY = REGULATOR.participant_id


@pytest.fixture
async def database(database: Database) -> Database:
    await Datashare(database).register(REGULATOR, TAX)
    return database


def datashare(database: Database, kms: FakeKms | None = None, *, sealed: bool = True) -> Datashare:
    return Datashare(database, kms=kms, sealed=SEALED if sealed else frozenset())


def company(
    record_id: str = "r1", name: str = "Acme", capital: int = 5_000_00, **fields: Any
) -> records_pb2.Record:
    return record(
        record_id,
        record_type="registration",
        registration=payloads_pb2.Registration(
            name=name,
            firm_kind="limited",
            status="active",
            capital=money(capital),
            founded=day("2015-03-02"),
        ),
        **fields,
    )


def of(uscc: str, row: records_pb2.Record) -> records_pb2.Record:
    row.subject.uscc = uscc
    return row


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


def maintenance(made: Datashare) -> Maintenance:
    return Maintenance(made.database, made.vault, quiet)


async def rows(database: Database, of: sa.Table) -> list[Mapping[str, Any]]:
    query = sa.select(of).order_by(*of.primary_key.columns)
    async with database.read() as conn:
        return [dict(row._mapping) for row in await conn.execute(query)]


async def capital(made: Datashare, **of: Any) -> dict[int, dict[str, int]]:
    (found,) = await made.read("registration", **of)
    assert {a.name: a.value for a in found.attributes}["firm_kind"] == "limited"
    return table(found)


async def test_what_is_sealed_is_read_as_if_it_were_not(database: Database) -> None:
    answers = []
    for uscc, sealed in ((USCC, True), (OTHER, False)):
        made = datashare(database, sealed=sealed)
        first = of(uscc, company(capital=7_00))
        ack = await made.submit(BY, first, of(uscc, company("r2", on="2024-02-01")))
        assert list(ack.accepted) == [0, 1]
        again = await made.submit(BY, first, of(uscc, company(capital=8_00)))
        assert list(again.duplicates) == [0]
        assert [row.reason for row in again.rejections] == ["RECORD_CONFLICT"]
        made.clock.advance(timedelta(hours=1))
        await made.submit(BY, of(uscc, company(capital=9_00, version=2)))
        now = await capital(made, uscc=uscc)
        past = await capital(made, uscc=uscc, as_of=NOW + timedelta(minutes=1))
        made.clock.advance(timedelta(hours=1))
        await made.submit(BY, retraction(of(uscc, company("r2", on="2024-02-01")), 2))
        answers.append((now, past, await capital(made, uscc=uscc)))
    assert answers[0] == answers[1]
    assert answers[0][0][202401]["capital"] == 9_00
    assert answers[0][1][202401]["capital"] == 7_00


async def test_only_what_is_sensitive_is_sealed(database: Database) -> None:
    made = datashare(database)
    await made.submit(BY, company(name="Plain Name Ltd"))
    await made.submit(TAX.participant_id, invoice("i1", counterparty="Plain Name Ltd"))
    sealed, plain = await rows(database, record_table)
    assert (sealed["record_type"], sealed["sealed"]) == ("registration", True)
    assert b"Plain Name" not in sealed["payload"]
    assert (plain["record_type"], plain["sealed"]) == ("vat_invoice", False)
    assert payloads_pb2.VatInvoice.FromString(plain["payload"]).number == "i1"
    registration, invoices = await rows(database, series)
    assert (registration["sealed"], invoices["sealed"]) == (True, False)
    (read,) = await made.read("registration")
    assert read.SerializeToString(deterministic=True) not in registration["content"]
    assert summaries_pb2.Series.FromString(invoices["content"]).record_type == "vat_invoice"


async def test_a_hash_does_not_tell_what_is_sealed(database: Database) -> None:
    """The same content of two firms has the same plain hash, by which it could be guessed."""
    made = datashare(database)
    await made.submit(BY, company(), of(OTHER, company()))
    one, two = await rows(database, record_table)
    assert one["content_hash"] != two["content_hash"]
    plain = datashare(database, sealed=False)
    await plain.submit(BY, company("p"), of(OTHER, company("p")))
    hashes = {row["content_hash"] for row in await rows(database, record_table)}
    assert len(hashes) == 3


async def test_the_mapping_is_sealed(database: Database) -> None:
    made = datashare(database)
    await made.submit(BY, company(), of(OTHER, company()))
    found = await rows(database, subject)
    assert [row["uscc"] for row in found] == [None, None]
    assert len({row["uscc_token"] for row in found}) == 2
    assert not any(USCC.encode() in row["uscc_sealed"] for row in found)
    ids = {await made.subject_id(uscc): uscc for uscc in (USCC, OTHER)}
    async with made.transactions.read() as work:
        assert await work.subjects.usccs(ids) == ids
    assert {row["subject_id"] for row in await rows(database, subject_key)} == set(ids)


async def test_payloads_cannot_change_places(database: Database) -> None:
    made = datashare(database)
    await made.submit(BY, company("a", capital=1_00), company("b", capital=2_00))
    await made.submit(BY, of(OTHER, company("a", capital=3_00)))
    made.clock.advance(timedelta(hours=1))
    await made.submit(BY, company("a", capital=4_00, version=2))
    mine, other = [await made.subject_id(uscc) for uscc in (USCC, OTHER)]
    places = [(mine, "a", 1), (mine, "a", 2), (mine, "b", 1), (other, "a", 1)]
    found = {
        (row["subject_id"], row["provider_record_id"], row["version"]): row["payload"]
        for row in await rows(database, record_table)
    }
    for place in places[1:]:
        await _put(database, places[0], found[place])
        with pytest.raises(SealBrokenError, match="payload"):
            await capital(made, as_of=NOW)
    await _put(database, places[0], found[places[0]])
    assert await capital(made, as_of=NOW)


async def _put(database: Database, place: tuple[str, str, int], payload: bytes) -> None:
    columns = record_table.c
    names = (columns.subject_id, columns.provider_record_id, columns.version)
    where = [column == value for column, value in zip(names, place, strict=True)]
    async with database.begin() as conn:
        await conn.execute(sa.update(record_table).where(*where).values(payload=payload))


async def test_summaries_cannot_change_places(database: Database) -> None:
    made = datashare(database)
    await made.submit(BY, company(), of(OTHER, company()))
    one, two = await rows(database, series)
    async with database.begin() as conn:
        for place, content in ((one, two["content"]), (two, one["content"])):
            await conn.execute(
                sa.update(series)
                .where(series.c.subject_id == place["subject_id"])
                .values(content=content)
            )
    with pytest.raises(SealBrokenError, match="series"):
        await made.read("registration")
    with pytest.raises(SealBrokenError, match="series"):
        await made.submit(BY, company("r2"))


async def test_other_tables_seal_under_a_subject_or_a_provider(database: Database) -> None:
    made = datashare(database)
    await made.submit(BY, company())
    owners = [await made.subject_id(), provider_owner("par_1")]
    async with made.transactions.begin() as work:
        sealed = {
            owner: await work.seals.seal(owner, ("review", "rev_1"), b"row") for owner in owners
        }
    async with made.transactions.read() as work:
        for owner in owners:
            assert await work.seals.open(owner, ("review", "rev_1"), sealed[owner]) == b"row"
        with pytest.raises(SealBrokenError, match="review"):
            await work.seals.open(owners[0], ("review", "rev_2"), sealed[owners[0]])
        with pytest.raises(SealBrokenError, match="review"):
            await work.seals.open(owners[0], ("review", "rev_1"), sealed[owners[1]])
        assert await work.seals.open("sub_none", ("review", "rev_1"), sealed[owners[0]]) is None
    async with made.transactions.begin() as work:
        await work.subjects.erase(owners[0], NOW)
    async with made.transactions.read() as work:
        assert await work.seals.open(owners[0], ("review", "rev_1"), sealed[owners[0]]) is None


async def test_an_erased_subject_is_absent_everywhere(database: Database) -> None:
    made, replica = datashare(database), datashare(database)
    await made.submit(BY, company(capital=7_00), of(OTHER, company()))
    await made.submit(TAX.participant_id, filing("f1", "A"))
    gone = await made.subject_id()
    for one in (made, replica):
        assert await capital(one)  # both remember its key
    async with made.transactions.begin() as work:
        await work.subjects.erase(gone, NOW)
    for one in (made, replica):
        assert await _find(one, gone, "registration", "tax_filing") == 0
        assert await _find(one, gone, "registration", before=timedelta(days=-300)) == 0
        async with one.transactions.read() as work:
            assert await work.subjects.resolve(USCC) is None
            assert await work.subjects.existing([gone]) == set()
            assert await work.subjects.usccs([gone]) == {}
    named = company("r2")
    named.subject.subject_id = gone
    (refused,) = (await made.submit(BY, named)).rejections
    assert refused.row == 0
    assert await capital(made, uscc=OTHER)
    # The same firm comes again as another subject, of which only the new is known.
    assert list((await replica.submit(BY, company(capital=9_00))).accepted) == [0]
    assert await made.subject_id() != gone
    assert (await capital(made))[202401]["capital"] == 9_00


async def _find(
    made: Datashare, subject_id: str, *types: str, before: timedelta = timedelta()
) -> int:
    from services.datashare.china import china_day
    from services.datashare.summaries.domain import SummaryQuery

    now = made.clock.now()
    query = SummaryQuery(subject_id, types, None, 190001, 209912, now + before, china_day(now))
    return len((await made.find(query)).series)


async def test_an_erasure_waits_for_who_seals(postgres: Database) -> None:
    made = datashare(postgres)
    await made.register(REGULATOR)
    await made.submit(BY, company())
    mine = await made.subject_id()
    held = asyncio.Event()

    async def erase() -> None:
        await held.wait()
        async with made.transactions.begin() as work:
            await work.subjects.erase(mine, NOW)

    erasing = asyncio.create_task(erase())
    async with made.transactions.begin() as work:
        await work.seals.hold([mine])
        held.set()
        await asyncio.sleep(0.1)
        assert not erasing.done()
    await erasing
    with pytest.raises(UnavailableError, match="erased while this came in"):
        async with made.transactions.begin() as work:
            await work.seals.hold([mine])


async def test_a_rotation_and_who_seals_do_not_wait_for_each_other(postgres: Database) -> None:
    kms = FakeKms()
    made = datashare(postgres, kms)
    await made.register(REGULATOR)
    await made.submit(BY, company())
    mine = await made.subject_id()
    kms.add("kms-2")
    kms.current = "kms-2"
    async with made.transactions.begin() as work:
        await work.seals.hold([mine])
        await asyncio.wait_for(maintenance(made).rotate(), 5)
    assert (await maintenance(made).rotation()).left == 0
    assert await capital(made)


async def test_nothing_is_half_written_without_keys(database: Database) -> None:
    kms = FakeKms()
    made = datashare(database, kms)
    firms = [make("91", "110108", f"MA01{number:04}") for number in range(10)]
    batch = [of(uscc, company()) for uscc in firms]
    kms.fail_after = 5
    with pytest.raises(UnavailableError, match="key management"):
        await made.submit(BY, *batch)
    for each in (subject, subject_key, record_table, series):
        assert await rows(database, each) == []
    kms.fail_after = None
    assert len((await made.submit(BY, *batch)).accepted) == 10
    kms.down = True
    cold = datashare(database, kms)
    with pytest.raises(UnavailableError, match="key management"):
        await cold.read("registration", uscc=firms[0])
    assert len(await made.read("registration", uscc=firms[0])) == 1


async def test_types_that_were_not_sealed_before_go_on(database: Database) -> None:
    before, made = datashare(database, sealed=False), datashare(database)
    await before.submit(BY, company("a", capital=1_00), company("b", capital=2_00))
    ack = await made.submit(BY, company("a", capital=1_00), company("b", capital=3_00))
    assert list(ack.duplicates) == [0]
    assert [row.row for row in ack.rejections] == [1]
    made.clock.advance(timedelta(hours=1))
    await made.submit(BY, company("a", capital=5_00, version=2), retraction(company("b"), 2))
    assert (await capital(made))[202401]["capital"] == 5_00
    sealed = [row["sealed"] for row in await rows(database, record_table)]
    assert sealed == [False, True, False, True]


async def test_sealing_and_unsealing_change_no_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "_BATCH", 2)
    before = datashare(database, sealed=False)
    for uscc in (USCC, OTHER):
        await before.submit(
            BY, *(of(uscc, company(f"r{number}", capital=number)) for number in range(5))
        )
    await before.submit(TAX.participant_id, filing("f1", "A"), invoice("i1"))
    plain = [await rows(database, each) for each in (record_table, series)]
    answers = [await capital(before, uscc=uscc) for uscc in (USCC, OTHER)]

    made = datashare(database)
    work = maintenance(made)
    assert await work.plain() == Amount(subjects=0, series=3, records=11)
    await work.seal()
    assert not await work.plain()
    assert await work.sealed() == Amount(subjects=2, series=3, records=11)
    assert [await capital(made, uscc=uscc) for uscc in (USCC, OTHER)] == answers
    assert list((await made.submit(BY, company("r1", capital=1))).duplicates) == [0]
    sealed = await rows(database, record_table)
    await work.seal()
    assert await rows(database, record_table) == sealed

    await work.unseal()
    assert await work.sealed() == Amount(subjects=0, series=0, records=0)
    assert [await rows(database, each) for each in (record_table, series)] == plain
    numbers = {row["uscc"] for row in await rows(database, subject)}
    assert numbers == {USCC, OTHER}
    await work.seal()
    assert not await work.plain()


async def test_sealing_goes_on_where_it_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_module, "_BATCH", 2)
    before = datashare(database, sealed=False)
    await before.submit(BY, *(company(f"r{number}", capital=number) for number in range(6)))
    kms = FakeKms()
    made = datashare(database, kms)
    told: list[tuple[int, int]] = []

    def stop_after_two(_what: str, done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Maintenance(database, made.vault, stop_after_two).seal()
    assert [row["sealed"] for row in await rows(database, record_table)].count(True) == 4
    assert await capital(made, as_of=NOW) == await capital(made)
    await maintenance(made).seal()
    assert not await maintenance(made).plain()
    assert told == [(2, 7), (4, 7)]


class TestRotation:
    async def test_keys_are_wrapped_anew_and_nothing_else(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance_module, "_BATCH", 3)
        kms = FakeKms("k1")
        made = datashare(database, kms)
        firms = [make("91", "110108", f"MA01{number:04}") for number in range(10)]
        await made.submit(BY, *(of(uscc, company()) for uscc in firms))
        async with made.transactions.begin() as work:
            await work.subjects.erase(await made.subject_id(firms[9]), NOW)
        data = [await rows(database, each) for each in (subject, record_table, series)]
        kms.add("k2")
        kms.current = "k2"
        await made.submit(BY, of(make("91", "110108", "MA01NEW0"), company()))
        data = [await rows(database, each) for each in (subject, record_table, series)]
        found = await maintenance(made).rotation()
        assert (found.counts, found.left) == ({"k1": 9, "k2": 1}, 9)

        kms.fail_after = kms.calls + 8  # each takes two
        with pytest.raises(UnavailableError):
            await maintenance(made).rotate()
        assert (await maintenance(made).rotation()).left == 6

        kms.fail_after = None
        assert await capital(made, uscc=firms[0]) == await capital(made, uscc=firms[8])
        await maintenance(made).rotate()
        found = await maintenance(made).rotation()
        assert (found.counts, found.left) == ({"k2": 10}, 0)
        kms.remove("k1")
        cold = datashare(database, kms)
        for uscc in firms[:9]:
            assert await capital(cold, uscc=uscc)
        await maintenance(cold).check()
        assert data == [await rows(database, each) for each in (subject, record_table, series)]

    async def test_a_missing_key_is_named(self, database: Database) -> None:
        made = datashare(database, FakeKms("old"))
        await made.submit(BY, company())
        cold = datashare(database, FakeKms("new"))
        for work in (
            maintenance(cold).rotate(),
            maintenance(cold).check(),
            cold.read("registration"),
        ):
            with pytest.raises(MissingKekError, match='"old"'):
                await work

    async def test_another_key_of_the_same_name_is_noticed(self, database: Database) -> None:
        kms, other = FakeKms("k"), FakeKms("l")
        made = datashare(database, kms)
        await made.submit(BY, company())
        other.rename("l", "k")
        with pytest.raises(SealBrokenError, match="altered"):
            await maintenance(datashare(database, other)).check()

    async def test_another_token_key_is_noticed(self, database: Database) -> None:
        made = datashare(database)
        await made.submit(BY, company())
        await maintenance(made).check()
        made.vault.tokens = SubjectTokens(b"x" * 32)
        with pytest.raises(WrongTokenKeyError):
            await maintenance(made).check()
