"""ConsentService over gRPC."""

from datetime import datetime
from typing import TypeAlias

import grpc

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import consents_pb2 as pb
from puhui.datashare.v1 import consents_pb2_grpc
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.app import Consents
from services.datashare.consent.domain import (
    Action,
    Consent,
    Signature,
    State,
    Terms,
    core_of,
    state_at,
)
from services.datashare.idempotency.servicer import key_of
from services.datashare.participants.servicer import subject_name
from services.datashare.times import period_message, period_of, stamp_of, time_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]
_End: TypeAlias = "pb.RejectConsentRequest | pb.WithdrawConsentRequest | pb.RevokeConsentRequest"

_STATES = {pb.ConsentState.Value(f"CONSENT_STATE_{state}"): state for state in State}


class ConsentServicer(consents_pb2_grpc.ConsentServiceServicer):
    """Translates ConsentService.

    Args:
        consents: the use cases.
    """

    def __init__(self, consents: Consents) -> None:
        self._consents = consents

    async def RequestConsent(
        self, request: pb.RequestConsentRequest, context: _Context
    ) -> pb.RequestConsentResponse:
        caller = current_caller()
        consent = await self._consents.request(
            caller,
            key_of(caller, request.request_id, request),
            subject_name(request.subject),
            _terms(request.terms),
        )
        return pb.RequestConsentResponse(consent=consent_message(consent))

    async def GrantConsent(
        self, request: pb.GrantConsentRequest, context: _Context
    ) -> pb.GrantConsentResponse:
        caller = current_caller()
        consent = await self._consents.grant(
            caller,
            key_of(caller, request.request_id, request),
            request.consent_id,
            request.canonical_sha256,
            tuple(
                Signature(signature.signer_id, signature.jws) for signature in request.signatures
            ),
        )
        return pb.GrantConsentResponse(consent=consent_message(consent))

    async def RejectConsent(
        self, request: pb.RejectConsentRequest, context: _Context
    ) -> pb.RejectConsentResponse:
        return pb.RejectConsentResponse(consent=await self._end(request, Action.REJECT))

    async def WithdrawConsent(
        self, request: pb.WithdrawConsentRequest, context: _Context
    ) -> pb.WithdrawConsentResponse:
        return pb.WithdrawConsentResponse(consent=await self._end(request, Action.WITHDRAW))

    async def RevokeConsent(
        self, request: pb.RevokeConsentRequest, context: _Context
    ) -> pb.RevokeConsentResponse:
        return pb.RevokeConsentResponse(consent=await self._end(request, Action.REVOKE))

    async def GetConsent(
        self, request: pb.GetConsentRequest, context: _Context
    ) -> pb.GetConsentResponse:
        consent, read_at = await self._consents.get(current_caller(), request.consent_id)
        return pb.GetConsentResponse(consent=consent_message(consent, read_at))

    async def ListConsents(
        self, request: pb.ListConsentsRequest, context: _Context
    ) -> pb.ListConsentsResponse:
        caller = current_caller()
        bound_to = ("consents", caller.participant_id, request.state)
        position = decode_page_token(request.page_token, bound_to, (str,))
        consents, next_before, read_at = await self._consents.list(
            caller,
            _STATES.get(request.state),
            str(position[0]) if position else "",
            page_size(request.page_size),
        )
        return pb.ListConsentsResponse(
            consents=[consent_message(consent, read_at) for consent in consents],
            next_page_token=encode_page_token((next_before,), bound_to) if next_before else "",
        )

    async def _end(self, request: _End, action: Action) -> pb.Consent:
        caller = current_caller()
        consent = await self._consents.end(
            caller,
            key_of(caller, request.request_id, request),
            request.consent_id,
            action,
            request.note,
        )
        return consent_message(consent)


def _terms(message: pb.ConsentTerms) -> Terms:
    return Terms(
        purpose=message.purpose,
        provider_ids=tuple(message.provider_ids),
        record_types=tuple(message.record_types),
        content_level=ContentLevel(message.content_level),
        data_period=period_of(message.data_period, "terms.data_period"),
        not_before=time_of(message.not_before, "terms.not_before")
        if message.HasField("not_before")
        else None,
        expires_at=time_of(message.expires_at, "terms.expires_at"),
    )


def consent_message(consent: Consent, read_at: datetime | None = None) -> pb.Consent:
    """Return the message of a consent.

    Args:
        consent: as it stands.
        read_at: the time at which its state is told; None is when it last changed.
    """
    terms = consent.core.terms
    state = state_at(consent, read_at) if read_at else consent.state
    return pb.Consent(
        consent_id=consent.core.consent_id,
        subject_id=consent.core.subject_id,
        recipient_id=consent.core.recipient_id,
        terms=pb.ConsentTerms(
            purpose=terms.purpose,
            provider_ids=terms.provider_ids,
            record_types=terms.record_types,
            content_level=types_pb2.ContentLevel.ValueType(terms.content_level),
            data_period=period_message(terms.data_period),
            not_before=stamp_of(terms.not_before) if terms.not_before else None,
            expires_at=stamp_of(terms.expires_at),
        ),
        state=pb.ConsentState.Value(f"CONSENT_STATE_{state}"),
        revision=consent.revision,
        canonical=consent.canonical,
        canonical_sha256=consent.sha256,
        signatures=[
            pb.ConsentSignature(signer_id=signature.signer_id, jws=signature.jws)
            for signature in consent.signatures
        ],
        requested_at=stamp_of(consent.requested_at),
        changed_at=stamp_of(consent.changed_at),
        note=consent.note,
    )


class ConsentCodec:
    """A consent as stored in a response."""

    def encode(self, response: Consent) -> bytes:
        """Return the bytes of a consent."""
        return consent_message(response).SerializeToString()

    def decode(self, stored: bytes) -> Consent:
        """Return the consent of its bytes."""
        message = pb.Consent.FromString(stored)
        return Consent(
            core=core_of(message.canonical),
            canonical=message.canonical,
            sha256=message.canonical_sha256,
            state=_STATES[message.state],
            revision=message.revision,
            signatures=tuple(Signature(s.signer_id, s.jws) for s in message.signatures),
            requested_at=time_of(message.requested_at, "requested_at"),
            changed_at=time_of(message.changed_at, "changed_at"),
            note=message.note,
        )
