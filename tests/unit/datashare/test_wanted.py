"""What consents make due from providers, and how it is told."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.datashare.catalogue.loader import load
from services.datashare.consent.domain import Action, Consent, Period
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.wanted.app import PAGE, SIGN_OF_LIFE, Page, TellWanted
from services.datashare.wanted.domain import Item, WantedState
from services.kit.errors import PermissionDeniedError
from tests.fakes.datashare_world import BANK, FIRM, NOW, TERMS, USCC, World, caller
from tests.fakes.standing import set_standing

GRID = Participant("par_grid", Role.PROVIDER, "Grid", "utility", None, False, Standing.ACTIVE, NOW)
FUND = Participant(
    "par_fund", Role.PROVIDER, "Fund", "housing_fund", None, False, Standing.ACTIVE, NOW
)
PERIOD = Period(date(2024, 1, 1), date(2026, 12, 31))
ASKED = {
    "provider_ids": ("par_grid", "par_fund", "par_tax"),
    "record_types": ("utility_bill", "housing_fund", "vat_invoice"),
    "data_period": PERIOD,
}
UNTIL = TERMS.expires_at


class Listener:
    """A stream that is read by hand; `moments` happen while it waits, one after the other."""

    def __init__(self, world: World) -> None:
        self.waits = 0
        self.moments: list[Callable[[], object]] = []
        self._tell = TellWanted(world.transactions, world.clock, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 100
        if self.moments:
            happening = self.moments.pop(0)()
            if hasattr(happening, "__await__"):
                await happening

    def open(self, who: str, position: int = 0, *, follow: bool = False) -> AsyncIterator[Page]:
        return self._tell(who, position, follow=follow)

    async def told(self, who: str, position: int = 0) -> list[Item]:
        return [told.item async for page in self.open(who, position) for told in page.items]


@pytest.fixture
def world() -> World:
    world = World()
    for provider in (GRID, FUND):
        world.transactions.memory.participants[provider.participant_id] = provider
    return world


@pytest.fixture
def listener(world: World) -> Listener:
    return Listener(world)


async def withdraw(world: World, consent: Consent) -> None:
    await world.end(caller(FIRM), consent, Action.WITHDRAW)


class TestWhatIsDue:
    async def test_a_grant_makes_due_what_each_kind_supplies_on_consent(
        self, world: World, listener: Listener
    ) -> None:
        consent = await world.granted(**ASKED)
        bills = Item(
            WantedState.DUE,
            "par_grid",
            "sub_0001",
            "utility_bill",
            consent.core.consent_id,
            PERIOD,
            UNTIL,
            NOW,
        )
        fund = replace(bills, provider_id="par_fund", record_type="housing_fund")
        assert await listener.told("par_grid") == [bills]
        assert await listener.told("par_fund") == [fund]
        # What a tax bureau supplies rests on a law, not on this consent.
        assert await listener.told("par_tax") == []

    async def test_the_provider_is_told_by_which_number_it_knows_the_firm(
        self, world: World, listener: Listener
    ) -> None:
        await world.granted(**ASKED)
        (page,) = [page async for page in listener.open("par_grid")]
        assert [told.uscc for told in page.items] == [USCC]
        world.transactions.memory.subjects.clear()
        assert await listener.told("par_grid") == []

    async def test_a_request_or_its_refusal_makes_nothing_due(
        self, world: World, listener: Listener
    ) -> None:
        for action in (Action.REJECT, Action.WITHDRAW):
            await world.end(caller(FIRM), await world.requested(**ASKED), action)
        assert await listener.told("par_grid") == []

    async def test_it_is_due_from_when_the_consent_begins(
        self, world: World, listener: Listener
    ) -> None:
        begins = NOW + timedelta(days=3)
        await world.granted(**ASKED, not_before=begins)
        (item,) = await listener.told("par_grid")
        assert item.since == begins

    @pytest.mark.parametrize(
        ("who", "action"), [(caller(FIRM), "withdraw"), (caller(BANK), "revoke")]
    )
    async def test_its_end_is_told_in_its_transaction(
        self, world: World, listener: Listener, who: object, action: str
    ) -> None:
        consent = await world.granted(**ASKED)
        pages = listener.open("par_grid", follow=True)
        first = await anext(pages)
        world.clock.advance(timedelta(days=1))
        await world.end(who, consent, Action(action))  # type: ignore[arg-type]  # parameters are objects
        second = await anext(pages)
        (due,), (end,) = first.items, second.items
        assert end.item == replace(due.item, state=WantedState.ENDED, since=NOW + timedelta(days=1))

    async def test_what_is_over_is_not_told_late(self, world: World, listener: Listener) -> None:
        gone, stands = await world.granted(**ASKED), await world.granted(**ASKED)
        await withdraw(world, gone)
        told = await listener.told("par_grid")
        assert [(item.consent_id, item.state) for item in told] == [
            (stands.core.consent_id, WantedState.DUE),
            (gone.core.consent_id, WantedState.ENDED),
        ]
        world.clock.advance(timedelta(days=90))
        assert await listener.told("par_grid") == []

    async def test_nothing_is_due_from_the_firm_about_itself(
        self, world: World, listener: Listener
    ) -> None:
        await world.granted(
            provider_ids=("par_firm", "par_grid"), record_types=("declaration", "utility_bill")
        )
        assert [item.record_type for item in world.transactions.memory.wanted.values()] == [
            "utility_bill"
        ]


class TestStream:
    async def test_it_goes_on_behind_a_position(self, world: World, listener: Listener) -> None:
        consents = [await world.granted(**ASKED) for _ in range(3)]
        (page,) = [page async for page in listener.open("par_grid")]
        assert len(page.items) == 3
        middle = list(world.transactions.memory.wanted)[3]
        rest = await listener.told("par_grid", middle)
        assert [item.consent_id for item in rest] == [consents[2].core.consent_id]
        assert [page async for page in listener.open("par_grid", page.position)] == []

    async def test_it_reads_page_after_page(self, world: World, listener: Listener) -> None:
        (item,) = [
            item for item in (await self._granted_items(world)) if item.provider_id == "par_grid"
        ]
        rows = world.transactions.memory.wanted
        rows.update(dict.fromkeys(range(1000, 1000 + 2 * PAGE), item))
        sizes = [len(page.items) async for page in listener.open("par_grid")]
        assert sizes == [PAGE, PAGE, 1]
        assert listener.waits == 0

    async def test_what_is_skipped_moves_the_position_on(
        self, world: World, listener: Listener
    ) -> None:
        await world.granted(**ASKED)
        world.clock.advance(timedelta(days=90))
        (page,) = [page async for page in listener.open("par_grid")]
        assert page.items == []
        assert [page async for page in listener.open("par_grid", page.position)] == []

    async def test_who_follows_hears_of_what_comes(self, world: World, listener: Listener) -> None:
        pages = listener.open("par_grid", follow=True)
        listener.moments = [lambda: None, lambda: world.granted(**ASKED)]
        page = await anext(pages)
        assert [told.item.state for told in page.items] == [WantedState.DUE]
        assert listener.waits == 2

    async def test_it_gives_a_sign_of_life(self, world: World, listener: Listener) -> None:
        pages = listener.open("par_grid", follow=True)
        assert await anext(pages) == Page([], 0)
        assert listener.waits == SIGN_OF_LIFE - 1

    async def test_it_ends_when_the_provider_is_suspended(
        self, world: World, listener: Listener
    ) -> None:
        async def suspend() -> None:
            async with world.transactions.begin() as work:
                await set_standing(work, "par_grid", Standing.SUSPENDED)

        await world.granted(**ASKED)
        pages = listener.open("par_grid", follow=True)
        await anext(pages)
        listener.moments = [suspend, lambda: world.granted(**ASKED)]
        with pytest.raises(PermissionDeniedError) as ended:
            await anext(pages)
        assert ended.value.reason == "PARTICIPANT_SUSPENDED"
        with pytest.raises(PermissionDeniedError):
            await anext(listener.open("par_grid"))

    @staticmethod
    async def _granted_items(world: World) -> list[Item]:
        await world.granted(**ASKED)
        return list(world.transactions.memory.wanted.values())


def test_every_type_on_consent_can_be_due_from_somebody() -> None:
    catalogue = load()
    assert {"utility_bill", "bank_flow", "field_visit"} <= catalogue.on_consent
    for name in catalogue.on_consent:
        assert catalogue.type(name).provider_kinds
