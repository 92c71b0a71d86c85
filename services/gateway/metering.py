"""What participants call, counted at the entrance and reported to datashare.

Invariants:

- A report is sent with the same id and content until datashare took it, which counts it once: what
  was counted here is counted there, unless the process dies between two reports.
- Only one report is under way; what is counted meanwhile goes into the next one. Both are bounded:
  what a gateway that reports to nobody has no room for is counted as lost, never kept.
- Counting is a few operations on dictionaries and waits for nothing.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final, NamedTuple, Protocol

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from opentelemetry import metrics

from puhui.datashare.v1 import metering_pb2
from services.kit.calls import Call, Endpoint, Gate, Refused
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import InvalidArgumentError, PuhuiError
from services.kit.identity import Caller
from services.kit.ids import Ids

RECORD_USAGE: Final = "/puhui.datashare.v1.MeteringService/RecordUsage"
REPORT_EVERY: Final = timedelta(seconds=5)
MOST_KEPT: Final = 10_000
"""Different counts, and different refusals, that wait for a report; as many as a report holds."""

_CHINA: Final = timezone(timedelta(hours=8))
_NEVER: Final = datetime.max.replace(tzinfo=_CHINA)
_ANSWER_TIMEOUT: Final = 5.0
_LAST_TRIES: Final = 3

_log = structlog.get_logger()
_sizes: contextvars.ContextVar[list[int]] = contextvars.ContextVar("puhui_sizes")
_OURS: Final = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN"})


class Reports(Protocol):
    """Takes reports."""

    def __call__(self, report: metering_pb2.RecordUsageRequest) -> Awaitable[None]:
        """Take a report; one that was taken before changes nothing.

        Raises:
            PuhuiError: it may not have been taken.
        """
        ...


class Counted(NamedTuple):
    """What calls are counted by.

    Args:
        participant_id: who called.
        product: to which the method belongs; may be empty.
        method: full name without a leading slash.
        day: of China Standard Time.
    """

    participant_id: str
    product: str
    method: str
    day: date


@dataclass(slots=True)
class Counts:
    """How many calls there were, and their bytes."""

    served: int = 0
    refused: int = 0
    failed: int = 0
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(slots=True)
class Refusals:
    """How often a participant was refused for one reason.

    Args:
        last_at: the last time.
        count: since the last report.
        in_a_row: longest run of refusals in which one of these stood.
    """

    last_at: datetime
    count: int = 0
    in_a_row: int = 0


@dataclass(slots=True)
class _Today:
    """The day now, worked out anew only when it ends."""

    day: date = date.min
    begins: datetime = _NEVER
    ends: datetime = _NEVER

    def at(self, now: datetime) -> date:
        if not self.begins <= now < self.ends:
            there = now.astimezone(_CHINA)
            self.day = there.date()
            self.begins = there.replace(hour=0, minute=0, second=0, microsecond=0)
            self.ends = self.begins + timedelta(days=1)
        return self.day


class Meter:
    """Counts calls and reports them.

    Args:
        report: takes reports.
        clock: the time.
        ids: makes ids of reports.
        meter: makes the counter `puhui.gateway.usage.lost`.
        every: how often to report.
        most: different counts that are kept, and different refusals.
    """

    def __init__(
        self,
        report: Reports,
        clock: Clock,
        ids: Ids,
        meter: metrics.Meter,
        every: timedelta = REPORT_EVERY,
        most: int = MOST_KEPT,
    ) -> None:
        self._report = report
        self._clock = clock
        self._ids = ids
        self._every = every.total_seconds()
        self._most = most
        self._today = _Today()
        self._counts: dict[Counted, Counts] = {}
        self._refusals: dict[tuple[str, str], Refusals] = {}
        self._runs: dict[str, int] = {}
        self._unsent: metering_pb2.RecordUsageRequest | None = None
        self._lost = meter.create_counter(
            "puhui.gateway.usage.lost", description="calls that are in no report of usage"
        )

    def served(
        self,
        caller: Caller,
        product: str,
        method: str,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """Count a call that was answered."""
        self._runs.pop(caller.participant_id, None)
        self.given_up(caller, product, method, request_bytes, response_bytes)

    def given_up(
        self,
        caller: Caller,
        product: str,
        method: str,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """Count a call as served whose answer nobody waited for; it ends no run of refusals."""
        if counts := self._of(caller, product, method, request_bytes, response_bytes):
            counts.served += 1

    def refused(
        self,
        caller: Caller | None,
        product: str,
        method: str,
        reason: str,
        request_bytes: int = 0,
    ) -> None:
        """Count a call that was refused, or failed by the caller's fault.

        Args:
            caller: None where nobody was proved.
            product: to which the method belongs; may be empty.
            method: full name.
            reason: name of the `ErrorReason` without its prefix.
            request_bytes: that were read of it.
        """
        participant_id = caller.participant_id if caller else ""
        in_a_row = 0
        if caller and (participant_id in self._runs or len(self._runs) < self._most):
            in_a_row = self._runs[participant_id] = self._runs.get(participant_id, 0) + 1
        key = (participant_id, reason)
        found = self._refusals.get(key)
        if found is None and len(self._refusals) < self._most:
            found = self._refusals[key] = Refusals(self._clock.now())
        if found:
            found.last_at = self._clock.now()
            found.count += 1
            found.in_a_row = max(found.in_a_row, in_a_row)
        if caller and (counts := self._of(caller, product, method, request_bytes, 0)):
            counts.refused += 1

    def failed(self, caller: Caller, product: str, method: str, request_bytes: int = 0) -> None:
        """Count a call that failed by a fault of ours; it ends no run of refusals."""
        if counts := self._of(caller, product, method, request_bytes, 0):
            counts.failed += 1

    async def run(self) -> None:
        """Report again and again until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.send()

    async def send(self) -> bool:
        """Report what was counted; tell whether it was all taken."""
        while report := self._unsent or self._cut():
            self._unsent = report
            try:
                await self._report(report)
            except InvalidArgumentError as error:
                # It would be refused for ever, and hold up all that follow.
                calls = sum(each.served + each.refused + each.failed for each in report.usages)
                self._lost.add(calls)
                _log.error("report of usage refused", reason=error.reason, calls=calls)
            except PuhuiError as error:
                _log.warning("report of usage not taken, kept", reason=error.reason)
                return False
            self._unsent = None
        return True

    async def close(self) -> None:
        """Report what is left, and try a few times."""
        for attempt in range(_LAST_TRIES):
            if await self.send():
                return
            if attempt + 1 < _LAST_TRIES:
                await asyncio.sleep(0.2 * 2**attempt)
        _log.error("usage counted last was not reported")

    def _of(
        self, caller: Caller, product: str, method: str, request_bytes: int, response_bytes: int
    ) -> Counts | None:
        day = self._today.at(self._clock.now())
        key = Counted(caller.participant_id, product, method.lstrip("/"), day)
        counts = self._counts.get(key)
        if counts is None:
            if len(self._counts) >= self._most:
                self._lost.add(1)
                return None
            counts = self._counts[key] = Counts()
        counts.request_bytes += request_bytes
        counts.response_bytes += response_bytes
        return counts

    def _cut(self) -> metering_pb2.RecordUsageRequest | None:
        """Return a report of what was counted since the last one; None of nothing."""
        if not self._counts and not self._refusals:
            return None
        report = metering_pb2.RecordUsageRequest(
            report_id=self._ids.new("use"),
            usages=[
                metering_pb2.Usage(
                    participant_id=key.participant_id,
                    product=key.product,
                    method=key.method,
                    day=Date(year=key.day.year, month=key.day.month, day=key.day.day),
                    served=counts.served,
                    refused=counts.refused,
                    failed=counts.failed,
                    request_bytes=counts.request_bytes,
                    response_bytes=counts.response_bytes,
                )
                for key, counts in self._counts.items()
            ],
            refusals=[
                metering_pb2.RefusedStreak(
                    participant_id=participant_id,
                    reason=reason,
                    count=refusals.count,
                    last_at=_stamp(refusals.last_at),
                    in_a_row=refusals.in_a_row,
                )
                for (participant_id, reason), refusals in self._refusals.items()
            ],
        )
        self._counts, self._refusals = {}, {}
        return report


