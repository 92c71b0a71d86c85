"""Telling a firm what is held about it, who looked, and which consents stand.

Who looks is noted first, in a transaction that holds its mandate, and only then is read: nothing is
told without a leaf, and nothing to an account whose mandate has ended.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from services.datashare.access.domain import Recorded
from services.datashare.catalogue.domain import Catalogue
from services.datashare.china import china_day
from services.datashare.consent.domain import STANDING_STATES, Consent, State
from services.datashare.disputes.domain import Dispute, DisputeState
from services.datashare.facts.domain import (
    FACTS,
    RECORDS,
    Facts,
    Held,
    HeldRecord,
    Holding,
    Standing,
    Told,
    View,
    effect,
    minute_of,
    view_content,
)
from services.datashare.log.domain import LeafKind, Leaves, Sealer
from services.datashare.mandates.acting import HeldMandates
from services.datashare.mandates.domain import Power, require_power
from services.datashare.participants.domain import Participant
from services.kit.clock import Clock
from services.kit.errors import invalid_field
from services.kit.identity import Caller
from services.kit.transactions import Transactions

LATEST: Final = 20
"""Accesses on the page."""

VIEWS: Final = 200
"""Views by accounts of the firm itself, on the page."""

_MOST: Final = 1_000
"""Of consents in force and of disputes; a firm has a handful."""


class Position(NamedTuple):
    """Where a record stands in the list of a firm's records.

    Args:
        held_at: when the list was begun; later pages tell what was held then.
        recorded_at: when the record came in.
        record_type: its type.
        provider_id: who supplied it.
        provider_record_id: the provider's own id.
    """

    held_at: datetime
    recorded_at: datetime
    record_type: str
    provider_id: str
    provider_record_id: str


class HeldRows(Protocol):
    """What is held."""

    async def holdings(self, subject_id: str, today: int) -> Sequence[Held]:
        """Return what counts of a firm, by type and provider, on a day since 1970-01-01."""
        ...

    async def outcomes(self, subject_id: str) -> tuple[int, int]:
        """Return how many releases and how many refusals of a firm's data there are."""
        ...

    async def records(
        self,
        subject_id: str,
        record_types: Collection[str],
        today: int,
        held_at: datetime,
        after: Position | None,
        limit: int,
    ) -> Sequence[HeldRecord]:
        """Return records that count of a firm, newest first.

        Args:
            subject_id: the firm.
            record_types: of these types.
            today: days since 1970-01-01.
            held_at: without what came in later, be it a correction.
            after: only behind this place; None is from the first.
            limit: most records that are read; those whose key is destroyed are left out.
        """
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...


class Accesses(Protocol):
    """Releases and refusals."""

    async def page(
        self, *, subject_id: str, recipient_id: str, before: str, limit: int
    ) -> Sequence[Recorded]:
        """Return accesses, newest first."""
        ...


class Consents(Protocol):
    """Consents."""

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        state: State | None,
        now: datetime,
        before: str,
        limit: int,
    ) -> Sequence[Consent]:
        """Return consents, newest first."""
        ...


class Disputes(Protocol):
    """Disputes."""

    async def page(
        self,
        *,
        subject_id: str,
        provider_id: str,
        state: DisputeState | None,
        due_by: datetime | None,
        after: tuple[datetime, str] | None,
        limit: int,
        marked: bool = False,
    ) -> Sequence[Dispute]:
        """Return disputes, soonest due first; perhaps only those of which readers are told."""
        ...


class Views(Protocol):
    """Who looked at what is held of its own firm."""

    async def add(self, view: View) -> bool:
        """Note a view; tell whether it was not noted before."""
        ...

    async def has(self, subject_id: str, at: datetime, participant_id: str, what: str) -> bool:
        """Tell whether a view was noted."""
        ...

    async def latest(self, subject_id: str, limit: int) -> Sequence[View]:
        """Return the latest views by accounts of a firm, newest first."""
        ...


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def views(self) -> Views:
        """Who looked at what is held of its own firm."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def held(self) -> HeldRows:
        """What is held."""
        ...

    @property
    def mandates(self) -> HeldMandates:
        """Who speaks for firms."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def accesses(self) -> Accesses:
        """Releases and refusals."""
        ...

    @property
    def consents(self) -> Consents:
        """Consents."""
        ...

    @property
    def disputes(self) -> Disputes:
        """Disputes."""
        ...


