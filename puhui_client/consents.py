"""Consents: banks ask, firms answer."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

from puhui.common.v1.types_pb2 import ContentLevel
from puhui.datashare.v1.consents_pb2 import (
    Consent,
    ConsentSignature,
    ConsentState,
    ConsentTerms,
    GetConsentRequest,
    GrantConsentRequest,
    ListConsentsRequest,
    RejectConsentRequest,
    RequestConsentRequest,
    RevokeConsentRequest,
    WithdrawConsentRequest,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import subject_ref, to_period, to_timestamp

if TYPE_CHECKING:
    from puhui.datashare.v1.consents_pb2_grpc import ConsentServiceAsyncStub

Level = Literal["PROFILE", "SUMMARY", "TRANSACTIONS"]
"""How much of the data a consent opens; each level includes the ones before it."""

State = Literal["REQUESTED", "ACTIVE", "REJECTED", "WITHDRAWN", "REVOKED", "EXPIRED"]
"""Where a consent stands."""


class ConsentMethods(Methods):
    """Methods about consents."""

    _consents: "ConsentServiceAsyncStub"

    async def request_consent(
        self,
        *,
        uscc: str = "",
        subject_id: str = "",
        purpose: str,
        providers: Sequence[str],
        record_types: Sequence[str],
        data_from: date,
        data_to: date,
        expires_at: datetime,
        content_level: Level = "SUMMARY",
        not_before: datetime | None = None,
        request_id: str | None = None,
    ) -> Consent:
        """As a bank, ask a firm for its consent. Nothing is open until the firm grants it.

        Args:
            uscc: the firm's registration number; or else `subject_id`.
            subject_id: the platform's id of the firm.
            purpose: code of the table of purposes, e.g. "credit_application".
            providers: ids of the participants whose records may be used.
            record_types: types that may be used.
            data_from: first day of the records' occurrence.
            data_to: last day.
            expires_at: end of the consent, aware.
            content_level: "SUMMARY" is enough for a score.
            not_before: begin of the consent; None is from the grant on.
            request_id: None makes one.

        Raises:
            PuhuiError: e.g. CONSENT_OVER_CEILING where the purpose allows less.
        """
        terms = ConsentTerms(
            purpose=purpose,
            provider_ids=providers,
            record_types=record_types,
            content_level=ContentLevel.Value(f"CONTENT_LEVEL_{content_level}"),
            data_period=to_period(data_from, data_to),
            not_before=None if not_before is None else to_timestamp(not_before),
            expires_at=to_timestamp(expires_at),
        )
        request = RequestConsentRequest(
            request_id=request_id or new_request_id(),
            subject=subject_ref(uscc=uscc, subject_id=subject_id),
            terms=terms,
        )
        return (await self._transport.unary(self._consents.RequestConsent, request)).consent

    async def grant_consent(
        self,
        consent: Consent,
        *,
        signatures: Sequence[ConsentSignature] = (),
        request_id: str | None = None,
    ) -> Consent:
        """As a firm, agree to the terms of a consent as they were read.

        Args:
            consent: what `get_consent` or `list_consents` gave; the grant names the hash of its
                terms, so no others can be put in their place.
            signatures: detached signatures over `consent.canonical`.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: CONSENT_STATE, as for one that is withdrawn already.
        """
        request = GrantConsentRequest(
            request_id=request_id or new_request_id(),
            consent_id=consent.consent_id,
            canonical_sha256=hashlib.sha256(consent.canonical).digest(),
            signatures=signatures,
        )
        return (await self._transport.unary(self._consents.GrantConsent, request)).consent

    async def reject_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, say no to a request.

        Args:
            consent_id: of the request.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        request = RejectConsentRequest(
            request_id=request_id or new_request_id(), consent_id=consent_id, note=note
        )
        return (await self._transport.unary(self._consents.RejectConsent, request)).consent

    async def withdraw_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, end its consent. A call begun after this returns is refused.

        Args:
            consent_id: of the consent.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        request = WithdrawConsentRequest(
            request_id=request_id or new_request_id(), consent_id=consent_id, note=note
        )
        return (await self._transport.unary(self._consents.WithdrawConsent, request)).consent

    async def revoke_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As the bank that holds it or as the operator, end a consent.

        Args:
            consent_id: of the consent.
            note: why, for the firm to read.
            request_id: None makes one.
        """
        request = RevokeConsentRequest(
            request_id=request_id or new_request_id(), consent_id=consent_id, note=note
        )
        return (await self._transport.unary(self._consents.RevokeConsent, request)).consent

    async def get_consent(self, consent_id: str) -> Consent:
        """Return a consent of one's own.

        Raises:
            NotFoundError: there is none, or it is between others.
        """
        request = GetConsentRequest(consent_id=consent_id)
        return (await self._transport.unary(self._consents.GetConsent, request)).consent

    async def list_consents(self, *, state: State | None = None) -> AsyncIterator[Consent]:
        """Go through one's consents, newest first.

        Args:
            state: only these.
        """
        request = ListConsentsRequest(
            state=ConsentState.Value(f"CONSENT_STATE_{state or 'UNSPECIFIED'}"), page_size=PAGE
        )
        pages = self._pages(self._consents.ListConsents, request)
        async for page in pages:
            for consent in page.consents:
                yield consent
