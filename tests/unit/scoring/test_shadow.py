"""Scoring in the shadow: whatever challengers do, nobody waits, and what they missed is counted."""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from services.kit.clock import FixedClock
from services.scoring.decisions.domain import Decision, Inputs, Order, Outcome
from services.scoring.features.domain import FeatureVector, FirmSummary
from services.scoring.shadow.app import Shadow, TellShadow
from services.scoring.shadow.domain import Loss, Pair, quantiles
from tests.fakes.decisions import INPUTS
from tests.fakes.shadow import FakeMeter, FakeShadowWork, Tempered

NOW = datetime(2026, 11, 23, 17, tzinfo=UTC)
DAY = date(2026, 11, 24)  # it is one o'clock in China
SUMMARY = FirmSummary((), {})
OTHER_INPUTS = Inputs(1, ("series",), ("count",))


def made(number: int, *, sold: float = 0.5, by: str = "champion") -> tuple[Decision, FirmSummary]:
    decision = Decision(
        decision_id=f"dec_{number}",
        caller_id="par_bank",
        order=Order(f"r{number}", "sub_1", "con_1", "credit_application"),
        access_id="acc_1",
        as_of=NOW,
        decided_at=NOW,
        model_version=by,
        model_class="VALIDATED",
        inputs=INPUTS,
        features=FeatureVector((sold, 1.0), (None, None)),
        coverage={},
        notices=(),
        outcome=Outcome(0.03, 600, "B", 600.0, {}, ()),
    )
    return decision, SUMMARY


