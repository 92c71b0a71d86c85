"""What holds on PostgreSQL when transactions meet: withdrawals, replays, the feed.

Replicas are independent connections to the same database, so tasks with transactions of their own
race here as two replicas would.
"""

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.datashare.access.domain import Released
from services.datashare.access.store import access
from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.consent.domain import Action, Attestation, Consent, Officer, State
from services.datashare.mandates.domain import registered
from services.datashare.participants.app import Registration
from services.datashare.participants.domain import Role, Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.datashare.quota.store import consent_use
from services.kit.clock import FixedClock
from services.kit.db import Database
from services.kit.errors import AlreadyExistsError, PuhuiError
from tests.contract.datashare.test_stores import access as made
from tests.fakes.replicas import BANK, OPERATOR, Replica

NOW = datetime.now(UTC)


@pytest.fixture
def replica(postgres: Database) -> Replica:
    return Replica(postgres)


async def test_no_release_follows_a_suspension_that_was_acknowledged(
    replica: Replica, postgres: Database
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    moments = random.Random(20181022)
    outcomes: list[bool] = []

    async def fetch(delay: float) -> bool:
        await asyncio.sleep(delay)
        (result,) = await replica.fetched(replica.item(consent))
        return isinstance(result, Released)

    async def suspend(delay: float) -> set[str]:
        await asyncio.sleep(delay)
        await replica.set_standing("par_bank", Standing.SUSPENDED)
        return await releases(postgres, consent.core.consent_id)

    for _ in range(15):
        acknowledged, released = await asyncio.gather(
            suspend(moments.uniform(0, 0.02)),
            asyncio.gather(*(fetch(moments.uniform(0, 0.06)) for _ in range(16))),
        )
        outcomes += released
        assert await releases(postgres, consent.core.consent_id) == acknowledged
        assert len(acknowledged) == sum(outcomes)
        await replica.set_standing("par_bank", Standing.ACTIVE)
    assert set(outcomes) == {True, False}


@pytest.mark.parametrize("act", ["withdraw", "suspend"])
async def test_who_ends_something_gets_its_turn_while_fetches_never_stop(
    replica: Replica, act: str
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    refusals: set[str] = set()
    done = 0

    async def fetch_without_end() -> None:
        nonlocal done
        while not refusals:
            (result,) = await replica.fetched(replica.item(consent))
            done += 1
            if isinstance(result, PuhuiError):
                refusals.add(result.reason)

    async def end() -> None:
        if act == "withdraw":
            await replica.consents.end(
                firm, replica.key(firm), consent.core.consent_id, Action.WITHDRAW, ""
            )
            return
        await replica.set_standing("par_bank", Standing.SUSPENDED)

    fetching = asyncio.gather(*(fetch_without_end() for _ in range(16)))
    while done < 16:  # noqa: ASYNC110 - until all have begun
        await asyncio.sleep(0.01)
    before = done
    async with asyncio.timeout(20):
        await end()
    # Those under way and one round of those that had asked already, not hundreds.
    assert done - before < 100
    await fetching
    expected = "CONSENT_WITHDRAWN" if act == "withdraw" else "PARTICIPANT_SUSPENDED"
    assert refusals == {expected}


async def test_a_suspension_is_dated_after_the_fetches_that_it_waited_for(
    postgres: Database,
) -> None:
    clock = FixedClock(NOW)
    replica = Replica(postgres, clock)
    await replica.populate()
    async with asyncio.TaskGroup() as group, replica.transactions.begin() as fetch:
        await fetch.participants.hold_standings(["par_bank"])
        suspending = group.create_task(replica.set_standing("par_bank", Standing.SUSPENDED))
        await asyncio.sleep(0.1)
        assert not suspending.done()
        clock.at = NOW + timedelta(seconds=3)
    async with replica.transactions.read() as work:
        (entry,) = await work.changes.after(0, 10)
    assert entry.change.kind is ChangeKind.PARTICIPANT_SUSPENDED
    assert entry.change.changed_at == clock.at


async def test_a_firm_is_registered_while_another_account_claims_it(replica: Replica) -> None:
    firm = await replica.populate()
    assert firm.subject_id
    async with replica.transactions.begin() as work:
        mine = await work.mandates.get(firm.participant_id)
        assert mine
        await work.mandates.end([replace(mine, ended_at=NOW)])
    wanted = Registration(Role.FIRM, "n", subject=SubjectName(subject_id=firm.subject_id))
    async with asyncio.timeout(20):
        async with replica.transactions.begin() as claim:
            await claim.mandates.add(registered("man_2", firm.subject_id, "par_other", NOW))
            key = replica.key(OPERATOR)
            registering = asyncio.create_task(replica.directory.register(OPERATOR, key, wanted))
            await asyncio.sleep(0.1)
            assert not registering.done()
        with pytest.raises(AlreadyExistsError, match="somebody speaks for this firm"):
            await registering


async def test_a_version_whose_id_is_less_than_its_predecessors_is_granted_beside_fetches(
    replica: Replica, postgres: Database
) -> None:
    """A clock that was set back makes such ids; who holds both takes the lesser one first."""
    firm = await replica.populate()
    earlier = await replica.granted(firm)
    late = Replica(postgres, FixedClock(NOW - timedelta(minutes=5)))
    consent = await late.asked(firm, supersedes=earlier.core.consent_id)
    assert consent.core.consent_id < earlier.core.consent_id
    async with asyncio.timeout(20):
        async with replica.transactions.begin() as fetch:
            keys = [(each.core.subject_id, each.core.consent_id) for each in (consent, earlier)]
            await fetch.consents.hold(keys[:1])
            granting = asyncio.create_task(replica.granted_as_asked(firm, consent))
            await asyncio.sleep(0.1)
            # The grant has not taken it meanwhile, so nobody waits in a ring.
            held = await asyncio.wait_for(fetch.consents.hold(keys[1:]), 0.5)
        assert held[keys[1]].state is State.ACTIVE
        assert (await granting).state is State.ACTIVE
    async with replica.transactions.read() as work:
        before = await work.consents.get(earlier.core.consent_id, NOW)
    assert before
    assert before.state is State.SUPERSEDED


async def test_a_recipient_attests_while_it_is_to_be_suspended(replica: Replica) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    async with replica.transactions.begin() as work:
        await work.duties.begin(consent)
    attestation = Attestation(NOW, Officer("王", "F-1"), "erased")

    async def attest() -> str:
        with pytest.raises(PuhuiError) as caught:
            await replica.duties.attest(
                BANK, replica.key(BANK), consent.core.consent_id, attestation
            )
        return caught.value.reason

    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
        replica.transactions.begin() as fetch,
    ):
        await fetch.participants.hold_standings(["par_bank"])
        group.create_task(replica.set_standing("par_bank", Standing.SUSPENDED))
        await asyncio.sleep(0.1)
        attesting = group.create_task(attest())
        await asyncio.sleep(0.1)
        # A one-time consent's use brings its duty forward.
        await asyncio.wait_for(fetch.duties.end(consent, NOW), 0.5)
    assert attesting.result() == "PARTICIPANT_SUSPENDED"


async def test_who_holds_many_disputes_does_so_alone(replica: Replica) -> None:
    """Those to be told of are taken in another order than those whose deadlines are reckoned."""

    async def reckon() -> None:
        async with replica.transactions.begin() as work:
            assert await work.disputes.provisional("", 10) == []

    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
        replica.transactions.begin() as remind,
    ):
        assert list(await remind.disputes.waiting(NOW, 10)) == []
        reckoning = group.create_task(reckon())
        await asyncio.sleep(0.1)
        assert not reckoning.done()


