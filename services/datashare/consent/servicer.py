"""ConsentService over gRPC."""

from datetime import datetime
from typing import TypeAlias

import grpc

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import consents_pb2 as pb
from puhui.datashare.v1 import consents_pb2_grpc
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.app import Consents
from services.datashare.consent.document import core_of
from services.datashare.consent.domain import (
    OPEN_STATES,
    Action,
    Attestation,
    Consent,
    Duty,
    Mode,
    Officer,
    Receipt,
    Selection,
    Signature,
    State,
    Terms,
    state_at,
)
from services.datashare.consent.erasing import ErasureDuties
from services.datashare.idempotency.servicer import key_of
from services.datashare.participants.servicer import subject_name
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.datashare.times import period_message, period_of, stamp_of, time_of
from services.kit.db import EPOCH
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]
_End: TypeAlias = "pb.RejectConsentRequest | pb.WithdrawConsentRequest | pb.RevokeConsentRequest"

_MODES = {
    pb.CONSENT_MODE_UNSPECIFIED: Mode.VIEW,
    pb.CONSENT_MODE_VIEW: Mode.VIEW,
    pb.CONSENT_MODE_STORE: Mode.STORE,
}
_UNITS = {pb.FrequencyUnit.Value(f"FREQUENCY_UNIT_{unit}"): unit for unit in Unit}
_STATES = {pb.ConsentState.Value(f"CONSENT_STATE_{state}"): state for state in State}


class ConsentServicer(consents_pb2_grpc.ConsentServiceServicer):
    """Translates ConsentService.

    Args:
        consents: the use cases.
        duties: those about what must be erased.
    """

    def __init__(self, consents: Consents, duties: ErasureDuties) -> None:
        self._consents = consents
        self._duties = duties

    async def RequestConsent(
        self, request: pb.RequestConsentRequest, context: _Context
    ) -> pb.RequestConsentResponse:
        caller = current_caller()
        consent = await self._consents.request(
            caller,
            key_of(caller, request.request_id, request),
            subject_name(request.subject),
            _terms(request.terms),
            _officer(request.officer),
            supersedes=request.supersedes_consent_id,
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

    async def PauseConsent(
        self, request: pb.PauseConsentRequest, context: _Context
    ) -> pb.PauseConsentResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        consent = await self._consents.pause(caller, key, request.consent_id, request.note)
        return pb.PauseConsentResponse(consent=consent_message(consent))

    async def ResumeConsent(
        self, request: pb.ResumeConsentRequest, context: _Context
    ) -> pb.ResumeConsentResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        consent = await self._consents.resume(caller, key, request.consent_id)
        return pb.ResumeConsentResponse(consent=consent_message(consent))

    async def ListErasureDuties(
        self, request: pb.ListErasureDutiesRequest, context: _Context
    ) -> pb.ListErasureDutiesResponse:
        caller = current_caller()
        bound_to = ("erasure_duties", caller.participant_id, request.overdue)
        position = decode_page_token(request.page_token, bound_to, (str, str))
        duties, following = await self._duties.list(
            caller,
            (datetime.fromisoformat(str(position[0])), str(position[1])) if position else None,
            page_size(request.page_size),
            overdue=request.overdue,
        )
        return pb.ListErasureDutiesResponse(
            duties=[duty_message(duty) for duty in duties],
            next_page_token=encode_page_token((following[0].isoformat(), following[1]), bound_to)
            if following
            else "",
        )

    async def AttestErasure(
        self, request: pb.AttestErasureRequest, context: _Context
    ) -> pb.AttestErasureResponse:
        caller = current_caller()
        duty = await self._duties.attest(
            caller,
            key_of(caller, request.request_id, request),
            request.consent_id,
            Attestation(EPOCH, _officer(request.officer), request.statement),
        )
        return pb.AttestErasureResponse(duty=duty_message(duty))

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
        fields=tuple(Selection(part.record_type, tuple(part.names)) for part in message.fields),
        mode=_MODES[message.mode],
        fetch_limit=_limit(message.fetch_limit),
        data_life_days=message.data_life_days,
        score=message.derived_use.score if message.HasField("derived_use") else True,
        automated_decision=message.derived_use.automated_decision,
        onward_recipient_ids=tuple(message.onward_recipient_ids),
        notice_language=message.notice_language or "zh",
        for_subject_id=message.for_subject_id,
    )


def _officer(message: types_pb2.Officer) -> Officer:
    return Officer(message.name, message.file_reference)


