"""The credentials that datashare knows, as a test says them; what changes is in its feed."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from puhui.common.v1 import access_pb2
from puhui.datashare.v1 import (
    changes_pb2,
    changes_pb2_grpc,
    credentials_pb2,
    credentials_pb2_grpc,
    participants_pb2,
    participants_pb2_grpc,
)
from services.kit.clock import SystemClock
from services.kit.errors import PermissionDeniedError, UnauthenticatedError
from services.kit.identity import IdentityVerifier
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.telemetry import Telemetry
from tests.fakes.backend import Changes, Notes, Participants


@dataclass
class Credentials(credentials_pb2_grpc.CredentialServiceServicer):
    """Knows institutions and persons; whom the fake of participants has suspended may not act."""

    participants: Participants
    feed: Changes
    clients: dict[str, participants_pb2.Participant] = field(default_factory=dict)
    held: dict[str, credentials_pb2.Credential] = field(default_factory=dict)
    persons: dict[tuple[str, str], str] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def join(self, role: str, participant_id: str, products: tuple[str, ...] = ()) -> None:
        """Let an institution join."""
        self.clients[participant_id] = participants_pb2.Participant(
            participant_id=participant_id,
            role=access_pb2.Role.Value(f"ROLE_{role}"),
            name=f"Name of {participant_id}",
            products=products,
        )

    def register(self, participant_id: str, *, certificate: str = "", jwk: str = "") -> str:
        """Register a certificate's thumbprint or a key; return the credential's id."""
        credential_id = f"cre_{next(self.numbers)}"
        credential = credentials_pb2.Credential(
            credential_id=credential_id, participant_id=participant_id
        )
        if certificate:
            credential.certificate_sha256 = certificate
        else:
            credential.public_jwk = jwk
        self.held[credential_id] = credential
        self._tell(changes_pb2.CHANGE_KIND_CREDENTIAL_CHANGED, participant_id)
        return credential_id

    def revoke(self, credential_id: str) -> None:
        """Revoke a credential."""
        credential = self.held.pop(credential_id)
        self._tell(changes_pb2.CHANGE_KIND_CREDENTIAL_CHANGED, credential.participant_id)

    def suspend(self, participant_id: str) -> None:
        """Suspend a participant."""
        self.participants.suspended.add(participant_id)
        self._tell(changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED, participant_id)

    def _tell(self, kind: changes_pb2.ChangeKind.ValueType, participant_id: str) -> None:
        self.feed.changes.append(changes_pb2.Change(kind=kind, participant_id=participant_id))

    def _participant(self, participant_id: str) -> participants_pb2.Participant:
        if participant_id not in self.clients:
            raise UnauthenticatedError("CREDENTIALS_INVALID", "there is no such participant")
        if participant_id in self.participants.suspended:
            raise PermissionDeniedError("PARTICIPANT_SUSPENDED", "the participant is suspended")
        return self.clients[participant_id]

    async def FindClient(self, request: Any, context: Any) -> Any:
        held = [c for c in self.held.values() if c.participant_id == request.participant_id]
        return credentials_pb2.FindClientResponse(
            participant=self._participant(request.participant_id), credentials=held
        )

    async def FindPerson(self, request: Any, context: Any) -> Any:
        account = request.person.issuer, request.person.subject
        if account not in self.persons:
            raise UnauthenticatedError("CREDENTIALS_INVALID", "there is no such person")
        return credentials_pb2.FindPersonResponse(
            participant=self._participant(self.persons[account]), person_id=f"per_{account[1]}"
        )


async def start_credentials(public_key: str) -> tuple[Server, Credentials]:
    """Return a datashare that knows credentials and API keys alone, started.

    Args:
        public_key: of the gateway; it believes nobody else.
    """
    # Not every method of a service is needed.
    participants = Participants(Notes())  # type: ignore[abstract]  # methods that no test calls are left out
    changes = Changes()
    credentials = Credentials(participants, changes)  # type: ignore[abstract]  # methods that no test calls are left out
    clock = SystemClock()
    verifier = IdentityVerifier({"puhui-gateway": public_key}, "puhui-datashare", clock)
    config = ServerConfig(grace=0.1)
    server = Server(config, by_assertion(verifier), Telemetry("datashare"), clock)
    server.add(participants_pb2_grpc.add_ParticipantServiceServicer_to_server, participants)
    server.add(changes_pb2_grpc.add_ChangeServiceServicer_to_server, changes)
    server.add(credentials_pb2_grpc.add_CredentialServiceServicer_to_server, credentials)
    await server.start()
    return server, credentials
