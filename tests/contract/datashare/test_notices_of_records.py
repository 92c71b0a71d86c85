"""Who is told when records change: the firm, and who was released such records."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.datashare.access.domain import Channel, Outcome
from services.datashare.idempotency.domain import RequestKey
from services.datashare.notices.contacts import Contact, Way
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.endpoints import contact as contact_table
from services.datashare.notices.endpoints import webhook as webhook_table
from services.datashare.notices.late import TellLate
from services.datashare.notices.store import NoticeStore, in_turn
from services.datashare.notices.webhooks import Webhook
from services.kit.db import Database
from tests.contract.datashare import test_stores as made
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    filing,
    invoice,
    provider,
    retraction,
)

CORRECTED, RESCORE = NoticeKind.RECORD_CORRECTED, NoticeKind.RESCORE_DUE


class Office:
    """A firm whose records the bank `par_2` may have been released."""

    def __init__(self, database: Database) -> None:
        self.datashare = Datashare(database)
        self.subject_id = ""
        self._accesses = 0

    async def open(self) -> None:
        await self.datashare.register(provider("tax"), provider("tax", suffix="_2"))
        await self.datashare.submit("par_tax", invoice("a"), filing("f"))
        await self.datashare.submit("par_tax_2", invoice("a"))
        self.subject_id = await self.datashare.subject_id()
        async with self.datashare.transactions.begin() as work:
            consent = made.consent(1, self.subject_id)
            terms = consent.core.terms
            assert terms.provider_ids == ("par_1",)
            await work.consents.add(consent)

    async def release(self, recipient_id: str = "par_2", **changes: Any) -> None:
        self._accesses += 1
        values: dict[str, Any] = {
            "subject_id": self.subject_id,
            "recipient_id": recipient_id,
            "accessed_at": NOW - timedelta(days=1),
            "record_types": ("vat_invoice",),
            "consent_id": "",
            "channel": Channel.DATASHARE,
        }
        async with self.datashare.transactions.begin() as work:
            await work.accesses.append([made.access(self._accesses, **(values | changes))])

    async def told(self, party_id: str) -> list[tuple[NoticeKind, str, str]]:
        async with self.datashare.transactions.read() as work:
            entries = await work.notices.after(party_id, 0, 100)
        notices = [entry.notice for entry in entries]
        assert {notice.subject_id for notice in notices} <= {self.subject_id}
        return [(notice.kind, notice.record_type, notice.participant_id) for notice in notices]


@pytest.fixture
async def office(database: Database) -> Office:
    """With two invoices and a filing."""
    office = Office(database)
    await office.open()
    return office


async def correct(office: Office) -> None:
    await office.datashare.submit("par_tax", invoice("a", 200_00, version=2))


async def test_a_correction_is_told_to_the_firm_and_to_who_was_released_the_type(
    office: Office,
) -> None:
    await office.release("par_2")
    await office.release("par_3", channel=Channel.SCORING)
    await office.release("par_3")
    await office.release("par_4", record_types=("tax_filing",))
    await office.release("par_5", outcome=Outcome.REFUSED)
    await correct(office)
    corrected = (CORRECTED, "vat_invoice", "par_tax")
    assert await office.told(office.subject_id) == [corrected]
    assert await office.told("par_2") == [corrected]
    assert await office.told("par_3") == [corrected, (RESCORE, "vat_invoice", "par_tax")]
    assert await office.told("par_4") == []
    assert await office.told("par_5") == []


async def test_twelve_months_back_and_no_further(office: Office) -> None:
    await office.release("par_2", accessed_at=NOW - timedelta(days=366))
    await office.release("par_3", accessed_at=NOW - timedelta(days=366, seconds=1))
    await correct(office)
    assert len(await office.told("par_2")) == 1
    assert await office.told("par_3") == []


async def test_what_a_consent_leaves_out_is_not_betrayed(office: Office) -> None:
    # The consent opens invoices of par_1 alone; what it does not name is open by law.
    await office.release("par_2", consent_id="con_1", record_types=("vat_invoice", "tax_filing"))
    await correct(office)
    assert await office.told("par_2") == []
    await office.datashare.submit("par_tax", filing("f", "A", version=2))
    assert await office.told("par_2") == [(CORRECTED, "tax_filing", "par_tax")]


async def test_a_retraction_and_a_correction_of_many_rows_are_each_told_once(
    office: Office,
) -> None:
    await office.datashare.submit("par_tax", invoice("b"), invoice("c"))
    await office.release("par_2")
    await office.datashare.submit(
        "par_tax",
        invoice("a", 200_00, version=2),
        invoice("b", 200_00, version=2),
        retraction(invoice("c"), 2),
    )
    assert await office.told("par_2") == [
        (CORRECTED, "vat_invoice", "par_tax"),
        (NoticeKind.RECORD_RETRACTED, "vat_invoice", "par_tax"),
    ]


async def test_new_records_tell_nobody(office: Office) -> None:
    await office.release("par_2")
    await office.datashare.submit("par_tax", invoice("d"), filing("g"), invoice("d"))
    assert await office.told("par_2") == []
    assert await office.told(office.subject_id) == []


async def test_who_brings_a_correction_that_fails_tells_nobody(office: Office) -> None:
    await office.release("par_2")
    ack = await office.datashare.submit("par_tax", invoice("a", 200_00, version=7))
    assert ack.rejections
    assert await office.told("par_2") == []


async def test_who_read_while_it_was_corrected_is_told_afterwards_and_once(
    office: Office,
) -> None:
    late = TellLate(office.datashare.transactions, office.datashare.clock)
    await office.release("par_2", accessed_at=NOW)
    await correct(office)
    # As if committed after the correction had looked for recipients.
    await office.release("par_3", accessed_at=NOW, channel=Channel.SCORING)
    await office.release("par_4", accessed_at=NOW + timedelta(seconds=11))
    await office.release("par_5", accessed_at=NOW - timedelta(seconds=121))
    corrected = (CORRECTED, "vat_invoice", "par_tax")
    office.datashare.clock.advance(timedelta(seconds=129))
    await late()
    assert await office.told("par_3") == []
    office.datashare.clock.advance(timedelta(seconds=1))
    for _ in range(2):
        await late()
        assert await office.told("par_2") == [corrected]
        assert await office.told("par_3") == [corrected, (RESCORE, "vat_invoice", "par_tax")]
        assert await office.told("par_4") == []
        assert await office.told("par_5") == []
    assert await office.told(office.subject_id) == [corrected]


async def test_who_was_told_at_once_is_not_told_late_however_much_it_was_told_since(
    office: Office,
) -> None:
    await office.release("par_2", accessed_at=NOW)
    await correct(office)
    later = NOW + timedelta(seconds=1)
    async with office.datashare.transactions.begin() as work:
        others = (Notice("par_2", CORRECTED, later, f"sub_{n}") for n in range(1_500))
        await work.notices.append(list(others))
    office.datashare.clock.advance(timedelta(hours=1))
    await TellLate(office.datashare.transactions, office.datashare.clock)()
    async with office.datashare.transactions.read() as work:
        assert len(await work.notices.after("par_2", 0, 2_000)) == 1 + 1_500


async def test_a_change_that_is_dated_ahead_holds_up_no_other(office: Office) -> None:
    clock = office.datashare.clock
    clock.advance(timedelta(days=365))
    await correct(office)
    clock.advance(timedelta(days=-365))
    await office.datashare.submit("par_tax", invoice("a", 300_00, version=3))
    await office.release("par_3", accessed_at=NOW)
    clock.advance(timedelta(seconds=130))
    await TellLate(office.datashare.transactions, clock)()
    assert await office.told("par_3") == [(CORRECTED, "vat_invoice", "par_tax")]


async def test_one_replica_looks_for_late_readers(postgres: Database) -> None:
    office = Office(postgres)
    await office.open()
    await correct(office)
    office.datashare.clock.advance(timedelta(hours=1))
    late = TellLate(office.datashare.transactions, office.datashare.clock)
    async with office.datashare.transactions.begin() as work:
        assert await work.notices.alone()
        await late()
        assert await work.notices.looked_at() == 0
    await late()
    async with office.datashare.transactions.read() as work:
        assert await work.notices.looked_at() > 0


async def test_where_an_erased_firm_was_told_is_forgotten(office: Office) -> None:
    transactions = office.datashare.transactions
    async with transactions.begin() as work:
        await work.webhooks.set(
            Webhook(
                office.subject_id, "par_firm", "https://firm.example.cn/", b"s" * 32, NOW, 0, NOW
            )
        )
        await work.contacts.set(
            Contact(office.subject_id, "par_firm", "zh", 0, NOW, NOW, mail=Way("a@b.cn"))
        )
    await office.datashare.erase(
        RequestKey("operator", "erase-2", b"f" * 32), office.subject_id, "asked for"
    )
    async with office.datashare.database.read() as conn:
        for table in (webhook_table, contact_table):
            assert (await conn.execute(sa.select(table))).all() == []


async def test_an_erasure_waits_for_who_tells_the_firm_something_before_it_holds_what_they_need(
    postgres: Database,
) -> None:
    office = Office(postgres)
    await office.open()
    transactions, subject_id = office.datashare.transactions, office.subject_id
    async with transactions.begin() as work:
        mail = Way("a@b.cn")
        await work.contacts.set(Contact(subject_id, "par_firm", "zh", 0, NOW, NOW, mail=mail))
        await work.contacts.rest(subject_id, NOW, NOW)
    key = RequestKey("operator", "erase-3", b"f" * 32)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group, postgres.begin() as conn:
        await in_turn(conn, [subject_id])
        group.create_task(office.datashare.erase(key, subject_id, "asked for"))
        await asyncio.sleep(0.5)
        await conn.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
        store = NoticeStore(conn, office.datashare.stores.ids)
        await store.append([Notice(subject_id, CORRECTED, NOW, subject_id)])
        await store.finish()
    async with postgres.read() as conn:
        assert (await conn.execute(sa.select(contact_table))).all() == []


async def test_an_erasure_is_told_to_all_who_were_released_anything(office: Office) -> None:
    await office.release("par_2", channel=Channel.SCORING)
    await office.release("par_3", record_types=("tax_filing",))
    key = RequestKey("operator", "erase-1", b"f" * 32)
    await office.datashare.erase(key, office.subject_id, "asked for")
    erased = (NoticeKind.RECORD_ERASED, "", "")
    for party_id in ("par_2", "par_3", office.subject_id):
        assert await office.told(party_id) == [erased]