class Stage:
    """A shadow, its challengers, and what became of it."""

    def __init__(self, *challengers: Tempered, queue: int = 1_000, patience: float = 5.0) -> None:
        self.challengers = list(challengers)
        self.work = FakeShadowWork()
        self.meter = FakeMeter()
        self.clock = FixedClock(NOW)
        self.shadow = Shadow(
            lambda: self.challengers,
            self.work,
            self.meter,
            self.clock,
            queue=queue,
            patience=patience,
            kept=timedelta(days=30),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.shadow.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def settled(self, count: int) -> None:
        """Wait until so many decisions were scored or lost."""
        for _ in range(1_000):
            loss = sum(self.work.differences.losses.values(), Loss())
            if len(self.work.differences.kept) + loss.dropped + loss.failed >= count:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it does not settle")

    def loss(self, challenger: str) -> Loss:
        losses = self.work.differences.losses
        return sum((each for pair, each in losses.items() if pair.challenger == challenger), Loss())

    def scored(self, challenger: str) -> list[str]:
        return [
            decision_id for name, decision_id in self.work.differences.kept if name == challenger
        ]


async def test_a_challenger_says_what_it_would_have_said() -> None:
    stage = Stage(Tempered("better", points=20), Tempered("other", inputs=OTHER_INPUTS, points=-5))
    async with stage.running():
        stage.shadow.offer([made(1), made(2)])
        await stage.settled(4)
    report = await TellShadow(stage.work)("better", "champion", None)
    assert report.all.scored == 2
    assert (report.all.mean, report.all.quantiles[0.5], report.all.agreement) == (20, 20, 0)
    assert report.all.pd_difference == pytest.approx(-0.01)
    assert report.grades == {("B", "A"): 2}
    assert set(report.days) == {DAY}
    assert stage.meter.decisions == 4
    assert (await TellShadow(stage.work)("other", "champion", None)).all.agreement == 1


async def test_a_model_is_not_compared_with_itself() -> None:
    stage = Stage(Tempered("shadow"))
    async with stage.running():
        stage.shadow.offer([made(1, by="shadow"), made(2)])
        await stage.settled(1)
    assert stage.scored("shadow") == ["dec_2"]


async def test_an_expert_model_claims_no_pd_in_the_shadow_either() -> None:
    stage = Stage(Tempered("judged", model_class="EXPERT"))
    async with stage.running():
        stage.shadow.offer([made(1)])
        await stage.settled(1)
    [difference] = stage.work.differences.kept.values()
    assert (difference.pd_challenger, difference.pd_answered) == (None, 0.03)


async def test_without_a_challenger_nothing_is_held() -> None:
    stage = Stage()
    stage.shadow.offer([made(1)])
    stage.challengers.append(Tempered("late"))
    async with stage.running():
        stage.shadow.offer([made(2)])
        await stage.settled(1)
    assert stage.scored("late") == ["dec_2"]


async def test_one_that_fails_harms_no_other_and_loses_only_what_it_fails_on() -> None:
    picky, blind, fine = (
        Tempered("picky", fails_on=0.25),
        Tempered("blind", inputs=OTHER_INPUTS, reads_badly=True),
        Tempered("fine"),
    )
    stage = Stage(picky, blind, fine)
    async with stage.running():
        stage.shadow.offer([made(1), made(2, sold=0.25), made(3)])
        await stage.settled(9)
    assert stage.scored("picky") == ["dec_1", "dec_3"]
    assert stage.scored("fine") == ["dec_1", "dec_2", "dec_3"]
    assert stage.loss("picky") == Loss(failed=1)
    assert stage.loss("blind") == Loss(failed=3)
    assert stage.loss("fine") == Loss()
    assert stage.meter.loss == Loss(failed=4)
    assert stage.meter.told == [
        "picky failed: ZeroDivisionError",
        "blind failed: ZeroDivisionError",
    ]


async def test_one_that_hangs_keeps_nobody_waiting_and_what_has_no_room_is_dropped() -> None:
    back = threading.Event()
    stage = Stage(Tempered("stuck", hangs=back), Tempered("fine"), queue=10, patience=0.2)
    async with stage.running():
        stage.shadow.offer([made(0)])
        await asyncio.sleep(0.05)  # it hangs now
        for number in range(1, 31):
            stage.shadow.offer([made(number)])
        assert not back.is_set()
        await stage.settled(62)
        # The queue held 10; the other challenger scored all that were not dropped.
        assert stage.loss("stuck") == Loss(dropped=31)
        assert stage.loss("fine") == Loss(dropped=20)
        assert len(stage.scored("fine")) == 11
        assert stage.meter.told == ["stuck hangs"]
        back.set()
        for _ in range(200):
            if not any(thread.name == "shadow" for thread in threading.enumerate()):
                break
            await asyncio.sleep(0.005)
        stage.shadow.offer([made(99)])
        await stage.settled(64)
    assert stage.scored("stuck") == ["dec_99"]


async def test_what_cannot_be_kept_is_counted_as_dropped_later() -> None:
    stage = Stage(Tempered("fine"))
    stage.work.away = True
    async with stage.running():
        stage.shadow.offer([made(1)])
        for _ in range(200):
            if stage.meter.loss.dropped:
                break
            await asyncio.sleep(0.005)
        stage.work.away = False
        stage.shadow.offer([made(2)])
        await stage.settled(2)
    assert stage.scored("fine") == ["dec_2"]
    assert stage.loss("fine") == Loss(dropped=1)


async def test_what_still_waits_at_the_end_is_counted_as_dropped() -> None:
    stage = Stage(Tempered("fine"))
    stage.shadow.offer([made(1), made(2)])
    await stage.shadow.close()
    assert stage.work.differences.losses == {Pair("fine", "champion", DAY): Loss(dropped=2)}


async def test_what_was_kept_long_enough_goes() -> None:
    stage = Stage(Tempered("fine"))
    async with stage.running():
        stage.shadow.offer([made(1)])
        await stage.settled(1)
    stage.clock.advance(timedelta(days=30))
    await stage.shadow.forget()
    assert stage.scored("fine") == ["dec_1"]
    stage.clock.advance(timedelta(days=1))
    await stage.shadow.forget()
    assert stage.scored("fine") == []


async def test_a_report_tells_of_each_day_and_of_what_was_missed() -> None:
    stage = Stage(Tempered("fine", points=7))
    early, summary = made(1)
    early = dataclasses.replace(early, decided_at=NOW - timedelta(days=3))
    async with stage.running():
        stage.shadow.offer([(early, summary), made(2)])
        await stage.settled(2)
    await stage.work.differences.lose(
        [(Pair("fine", "champion", DAY - timedelta(days=1)), Loss(dropped=5, failed=2))]
    )
    report = await TellShadow(stage.work)("fine", "champion", None)
    assert [(day, each.scored, each.loss) for day, each in report.days.items()] == [
        (DAY - timedelta(days=3), 1, Loss()),
        (DAY - timedelta(days=1), 0, Loss(5, 2)),
        (DAY, 1, Loss()),
    ]
    assert report.days[DAY - timedelta(days=1)].mean is None
    assert (report.all.scored, report.all.loss) == (2, Loss(5, 2))
    since = await TellShadow(stage.work)("fine", "champion", DAY)
    assert since.all.scored == 1
    assert since.all.loss == Loss()


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ([(5, 1)], [5, 5, 5, 5, 5]),
        ([(3, 1), (-1, 1)], [-1, -1, -1, 3, 3]),
        ([(value, 1) for value in range(1, 101)], [5, 25, 50, 75, 95]),
        ([(0, 96), (9, 4)], [0, 0, 0, 0, 0]),
        ([(0, 94), (9, 6)], [0, 0, 0, 0, 9]),
    ],
)
def test_quantiles_by_hand(counted: list[tuple[int, int]], expected: list[float]) -> None:
    assert list(quantiles(counted).values()) == expected
