"""What everybody may ask about the platform, and what its operator does."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from puhui.common.v1.access_pb2 import Role
from puhui.datashare.v1.accesses_pb2 import FetchSummaryResponse
from puhui.datashare.v1.catalogue_pb2 import (
    GetRecordTypeRequest,
    ListPurposesRequest,
    ListRecordTypesRequest,
    Purpose,
    RecordTypePolicy,
)
from puhui.datashare.v1.participants_pb2 import (
    IssueKeyRequest,
    IssueKeyResponse,
    ListParticipantsRequest,
    ListSigningKeysRequest,
    Participant,
    RegisterParticipantRequest,
    RegisterSigningKeyRequest,
    RevokeKeyRequest,
    RevokeSigningKeyRequest,
    SetStandingRequest,
    SigningKey,
    Standing,
)
from puhui.datashare.v1.receipts_pb2 import ListPlatformKeysRequest, PlatformKey
from puhui.gateway.v1.gateway_pb2 import WhoAmIRequest, WhoAmIResponse
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import from_timestamp, subject_ref

if TYPE_CHECKING:
    from puhui.datashare.v1.catalogue_pb2_grpc import CatalogueServiceAsyncStub
    from puhui.datashare.v1.participants_pb2_grpc import ParticipantServiceAsyncStub
    from puhui.datashare.v1.receipts_pb2_grpc import ReceiptServiceAsyncStub
    from puhui.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub

RoleName = Literal["PROVIDER", "FIRM", "BANK", "REGULATOR", "OPERATOR"]
"""What a participant is to the platform."""


class PlatformMethods(Methods):
    """Methods about participants, keys, the catalogue and oneself."""

    _catalogue: "CatalogueServiceAsyncStub"
    _gateway: "GatewayServiceAsyncStub"
    _participants: "ParticipantServiceAsyncStub"
    _receipts: "ReceiptServiceAsyncStub"

    async def whoami(self) -> WhoAmIResponse:
        """Return who the caller is to the platform, and what it may call."""
        return await self._transport.unary(self._gateway.WhoAmI, WhoAmIRequest())

    async def platform_keys(self) -> list[PlatformKey]:
        """Return the public keys under which the platform signs and has signed, oldest first."""
        request = ListPlatformKeysRequest()
        return list((await self._transport.unary(self._receipts.ListPlatformKeys, request)).keys)

    async def verify_platform_signature(self, jws: str, content: bytes) -> PlatformKey:
        """Check a signature of the platform, as of a consent's `canonical` or `termination`.

        Needs the extra `puhui[signing]`.

        Args:
            jws: detached.
            content: what it has to cover.

        Returns:
            The key that signed.

        Raises:
            SigningError: of `puhui_client.signing`, it is none by a key of the platform over this.
        """
        from puhui_client.signing import PublicKey, SigningError, key_id_of  # noqa: PLC0415 - an extra

        named = key_id_of(jws)
        for key in await self.platform_keys():
            if key.key_id == named:
                PublicKey.parse(key.public_jwk).verify(jws, content)
                return key
        raise SigningError("it names no key of the platform: it was signed by somebody else")

    async def verify_receipt(self, fetched: FetchSummaryResponse) -> datetime:
        """Check that a release's receipt is about this access and the platform promised to log it.

        Needs the extra `puhui[signing]`. Keep the receipt: it proves what was released to you and
        when, also to others, by `platform_keys` alone.

        Args:
            fetched: as it was answered.

        Returns:
            The time by which the access's leaf is in the log.

        Raises:
            SigningError: of `puhui_client.signing`, something in it is not as the platform says.
        """
        from puhui_client.receipts import read_promise  # noqa: PLC0415 - an extra

        promise = read_promise(fetched)
        await self.verify_platform_signature(promise.jws, promise.payload)
        return promise.included_by

    async def record_types(self) -> AsyncIterator[RecordTypePolicy]:
        """Go through the catalogue's record types."""
        request = ListRecordTypesRequest(page_size=PAGE)
        pages = self._pages(self._catalogue.ListRecordTypes, request)
        async for page in pages:
            for policy in page.types:
                yield policy

    async def record_type(self, name: str) -> RecordTypePolicy:
        """Return a record type's policy.

        Raises:
            NotFoundError: TYPE_UNKNOWN.
        """
        request = GetRecordTypeRequest(record_type=name)
        return (await self._transport.unary(self._catalogue.GetRecordType, request)).type

    async def purposes(self) -> AsyncIterator[Purpose]:
        """Go through the purposes that a consent may be for."""
        request = ListPurposesRequest(page_size=PAGE)
        pages = self._pages(self._catalogue.ListPurposes, request)
        async for page in pages:
            for purpose in page.purposes:
                yield purpose

    async def participants(self, *, role: RoleName | None = None) -> AsyncIterator[Participant]:
        """Go through the directory. Firms are listed to the operator only.

        Args:
            role: only these.
        """
        request = ListParticipantsRequest(
            role=Role.Value(f"ROLE_{role or 'UNSPECIFIED'}"), page_size=PAGE
        )
        pages = self._pages(self._participants.ListParticipants, request)
        async for page in pages:
            for participant in page.participants:
                yield participant

    async def register_participant(
        self,
        role: RoleName,
        name: str,
        *,
        provider_kind: str = "",
        uscc: str = "",
        subject_id: str = "",
        historical_source: bool = False,
        simulated_source: bool = False,
        request_id: str | None = None,
    ) -> Participant:
        """As the operator, enter somebody who is to take part.

        A firm acts from then on, and in the sandbox everybody; in production an institution acts
        once it has been admitted by `advance_participant`.

        Args:
            role: what it is to the platform.
            name: what it is called.
            provider_kind: of a provider, e.g. "tax"; the catalogue says what each may supply.
            uscc: of a firm that the account is to represent, its registration number; or else
                `subject_id`. Without either it speaks for nobody until it claims a firm or is
                appointed.
            subject_id: of a firm, the platform's id of it.
            historical_source: of a provider, its records may count as known when obtained.
            simulated_source: of a provider, its records are simulated; results say so.
            request_id: None makes one.
        """
        subject = subject_ref(uscc=uscc, subject_id=subject_id) if uscc or subject_id else None
        request = RegisterParticipantRequest(
            request_id=request_id or new_request_id(),
            role=Role.Value(f"ROLE_{role}"),
            name=name,
            provider_kind=provider_kind,
            subject=subject,
            historical_source=historical_source,
            simulated_source=simulated_source,
        )
        answer = await self._transport.unary(self._participants.RegisterParticipant, request)
        return answer.participant

    async def set_standing(
        self,
        participant_id: str,
        standing: Literal["ACTIVE", "SUSPENDED"],
        *,
        note: str = "",
        request_id: str | None = None,
    ) -> Participant:
        """As the operator, suspend a participant or reinstate it; acts at once.

        Args:
            participant_id: of the participant.
            standing: where it stands from now on.
            note: why; on record with the step.
            request_id: None makes one.
        """
        request = SetStandingRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            standing=Standing.Value(f"STANDING_{standing}"),
            note=note,
        )
        return (await self._transport.unary(self._participants.SetStanding, request)).participant

    async def issue_key(
        self, participant_id: str, *, request_id: str | None = None
    ) -> IssueKeyResponse:
        """As the operator, make an API key. The secret is in this answer and nowhere else.

        Never repeated by the client: a key that was made and not received has to be revoked.

        Args:
            participant_id: whose key it is.
            request_id: None makes one.
        """
        request = IssueKeyRequest(
            request_id=request_id or new_request_id(), participant_id=participant_id
        )
        return await self._transport.unary(self._participants.IssueKey, request, repeat=False)

    async def revoke_key(self, key_id: str, *, request_id: str | None = None) -> datetime:
        """As the operator, revoke an API key, and return since when it is.

        Args:
            key_id: of the key; the part of it before the dot.
            request_id: None makes one.
        """
        request = RevokeKeyRequest(request_id=request_id or new_request_id(), key_id=key_id)
        answer = await self._transport.unary(self._participants.RevokeKey, request)
        return from_timestamp(answer.revoked_at)

    async def register_signing_key(
        self, participant_id: str, public_jwk: str, *, request_id: str | None = None
    ) -> SigningKey:
        """As the operator, register a key that a participant signs its batches with.

        From then on its unsigned batches are refused.

        Args:
            participant_id: who signs.
            public_jwk: the public key as JSON; `puhui_client.signing.PublicKey.read(path).jwk`.
            request_id: None makes one.
        """
        request = RegisterSigningKeyRequest(
            request_id=request_id or new_request_id(),
            participant_id=participant_id,
            public_jwk=public_jwk,
        )
        return (await self._transport.unary(self._participants.RegisterSigningKey, request)).key

    async def revoke_signing_key(
        self, participant_id: str, key_id: str, *, request_id: str | None = None
    ) -> SigningKey:
        """As the operator, revoke a signing key; what it signed before stays evidence.

        Args:
            participant_id: who signs with it.
            key_id: its thumbprint.
            request_id: None makes one.
        """
        request = RevokeSigningKeyRequest(
            request_id=request_id or new_request_id(), participant_id=participant_id, key_id=key_id
        )
        return (await self._transport.unary(self._participants.RevokeSigningKey, request)).key

    async def signing_keys(self, participant_id: str) -> AsyncIterator[SigningKey]:
        """Go through a participant's signing keys, revoked ones included.

        Args:
            participant_id: oneself, or for the operator anybody.
        """
        request = ListSigningKeysRequest(participant_id=participant_id, page_size=PAGE)
        pages = self._pages(self._participants.ListSigningKeys, request)
        async for page in pages:
            for key in page.keys:
                yield key
