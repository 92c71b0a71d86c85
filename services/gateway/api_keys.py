"""Who holds an API key: asked of datashare, remembered for seconds, forgotten once it is revoked.

Invariants:

- The secret leaves this module only as its SHA-256, and is in no log and no error.
- A key that datashare has accepted is accepted for `keep` at most without asking again; the feed of
  changes ends that within its polling time. What was asked before a revocation arrived is not
  remembered after it.
- Wrong keys are remembered apart, so that a flood of them pushes out no right one.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from puhui.common.v1 import access_pb2
from puhui.datashare.v1 import changes_pb2, participants_pb2
from services.kit.calls import Call
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import PermissionDeniedError, PuhuiError, UnauthenticatedError
from services.kit.identity import Caller

VERIFY_KEY = "/puhui.datashare.v1.ParticipantService/VerifyKey"
LIST_CHANGES = "/puhui.datashare.v1.ChangeService/ListChanges"

_KEEP_REFUSED = timedelta(seconds=1)
_MOST_KEPT = 10_000
_MOST_CHARACTERS = 512
_ASK_TIMEOUT = 5.0
_PAGE = 1000

_log = structlog.get_logger()

Verify = Callable[[str, bytes], Awaitable[Caller]]


@dataclass(frozen=True)
class _Accepted:
    secret_sha256: bytes
    until: datetime
    caller: Caller


@dataclass(frozen=True)
class _Refused:
    until: datetime
    error: PuhuiError


class ApiKeys:
    """Tells whose API key came with a call.

    Args:
        verify: asks whose key it is, by its id and the SHA-256 of its secret; raises
            UnauthenticatedError or PermissionDeniedError.
        clock: the time.
        keep: how long a right key is remembered.
    """

    def __init__(self, verify: Verify, clock: Clock, keep: timedelta) -> None:
        self._verify = verify
        self._clock = clock
        self._keep = keep
        self._accepted: dict[str, _Accepted] = {}
        self._refused: dict[tuple[str, bytes], _Refused] = {}
        self._asking: dict[tuple[str, bytes], asyncio.Task[Caller | PuhuiError]] = {}
        self._forgotten = 0

    async def authenticate(self, call: Call) -> Caller:
        """Return who sent `authorization: Bearer <key_id>.<secret>`.

        Raises:
            UnauthenticatedError: CREDENTIALS_MISSING or CREDENTIALS_INVALID.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
            UnavailableError: datashare does not answer.
        """
        key_id, secret_sha256 = _parse(call.metadata.get("authorization", ""))
        now = self._clock.now()
        accepted = self._accepted.get(key_id)
        if (
            accepted
            and now < accepted.until
            and hmac.compare_digest(accepted.secret_sha256, secret_sha256)
        ):
            return accepted.caller
        refused = self._refused.get((key_id, secret_sha256))
        if refused and now < refused.until:
            outcome: Caller | PuhuiError = refused.error
        else:
            outcome = await self._ask(key_id, secret_sha256)
        if isinstance(outcome, PuhuiError):
            # A new one each time: a raised exception gathers the frames it went through.
            raise type(outcome)(outcome.reason, outcome.message)
        return outcome

    def forget_key(self, key_id: str) -> None:
        """Ask again about a key, even if an answer is on its way."""
        self._forgotten += 1
        self._accepted.pop(key_id, None)

    def forget_participant(self, participant_id: str) -> None:
        """Ask again about every key of a participant, even if an answer is on its way."""
        self._forgotten += 1
        self._refused.clear()
        for key_id, accepted in list(self._accepted.items()):
            if accepted.caller.participant_id == participant_id:
                del self._accepted[key_id]

    async def _ask(self, key_id: str, secret_sha256: bytes) -> Caller | PuhuiError:
        key = (key_id, secret_sha256)
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._answer(key_id, secret_sha256))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        # One caller that goes away does not take the answer from the others.
        return await asyncio.shield(asking)

    async def _answer(self, key_id: str, secret_sha256: bytes) -> Caller | PuhuiError:
        forgotten, now = self._forgotten, self._clock.now()
        try:
            caller = await self._verify(key_id, secret_sha256)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            _room(self._refused)
            self._refused[key_id, secret_sha256] = _Refused(now + _KEEP_REFUSED, error)
            return error
        except PuhuiError as error:
            return error
        if forgotten == self._forgotten:
            _room(self._accepted)
            self._accepted[key_id] = _Accepted(secret_sha256, now + self._keep, caller)
        return caller


class Directory:
    """What datashare knows about keys.

    Args:
        channel: to datashare, as the gateway itself.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def verify(self, key_id: str, secret_sha256: bytes) -> Caller:
        """Return whose key it is.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
            UnavailableError: datashare does not answer.
        """
        response = await self._channel.unary(
            VERIFY_KEY,
            participants_pb2.VerifyKeyRequest(key_id=key_id, secret_sha256=secret_sha256),
            participants_pb2.VerifyKeyResponse,
            timeout=_ASK_TIMEOUT,
            idempotent=True,
        )
        participant = response.participant
        role = access_pb2.Role.Name(participant.role).removeprefix("ROLE_")
        return Caller(
            participant.participant_id, role, participant.subject_id or None, participant.name
        )

    async def changes(self, cursor: str) -> tuple[list[changes_pb2.Change], str, bool]:
        """Return the changes after a cursor, the next cursor, and whether there may be more now.

        Raises:
            UnavailableError: datashare does not answer.
        """
        response = await self._channel.unary(
            LIST_CHANGES,
            changes_pb2.ListChangesRequest(cursor=cursor, page_size=_PAGE),
            changes_pb2.ListChangesResponse,
            timeout=_ASK_TIMEOUT,
            idempotent=True,
        )
        more = len(response.changes) == _PAGE
        return list(response.changes), response.next_cursor or cursor, more


