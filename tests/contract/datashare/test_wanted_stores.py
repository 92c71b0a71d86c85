"""One suite for the stores of what is wanted from providers and of what was used."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from services.datashare.consent.domain import Period
from services.datashare.uses.domain import Counted, Use
from services.datashare.wanted.domain import Item, WantedState, ended
from tests.contract.datashare.conftest import Stored

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
GRID = Item(
    WantedState.DUE,
    "par_grid",
    "sub_1",
    "utility_bill",
    "con_1",
    Period(date(2023, 1, 1), date(2026, 12, 31)),
    NOW + timedelta(days=90),
    NOW,
)
WATER = replace(GRID, provider_id="par_water")
BANK = replace(GRID, provider_id="par_bank", record_type="bank_flow")
LATER = replace(GRID, consent_id="con_2", until=NOW + timedelta(days=180))


async def test_a_provider_finds_its_own_items_behind_a_position(stored: Stored) -> None:
    async with stored.begin() as work:
        await work.wanted.append([GRID, WATER])
        await work.wanted.append([])
    async with stored.begin() as work:
        await work.wanted.append([BANK, LATER])
    async with stored.read() as work:
        entries = await work.wanted.after("par_grid", 0, 10)
        assert [entry.item for entry in entries] == [GRID, LATER]
        first, second = entries
        assert first.position < second.position
        assert await work.wanted.after("par_grid", first.position, 10) == [second]
        assert await work.wanted.after("par_grid", 0, 1) == [first]
        assert await work.wanted.after("par_grid", second.position, 10) == []


async def test_what_has_ended_is_marked_and_only_that(stored: Stored) -> None:
    async with stored.begin() as work:
        await work.wanted.append([GRID, WATER, LATER])
    async with stored.begin() as work:
        items = await work.wanted.due_under("sub_1", "con_1")
        assert items == [GRID, WATER]
        await work.wanted.append(ended(items, NOW + timedelta(days=1)))
    async with stored.read() as work:
        entries = await work.wanted.after("par_grid", 0, 10)
        assert await work.wanted.due_under("sub_2", "con_1") == []
    told = [(entry.item.consent_id, entry.item.state, entry.over) for entry in entries]
    assert told == [
        ("con_1", WantedState.DUE, True),
        ("con_2", WantedState.DUE, False),
        ("con_1", WantedState.ENDED, False),
    ]
    assert entries[2].item.since == NOW + timedelta(days=1)


async def test_uses_add_up_over_batches(stored: Stored) -> None:
    bills = Use(20_000, "utility_bill", "credit_application", 2)
    flows = Use(20_001, "bank_flow", "portfolio_review", 1)
    for _ in range(2):
        async with stored.begin() as work:
            await work.uses.append(
                [
                    *(Counted("par_a", use, "bank") for use in (bills, flows)),
                    Counted("par_b", bills, "bank"),
                ]
            )
            await work.uses.append([])
    async with stored.read() as work:
        page = work.uses.page
        found = await page("par_a", first=None, last=None, after=None, limit=10)
        assert found == [flows._replace(releases=2), bills._replace(releases=4)]
        assert await page("par_a", first=20_001, last=None, after=None, limit=10) == found[:1]
        assert await page("par_a", first=None, last=20_000, after=None, limit=10) == found[1:]
        assert await page("par_a", first=None, last=None, after=found[0][:3], limit=10) == found[1:]
        assert await page("par_c", first=None, last=None, after=None, limit=10) == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (None, ["2 a y", "2 b x", "1 a x"]),
        ((2, "a", "y"), ["2 b x", "1 a x"]),
        ((2, "a", "z"), ["2 b x", "1 a x"]),
        ((2, "b", "a"), ["2 b x", "1 a x"]),
        ((2, "b", "x"), ["1 a x"]),
        ((1, "a", "x"), []),
    ],
)
async def test_pages_of_uses(
    stored: Stored, after: tuple[int, str, str] | None, expected: list[str]
) -> None:
    async with stored.begin() as work:
        uses = [Use(1, "a", "x", 1), Use(2, "b", "x", 1), Use(2, "a", "y", 1)]
        await work.uses.append([Counted("par_a", use, "bank") for use in uses])
    async with stored.read() as work:
        found = await work.uses.page("par_a", first=None, last=None, after=after, limit=10)
    assert [f"{use.day} {use.record_type} {use.purpose}" for use in found] == expected
