"""Services behind a gateway, small but real: served by kit over gRPC on loopback.

They note who called with what, and do what the request tells them to, so that a test can see what
the gateway passes on.
"""

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from puhui.common.v1 import access_pb2
from puhui.datashare.v1 import (
    accesses_pb2,
    accesses_pb2_grpc,
    changes_pb2,
    changes_pb2_grpc,
    consents_pb2,
    consents_pb2_grpc,
    notices_pb2,
    notices_pb2_grpc,
    participants_pb2,
    participants_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    subjects_pb2,
    subjects_pb2_grpc,
)
from puhui.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from services.kit.calls import current_call, current_deadline
from services.kit.clock import SystemClock
from services.kit.errors import (
    FailedPreconditionError,
    FieldProblem,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from services.kit.identity import Caller, IdentityVerifier, current_caller
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.telemetry import Telemetry
from services.kit.tls import Certificates, TlsConfig
from services.kit.workloads import TRUST_DOMAIN, Workloads

# Field 1999, a text.
NEWER = b"\xfa\x7c\x05newer"


_NOISE = base64.b64encode(random.Random(0).randbytes(75_000)).decode()


@dataclass(frozen=True)
class Seen:
    """A call as it arrived."""

    method: str
    caller: Caller
    metadata: Mapping[str, str]
    seconds_left: float
    request: Any


@dataclass
class Notes:
    """What arrived."""

    calls: list[Seen] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    received: int = 0

    def note(self, method: str, request: Any) -> None:
        """Keep a call."""
        left = current_deadline() - asyncio.get_running_loop().time()
        seen = Seen(method, current_caller(), dict(current_call().metadata), left, request)
        self.calls.append(seen)


@dataclass
class Participants(participants_pb2_grpc.ParticipantServiceServicer):
    """Knows keys; a key is "<key_id>.<secret>"."""

    notes: Notes
    keys: dict[str, tuple[bytes, participants_pb2.Participant]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    suspended: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def issue(self, role: str, participant_id: str, subject_id: str = "") -> str:
        """Return a new participant's API key."""
        number = len(self.keys) + 1
        secret = f"secret-{number}"
        participant = participants_pb2.Participant(
            participant_id=participant_id,
            role=access_pb2.Role.Value(f"ROLE_{role}"),
            name=f"Name of {participant_id}",
            subject_id=subject_id,
        )
        digest = hashlib.sha256(secret.encode()).digest()
        self.keys[f"key_{number}"] = digest, participant
        return f"key_{number}.{secret}"

    async def VerifyKey(self, request: Any, context: Any) -> Any:
        self.asked.append(request.key_id)
        digest, participant = self.keys.get(request.key_id, (b"", None))
        wrong = digest != request.secret_sha256 or request.key_id in self.revoked
        if participant is None or wrong:
            raise UnauthenticatedError("CREDENTIALS_INVALID", "the API key is not valid")
        if participant.participant_id in self.suspended:
            raise PermissionDeniedError("PARTICIPANT_SUSPENDED", "the participant is suspended")
        return participants_pb2.VerifyKeyResponse(participant=participant)

    async def IssueKey(self, request: Any, context: Any) -> Any:
        self.notes.note("IssueKey", request)
        return participants_pb2.IssueKeyResponse(key_id="key_new")

    async def ListParticipants(self, request: Any, context: Any) -> Any:
        self.notes.note("ListParticipants", request)
        return participants_pb2.ListParticipantsResponse()


@dataclass
class Changes(changes_pb2_grpc.ChangeServiceServicer):
    """A feed."""

    changes: list[changes_pb2.Change] = field(default_factory=list)

    async def ListChanges(self, request: Any, context: Any) -> Any:
        start = int(request.cursor or 0)
        page = self.changes[start : start + request.page_size]
        return changes_pb2.ListChangesResponse(changes=page, next_cursor=str(start + len(page)))


@dataclass
class Records(records_pb2_grpc.RecordServiceServicer):
    """Acknowledges batches; a delivery's id says how it behaves."""

    notes: Notes

    async def SubmitRecords(self, request: Any, context: Any) -> Any:
        self.notes.note("SubmitRecords", request)
        accepted = range(len(request.records))
        return records_pb2.SubmitRecordsResponse(ack=records_pb2.PushAck(accepted=accepted))

    async def PushRecords(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        behaviour = ""
        try:
            async for request in requests:
                self.notes.received += 1
                if request.WhichOneof("part") == "header":
                    behaviour = request.header.delivery_id
                    self.notes.note("PushRecords", request)
                    yield records_pb2.PushRecordsResponse(ready=records_pb2.PushReady())
                    if behaviour == "stop-reading":
                        await self.notes.go_on.wait()
                    continue
                if behaviour == "fail":
                    raise InvalidArgumentError("OUT_OF_SEQUENCE", "not the next batch")
                ack = records_pb2.PushAck(sequence=request.batch.sequence)
                yield records_pb2.PushRecordsResponse(ack=ack)
        except asyncio.CancelledError:
            self.notes.cancelled.set()
            raise


@dataclass
class Subjects(subjects_pb2_grpc.SubjectServiceServicer):
    """The number says what happens."""

    notes: Notes

    async def ResolveSubject(self, request: Any, context: Any) -> Any:
        self.notes.note("ResolveSubject", request)
        match request.uscc:
            case "slow":
                await asyncio.sleep(1.0)
            case "wait":
                try:
                    await self.notes.go_on.wait()
                except asyncio.CancelledError:
                    self.notes.cancelled.set()
                    raise
            case "fault":
                raise ValueError(request.uscc)
            case "newer":
                # Of a service that knows a field which its gateway does not.
                unknown = subjects_pb2.ResolveSubjectResponse.FromString(NEWER)
                unknown.subject_id = "sub_newer"
                return unknown
            case "large":
                await asyncio.sleep(0.05)
                return subjects_pb2.ResolveSubjectResponse(subject_id="x" * 1024 * 1024)
        return subjects_pb2.ResolveSubjectResponse(subject_id=f"sub_{request.uscc}")


@dataclass
class Consents(consents_pb2_grpc.ConsentServiceServicer):
    """The id says what happens; a list has so many pages."""

    notes: Notes
    pages: int = 1
    subject_id: str = "sub_1"

    async def GetConsent(self, request: Any, context: Any) -> Any:
        self.notes.note("GetConsent", request)
        if request.consent_id == "con_expired":
            raise FailedPreconditionError("CONSENT_EXPIRED", "the consent's time is over")
        consent = consents_pb2.Consent(consent_id=request.consent_id)
        return consents_pb2.GetConsentResponse(consent=consent)

    async def WithdrawConsent(self, request: Any, context: Any) -> Any:
        self.notes.note("WithdrawConsent", request)
        if request.note == "refuse":
            problem = FieldProblem("terms.record_types[2]", "is unknown")
            raise InvalidArgumentError("FIELD_INVALID", "correct it", fields=(problem,))
        return consents_pb2.WithdrawConsentResponse()

    async def ListConsents(self, request: Any, context: Any) -> Any:
        self.notes.note("ListConsents", request)
        start = int(request.page_token) if request.page_token.isdigit() else 0
        more = str(start + 1) if start < self.pages - 1 else ""
        consents = [consents_pb2.Consent(consent_id=f"con_{start}", subject_id=self.subject_id)]
        return consents_pb2.ListConsentsResponse(consents=consents, next_page_token=more)


@dataclass
class Notices(notices_pb2_grpc.NoticeServiceServicer):
    """Tells three notices after a cursor and, to who follows, waits; after "flood", without end."""

    notes: Notes
    told: int = 0

    async def StreamNotices(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.notes.note("StreamNotices", request)
        try:
            while request.cursor == "flood":
                self.told += 1
                notice = notices_pb2.Notice(subject_id=_NOISE)
                yield notices_pb2.StreamNoticesResponse(notices=[notice], cursor=str(self.told))
            start = int(request.cursor or 0)
            for number in range(start + 1, start + 4):
                yield notices_pb2.StreamNoticesResponse(cursor=str(number))
            if request.follow:
                await self.notes.go_on.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.notes.cancelled.set()
            raise


@dataclass
class Accesses(accesses_pb2_grpc.AccessServiceServicer):
    """Releases nothing."""

    notes: Notes

    async def FetchSummary(self, request: Any, context: Any) -> Any:
        self.notes.note("FetchSummary", request)
        return accesses_pb2.FetchSummaryResponse(access_id="acc_1")


@dataclass
class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    """Scores in the order of the portfolio; a consent's id says what happens."""

    notes: Notes

    async def Score(self, request: Any, context: Any) -> Any:
        self.notes.note("Score", request)
        return scoring_pb2.ScoreResponse(decision=scoring_pb2.Decision(score=600, pd=0.02))

    async def BatchScore(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.notes.note("BatchScore", request)
        try:
            for index, order in enumerate(request.orders):
                if order.consent_id == "fail":
                    raise FailedPreconditionError("MODEL_NOT_FOUND", "no model is loaded")
                if order.consent_id == "wait":
                    await self.notes.go_on.wait()
                yield scoring_pb2.BatchScoreResponse(index=index)
        except asyncio.CancelledError:
            self.notes.cancelled.set()
            raise


@dataclass
class Backend:
    """Both services."""

    notes: Notes
    participants: Participants
    changes: Changes
    consents: Consents
    notices: Notices
    datashare: Server
    scoring: Server


async def start_backend(
    public_key: str, listen: str = "127.0.0.1:0", tls: TlsConfig | None = None
) -> Backend:
    """Return both services, started; they believe who proves by `public_key` to be the gateway.

    With TLS they are called by the workloads that may.
    """
    clock = SystemClock()
    notes = Notes()
    # Not every method of a service is needed.
    participants = Participants(notes)  # type: ignore[abstract]  # methods that no test calls are left out
    changes = Changes()
    consents = Consents(notes)  # type: ignore[abstract]  # methods that no test calls are left out
    notices = Notices(notes)  # type: ignore[abstract]  # methods that no test calls are left out

    def server(name: str, listen: str) -> Server:
        verifier = IdentityVerifier({"puhui-gateway": public_key}, f"puhui-{name}", clock)
        config = ServerConfig(listen, grace=0.1)
        return Server(
            config,
            by_assertion(verifier),
            Telemetry(name),
            clock,
            certificates=Certificates(f"{name}.server.tls", tls) if tls else None,
            workloads=Workloads(TRUST_DOMAIN) if tls else None,
        )

    datashare, scoring = server("datashare", listen), server("scoring", "127.0.0.1:0")
    add: dict[Callable[[Any, Any], None], object] = {
        participants_pb2_grpc.add_ParticipantServiceServicer_to_server: participants,
        changes_pb2_grpc.add_ChangeServiceServicer_to_server: changes,
        records_pb2_grpc.add_RecordServiceServicer_to_server: Records(notes),
        subjects_pb2_grpc.add_SubjectServiceServicer_to_server: Subjects(notes),
        consents_pb2_grpc.add_ConsentServiceServicer_to_server: consents,
        notices_pb2_grpc.add_NoticeServiceServicer_to_server: notices,
        accesses_pb2_grpc.add_AccessServiceServicer_to_server: Accesses(notes),  # type: ignore[abstract]  # methods that no test calls are left out
    }
    for register, servicer in add.items():
        datashare.add(register, servicer)
    scoring.add(scoring_pb2_grpc.add_ScoringServiceServicer_to_server, Scoring(notes))
    await datashare.start()
    await scoring.start()
    return Backend(notes, participants, changes, consents, notices, datashare, scoring)