def to_datashare(channel: Channel) -> Reports:
    """Return what reports over a channel to datashare."""

    async def send(report: metering_pb2.RecordUsageRequest) -> None:
        await channel.unary(
            RECORD_USAGE,
            report,
            metering_pb2.RecordUsageResponse,
            timeout=_ANSWER_TIMEOUT,
            idempotent=True,
        )

    return send


def _stamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def count_request(body: bytes | bytearray) -> None:
    """Count the bytes of a message of the call being served, which passed on its way in."""
    if (sizes := _sizes.get(None)) is not None:
        sizes[0] += len(body)


def count_response(body: bytes | bytearray) -> None:
    """Count the bytes of a message of the call being served, on its way out."""
    if (sizes := _sizes.get(None)) is not None:
        sizes[1] += len(body)


class MeteredGate:
    """A gate that counts how calls end.

    One that its caller gave up counts as served once it was let in. Before that it counts as
    refused where it was, though nobody waited to be told, and else as failed: who hangs up neither
    pays for waiting nor hides a refusal.

    Args:
        gate: lets callers in.
        meter: counts.
        product: tells of the call being served to which product it belongs.
    """

    def __init__(self, gate: Gate, meter: Meter, product: Callable[[], str]) -> None:
        self._gate = gate
        self._meter = meter
        self._product = product

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: Endpoint, caller: Caller, call: Call) -> AsyncIterator[None]:
        """Count the call once it ends; an exception that ends it goes through."""
        sizes, product, method = [0, 0], "", endpoint.method
        entered = False
        _sizes.set(sizes)
        try:
            async with self._gate.enter(endpoint, caller, call):
                product, entered = self._product(), True
                yield
        except PuhuiError as error:
            if error.code in _OURS:
                self._meter.failed(caller, product, method, sizes[0])
            else:
                self._meter.refused(caller, product, method, error.reason, sizes[0])
            raise
        except (asyncio.CancelledError, GeneratorExit) as end:
            # A refusal that is held back when the caller goes is what the end comes in the wake of.
            held = end.__context__
            if entered:
                self._meter.given_up(caller, product, method, *sizes)
            elif isinstance(held, PuhuiError):
                self._meter.refused(caller, product, method, held.reason)
            else:
                self._meter.failed(caller, product, method)
            raise
        except Exception:  # a fault of ours, which goes through
            self._meter.failed(caller, product, method, sizes[0])
            raise
        self._meter.served(caller, product, method, *sizes)


class CountedRefusals:
    """Takes note of calls that were refused before a gate saw them.

    Args:
        refused: is told of them besides.
        meter: counts.
    """

    def __init__(self, refused: Refused, meter: Meter) -> None:
        self._refused = refused
        self._meter = meter

    def __call__(self, method: str, caller: Caller | None, error: PuhuiError) -> None:
        """Pass it on, and count it."""
        self._refused(method, caller, error)
        self._meter.refused(caller, "", method, error.reason)
