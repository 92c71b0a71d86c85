"""What recipients must erase once a STORE consent has ended, and that they did."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from services.datashare.consent.domain import Attestation, Duty, check_attestable
from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import LeafKind, Leaves, Sealer, rfc3339
from services.datashare.mandates.acting import Mandates, reading
from services.datashare.mandates.domain import Power
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.writing import Notices
from services.datashare.participants.domain import Role, Standing, require_good_standing
from services.kit.clock import Clock
from services.kit.errors import NotFoundError
from services.kit.identity import Caller
from services.kit.transactions import Retry, Transactions


class DutyRows(Protocol):
    """Erasure duties."""

    async def lock(self, consent_id: str, recipient_id: str) -> Duty | None:
        """Return a recipient's duty, which nobody else attests until the end."""
        ...

    async def attest(self, duty: Duty, attestation: Attestation) -> None:
        """Write that what a locked duty is about was erased."""
        ...

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        overdue: bool,
        now: datetime,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Duty]:
        """Return duties, soonest due first; see `consent.duties`."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def hold_standings(self, participant_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return the standing of participants, which cannot change until the end."""
        ...


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def duties(self) -> DutyRows:
        """Erasure duties."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for firms."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


class ErasureDuties:
    """What recipients must erase.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        sealer: makes leaves.
        codec: of stored responses.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        sealer: Sealer,
        codec: Codec[Duty],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._sealer = sealer
        self._codec = codec

    async def list(
        self, caller: Caller, after: tuple[datetime, str] | None, page_size: int, *, overdue: bool
    ) -> tuple[Sequence[Duty], tuple[datetime, str] | None]:
        """Return a page of duties, soonest due first.

        Args:
            caller: a bank sees its own, a firm those about itself, the operator all.
            after: where the page begins; None is the first page.
            page_size: most duties.
            overdue: only those that are due and not attested.

        Returns:
            The duties, and where the next page begins or None.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        now = self._clock.now()
        async with self._transactions.read() as work:
            mandate = await reading(work.mandates, caller, now, Power.READ)
            found = await work.duties.page(
                subject_id=mandate.subject_id if mandate else None,
                recipient_id=caller.participant_id if caller.role == Role.BANK else None,
                overdue=overdue,
                now=now,
                after=after,
                limit=page_size + 1,
            )
        page = found[:page_size]
        more = len(found) > page_size
        return page, (page[-1].due_at, page[-1].consent_id) if more else None

    async def attest(
        self, caller: Caller, key: RequestKey, consent_id: str, attestation: Attestation
    ) -> Duty:
        """Declare that what was stored is erased; who declared it first is kept.

        Args:
            caller: the recipient.
            key: the write.
            consent_id: under which it was stored.
            attestation: its time is replaced by this one's.

        Raises:
            InvalidArgumentError: OFFICER_REQUIRED.
            NotFoundError: CONSENT_NOT_FOUND, nothing was to be stored under such a consent.
            FailedPreconditionError: CONSENT_STATE, it has not ended or was attested already.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
        """

        async def attest(work: Work) -> Duty:
            # Before the duty, as fetches that use a one-time consent take the two.
            standings = await work.participants.hold_standings([caller.participant_id])
            require_good_standing(standings.get(caller.participant_id))
            duty = await work.duties.lock(consent_id, caller.participant_id)
            if duty is None:
                raise NotFoundError(
                    "CONSENT_NOT_FOUND",
                    "nothing was to be stored under such a consent of yours: ListErasureDuties "
                    "names those under which it was",
                )
            now = self._clock.now()
            attested = replace(attestation, at=now)
            check_attestable(duty, attested)
            await work.duties.attest(duty, attested)
            await self._record(work, duty, attested)
            return replace(duty, attestation=attested)

        return await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, attest
        )

    async def _record(self, work: Work, duty: Duty, attested: Attestation) -> None:
        content = {
            "action": "erasure_attested",
            "consent_id": duty.consent_id,
            "recipient_id": duty.recipient_id,
            "due_at": rfc3339(duty.due_at),
            "attested_at": rfc3339(attested.at),
            "officer": attested.officer.name,
            "file_reference": attested.officer.file_reference,
            "statement": attested.statement,
        }
        await work.leaves.append([self._sealer.seal(LeafKind.CONSENT, content, attested.at)])
        await work.notices.append(
            [
                Notice(
                    party_id=party_id,
                    kind=NoticeKind.ERASURE_ATTESTED,
                    occurred_at=attested.at,
                    subject_id=duty.subject_id,
                    consent_id=duty.consent_id,
                    participant_id=duty.recipient_id,
                )
                for party_id in (duty.subject_id, duty.recipient_id)
            ]
        )