class TellFacts:
    """Tells firms.

    Args:
        transactions: opens transactions.
        catalogue: types.
        clock: the time.
        sealer: makes leaves.
    """

    def __init__(
        self, transactions: Transactions[Work], catalogue: Catalogue, clock: Clock, sealer: Sealer
    ) -> None:
        self._transactions = transactions
        self._catalogue = catalogue
        self._clock = clock
        self._sealer = sealer

    async def __call__(self, caller: Caller) -> Facts:
        """Return the page of the firm for which the caller may read, all of one moment.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        await self._note(caller, FACTS)
        async with self._transactions.read() as work:
            now = self._clock.now()
            subject_id = await self._firm(work, caller, now)
            held = await work.held.holdings(subject_id, china_day(now))
            accesses = await work.accesses.page(
                subject_id=subject_id, recipient_id="", before="", limit=LATEST
            )
            releases, refusals = await work.held.outcomes(subject_id)
            consents = [
                consent
                for state in sorted(STANDING_STATES)
                for consent in await work.consents.page(
                    subject_id=subject_id,
                    recipient_id=None,
                    state=state,
                    now=now,
                    before="",
                    limit=_MOST,
                )
            ]
            consents.sort(key=lambda consent: consent.core.consent_id, reverse=True)
            disputes = await work.disputes.page(
                subject_id=subject_id,
                provider_id="",
                state=DisputeState.OPEN,
                due_by=None,
                after=None,
                limit=_MOST,
            )
            views = await work.views.latest(subject_id, VIEWS)
            named = {each.provider_id for each in held}
            named |= {consent.core.recipient_id for consent in consents}
            people = await work.participants.among(named)
        names = {id_: person.name for id_, person in people.items()}
        return Facts(
            subject_id=subject_id,
            read_at=now,
            holdings=[
                Holding(
                    each,
                    self._catalogue.type(each.record_type),
                    names.get(each.provider_id, each.provider_id),
                )
                for each in held
            ],
            accesses=accesses,
            releases=releases,
            refusals=refusals,
            consents=[self._standing(consent, names) for consent in consents],
            disputes=disputes,
            views=views,
        )

    async def records(
        self, caller: Caller, record_type: str, after: Position | None, page_size: int
    ) -> tuple[Sequence[Told], Position | None]:
        """Return a page of the records about the firm for which the caller may read, newest first.

        Without those of types that the law keeps to who supplied them.

        Args:
            caller: a firm's account.
            record_type: only of this type; "" is all.
            after: behind which the page begins; None is the first page.
            page_size: most records.

        Returns:
            The records, and behind which the next page begins or None.

        Raises:
            InvalidArgumentError: TYPE_UNKNOWN; or PAGE_TOKEN_INVALID, this account did not begin
                the list.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        types = [name for name, kind in self._catalogue.types.items() if not kind.kept_to_provider]
        if record_type:
            if record_type not in self._catalogue.types:
                raise invalid_field(
                    "TYPE_UNKNOWN",
                    "record_type",
                    "is not in the catalogue: ListRecordTypes names its types",
                )
            types = [name for name in types if name == record_type]
        what = record_type or RECORDS
        held_at = after.held_at if after else await self._note(caller, what)
        async with self._transactions.read() as work:
            now = self._clock.now()
            subject_id = await self._firm(work, caller, now)
            begun = minute_of(held_at)
            if not await work.views.has(subject_id, begun, caller.participant_id, what):
                problem = "is none that this account was given: send it as it was given, or none"
                raise invalid_field("PAGE_TOKEN_INVALID", "page_token", problem)
            found = await work.held.records(
                subject_id, types, china_day(now), held_at, after, page_size + 1
            )
            marked = await self._marked(work, subject_id) if found else {}
        page = found[:page_size]
        told = [Told(each, marked.get(_name(each), ()), now) for each in page]
        return told, _position(held_at, page[-1]) if len(found) > page_size else None

    async def _note(self, caller: Caller, what: str) -> datetime:
        """Note that an account looks at what is held of its firm; return when.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        async with self._transactions.begin() as work:
            mandate = await work.mandates.hold(caller.participant_id)
            now = self._clock.now()
            mandate = require_power(mandate, Power.READ, now)
            view = View(
                mandate.subject_id,
                minute_of(now),
                caller.participant_id,
                what,
                mandate.principal_id,
            )
            if await work.views.add(view):
                leaf = self._sealer.seal(LeafKind.MANDATE, view_content(view), now)
                await work.leaves.append([leaf])
        return now

    async def _firm(self, work: Work, caller: Caller, now: datetime) -> str:
        mandate = await work.mandates.get(caller.participant_id)
        return require_power(mandate, Power.READ, now).subject_id

    async def _marked(
        self, work: Work, subject_id: str
    ) -> Mapping[tuple[str, str, str], Sequence[Dispute]]:
        """Return the disputes that are told beside records, by record."""
        found: dict[tuple[str, str, str], list[Dispute]] = {}
        for dispute in await work.disputes.page(
            subject_id=subject_id,
            provider_id="",
            state=None,
            due_by=None,
            after=None,
            limit=_MOST,
            marked=True,
        ):
            target = dispute.target
            name = target.record_type, target.provider_id, target.provider_record_id
            found.setdefault(name, []).append(dispute)
        return found

    def _standing(self, consent: Consent, names: Mapping[str, str]) -> Standing:
        recipient_id = consent.core.recipient_id
        name = names.get(recipient_id, recipient_id)
        return Standing(consent, name, effect(consent, name, self._catalogue))


def _name(record: HeldRecord) -> tuple[str, str, str]:
    return record.record_type, record.provider_id, record.provider_record_id


def _position(held_at: datetime, record: HeldRecord) -> Position:
    return Position(held_at, record.recorded_at, *_name(record))
