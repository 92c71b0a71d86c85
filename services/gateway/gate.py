"""Lets callers in who are who they say: by the policy, its bounds, and the room that there is.

Every call, refused or not, passes here once. In order: whether its participant has to wait anyway,
as it was told before; the policy; how much it has running; its rate and its calls of the day; its
turn. What is looked at first costs least, so that a flood costs a few look-ups a call. Whoever goes
on asking without making the pause that it was told hears of its refusals one after the other, so
that its next calls come later, too; others are not held up by that.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import structlog
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.gateway.policy.domain import Bounds, Denied, Policy, Question
from services.gateway.state.buckets import Allowance, Buckets, Taken
from services.gateway.turns import CrowdedError, Turns
from services.kit.calls import Call, Endpoint, Refused, current_deadline, shorten_deadline
from services.kit.clock import Clock
from services.kit.errors import PermissionDeniedError, PuhuiError, ResourceExhaustedError
from services.kit.identity import Caller

PRODUCT_METADATA: Final = "puhui-product"

_RETRY_AFTER: Final = timedelta(seconds=1)
# So many refusals of a participant in a span are told at once. Later ones one after the other, at
# this pace, so that they cost the same however many there are; up to so many wait for it, and so
# long at most.
_SPAN_S: Final = 1.0
_TOLD_AT_ONCE: Final = 16
_PACE_S: Final = 0.01
_LONGEST_HELD_S: Final = 5.0
_MOST_HELD: Final = 4_096

_log = structlog.get_logger()
_product: contextvars.ContextVar[str] = contextvars.ContextVar("puhui_product", default="")
_bounds: contextvars.ContextVar[Bounds] = contextvars.ContextVar("puhui_bounds")


def current_product() -> str:
    """Return the product that the call being served is part of; "" before it was let in."""
    return _product.get()


def current_bounds() -> Bounds | None:
    """Return the bounds of who calls; None before the call was let in."""
    return _bounds.get(None)


class Current(Protocol):
    """Has the policy in force."""

    @property
    def current(self) -> Policy:
        """The last good one."""
        ...


@dataclass
class _Account:
    """What one participant does here.

    Args:
        policy: by which its bounds are, which change with the policy.
        bounds: how much it may ask.
        allowance: the part of them that buckets know.
        calls: its unary calls that run or wait.
        streams: its open streams.
        refused: refusals in this span.
        span_ends: when the span ends, by the event loop's clock.
        told_at: when the last of the refusals that wait will be told, likewise.
        pause: until when it is refused anyway, likewise.
        because: why.
    """

    policy: Policy
    bounds: Bounds
    allowance: Allowance
    calls: int = 0
    streams: int = 0
    refused: int = 0
    span_ends: float = 0.0
    told_at: float = 0.0
    pause: float = 0.0
    because: Taken = field(default_factory=lambda: Taken("rate"))

    @property
    def idle(self) -> bool:
        return not (self.calls or self.streams)


class Admission:
    """The gate of the entrance; see `kit.calls.Gate`.

    Args:
        policies: the policy in force.
        buckets: counts calls.
        turns: lets them go on.
        clock: the time.
        meter: makes the counter `puhui.gateway.shed` and the gauge `puhui.gateway.calls`.
        refused: is told whom the policy refuses.
        sandbox: who has no licence on record holds every product.
    """

    def __init__(
        self,
        policies: "Current",
        buckets: Buckets,
        turns: Turns,
        clock: Clock,
        meter: Meter,
        refused: Refused | None = None,
        *,
        sandbox: bool = False,
    ) -> None:
        self._policies = policies
        self._refused = refused
        self._sandbox = sandbox
        self._buckets = buckets
        self._turns = turns
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._sweep_at = 0.0
        self._held = 0
        self._shed = meter.create_counter(
            "puhui.gateway.shed", description="calls refused for want of room, by what was short"
        )
        meter.create_observable_gauge(
            "puhui.gateway.calls", [self._observe], description="unary calls that run or wait"
        )

    def may(self, caller: Caller) -> list[str]:
        """Return the full names of the methods that a participant may call, sorted."""
        policy = self._policies.current
        return policy.may(caller.role, self.held(caller))

    def held(self, caller: Caller) -> tuple[str, ...]:
        """Return the products that a participant may use."""
        if self._sandbox and not caller.products:
            return self._policies.current.licensed
        return caller.products

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: Endpoint, caller: Caller, call: Call) -> AsyncIterator[None]:
        """Count the call while it runs; an exception that ends it goes through.

        Raises:
            PermissionDeniedError: POLICY_DENIED or PRODUCT_NOT_LICENSED.
            ResourceExhaustedError: OVERLOADED or QUOTA_EXHAUSTED, with a pause to make.
        """
        policy = self._policies.current
        account = self._account(policy, caller)
        streaming = endpoint.response_streaming
        try:
            self._check_pause(account)
            product = self._granted(policy, endpoint, caller, call)
            await self._admit(account, caller, streaming=streaming)
        except PuhuiError as error:
            await self._hold(account, caller, error)
            raise
        _product.set(product)
        _bounds.set(account.bounds)
        try:
            yield
        finally:
            if streaming:
                account.streams -= 1
            else:
                account.calls -= 1
                self._turns.leave(caller.participant_id)

    async def _admit(self, account: _Account, caller: Caller, *, streaming: bool) -> None:
        bounds = account.bounds
        if streaming:
            _check_room("streams are open", account.streams, bounds.streams)
            shorten_deadline(bounds.stream_deadline)
            account.streams += 1
        else:
            _check_room("calls run or wait", account.calls, bounds.concurrent)
            shorten_deadline(bounds.deadline)
            account.calls += 1
        try:
            await self._take(account, caller)
            if not streaming:
                await self._turn(account, caller)
        except BaseException:
            if streaming:
                account.streams -= 1
            else:
                account.calls -= 1
            raise

    def _account(self, policy: Policy, caller: Caller) -> _Account:
        now = asyncio.get_running_loop().time()
        if now >= self._sweep_at:
            self._sweep(now)
        account = self._accounts.get(caller.participant_id)
        if account is None or account.policy is not policy:
            bounds = policy.bounds(caller.role, caller.participant_id)
            allowance = Allowance(bounds.rate, bounds.burst, bounds.daily)
            if account is None:
                account = self._accounts[caller.participant_id] = _Account(
                    policy, bounds, allowance
                )
            else:
                account.policy, account.bounds, account.allowance = policy, bounds, allowance
                account.pause = 0.0
        return account

    def _granted(self, policy: Policy, endpoint: Endpoint, caller: Caller, call: Call) -> str:
        decided = policy.decide(
            Question(
                caller.role,
                endpoint.method[1:],
                self.held(caller),
                call.metadata.get(PRODUCT_METADATA, ""),
            )
        )
        if isinstance(decided, Denied):
            error = PermissionDeniedError(decided.reason, decided.message)
            if self._refused:
                self._refused(endpoint.method, caller, error)
            raise error
        return decided.product

    def _check_pause(self, account: _Account) -> None:
        left = account.pause - asyncio.get_running_loop().time()
        if left > 0:
            raise _exhausted(account.because.exhausted, timedelta(seconds=left))

    async def _take(self, account: _Account, caller: Caller) -> None:
        taken = await self._buckets.take(
            caller.participant_id, account.allowance, self._clock.now()
        )
        if taken.exhausted:
            # Until then nobody has to be asked.
            now = asyncio.get_running_loop().time()
            account.pause = now + taken.retry_after.total_seconds()
            account.because = taken
            raise _exhausted(taken.exhausted, taken.retry_after)

    async def _turn(self, account: _Account, caller: Caller) -> None:
        try:
            await self._turns.enter(caller.participant_id, account.bounds.share, current_deadline())
        except CrowdedError:
            raise ResourceExhaustedError(
                "OVERLOADED",
                "the platform is busy, and you ask for more than others: ask for less at once",
                retry_after=_RETRY_AFTER,
            ) from None

    async def _hold(self, account: _Account, caller: Caller, error: PuhuiError) -> None:
        """Count a refusal, and keep it for a while where there are too many."""
        now = asyncio.get_running_loop().time()
        if now >= account.span_ends:
            if account.refused:
                _log.warning(
                    "shed",
                    participant_id=caller.participant_id,
                    reason=error.reason,
                    refused=account.refused,
                )
            account.span_ends, account.refused = now + _SPAN_S, 0
        account.refused += 1
        if isinstance(error, ResourceExhaustedError):
            self._shed.add(1, {"reason": error.reason})
        account.told_at = max(account.told_at, now)
        held = account.refused > _TOLD_AT_ONCE or account.told_at > now
        if held and self._held < _MOST_HELD:
            account.told_at = min(account.told_at + _PACE_S, now + _LONGEST_HELD_S)
            self._held += 1
            try:
                await asyncio.sleep(min(account.told_at, current_deadline()) - now)
            finally:
                self._held -= 1

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + 60 * _SPAN_S
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if not (account.idle and account.pause <= now and account.span_ends <= now)
        }

    def _observe(self, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(self._turns.running, {"state": "running"}),
            Observation(self._turns.waiting, {"state": "waiting"}),
        ]


def _check_room(what: str, has: int, most: int) -> None:
    if has >= most:
        raise ResourceExhaustedError(
            "OVERLOADED",
            f"as many of your {what} as may at once, {most}: wait for some to end",
            retry_after=_RETRY_AFTER,
        )


def _exhausted(what: str, retry_after: timedelta) -> ResourceExhaustedError:
    if what == "day":
        return ResourceExhaustedError(
            "QUOTA_EXHAUSTED",
            "the calls of this day are used up: go on after midnight, China Standard Time",
            retry_after=retry_after,
        )
    return ResourceExhaustedError(
        "QUOTA_EXHAUSTED",
        "you call more often than you may: make the pause that is named",
        retry_after=retry_after,
    )
