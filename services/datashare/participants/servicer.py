"""ParticipantService over gRPC."""

from datetime import datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from puhui.common.v1 import access_pb2, types_pb2
from puhui.datashare.v1 import participants_pb2 as pb
from puhui.datashare.v1 import participants_pb2_grpc
from services.datashare.idempotency.servicer import key_of
from services.datashare.participants.app import Advance, ParticipantDirectory, Registration
from services.datashare.participants.domain import (
    Participant,
    Role,
    SigningKey,
    Standing,
    SubjectName,
)
from services.datashare.participants.life_cycle import Event, Evidence, Step
from services.datashare.times import date_message, date_of, stamp_of, time_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]

_ROLES = {access_pb2.Role.Value(f"ROLE_{role}"): role for role in Role}
_STANDINGS = {pb.Standing.Value(f"STANDING_{standing}"): standing for standing in Standing}
_STEPS = {pb.ParticipantStep.Value(f"PARTICIPANT_STEP_{step}"): step for step in Step}


class ParticipantServicer(participants_pb2_grpc.ParticipantServiceServicer):
    """Translates ParticipantService.

    Args:
        directory: the use cases.
    """

    def __init__(self, directory: ParticipantDirectory) -> None:
        self._directory = directory

    async def RegisterParticipant(
        self, request: pb.RegisterParticipantRequest, context: _Context
    ) -> pb.RegisterParticipantResponse:
        caller = current_caller()
        participant = await self._directory.register(
            caller,
            key_of(caller, request.request_id, request),
            Registration(
                role=_ROLES[request.role],
                name=request.name,
                provider_kind=request.provider_kind,
                subject=subject_name(request.subject) if request.HasField("subject") else None,
                historical_source=request.historical_source,
                simulated_source=request.simulated_source,
            ),
        )
        return pb.RegisterParticipantResponse(participant=participant_message(participant))

    async def ListParticipants(
        self, request: pb.ListParticipantsRequest, context: _Context
    ) -> pb.ListParticipantsResponse:
        # Roles that no participant has match none.
        if request.role and request.role not in _ROLES:
            return pb.ListParticipantsResponse()
        bound_to = ("participants", request.role)
        position = decode_page_token(request.page_token, bound_to, (str,))
        participants, next_after = await self._directory.list(
            current_caller(),
            _ROLES.get(request.role),
            str(position[0]) if position else "",
            page_size(request.page_size),
        )
        return pb.ListParticipantsResponse(
            participants=[participant_message(participant) for participant in participants],
            next_page_token=encode_page_token((next_after,), bound_to) if next_after else "",
        )

    async def IssueKey(self, request: pb.IssueKeyRequest, context: _Context) -> pb.IssueKeyResponse:
        key_id, api_key = await self._directory.issue_key(
            key_of(current_caller(), request.request_id, request), request.participant_id
        )
        return pb.IssueKeyResponse(key_id=key_id, api_key=api_key)

    async def RevokeKey(
        self, request: pb.RevokeKeyRequest, context: _Context
    ) -> pb.RevokeKeyResponse:
        revoked_at = await self._directory.revoke_key(
            key_of(current_caller(), request.request_id, request), request.key_id
        )
        return pb.RevokeKeyResponse(revoked_at=stamp_of(revoked_at))

    async def AdvanceParticipant(
        self, request: pb.AdvanceParticipantRequest, context: _Context
    ) -> pb.AdvanceParticipantResponse:
        caller = current_caller()
        participant = await self._directory.advance(
            caller,
            key_of(caller, request.request_id, request),
            request.participant_id,
            Advance(
                step=_STEPS[request.step],
                evidence=_evidence(request.evidence) if request.HasField("evidence") else None,
                products=tuple(request.products),
                note=request.note,
            ),
        )
        return pb.AdvanceParticipantResponse(participant=participant_message(participant))

    async def GetParticipant(
        self, request: pb.GetParticipantRequest, context: _Context
    ) -> pb.GetParticipantResponse:
        participant, events = await self._directory.get(current_caller(), request.participant_id)
        return pb.GetParticipantResponse(
            participant=participant_message(participant),
            events=[event_message(event) for event in events],
        )

    async def SetStanding(
        self, request: pb.SetStandingRequest, context: _Context
    ) -> pb.SetStandingResponse:
        caller = current_caller()
        participant = await self._directory.set_standing(
            caller,
            key_of(caller, request.request_id, request),
            request.participant_id,
            _STANDINGS[request.standing],
            request.note,
        )
        return pb.SetStandingResponse(participant=participant_message(participant))

    async def RegisterSigningKey(
        self, request: pb.RegisterSigningKeyRequest, context: _Context
    ) -> pb.RegisterSigningKeyResponse:
        key = await self._directory.register_signing_key(
            key_of(current_caller(), request.request_id, request),
            request.participant_id,
            request.public_jwk,
        )
        return pb.RegisterSigningKeyResponse(key=signing_key_message(key))

    async def RevokeSigningKey(
        self, request: pb.RevokeSigningKeyRequest, context: _Context
    ) -> pb.RevokeSigningKeyResponse:
        key = await self._directory.revoke_signing_key(
            key_of(current_caller(), request.request_id, request),
            request.participant_id,
            request.key_id,
        )
        return pb.RevokeSigningKeyResponse(key=signing_key_message(key))

    async def ListSigningKeys(
        self, request: pb.ListSigningKeysRequest, context: _Context
    ) -> pb.ListSigningKeysResponse:
        bound_to = ("signing keys", request.participant_id)
        position = decode_page_token(request.page_token, bound_to, (str,))
        keys, next_after = await self._directory.signing_keys(
            current_caller(),
            request.participant_id,
            str(position[0]) if position else "",
            page_size(request.page_size),
        )
        return pb.ListSigningKeysResponse(
            keys=[signing_key_message(key) for key in keys],
            next_page_token=encode_page_token((next_after,), bound_to) if next_after else "",
        )

    async def VerifyKey(
        self, request: pb.VerifyKeyRequest, context: _Context
    ) -> pb.VerifyKeyResponse:
        participant = await self._directory.verify_key(request.key_id, request.secret_sha256)
        return pb.VerifyKeyResponse(participant=participant_message(participant))


