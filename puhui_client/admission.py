"""How institutions come to take part, and what participants prove themselves with."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from puhui.datashare.v1.credentials_pb2 import (
    Credential,
    ListCredentialsRequest,
    PersonAccount,
    RegisterCredentialRequest,
    RevokeCredentialRequest,
)
from puhui.datashare.v1.participants_pb2 import (
    AdvanceParticipantRequest,
    Evidence,
    GetParticipantRequest,
    GetParticipantResponse,
    Participant,
    ParticipantStep,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import to_date

if TYPE_CHECKING:
    from puhui.datashare.v1.credentials_pb2_grpc import CredentialServiceAsyncStub
    from puhui.datashare.v1.participants_pb2_grpc import ParticipantServiceAsyncStub

StepName = Literal["LICENCE_CHECKED", "CONFORMANT", "APPROVED", "ACTIVATED", "EXITED"]
"""A step that an operator takes a participant."""


@dataclass(frozen=True)
class Document:
    """What a step rests on; the platform keeps where it is, not the document.

    Args:
        kind: what it is, e.g. "business licence".
        reference: where it is kept, or its number.
        dated: its day.
        ends: its last day; None has no end.
        sha256: of the document, 32 bytes; empty where it is not known.
    """

    kind: str
    reference: str
    dated: date
    ends: date | None = None
    sha256: bytes = b""


class AdmissionMethods(Methods):
    """Methods about participants' steps and credentials."""

    _participants: "ParticipantServiceAsyncStub"
    _credentials: "CredentialServiceAsyncStub"

    async def participant(self, participant_id: str) -> GetParticipantResponse:
        """Return a participant and what happened to it, the earliest first.

        Args:
            participant_id: oneself; for the operator and the regulator anybody.
        """
        request = GetParticipantRequest(participant_id=participant_id)
        return await self._transport.unary(self._participants.GetParticipant, request)

    async def advance_participant(
        self,
        participant_id: str,
        step: StepName,
        evidence: Document | None = None,
        *,
        products: Sequence[str] = (),
        note: str = "",
        request_id: str | None = None,
    ) -> Participant:
        """As the operator, take an institution one step on, or a participant out.

        Args:
            participant_id: of the participant.
            step: which one; APPROVED is taken twice, by two persons.
            evidence: what it rests on; needed but for ACTIVATED.
            products: of LICENCE_CHECKED, what the licence is for.
            note: why; on record with the step.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: PARTICIPANT_STATE, the step does not follow.
            PermissionDeniedError: SECOND_PERSON_REQUIRED.
        """
        request = AdvanceParticipantRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            step=ParticipantStep.Value(f"PARTICIPANT_STEP_{step}"),
            evidence=_evidence(evidence) if evidence else None,
            products=products,
            note=note,
        )
        answer = await self._transport.unary(self._participants.AdvanceParticipant, request)
        return answer.participant

    async def register_certificate(
        self, participant_id: str, pem: str, *, label: str = "", request_id: str | None = None
    ) -> Credential:
        """Register the certificate by which an institution is known at the TLS handshake.

        Args:
            participant_id: oneself, or for the operator anybody.
            pem: one client certificate, without its key.
            label: what it is called among the participant's.
            request_id: None makes one.
        """
        request = RegisterCredentialRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            certificate_pem=pem,
            label=label,
        )
        answer = await self._transport.unary(self._credentials.RegisterCredential, request)
        return answer.credential

    async def register_key(
        self,
        participant_id: str,
        public_jwk: str,
        *,
        label: str = "",
        request_id: str | None = None,
    ) -> Credential:
        """Register the public key under which an institution signs when it asks for tokens.

        Args:
            participant_id: oneself, or for the operator anybody.
            public_jwk: as JSON: Ed25519, P-256, or RSA of at least 2048 bits.
            label: what it is called among the participant's.
            request_id: None makes one.
        """
        request = RegisterCredentialRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            public_jwk=public_jwk,
            label=label,
        )
        answer = await self._transport.unary(self._credentials.RegisterCredential, request)
        return answer.credential

    async def register_person(
        self,
        participant_id: str,
        issuer: str,
        subject: str,
        *,
        label: str = "",
        request_id: str | None = None,
    ) -> Credential:
        """As the operator, let a person who signs in at an issuer act for a participant.

        Args:
            participant_id: for whom.
            issuer: `iss` of its tokens.
            subject: `sub` of its tokens.
            label: what it is called among the participant's.
            request_id: None makes one.
        """
        request = RegisterCredentialRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            person=PersonAccount(issuer=issuer, subject=subject),
            label=label,
        )
        answer = await self._transport.unary(self._credentials.RegisterCredential, request)
        return answer.credential

    async def revoke_credential(
        self, participant_id: str, credential_id: str, *, request_id: str | None = None
    ) -> Credential:
        """End a credential, at once, and the tokens that rest on it.

        Args:
            participant_id: oneself, or for the operator anybody.
            credential_id: of the credential; a person's the operator alone ends.
            request_id: None makes one.
        """
        request = RevokeCredentialRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            credential_id=credential_id,
        )
        answer = await self._transport.unary(self._credentials.RevokeCredential, request)
        return answer.credential

    async def credentials(self, participant_id: str) -> AsyncIterator[Credential]:
        """Go through a participant's credentials, revoked ones included.

        Args:
            participant_id: oneself, or for the operator anybody.
        """
        request = ListCredentialsRequest(participant_id=participant_id, page_size=PAGE)
        pages = self._pages(self._credentials.ListCredentials, request)
        async for page in pages:
            for credential in page.credentials:
                yield credential


def _evidence(document: Document) -> Evidence:
    ends = document.ends
    return Evidence(
        kind=document.kind,
        reference=document.reference,
        sha256=document.sha256,
        dated=to_date(document.dated),
        ends=to_date(ends) if ends else None,
    )
