"""Disputes: opening, answering and ending them, and telling those whom they concern.

Invariants:

- A step, its leaf and its notices are one transaction: whoever reads after the acknowledgement sees
  the dispute as it is then.
- From when on readers of the record are told of a dispute, and no longer are, is a change in
  the feed, in the transaction of the step that makes it so.
- A dispute that nobody answers is told of once at each stage, whichever replica does it.
- Whoever was released what is disputed is told, or sees it in the release: a release that was under
  way when the dispute was opened, and is seen by neither side, is found `LATE_AFTER` it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.china import china_day
from services.datashare.disputes.domain import (
    ANSWERS,
    Calendar,
    Dispute,
    DisputeReason,
    DisputeState,
    Newest,
    Profile,
    Stage,
    Step,
    Target,
    advance,
    after_telling,
    check_corrected,
    check_evidence,
    check_room,
    check_target,
    content,
    deadlines,
    no_dispute,
    rescheduled,
)
from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import LeafKind, Leaves, Sealer
from services.datashare.mandates.acting import HeldMandates, reading
from services.datashare.mandates.domain import (
    Mandate,
    MandateState,
    Power,
    require_power,
    state_at,
)
from services.datashare.notices.domain import About, Notice, NoticeKind
from services.datashare.notices.writing import TOLD_BACK, Notices, Recipients
from services.datashare.participants.domain import Role, Standing, require_good_standing
from services.kit.clock import Clock
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    invalid_field,
)
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

_SEEING: Final = (Power.READ, Power.DISPUTE)

AT_ONCE: Final = 50
"""Disputes that are told of in one transaction."""

Position = tuple[datetime, str]
"""Deadline and id of a dispute in a list."""


class DisputeRows(Protocol):
    """Disputes."""

    async def newest(self, subject_id: str, target: Target) -> Newest | None:
        """Return the newest version of a subject's record."""
        ...

    async def repeats(self, disputed: Dispute, version: int) -> bool:
        """Tell whether a version says the same in the disputed field as the disputed version."""
        ...

    async def standing(self, subject_id: str) -> int:
        """Return of how many disputes about a subject's records readers are told."""
        ...

    async def opened(self, subject_id: str, target: Target) -> str | None:
        """Return the id of the open dispute about a field of a record, if there is one."""
        ...

    async def add(self, dispute: Dispute) -> None:
        """Add a dispute; loses the race against another open one about the same field."""
        ...

    async def get(self, dispute_id: str) -> Dispute | None:
        """Return a dispute."""
        ...

    async def lock(self, dispute_id: str) -> Dispute | None:
        """Return a dispute that nobody else changes until the end."""
        ...

    async def update(self, dispute: Dispute) -> None:
        """Write a locked dispute."""
        ...

    async def page(
        self,
        *,
        subject_id: str,
        provider_id: str,
        state: DisputeState | None,
        due_by: datetime | None,
        after: Position | None,
        limit: int,
    ) -> Sequence[Dispute]:
        """Return disputes, soonest due first.

        Args:
            subject_id: about this one's records; "" is any.
            provider_id: about records of this one; "" is any.
            state: only in this one; None is any.
            due_by: only those due by then; None is any.
            after: only behind this one; None is from the first.
            limit: most disputes.
        """
        ...

    async def is_waiting(self, now: datetime) -> bool:
        """Tell whether there is something to tell of a dispute."""
        ...

    async def waiting(self, now: datetime, limit: int) -> Sequence[Dispute]:
        """Return such disputes, held for a change; none while somebody else tells."""
        ...

    async def provisional(self, after: str, limit: int) -> Sequence[Dispute]:
        """Return open disputes whose deadlines are provisional, by id, held for a change."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def hold_standings(self, participant_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return the standing of participants, which cannot change until the end."""
        ...


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def disputes(self) -> DisputeRows:
        """Disputes."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def mandates(self) -> HeldMandates:
        """Who speaks for which firm."""
        ...

    @property
    def changes(self) -> Changes:
        """The outbox."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def recipients(self) -> Recipients:
        """Who was released which records."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


class IdCodec:
    """A dispute's id as a stored response: its words are kept in one place alone."""

    def encode(self, response: str) -> bytes:
        """Return the bytes of an id."""
        return response.encode()

    def decode(self, stored: bytes) -> str:
        """Return the id of its bytes."""
        return stored.decode()


