"""Asking for consents, granting and ending them.

Each change of state takes the consent exclusively, and is written together with its leaf, its
change in the feed and what providers are told of it: a fetch, or a batch of records, either sees
the consent as it was and ends before the change, or sees the changed one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from services.datashare.catalogue.domain import Catalogue
from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.consent.domain import (
    Action,
    Consent,
    Core,
    Signature,
    State,
    Terms,
    advance,
    change_content,
    check_grant,
    not_found,
    request,
)
from services.datashare.consent.terms import check_terms, nameable
from services.datashare.idempotency.app import Codec, Requests, once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Leaf, LeafKind, Sealer
from services.datashare.mandates.acting import acting, reading
from services.datashare.mandates.domain import Mandate, Power
from services.datashare.notices.writing import Notices, of_consent
from services.datashare.participants.app import checked_uscc
from services.datashare.participants.domain import (
    Participant,
    Role,
    Standing,
    SubjectName,
    require_good_standing,
)
from services.datashare.wanted.domain import Item, due, ended
from services.kit.clock import Clock
from services.kit.errors import NotFoundError
from services.kit.identity import Caller
from services.kit.ids import Ids


class ConsentRows(Protocol):
    """Consents."""

    async def add(self, consent: Consent) -> None:
        """Add a consent."""
        ...

    async def get(self, consent_id: str) -> Consent | None:
        """Return a consent."""
        ...

    async def lock(self, consent_id: str) -> Consent | None:
        """Return a consent under which nobody else fetches or acts until the end."""
        ...

    async def update(self, consent: Consent) -> None:
        """Write the new state of a locked consent."""
        ...

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
        """Return consents, newest first.

        Args:
            subject_id: of this firm; None is any.
            recipient_id: given to this bank; None is any.
            state: only in this state at `now`; None is any.
            now: the time at which the state is computed.
            before: only with an id less than this; "" is any.
            limit: most consents.
        """
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code."""
        ...

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...

    async def hold_standings(self, participant_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return the standing of participants, which cannot change until the end."""
        ...


class Changes(Protocol):
    """The outbox."""

    async def append(self, changes: Sequence[Change]) -> None:
        """Add changes."""
        ...


class WantedItems(Protocol):
    """What providers are told to supply."""

    async def append(self, items: Sequence[Item]) -> None:
        """Add items."""
        ...

    async def due_under(self, subject_id: str, consent_id: str) -> Sequence[Item]:
        """Return what a consent made due."""
        ...


class Mandates(Protocol):
    """Who speaks for firms."""

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...

    async def hold(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended, unchangeable until the end."""
        ...


class Leaves(Protocol):
    """The log."""

    async def append(self, leaves: Sequence[Leaf]) -> None:
        """Add leaves, not yet sequenced."""
        ...


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def consents(self) -> ConsentRows:
        """Consents."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for firms."""
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
    def wanted(self) -> WantedItems:
        """What providers are told to supply."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


class Transactions(Protocol):
    """Opens transactions."""

    def begin(self) -> AbstractAsyncContextManager[Work]:
        """Give a write transaction."""
        ...

    def read(self) -> AbstractAsyncContextManager[Work]:
        """Give a snapshot."""
        ...


_CHANGES = {
    Action.GRANT: ChangeKind.CONSENT_GRANTED,
    Action.REJECT: ChangeKind.CONSENT_REJECTED,
    Action.WITHDRAW: ChangeKind.CONSENT_WITHDRAWN,
    Action.REVOKE: ChangeKind.CONSENT_REVOKED,
}


_POWERS = {
    ChangeKind.CONSENT_GRANTED: Power.GRANT,
    ChangeKind.CONSENT_REJECTED: Power.GRANT,
}
"""What a firm's account must be allowed to do; all else is to withdraw."""


class Consents:
    """What firms allow.

    Args:
        transactions: opens transactions.
        clock: the time.
        ids: makes consent ids.
        sealer: makes leaves.
        codec: of stored responses.
        catalogue: types and purposes.
    """

    def __init__(
        self,
        *,
        transactions: Transactions,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        codec: Codec[Consent],
        catalogue: Catalogue,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._codec = codec
        self._catalogue = catalogue

    async def request(
        self, caller: Caller, key: RequestKey, subject: SubjectName, terms: Terms
    ) -> Consent:
        """Ask a firm for a consent, as the bank that is to receive the data.

        Raises:
            InvalidArgumentError: USCC_MALFORMED, or a reason of `check_terms`.
            NotFoundError: NOT_FOUND, there is no such subject.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
        """
        async with self._transactions.begin() as work:
            now = self._clock.now()

            async def add() -> Consent:
                await _require_good_standing(work, caller)
                subject_id = await _subject_id(work, subject)
                people = await work.participants.among(terms.provider_ids)
                providers = nameable(
                    people.values(),
                    terms.record_types,
                    self._catalogue,
                    subject_id=subject_id,
                    recipient_id=caller.participant_id,
                )
                check_terms(terms, now, self._catalogue, providers, caller.participant_id)
                core = Core(
                    consent_id=self._ids.new("con"),
                    subject_id=subject_id,
                    recipient_id=caller.participant_id,
                    terms=terms,
                )
                consent = request(core, now)
                await work.consents.add(consent)
                await self._record(work, consent, caller, ChangeKind.CONSENT_REQUESTED)
                return consent

            return await once(work.requests, key, now, self._codec, add)

    async def grant(
        self,
        caller: Caller,
        key: RequestKey,
        consent_id: str,
        sha256: bytes,
        signatures: tuple[Signature, ...],
    ) -> Consent:
        """Agree to the terms whose hash is named, as the firm.

        Raises:
            NotFoundError: CONSENT_NOT_FOUND.
            InvalidArgumentError: FIELD_INVALID, the hash is of other terms.
            FailedPreconditionError: CONSENT_STATE.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """

        def grant(consent: Consent, now: datetime) -> Consent:
            check_grant(consent, sha256)
            return advance(consent, Action.GRANT, now, signatures=signatures)

        return await self._act(caller, key, consent_id, _CHANGES[Action.GRANT], grant)

    async def end(
        self, caller: Caller, key: RequestKey, consent_id: str, action: Action, note: str
    ) -> Consent:
        """Reject or withdraw as the firm, or revoke as the bank or the operator.

        Once this returns, no fetch under the consent is released.

        Raises:
            NotFoundError: CONSENT_NOT_FOUND.
            FailedPreconditionError: CONSENT_STATE.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """

        def end(consent: Consent, now: datetime) -> Consent:
            return advance(consent, action, now, note=note)

        return await self._act(caller, key, consent_id, _CHANGES[action], end)

    async def get(self, caller: Caller, consent_id: str) -> tuple[Consent, datetime]:
        """Return a consent that concerns the caller, and the time at which it was read.

        Raises:
            NotFoundError: CONSENT_NOT_FOUND.
        """
        async with self._transactions.read() as work:
            now = self._clock.now()
            mandate = await reading(
                work.mandates, caller, now, Power.READ, Power.GRANT, Power.WITHDRAW
            )
            consent = await work.consents.get(consent_id)
        return _own(caller, mandate, consent), now

    async def list(
        self, caller: Caller, state: State | None, before: str, page_size: int
    ) -> tuple[Sequence[Consent], str, datetime]:
        """Return a page of the consents that concern the caller, newest first.

        Args:
            caller: a firm sees those about itself, a bank those given to it.
            state: only in this state; None is all.
            before: the id before which the page begins; "" is the first page.
            page_size: most consents.

        Returns:
            The consents, the id before which the next page begins or "", and the time of reading.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        now = self._clock.now()
        async with self._transactions.read() as work:
            mandate = await reading(work.mandates, caller, now, Power.READ)
            found = await work.consents.page(
                subject_id=mandate.subject_id if mandate else None,
                recipient_id=None if mandate else caller.participant_id,
                state=state,
                now=now,
                before=before,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return page, page[-1].core.consent_id if len(found) > page_size else "", now

    async def _act(
        self,
        caller: Caller,
        key: RequestKey,
        consent_id: str,
        kind: ChangeKind,
        change: Callable[[Consent, datetime], Consent],
    ) -> Consent:
        async with self._transactions.begin() as work:

            async def act() -> Consent:
                found = await work.consents.lock(consent_id)
                # After the consent, as fetches lock the two.
                await _require_good_standing(work, caller)
                power = _POWERS.get(kind, Power.WITHDRAW)
                mandate = await acting(work.mandates, caller, power, self._clock.now())
                before = _own(caller, mandate, found)
                consent = change(before, self._clock.now())
                await work.consents.update(consent)
                await self._record(work, consent, caller, kind, mandate)
                await self._tell_providers(work, before, consent)
                return consent

            return await once(work.requests, key, self._clock.now(), self._codec, act)

    async def _tell_providers(self, work: Work, before: Consent, consent: Consent) -> None:
        core = consent.core
        if consent.state is State.ACTIVE:
            people = await work.participants.among(core.terms.provider_ids)
            kinds = {
                id_: person.supplies_as
                for id_, person in people.items()
                if person.role is not Role.FIRM
            }
            await work.wanted.append(due(consent, kinds, self._catalogue))
        elif before.state is State.ACTIVE:
            items = await work.wanted.due_under(core.subject_id, core.consent_id)
            await work.wanted.append(ended(items, consent.changed_at))

    async def _record(
        self,
        work: Work,
        consent: Consent,
        caller: Caller,
        kind: ChangeKind,
        mandate: Mandate | None = None,
    ) -> None:
        content = change_content(consent, caller.participant_id)
        if mandate:
            content |= mandate.names
        await work.leaves.append([self._sealer.seal(LeafKind.CONSENT, content, consent.changed_at)])
        change = Change(
            kind,
            consent.changed_at,
            subject_id=consent.core.subject_id,
            consent_id=consent.core.consent_id,
            participant_id=consent.core.recipient_id,
        )
        await work.changes.append([change])
        await work.notices.append(of_consent(change, caller.participant_id))


async def _require_good_standing(work: Work, caller: Caller) -> None:
    standings = await work.participants.hold_standings([caller.participant_id])
    # The operator of the configuration is not registered, and never suspended.
    require_good_standing(standings.get(caller.participant_id, Standing.ACTIVE))


def _own(caller: Caller, mandate: Mandate | None, consent: Consent | None) -> Consent:
    """Return a consent that concerns the caller.

    Args:
        caller: who asks.
        mandate: of a firm's account.
        consent: None where there is none.

    Raises:
        NotFoundError: CONSENT_NOT_FOUND, there is none or it concerns others only.
    """
    if consent is not None:
        core = consent.core
        concerned = {
            Role.FIRM: mandate is not None and core.subject_id == mandate.subject_id,
            Role.BANK: core.recipient_id == caller.participant_id,
            Role.OPERATOR: True,
        }
        if concerned.get(Role(caller.role), False):
            return consent
    raise not_found()


async def _subject_id(work: Work, subject: SubjectName) -> str:
    if subject.uscc:
        found = await work.subjects.resolve(checked_uscc(subject.uscc))
    else:
        found = next(iter(await work.subjects.existing([subject.subject_id])), None)
    if found is None:
        raise NotFoundError("NOT_FOUND", "there is no such subject: check the field `subject`")
    return found
