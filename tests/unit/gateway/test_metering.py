"""What the gateway counts and reports, and what becomes of reports that were not taken."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from puhui.datashare.v1.metering_pb2 import RecordUsageRequest
from services.gateway.metering import Meter, MeteredGate
from services.kit.calls import Call, Endpoint
from services.kit.clock import FixedClock
from services.kit.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    PuhuiError,
    UnavailableError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds

BANK = Caller("par_bank", "BANK")
OTHER = Caller("par_other", "BANK")
SCORE = "/puhui.scoring.v1.ScoringService/Score"


class Datashare:
    """Takes reports, or raises what it has to."""

    def __init__(self) -> None:
        self.sent: list[RecordUsageRequest] = []
        self.error: PuhuiError | None = None

    async def __call__(self, report: RecordUsageRequest) -> None:
        self.sent.append(report)
        if self.error is not None:
            raise self.error

    @property
    def counted(self) -> dict[tuple[str, str, date], tuple[int, int, int, int, int]]:
        """What reports say, each counted once."""
        once = {report.report_id: report for report in self.sent}
        sums: dict[tuple[str, str, date], tuple[int, int, int, int, int]] = {}
        for report in once.values():
            for each in report.usages:
                key = (
                    each.participant_id,
                    each.product,
                    date(each.day.year, each.day.month, each.day.day),
                )
                counts = (
                    each.served,
                    each.refused,
                    each.failed,
                    each.request_bytes,
                    each.response_bytes,
                )
                before = sums.get(key, (0, 0, 0, 0, 0))
                added = [mine + more for mine, more in zip(before, counts, strict=True)]
                sums[key] = (added[0], added[1], added[2], added[3], added[4])
        return sums


class World:
    def __init__(self, most: int = 100) -> None:
        self.datashare = Datashare()
        self.clock = FixedClock(datetime(2026, 11, 30, 15, 59, tzinfo=UTC))
        self.reader = InMemoryMetricReader()
        provider = MeterProvider([self.reader])
        self.meter = Meter(
            self.datashare, self.clock, SequentialIds(), provider.get_meter("test"), most=most
        )

    def lost(self) -> int:
        data = self.reader.get_metrics_data()
        return sum(
            int(point.value)  # type: ignore[union-attr, misc]  # a counter's points have one
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_calls_are_counted_by_participant_product_and_day_of_china(world: World) -> None:
    meter = world.meter
    meter.served(BANK, "credit_reporting", SCORE, 10, 100)
    meter.served(BANK, "credit_reporting", SCORE, 10, 100)
    meter.refused(BANK, "credit_reporting", SCORE, "CONSENT_REQUIRED", 5)
    meter.failed(OTHER, "", SCORE, 1)
    world.clock.advance(timedelta(minutes=1))
    meter.served(BANK, "credit_reporting", SCORE)
    assert await meter.send()
    assert world.datashare.counted == {
        ("par_bank", "credit_reporting", date(2026, 11, 30)): (2, 1, 0, 25, 200),
        ("par_other", "", date(2026, 11, 30)): (0, 0, 1, 1, 0),
        ("par_bank", "credit_reporting", date(2026, 12, 1)): (1, 0, 0, 0, 0),
    }
    assert {usage.method for usage in world.datashare.sent[0].usages} == {SCORE[1:]}
    assert await meter.send()
    assert len(world.datashare.sent) == 1


@pytest.mark.parametrize("failures", [1, 3])
async def test_what_was_not_taken_is_sent_again_as_it_was(world: World, failures: int) -> None:
    world.datashare.error = UnavailableError("UNAVAILABLE", "down")
    for _ in range(failures):
        world.meter.served(BANK, "", SCORE, 1, 2)
        assert not await world.meter.send()
    world.datashare.error = None
    assert await world.meter.send()
    first = world.datashare.sent[0]
    assert all(report == first for report in world.datashare.sent[: failures + 1])
    ((served, *_),) = world.datashare.counted.values()
    assert served == failures
    assert world.lost() == 0


async def test_what_can_never_be_taken_holds_up_nothing(world: World) -> None:
    world.datashare.error = InvalidArgumentError("FIELD_INVALID", "no")
    world.meter.served(BANK, "", SCORE)
    assert await world.meter.send()
    world.datashare.error = None
    world.meter.served(OTHER, "", SCORE)
    assert await world.meter.send()
    assert world.datashare.sent[-1].usages[0].participant_id == "par_other"
    assert world.lost() == 1


async def test_memory_is_bounded_and_loss_is_told() -> None:
    world = World(most=3)
    for n in range(5):
        caller = Caller(f"par_{n}", "BANK")
        world.meter.served(caller, "", SCORE)
        world.meter.refused(caller, "", SCORE, "NOT_YOURS")
    await world.meter.send()
    (report,) = world.datashare.sent
    assert (len(report.usages), len(report.refusals)) == (3, 3)
    assert world.lost() == 4


Act = Callable[[Meter], None]


def refuse(reason: str, caller: Caller | None = BANK) -> Act:
    return lambda meter: meter.refused(caller, "", SCORE, reason)


def serve(meter: Meter) -> None:
    meter.served(BANK, "", SCORE)


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ([refuse("A"), refuse("A")], {"A": (2, 2)}),
        ([refuse("A"), refuse("B"), refuse("A")], {"A": (2, 3), "B": (1, 2)}),
        ([refuse("A"), refuse("A"), serve, refuse("A")], {"A": (3, 2)}),
        ([refuse("A", None), refuse("A", None)], {"A": (2, 0)}),
        ([refuse("A"), refuse("A", OTHER)], {"A": (1, 1)}),
    ],
)
async def test_runs_of_refusals(
    world: World, acts: list[Act], expected: dict[str, tuple[int, int]]
) -> None:
    for act in acts:
        act(world.meter)
    await world.meter.send()
    told = world.datashare.sent[0].refusals
    assert {each.reason: (each.count, each.in_a_row) for each in told} == expected


async def test_a_run_goes_on_over_reports(world: World) -> None:
    for _ in range(2):
        refuse("A")(world.meter)
        refuse("A")(world.meter)
        await world.meter.close()
    assert [report.refusals[0].in_a_row for report in world.datashare.sent] == [2, 4]


class Slow:
    """A gate that is slow to let in, or to refuse."""

    def __init__(self, error: PuhuiError | None = None, *, lets_in: bool = False) -> None:
        self.error = error
        self.lets_in = lets_in

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: Endpoint, caller: Caller, call: Call) -> AsyncIterator[None]:
        if not self.lets_in:
            try:
                if self.error:
                    raise self.error
                await asyncio.Future()
            except PuhuiError:
                await asyncio.Future()
        yield


DENIED = PermissionDeniedError("POLICY_DENIED", "no")


@pytest.mark.parametrize(
    ("gate", "counts", "run"),
    [
        (Slow(lets_in=True), (1, 2, 0), 2),
        (Slow(DENIED), (0, 3, 0), 3),
        (Slow(), (0, 2, 1), 2),
    ],
    ids=["let in", "refused, not yet told", "waiting"],
)
async def test_who_hangs_up_hides_no_refusal_and_pays_for_no_waiting(
    world: World, gate: Slow, counts: tuple[int, int, int], run: int
) -> None:
    metered = MeteredGate(gate, world.meter, lambda: "")
    endpoint = Endpoint(SCORE, frozenset({"BANK"}), False, False, None, lambda body, _: body)

    async def call() -> None:
        async with metered.enter(endpoint, BANK, Call()):
            await asyncio.Future()

    refuse("POLICY_DENIED")(world.meter)
    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    # The run goes on, whatever became of the call.
    refuse("POLICY_DENIED")(world.meter)
    await world.meter.send()
    (counted,) = world.datashare.counted.values()
    assert counted[:3] == counts
    assert world.datashare.sent[0].refusals[0].in_a_row == run