class Disputes:
    """What firms say is wrong.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes ids of disputes.
        sealer: makes leaves.
        profile: how much time there is.
        calendar: of working days.
        fields: those of the payload, by record type.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        profile: Profile,
        calendar: Calendar,
        fields: Mapping[str, frozenset[str]],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._profile = profile
        self._calendar = calendar
        self._fields = fields
        self._codec: Codec[str] = IdCodec()

    async def open(
        self,
        caller: Caller,
        key: RequestKey,
        target: Target,
        reason: DisputeReason,
        statement: str,
    ) -> Dispute:
        """Dispute a record of the caller's firm, or a field of it.

        Raises:
            InvalidArgumentError: TYPE_UNKNOWN, or FIELD_INVALID, there is no such field.
            NotFoundError: NOT_FOUND, the firm has no such record that anybody can read.
            FailedPreconditionError: DISPUTE_STATE, the firm supplied the record itself, or readers
                are told of as many of its disputes as they can be.
            AlreadyExistsError: ALREADY_EXISTS, it is disputed already; or REQUEST_ID_REUSED.
            PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """
        fields = self._fields.get(target.record_type)
        if fields is None:
            raise invalid_field(
                "TYPE_UNKNOWN",
                "record_type",
                "is not in the catalogue: ListRecordTypes names its types",
            )

        async def open_it(work: Work) -> str:
            subject_id, by = await _firm(work, caller, self._clock.now())
            supplier = await work.mandates.get(target.provider_id)
            if _corrects(supplier, subject_id, self._clock.now()):
                raise FailedPreconditionError(
                    "DISPUTE_STATE",
                    "your firm supplied this record itself: let the account that did, "
                    f"{target.provider_id}, submit a correction of it",
                )
            newest = await work.disputes.newest(subject_id, target)
            now = self._clock.now()
            version = check_target(target, newest, china_day(now), fields)
            if earlier := await work.disputes.opened(subject_id, target):
                raise AlreadyExistsError(
                    "ALREADY_EXISTS",
                    f"this is disputed already, as {earlier}: add to its statement, or close it",
                )
            check_room(await work.disputes.standing(subject_id))
            dispute = Dispute(
                dispute_id=self._ids.new("dis"),
                subject_id=subject_id,
                target=target,
                version=version,
                reason=reason,
                statement=statement,
                state=DisputeState.OPEN,
                opened_at=now,
                deadlines=deadlines(self._profile, now, self._calendar),
            )
            dispute = replace(dispute, told=tuple(await _parties(work, dispute, now)))
            await work.disputes.add(dispute)
            await _tell(work, dispute, dispute.told, NoticeKind.DISPUTE_OPENED, now)
            await self._record(work, None, dispute, "open", now, by)
            return dispute.dispute_id

        return await self._once(caller, key, open_it)

    async def answer(
        self,
        caller: Caller,
        key: RequestKey,
        dispute_id: str,
        state: DisputeState,
        answer: str,
        evidence: str,
    ) -> Dispute:
        """Answer as the provider of the record: one of `ANSWERS`.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: DISPUTE_STATE, it is answered or closed, or nothing was
                corrected.
            InvalidArgumentError: FIELD_INVALID, UPHELD without evidence.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
        """
        step = ANSWERS[state]

        async def answer_it(work: Work) -> str:
            before = _of_provider(caller, await work.disputes.lock(dispute_id))
            await _require_good_standing(work, caller)
            now = self._clock.now()
            after = replace(advance(before, step, now), answer=answer, evidence=evidence)
            check_evidence(step, evidence)
            if step is Step.CORRECT:
                await self._check_corrected(work, before, now)
            by = {"participant_id": caller.participant_id}
            kind = NoticeKind.DISPUTE_ANSWERED
            return await self._taken(work, before, after, step, now, by, kind)

        return await self._once(caller, key, answer_it)

    async def close(self, caller: Caller, key: RequestKey, dispute_id: str) -> Dispute:
        """Take a dispute back, as the firm.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: DISPUTE_STATE.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """

        async def close_it(work: Work) -> str:
            subject_id, by = await _firm(work, caller, self._clock.now())
            before = _of_firm(subject_id, await work.disputes.lock(dispute_id))
            now = self._clock.now()
            after = advance(before, Step.CLOSE, now)
            kind = NoticeKind.DISPUTE_CLOSED
            return await self._taken(work, before, after, Step.CLOSE, now, by, kind)

        return await self._once(caller, key, close_it)

    async def set_statement(
        self, caller: Caller, key: RequestKey, dispute_id: str, statement: str
    ) -> Dispute:
        """Say what readers are shown beside the record; empty takes it away.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: DISPUTE_STATE, nothing is shown of it any more, or of too many.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """

        async def state_it(work: Work) -> str:
            subject_id, by = await _firm(work, caller, self._clock.now())
            before = _of_firm(subject_id, await work.disputes.lock(dispute_id))
            now = self._clock.now()
            after = replace(advance(before, Step.STATE, now), statement=statement)
            if after.marked and not before.marked:
                check_room(await work.disputes.standing(subject_id))
            kind = NoticeKind.DISPUTE_STATED
            return await self._taken(work, before, after, Step.STATE, now, by, kind)

        return await self._once(caller, key, state_it)

    async def get(self, caller: Caller, dispute_id: str) -> tuple[Dispute, datetime]:
        """Return a dispute that concerns the caller, and the time at which it was read.

        Raises:
            NotFoundError: NOT_FOUND.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        now = self._clock.now()
        async with self._transactions.read() as work:
            mandate = await reading(work.mandates, caller, now, *_SEEING)
            found = await work.disputes.get(dispute_id)
        if found is None or not _concerns(caller, mandate, found):
            raise no_dispute()
        return found, now

    async def list(
        self,
        caller: Caller,
        state: DisputeState | None,
        after: Position | None,
        page_size: int,
        *,
        overdue: bool,
    ) -> tuple[Sequence[Dispute], Position | None, datetime]:
        """Return a page of the disputes that concern the caller, soonest due first.

        Args:
            caller: a firm sees its own, a supplier those about its records, the operator all.
            state: only in this one; None is any.
            after: behind which the page begins; None is the first page.
            page_size: most disputes.
            overdue: only those whose deadline passed without an answer.

        Returns:
            The disputes, behind which the next page begins or None, and the time of reading.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        provider_id = "" if caller.role in (Role.FIRM, Role.OPERATOR) else caller.participant_id
        now = self._clock.now()
        if overdue and state not in (None, DisputeState.OPEN):
            return (), None, now
        async with self._transactions.read() as work:
            mandate = await reading(work.mandates, caller, now, *_SEEING)
            found = await work.disputes.page(
                subject_id=mandate.subject_id if mandate else "",
                provider_id=provider_id,
                state=DisputeState.OPEN if overdue else state,
                due_by=now if overdue else None,
                after=after,
                limit=page_size + 1,
            )
        page = found[:page_size]
        behind = None
        if len(found) > page_size:
            behind = (page[-1].deadlines.answer_due_at, page[-1].dispute_id)
        return page, behind, now

    @staticmethod
    async def _check_corrected(work: Work, dispute: Dispute, now: datetime) -> None:
        """Refuse to call corrected what is not; what nobody reads any more needs no correction."""
        newest = await work.disputes.newest(dispute.subject_id, dispute.target)
        if newest is not None and newest.is_read(china_day(now)):
            repeats = await work.disputes.repeats(dispute, newest.version)
            check_corrected(dispute, newest, repeats=repeats)

    async def _once(
        self, caller: Caller, key: RequestKey, work_on: Callable[[Work], Awaitable[str]]
    ) -> Dispute:
        dispute_id = await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, work_on
        )
        # As it stands now, also to a replay: so whoever may not see it any more sees nothing.
        found, _ = await self.get(caller, dispute_id)
        return found

    async def _taken(
        self,
        work: Work,
        before: Dispute,
        after: Dispute,
        step: Step,
        now: datetime,
        by: Mapping[str, str],
        kind: NoticeKind,
    ) -> str:
        parties = await _parties(work, after, now)
        if after.closed_at is not None and after.stage is Stage.LATECOMERS:
            after = replace(after, told=tuple(dict.fromkeys([*after.told, *parties])))
        await work.disputes.update(after)
        await _tell(work, after, parties, kind, now)
        await self._record(work, before, after, step, now, by)
        return after.dispute_id

    async def _record(
        self,
        work: Work,
        before: Dispute | None,
        after: Dispute,
        step: str,
        now: datetime,
        by: Mapping[str, str],
    ) -> None:
        attested = content(after, step, now, by)
        await work.leaves.append([self._sealer.seal(LeafKind.DISPUTE, attested, now)])
        if after.marked == (before is not None and before.marked):
            return
        change = Change(
            ChangeKind.DISPUTE_OPENED if after.marked else ChangeKind.DISPUTE_CLOSED,
            now,
            subject_id=after.subject_id,
            participant_id=after.target.provider_id,
            record_type=after.target.record_type,
            dispute_id=after.dispute_id,
        )
        await work.changes.append([change])


class Remind:
    """Tells of disputes that nobody answers: before the deadline, and once it has passed.

    Args:
        transactions: opens transactions.
        clock: the time.
        profile: how much time there is.
        calendar: of working days.
    """

    def __init__(
        self, transactions: Transactions[Work], clock: Clock, profile: Profile, calendar: Calendar
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._profile = profile
        self._calendar = calendar

    async def run(self, every: timedelta) -> None:
        """Go on for ever; deadlines that were guessed are reckoned anew at the start.

        Args:
            every: how long to wait when nothing is left to do.
        """
        await self.reckon()
        while True:
            await self()
            await asyncio.sleep(every.total_seconds())

    async def __call__(self) -> int:
        """Tell what is to be told now; return of how many disputes."""
        told = 0
        while True:
            now = self._clock.now()
            async with self._transactions.read() as work:
                if not await work.disputes.is_waiting(now):
                    return told
            async with self._transactions.begin() as work:
                found = await work.disputes.waiting(now, AT_ONCE)
                for dispute in found:
                    await work.disputes.update(after_telling(dispute))
                    if dispute.stage is Stage.LATECOMERS:
                        if dispute.marked:
                            await _latecomers(work, dispute, now)
                    else:
                        await work.notices.append(_reminders(dispute, now))
            if not found:  # somebody else tells them
                return told
            told += len(found)

    async def reckon(self) -> int:
        """Reckon provisional deadlines with the calendar of this release; return how many moved.

        None are while the profile counts other days than those that are worked.
        """
        if not self._profile.working:
            return 0
        after, moved = "", 0
        while True:
            async with self._transactions.begin() as work:
                found = await work.disputes.provisional(after, AT_ONCE)
                for dispute in found:
                    due = deadlines(self._profile, dispute.opened_at, self._calendar)
                    if due != dispute.deadlines:
                        later = rescheduled(dispute, due, self._clock.now())
                        await work.disputes.update(later)
                        moved += 1
            if not found:
                return moved
            after = found[-1].dispute_id


async def _latecomers(work: Work, dispute: Dispute, now: datetime) -> None:
    """Tell those who were released it while it was being opened."""
    parties = await _parties(work, dispute, now)
    late = [party_id for party_id in parties if party_id not in dispute.told]
    is_open = dispute.state is DisputeState.OPEN
    kind = NoticeKind.DISPUTE_OPENED if is_open else NoticeKind.DISPUTE_ANSWERED
    await _tell(work, dispute, late, kind, now)


async def _parties(work: Work, dispute: Dispute, now: datetime) -> Sequence[str]:
    """Return the provider, the firm and who was released such records in the last 12 months."""
    target = dispute.target
    about = About(dispute.subject_id, target.record_type, target.provider_id)
    released = (await work.recipients.since(now - TOLD_BACK, [about])).get(about, ())
    recipients = (recipient.participant_id for recipient in released)
    return list(dict.fromkeys([target.provider_id, dispute.subject_id, *recipients]))


async def _tell(
    work: Work, dispute: Dispute, parties: Sequence[str], kind: NoticeKind, now: datetime
) -> None:
    due_at = dispute.deadlines.answer_due_at if dispute.state is DisputeState.OPEN else None
    await work.notices.append(
        [_notice(dispute, party_id, kind, now, due_at) for party_id in parties]
    )


def _reminders(dispute: Dispute, now: datetime) -> Sequence[Notice]:
    """Return what is told at a dispute's stage: the provider always, the firm once it is late."""
    due = dispute.deadlines
    if dispute.stage is Stage.REMINDER:
        parties, kind = [dispute.target.provider_id], NoticeKind.DISPUTE_REMINDER
    else:
        parties = [dispute.target.provider_id, dispute.subject_id]
        kind = NoticeKind.DISPUTE_OVERDUE
    at = due.correction_due_at if dispute.stage is Stage.CORRECTION_OVERDUE else due.answer_due_at
    return [_notice(dispute, party_id, kind, now, at) for party_id in parties]


