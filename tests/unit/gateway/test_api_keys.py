import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway import remembered as module
from services.gateway.api_keys import ApiKeys
from services.kit.clock import FixedClock
from services.kit.errors import PermissionDeniedError, UnauthenticatedError, UnavailableError
from services.kit.identity import Caller

KEEP = timedelta(seconds=5)
BANK = Caller("par_bank", "BANK")


class Directory:
    """Knows keys, and counts how often it is asked; can be made to wait."""

    def __init__(self) -> None:
        self.keys = {("key_1", hashlib.sha256(b"right").digest()): BANK}
        self.error: Exception | None = None
        self.asked = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def verify(self, key_id: str, secret_sha256: bytes) -> Caller:
        self.asked += 1
        # The answer is as things stand now, even if it arrives later.
        known, error = self.keys.get((key_id, secret_sha256)), self.error
        await self.go_on.wait()
        if error:
            raise error
        if known is None:
            raise UnauthenticatedError("CREDENTIALS_INVALID", "not valid")
        return known


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def directory() -> Directory:
    return Directory()


@pytest.fixture
def keys(directory: Directory, clock: FixedClock) -> ApiKeys:
    return ApiKeys(directory.verify, clock, KEEP)


async def test_a_right_key_is_asked_about_again_only_after_its_time(
    keys: ApiKeys, directory: Directory, clock: FixedClock
) -> None:
    for _ in range(3):
        assert await keys.caller("key_1.right") == BANK
    clock.advance(KEEP - timedelta(microseconds=1))
    await keys.caller("key_1.right")
    assert directory.asked == 1
    clock.advance(timedelta(microseconds=1))
    await keys.caller("key_1.right")
    assert directory.asked == 2


async def test_a_wrong_secret_does_not_pass_for_a_right_one_that_is_remembered(
    keys: ApiKeys,
) -> None:
    await keys.caller("key_1.right")
    with pytest.raises(UnauthenticatedError):
        await keys.caller("key_1.wrong")
    assert await keys.caller("key_1.right") == BANK


async def test_a_wrong_key_is_remembered_for_a_second(
    keys: ApiKeys, directory: Directory, clock: FixedClock
) -> None:
    for _ in range(3):
        with pytest.raises(UnauthenticatedError) as refusal:
            await keys.caller("key_1.wrong")
        assert refusal.value.reason == "CREDENTIALS_INVALID"
    assert directory.asked == 1
    clock.advance(timedelta(seconds=1))
    with pytest.raises(UnauthenticatedError):
        await keys.caller("key_1.wrong")
    assert directory.asked == 2


async def test_no_answer_is_not_remembered(keys: ApiKeys, directory: Directory) -> None:
    directory.error = UnavailableError("UNAVAILABLE", "down")
    with pytest.raises(UnavailableError):
        await keys.caller("key_1.right")
    directory.error = None
    assert await keys.caller("key_1.right") == BANK


async def test_callers_that_wait_share_one_question(keys: ApiKeys, directory: Directory) -> None:
    directory.go_on.clear()
    waiting = [asyncio.create_task(keys.caller("key_1.right")) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    directory.go_on.set()
    assert await asyncio.gather(*waiting[1:]) == [BANK] * 9
    assert directory.asked == 1


@pytest.mark.parametrize("forget", ["key", "participant"])
async def test_what_is_forgotten_is_asked_again(
    keys: ApiKeys, directory: Directory, forget: str
) -> None:
    await keys.caller("key_1.right")
    directory.keys.clear()
    if forget == "key":
        keys.forget_key("key_1")
    else:
        keys.forget_participant("par_bank")
    with pytest.raises(UnauthenticatedError):
        await keys.caller("key_1.right")


async def test_an_answer_from_before_a_revocation_is_neither_remembered_nor_shared(
    keys: ApiKeys, directory: Directory
) -> None:
    directory.go_on.clear()
    early = asyncio.create_task(keys.caller("key_1.right"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    directory.keys.clear()
    keys.forget_key("key_1")
    late = asyncio.create_task(keys.caller("key_1.right"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    directory.go_on.set()
    assert await early == BANK
    with pytest.raises(UnauthenticatedError):
        await late
    with pytest.raises(UnauthenticatedError):
        await keys.caller("key_1.right")


async def test_a_reinstated_participant_is_let_in_at_once(
    keys: ApiKeys, directory: Directory
) -> None:
    directory.error = PermissionDeniedError("PARTICIPANT_SUSPENDED", "suspended")
    with pytest.raises(PermissionDeniedError):
        await keys.caller("key_1.right")
    directory.error = None
    keys.forget_participant("par_bank")
    assert await keys.caller("key_1.right") == BANK


async def test_a_flood_of_wrong_keys_is_bounded_and_pushes_out_no_right_one(
    keys: ApiKeys, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 10)
    await keys.caller("key_1.right")
    for number in range(50):
        with pytest.raises(UnauthenticatedError):
            await keys.caller(f"key_{number}.wrong")
    asked = directory.asked
    await keys.caller("key_1.right")
    assert directory.asked == asked
    with pytest.raises(UnauthenticatedError):
        await keys.caller("key_0.wrong")
    assert directory.asked == asked + 1
