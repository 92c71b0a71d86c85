"""CredentialService over gRPC."""

import grpc

from puhui.datashare.v1 import credentials_pb2 as pb
from puhui.datashare.v1 import credentials_pb2_grpc
from services.datashare.credentials.app import CredentialDesk, Offer
from services.datashare.credentials.domain import Claim, Credential, Kind, PersonAccount
from services.datashare.idempotency.servicer import key_of
from services.datashare.participants.servicer import participant_message
from services.datashare.times import stamp_of, time_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]


class CredentialServicer(credentials_pb2_grpc.CredentialServiceServicer):
    """Translates CredentialService.

    Args:
        desk: the use cases.
    """

    def __init__(self, desk: CredentialDesk) -> None:
        self._desk = desk

    async def RegisterCredential(
        self, request: pb.RegisterCredentialRequest, context: _Context
    ) -> pb.RegisterCredentialResponse:
        caller = current_caller()
        offer = Offer(
            certificate_pem=request.certificate_pem,
            public_jwk=request.public_jwk,
            person=_account(request.person) if request.HasField("person") else None,
            label=request.label,
        )
        key = key_of(caller, request.request_id, request)
        credential = await self._desk.register(caller, key, request.participant_id, offer)
        return pb.RegisterCredentialResponse(credential=credential_message(credential))

    async def RevokeCredential(
        self, request: pb.RevokeCredentialRequest, context: _Context
    ) -> pb.RevokeCredentialResponse:
        caller = current_caller()
        credential = await self._desk.revoke(
            caller,
            key_of(caller, request.request_id, request),
            request.participant_id,
            request.credential_id,
        )
        return pb.RevokeCredentialResponse(credential=credential_message(credential))

    async def ListCredentials(
        self, request: pb.ListCredentialsRequest, context: _Context
    ) -> pb.ListCredentialsResponse:
        bound_to = ("credentials", request.participant_id)
        position = decode_page_token(request.page_token, bound_to, (str,))
        credentials, next_after = await self._desk.list(
            current_caller(),
            request.participant_id,
            str(position[0]) if position else "",
            page_size(request.page_size),
        )
        return pb.ListCredentialsResponse(
            credentials=[credential_message(credential) for credential in credentials],
            next_page_token=encode_page_token((next_after,), bound_to) if next_after else "",
        )

    async def FindClient(
        self, request: pb.FindClientRequest, context: _Context
    ) -> pb.FindClientResponse:
        participant, credentials = await self._desk.find_client(request.participant_id)
        return pb.FindClientResponse(
            participant=participant_message(participant),
            credentials=[credential_message(credential) for credential in credentials],
        )

    async def FindPerson(
        self, request: pb.FindPersonRequest, context: _Context
    ) -> pb.FindPersonResponse:
        participant, person_id = await self._desk.find_person(_account(request.person))
        return pb.FindPersonResponse(
            participant=participant_message(participant), person_id=person_id
        )


def credential_message(credential: Credential) -> pb.Credential:
    """Return the message of a credential."""
    claim = credential.claim
    message = pb.Credential(
        credential_id=credential.credential_id,
        participant_id=credential.participant_id,
        registered_at=stamp_of(credential.registered_at),
        ends_at=stamp_of(claim.ends_at) if claim.ends_at else None,
        revoked_at=stamp_of(credential.revoked_at) if credential.revoked_at else None,
        label=credential.label,
    )
    if claim.kind is Kind.CERTIFICATE:
        message.certificate_sha256 = claim.identity
    elif claim.kind is Kind.KEY:
        message.public_jwk = claim.public_jwk
    elif claim.person is not None:
        message.person.CopyFrom(
            pb.PersonAccount(issuer=claim.person.issuer, subject=claim.person.subject)
        )
    return message


class CredentialCodec:
    """A credential as stored in a response."""

    def encode(self, response: Credential) -> bytes:
        """Return the bytes of a credential."""
        return credential_message(response).SerializeToString()

    def decode(self, stored: bytes) -> Credential:
        """Return the credential of its bytes, with as much as a message of it says."""
        message = pb.Credential.FromString(stored)
        ends, revoked = message.HasField("ends_at"), message.HasField("revoked_at")
        kind = _KINDS[message.WhichOneof("kind") or ""]
        return Credential(
            credential_id=message.credential_id,
            participant_id=message.participant_id,
            claim=Claim(
                kind=kind,
                identity=message.certificate_sha256,
                public_jwk=message.public_jwk,
                person=_account(message.person) if kind is Kind.PERSON else None,
                ends_at=time_of(message.ends_at, "ends_at") if ends else None,
            ),
            label=message.label,
            registered_at=time_of(message.registered_at, "registered_at"),
            revoked_at=time_of(message.revoked_at, "revoked_at") if revoked else None,
        )


_KINDS = {
    "certificate_sha256": Kind.CERTIFICATE,
    "public_jwk": Kind.KEY,
    "person": Kind.PERSON,
}


def _account(message: pb.PersonAccount) -> PersonAccount:
    return PersonAccount(message.issuer, message.subject)