def _notice(
    dispute: Dispute, party_id: str, kind: NoticeKind, now: datetime, due_at: datetime | None
) -> Notice:
    return Notice(
        party_id,
        kind,
        now,
        subject_id=dispute.subject_id,
        dispute_id=dispute.dispute_id,
        record_type=dispute.target.record_type,
        participant_id=dispute.target.provider_id,
        due_at=due_at,
    )


async def _firm(work: Work, caller: Caller, now: datetime) -> tuple[str, Mapping[str, str]]:
    """Return the firm that a caller may dispute for, and who acts."""
    await _require_good_standing(work, caller)
    mandate = require_power(await work.mandates.hold(caller.participant_id), Power.DISPUTE, now)
    return mandate.subject_id, mandate.names


def _corrects(supplier: Mandate | None, subject_id: str, now: datetime) -> bool:
    """Tell whether an account can correct what it supplied of a firm as that firm's own."""
    return (
        supplier is not None
        and supplier.subject_id == subject_id
        and state_at(supplier, now) is MandateState.ACTIVE
        and Power.SUBMIT in supplier.powers
    )


async def _require_good_standing(work: Work, caller: Caller) -> None:
    standings = await work.participants.hold_standings([caller.participant_id])
    require_good_standing(standings.get(caller.participant_id))


def _of_firm(subject_id: str, dispute: Dispute | None) -> Dispute:
    if dispute is None or dispute.subject_id != subject_id:
        raise no_dispute()
    return dispute


def _of_provider(caller: Caller, dispute: Dispute | None) -> Dispute:
    if dispute is None or dispute.target.provider_id != caller.participant_id:
        raise no_dispute()
    return dispute


def _concerns(caller: Caller, mandate: Mandate | None, dispute: Dispute) -> bool:
    if caller.role == Role.OPERATOR:
        return True
    if mandate is not None:
        return dispute.subject_id == mandate.subject_id
    return dispute.target.provider_id == caller.participant_id
