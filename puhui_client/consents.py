"""Consents: banks ask, firms answer."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

from puhui.common.v1.types_pb2 import ContentLevel, Officer
from puhui.datashare.v1.consents_pb2 import (
    CONSENT_MODE_STORE,
    AttestErasureRequest,
    Consent,
    ConsentSignature,
    ConsentState,
    ConsentTerms,
    ErasureDuty,
    FetchLimit,
    FieldSelection,
    Frequency,
    FrequencyUnit,
    GetConsentRequest,
    GrantConsentRequest,
    ListConsentsRequest,
    ListErasureDutiesRequest,
    OneTime,
    PauseConsentRequest,
    RejectConsentRequest,
    RequestConsentRequest,
    ResumeConsentRequest,
    RevokeConsentRequest,
    WithdrawConsentRequest,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import subject_ref, to_period, to_timestamp

if TYPE_CHECKING:
    from puhui.datashare.v1.consents_pb2_grpc import ConsentServiceAsyncStub
    from puhui_client.signing import SigningKey as PrivateKey

Level = Literal["PROFILE", "SUMMARY", "TRANSACTIONS"]
"""How much of the data a consent opens; each level includes the ones before it."""

State = Literal[
    "REQUESTED",
    "PARTIALLY_APPROVED",
    "ACTIVE",
    "PAUSED",
    "REJECTED",
    "LAPSED",
    "WITHDRAWN",
    "REVOKED",
    "EXPIRED",
    "CONSUMED",
    "SUPERSEDED",
]
"""Where a consent stands."""

Unit = Literal["DAY", "MONTH", "YEAR"]
"""Calendar units of China Standard Time in which fetches are counted."""

Language = Literal["zh", "en"]
"""Of the notice that the firm is shown."""


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
        fields: Mapping[str, Sequence[str]] | None = None,
        once: bool = False,
        fetches: tuple[int, Unit] | None = None,
        store_days: int | None = None,
        score: bool = True,
        automated_decision: bool = False,
        onward_recipients: Sequence[str] = (),
        notice_language: Language = "zh",
        supersedes: str = "",
        for_subject_id: str = "",
        officer: str,
        file_reference: str,
        request_id: str | None = None,
    ) -> Consent:
        """As a bank, ask a firm for its consent. Nothing is open until the firm grants it.

        What is not named is not allowed.

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
            fields: what is opened of which type, payload fields or measures; types that are not
                named are opened whole.
            once: it may be fetched once.
            fetches: or so often, e.g. (4, "MONTH"); None is as often as the purpose allows.
            store_days: it may be stored, until so many days after the end; None is to be viewed.
            score: a score may be made of it.
            automated_decision: a decision may be made by machine alone.
            onward_recipients: ids of participants to which it may be passed on.
            notice_language: of the notice that the firm is shown.
            supersedes: consent_id of the consent that these terms are to replace once granted.
            for_subject_id: the other firm whose score the data may enter; needed for the purpose
                "related_party", and for it alone.
            officer: who asks, as the bank knows them.
            file_reference: the bank's file that it is for.
            request_id: None makes one.

        Raises:
            PuhuiError: e.g. CONSENT_OVER_CEILING where the purpose allows less; `fields` names
                every term at fault.
        """
        if once and fetches is not None:
            raise ValueError("once and fetches exclude each other: give one of them")
        terms = ConsentTerms(
            purpose=purpose,
            provider_ids=providers,
            record_types=record_types,
            content_level=ContentLevel.Value(f"CONTENT_LEVEL_{content_level}"),
            data_period=to_period(data_from, data_to),
            not_before=None if not_before is None else to_timestamp(not_before),
            expires_at=to_timestamp(expires_at),
            fields=[
                FieldSelection(record_type=record_type, names=names)
                for record_type, names in (fields or {}).items()
            ],
            fetch_limit=_limit(fetches, once=once),
            onward_recipient_ids=onward_recipients,
            notice_language="" if notice_language == "zh" else notice_language,
            for_subject_id=for_subject_id,
        )
        if store_days is not None:
            terms.mode, terms.data_life_days = CONSENT_MODE_STORE, store_days
        if automated_decision or not score:
            terms.derived_use.score = score
            terms.derived_use.automated_decision = automated_decision
        request = RequestConsentRequest(
            request_id=request_id or new_request_id(),
            subject=subject_ref(uscc=uscc, subject_id=subject_id),
            terms=terms,
            supersedes_consent_id=supersedes,
            officer=Officer(name=officer, file_reference=file_reference),
        )
        return (await self._transport.unary(self._consents.RequestConsent, request)).consent

    async def grant_consent(
        self,
        consent: Consent,
        *,
        signatures: Sequence[ConsentSignature] = (),
        signing_key: "PrivateKey | None" = None,
        request_id: str | None = None,
    ) -> Consent:
        """As a firm's signer, agree to the terms of a consent as they were read.

        Where several signers are required it is PARTIALLY_APPROVED until all of them have.

        Args:
            consent: what `get_consent` or `list_consents` gave; the grant names the hash of its
                terms, so no others can be put in their place.
            signatures: the caller's detached signature over `consent.canonical`; or else
            signing_key: makes it (`puhui_client.signing`). Who has registered a key needs one.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: CONSENT_STATE, as for one that is withdrawn already.
            InvalidArgumentError: CONSENT_SIGNATURE_INVALID.
        """
        if signing_key is not None:
            signatures = [ConsentSignature(jws=signing_key.sign(consent.canonical))]
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

    async def pause_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, stop its consent for a time. A call begun after this returns is refused.

        Args:
            consent_id: of the consent.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        request = PauseConsentRequest(
            request_id=request_id or new_request_id(), consent_id=consent_id, note=note
        )
        return (await self._transport.unary(self._consents.PauseConsent, request)).consent

    async def resume_consent(self, consent_id: str, *, request_id: str | None = None) -> Consent:
        """As a firm, let a paused consent go on.

        Args:
            consent_id: of the consent.
            request_id: None makes one.
        """
        request = ResumeConsentRequest(
            request_id=request_id or new_request_id(), consent_id=consent_id
        )
        return (await self._transport.unary(self._consents.ResumeConsent, request)).consent

    async def erasure_duties(self, *, overdue: bool = False) -> AsyncIterator[ErasureDuty]:
        """Go through what must be erased because a STORE consent ended, soonest due first.

        Args:
            overdue: only what is due and not attested.
        """
        request = ListErasureDutiesRequest(overdue=overdue, page_size=PAGE)
        pages = self._pages(self._consents.ListErasureDuties, request)
        async for page in pages:
            for duty in page.duties:
                yield duty

    async def attest_erasure(
        self,
        consent_id: str,
        statement: str,
        *,
        officer: str,
        file_reference: str,
        request_id: str | None = None,
    ) -> ErasureDuty:
        """As a bank, declare that what was stored under an ended consent is erased.

        Args:
            consent_id: of the consent.
            statement: what was done, e.g. "deleted, backups until 2027-01-31".
            officer: who attests, as the bank knows them.
            file_reference: the bank's file.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: CONSENT_STATE, it has not ended or was attested already.
        """
        request = AttestErasureRequest(
            request_id=request_id or new_request_id(),
            consent_id=consent_id,
            officer=Officer(name=officer, file_reference=file_reference),
            statement=statement,
        )
        return (await self._transport.unary(self._consents.AttestErasure, request)).duty

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


def _limit(fetches: tuple[int, Unit] | None, *, once: bool) -> FetchLimit | None:
    if once:
        return FetchLimit(one_time=OneTime())
    if fetches is None:
        return None
    times, unit = fetches
    return FetchLimit(
        periodic=Frequency(times=times, unit=FrequencyUnit.Value(f"FREQUENCY_UNIT_{unit}"))
    )