def _limit(message: pb.FetchLimit) -> Limit | None:
    match message.WhichOneof("limit"):
        case "one_time":
            return ONE_TIME
        case "periodic":
            return Limit(message.periodic.times, _UNITS[message.periodic.unit])
        case None:
            return None


def _limit_message(limit: Limit | None) -> pb.FetchLimit | None:
    if limit is None:
        return None
    if limit.unit is None:
        return pb.FetchLimit(one_time=pb.OneTime())
    unit = pb.FrequencyUnit.Value(f"FREQUENCY_UNIT_{limit.unit}")
    return pb.FetchLimit(periodic=pb.Frequency(times=limit.times, unit=unit))


def terms_message(terms: Terms) -> pb.ConsentTerms:
    """Return the message of terms."""
    return pb.ConsentTerms(
        purpose=terms.purpose,
        provider_ids=terms.provider_ids,
        record_types=terms.record_types,
        content_level=types_pb2.ContentLevel.ValueType(terms.content_level),
        data_period=period_message(terms.data_period),
        not_before=stamp_of(terms.not_before) if terms.not_before else None,
        expires_at=stamp_of(terms.expires_at),
        fields=[
            pb.FieldSelection(record_type=part.record_type, names=part.names)
            for part in terms.fields
        ],
        mode=pb.ConsentMode.Value(f"CONSENT_MODE_{terms.mode}"),
        fetch_limit=_limit_message(terms.fetch_limit),
        data_life_days=terms.data_life_days,
        derived_use=pb.DerivedUse(score=terms.score, automated_decision=terms.automated_decision),
        onward_recipient_ids=terms.onward_recipient_ids,
        notice_language=terms.notice_language,
        for_subject_id=terms.for_subject_id,
    )


def consent_message(consent: Consent, read_at: datetime | None = None) -> pb.Consent:
    """Return the message of a consent.

    Args:
        consent: as it stands.
        read_at: the time at which its state is told; None is when it last changed.
    """
    core = consent.core
    limit = core.terms.fetch_limit
    state = state_at(consent, read_at) if read_at else consent.state
    return pb.Consent(
        consent_id=core.consent_id,
        subject_id=core.subject_id,
        recipient_id=core.recipient_id,
        terms=terms_message(core.terms),
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
        signer_ids=core.signers.signer_ids,
        signers_required=core.signers.required,
        platform_jws=consent.platform_jws,
        notice=consent.notice,
        supersedes_consent_id=core.supersedes.consent_id if core.supersedes else "",
        superseded_by_consent_id=consent.superseded_by,
        answer_by=stamp_of(core.answer_by) if core.answer_by else None,
        fetches_used=consent.used,
        fetches_allowed=limit.times if limit else 0,
        termination=pb.TerminationReceipt(
            canonical=consent.termination.canonical, jws=consent.termination.jws
        )
        # One that time ended is not over while a clock that was set back says so.
        if consent.termination and state not in OPEN_STATES
        else None,
    )


def duty_message(duty: Duty) -> pb.ErasureDuty:
    """Return the message of an erasure duty."""
    message = pb.ErasureDuty(
        consent_id=duty.consent_id,
        subject_id=duty.subject_id,
        recipient_id=duty.recipient_id,
        ended_at=stamp_of(duty.ended_at),
        due_at=stamp_of(duty.due_at),
    )
    if duty.attestation is not None:
        attested = duty.attestation
        message.attested_at.CopyFrom(stamp_of(attested.at))
        message.attested_by.name = attested.officer.name
        message.attested_by.file_reference = attested.officer.file_reference
        message.statement = attested.statement
    return message


class DutyCodec:
    """An erasure duty as stored in a response."""

    def encode(self, response: Duty) -> bytes:
        """Return the bytes of a duty."""
        return duty_message(response).SerializeToString()

    def decode(self, stored: bytes) -> Duty:
        """Return the duty of its bytes."""
        message = pb.ErasureDuty.FromString(stored)
        return Duty(
            message.consent_id,
            message.subject_id,
            message.recipient_id,
            time_of(message.ended_at, "ended_at"),
            time_of(message.due_at, "due_at"),
            Attestation(
                time_of(message.attested_at, "attested_at"),
                _officer(message.attested_by),
                message.statement,
            ),
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
            notice=message.notice,
            platform_jws=message.platform_jws,
            superseded_by=message.superseded_by_consent_id,
            termination=Receipt(message.termination.canonical, message.termination.jws)
            if message.HasField("termination")
            else None,
            used=message.fetches_used,
        )
