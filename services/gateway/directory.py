"""What datashare knows about those who come to the entrance, and its feed of what ends."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from puhui.common.v1 import access_pb2
from puhui.datashare.v1 import changes_pb2, credentials_pb2, participants_pb2
from services.gateway.api_keys import ApiKeys
from services.gateway.jws import VerifyingKey, verifying_key
from services.gateway.remembered import Remembered
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import PuhuiError
from services.kit.identity import Caller

VERIFY_KEY = "/puhui.datashare.v1.ParticipantService/VerifyKey"
FIND_CLIENT = "/puhui.datashare.v1.CredentialService/FindClient"
FIND_PERSON = "/puhui.datashare.v1.CredentialService/FindPerson"
LIST_CHANGES = "/puhui.datashare.v1.ChangeService/ListChanges"

_ASK_TIMEOUT = 5.0
_PAGE = 1000

_log = structlog.get_logger()


@dataclass(frozen=True)
class Client:
    """An institution, and what it may prove itself with now.

    Args:
        caller: as what it calls.
        certificates: thumbprints (`x5t#S256`) of its certificates.
        keys: its keys for client assertions, by the ids of the credentials.
    """

    caller: Caller
    certificates: frozenset[str]
    keys: dict[str, VerifyingKey]


class Directory:
    """Asks datashare.

    Args:
        channel: to it, as the gateway itself.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def verify(self, key_id: str, secret_sha256: bytes) -> Caller:
        """Return whose API key it is.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
            UnavailableError: datashare does not answer.
        """
        response = await self._channel.unary(
            VERIFY_KEY,
            participants_pb2.VerifyKeyRequest(key_id=key_id, secret_sha256=secret_sha256),
            participants_pb2.VerifyKeyResponse,
            timeout=_ASK_TIMEOUT,
            idempotent=True,
        )
        return _caller(response.participant)

    async def client(self, participant_id: str) -> Client:
        """Return an institution with its credentials; raises as `verify` does."""
        response = await self._channel.unary(
            FIND_CLIENT,
            credentials_pb2.FindClientRequest(participant_id=participant_id),
            credentials_pb2.FindClientResponse,
            timeout=_ASK_TIMEOUT,
            idempotent=True,
        )
        keys = {}
        for each in response.credentials:
            if not each.public_jwk:
                continue
            try:
                keys[each.credential_id] = verifying_key(
                    json.loads(each.public_jwk), [each.credential_id]
                )
            except ValueError as error:
                _log.error("key not usable", credential_id=each.credential_id, problem=str(error))
        certificates = frozenset(
            each.certificate_sha256 for each in response.credentials if each.certificate_sha256
        )
        return Client(_caller(response.participant), certificates, keys)

    async def person(self, issuer: str, subject: str) -> Caller:
        """Return as whom a person acts; raises as `verify` does."""
        account = credentials_pb2.PersonAccount(issuer=issuer, subject=subject)
        response = await self._channel.unary(
            FIND_PERSON,
            credentials_pb2.FindPersonRequest(person=account),
            credentials_pb2.FindPersonResponse,
            timeout=_ASK_TIMEOUT,
            idempotent=True,
        )
        return _caller(response.participant, response.person_id)

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


class Clients:
    """Institutions, remembered.

    Args:
        directory: where they are asked for.
        clock: the time.
        keep: how long an answer is remembered.
    """

    def __init__(self, directory: Directory, clock: Clock, keep: timedelta) -> None:
        self._known: Remembered[str, Client] = Remembered(directory.client, clock, keep)

    async def find(self, participant_id: str) -> Client:
        """Return an institution; raises as `Directory.client` does."""
        return await self._known.get(participant_id)

    def forget_participant(self, participant_id: str) -> None:
        """Ask again about a participant, even if an answer is on its way."""
        self._known.forget(lambda known, _: known == participant_id)


class Persons:
    """Persons, remembered; arguments as those of `Clients`."""

    def __init__(self, directory: Directory, clock: Clock, keep: timedelta) -> None:
        self._known: Remembered[tuple[str, str], Caller] = Remembered(
            lambda account: directory.person(*account), clock, keep
        )

    async def find(self, issuer: str, subject: str) -> Caller:
        """Return as whom a person acts; raises as `Directory.person` does."""
        return await self._known.get((issuer, subject))

    def forget_participant(self, participant_id: str) -> None:
        """Ask again about whoever acts for a participant, even if an answer is on its way."""
        self._known.forget(lambda _, caller: caller.participant_id == participant_id)


class Forgets(Protocol):
    """Remembers what datashare answered, until it is told that this is over."""

    def forget_participant(self, participant_id: str) -> None:
        """Ask again about whatever a participant proves itself with."""
        ...


class Revocations:
    """Follows the feed of changes, and so knows whether datashare can be reached.

    Args:
        directory: where the feed comes from.
        keys: forgets API keys that are over.
        memories: forget participants of whom something has changed.
        every: how often to ask.
    """

    def __init__(
        self, directory: Directory, keys: ApiKeys, memories: Sequence[Forgets], every: timedelta
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._memories = (keys, *memories)
        self._every = every.total_seconds()
        self._cursor = ""

    async def follow(self, reachable: Callable[[bool], Awaitable[None]]) -> None:
        """Follow the feed until cancelled.

        Whatever else goes wrong counts as no answer and goes through: begun again, this goes on
        behind the last changes that were all taken in.

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
            except Exception:  # a fault of ours, which goes through
                await reachable(False)
                raise
            if not more:
                await asyncio.sleep(self._every)

    async def _step(self) -> bool:
        changes, cursor, more = await self._directory.changes(self._cursor)
        for change in changes:
            match change.kind:
                case changes_pb2.CHANGE_KIND_KEY_REVOKED:
                    self._keys.forget_key(change.key_id)
                case (
                    changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED
                    | changes_pb2.CHANGE_KIND_PARTICIPANT_REINSTATED
                    | changes_pb2.CHANGE_KIND_PARTICIPANT_CHANGED
                    | changes_pb2.CHANGE_KIND_MANDATE_CHANGED
                    | changes_pb2.CHANGE_KIND_CREDENTIAL_CHANGED
                ):
                    for memory in self._memories:
                        memory.forget_participant(change.participant_id)
        # Only now: what was not taken in must be told again.
        self._cursor = cursor
        return more


def _caller(participant: participants_pb2.Participant, person_id: str = "") -> Caller:
    return Caller(
        participant.participant_id,
        access_pb2.Role.Name(participant.role).removeprefix("ROLE_"),
        participant.subject_id or None,
        participant.name,
        person_id,
        tuple(sorted(participant.products)),
    )
