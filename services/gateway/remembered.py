"""What datashare answers about credentials: remembered for seconds, forgotten once it is over.

Invariants:

- A good answer counts for `keep` at most without asking again; whoever follows the feed of changes
  ends that within its polling time. What was asked before something was forgotten is not remembered
  after it.
- Refusals are remembered apart, for a second, so that a flood of them pushes out no good answer.
- Who asks the same at the same time shares one question, yet none that was asked before something
  was forgotten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from services.kit.clock import Clock
from services.kit.errors import PermissionDeniedError, PuhuiError, UnauthenticatedError

KEEP_REFUSED = timedelta(seconds=1)
MOST_KEPT = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class _Kept(Generic[V]):
    until: datetime
    answer: V


class Remembered(Generic[K, V]):
    """Answers, each for a key.

    Args:
        ask: gives the answer; raises UnauthenticatedError or PermissionDeniedError, which is
            remembered too, or another PuhuiError, which is not.
        clock: the time.
        keep: how long a good answer is remembered.
    """

    def __init__(self, ask: Callable[[K], Awaitable[V]], clock: Clock, keep: timedelta) -> None:
        self._ask = ask
        self._clock = clock
        self._keep = keep
        self._good: dict[K, _Kept[V]] = {}
        self._refused: dict[K, _Kept[PuhuiError]] = {}
        self._asking: dict[K, asyncio.Task[V | PuhuiError]] = {}
        self._forgotten = 0

    async def get(self, key: K) -> V:
        """Return the answer.

        Raises:
            PuhuiError: what `ask` raised.
        """
        now = self._clock.now()
        good = self._good.get(key)
        if good and now < good.until:
            return good.answer
        refused = self._refused.get(key)
        if refused and now < refused.until:
            outcome: V | PuhuiError = refused.answer
        else:
            outcome = await self._shared(key)
        if isinstance(outcome, PuhuiError):
            # A new one each time: a raised exception gathers the frames it went through.
            raise type(outcome)(outcome.reason, outcome.message)
        return outcome

    def forget(self, over: Callable[[K, V], bool]) -> None:
        """Ask again where `over` says so, and for all refusals, even if an answer is on its way."""
        self._forgotten += 1
        self._asking.clear()
        self._refused.clear()
        for key in [key for key, kept in self._good.items() if over(key, kept.answer)]:
            del self._good[key]

    async def _shared(self, key: K) -> V | PuhuiError:
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._answer(key))
            asking.add_done_callback(lambda done: self._asked(key, done))
        # One caller that goes away does not take the answer from the others.
        return await asyncio.shield(asking)

    def _asked(self, key: K, done: "asyncio.Task[V | PuhuiError]") -> None:
        # Another question may have taken its place.
        if self._asking.get(key) is done:
            del self._asking[key]

    async def _answer(self, key: K) -> V | PuhuiError:
        forgotten, now = self._forgotten, self._clock.now()
        try:
            answer = await self._ask(key)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            _room(self._refused)
            self._refused[key] = _Kept(now + KEEP_REFUSED, error)
            return error
        except PuhuiError as error:
            return error
        if forgotten == self._forgotten:
            _room(self._good)
            self._good[key] = _Kept(now + self._keep, answer)
        return answer


def _room(kept: dict[Any, Any]) -> None:
    """Make room by dropping what was put in first."""
    while len(kept) >= MOST_KEPT:
        del kept[next(iter(kept))]