async def releases(database: Database, consent_id: str) -> set[str]:
    async with database.read() as conn:
        found = await conn.execute(
            sa.select(access.c.access_id).where(
                access.c.consent_id == consent_id, access.c.outcome == "RELEASED"
            )
        )
        return set(found.scalars())


async def blocked(database: Database, count: int) -> None:
    """Return once so many transactions wait for others."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    waiting = 0
    async with asyncio.timeout(10):
        while waiting < count:
            await asyncio.sleep(0.01)
            async with database.read() as conn:
                waiting = await conn.scalar(query) or 0


async def test_batches_over_the_same_consents_do_not_wait_for_each_other_in_a_ring(
    replica: Replica, postgres: Database
) -> None:
    """Two batches stop half-way at one consent, while the first and the last are withdrawn."""
    firm = await replica.populate()
    consents = [await replica.granted(firm) for _ in range(3)]
    first, middle, last = sorted(consents, key=lambda consent: consent.core.consent_id)

    async def end(consent: Consent) -> None:
        await replica.consents.end(
            firm, replica.key(firm), consent.core.consent_id, Action.WITHDRAW, ""
        )

    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as group,
        replica.transactions.begin() as work,
    ):
        assert await work.consents.lock(middle.core.consent_id, NOW)
        batches = [
            group.create_task(replica.fetched(*map(replica.item, batch)))
            for batch in ((first, middle, last), (last, middle, first))
        ]
        await blocked(postgres, len(batches))
        group.create_task(end(first))
        await end(last)
        await blocked(postgres, len(batches) + 1)

    # Who is the victim of a deadlock goes again unnoticed.
    assert replica.conflicts == []
    reasons = [
        ["RELEASED" if isinstance(result, Released) else result.reason for result in batch.result()]
        for batch in batches
    ]
    # The first was held by both when its withdrawal came, the last by none: else PostgreSQL had to
    # break a ring, by letting one pass another.
    assert reasons == [
        ["RELEASED", "RELEASED", "CONSENT_WITHDRAWN"],
        ["CONSENT_WITHDRAWN", "RELEASED", "RELEASED"],
    ]


async def test_a_request_sent_many_times_at_once_is_one_access(
    replica: Replica, postgres: Database
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    item = replica.item(consent, "once")
    results = await asyncio.gather(*(replica.fetched(item) for _ in range(12)))
    ids = {result.access_id for (result,) in results if isinstance(result, Released)}
    assert all(isinstance(result, Released) for (result,) in results)
    assert await releases(postgres, consent.core.consent_id) == ids
    assert len(ids) == 1


async def test_a_request_sent_many_times_at_once_uses_a_one_time_consent_once(
    replica: Replica, postgres: Database
) -> None:
    firm = await replica.populate()
    for _ in range(5):
        consent = await replica.granted(firm, ONE_TIME)
        item = replica.item(consent)
        results = await asyncio.gather(*(replica.fetched(item) for _ in range(6)))
        # None of them is told that the consent was used, by itself.
        assert {type(result) for (result,) in results} == {Released}
        assert len(await releases(postgres, consent.core.consent_id)) == 1
    async with postgres.read() as conn:
        outcomes = set(await conn.scalars(sa.select(access.c.outcome)))
        used = set(await conn.scalars(sa.select(consent_use.c.used)))
    assert outcomes == {"RELEASED"}
    assert used == {1}


@pytest.mark.parametrize("limit", [ONE_TIME, Limit(7, Unit.DAY)])
async def test_no_more_than_the_limit_is_released_on_all_replicas_together(
    replica: Replica, postgres: Database, migrated_postgres_url: str, limit: Limit
) -> None:
    second_database = Database.open(migrated_postgres_url, pool_size=10)
    replicas = (replica, Replica(second_database))
    firm = await replica.populate()
    consents = [await replica.granted(firm, limit) for _ in range(2)]

    async def fetch(number: int) -> list[str]:
        # Batches over the same consents in either order, and each request sent twice.
        items = [replica.item(consent, f"r{number // 2}.{i}") for i, consent in enumerate(consents)]
        if number % 3:
            items.reverse()
        results = await replicas[number % 2].fetched(*items)
        return ["" if isinstance(result, Released) else result.reason for result in results]

    outcomes = await asyncio.gather(*(fetch(number) for number in range(32)))
    await second_database.close()
    reason = "QUOTA_EXHAUSTED" if limit.unit else "CONSENT_CONSUMED"
    assert {outcome for batch in outcomes for outcome in batch} == {"", reason}
    for consent in consents:
        assert len(await releases(postgres, consent.core.consent_id)) == limit.times
    async with postgres.read() as conn:
        used = list(await conn.scalars(sa.select(consent_use.c.used)))
    assert used == [limit.times] * 2


async def test_a_use_that_waits_for_its_request_keeps_nobody_from_the_feed(
    replica: Replica,
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm, ONE_TIME)
    fetching = None
    with contextlib.suppress(ZeroDivisionError):
        async with replica.transactions.begin() as elsewhere:
            await elsewhere.accesses.append([made(1, recipient_id="par_bank", request_id="r")])
            fetching = asyncio.create_task(replica.fetched(replica.item(consent, "r")))
            await asyncio.sleep(0.2)
            assert not fetching.done()
            async with asyncio.timeout(2), replica.transactions.begin() as other:
                await other.changes.append([Change(ChangeKind.KEY_REVOKED, NOW, key_id="k")])
            raise ZeroDivisionError  # it is rolled back
    assert fetching
    (result,) = await fetching
    assert isinstance(result, Released)


async def test_one_id_with_two_bodies_at_once_is_one_access_and_a_refusal(
    replica: Replica, postgres: Database
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    item = replica.item(consent, "twice")
    other = replace(item, fetch=replace(item.fetch, fingerprint=b"g" * 32))
    (first,), (second,) = await asyncio.gather(replica.fetched(item), replica.fetched(other))
    assert sum(isinstance(result, AlreadyExistsError) for result in (first, second)) == 1
    assert len(await releases(postgres, consent.core.consent_id)) == 1


async def test_what_the_database_does_not_take_fails_alone(
    replica: Replica, postgres: Database
) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)
    items = [replica.item(consent) for _ in range(40)]
    for index in (7, 21):
        items[index] = replace(
            items[index], fetch=replace(items[index].fetch, file_reference="a\x00b")
        )
    results = await replica.fetched(*items)
    assert [index for index, result in enumerate(results) if not isinstance(result, Released)] == [
        7,
        21,
    ]
    for index in (7, 21):
        failure = results[index]
        assert isinstance(failure, PuhuiError)
        assert failure.reason == "INTERNAL"
        assert failure.__cause__ is not None
    ids = {result.access_id for result in results if isinstance(result, Released)}
    assert await releases(postgres, consent.core.consent_id) == ids


async def test_a_write_sent_many_times_at_once_happens_once(replica: Replica) -> None:
    firm = await replica.populate()
    consent = await replica.granted(firm)

    async def withdraw() -> Consent:
        return await replica.consents.end(
            firm, replica.key(firm, "w"), consent.core.consent_id, Action.WITHDRAW, ""
        )

    answers = await asyncio.gather(*(withdraw() for _ in range(10)))
    assert len(set(answers)) == 1
    async with replica.transactions.read() as work:
        kinds = [entry.change.kind for entry in await work.changes.after(0, 100)]
    assert kinds.count(ChangeKind.CONSENT_WITHDRAWN) == 1


async def test_the_feed_skips_nothing_while_many_write(replica: Replica) -> None:
    writers, each = 12, 10
    done = asyncio.Event()

    async def write(number: int) -> None:
        for n in range(each):
            async with replica.transactions.begin() as work:
                change = Change(ChangeKind.KEY_REVOKED, NOW, key_id=f"{number}.{n}")
                await work.changes.append([change])
                await asyncio.sleep(0.001 * (number % 4))

    async def follow() -> list[str]:
        seen, position = [], 0
        while True:
            finished = done.is_set()
            async with replica.transactions.read() as work:
                entries = await work.changes.after(position, 1000)
            seen += [entry.change.key_id for entry in entries]
            position = entries[-1].position if entries else position
            if finished:
                return seen

    follower = asyncio.create_task(follow())
    await asyncio.gather(*(write(number) for number in range(writers)))
    done.set()
    seen = await follower
    assert len(seen) == writers * each
    assert set(seen) == {f"{number}.{n}" for number in range(writers) for n in range(each)}
