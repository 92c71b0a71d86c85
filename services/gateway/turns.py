"""Whose call goes on next when not all can at once.

Invariants:

- While fewer than `busy` calls run, and while a participant runs no more than is ordinary, a call
  goes on at once. Ordinary is what the participant in the middle asks at the same time (the lower
  median, per weight), and never less than `modest`: where all ask much, all may; where one floods
  while others ask little, it gets a little, too.
- No more than `capacity` run.
- Calls that wait take turns by participant: deficit round robin, each round as many as the weights
  say. So how many of its calls wait makes nobody's turn come sooner.
- At most `waiting` wait. When there is no room, the participant that has most calls waiting per
  weight loses its last one, which is refused; a call that waited for `patience` is refused as well.
"""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field

from services.kit.config import check_least

_REMEMBERED_S = 1.0
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True)
class TurnsConfig:
    """How many calls run at once.

    Args:
        busy: from so many on, who asks more than is ordinary waits.
        capacity: no more run.
        modest: so many calls of one participant are always ordinary.
        waiting: no more wait.
        patience: seconds that a call waits at most.
    """

    busy: int = field(
        default=12, metadata={"help": "calls at once from which on large askers wait their turn"}
    )
    capacity: int = field(default=256, metadata={"help": "calls that run at once, of all"})
    modest: int = field(
        default=6, metadata={"help": "calls at once that no participant waits for, if it may"}
    )
    waiting: int = field(default=128, metadata={"help": "calls that wait for a turn, of all"})
    patience: float = field(default=2.0, metadata={"help": "seconds that a call waits at most"})

    def __post_init__(self) -> None:
        check_least(1, busy=self.busy, capacity=self.capacity, modest=self.modest)
        check_least(0, waiting=self.waiting, patience=self.patience)


class CrowdedError(Exception):
    """The call got no turn."""


@dataclass
class _Party:
    """A participant that asked lately.

    Args:
        weight: of its calls.
        running: its calls that run.
        deficit: calls that it may still send in this round.
        asked: most that ran or waited at once in this span.
        asked_before: in the span before.
        in_round: it stands among those whose turns come round.
        queue: its calls that wait.
    """

    weight: float
    running: int = 0
    deficit: float = 0.0
    asked: int = 0
    asked_before: int = 0
    in_round: bool = False
    queue: "deque[asyncio.Future[None]]" = field(default_factory=deque)

    @property
    def asks(self) -> int:
        return self.running + len(self.queue)

    @property
    def demand(self) -> float:
        return max(self.asked, self.asked_before) / self.weight


class Turns:
    """Lets calls go on, fairly by participant.

    Args:
        config: how many.
    """

    def __init__(self, config: TurnsConfig) -> None:
        self._config = config
        self._parties: dict[str, _Party] = {}
        self._round: deque[str] = deque()
        self._running = 0
        self._waiting = 0
        self._ordinary = math.inf
        self._look_at = 0.0
        self._span_ends = 0.0

    @property
    def running(self) -> int:
        """How many run."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    async def enter(self, name: str, weight: float, until: float) -> None:
        """Wait for a turn; `leave` gives it back.

        Args:
            name: whose call it is.
            weight: of its calls.
            until: when the caller stops waiting, by the event loop's clock.

        Raises:
            CrowdedError: it got none.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._span_ends:
            self._next_span(now)
        party = self._parties.get(name)
        if party is None:
            party = self._parties[name] = _Party(weight)
            self._look_at = 0.0
        party.weight = weight
        party.asked = max(party.asked, party.asks + 1)
        if not party.queue and self._may(party, now):
            self._go(party)
            return
        if self._waiting >= self._config.waiting:
            self._make_room(party)
        turn = loop.create_future()
        if not party.in_round:
            party.in_round = True
            self._round.append(name)
        party.queue.append(turn)
        self._waiting += 1
        timer = loop.call_at(min(now + self._config.patience, until), self._give_up, turn)
        try:
            await turn
        except asyncio.CancelledError:
            # The turn may have come in the same moment.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(name)
            else:
                self._forget(name, turn)
            raise
        except CrowdedError:
            self._forget(name, turn)
            raise
        finally:
            timer.cancel()

    def leave(self, name: str) -> None:
        """Give a turn back."""
        self._parties[name].running -= 1
        self._running -= 1
        self._wake()

    def _may(self, party: _Party, now: float) -> bool:
        if self._running >= self._config.capacity:
            return False
        if self._running < self._config.busy:
            return True
        if now >= self._look_at:
            self._look(now)
        return party.running < self._ordinary * party.weight

    def _go(self, party: _Party) -> None:
        party.running += 1
        self._running += 1

    def _wake(self) -> None:
        """Let those go on whose turn it is, each party as often in a round as its weight says."""
        now = asyncio.get_running_loop().time()
        passed = 0
        while self._round and passed < len(self._round):
            name = self._round[0]
            party = self._parties[name]
            if not party.queue:
                self._round.popleft()
                party.in_round, party.deficit = False, 0.0
            elif not self._may(party, now):
                if self._running >= self._config.capacity:
                    return
                self._round.rotate(-1)
                passed += 1
            elif party.deficit < 1:
                party.deficit += party.weight
                if party.deficit < 1:
                    self._round.rotate(-1)
            else:
                turn = party.queue.popleft()
                self._waiting -= 1
                passed = 0
                if turn.done():  # given up in this moment
                    continue
                party.deficit -= 1
                self._go(party)
                turn.set_result(None)
                if party.deficit < 1:
                    self._round.rotate(-1)

    def _make_room(self, newcomer: _Party) -> None:
        longest = max(self._parties.values(), key=lambda each: len(each.queue) / each.weight)
        if (len(newcomer.queue) + 1) / newcomer.weight > len(longest.queue) / longest.weight:
            raise CrowdedError
        self._give_up(longest.queue[-1])
        longest.queue.pop()
        self._waiting -= 1

    def _give_up(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            turn.set_exception(CrowdedError())

    def _forget(self, name: str, turn: "asyncio.Future[None]") -> None:
        party = self._parties[name]
        if turn in party.queue:
            party.queue.remove(turn)
            self._waiting -= 1

    def _look(self, now: float) -> None:
        demands = sorted(party.demand for party in self._parties.values())
        middle = demands[(len(demands) - 1) // 2]
        self._ordinary = max(self._config.modest, middle)
        self._look_at = now + _LOOK_AGAIN_S

    def _next_span(self, now: float) -> None:
        self._span_ends = now + _REMEMBERED_S
        for name, party in list(self._parties.items()):
            party.asked_before, party.asked = party.asked, party.asks
            if not (party.asked or party.asked_before or party.in_round):
                del self._parties[name]
