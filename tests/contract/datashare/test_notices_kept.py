"""Notices that are kept no longer: which go with a run of retention, and what is said of them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.datashare.china import china_day
from services.datashare.idempotency.domain import RequestKey
from services.datashare.notices.app import TellNotices
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.texts import load as load_texts
from services.datashare.notices.webhooks import Webhook
from services.datashare.retention.domain import Due, Reason, Run
from services.kit.db import Database
from services.kit.errors import InvalidArgumentError
from services.kit.identity import Caller
from tests.fakes.datashare_records import NOW, Datashare

BANK, OTHER = Caller("par_bank", "BANK"), Caller("par_other", "BANK")
GRANTED = Notice("par_bank", NoticeKind.CONSENT_GRANTED, NOW, subject_id="sub_1")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two databases."""
    found: Database = request.getfixturevalue(request.param)
    return found


class Office(Datashare):
    """What is told over the years."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.tell = TellNotices(self.transactions, load_texts(self.catalogue), self.clock, _nap)

    async def happen(self, *consent_ids: str, party_id: str = "par_bank") -> None:
        for consent_id in consent_ids:
            notice = replace(GRANTED, occurred_at=self.clock.now(), consent_id=consent_id)
            async with self.transactions.begin() as work:
                await work.notices.append([replace(notice, party_id=party_id)])

    async def kept(self, who: Caller = BANK, position: int = 0) -> list[str]:
        async with self.transactions.read() as work:
            found = await work.notices.after(who.participant_id, position, 100)
        return [entry.notice.consent_id for entry in found]

    async def position(self, consent_id: str, who: Caller = BANK) -> int:
        async with self.transactions.read() as work:
            found = await work.notices.after(who.participant_id, 0, 100)
        return next(each.position for each in found if each.notice.consent_id == consent_id)

    async def run(self, name: str = "r1") -> Run:
        plan = await self.retention.plan()
        done = await self.retention.run(RequestKey("operator", name, b"f" * 32), plan.plan_id)
        assert done.deleted == plan.due
        return done


async def _nap(seconds: float) -> None:
    raise AssertionError(seconds)


@pytest.fixture
async def office(database: Database) -> Office:
    return Office(database)


def due(notices: int) -> tuple[Due, ...]:
    return (Due("notice", "", Reason.EXPIRED, notices, notices, 0),)


async def test_what_was_acknowledged_goes_after_its_time_and_the_rest_after_the_longest(
    office: Office,
) -> None:
    keeping = office.stores.keeping
    await office.happen("a", "b", "c")
    await office.happen("x", party_id="par_other")
    first, second = await office.position("a"), await office.position("b")
    await office.tell.acknowledge(BANK, second)
    office.clock.advance(timedelta(days=keeping.dealt_with))
    assert (await office.retention.plan()).due == ()
    office.clock.advance(timedelta(days=1))
    await office.happen("d")
    assert (await office.run()).deleted == due(2)
    assert await office.kept() == ["c", "d"]
    assert await office.kept(OTHER) == ["x"]

    with pytest.raises(InvalidArgumentError) as refused:
        await anext(office.tell.stream(BANK, first, follow=False))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"
    assert "begin without one" in refused.value.fields[0].problem
    for position in (second, None):
        page = await anext(office.tell.stream(BANK, position, follow=False))
        assert [told.entry.notice.consent_id for told in page.notices] == ["c", "d"]

    office.clock.advance(timedelta(days=keeping.longest - keeping.dealt_with))
    assert (await office.run("r2")).deleted == due(2)
    assert (await office.kept(), await office.kept(OTHER)) == (["d"], [])
    # What was told may be acknowledged, kept or not.
    await office.tell.acknowledge(OTHER, await _pruned(office, OTHER))


async def test_what_a_webhook_took_is_dealt_with(office: Office) -> None:
    await office.happen("a", "b")
    webhook = Webhook("par_bank", "par_bank", "https://b.example/", b"s" * 32, NOW, 0, NOW)
    async with office.transactions.begin() as work:
        await work.webhooks.set(replace(webhook, position=await office.position("a")))
    office.clock.advance(timedelta(days=office.stores.keeping.dealt_with + 1))
    await office.run()
    assert await office.kept() == ["b"]


async def test_nothing_goes_from_behind_something_that_is_kept(office: Office) -> None:
    await office.happen("new")
    async with office.transactions.begin() as work:
        long_ago = NOW - timedelta(days=2 * office.stores.keeping.longest)
        await work.notices.append([replace(GRANTED, occurred_at=long_ago, consent_id="told late")])
    assert (await office.retention.plan()).due == ()
    await office.run()
    assert await office.kept() == ["new", "told late"]


async def test_many_go_bit_by_bit(office: Office) -> None:
    await office.happen(*map(str, range(7)))
    await office.happen("x", party_id="par_other")
    office.clock.advance(timedelta(days=office.stores.keeping.longest + 1))
    day = china_day(office.clock.now())
    gone = []
    for _ in range(4):
        async with office.transactions.begin() as work:
            gone.append(await work.old_notices.delete(day, 3))
    assert gone == [3, 3, 2, 0]
    assert await _pruned(office, BANK) > 0


async def _pruned(office: Office, who: Caller) -> int:
    async with office.transactions.read() as work:
        return await work.notices.pruned(who.participant_id)
