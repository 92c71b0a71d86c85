"""The feed of changes."""

import pytest

from services.datashare.changes.app import Feed
from services.datashare.changes.domain import Change, ChangeKind
from services.kit.errors import InvalidArgumentError
from tests.fakes.datashare import FakeTransactions
from tests.fakes.datashare_world import NOW


async def test_a_reader_that_keeps_its_cursor_misses_nothing() -> None:
    transactions = FakeTransactions()
    feed, seen, cursor = Feed(transactions), [], ""
    for number in range(5):
        async with transactions.begin() as work:
            await work.changes.append(
                [
                    Change(ChangeKind.CONSENT_GRANTED, NOW, consent_id=f"con_{number}_{n}")
                    for n in "ab"
                ]
            )
        entries, cursor = await feed.list(cursor, 3)
        seen += [entry.change.consent_id for entry in entries]
    while (page := await feed.list(cursor, 3))[0]:
        seen += [entry.change.consent_id for entry in page[0]]
        cursor = page[1]
    assert seen == [f"con_{number}_{n}" for number in range(5) for n in "ab"]
    assert await feed.list(cursor, 3) == ([], cursor)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "１", "9" * 19])
async def test_a_cursor_of_elsewhere_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await Feed(FakeTransactions()).list(cursor, 3)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