class Revocations:
    """Follows the feed of changes, and so knows whether datashare can be reached.

    Args:
        directory: where the feed comes from.
        keys: forgets what the feed says is over.
        every: how often to ask.
    """

    def __init__(self, directory: Directory, keys: ApiKeys, every: timedelta) -> None:
        self._directory = directory
        self._tokens = keys
        self._every = every.total_seconds()
        self._cursor = ""

    async def follow(self, reachable: Callable[[bool], Awaitable[None]]) -> None:
        """Follow the feed until cancelled.

        Args:
            reachable: is told each time after asking whether there was an answer.
        """
        while True:
            try:
                more = await self._step()
                await reachable(True)
            except PuhuiError as error:
                more = False
                _log.warning("feed of changes not read", reason=error.reason)
                await reachable(False)
            if not more:
                await asyncio.sleep(self._every)

    async def _step(self) -> bool:
        changes, self._cursor, more = await self._directory.changes(self._cursor)
        for change in changes:
            match change.kind:
                case changes_pb2.CHANGE_KIND_KEY_REVOKED:
                    self._tokens.forget_key(change.key_id)
                case (
                    changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED
                    | changes_pb2.CHANGE_KIND_PARTICIPANT_REINSTATED
                    | changes_pb2.CHANGE_KIND_MANDATE_CHANGED
                ):
                    self._tokens.forget_participant(change.participant_id)
        return more


def _parse(authorization: str) -> tuple[str, bytes]:
    """Return the key's id and the SHA-256 of its secret."""
    if not authorization:
        raise UnauthenticatedError(
            "CREDENTIALS_MISSING",
            "no API key was sent: send it as 'authorization: Bearer <key_id>.<secret>'",
        )
    scheme, _, token = authorization.partition(" ")
    key_id, _, secret = token.strip().partition(".")
    plain = len(token) <= _MOST_CHARACTERS and token.isascii()
    if scheme.lower() != "bearer" or not (plain and key_id and secret):
        raise UnauthenticatedError(
            "CREDENTIALS_INVALID",
            "the API key is malformed: send it as 'authorization: Bearer <key_id>.<secret>'",
        )
    return key_id, hashlib.sha256(secret.encode()).digest()


def _room(kept: dict[Any, Any]) -> None:
    """Make room by dropping what was put in first."""
    while len(kept) >= _MOST_KEPT:
        del kept[next(iter(kept))]
