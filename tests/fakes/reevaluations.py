"""Fakes of the ports of re-evaluations: what was corrected in memory, and a feed of pages."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from services.scoring.decisions.domain import Decision
from services.scoring.reevaluations.app import Read
from services.scoring.reevaluations.domain import Correction, Standing
from tests.fakes.decisions import FakeDecisions


class FakeReevaluations:
    """`app.Reevaluations` in memory."""

    def __init__(self, decisions: FakeDecisions) -> None:
        self._decisions = decisions
        self.position = ""
        self.corrections: set[Correction] = set()
        self.disputes: dict[str, Standing] = {}

    async def cursor(self) -> str:
        return self.position

    async def advance(self, before: str, after: str) -> bool:
        if self.position != before:
            return False
        self.position = after
        return True

    async def add(self, corrections: Sequence[Correction]) -> None:
        self.corrections |= set(corrections)

    async def note(self, disputes: Sequence[Standing]) -> None:
        for each in disputes:
            self.disputes.pop(each.dispute_id, None)
            if not each.dispute_id:
                kept = self.disputes.items()
                self.disputes = {id_: old for id_, old in kept if old.subject_id != each.subject_id}
            elif each.stands:
                self.disputes[each.dispute_id] = each

    async def standing(self, subject_ids: Collection[str]) -> Sequence[Standing]:
        return [each for each in self.disputes.values() if each.subject_id in subject_ids]

    async def settle(self, before: datetime) -> None:
        due = {each for made in self._decisions.made.values() for each in self._of(made)}
        self.corrections = {
            each for each in self.corrections if each.changed_at >= before or each in due
        }

    async def due(
        self, caller_id: str, after: str, limit: int
    ) -> Sequence[tuple[Decision, Sequence[Correction]]]:
        found = [
            (made, self._of(made))
            for name, made in sorted(self._decisions.made.items())
            if made.caller_id == caller_id and name > after
        ]
        return [pair for pair in found if pair[1]][:limit]

    def _of(self, made: Decision) -> list[Correction]:
        others = self._decisions.made.values()
        past = made.order.as_of is not None
        read_at = {made.order.subject_id: made.decided_at if past else made.as_of}
        for entered in made.linked:
            if entered.as_of is not None:
                at = made.decided_at if past else entered.as_of
                read_at[entered.linked.subject_id] = at
        return [
            each
            for each in self.corrections
            if each.subject_id in read_at
            and read_at[each.subject_id] < each.changed_at
            and not any(
                other.caller_id == made.caller_id
                and other.order.subject_id == made.order.subject_id
                and other.as_of >= each.changed_at
                for other in others
            )
        ]


class FakeReevaluationWork:
    """Transactions that take effect at once."""

    def __init__(self, decisions: FakeDecisions) -> None:
        self.kept = FakeReevaluations(decisions)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[FakeReevaluations]:
        yield self.kept

    @asynccontextmanager
    async def read(self) -> AsyncIterator[FakeReevaluations]:
        yield self.kept


@dataclass
class FakeFeed:
    """A feed of corrections, disputes, and other changes (None), a page at a time.

    Args:
        changes: in the order of commit.
        page: most changes of a page.
    """

    changes: list[Correction | Standing | None] = field(default_factory=list)
    page: int = 2

    async def after(self, cursor: str) -> Read:
        start = int(cursor or 0)
        found = self.changes[start : start + self.page]
        corrections = [change for change in found if isinstance(change, Correction)]
        disputes = [change for change in found if isinstance(change, Standing)]
        return Read(corrections, disputes, str(start + len(found)) if found else cursor)
