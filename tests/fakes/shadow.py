"""Fakes of the ports of shadow scoring: differences in memory, challengers of every temper."""

import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

from services.kit.errors import UnavailableError
from services.scoring.decisions.domain import Inputs, Outcome
from services.scoring.features.domain import FeatureVector, FirmSummary
from services.scoring.shadow.domain import Counts, Difference, Loss, Move, Pair
from tests.fakes.decisions import INPUTS


class FakeDifferences:
    """`app.Differences` in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Difference] = {}
        self.losses: dict[Pair, Loss] = {}

    async def add(self, differences: Sequence[Difference]) -> None:
        for each in differences:
            self.kept.setdefault((each.challenger, each.decision_id), each)

    async def lose(self, losses: Sequence[tuple[Pair, Loss]]) -> None:
        for pair, loss in losses:
            self.losses[pair] = self.losses.get(pair, Loss()) + loss

    async def counts(self, challenger: str, answered_by: str, since: date | None) -> Counts:
        mine = [
            each
            for each in self.kept.values()
            if (each.challenger, each.answered_by) == (challenger, answered_by)
            and (since is None or each.day >= since)
        ]
        moves = Counter((each.day, each.grade_answered, each.grade_challenger) for each in mine)
        pds: defaultdict[date, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        for each in mine:
            if each.pd_answered is not None and each.pd_challenger is not None:
                firms, total = pds[each.day]
                pds[each.day] = firms + 1, total + each.pd_challenger - each.pd_answered
        return Counts(
            points=Counter(
                (each.day, each.score_challenger - each.score_answered) for each in mine
            ),
            moves=[Move(*move, firms) for move, firms in moves.items()],
            pds=pds,
            losses={
                pair.day: loss
                for pair, loss in self.losses.items()
                if (pair.challenger, pair.answered_by) == (challenger, answered_by)
                and (since is None or pair.day >= since)
            },
        )

    async def forget(self, before: date) -> None:
        self.kept = {key: each for key, each in self.kept.items() if each.day >= before}
        self.losses = {pair: loss for pair, loss in self.losses.items() if pair.day >= before}


class FakeShadowWork:
    """Transactions that take effect at once; they can be away."""

    def __init__(self) -> None:
        self.differences = FakeDifferences()
        self.away = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[FakeDifferences]:
        if self.away:
            raise UnavailableError("UNAVAILABLE", "it is away")
        yield self.differences

    @asynccontextmanager
    async def read(self) -> AsyncIterator[FakeDifferences]:
        yield self.differences


@dataclass
class FakeMeter:
    """`app.Meter`: sums, and who hung or failed."""

    decisions: int = 0
    loss: Loss = field(default_factory=Loss)
    told: list[str] = field(default_factory=list)

    def scored(self, decisions: int) -> None:
        self.decisions += decisions

    def lost(self, loss: Loss) -> None:
        self.loss += loss

    def hangs(self, version: str) -> None:
        self.told.append(f"{version} hangs")

    def failed(self, version: str, error: Exception) -> None:
        self.told.append(f"{version} failed: {type(error).__name__}")


@dataclass
class Tempered:
    """A challenger that says PD and score of what is sold, and may fail or hang.

    Args:
        version: its version.
        model_class: how much its PD may be believed.
        inputs: what its features are.
        points: that it adds to the first feature.
        fails_on: a first feature that it fails on.
        reads_badly: it fails on every summary.
        hangs: until this is set.
    """

    version: str
    model_class: str = "VALIDATED"
    inputs: Inputs = INPUTS
    points: int = 0
    fails_on: float | None = None
    reads_badly: bool = False
    hangs: threading.Event | None = None
    asked: list[int] = field(default_factory=list)

    def features(
        self, summary: FirmSummary, as_of: datetime, declared: Mapping[str, float | str]
    ) -> FeatureVector:
        if self.reads_badly:
            raise ZeroDivisionError
        return FeatureVector((float(len(summary.series)),), (None,))

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        self.asked.append(len(vectors))
        if self.hangs is not None:
            self.hangs.wait(30)
        return [self._outcome(vector.values[0]) for vector in vectors]

    def _outcome(self, value: float) -> Outcome:
        if value == self.fails_on:
            raise ZeroDivisionError
        score = 600 + self.points
        return Outcome(0.02, score, "A" if self.points > 0 else "B", 600.0, {}, ())
