"""Entering, handling and telling incidents."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Protocol

from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.incidents.domain import (
    MANUAL,
    SEE_ALL,
    Incident,
    Severity,
    State,
    Step,
    check_words,
    content,
    no_incident,
)
from services.datashare.log.domain import Leaf, LeafKind, Leaves, Sealer
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.writing import Notices
from services.datashare.participants.domain import Participant, Role
from services.kit.clock import Clock
from services.kit.errors import NotFoundError, invalid_field
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

_OPERATORS: Final = 100


class Incidents(Protocol):
    """The register."""

    async def add(self, incident: Incident) -> None:
        """Enter an incident without steps."""
        ...

    async def get(self, incident_id: str) -> Incident | None:
        """Return an incident with its handling."""
        ...

    async def hold(self, incident_id: str) -> Incident | None:
        """Return an incident with its handling, unchangeable until the end."""
        ...

    async def add_step(self, incident: Incident, leaf: Leaf) -> None:
        """Store an incident's latest step and what it changed."""
        ...

    async def page(
        self,
        *,
        state: State | None,
        participant_id: str,
        shared_with: str | None,
        before: str,
        limit: int,
    ) -> Sequence[Incident]:
        """Return incidents with their handling, the latest first.

        Args:
            state: only these; None is any.
            participant_id: only those that concern it; "" is any.
            shared_with: only those shared with this participant; None is all.
            before: only with an id less than this; "" is any.
            limit: most incidents.
        """
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...

    async def page(self, roles: Collection[Role], after: str, limit: int) -> Sequence[Participant]:
        """Return participants of these roles whose id is greater, by id."""
        ...


class Entering(Protocol):
    """What entering an incident needs in a transaction."""

    @property
    def incidents(self) -> Incidents:
        """The register."""
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


class Work(Entering, Protocol):
    """What the register needs in a transaction."""

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


async def enter(work: Entering, sealer: Sealer, incident: Incident) -> None:
    """Enter an incident with its leaf, and tell the operators."""
    await work.incidents.add(incident)
    leaf = sealer.seal(LeafKind.INCIDENT, content(incident), incident.opened_at)
    await work.leaves.append([leaf])
    operators = await work.participants.page({Role.OPERATOR}, "", _OPERATORS)
    await work.notices.append(
        [
            _notice(operator.participant_id, NoticeKind.INCIDENT_OPENED, incident)
            for operator in operators
        ]
    )


class Register:
    """The register of incidents.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes ids of incidents.
        sealer: makes leaves.
        codec: of incidents, for replays.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        codec: Codec[Incident],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._codec = codec

    async def open(
        self,
        key: RequestKey,
        *,
        severity: Severity,
        participant_id: str,
        summary_zh: str,
        summary_en: str,
        access_ids: Sequence[str],
    ) -> Incident:
        """Enter an incident by hand.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: NOT_FOUND, there is no such participant.
        """
        if not (summary_zh.strip() or summary_en.strip()):
            raise invalid_field("FIELD_INVALID", "summary_zh", "or summary_en must say what it is")
        check_words(summary_zh=summary_zh, summary_en=summary_en)

        async def work(unit: Work) -> Incident:
            if participant_id and await unit.participants.get(participant_id) is None:
                raise NotFoundError(
                    "NOT_FOUND", "there is no such participant: ListParticipants names them"
                )
            incident = Incident(
                incident_id=self._ids.new("inc"),
                rule=MANUAL,
                severity=severity,
                state=State.OPEN,
                participant_id=participant_id,
                opened_at=self._clock.now(),
                summary_zh=summary_zh,
                summary_en=summary_en,
                access_ids=tuple(access_ids),
            )
            await enter(unit, self._sealer, incident)
            return incident

        return await self._once(key, work)

    async def handle(
        self, key: RequestKey, caller: Caller, incident_id: str, step: Step, *, share: bool
    ) -> Incident:
        """Add a step.

        Args:
            key: of the request.
            caller: the operator.
            incident_id: of which incident.
            step: its time and who took it are filled in.
            share: let the participant see it from now on.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            FailedPreconditionError: INCIDENT_STATE.
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: NOT_FOUND.
        """
        check_words(note=step.note, reference=step.reference)

        async def work(unit: Work) -> Incident:
            before = await unit.incidents.hold(incident_id)
            if before is None:
                raise no_incident()
            taken = Step(
                self._clock.now(),
                caller.participant_id,
                caller.person_id,
                step.state,
                step.note,
                step.reference,
            )
            incident = before.handled(taken, share=share)
            leaf = self._sealer.seal(LeafKind.INCIDENT, content(incident), taken.at)
            await unit.leaves.append([leaf])
            await unit.incidents.add_step(incident, leaf)
            if before.shared_at is None and incident.shared_at and incident.participant_id:
                told = _notice(incident.participant_id, NoticeKind.INCIDENT_SHARED, incident)
                await unit.notices.append([told])
            return incident

        return await self._once(key, work)

    async def get(self, caller: Caller, incident_id: str) -> Incident:
        """Return what a caller sees of an incident.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        async with self._transactions.read() as work:
            found = await work.incidents.get(incident_id)
        if found is None:
            raise no_incident()
        return found.shown_to(caller)

    async def list(
        self, caller: Caller, state: State | None, participant_id: str, before: str, page_size: int
    ) -> tuple[Sequence[Incident], str]:
        """Return a page of what a caller sees, and the id that the next one begins behind."""
        async with self._transactions.read() as work:
            found = await work.incidents.page(
                state=state,
                participant_id=participant_id,
                shared_with=None if caller.role in SEE_ALL else caller.participant_id,
                before=before,
                limit=page_size + 1,
            )
        page = [each.shown_to(caller) for each in found[:page_size]]
        return page, page[-1].incident_id if len(found) > page_size else ""

    async def _once(self, key: RequestKey, work: "_Write") -> Incident:
        return await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, work
        )


class _Write(Protocol):
    async def __call__(self, unit: Work) -> Incident: ...


def _notice(party_id: str, kind: NoticeKind, incident: Incident) -> Notice:
    at: datetime = incident.handling[-1].at if incident.handling else incident.opened_at
    return Notice(
        party_id=party_id,
        kind=kind,
        occurred_at=at,
        participant_id=incident.participant_id,
        incident_id=incident.incident_id,
    )
