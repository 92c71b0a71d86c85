"""What is due to be decided again, on the fake, SQLite and PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from services.kit import transactions
from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions
from services.kit.identity import Caller
from services.kit.migrations import upgrade
from services.scoring.decisions.app import Decisions
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Entered,
    Inputs,
    Linked,
    Order,
    Outcome,
)
from services.scoring.decisions.store import DecisionStore
from services.scoring.features.domain import Coverage, FeatureVector, Relation
from services.scoring.reevaluations.app import (
    SETTLED,
    DisputedSince,
    Follow,
    ListReevaluations,
    Reevaluations,
)
from services.scoring.reevaluations.domain import Cause, Correction, Reevaluation, Standing
from services.scoring.reevaluations.store import ReevaluationStore, correction
from tests.fakes.decisions import FakeWork
from tests.fakes.reevaluations import FakeFeed, FakeReevaluationWork

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TREE = Path(__file__).parents[3] / "services" / "scoring" / "migrations"
BANK = Caller("par_bank", "BANK")


class Bench(NamedTuple):
    """What a test works with."""

    work: transactions.Transactions[Decisions]
    kept: transactions.Transactions[Reevaluations]
    feed: FakeFeed
    clock: FixedClock
    stored: Callable[[], Awaitable[int]]

    @property
    def follow(self) -> Follow:
        return Follow(self.feed, self.kept, self.clock)

    async def decided(self, *made: Decision) -> None:
        async with self.work.begin() as decisions:
            await decisions.add(made)

    async def listed(self, who: Caller = BANK, page_size: int = 100) -> list[Reevaluation]:
        found: list[Reevaluation] = []
        after = ""
        while True:
            page, after = await ListReevaluations(self.kept)(who, after, page_size)
            found += page
            if not after:
                return found

    async def ids(self, who: Caller = BANK, page_size: int = 100) -> list[str]:
        return [each.decision.decision_id for each in await self.listed(who, page_size)]


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    feed, clock = FakeFeed(), FixedClock(NOW)
    if request.param == "fake":
        work = FakeWork()
        kept = FakeReevaluationWork(work.decisions)

        async def count() -> int:
            return len(kept.kept.corrections)

        yield Bench(work, kept, feed, clock, count)
        return
    url = (
        f"sqlite:///{tmp_path}/scoring.db"
        if request.param == "sqlite"
        else request.getfixturevalue("migrated_copy")(TREE)
    )
    upgrade(url, TREE)
    database = Database.open(url)

    async def stored() -> int:
        async with database.read() as conn:
            query = sa.select(sa.func.count()).select_from(correction)
            return await conn.scalar(query) or 0

    yield Bench(
        Transactions(database, DecisionStore),
        Transactions(database, ReevaluationStore),
        feed,
        clock,
        stored,
    )
    await database.close()


def decision(number: int, as_of: datetime = NOW, **changes: Any) -> Decision:
    asked = changes.pop("asked_as_of", None)
    subject_id = changes.pop("subject_id", "sub_1")
    made = Decision(
        decision_id=f"dec_{number:04}",
        caller_id="par_bank",
        order=Order(f"r{number}", subject_id, "con_1", "credit_application", asked),
        access_id="acc_1",
        as_of=as_of,
        decided_at=as_of,
        model_version="v1",
        model_class="SIMULATED",
        inputs=Inputs(2, ("sold",), ("log_cny",)),
        features=FeatureVector((0.5,), (None,)),
        coverage={"vat_invoice": Coverage.SUPPLIED, "tax_filing": Coverage.NOT_CONSENTED},
        notices=(),
        outcome=Outcome(0.1, 600, "B", 600.0, {}, ()),
        sources=frozenset({("vat_invoice", "par_tax")}),
    )
    return replace(made, **changes)


def corrected(after: timedelta, **changes: Any) -> Correction:
    made = Correction("sub_1", "vat_invoice", "par_tax", NOW + after, Cause.RECORD_CORRECTED)
    return replace(made, **changes)


HOUR = timedelta(hours=1)


async def test_a_decision_on_what_was_corrected_since_is_due(bench: Bench) -> None:
    await bench.decided(decision(1), decision(2, NOW + 2 * HOUR, caller_id="par_other"))
    bench.feed.changes = [None, corrected(HOUR), None]
    await bench.follow()
    assert await bench.listed() == [Reevaluation(decision(1), Cause.RECORD_CORRECTED, NOW + HOUR)]
    assert await bench.listed(Caller("par_other", "BANK")) == []


async def test_a_newer_decision_takes_it_off(bench: Bench) -> None:
    await bench.decided(decision(1))
    bench.feed.changes = [corrected(HOUR)]
    await bench.follow()
    await bench.decided(decision(2, NOW + HOUR / 2))  # from before the correction, as it were
    assert await bench.ids() == ["dec_0001", "dec_0002"]
    await bench.decided(decision(3, NOW + 2 * HOUR, caller_id="par_other"))
    assert await bench.ids() == ["dec_0001", "dec_0002"]
    await bench.decided(decision(4, NOW + HOUR))
    assert await bench.ids() == []
    bench.feed.changes.append(corrected(2 * HOUR, cause=Cause.RECORD_REPAIRED))
    await bench.follow()
    assert "dec_0004" in await bench.ids()


@pytest.mark.parametrize(
    "change",
    [
        {"subject_id": "sub_2"},
        {"record_type": "court_case"},
        {"provider_id": "par_tax2"},
        {"changed_at": NOW},  # the decision has read it
    ],
)
async def test_what_did_not_count_makes_nothing_due(bench: Bench, change: Any) -> None:
    await bench.decided(decision(1))
    bench.feed.changes = [corrected(HOUR, **change)]
    await bench.follow()
    assert await bench.ids() == []


async def test_of_an_older_decision_the_types_alone_are_known(bench: Bench) -> None:
    await bench.decided(decision(1, sources=None))
    bench.feed.changes = [
        corrected(HOUR, record_type="tax_filing"),
        corrected(2 * HOUR, provider_id="par_tax2"),
    ]
    await bench.follow()
    (due,) = await bench.listed()
    assert due.due_since == NOW + 2 * HOUR


async def test_a_decision_as_of_the_past_is_due_by_when_it_was_made(bench: Bench) -> None:
    past = NOW - 100 * HOUR
    await bench.decided(
        decision(1, past, asked_as_of=past, decided_at=NOW),
        decision(2, past, asked_as_of=past, decided_at=NOW + 2 * HOUR),
    )
    bench.feed.changes = [corrected(HOUR)]
    await bench.follow()
    # The second was made knowing better, and is about the past; so it is not what the first needs.
    assert await bench.ids() == ["dec_0001"]


async def test_a_decision_that_is_stored_late_is_due_all_the_same(bench: Bench) -> None:
    bench.feed.changes = [corrected(HOUR)]
    await bench.follow()
    await bench.decided(decision(1))
    assert await bench.ids() == ["dec_0001"]


async def test_the_first_of_several_corrections_tells_since_when(bench: Bench) -> None:
    mark = DisputeMark("dis_1", "vat_invoice", "par_tax", 202604, "net", "OPEN", "Wrong.")
    await bench.decided(decision(1, disputes=(mark,)))
    bench.feed.changes = [
        corrected(2 * HOUR, cause=Cause.RECORD_RETRACTED),
        corrected(HOUR, cause=Cause.RECORD_REPAIRED),
        corrected(HOUR, cause=Cause.RECORD_REPAIRED),
    ]
    await bench.follow()
    (due,) = await bench.listed()
    assert (due.cause, due.due_since) == (Cause.RECORD_REPAIRED, NOW + HOUR)
    assert due.dispute_id == "dis_1"
    assert due.decision.disputes == (mark,)


def beside(number: int, read_at: datetime = NOW, **changes: Any) -> Decision:
    """A decision about sub_1 in which data of its guarantor sub_2 counted."""
    mark = DisputeMark("dis_2", "tax_filing", "par_tax", 202604, "paid", "OPEN", "Wrong.")
    guarantor = Linked(Relation.GUARANTOR, "sub_2", "con_2")
    entered = Entered(
        guarantor,
        "acc_2",
        read_at,
        0.2,
        disputes=(mark,),
        sources=frozenset({("tax_filing", "par_tax")}),
    )
    ignored = Entered(Linked(Relation.OWNER, "sub_3", "con_3"))
    made = decision(number, read_at, linked=(entered, ignored), **changes)
    order = replace(made.order, linked=(guarantor, ignored.linked))
    return replace(made, order=order)


async def test_a_correction_about_a_linked_subject_makes_the_firm_s_decision_due(
    bench: Bench,
) -> None:
    await bench.decided(beside(1), decision(2))
    bench.feed.changes = [
        corrected(HOUR, subject_id="sub_2", record_type="tax_filing"),
        corrected(HOUR, subject_id="sub_2", record_type="court_case"),
        corrected(HOUR, subject_id="sub_3", record_type="tax_filing"),
        # Of the firm itself this type did not count.
        corrected(HOUR, record_type="tax_filing"),
    ]
    await bench.follow()
    assert await bench.listed() == [
        Reevaluation(beside(1), Cause.RECORD_CORRECTED, NOW + HOUR, "dis_2")
    ]
    bench.clock.advance(SETTLED * 3)
    await bench.follow.settle()
    assert await bench.ids() == ["dec_0001"]
    await bench.decided(decision(4, NOW + 2 * HOUR))
    assert await bench.ids() == []
    await bench.follow.settle()
    assert await bench.stored() == 0


@pytest.mark.parametrize(("asked_as_of", "due"), [(None, ["dec_0001"]), (NOW - 9 * HOUR, [])])
async def test_what_a_linked_subject_s_data_was_read_after_makes_nothing_due(
    bench: Bench, asked_as_of: datetime | None, due: list[str]
) -> None:
    # A past was read when it was decided, after the correction.
    await bench.decided(beside(1, asked_as_of=asked_as_of, decided_at=NOW + 2 * HOUR))
    bench.feed.changes = [corrected(HOUR, subject_id="sub_2", record_type="tax_filing")]
    await bench.follow()
    assert await bench.ids() == due


def disputed(dispute_id: str = "dis_1", **changes: Any) -> Standing:
    return replace(Standing(dispute_id, "sub_1", "vat_invoice", "par_tax"), **changes)


async def test_a_decision_that_is_read_again_knows_of_disputes_since(bench: Bench) -> None:
    mark = DisputeMark("dis_1", "vat_invoice", "par_tax", 202604, "net", "OPEN", "Wrong.")
    plain, marked = decision(1), decision(2, disputes=(mark,))
    since = DisputedSince(bench.kept)
    assert await since([]) == await since([plain, marked]) == set()
    bench.feed.changes = [disputed()]
    await bench.follow()
    assert await since([plain, marked]) == {"dec_0001"}
    bench.feed.changes += [disputed("dis_2"), disputed(stands=False), disputed("dis_2")]
    await bench.follow()
    assert await since([plain, marked]) == {"dec_0001", "dec_0002"}
    bench.feed.changes += [disputed("dis_2", stands=False), corrected(HOUR)]
    await bench.follow()
    assert await since([plain, marked]) == set()


async def test_disputes_about_linked_subjects_are_found_as_well(bench: Bench) -> None:
    since = DisputedSince(bench.kept)
    of_guarantor = disputed("dis_9", subject_id="sub_2", record_type="tax_filing")
    bench.feed.changes = [
        replace(of_guarantor, dispute_id="dis_2"),  # the decision tells of it
        replace(of_guarantor, dispute_id="dis_3", record_type="court_case"),
        replace(of_guarantor, dispute_id="dis_4", subject_id="sub_3"),
        replace(of_guarantor, dispute_id="dis_5", subject_id="sub_1"),
    ]
    await bench.follow()
    assert await since([beside(1)]) == set()
    bench.feed.changes.append(of_guarantor)
    await bench.follow()
    assert await since([beside(1)]) == {"dec_0001"}
    # As the firm reads it, which is told nothing of its guarantor.
    assert await since([replace(beside(1), linked=())]) == set()


async def test_of_a_subject_that_was_erased_no_dispute_stands(bench: Bench) -> None:
    gone = Standing("", "sub_1", "", "", stands=False)
    bench.feed.changes = [
        disputed(),
        disputed("dis_2", subject_id="sub_2"),
        disputed("dis_3"),
        gone,
    ]
    await bench.follow()
    found = await DisputedSince(bench.kept)([decision(1), decision(2, subject_id="sub_2")])
    assert found == {"dec_0002"}


@pytest.mark.parametrize(
    "change", [{"subject_id": "sub_2"}, {"record_type": "court_case"}, {"provider_id": "par_tax2"}]
)
async def test_a_dispute_about_what_did_not_count_is_none_of_a_decision(
    bench: Bench, change: Any
) -> None:
    bench.feed.changes = [disputed(**change)]
    await bench.follow()
    assert await DisputedSince(bench.kept)([decision(1)]) == set()


async def test_two_replicas_read_the_feed_once(bench: Bench) -> None:
    await bench.decided(decision(1))
    bench.feed.changes = [corrected(minute * HOUR / 60) for minute in range(1, 30)]
    await asyncio.gather(bench.follow(), bench.follow(), bench.follow())
    assert await bench.stored() == 29
    assert await bench.ids() == ["dec_0001"]
    async with bench.kept.read() as kept:
        assert await kept.cursor() == "29"


async def test_what_is_settled_is_forgotten_and_what_is_due_is_not(bench: Bench) -> None:
    await bench.decided(decision(1), decision(2, subject_id="sub_2"))
    bench.feed.changes = [
        corrected(HOUR),
        corrected(HOUR, subject_id="sub_2"),
        corrected(HOUR, subject_id="sub_nobody"),
        corrected(5 * HOUR, subject_id="sub_nobody"),
    ]
    await bench.follow()
    await bench.decided(decision(3, NOW + 2 * HOUR, subject_id="sub_2"))
    bench.clock.advance(2 * HOUR + SETTLED)
    await bench.follow.settle()
    assert await bench.stored() == 2
    assert await bench.ids() == ["dec_0001"]


@pytest.mark.parametrize("seed", range(5))
async def test_every_decision_made_before_is_listed_exactly_once(bench: Bench, seed: int) -> None:
    """In whatever order decisions are stored, the feed is read, and readers die or meet."""
    chance = random.Random(seed)
    sources = (("vat_invoice", "par_tax"), ("court_case", "par_court"))
    made: list[Decision] = []
    for number in range(60):
        at = NOW + timedelta(minutes=chance.randrange(300))
        kept = frozenset(chance.sample(sources, chance.randrange(1, 3)))
        subject_id = f"sub_{chance.randrange(20)}"
        made.append(decision(number, at, subject_id=subject_id, sources=kept))
    changes = [
        Correction(
            f"sub_{chance.randrange(20)}",
            *chance.choice(sources),
            NOW + timedelta(minutes=minute),
            chance.choice(list(Cause)),
        )
        for minute in sorted(chance.sample(range(600), 20))
    ]
    waiting = list(made)
    chance.shuffle(waiting)
    for change in changes:
        bench.feed.changes += [None, change]
        for _ in range(chance.randrange(8)):
            if waiting:
                await bench.decided(waiting.pop())
        for _ in range(chance.randrange(3)):
            await bench.follow.step()
    await bench.decided(decision(60, NOW, subject_id="sub_else"), *waiting)
    await bench.follow()

    def newest(of: Decision) -> datetime:
        return max(each.as_of for each in made if each.order.subject_id == of.order.subject_id)

    expected = [
        each.decision_id
        for each in made
        if any(
            change.subject_id == each.order.subject_id
            and (change.record_type, change.provider_id) in (each.sources or ())
            and each.as_of < change.changed_at
            and newest(each) < change.changed_at
            for change in changes
        )
    ]
    assert len(expected) > 3
    for page_size in (1, 7, 100):
        assert await bench.ids(page_size=page_size) == expected
