"""One suite for the store of notices."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.datashare.catalogue.loader import load
from services.datashare.main import Stores, Work
from services.datashare.notices.domain import Notice, NoticeKind
from services.kit.clock import SystemClock
from services.kit.db import Database, Transactions
from services.kit.ids import RandomIds
from tests.contract.datashare.conftest import Stored
from tests.fakes.sealing import vault

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
GRANTED = Notice(
    "par_bank",
    NoticeKind.CONSENT_GRANTED,
    NOW,
    subject_id="sub_1",
    consent_id="con_1",
    participant_id="par_firm",
)
WITHDRAWN = replace(GRANTED, kind=NoticeKind.CONSENT_WITHDRAWN)
DISPUTED = Notice(
    "sub_1",
    NoticeKind.DISPUTE_OPENED,
    NOW,
    subject_id="sub_1",
    dispute_id="dis_1",
    record_type="vat_invoice",
    participant_id="par_tax",
    mandate_id="man_1",
    due_at=NOW + timedelta(days=20),
)


async def test_a_party_finds_its_own_notices_behind_a_position(stored: Stored) -> None:
    async with stored.begin() as work:
        await work.notices.append([GRANTED, DISPUTED])
        await work.notices.append([])
    async with stored.begin() as work:
        await work.notices.append([WITHDRAWN])
    async with stored.read() as work:
        entries = await work.notices.after("par_bank", 0, 10)
        assert [entry.notice for entry in entries] == [GRANTED, WITHDRAWN]
        first, second = entries
        assert first.position < second.position
        assert first.notice_id != second.notice_id
        assert await work.notices.after("par_bank", first.position, 10) == [second]
        assert await work.notices.after("par_bank", 0, 1) == [first]
        assert [entry.notice for entry in await work.notices.after("sub_1", 0, 10)] == [DISPUTED]


async def test_the_same_is_told_once_in_a_transaction_and_again_in_another(stored: Stored) -> None:
    for _ in range(2):
        async with stored.begin() as work:
            await work.notices.append([GRANTED, GRANTED])
            await work.notices.append([GRANTED])
    async with stored.read() as work:
        assert len(await work.notices.after("par_bank", 0, 10)) == 2


async def test_a_transaction_that_fails_tells_nothing(stored: Stored) -> None:
    with pytest.raises(ValueError, match="no"):
        async with stored.begin() as work:
            await work.notices.append([GRANTED])
            raise ValueError("no")
    async with stored.read() as work:
        assert await work.notices.after("par_bank", 0, 10) == []


async def test_what_is_acknowledged_never_goes_back(stored: Stored) -> None:
    async with stored.read() as work:
        assert await work.notices.acknowledged("par_bank") == 0
    for position, known in ((5, 5), (3, 5), (7, 7)):
        async with stored.begin() as work:
            await work.notices.acknowledge("par_bank", position)
        async with stored.read() as work:
            assert await work.notices.acknowledged("par_bank") == known
            assert await work.notices.acknowledged("par_tax") == 0


async def test_a_reader_that_keeps_its_cursor_misses_nothing(database: Database) -> None:
    """Writers tell several parties at once, in any order, and commit when they like."""
    catalogue, clock = load(), SystemClock()
    stores = Stores(catalogue, RandomIds(clock), vault(catalogue, clock))
    transactions: Transactions[Work] = Transactions(database, stores)
    rng = random.Random(7)
    parties = [f"par_{n}" for n in range(4)]
    writers, writes = 8, 12
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for n in range(writes):
            notice = replace(GRANTED, consent_id=f"con_{writer}_{n}")
            async with transactions.begin() as work:
                for party in rng.sample(parties, 3):
                    await work.notices.append([replace(notice, party_id=party)])
                await work.finish()
                await asyncio.sleep(rng.random() / 200)

    async def read(party: str) -> list[str]:
        position, seen = 0, []
        while True:
            last = done.is_set()
            async with transactions.read() as work:
                entries = await work.notices.after(party, position, 5)
            seen += [entry.notice.consent_id for entry in entries]
            position = entries[-1].position if entries else position
            if last and not entries:
                return seen
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read(party)) for party in parties]
    async with asyncio.timeout(60):
        await asyncio.gather(*map(write, range(writers)))
        done.set()
        told = await asyncio.gather(*readers)
    assert sum(map(len, told)) == writers * writes * 3
    for party, seen in zip(parties, told, strict=True):
        async with transactions.read() as work:
            stored = await work.notices.after(party, 0, 1_000)
        assert seen == [entry.notice.consent_id for entry in stored]


async def test_those_who_tell_different_parties_do_not_wait(postgres: Database) -> None:
    catalogue, clock = load(), SystemClock()
    stores = Stores(catalogue, RandomIds(clock), vault(catalogue, clock))
    transactions: Transactions[Work] = Transactions(postgres, stores)
    async with asyncio.timeout(10), transactions.begin() as first:
        await first.notices.append([GRANTED])
        await first.finish()
        async with transactions.begin() as second:
            await second.notices.append([DISPUTED])
        same = asyncio.create_task(_tell(transactions, WITHDRAWN))
        await asyncio.sleep(0.2)
        assert not same.done()
    await same
    async with transactions.read() as work:
        entries = await work.notices.after("par_bank", 0, 10)
    assert [entry.notice for entry in entries] == [GRANTED, WITHDRAWN]


async def _tell(transactions: Transactions[Work], notice: Notice) -> None:
    async with transactions.begin() as work:
        await work.notices.append([notice])
