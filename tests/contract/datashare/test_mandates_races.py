"""Acts of a firm and the end of its mandates at the same time, on PostgreSQL."""

import asyncio
from datetime import timedelta

import pytest

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.disputes.domain import Dispute, Target
from services.datashare.mandates.domain import MandateState, state_at
from services.kit.db import Database
from services.kit.errors import PermissionDeniedError, PuhuiError
from tests.fakes.datashare_disputes import COURT, Disputing
from tests.fakes.datashare_records import NOW, day, money, provider, record

REGISTRY = "par_market_regulator"
ACTS = 24


@pytest.fixture
async def world(postgres: Database) -> Disputing:
    made = Disputing(postgres)
    await made.populate()
    await made.register(provider("market_regulator"))
    rows = [case(number) for number in range(ACTS)]
    assert not (await made.submit(COURT.participant_id, *rows)).rejections
    return made


def case(number: int) -> records_pb2.Record:
    return record(
        f"case-{number}",
        "2024-01-15",
        record_type="court_case",
        court_case=payloads_pb2.CourtCase(
            case_number=f"{number}",
            role="defendant",
            amount=money(100),
            stage="filed",
            filed=day("2024-01-15"),
        ),
    )


def change() -> records_pb2.Record:
    row = record(
        "change",
        f"{NOW:%Y-%m-%d}",
        record_type="officer_change",
        officer_change=payloads_pb2.OfficerChange(
            role="legal_representative", successor="李四", changed_at=day(f"{NOW:%Y-%m-%d}")
        ),
    )
    row.obtained_at.FromDatetime(NOW)
    return row


async def act(world: Disputing, number: int) -> Dispute | PuhuiError:
    target = Target(COURT.participant_id, "court_case", f"case-{number}", "amount")
    try:
        return await world.opened(target)
    except PuhuiError as error:
        return error


async def test_no_act_follows_the_change_that_the_register_told(world: Disputing) -> None:
    world.clock.at = NOW + timedelta(minutes=1)
    told = asyncio.Event()
    after: list[int] = []

    async def act_at(number: int) -> Dispute | PuhuiError:
        await asyncio.sleep(number * 0.004)
        if told.is_set():
            after.append(number)
        return await act(world, number)

    async def tell() -> None:
        await asyncio.sleep(ACTS * 0.002)
        assert list((await world.submit(REGISTRY, change())).accepted) == [0]
        told.set()

    *done, _ = await asyncio.gather(*map(act_at, range(ACTS)), tell())
    refused = [each for each in done if isinstance(each, PuhuiError)]
    # Neither waits for the other for ever, nor is anything else refused.
    assert {each.reason for each in refused} <= {"MANDATE_REQUIRED"}
    assert all(isinstance(done[number], PuhuiError) for number in after)
    late = await act(world, 0)
    assert isinstance(late, PermissionDeniedError)
    assert late.reason == "MANDATE_REQUIRED"
    async with world.transactions.begin() as work:
        (mandate,) = await work.mandates.lock_subject(await world.subject_id())
    assert state_at(mandate, world.clock.now()) is MandateState.SUSPENDED


async def test_an_act_under_way_is_waited_for(world: Disputing) -> None:
    world.clock.at = NOW + timedelta(minutes=1)
    async with world.transactions.begin() as work:
        assert await work.mandates.hold(world.firm.participant_id)
        telling = asyncio.create_task(world.submit(REGISTRY, change()))
        done, _ = await asyncio.wait([telling], timeout=0.3)
        assert not done
    assert list((await telling).accepted) == [0]
