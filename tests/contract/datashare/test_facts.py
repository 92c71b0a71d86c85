"""The firm's page of facts, on SQLite and PostgreSQL alike."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import facts_pb2, payloads_pb2, records_pb2
from services.datashare.access.domain import Released
from services.datashare.china import china_day
from services.datashare.facts.app import LATEST, TellFacts
from services.datashare.facts.servicer import FactServicer
from services.datashare.log.domain import (
    Json,
    LeafKind,
    Sealer,
    canonical,
    leaf_hash,
    rfc3339,
)
from services.datashare.log.store import leaf
from services.datashare.mandates.domain import Power
from services.datashare.records.app import NewRecord
from services.datashare.records.domain import Incoming
from services.kit.db import Database, to_microseconds
from services.kit.errors import InvalidArgumentError, PermissionDeniedError
from services.kit.identity import Caller, set_caller
from services.kit.ids import RandomIds
from services.kit.pages import decode_page_token, encode_page_token
from tests.fakes.datashare_disputes import COURT, FIRM_ID, Disputing
from tests.fakes.datashare_records import (
    NOW,
    day,
    filing,
    invoice,
    money,
    provider,
    record,
    retraction,
)
from tests.fakes.mandates import delegated

COURT_ID = COURT.participant_id
TAX = "par_tax"
REGISTRY = "par_market_regulator"


class Telling:
    """A datashare whose firm reads its facts."""

    def __init__(self, database: Database) -> None:
        self.world = Disputing(database)
        world = self.world
        sealer = Sealer(RandomIds(world.clock), bytes)
        tell = TellFacts(world.transactions, world.catalogue, world.clock, sealer)
        self.servicer = FactServicer(tell)

    async def facts(self, who: str = FIRM_ID) -> facts_pb2.GetFactsResponse:
        set_caller(Caller(who, "FIRM"))
        return await self.servicer.GetFacts(facts_pb2.GetFactsRequest(), None)  # type: ignore[arg-type]  # the servicer does not use the context

    async def records(
        self, record_type: str = "", size: int = 0, token: str = "", who: str = FIRM_ID
    ) -> facts_pb2.ListHeldRecordsResponse:
        set_caller(Caller(who, "FIRM"))
        request = facts_pb2.ListHeldRecordsRequest(
            record_type=record_type, page_size=size, page_token=token
        )
        return await self.servicer.ListHeldRecords(request, None)  # type: ignore[arg-type]  # the servicer does not use the context

    async def leaves(self) -> list[bytes]:
        """The hashes of what the log says of mandates, oldest first."""
        async with self.world.database.read() as conn:
            query = sa.select(leaf.c.hash).where(leaf.c.kind == LeafKind.MANDATE)
            return list(await conn.scalars(query.order_by(leaf.c.created_at, leaf.c.leaf_id)))

    async def supplied(self, by: str, *rows: records_pb2.Record) -> None:
        ack = await self.world.submit(by, *rows)
        assert not ack.rejections


@pytest.fixture
async def telling(database: Database) -> Telling:
    made = Telling(database)
    await made.world.populate()
    await made.world.register(provider("tax"), provider("market_regulator"))
    return made


def case(record_id: str, amount: int = 100) -> records_pb2.Record:
    return record(
        record_id,
        "2024-02-01",
        record_type="court_case",
        court_case=payloads_pb2.CourtCase(
            case_number=record_id,
            role="defendant",
            amount=money(amount),
            stage="filed",
            filed=day("2024-02-01"),
        ),
    )


def held(answer: facts_pb2.GetFactsResponse) -> Sequence[tuple[str, str, int]]:
    return [(h.record_type, h.provider_id, h.records) for h in answer.holdings]


async def test_what_counts_is_held(telling: Telling) -> None:
    first, second = invoice("a", on="2024-01-15"), invoice("b", on="2024-03-20")
    await telling.supplied(TAX, first, second, filing("f", on="2024-02-29"))
    corrected = invoice("a", net=7_00, on="2024-01-10", version=2)
    await telling.supplied(TAX, corrected, retraction(second, 2))
    answer = await telling.facts()
    assert held(answer) == [("tax_filing", TAX, 1), ("vat_invoice", TAX, 1)]
    invoices = answer.holdings[1]
    assert (invoices.title_zh, invoices.sharing) == ("增值税发票", "STANDING")
    assert invoices.legal_basis
    assert not invoices.kept_because_zh + invoices.kept_because_en
    assert invoices.provider_name
    assert date(invoices.first.year, invoices.first.month, invoices.first.day) == date(2024, 1, 10)
    assert invoices.last == invoices.first
    assert invoices.last_received_at.ToDatetime() == NOW.replace(tzinfo=None)
    assert not (await telling.facts()).accesses


async def test_who_looked_is_told_with_officer_and_file(telling: Telling) -> None:
    await telling.supplied(COURT_ID, case("case"))
    for _ in range(LATEST + 1):
        assert isinstance(await telling.world.fetched("court_case"), Released)
    telling.world.clock.at += timedelta(seconds=1)
    assert not isinstance(await telling.world.fetched("vat_invoice"), Released)
    answer = await telling.facts()
    assert (answer.releases, answer.refusals) == (LATEST + 1, 1)
    assert len(answer.accesses) == LATEST
    newest = answer.accesses[0]
    assert newest.refusal_reason
    looked = answer.accesses[1]
    assert (looked.recipient_name, looked.officer.name, looked.officer.file_reference) == (
        "A bank",
        "王",
        "F-1",
    )
    assert (looked.purpose, list(looked.record_types)) == ("credit_application", ["court_case"])


async def test_open_disputes_stand_on_the_page_and_beside_the_record(telling: Telling) -> None:
    await telling.supplied(COURT_ID, case("case"), case("other"))
    dispute = await telling.world.opened()
    assert [each.dispute_id for each in (await telling.facts()).disputes] == [dispute.dispute_id]
    listed = {each.record.provider_record_id: each for each in (await telling.records()).records}
    assert [each.statement for each in listed["case"].disputes] == ["We won it."]
    assert not listed["other"].disputes


async def test_records_are_told_as_they_came_but_for_others(telling: Telling) -> None:
    row = invoice("a", net=12_34, counterparty="91110108MA01RXYA3G")
    await telling.supplied(TAX, row)
    (told,) = (await telling.records("vat_invoice")).records
    assert told.provider_id == TAX
    assert told.record.provider_record_id == "a"
    assert told.record.version == 1
    assert told.record.date == row.date
    assert told.record.obtained_at == row.obtained_at
    said, sent = told.record.vat_invoice, row.vat_invoice
    assert (said.net, said.number, said.status) == (sent.net, sent.number, sent.status)
    assert not said.counterparty
    assert not said.counterparty_token
    assert told.record.HasField("vat_invoice")


async def test_periods_stay_periods(telling: Telling) -> None:
    row = filing("f")
    row.ClearField("date")
    row.period.CopyFrom(type(row.period)(**{"from": day("2024-01-01"), "to": day("2024-01-31")}))
    await telling.supplied(TAX, row)
    (told,) = (await telling.records()).records
    assert told.record.period == row.period


async def test_pages_meet_newest_first(telling: Telling) -> None:
    for number in range(5):
        telling.world.clock.at += timedelta(hours=1)
        await telling.supplied(TAX, invoice(f"i{number}"), filing(f"f{number}"))
    whole = [each.record.provider_record_id for each in (await telling.records()).records]
    assert whole[:2] == ["f4", "i4"]
    assert len(whole) == 10
    seen: list[str] = []
    token = ""
    for _ in range(4):
        page = await telling.records(size=3, token=token)
        seen += [each.record.provider_record_id for each in page.records]
        token = page.next_page_token
    assert seen == whole
    assert not token
    first = await telling.records(size=3)
    with pytest.raises(InvalidArgumentError) as caught:
        await telling.records("vat_invoice", token=first.next_page_token)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
    with pytest.raises(InvalidArgumentError) as caught:
        await telling.records("star_sign")
    assert caught.value.reason == "TYPE_UNKNOWN"


async def test_all_pages_tell_what_was_held_when_the_first_was_read(telling: Telling) -> None:
    for number in range(4):
        telling.world.clock.at += timedelta(hours=1)
        await telling.supplied(TAX, invoice(f"i{number}", net=1_00))
    first = await telling.records(size=1)
    telling.world.clock.at += timedelta(hours=1)
    corrected = invoice("i0", net=7_00, version=2)
    await telling.supplied(TAX, invoice("new"), corrected, retraction(invoice("i1", net=1_00), 2))
    behind = await telling.records(size=3, token=first.next_page_token)
    whole = [*first.records, *behind.records]
    assert [each.record.provider_record_id for each in whole] == ["i3", "i2", "i0"]
    assert whole[-1].record.vat_invoice.net.units == 1
    assert not behind.next_page_token
    anew = [each.record.provider_record_id for each in (await telling.records()).records]
    assert anew == ["i0", "new", "i3", "i2"]


async def test_who_looks_is_noted_with_for_whom_before_anything_is_told(telling: Telling) -> None:
    await telling.supplied(TAX, invoice("a"), invoice("b"), invoice("c"))
    async with telling.world.transactions.begin() as work:
        (boss,) = await work.mandates.lock_subject(await telling.world.subject_id())
        clerk = replace(delegated(boss, Power.READ), participant_id="par_clerk")
        await work.mandates.add(replace(clerk, appointed_by=FIRM_ID))
    before = len(await telling.leaves())
    first = await telling.records("vat_invoice", size=1, who="par_clerk")
    telling.world.clock.at += timedelta(minutes=1)
    # What goes on is the same look.
    await telling.records("vat_invoice", size=1, token=first.next_page_token, who="par_clerk")
    # So is another one within the minute.
    telling.world.clock.at = NOW + timedelta(seconds=59)
    await telling.records("vat_invoice", who="par_clerk")
    telling.world.clock.at = NOW + timedelta(minutes=1)
    (leaf_hashed,) = (await telling.leaves())[before:]
    content: dict[str, Json] = {
        "action": "viewed",
        "at": rfc3339(NOW),
        "delegate_id": "par_clerk",
        "principal_id": FIRM_ID,
        "subject_id": boss.subject_id,
        "what": "vat_invoice",
    }
    assert leaf_hashed == leaf_hash(bytes(16), canonical(content))
    answer = await telling.facts()
    assert [(v.participant_id, v.principal_id, v.what) for v in answer.views] == [
        (FIRM_ID, FIRM_ID, "facts"),
        ("par_clerk", FIRM_ID, "vat_invoice"),
    ]
    assert answer.views[1].viewed_at.ToDatetime() == NOW.replace(tzinfo=None)
    assert not answer.accesses
    assert answer.releases + answer.refusals == 0


async def test_a_list_is_gone_on_with_by_who_began_it_alone(telling: Telling) -> None:
    await telling.supplied(TAX, invoice("a"), invoice("b"))
    async with telling.world.transactions.begin() as work:
        (boss,) = await work.mandates.lock_subject(await telling.world.subject_id())
        clerk = replace(delegated(boss, Power.READ), participant_id="par_clerk")
        await work.mandates.add(clerk)
    first = await telling.records(size=1)
    position = decode_page_token(
        first.next_page_token, ("held records", ""), (int, int, str, str, str)
    )
    assert position
    forged = encode_page_token((int(position[0]) - 60_000_000, *position[1:]), ("held records", ""))
    for token, who in ((first.next_page_token, "par_clerk"), (forged, FIRM_ID)):
        with pytest.raises(InvalidArgumentError) as caught:
            await telling.records(size=1, token=token, who=who)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
    assert [view.what for view in (await telling.facts()).views] == ["facts", "records"]


async def test_what_is_sealed_is_opened_for_the_firm(telling: Telling) -> None:
    async with telling.world.transactions.read() as work:
        assert "financial_statement" in work.records.sealed_types
    row = record(
        "s",
        "2023-12-31",
        record_type="financial_statement",
        financial_statement=payloads_pb2.FinancialStatement(kind="annual", revenue=money(9_00)),
    )
    await telling.supplied(FIRM_ID, row)
    (told,) = (await telling.records("financial_statement")).records
    assert told.record.financial_statement == row.financial_statement


async def test_what_is_kept_to_its_provider_is_told_of_and_not_shown(telling: Telling) -> None:
    subject_id = await telling.world.subject_id()
    visit = payloads_pb2.FieldVisit(visited_at=day("2024-01-15"), findings=["operating"])
    on, at = china_day(NOW), to_microseconds(NOW)
    row = Incoming(
        row=0,
        uscc="",
        subject_id=subject_id,
        record_type="field_visit",
        provider_record_id="v",
        version=1,
        retracted=False,
        occurred_from=on,
        occurred_to=on,
        month=202406,
        obtained_at=at,
        schema_version=1,
        content_hash=b"h" * 32,
        payload=visit.SerializeToString(),
        fact=None,
        hidden_on=None,
    )
    async with telling.world.transactions.begin() as work:
        await work.records.insert("par_bank", [NewRecord(subject_id, row, at, None)], NOW)
    answer = await telling.facts()
    assert held(answer) == [("field_visit", "par_bank", 1)]
    (visits,) = answer.holdings
    assert visits.legal_basis in visits.kept_because_zh
    assert "nobody else" in visits.kept_because_en
    assert not (await telling.records()).records
    assert not (await telling.records("field_visit")).records


async def test_what_no_reader_is_shown_any_more_is_not_shown(telling: Telling) -> None:
    penalty = record(
        "p",
        "2024-01-15",
        record_type="penalty",
        penalty=payloads_pb2.Penalty(
            document_number="1", kind="fine", severity="minor", decided=day("2024-01-15")
        ),
    )
    await telling.supplied(REGISTRY, penalty)
    telling.world.clock.at = NOW.replace(month=3)
    assert held(await telling.facts()) == [("penalty", REGISTRY, 1)]
    telling.world.clock.at = NOW + timedelta(days=90)
    assert held(await telling.facts()) == []
    assert not (await telling.records()).records


async def test_another_firms_facts_are_not_told(telling: Telling) -> None:
    await telling.supplied(TAX, invoice("a"))
    with pytest.raises(PermissionDeniedError) as caught:
        await telling.facts("par_stranger")
    assert caught.value.reason == "MANDATE_REQUIRED"


@pytest.mark.parametrize("how", ["ended", "suspended", "powerless"])
async def test_facts_need_a_mandate_to_read(telling: Telling, how: str) -> None:
    async with telling.world.transactions.begin() as work:
        subject_id = await telling.world.subject_id()
        (mandate,) = await work.mandates.lock_subject(subject_id)
        if how == "suspended":
            await work.mandates.suspend([mandate], NOW)
        else:
            await work.mandates.end([replace(mandate, ended_at=NOW)])
        if how == "powerless":
            others = frozenset(Power) - {Power.READ}
            await work.mandates.add(replace(mandate, mandate_id="man_9", powers=others))
    before = len(await telling.leaves())
    for call in (telling.facts(), telling.records()):
        with pytest.raises(PermissionDeniedError) as caught:
            await call
        assert caught.value.reason == "MANDATE_REQUIRED"
    assert len(await telling.leaves()) == before
