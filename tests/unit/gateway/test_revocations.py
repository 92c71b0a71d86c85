"""What the gateway does about changes that datashare tells, and when something goes wrong."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from puhui.datashare.v1.changes_pb2 import CHANGE_KIND_PARTICIPANT_SUSPENDED, Change
from services.gateway.api_keys import ApiKeys
from services.gateway.directory import Directory, Revocations
from services.kit import service
from services.kit.errors import UnavailableError

SUSPENDED = Change(kind=CHANGE_KIND_PARTICIPANT_SUSPENDED, participant_id="par_bank")


class Feed:
    """Tells one suspension to whoever has not taken it in; raises what it has to first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def changes(self, cursor: str) -> tuple[list[Change], str, bool]:
        if self.errors:
            raise self.errors.pop(0)
        return ([], cursor, False) if cursor else ([SUSPENDED], "1", False)


class Memory:
    """Forgets, or fails to at first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.forgot = asyncio.Event()

    def forget_participant(self, participant_id: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.forgot.set()


@pytest.mark.parametrize(
    ("feed", "memory"),
    [
        (Feed(UnavailableError("UNAVAILABLE", "down")), Memory()),
        (Feed(RuntimeError("a fault")), Memory()),
        (Feed(), Memory(KeyError("a fault"))),
    ],
    ids=["no answer", "a fault in asking", "a fault in taking in"],
)
async def test_a_suspension_is_taken_in_whatever_went_wrong_before(
    feed: Feed, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_PAUSE", 0)
    keys = Memory()
    revocations = Revocations(
        cast("Directory", feed), cast("ApiKeys", keys), [memory], timedelta(milliseconds=1)
    )
    told: list[bool] = []
    well = asyncio.Event()

    async def reachable(answered: bool) -> None:
        told.append(answered)
        if answered:
            well.set()

    following = asyncio.create_task(service.for_ever(lambda: revocations.follow(reachable)))
    try:
        async with asyncio.timeout(5):
            await memory.forgot.wait()
            await well.wait()
    finally:
        following.cancel()
    assert told[:2] == [False, True]
