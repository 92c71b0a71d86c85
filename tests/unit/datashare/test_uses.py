"""What providers are told about the use of their records."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.datashare.china import china_day
from services.datashare.consent.domain import Action
from services.datashare.participants.domain import Participant
from services.datashare.uses.domain import Counted, Use, counted
from services.kit.errors import PuhuiError
from tests.fakes.datashare_world import (
    BANK,
    COURT,
    FIRM,
    NOW,
    OPERATOR,
    TAX,
    World,
    caller,
)

TODAY = china_day(NOW)


@pytest.fixture
def world() -> World:
    return World()


async def uses_of(world: World, provider: Participant) -> list[Use]:
    found, behind = await world.uses(
        caller(provider), provider.participant_id, None, None, None, 100
    )
    assert behind is None
    return list(found)


async def test_each_release_counts_for_those_whose_records_were_in_it(world: World) -> None:
    world.supply("sub_0001", "tax_filing", "par_tax")
    world.supply("sub_0001", "court_case", "par_court")
    consent = await world.granted()
    await world.fetched(world.item(consent), world.item(consent))
    await world.fetched(world.item(consent, record_types=("vat_invoice",)))
    assert await uses_of(world, TAX) == [
        Use(TODAY, "tax_filing", "credit_application", 2),
        Use(TODAY, "vat_invoice", "credit_application", 3),
    ]
    assert await uses_of(world, COURT) == [Use(TODAY, "court_case", "credit_application", 2)]


async def test_a_replay_counts_once_and_a_refusal_never(world: World) -> None:
    consent = await world.granted()
    item = world.item(consent)
    await world.fetched(item, item)
    await world.fetched(item)
    await world.fetched(world.item(consent, purpose="model_training"))
    await world.end(caller(FIRM), consent, Action.WITHDRAW)
    await world.fetched(item)
    assert await uses_of(world, TAX) == [Use(TODAY, "vat_invoice", "credit_application", 1)]


async def test_a_provider_that_the_consent_leaves_out_was_not_used(world: World) -> None:
    world.supply("sub_0001", "vat_invoice", "par_court")
    await world.fetched(world.item(await world.granted()))
    assert await uses_of(world, COURT) == []


async def test_days_and_pages(world: World) -> None:
    consent = await world.granted()
    for _ in range(3):
        await world.fetched(world.item(consent))
        world.clock.advance(timedelta(days=1))
    who = caller(TAX)
    today = date(2026, 5, 1)
    page, behind = await world.uses(who, "par_tax", None, None, None, 2)
    assert [use.day for use in page] == [TODAY + 2, TODAY + 1]
    rest, end = await world.uses(who, "par_tax", None, None, behind, 2)
    assert ([use.day for use in rest], end) == ([TODAY], None)
    middle = today + timedelta(days=1)
    found, _ = await world.uses(who, "par_tax", middle, middle, None, 2)
    assert [use.day for use in found] == [TODAY + 1]


@pytest.mark.parametrize(
    ("who", "provider_id", "first", "last", "reason"),
    [
        (caller(COURT), "par_tax", None, None, "NOT_YOURS"),
        (OPERATOR, "par_nobody", None, None, "NOT_FOUND"),
        (OPERATOR, BANK.participant_id, None, None, "NOT_FOUND"),
        (OPERATOR, "par_tax", date(2026, 5, 2), date(2026, 5, 1), "DATE_INVALID"),
    ],
)
async def test_what_is_not_told(
    world: World, who: object, provider_id: str, first: date, last: date, reason: str
) -> None:
    with pytest.raises(PuhuiError) as refused:
        await world.uses(who, provider_id, first, last, None, 10)  # type: ignore[arg-type]  # parameters are objects
    assert refused.value.reason == reason


def test_the_day_is_that_of_china() -> None:
    assert china_day(datetime(1970, 1, 1, 15, 59, tzinfo=UTC)) == 0
    assert china_day(datetime(1970, 1, 1, 16, 0, tzinfo=UTC)) == 1


def test_uses_are_summed_up_by_provider_type_and_purpose() -> None:
    opened = [
        ("b", "grant", "x", "bank"),
        ("a", "grant", "x", "bank"),
        ("b", "grant", "x", "bank"),
        ("b", "grant", "x", "other"),
    ]
    assert counted(opened, NOW) == [
        Counted("a", Use(TODAY, "grant", "x", 1), "bank"),
        Counted("b", Use(TODAY, "grant", "x", 2), "bank"),
        Counted("b", Use(TODAY, "grant", "x", 1), "other"),
    ]
    assert counted([], NOW) == []
