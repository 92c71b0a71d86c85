"""Who holds an API key, as sandboxes have them: asked of datashare and remembered (`Remembered`).

The secret leaves this module only as its SHA-256, and is in no log and no error.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.gateway.remembered import Remembered
from services.kit.clock import Clock
from services.kit.errors import UnauthenticatedError
from services.kit.identity import Caller

_MOST_CHARACTERS = 512

Verify = Callable[[str, bytes], Awaitable[Caller]]


class ApiKeys:
    """Tells whose API key came with a call.

    Args:
        verify: asks whose key it is, by its id and the SHA-256 of its secret; raises
            UnauthenticatedError or PermissionDeniedError.
        clock: the time.
        keep: how long a right key is remembered.
    """

    def __init__(self, verify: Verify, clock: Clock, keep: timedelta) -> None:
        self._callers: Remembered[tuple[str, bytes], Caller] = Remembered(
            lambda key: verify(*key), clock, keep
        )

    async def caller(self, api_key: str) -> Caller:
        """Return who holds `<key_id>.<secret>`.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
            UnavailableError: datashare does not answer.
        """
        return await self._callers.get(_parse(api_key))

    def forget_key(self, key_id: str) -> None:
        """Ask again about a key, even if an answer is on its way."""
        self._callers.forget(lambda key, _: key[0] == key_id)

    def forget_participant(self, participant_id: str) -> None:
        """Ask again about every key of a participant, even if an answer is on its way."""
        self._callers.forget(lambda _, caller: caller.participant_id == participant_id)


def _parse(api_key: str) -> tuple[str, bytes]:
    """Return the key's id and the SHA-256 of its secret."""
    key_id, _, secret = api_key.partition(".")
    plain = len(api_key) <= _MOST_CHARACTERS and api_key.isascii()
    if not (plain and key_id and secret):
        raise UnauthenticatedError(
            "CREDENTIALS_INVALID",
            "the API key is malformed: send it as 'authorization: Bearer <key_id>.<secret>'",
        )
    return key_id, hashlib.sha256(secret.encode()).digest()
