"""One suite for what challengers said on the fake, SQLite and PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from services.kit import transactions
from services.kit.db import Database, Transactions
from services.kit.migrations import upgrade
from services.scoring.shadow.app import Differences
from services.scoring.shadow.domain import Counts, Difference, Loss, Move, Pair
from services.scoring.shadow.store import DifferenceStore
from tests.fakes.shadow import FakeShadowWork

TREE = Path(__file__).parents[3] / "services" / "scoring" / "migrations"
FIRST = date(2026, 11, 22)
NEXT = FIRST + timedelta(days=1)
Work: TypeAlias = transactions.Transactions[Differences]


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def work(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Work]:
    if request.param == "fake":
        yield FakeShadowWork()
        return
    url = (
        f"sqlite:///{tmp_path}/scoring.db"
        if request.param == "sqlite"
        else request.getfixturevalue("migrated_copy")(TREE)
    )
    upgrade(url, TREE)
    database = Database.open(url)
    yield Transactions(database, DifferenceStore)
    await database.close()


def difference(number: int, **changes: Any) -> Difference:
    said: dict[str, Any] = {
        "challenger": "c",
        "answered_by": "a",
        "decision_id": f"dec_{number}",
        "day": FIRST,
        "pd_answered": 0.25,
        "pd_challenger": 0.125,
        "score_answered": 600,
        "score_challenger": 612,
        "grade_answered": "B",
        "grade_challenger": "BB",
    }
    return Difference(**(said | changes))


async def counts(work: Work, since: date | None = None) -> Counts:
    async with work.read() as differences:
        return await differences.counts("c", "a", since)


async def test_counts_are_of_one_challenger_beside_one_version(work: Work) -> None:
    async with work.begin() as differences:
        await differences.add(
            [
                difference(1),
                difference(2),
                difference(3, score_challenger=590, grade_challenger="B", day=NEXT),
                difference(4, pd_challenger=None, day=NEXT),
                difference(5, answered_by="other"),
                difference(5, challenger="another"),
            ]
        )
    found = await counts(work)
    assert found.points == {(FIRST, 12): 2, (NEXT, -10): 1, (NEXT, 12): 1}
    assert found.pds == {FIRST: (2, -0.25), NEXT: (1, -0.125)}
    assert found.losses == {}
    assert set(found.moves) == {
        Move(FIRST, "B", "BB", 2),
        Move(NEXT, "B", "B", 1),
        Move(NEXT, "B", "BB", 1),
    }
    assert set((await counts(work, NEXT)).points) == {(NEXT, -10), (NEXT, 12)}


async def test_a_decision_counts_once(work: Work) -> None:
    for _ in range(2):
        async with work.begin() as differences:
            await differences.add([difference(1)])
    assert (await counts(work)).points == {(FIRST, 12): 1}


async def test_what_was_missed_adds_up(work: Work) -> None:
    pair, later = Pair("c", "a", FIRST), Pair("c", "a", NEXT)
    for _ in range(2):
        async with work.begin() as differences:
            await differences.lose([(pair, Loss(dropped=2, failed=1)), (later, Loss(failed=1))])
    assert (await counts(work)).losses == {FIRST: Loss(4, 2), NEXT: Loss(0, 2)}
    assert (await counts(work, NEXT)).losses == {NEXT: Loss(0, 2)}


async def test_earlier_days_are_forgotten(work: Work) -> None:
    async with work.begin() as differences:
        await differences.add([difference(1), difference(2, day=NEXT)])
        await differences.lose([(Pair("c", "a", FIRST), Loss(1))])
        await differences.forget(NEXT)
    found = await counts(work)
    assert found.points == {(NEXT, 12): 1}
    assert found.losses == {}
