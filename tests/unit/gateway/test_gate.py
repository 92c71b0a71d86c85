"""The gate: what it lets in, how long for, and what a flood of refusals costs."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter

from services.gateway.gate import PRODUCT_METADATA, Admission, current_bounds, current_product
from services.gateway.policy.file import Policies
from services.gateway.routes import access
from services.gateway.state.buckets import MemoryBuckets
from services.gateway.turns import Turns, TurnsConfig
from services.kit.calls import Call, Endpoint, Pipeline, current_deadline
from services.kit.clock import FixedClock
from services.kit.errors import PermissionDeniedError, PuhuiError, ResourceExhaustedError
from services.kit.identity import Caller
from services.kit.telemetry import Telemetry
from tests.fakes.policies import bounded

SCORE = "/puhui.scoring.v1.ScoringService/Score"
BATCH = "/puhui.scoring.v1.ScoringService/BatchScore"
FETCH = "/puhui.datashare.v1.AccessService/FetchSummary"
BANK = Caller("par_1", "BANK", products=("credit_reporting",))
NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def gate(folder: Path, *, sandbox: bool = False, **bounds: float) -> Admission:
    """A gate with bounds for par_1."""
    meter = NoOpMeter("test")
    policies = Policies(bounded(folder, par_1=bounds), access(), meter)
    turns = Turns(TurnsConfig())
    return Admission(policies, MemoryBuckets(), turns, FixedClock(NOON), meter, sandbox=sandbox)


class Served:
    """A pipeline with the gate, and what the served calls saw."""

    def __init__(self, admission: Admission, caller: Caller = BANK) -> None:
        async def authenticate(call: Call) -> Caller:
            return caller

        self.left: list[float] = []
        self.products: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._pipeline = Pipeline(authenticate, Telemetry("test"), gate=admission)

    async def unary(self, method: str = SCORE, product: str = "") -> bytes:
        async def behaviour(body: bytes, context: object) -> bytes:
            await self._note()
            return b"done"

        roles = frozenset({"BANK"})
        endpoint = Endpoint(method, roles, False, False, None, behaviour)
        metadata = {PRODUCT_METADATA: product} if product else {}
        return await self._pipeline.unary(endpoint, Call(metadata), b"")

    async def stream(self) -> list[bytes]:
        async def behaviour(body: bytes, context: object) -> AsyncIterator[bytes]:
            await self._note()
            yield b"done"

        async def bodies() -> AsyncIterator[bytes]:
            yield b""

        endpoint = Endpoint(BATCH, frozenset({"BANK"}), False, True, None, behaviour)
        return [each async for each in self._pipeline.stream(endpoint, Call(), bodies())]

    async def _note(self) -> None:
        self.left.append(current_deadline() - asyncio.get_running_loop().time())
        self.products.append(current_product())
        assert current_bounds() is not None
        await self.go_on.wait()


async def reason(call: Any) -> str:
    with pytest.raises(PuhuiError) as error:
        await call
    return error.value.reason


async def test_a_call_has_its_product_and_no_more_time_than_its_caller(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, deadline=2.0, stream_deadline=3.0))
    await served.unary()
    await served.stream()
    assert served.products == ["credit_reporting"] * 2
    assert served.left[0] <= 2
    assert served.left[1] <= 3


async def test_a_call_ends_at_the_deadline_of_its_caller(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, deadline=0.02))
    served.go_on.clear()
    assert await reason(served.unary()) == "DEADLINE_EXCEEDED"


async def test_a_named_product_is_one_of_those_that_fit(tmp_path: Path) -> None:
    both = Caller("par_1", "BANK", products=("credit_reporting", "data_service"))
    served = Served(gate(tmp_path), both)
    await served.unary(FETCH)
    await served.unary(FETCH, "data_service")
    assert served.products == ["credit_reporting", "data_service"]
    assert await reason(served.unary(SCORE, "data_service")) == "POLICY_DENIED"


async def test_in_the_sandbox_alone_no_licence_on_record_is_all(tmp_path: Path) -> None:
    nothing = Caller("par_1", "BANK")
    await Served(gate(tmp_path, sandbox=True), nothing).unary()
    assert await reason(Served(gate(tmp_path), nothing).unary()) == "PRODUCT_NOT_LICENSED"
    other = Caller("par_1", "BANK", products=("data_service",))
    assert await reason(Served(gate(tmp_path, sandbox=True), other).unary()) == (
        "PRODUCT_NOT_LICENSED"
    )


async def test_unary_calls_and_streams_are_bounded_apart(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, concurrent=1, streams=1))
    served.go_on.clear()
    running = [asyncio.create_task(served.unary()), asyncio.create_task(served.stream())]
    while len(served.left) < 2:  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0)
    assert await reason(served.unary()) == "OVERLOADED"
    assert await reason(served.stream()) == "OVERLOADED"
    served.go_on.set()
    await asyncio.gather(*running)
    await served.unary()
    await served.stream()


async def test_an_end_of_any_kind_makes_room(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, concurrent=1))
    served.go_on.clear()
    for _ in range(3):
        running = asyncio.create_task(served.unary())
        while not served.left:  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)
        served.left.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    served.go_on.set()
    await served.unary()


async def test_whoever_has_to_pause_is_refused_without_asking_the_buckets(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, rate=0.1, burst=1))
    await served.unary()
    for _ in range(5):
        with pytest.raises(ResourceExhaustedError) as error:
            await served.unary()
        assert error.value.reason == "QUOTA_EXHAUSTED"
        assert 0 < error.value.retry_after.total_seconds() <= 10


async def test_many_refusals_come_one_after_the_other(tmp_path: Path) -> None:
    served = Served(gate(tmp_path, rate=0.01, burst=1))
    await served.unary()
    started = time.monotonic()
    told = await asyncio.gather(*(reason(served.unary()) for _ in range(46)))
    assert set(told) == {"QUOTA_EXHAUSTED"}
    # 16 at once, then 30 at a pace of 10 ms: sooner is impossible.
    assert time.monotonic() - started >= 0.29


async def test_refusals_by_the_policy_are_told_to_who_watches(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def watch(method: str, caller: Caller | None, error: PuhuiError) -> None:
        assert caller == BANK
        told.append((method, error.reason))

    meter = NoOpMeter("test")
    policies = Policies(bounded(tmp_path), access(), meter)
    turns = Turns(TurnsConfig())
    admission = Admission(policies, MemoryBuckets(), turns, FixedClock(NOON), meter, watch)
    with pytest.raises(PermissionDeniedError):
        await Served(admission).unary(SCORE, "data_service")
    assert told == [(SCORE, "POLICY_DENIED")]
