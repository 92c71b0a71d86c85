"""The client for programs without an event loop: every method of `Client`, awaited.

Made from the asynchronous client by `make proto`. What streams is an iterator; the rest returns.
The connection lives in a thread of its own, so that one client serves all threads of a program.

Example:
    >>> from puhui_client import SyncClient
    >>>
    >>> def main(api_key: str) -> None:
    ...     with SyncClient("127.0.0.1:7443", api_key) as bank:
    ...         for access in bank.accesses():
    ...             print(access.purpose)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from puhui.datashare.v1.accesses_pb2 import (
    Access,
    FetchSummaryResponse,
    Use,
)
from puhui.datashare.v1.catalogue_pb2 import (
    Purpose,
    RecordTypePolicy,
)
from puhui.datashare.v1.consents_pb2 import (
    Consent,
    ConsentSignature,
    ErasureDuty,
)
from puhui.datashare.v1.credentials_pb2 import (
    Credential,
)
from puhui.datashare.v1.deliveries_pb2 import (
    GetEvidenceResponse,
)
from puhui.datashare.v1.disputes_pb2 import (
    Dispute,
)
from puhui.datashare.v1.facts_pb2 import (
    GetFactsResponse,
    HeldRecord,
)
from puhui.datashare.v1.incidents_pb2 import (
    Incident,
    WatchRule,
)
from puhui.datashare.v1.mandates_pb2 import (
    Mandate,
    SigningRule,
)
from puhui.datashare.v1.metering_pb2 import (
    Contribution,
    Usage,
)
from puhui.datashare.v1.notices_pb2 import (
    Contact,
    ListNoticesResponse,
    ParkedContact,
    Webhook,
)
from puhui.datashare.v1.participants_pb2 import (
    GetParticipantResponse,
    IssueKeyResponse,
    Participant,
    SigningKey,
)
from puhui.datashare.v1.quality_pb2 import (
    Finding,
    GetQualityReportResponse,
)
from puhui.datashare.v1.receipts_pb2 import PlatformKey
from puhui.datashare.v1.records_pb2 import (
    PushAck,
    PushClose,
    Reconciliation,
    Record,
)
from puhui.datashare.v1.retention_pb2 import (
    EraseSubjectResponse,
    PlanRetentionResponse,
    RetentionRun,
)
from puhui.datashare.v1.reviews_pb2 import (
    DecideReviewResponse,
    Review,
)
from puhui.gateway.v1.gateway_pb2 import WhoAmIResponse
from puhui.scoring.v1.decisions_pb2 import (
    GetDecisionResponse,
    GetImprovementsResponse,
    Reevaluation,
    ReplayDecisionResponse,
)
from puhui.scoring.v1.models_pb2 import Model
from puhui.scoring.v1.products_pb2 import (
    CheckScoreResponse,
    GetScoreProductResponse,
    ScoreProduct,
)
from puhui.scoring.v1.registry_pb2 import (
    GetServingResponse,
    GetShadowReportResponse,
    ModelEvent,
    ModelProposal,
)
from puhui.scoring.v1.reports_pb2 import (
    CreditReport,
)
from puhui.scoring.v1.scoring_pb2 import (
    Decision,
    ScoreOrder,
)
from puhui_client.admission import Document, StepName
from puhui_client.bank import (
    _NOTHING,
    Relation,
    Said,
    ScoreResult,
    UseName,
)
from puhui_client.canonical import Signer
from puhui_client.client import Client
from puhui_client.consents import Language, Level, State, Unit
from puhui_client.credentials import Credentials
from puhui_client.disputes import AnswerName, DisputeReasonName, DisputeStateName
from puhui_client.firm import PowerName
from puhui_client.incidents import IncidentStateName, SeverityName
from puhui_client.loop_thread import LoopThread
from puhui_client.notices import NewWebhook, NoticeItem
from puhui_client.platform import RoleName
from puhui_client.push import MAX_BATCH, BatchAck, PushReport, Rows
from puhui_client.registry import DemotedTo, PromotedTo
from puhui_client.reports import FormatName, LanguageName
from puhui_client.retention import RUN_TIMEOUT
from puhui_client.supply import ReviewStateName, WantedItem
from puhui_client.totals import Totals
from puhui_client.transport import Tls

if TYPE_CHECKING:
    from puhui_client.signing import SigningKey as PrivateKey


class SyncClient:
    """A participant's connection to the platform, for any thread.

    Args:
        address: the gateway, "host:port".
        credentials: as of `Client`.
        timeout: seconds for a call that names none.
        tls: as of `Client`.
    """

    def __init__(
        self,
        address: str,
        credentials: str | Credentials,
        *,
        timeout: float = 10.0,
        tls: Tls | None = None,
    ) -> None:
        self._loop = LoopThread()
        self._client = self._loop.run(self._open(address, credentials, timeout, tls))

    @staticmethod
    async def _open(
        address: str, credentials: str | Credentials, timeout: float, tls: Tls | None
    ) -> Client:
        return Client(address, credentials, timeout=timeout, tls=tls)

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._loop.run(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def push(
        self,
        rows: Rows,
        *,
        delivery_id: str | None = None,
        historical: bool = False,
        batch_size: int = MAX_BATCH,
        window: int = 4,
        ack_timeout: float = 60.0,
        patience: float = 60.0,
        keep_rejections: int = 10000,
        on_ack: Callable[[BatchAck], None] | None = None,
        totals: bool | Totals | PushClose = False,
        signer: Signer | None = None,
        acked_through: int | None = None,
    ) -> PushReport:
        """Push any number of records over one stream, and go on after a dropped connection.

        A bad row is rejected and never blocks the others. Should this process die, pushing the same
        rows under the same `delivery_id` and `batch_size` goes on after the last durable batch.

        Args:
            rows: records, or batches of at most 1,000 made already; any iterable, also async.
            delivery_id: names the delivery; None makes a new one.
            historical: the records are an import or back-fill, and count as known when they were
                obtained. Only for providers registered as historical sources.
            batch_size: records per batch, where single records are given.
            window: batches on their way without an ack.
            ack_timeout: seconds without an ack after which the connection counts as lost.
            patience: seconds to go on trying while nothing gets through.
            keep_rejections: rejections to keep in the report; all are counted.
            on_ack: told of every batch, in order, with all its rejections.
            totals: close the delivery with control totals: True counts all the rows
                that are given, by the catalogue; `Totals` does by other rules; `PushClose` was
                counted before. `PushReport.reconciliation` says whether the platform counted the
                same.
            signer: signs every batch, e.g. `puhui_client.signing.SigningKey.read(path)`; has to
                where the platform knows a signing key of this provider.
            acked_through: of a delivery that an earlier process began, the last batch that was told
                to its `on_ack`: what became of later ones is asked again. None does not ask.

        Returns:
            What became of the rows.

        Raises:
            PuhuiError: the delivery cannot go on; what was acked stays.
        """
        return self._loop.run(
            self._client.push(
                rows,
                delivery_id=delivery_id,
                historical=historical,
                batch_size=batch_size,
                window=window,
                ack_timeout=ack_timeout,
                patience=patience,
                keep_rejections=keep_rejections,
                on_ack=on_ack,
                totals=totals,
                signer=signer,
                acked_through=acked_through,
            )
        )

    def control_fields(self) -> dict[str, str]:
        """Return the amount that control totals add up, by record type where there is one."""
        return self._loop.run(self._client.control_fields())

    def submit(
        self, records: Sequence[Record], *, historical: bool = False, signer: Signer | None = None
    ) -> PushAck:
        """Send at most 1,000 records in one call; for small senders.

        Args:
            records: the rows.
            historical: as in `push`.
            signer: as in `push`.

        Returns:
            The indices of accepted and duplicate rows, why others were rejected, and which wait for
            a review.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE.
        """
        return self._loop.run(self._client.submit(records, historical=historical, signer=signer))

    def wanted(self, cursor: str = "", *, follow: bool = False) -> Iterator[WantedItem]:
        """Go through what consents make due from the caller, in the order in which it became so.

        A dropped connection is opened again behind the last item. What ENDED must no longer be
        supplied: such rows are refused.

        Args:
            cursor: of the last item that was dealt with; "" is from the beginning.
            follow: wait for what comes; the iterator has no end then.

        Raises:
            PermissionDeniedError: PARTICIPANT_SUSPENDED, also while following.
            InvalidArgumentError: PAGE_TOKEN_INVALID, the cursor is another's.
            PuhuiError: the platform does not answer any more.
        """
        return self._loop.iterate(self._client.wanted(cursor, follow=follow))

    def uses(
        self, provider_id: str, *, first: date | None = None, last: date | None = None
    ) -> Iterator[Use]:
        """Go through the uses of what a provider supplied, by day, type and purpose; newest first.

        Args:
            provider_id: the caller itself; the operator names any.
            first: first day of release, China Standard Time; None is any.
            last: last day; None is any.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            NotFoundError: there is no such provider.
        """
        return self._loop.iterate(self._client.uses(provider_id, first=first, last=last))

    def reviews(self, *, state: ReviewStateName = "WAITING") -> Iterator[Review]:
        """Go through rows that wait until somebody says whom they are about; oldest first.

        A provider sees its own, the operator all.

        Args:
            state: those that wait, or that were matched or dismissed.
        """
        return self._loop.iterate(self._client.reviews(state=state))

    def match_review(
        self, review_id: str, *, subject_id: str = "", uscc: str = "", request_id: str | None = None
    ) -> DecideReviewResponse:
        """Say whom a row is about; it is taken in as if it had come with its subject.

        Args:
            review_id: of the row's review.
            subject_id: the firm, one of the candidates or another; or
            uscc: its registration number.
            request_id: the same one says it once.

        Returns:
            The review, and what became of the row. Where the row was refused, the ack says why,
            and the review waits on.

        Raises:
            NotFoundError: there is no such review for the caller, or no such firm.
            InvalidArgumentError: FIELD_INVALID, it was decided otherwise before.
        """
        return self._loop.run(
            self._client.match_review(
                review_id, subject_id=subject_id, uscc=uscc, request_id=request_id
            )
        )

    def dismiss_review(self, review_id: str, why: str, *, request_id: str | None = None) -> Review:
        """Say that a row is about nobody here; sent again it is refused.

        Args:
            review_id: of the row's review.
            why: in a few words.
            request_id: the same one says it once.

        Raises:
            NotFoundError: there is no such review for the caller.
            InvalidArgumentError: FIELD_INVALID, it was decided otherwise before.
        """
        return self._loop.run(self._client.dismiss_review(review_id, why, request_id=request_id))

    def reconciliations(
        self, *, day: date | None = None, provider_id: str = ""
    ) -> Iterator[Reconciliation]:
        """Go through a day's deliveries, those whose ends differ first, then those that are open.

        Of each come the first 100 totals that differ; `reconciliation` has all of them.

        Args:
            day: of China Standard Time: deliveries opened or closed on it, or open still; None is
                today.
            provider_id: only of this provider; empty is all that the caller may see.
        """
        return self._loop.iterate(self._client.reconciliations(day=day, provider_id=provider_id))

    def reconciliation(self, provider_id: str, delivery_id: str) -> Reconciliation:
        """Return a delivery as both ends counted it.

        Args:
            provider_id: whose.
            delivery_id: of the delivery; single submissions of a day are "submitted-yyyy-mm-dd".

        Raises:
            NotFoundError: NOT_FOUND.
        """
        return self._loop.run(self._client.reconciliation(provider_id, delivery_id))

    def evidence(self, provider_id: str, delivery_id: str, sequence: int) -> GetEvidenceResponse:
        """Return the signature of a batch, and what it covers: `puhui_client.signing` checks it.

        Args:
            provider_id: who signed.
            delivery_id: of the batch; of a single submission SHA-256 of its canonical bytes, in
                hexadecimal.
            sequence: of the batch; 0 of a single submission.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        return self._loop.run(self._client.evidence(provider_id, delivery_id, sequence))

    def quality_report(
        self, provider_id: str = "", *, first: date | None = None, last: date | None = None
    ) -> GetQualityReportResponse:
        """Return volume, lateness, rejects, missing fields, freshness and findings.

        Args:
            provider_id: whose; "" is all that the caller may see. A provider sees itself.
            first: day on which records came in, China Standard Time; None is 30 days up to `last`.
            last: likewise, included; None is today.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            InvalidArgumentError: DATE_INVALID.
        """
        return self._loop.run(self._client.quality_report(provider_id, first=first, last=last))

    def findings(
        self, *, rule: str = "", subject_id: str = "", provider_id: str = "", cleared: bool = False
    ) -> Iterator[Finding]:
        """Go through contradictions between sources, newest first.

        A provider sees those in which its records take part.

        Args:
            rule: only of this rule, e.g. "sales_gap"; "" is any.
            subject_id: only those in which this subject takes part; "" is any.
            provider_id: only those in which its records take part; "" is any.
            cleared: those that no longer hold, too.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            InvalidArgumentError: FIELD_INVALID, there is no such rule.
        """
        return self._loop.iterate(
            self._client.findings(
                rule=rule, subject_id=subject_id, provider_id=provider_id, cleared=cleared
            )
        )

    def plan_retention(self) -> PlanRetentionResponse:
        """As the operator, ask what a run would delete now; changes nothing."""
        return self._loop.run(self._client.plan_retention())

    def run_retention(
        self, plan_id: str, *, request_id: str | None = None, timeout: float = RUN_TIMEOUT
    ) -> RetentionRun:
        """As the operator, delete what a plan names.

        A run that was broken off goes on when it is called again with the same plan.

        Args:
            plan_id: of `plan_retention`.
            request_id: None makes one.
            timeout: seconds.

        Raises:
            FailedPreconditionError: PLAN_STALE, something else is due by now.
        """
        return self._loop.run(
            self._client.run_retention(plan_id, request_id=request_id, timeout=timeout)
        )

    def retention_runs(self) -> Iterator[RetentionRun]:
        """Go through runs and erasures, newest first."""
        return self._loop.iterate(self._client.retention_runs())

    def erase_subject(
        self,
        subject_id: str,
        reason: str,
        *,
        confirm: bool = False,
        request_id: str | None = None,
        timeout: float = RUN_TIMEOUT,
    ) -> EraseSubjectResponse:
        """As the operator, erase everything about a subject but the evidence of its use.

        Args:
            subject_id: whom.
            reason: why, for the log.
            confirm: do it; else only say what would go.
            request_id: None makes one.
            timeout: seconds.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: SUBJECT_ERASED.
        """
        return self._loop.run(
            self._client.erase_subject(
                subject_id, reason, confirm=confirm, request_id=request_id, timeout=timeout
            )
        )

    def request_consent(
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
        return self._loop.run(
            self._client.request_consent(
                uscc=uscc,
                subject_id=subject_id,
                purpose=purpose,
                providers=providers,
                record_types=record_types,
                data_from=data_from,
                data_to=data_to,
                expires_at=expires_at,
                content_level=content_level,
                not_before=not_before,
                fields=fields,
                once=once,
                fetches=fetches,
                store_days=store_days,
                score=score,
                automated_decision=automated_decision,
                onward_recipients=onward_recipients,
                notice_language=notice_language,
                supersedes=supersedes,
                for_subject_id=for_subject_id,
                officer=officer,
                file_reference=file_reference,
                request_id=request_id,
            )
        )

    def grant_consent(
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
        return self._loop.run(
            self._client.grant_consent(
                consent, signatures=signatures, signing_key=signing_key, request_id=request_id
            )
        )

    def reject_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, say no to a request.

        Args:
            consent_id: of the request.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.reject_consent(consent_id, note=note, request_id=request_id)
        )

    def withdraw_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, end its consent. A call begun after this returns is refused.

        Args:
            consent_id: of the consent.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.withdraw_consent(consent_id, note=note, request_id=request_id)
        )

    def revoke_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As the bank that holds it or as the operator, end a consent.

        Args:
            consent_id: of the consent.
            note: why, for the firm to read.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.revoke_consent(consent_id, note=note, request_id=request_id)
        )

    def pause_consent(
        self, consent_id: str, *, note: str = "", request_id: str | None = None
    ) -> Consent:
        """As a firm, stop its consent for a time. A call begun after this returns is refused.

        Args:
            consent_id: of the consent.
            note: why, for the bank to read.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.pause_consent(consent_id, note=note, request_id=request_id)
        )

    def resume_consent(self, consent_id: str, *, request_id: str | None = None) -> Consent:
        """As a firm, let a paused consent go on.

        Args:
            consent_id: of the consent.
            request_id: None makes one.
        """
        return self._loop.run(self._client.resume_consent(consent_id, request_id=request_id))

    def erasure_duties(self, *, overdue: bool = False) -> Iterator[ErasureDuty]:
        """Go through what must be erased because a STORE consent ended, soonest due first.

        Args:
            overdue: only what is due and not attested.
        """
        return self._loop.iterate(self._client.erasure_duties(overdue=overdue))

    def attest_erasure(
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
        return self._loop.run(
            self._client.attest_erasure(
                consent_id,
                statement,
                officer=officer,
                file_reference=file_reference,
                request_id=request_id,
            )
        )

    def get_consent(self, consent_id: str) -> Consent:
        """Return a consent of one's own.

        Raises:
            NotFoundError: there is none, or it is between others.
        """
        return self._loop.run(self._client.get_consent(consent_id))

    def list_consents(self, *, state: State | None = None) -> Iterator[Consent]:
        """Go through one's consents, newest first.

        Args:
            state: only these.
        """
        return self._loop.iterate(self._client.list_consents(state=state))

    def open_dispute(
        self,
        provider_id: str,
        record_type: str,
        provider_record_id: str,
        *,
        reason: DisputeReasonName,
        statement: str,
        field: str = "",
        request_id: str | None = None,
    ) -> Dispute:
        """As a firm, dispute one of its records: every answer that it counts in says so at once.

        Args:
            provider_id: whose record.
            record_type: its type.
            provider_record_id: the provider's own id of it.
            reason: what is wrong.
            statement: in the firm's words; readers of the record are shown it.
            field: of the payload; "" is the whole record.
            request_id: None makes one.

        Raises:
            NotFoundError: NOT_FOUND, the firm has no such record that anybody can read.
            AlreadyExistsError: ALREADY_EXISTS, it is disputed already.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        return self._loop.run(
            self._client.open_dispute(
                provider_id,
                record_type,
                provider_record_id,
                reason=reason,
                statement=statement,
                field=field,
                request_id=request_id,
            )
        )

    def answer_dispute(
        self,
        dispute_id: str,
        state: AnswerName,
        answer: str,
        *,
        evidence: str = "",
        request_id: str | None = None,
    ) -> Dispute:
        """As who supplied the record, answer.

        Args:
            dispute_id: which dispute.
            state: CORRECTED once the correction or retraction was pushed, UPHELD with evidence, or
                UNVERIFIABLE.
            answer: in writing, for the firm.
            evidence: what the answer relies on; needed with UPHELD.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: DISPUTE_STATE, also for CORRECTED before a correction came in.
        """
        return self._loop.run(
            self._client.answer_dispute(
                dispute_id, state, answer, evidence=evidence, request_id=request_id
            )
        )

    def close_dispute(self, dispute_id: str, *, request_id: str | None = None) -> Dispute:
        """As the firm, take a dispute back.

        Raises:
            FailedPreconditionError: DISPUTE_STATE.
        """
        return self._loop.run(self._client.close_dispute(dispute_id, request_id=request_id))

    def set_dispute_statement(
        self, dispute_id: str, statement: str, *, request_id: str | None = None
    ) -> Dispute:
        """As the firm, say what readers of the record are shown; "" takes it away.

        Raises:
            FailedPreconditionError: DISPUTE_STATE, nothing is shown of it any more.
        """
        return self._loop.run(
            self._client.set_dispute_statement(dispute_id, statement, request_id=request_id)
        )

    def dispute(self, dispute_id: str) -> Dispute:
        """Return a dispute that concerns the caller.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        return self._loop.run(self._client.dispute(dispute_id))

    def disputes(
        self, *, state: DisputeStateName | None = None, overdue: bool = False
    ) -> Iterator[Dispute]:
        """Go through the disputes that concern the caller, soonest due first.

        Args:
            state: only in this one; None is all.
            overdue: only those whose deadline passed without an answer.
        """
        return self._loop.iterate(self._client.disputes(state=state, overdue=overdue))

    def claim_firm(self, uscc: str, proof: str, *, request_id: str | None = None) -> Mandate:
        """Become the representative of a firm; every earlier mandate of it ends.

        Args:
            uscc: the firm's registration number.
            proof: what the deployment asks for: a verifier's statement, or a code of the sandbox.
            request_id: None makes one.

        Raises:
            PermissionDeniedError: PROOF_INVALID.
            AlreadyExistsError: ALREADY_EXISTS, this account speaks for another firm.
        """
        return self._loop.run(self._client.claim_firm(uscc, proof, request_id=request_id))

    def appoint_delegate(
        self,
        participant_id: str,
        powers: Iterable[PowerName],
        *,
        until: datetime | None = None,
        request_id: str | None = None,
    ) -> Mandate:
        """As the representative, let another account act for the firm.

        Args:
            participant_id: of role FIRM, and speaking for nobody yet.
            powers: what it may do.
            until: its end, aware; None is without end.
            request_id: None makes one.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
            AlreadyExistsError: ALREADY_EXISTS, the account speaks for a firm.
        """
        return self._loop.run(
            self._client.appoint_delegate(
                participant_id, powers, until=until, request_id=request_id
            )
        )

    def end_mandate(self, mandate_id: str, *, request_id: str | None = None) -> Mandate:
        """End a delegate's mandate as the representative, or one's own.

        Args:
            mandate_id: of the mandate.
            request_id: None makes one.
        """
        return self._loop.run(self._client.end_mandate(mandate_id, request_id=request_id))

    def set_signing_rule(
        self, signer_ids: Sequence[str], required: int, *, request_id: str | None = None
    ) -> SigningRule:
        """As the representative, say how many of which accounts must agree to a consent.

        It holds for the consents that banks ask for from then on.

        Args:
            signer_ids: accounts that may grant for the firm.
            required: how many of them.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.set_signing_rule(signer_ids, required, request_id=request_id)
        )

    def mandates(self) -> Iterator[Mandate]:
        """Go through the mandates of one's firm, newest first, also ended ones."""
        return self._loop.iterate(self._client.mandates())

    def signing_rule(self) -> SigningRule:
        """Return the signing rule of one's firm; without signers, any who may grant may agree."""
        return self._loop.run(self._client.signing_rule())

    def facts(self) -> GetFactsResponse:
        """Return what is held about one's firm, who looked, and which consents stand."""
        return self._loop.run(self._client.facts())

    def held_records(self, record_type: str = "") -> Iterator[HeldRecord]:
        """Go through the records about one's firm, newest first, without names of others.

        Args:
            record_type: only of this type; "" is all.
        """
        return self._loop.iterate(self._client.held_records(record_type))

    def notices(self, cursor: str = "", *, follow: bool = False) -> Iterator[NoticeItem]:
        """Go through what the caller is told, in the order in which it happened.

        A dropped connection is opened again behind the last notice. Each is told at least once:
        `notice_id` tells whether it was dealt with before.

        Args:
            cursor: of the last notice that was dealt with; "" is of the last acknowledged one.
            follow: wait for what comes; the iterator has no end then.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED, also while following.
            InvalidArgumentError: PAGE_TOKEN_INVALID, the cursor is another's.
            PuhuiError: the platform does not answer any more.
        """
        return self._loop.iterate(self._client.notices(cursor, follow=follow))

    def waiting_notices(self, *, limit: int = 50) -> ListNoticesResponse:
        """Return the first notices that are not acknowledged, and the cursor behind them.

        Args:
            limit: most notices, up to 500.
        """
        return self._loop.run(self._client.waiting_notices(limit=limit))

    def acknowledge_notices(self, cursor: str) -> None:
        """Say that everything up to a cursor was dealt with.

        Args:
            cursor: as the notices gave it.
        """
        self._loop.run(self._client.acknowledge_notices(cursor))

    def set_webhook(self, url: str, *, request_id: str | None = None) -> NewWebhook:
        """Have the caller's notices posted to an address, in the place of any other.

        Args:
            url: https.
            request_id: None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            AlreadyExistsError: REQUEST_ID_REUSED, the secret was shown before.
        """
        return self._loop.run(self._client.set_webhook(url, request_id=request_id))

    def remove_webhook(self, *, request_id: str | None = None) -> None:
        """Have nothing posted any more; notices go on waiting for who asks.

        Args:
            request_id: None makes one.
        """
        self._loop.run(self._client.remove_webhook(request_id=request_id))

    def resume_webhook(self, *, request_id: str | None = None) -> Webhook:
        """Let a parked webhook go on, with what waited.

        Args:
            request_id: None makes one.

        Raises:
            NotFoundError: there is none.
        """
        return self._loop.run(self._client.resume_webhook(request_id=request_id))

    def webhooks(self) -> Iterator[Webhook]:
        """Go through the caller's webhook; as the operator through all, parked ones first."""
        return self._loop.iterate(self._client.webhooks())

    def set_contact(
        self,
        *,
        email: str = "",
        mobile: str = "",
        language: Language = "zh",
        request_id: str | None = None,
    ) -> Contact:
        """As a firm, set where it is told by mail and text message; with neither, nowhere.

        Args:
            email: an address.
            mobile: a number in E.164, e.g. +8613800000000.
            language: of the sentences.
            request_id: None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
        """
        return self._loop.run(
            self._client.set_contact(
                email=email, mobile=mobile, language=language, request_id=request_id
            )
        )

    def contact(self) -> Contact:
        """Return where the firm is told; empty when nothing is set."""
        return self._loop.run(self._client.contact())

    def parked_contacts(self) -> Iterator[ParkedContact]:
        """As the operator, go through contacts whose address or number refuses."""
        return self._loop.iterate(self._client.parked_contacts())

    def usage(self, month: date, *, participant_id: str = "") -> Iterator[Usage]:
        """Go through what was called in a month, by participant, product and method.

        Args:
            month: any day of it, China Standard Time.
            participant_id: only this one's; "" is all that the caller may see.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        return self._loop.iterate(self._client.usage(month, participant_id=participant_id))

    def contributions(self, month: date, *, provider_id: str = "") -> Iterator[Contribution]:
        """Go through what was contributed in a month, by provider and record type.

        Args:
            month: any day of it, China Standard Time.
            provider_id: only this one's; "" is all that the caller may see.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        return self._loop.iterate(self._client.contributions(month, provider_id=provider_id))

    def incidents(
        self, *, state: IncidentStateName | None = None, participant_id: str = ""
    ) -> Iterator[Incident]:
        """Go through incidents, the latest first.

        Args:
            state: only these; None is any.
            participant_id: only those that concern it; "" is all that the caller sees.
        """
        return self._loop.iterate(
            self._client.incidents(state=state, participant_id=participant_id)
        )

    def incident(self, incident_id: str) -> Incident:
        """Return an incident with its handling.

        Raises:
            NotFoundError: there is none that the caller sees.
        """
        return self._loop.run(self._client.incident(incident_id))

    def open_incident(
        self,
        severity: SeverityName,
        *,
        participant_id: str = "",
        summary_zh: str = "",
        summary_en: str = "",
        access_ids: Sequence[str] = (),
        request_id: str | None = None,
    ) -> Incident:
        """As the operator, enter an incident.

        Args:
            severity: how grave it is.
            participant_id: whom it concerns; "" is nobody that is known.
            summary_zh: what was seen, without registration numbers; this, or
            summary_en: the same in English, or both.
            access_ids: that show it, at most 100.
            request_id: the same one enters it once; None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: there is no such participant.
        """
        return self._loop.run(
            self._client.open_incident(
                severity,
                participant_id=participant_id,
                summary_zh=summary_zh,
                summary_en=summary_en,
                access_ids=access_ids,
                request_id=request_id,
            )
        )

    def handle_incident(
        self,
        incident_id: str,
        note: str,
        *,
        state: IncidentStateName = "OPEN",
        reference: str = "",
        share: bool = False,
        request_id: str | None = None,
    ) -> Incident:
        """As the operator, add a step of the handling.

        Args:
            incident_id: of which incident.
            note: what was done.
            state: from now on; OPEN leaves it as it is.
            reference: who told it whom, e.g. the regulator's number of a report.
            share: let the participant see it from now on.
            request_id: the same one adds it once; None makes one.

        Raises:
            FailedPreconditionError: INCIDENT_STATE, it is closed.
            NotFoundError: there is no such incident.
        """
        return self._loop.run(
            self._client.handle_incident(
                incident_id,
                note,
                state=state,
                reference=reference,
                share=share,
                request_id=request_id,
            )
        )

    def watch_rules(self) -> Sequence[WatchRule]:
        """Return the rules of the watch over accesses, with their thresholds now."""
        return self._loop.run(self._client.watch_rules())

    def resolve_subject(self, uscc: str) -> str:
        """Return the platform's id of the firm with a registration number.

        Raises:
            InvalidArgumentError: USCC_MALFORMED.
            NotFoundError: nobody has said anything about it.
        """
        return self._loop.run(self._client.resolve_subject(uscc))

    def score(
        self,
        subject_id: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        purpose: str = "credit_application",
        as_of: datetime | None = None,
        model_version: str = "",
        automated_decision: bool = False,
        linked: Sequence[tuple[Relation, str, str]] = (),
        product: str = "",
        declared: Mapping[str, Said] = _NOTHING,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Decision:
        """Score one firm under its consent.

        Args:
            subject_id: the firm.
            consent_id: the consent it is scored under.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            purpose: code of the table of purposes; the consent's.
            as_of: data known by then, aware; None is now. Consent is always checked now.
            model_version: empty is the model in service.
            automated_decision: a machine alone will decide; the consent must allow it.
            linked: owners, guarantors and buyers whose data is to enter: relation, subject_id, and
                the consent_id of their own consent for this firm's score.
            product: code of the score product; its purpose, types and model hold.
            declared: what the bank itself says of the firm, by the product's names; numbers and
                categories. Nobody is shown it but the bank, the firm and who supervises.
            request_id: None makes one; sent again, the same id returns the same decision.
            timeout: seconds; None is the client's.

        Returns:
            The decision; where it has a `referral`, a person must decide all the same.

        Raises:
            ReferralError: scoring is stopped; nothing was read, and a person decides.
            ConsentError: a consent does not allow it; `reason` says why, and `fields` whose it is
                where it is a linked one.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
            FailedPreconditionError: DATA_INSUFFICIENT; `violations` says what would suffice.
        """
        return self._loop.run(
            self._client.score(
                subject_id,
                consent_id,
                officer=officer,
                file_reference=file_reference,
                purpose=purpose,
                as_of=as_of,
                model_version=model_version,
                automated_decision=automated_decision,
                linked=linked,
                product=product,
                declared=declared,
                request_id=request_id,
                timeout=timeout,
            )
        )

    def score_products(self) -> Iterator[ScoreProduct]:
        """Go through the score products."""
        return self._loop.iterate(self._client.score_products())

    def get_score_product(self, code: str) -> GetScoreProductResponse:
        """Return a score product, with the terms of the consent to ask a firm for.

        Raises:
            NotFoundError: there is none of this code.
        """
        return self._loop.run(self._client.get_score_product(code))

    def check_score(
        self,
        subject_id: str,
        product: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        as_of: datetime | None = None,
        automated_decision: bool = False,
    ) -> CheckScoreResponse:
        """Find out what is missing for a score, before anyone asks the firm.

        Args:
            subject_id: the firm.
            product: code of the score product.
            consent_id: empty looks for what is open by law alone.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            as_of: data known by then, aware; None is now.
            automated_decision: a machine alone will decide; the consent must allow it.

        Returns:
            How each type stands, what would suffice, and the terms of the consent that would do.

        Raises:
            NotFoundError: there is no such firm or product.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
        """
        return self._loop.run(
            self._client.check_score(
                subject_id,
                product,
                consent_id,
                officer=officer,
                file_reference=file_reference,
                as_of=as_of,
                automated_decision=automated_decision,
            )
        )

    def request_consent_for(
        self,
        product: str,
        *,
        uscc: str = "",
        subject_id: str = "",
        officer: str,
        file_reference: str,
        request_id: str | None = None,
    ) -> Consent:
        """Ask a firm for the consent that a score product needs, on the product's own terms.

        Args:
            product: code of the score product.
            uscc: the firm's registration number; or else `subject_id`.
            subject_id: the platform's id of the firm.
            officer: who asks, as the bank knows them.
            file_reference: the bank's file that it is for.
            request_id: None makes one.

        Raises:
            NotFoundError: there is none of this code.
            InvalidArgumentError: FIELD_INVALID, nobody supplies what the product needs.
        """
        return self._loop.run(
            self._client.request_consent_for(
                product,
                uscc=uscc,
                subject_id=subject_id,
                officer=officer,
                file_reference=file_reference,
                request_id=request_id,
            )
        )

    def batch_score(
        self, orders: Iterable[ScoreOrder], *, timeout: float | None = None
    ) -> Iterator[ScoreResult]:
        """Score a portfolio; results come as they are ready, in any order.

        One firm's refusal does not touch the others. After a dropped connection only the orders
        without a result are sent again.

        Args:
            orders: any number; `score_order` makes one.
            timeout: seconds for each 10,000 orders; None is without end.

        Raises:
            PuhuiError: the whole call failed.
        """
        return self._loop.iterate(self._client.batch_score(orders, timeout=timeout))

    def reevaluations(self) -> Iterator[Reevaluation]:
        """Go through one's scores to be made again, because what counted was corrected since.

        A newer score of the same firm takes them off.
        """
        return self._loop.iterate(self._client.reevaluations())

    def get_decision(
        self, decision_id: str, *, use: UseName = "EXPLANATION"
    ) -> GetDecisionResponse:
        """Return a decision, computed again from its stored inputs and compared.

        Args:
            decision_id: of the decision.
            use: what it is read for.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        return self._loop.run(self._client.get_decision(decision_id, use=use))

    def replay_decision(
        self, decision_id: str, *, use: UseName = "EXPLANATION"
    ) -> ReplayDecisionResponse:
        """Return what a model said and what it says now of the same inputs, byte for byte.

        Args:
            decision_id: of the decision.
            use: what it is read for.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        return self._loop.run(self._client.replay_decision(decision_id, use=use))

    def improvements(self, decision_id: str) -> GetImprovementsResponse:
        """Return the smallest changes that a firm can make to reach the next grade.

        Raises:
            NotFoundError: there is no such decision, or it is another's; or MODEL_NOT_FOUND.
        """
        return self._loop.run(self._client.improvements(decision_id))

    def decisions(self, *, subject_id: str = "") -> Iterator[Decision]:
        """Go through one's decisions, newest first.

        Args:
            subject_id: only about this firm; a firm always gets its own.
        """
        return self._loop.iterate(self._client.decisions(subject_id=subject_id))

    def fetch_summary(
        self,
        subject_id: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        purpose: str,
        record_types: Sequence[str] = (),
        period: tuple[date, date] | None = None,
        as_of: datetime | None = None,
        for_subject_id: str = "",
        request_id: str | None = None,
    ) -> FetchSummaryResponse:
        """Fetch a firm's monthly aggregates under its consent.

        Args:
            subject_id: the firm.
            consent_id: may be left out for types that are open by law.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            purpose: code of the table of purposes; the consent's.
            record_types: empty is those of the consent and those open by law. One outside the
                consent is refused, never trimmed.
            period: first and last day; None is the consent's.
            as_of: data known by then, aware; None is now.
            for_subject_id: the other firm whose score it is for; needed for the purpose
                "related_party", and for it alone.
            request_id: None makes one.

        Raises:
            ConsentError: the consent does not allow it; `reason` says why.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
        """
        return self._loop.run(
            self._client.fetch_summary(
                subject_id,
                consent_id,
                officer=officer,
                file_reference=file_reference,
                purpose=purpose,
                record_types=record_types,
                period=period,
                as_of=as_of,
                for_subject_id=for_subject_id,
                request_id=request_id,
            )
        )

    def accesses(self, *, subject_id: str = "") -> Iterator[Access]:
        """Go through accesses, refusals included, newest first.

        A firm sees every access to its data, a bank its own.

        Args:
            subject_id: only to this firm's data; a firm always gets its own.
        """
        return self._loop.iterate(self._client.accesses(subject_id=subject_id))

    def models(self) -> Iterator[Model]:
        """Go through the models that are loaded."""
        return self._loop.iterate(self._client.models())

    def get_model(self, version: str) -> Model:
        """Return a model with its features, measurements and card.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        return self._loop.run(self._client.get_model(version))

    def credit_report(
        self,
        order: ScoreOrder,
        *,
        format_: FormatName = "PDF",
        language: LanguageName = "ZH",
        timeout: float | None = None,
    ) -> CreditReport:
        """Score one firm and get a report of it; both are one access under the consent.

        Keep `content` as a file and `content_jws` beside it: `puhui_client.report_files` checks
        both without the platform.

        Args:
            order: what is asked, by `score_order`; its request_id, sent again, gives the same
                decision, also where it was scored before.
            format_: JSON has both languages.
            language: of HTML and PDF.
            timeout: seconds; None is the client's.

        Raises:
            ConsentError: a consent does not allow it; `reason` says why.
            FailedPreconditionError: DATA_INSUFFICIENT; or REPORT_FONT_MISSING, of a PDF.
            ReferralError: scoring is stopped; nothing was read, and a person decides.
        """
        return self._loop.run(
            self._client.credit_report(order, format_=format_, language=language, timeout=timeout)
        )

    def report_keys(self) -> dict[str, str]:
        """Return the public keys of reports, JWK by thumbprint; keep them to check reports."""
        return self._loop.run(self._client.report_keys())

    def serving(self) -> GetServingResponse:
        """Return which version answers, which are registered, and what is stopped."""
        return self._loop.run(self._client.serving())

    def register_model(
        self,
        version: str,
        *,
        officer: str,
        reason: str = "",
        parent: str = "",
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, enter a folder that lies in scoring's models_dir as a draft.

        Args:
            version: name of the folder.
            officer: who asks.
            reason: why.
            parent: the version that it was made from, where the folder does not say so.
            request_id: None makes one.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, no such folder.
            FailedPreconditionError: MODEL_FOLDER_REFUSED, MODEL_STATE.
        """
        return self._loop.run(
            self._client.register_model(
                version, officer=officer, reason=reason, parent=parent, request_id=request_id
            )
        )

    def propose_model(
        self,
        version: str,
        to: PromotedTo,
        *,
        officer: str,
        reason: str,
        validator: str = "",
        document: str = "",
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, propose another state of a version, for somebody else to approve.

        Args:
            version: of which model.
            to: the state.
            officer: who asks.
            reason: why.
            validator: who validated it; needed for VALIDATED, with the document.
            document: reference of the validation report.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: MODEL_STATE, there is no way there from its state.
        """
        return self._loop.run(
            self._client.propose_model(
                version,
                to,
                officer=officer,
                reason=reason,
                validator=validator,
                document=document,
                request_id=request_id,
            )
        )

    def propose_resumption(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, propose to end a stop, for somebody else to approve.

        Args:
            version: of which model; empty is the stop of all scoring.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.propose_resumption(
                version, officer=officer, reason=reason, request_id=request_id
            )
        )

    def approve_proposal(
        self, proposal_id: str, *, officer: str, reason: str = "", request_id: str | None = None
    ) -> ModelEvent:
        """As another operator than who proposed, have it done.

        Raises:
            PermissionDeniedError: SECOND_PERSON_REQUIRED.
            FailedPreconditionError: PROPOSAL_CLOSED, MODEL_FOLDER_REFUSED.
        """
        return self._loop.run(
            self._client.approve_proposal(
                proposal_id, officer=officer, reason=reason, request_id=request_id
            )
        )

    def decline_proposal(
        self, proposal_id: str, *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, reject a proposal, or withdraw one's own."""
        return self._loop.run(
            self._client.decline_proposal(
                proposal_id, officer=officer, reason=reason, request_id=request_id
            )
        )

    def roll_back_model(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, put the champion's predecessor back at once; the champion is retired.

        Args:
            version: the champion that is to go; empty is whichever it is.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.roll_back_model(
                version, officer=officer, reason=reason, request_id=request_id
            )
        )

    def demote_model(
        self,
        version: str,
        to: DemotedTo,
        *,
        officer: str,
        reason: str,
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, end a shadow, or retire a version that does not serve."""
        return self._loop.run(
            self._client.demote_model(
                version, to, officer=officer, reason=reason, request_id=request_id
            )
        )

    def stop_scoring(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, make scores referrals at once: nothing is fetched, a person decides.

        Args:
            version: only of this model; empty is all scoring.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.stop_scoring(
                version, officer=officer, reason=reason, request_id=request_id
            )
        )

    def model_proposals(self) -> Iterator[ModelProposal]:
        """Go through the proposals that wait for a second person, oldest first."""
        return self._loop.iterate(self._client.model_proposals())

    def model_events(self, version: str = "") -> Iterator[ModelEvent]:
        """Go through what was done to the registry, newest first.

        Args:
            version: only to this version.
        """
        return self._loop.iterate(self._client.model_events(version))

    def shadow_report(
        self, version: str, *, against: str = "", since: date | None = None
    ) -> GetShadowReportResponse:
        """Return what a challenger would have said, beside what was answered.

        Args:
            version: the challenger.
            against: beside the answers of this version; empty is the champion.
            since: first day; None is all that is kept.
        """
        return self._loop.run(self._client.shadow_report(version, against=against, since=since))

    def whoami(self) -> WhoAmIResponse:
        """Return who the caller is to the platform, and what it may call."""
        return self._loop.run(self._client.whoami())

    def platform_keys(self) -> list[PlatformKey]:
        """Return the public keys under which the platform signs and has signed, oldest first."""
        return self._loop.run(self._client.platform_keys())

    def verify_platform_signature(self, jws: str, content: bytes) -> PlatformKey:
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
        return self._loop.run(self._client.verify_platform_signature(jws, content))

    def verify_receipt(self, fetched: FetchSummaryResponse) -> datetime:
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
        return self._loop.run(self._client.verify_receipt(fetched))

    def record_types(self) -> Iterator[RecordTypePolicy]:
        """Go through the catalogue's record types."""
        return self._loop.iterate(self._client.record_types())

    def record_type(self, name: str) -> RecordTypePolicy:
        """Return a record type's policy.

        Raises:
            NotFoundError: TYPE_UNKNOWN.
        """
        return self._loop.run(self._client.record_type(name))

    def purposes(self) -> Iterator[Purpose]:
        """Go through the purposes that a consent may be for."""
        return self._loop.iterate(self._client.purposes())

    def participants(self, *, role: RoleName | None = None) -> Iterator[Participant]:
        """Go through the directory. Firms are listed to the operator only.

        Args:
            role: only these.
        """
        return self._loop.iterate(self._client.participants(role=role))

    def register_participant(
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
        return self._loop.run(
            self._client.register_participant(
                role,
                name,
                provider_kind=provider_kind,
                uscc=uscc,
                subject_id=subject_id,
                historical_source=historical_source,
                simulated_source=simulated_source,
                request_id=request_id,
            )
        )

    def set_standing(
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
        return self._loop.run(
            self._client.set_standing(participant_id, standing, note=note, request_id=request_id)
        )

    def issue_key(self, participant_id: str, *, request_id: str | None = None) -> IssueKeyResponse:
        """As the operator, make an API key. The secret is in this answer and nowhere else.

        Never repeated by the client: a key that was made and not received has to be revoked.

        Args:
            participant_id: whose key it is.
            request_id: None makes one.
        """
        return self._loop.run(self._client.issue_key(participant_id, request_id=request_id))

    def revoke_key(self, key_id: str, *, request_id: str | None = None) -> datetime:
        """As the operator, revoke an API key, and return since when it is.

        Args:
            key_id: of the key; the part of it before the dot.
            request_id: None makes one.
        """
        return self._loop.run(self._client.revoke_key(key_id, request_id=request_id))

    def register_signing_key(
        self, participant_id: str, public_jwk: str, *, request_id: str | None = None
    ) -> SigningKey:
        """As the operator, register a key that a participant signs its batches with.

        From then on its unsigned batches are refused.

        Args:
            participant_id: who signs.
            public_jwk: the public key as JSON; `puhui_client.signing.PublicKey.read(path).jwk`.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.register_signing_key(participant_id, public_jwk, request_id=request_id)
        )

    def revoke_signing_key(
        self, participant_id: str, key_id: str, *, request_id: str | None = None
    ) -> SigningKey:
        """As the operator, revoke a signing key; what it signed before stays evidence.

        Args:
            participant_id: who signs with it.
            key_id: its thumbprint.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.revoke_signing_key(participant_id, key_id, request_id=request_id)
        )

    def signing_keys(self, participant_id: str) -> Iterator[SigningKey]:
        """Go through a participant's signing keys, revoked ones included.

        Args:
            participant_id: oneself, or for the operator anybody.
        """
        return self._loop.iterate(self._client.signing_keys(participant_id))

    def participant(self, participant_id: str) -> GetParticipantResponse:
        """Return a participant and what happened to it, the earliest first.

        Args:
            participant_id: oneself; for the operator and the regulator anybody.
        """
        return self._loop.run(self._client.participant(participant_id))

    def advance_participant(
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
        return self._loop.run(
            self._client.advance_participant(
                participant_id, step, evidence, products=products, note=note, request_id=request_id
            )
        )

    def register_certificate(
        self, participant_id: str, pem: str, *, label: str = "", request_id: str | None = None
    ) -> Credential:
        """Register the certificate by which an institution is known at the TLS handshake.

        Args:
            participant_id: oneself, or for the operator anybody.
            pem: one client certificate, without its key.
            label: what it is called among the participant's.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.register_certificate(
                participant_id, pem, label=label, request_id=request_id
            )
        )

    def register_key(
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
        return self._loop.run(
            self._client.register_key(
                participant_id, public_jwk, label=label, request_id=request_id
            )
        )

    def register_person(
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
        return self._loop.run(
            self._client.register_person(
                participant_id, issuer, subject, label=label, request_id=request_id
            )
        )

    def revoke_credential(
        self, participant_id: str, credential_id: str, *, request_id: str | None = None
    ) -> Credential:
        """End a credential, at once, and the tokens that rest on it.

        Args:
            participant_id: oneself, or for the operator anybody.
            credential_id: of the credential; a person's the operator alone ends.
            request_id: None makes one.
        """
        return self._loop.run(
            self._client.revoke_credential(participant_id, credential_id, request_id=request_id)
        )

    def credentials(self, participant_id: str) -> Iterator[Credential]:
        """Go through a participant's credentials, revoked ones included.

        Args:
            participant_id: oneself, or for the operator anybody.
        """
        return self._loop.iterate(self._client.credentials(participant_id))

    def ready(self, timeout: float = 10.0) -> None:
        """Wait until the gateway can be reached.

        Args:
            timeout: seconds.

        Raises:
            UnavailableError: it cannot in that time.
        """
        self._loop.run(self._client.ready(timeout))