def subject_name(ref: types_pb2.SubjectRef) -> SubjectName:
    """Return a subject as a caller names it."""
    return SubjectName(subject_id=ref.subject_id, uscc=ref.uscc)


def participant_message(participant: Participant) -> pb.Participant:
    """Return the message of a participant."""
    return pb.Participant(
        participant_id=participant.participant_id,
        role=access_pb2.Role.Value(f"ROLE_{participant.role}"),
        name=participant.name,
        provider_kind=participant.provider_kind,
        subject_id=participant.subject_id or "",
        historical_source=participant.historical_source,
        standing=pb.Standing.Value(f"STANDING_{participant.standing}"),
        registered_at=stamp_of(participant.registered_at),
        simulated_source=participant.simulated_source,
        products=participant.products,
        licence_ends=date_message(participant.licence_ends) if participant.licence_ends else None,
    )


def event_message(event: Event) -> pb.ParticipantEvent:
    """Return the message of a step."""
    return pb.ParticipantEvent(
        step=pb.ParticipantStep.Value(f"PARTICIPANT_STEP_{event.step}"),
        at=stamp_of(event.at),
        by_participant_id=event.by.participant_id,
        by_person_id=event.by.person_id,
        evidence=_evidence_message(event.evidence) if event.evidence else None,
        products=event.products,
        note=event.note,
        leaf_id=event.leaf_id,
    )


def _evidence_message(evidence: Evidence) -> pb.Evidence:
    return pb.Evidence(
        kind=evidence.kind,
        reference=evidence.reference,
        sha256=evidence.sha256,
        dated=date_message(evidence.dated),
        ends=date_message(evidence.ends) if evidence.ends else None,
    )


def _evidence(message: pb.Evidence) -> Evidence:
    ends = message.HasField("ends")
    return Evidence(
        kind=message.kind,
        reference=message.reference,
        sha256=message.sha256,
        dated=date_of(message.dated, "evidence.dated"),
        ends=date_of(message.ends, "evidence.ends") if ends else None,
    )


def signing_key_message(key: SigningKey) -> pb.SigningKey:
    """Return the message of a signing key."""
    return pb.SigningKey(
        key_id=key.key_id,
        participant_id=key.participant_id,
        public_jwk=key.public_jwk,
        registered_at=stamp_of(key.registered_at),
        revoked_at=stamp_of(key.revoked_at) if key.revoked_at else None,
    )


class ParticipantCodec:
    """A participant as stored in a response."""

    def encode(self, response: Participant) -> bytes:
        """Return the bytes of a participant."""
        return participant_message(response).SerializeToString()

    def decode(self, stored: bytes) -> Participant:
        """Return the participant of its bytes."""
        message = pb.Participant.FromString(stored)
        licensed = message.HasField("licence_ends")
        return Participant(
            participant_id=message.participant_id,
            role=_ROLES[message.role],
            name=message.name,
            provider_kind=message.provider_kind,
            subject_id=message.subject_id or None,
            historical_source=message.historical_source,
            standing=_STANDINGS[message.standing],
            registered_at=time_of(message.registered_at, "registered_at"),
            simulated_source=message.simulated_source,
            products=tuple(message.products),
            licence_ends=date_of(message.licence_ends, "licence_ends") if licensed else None,
        )


class SigningKeyCodec:
    """A signing key as stored in a response."""

    def encode(self, response: SigningKey) -> bytes:
        """Return the bytes of a signing key."""
        return signing_key_message(response).SerializeToString()

    def decode(self, stored: bytes) -> SigningKey:
        """Return the signing key of its bytes."""
        message = pb.SigningKey.FromString(stored)
        revoked = message.HasField("revoked_at")
        return SigningKey(
            key_id=message.key_id,
            participant_id=message.participant_id,
            public_jwk=message.public_jwk,
            registered_at=time_of(message.registered_at, "registered_at"),
            revoked_at=time_of(message.revoked_at, "revoked_at") if revoked else None,
        )


class TimeCodec:
    """A time as stored in a response."""

    def encode(self, response: datetime) -> bytes:
        """Return the bytes of a time."""
        return stamp_of(response).SerializeToString()

    def decode(self, stored: bytes) -> datetime:
        """Return the time of its bytes."""
        return time_of(Timestamp.FromString(stored), "time")
