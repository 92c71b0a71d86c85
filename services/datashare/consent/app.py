"""Asking for consents, granting and ending them.

Each change of state takes the consent exclusively, and is written together with its leaf, its
change in the feed and what providers are told of it: a fetch, or a batch of records, either sees
the consent as it was and ends before the change, or sees the changed one.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

from services.datashare.catalogue.domain import Catalogue
from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.consent.consuming import WantedItems
from services.datashare.consent.document import canonical, core_of, request
from services.datashare.consent.domain import (
    OPEN_STATES,
    STANDING_STATES,
    TRANSITIONS,
    Action,
    Consent,
    Core,
    Mode,
    Officer,
    Receipt,
    Signature,
    State,
    Terms,
    Version,
    advance,
    approve,
    change_content,
    check_grant,
    check_officer,
    due_by,
    not_found,
    receipt_content,
    refusal,
    state_at,
)
from services.datashare.consent.notice import sha256 as sha256_of
from services.datashare.consent.notice import write
from services.datashare.consent.signing import checked_jws
from services.datashare.consent.terms import check_terms, nameable
from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import LeafKind, Leaves, Sealer
from services.datashare.mandates.acting import HeldMandates, reading
from services.datashare.mandates.domain import (
    Mandate,
    Power,
    SigningRule,
    allows,
    require_any,
)
from services.datashare.notices.writing import Notices, erasure_due, of_consent
from services.datashare.participants.app import checked_uscc
from services.datashare.participants.domain import (
    Participant,
    Role,
    SigningKey,
    Standing,
    SubjectName,
    require_good_standing,
    require_product,
)
from services.datashare.receipts.domain import Signer
from services.datashare.wanted.domain import due, ended
from services.kit.clock import Clock
from services.kit.errors import FailedPreconditionError, NotFoundError
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions


class ConsentRows(Protocol):
    """Consents."""

    async def add(self, consent: Consent) -> None:
        """Add a consent."""
        ...

    async def get(self, consent_id: str, now: datetime) -> Consent | None:
        """Return a consent, with its use at a time."""
        ...

    async def lock(self, consent_id: str, now: datetime) -> Consent | None:
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

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        ...


class Signers(Protocol):
    """Who must agree before a consent of a firm is active."""

    async def of(self, subject_id: str) -> SigningRule:
        """Return the rule of a firm."""
        ...


class Duties(Protocol):
    """What recipients must erase."""

    async def begin(self, consent: Consent) -> None:
        """Write the duty of a STORE consent that becomes active."""
        ...

    async def end(self, consent: Consent, at: datetime) -> None:
        """Bring a duty forward, as its consent ended before its time."""
        ...


class Mandates(HeldMandates, Protocol):
    """Who speaks for firms."""

    async def accounts_of(self, subject_id: str, participant_ids: Collection[str]) -> set[str]:
        """Return those of some accounts that speak for a firm or once did."""
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
    def signers(self) -> Signers:
        """Who must agree before a consent is active."""
        ...

    @property
    def duties(self) -> Duties:
        """What recipients must erase."""
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


_CHANGES: Final = {
    Action.APPROVE: ChangeKind.CONSENT_APPROVED,
    Action.GRANT: ChangeKind.CONSENT_GRANTED,
    Action.REJECT: ChangeKind.CONSENT_REJECTED,
    Action.WITHDRAW: ChangeKind.CONSENT_WITHDRAWN,
    Action.REVOKE: ChangeKind.CONSENT_REVOKED,
    Action.PAUSE: ChangeKind.CONSENT_PAUSED,
    Action.RESUME: ChangeKind.CONSENT_RESUMED,
    Action.SUPERSEDE: ChangeKind.CONSENT_SUPERSEDED,
}
_POWERS: Final = {
    Action.GRANT: Power.GRANT,
    Action.REJECT: Power.GRANT,
    Action.RESUME: Power.GRANT,  # it opens what was closed
}
"""What a firm's account must be allowed to do; all else is to withdraw."""

ANSWER_WITHIN: Final = timedelta(days=30)
"""How long a request waits for its answer before it lapses."""

_Change: TypeAlias = Callable[["Work", Consent, datetime], Awaitable[Consent]]


class Consents:
    """What firms allow.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes consent ids.
        sealer: makes leaves.
        signer: signs cores and receipts for the platform.
        codec: of stored responses.
        catalogue: types and purposes.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        signer: Signer,
        codec: Codec[Consent],
        catalogue: Catalogue,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._signer = signer
        self._codec = codec
        self._catalogue = catalogue

    async def request(
        self,
        caller: Caller,
        key: RequestKey,
        subject: SubjectName,
        terms: Terms,
        officer: Officer,
        *,
        supersedes: str = "",
    ) -> Consent:
        """Ask a firm for a consent, as the bank that is to receive the data.

        Args:
            caller: the bank.
            key: the write.
            subject: the firm.
            terms: as they were sent.
            officer: who asks at the bank.
            supersedes: consent_id of the version that they are to replace; empty is none.

        Raises:
            InvalidArgumentError: OFFICER_REQUIRED, USCC_MALFORMED, or a reason of `check_terms`,
                also where what is to be replaced is of others or has ended.
            NotFoundError: NOT_FOUND, there is no such subject.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED, PARTICIPANT_NOT_ACTIVE or
                PRODUCT_NOT_LICENSED.
        """
        check_officer(officer)

        async def add(work: Work) -> Consent:
            await _require_good_standing(work, caller)
            now = self._clock.now()
            consent = await self._asked(work, caller, subject, terms, supersedes, now)
            await work.consents.add(consent)
            more = {"officer": officer.name, "file_reference": officer.file_reference}
            await self._record(work, consent, caller, ChangeKind.CONSENT_REQUESTED, more=more)
            return consent

        return await self._once(key, add)

    async def _asked(
        self,
        work: Work,
        caller: Caller,
        subject: SubjectName,
        terms: Terms,
        supersedes: str,
        now: datetime,
    ) -> Consent:
        subject_id, recipient_id = await _subject_id(work, subject), caller.participant_id
        named = {recipient_id, *terms.provider_ids, *terms.onward_recipient_ids}
        people = dict(await work.participants.among(named))
        if (purpose := self._catalogue.purposes.get(terms.purpose)) and recipient_id in people:
            require_product(people[recipient_id], purpose.product, now)
        for id_ in await work.mandates.accounts_of(subject_id, named):
            people[id_] = replace(people[id_], subject_id=subject_id)
        providers = nameable(
            people.values(),
            terms.record_types,
            self._catalogue,
            subject_id=subject_id,
            recipient_id=recipient_id,
        )
        institutions = {
            id_ for id_, person in people.items() if person.role in (Role.BANK, Role.PROVIDER)
        }
        other = terms.for_subject_id
        check_terms(
            terms,
            now,
            self._catalogue,
            providers,
            recipient_id,
            institutions,
            subject_id=subject_id,
            known_subjects=await work.subjects.existing({other}) if other else (),
        )
        limit = terms.fetch_limit or self._catalogue.purposes[terms.purpose].max_fetches
        core = Core(
            consent_id=self._ids.new("con"),
            subject_id=subject_id,
            recipient_id=recipient_id,
            terms=replace(terms, fetch_limit=limit),
            suite=self._signer.key.suite,
            signers=await work.signers.of(subject_id),
            purposes_version=self._catalogue.purposes_version,
            answer_by=min(now + ANSWER_WITHIN, terms.expires_at),
            supersedes=await _replaced(work, supersedes, subject_id, recipient_id, now),
        )
        names = {id_: person.name for id_, person in people.items()}
        # In the order of the canonical document, whatever that of the request was.
        notice = write(core_of(canonical(core)), names, self._catalogue)
        core = replace(core, notice_sha256=sha256_of(notice))
        return request(core, now, notice=notice, platform_jws=self._signer.sign(canonical(core)))

    async def grant(
        self,
        caller: Caller,
        key: RequestKey,
        consent_id: str,
        sha256: bytes,
        signatures: tuple[Signature, ...],
    ) -> Consent:
        """Agree to the terms whose hash is named, as one of the firm's signers.

        It is active once all required ones have. The version that it replaces ends with that.

        Raises:
            NotFoundError: CONSENT_NOT_FOUND.
            InvalidArgumentError: FIELD_INVALID, the hash is of other terms; or
                CONSENT_SIGNATURE_INVALID.
            FailedPreconditionError: CONSENT_STATE, or NOT_A_SIGNER of who has agreed already.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED, MANDATE_REQUIRED or NOT_A_SIGNER.
        """

        async def grant(work: Work, consent: Consent, now: datetime) -> Consent:
            check_grant(consent, sha256)
            void = await _void(work, consent, now)
            agreed = approve(consent, Signature(caller.participant_id, ""), now, void)
            jws = await checked_jws(work.participants, caller, consent.canonical, signatures)
            approval = Signature(caller.participant_id, jws)
            return replace(agreed, signatures=(*consent.signatures, approval))

        return await self._act(caller, key, consent_id, Action.GRANT, grant)

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
        return await self._advance(caller, key, consent_id, action, note)

    async def pause(self, caller: Caller, key: RequestKey, consent_id: str, note: str) -> Consent:
        """Stop a consent for a time, as the firm; once this returns, no fetch is released.

        Raises:
            NotFoundError: CONSENT_NOT_FOUND.
            FailedPreconditionError: CONSENT_STATE.
            AlreadyExistsError: REQUEST_ID_REUSED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or MANDATE_REQUIRED.
        """
        return await self._advance(caller, key, consent_id, Action.PAUSE, note)

    async def resume(self, caller: Caller, key: RequestKey, consent_id: str) -> Consent:
        """Let a paused consent go on, as the firm; see `pause`."""
        return await self._advance(caller, key, consent_id, Action.RESUME, "")

    async def _advance(
        self, caller: Caller, key: RequestKey, consent_id: str, action: Action, note: str
    ) -> Consent:
        async def change(work: Work, consent: Consent, now: datetime) -> Consent:
            return advance(consent, action, now, note=note)

        return await self._act(caller, key, consent_id, action, change)

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
            consent = await work.consents.get(consent_id, now)
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
        self, caller: Caller, key: RequestKey, consent_id: str, action: Action, change: _Change
    ) -> Consent:
        async def act(work: Work) -> Consent:
            found, earlier = await self._locked(work, consent_id, action)
            # After the consent, as fetches lock the two.
            suspended = await _require_good_standing(work, caller, found)
            mandate = await self._acting(work, caller, action, found)
            before = replace(_own(caller, mandate, found), suspended=suspended)
            now = self._clock.now()
            consent = await change(work, before, now)
            if consent.state is State.ACTIVE and earlier is not None:
                await self._supersede(work, earlier, consent, caller, mandate)
            return await self._changed(work, before, consent, caller, mandate)

        return await self._once(key, act)

    async def _once(self, key: RequestKey, work: Callable[[Work], Awaitable[Consent]]) -> Consent:
        return await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, work
        )

    async def _acting(
        self, work: Work, caller: Caller, action: Action, consent: Consent | None
    ) -> Mandate | None:
        """Return the mandate under which a firm's account acts; None for others.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        if caller.role != Role.FIRM:
            return None
        powers = {_POWERS.get(action, Power.WITHDRAW)}
        if action is Action.WITHDRAW and consent is not None:
            rule, agreed = consent.core.signers, {each.signer_id for each in consent.signatures}
            if caller.participant_id in agreed.union(rule.signer_ids):
                powers.add(Power.GRANT)  # who could give it can take it back
        mandate = await work.mandates.hold(caller.participant_id)
        return require_any(mandate, powers, self._clock.now())

    async def _locked(
        self, work: Work, consent_id: str, action: Action
    ) -> tuple[Consent | None, Consent | None]:
        """Return a consent and, where it may become active, the version that it replaces."""
        now = self._clock.now()
        earlier_id = ""
        if action is Action.GRANT:
            asked = await work.consents.get(consent_id, now)
            if asked is not None and asked.core.supersedes is not None:
                earlier_id = asked.core.supersedes.consent_id
        # In the order of their ids, as fetches take them; it is that of time only while no clock
        # was set back.
        locked = {
            each: await work.consents.lock(each, now)
            for each in sorted({consent_id, earlier_id} - {""})
        }
        return locked[consent_id], locked.get(earlier_id)

    async def _supersede(
        self,
        work: Work,
        earlier: Consent,
        consent: Consent,
        caller: Caller,
        mandate: Mandate | None,
    ) -> None:
        """End the version that an active consent replaces, unless it has ended by itself."""
        if earlier.state is State.SUPERSEDED:
            raise FailedPreconditionError(
                "CONSENT_STATE",
                "the consent that this one replaces was replaced by another one already: the bank "
                "has to ask anew, from the version that is active",
            )
        now = consent.changed_at
        if state_at(replace(earlier, suspended=False), now) not in STANDING_STATES:
            return
        ended = advance(earlier, Action.SUPERSEDE, now)
        ended = replace(ended, superseded_by=consent.core.consent_id)
        await self._changed(work, earlier, ended, caller, mandate)

    async def _changed(
        self,
        work: Work,
        before: Consent,
        consent: Consent,
        caller: Caller,
        mandate: Mandate | None,
    ) -> Consent:
        """Write a consent that has changed, with all that goes with it."""
        stored = consent.core.terms.mode is Mode.STORE
        erase_by = None
        if consent.state not in OPEN_STATES:
            if stored and before.state in STANDING_STATES:
                erase_by = due_by(consent, consent.changed_at)
                await work.duties.end(consent, consent.changed_at)
            receipt = receipt_content(
                consent, caller.participant_id, self._signer.key.suite, erase_by, mandate
            )
            consent = replace(consent, termination=Receipt(receipt, self._signer.sign(receipt)))
        elif stored and consent.state is State.ACTIVE and before.state not in STANDING_STATES:
            await work.duties.begin(consent)
        await work.consents.update(consent)
        kind = _CHANGES[_action(before, consent)]
        more = {} if mandate is None else mandate.names
        await self._record(work, consent, caller, kind, more=more, erase_by=erase_by)
        await self._tell_providers(work, before, consent)
        return consent

    async def _tell_providers(self, work: Work, before: Consent, consent: Consent) -> None:
        core = consent.core
        stood = before.state in STANDING_STATES
        if consent.state is State.ACTIVE and not stood:
            people = await work.participants.among(core.terms.provider_ids)
            kinds = {
                id_: person.supplies_as
                for id_, person in people.items()
                if person.role is not Role.FIRM
            }
            await work.wanted.append(due(consent, kinds, self._catalogue))
        elif stood and consent.state not in STANDING_STATES:
            items = await work.wanted.due_under(core.subject_id, core.consent_id)
            await work.wanted.append(ended(items, consent.changed_at))

    async def _record(
        self,
        work: Work,
        consent: Consent,
        caller: Caller,
        kind: ChangeKind,
        *,
        more: Mapping[str, str],
        erase_by: datetime | None = None,
    ) -> None:
        content = {**change_content(consent, caller.participant_id), **more}
        await work.leaves.append([self._sealer.seal(LeafKind.CONSENT, content, consent.changed_at)])
        change = Change(
            kind,
            consent.changed_at,
            subject_id=consent.core.subject_id,
            consent_id=consent.core.consent_id,
            participant_id=consent.core.recipient_id,
        )
        await work.changes.append([change])
        notices = of_consent(change, caller.participant_id)
        if erase_by is not None:
            notices += erasure_due(notices, erase_by)
        if consent.suspended and consent.state is State.ACTIVE:
            # It rests from the first: who suspended the recipient could not tell of this one.
            rests = replace(change, kind=ChangeKind.CONSENT_PAUSED)
            notices += of_consent(rests, consent.core.recipient_id)
        await work.notices.append(notices)


def _action(before: Consent, consent: Consent) -> Action:
    """Return what led from one to the other."""
    return next(
        action
        for (state, action), target in TRANSITIONS.items()
        if state is before.state and target is consent.state and action in _CHANGES
    )


async def _replaced(
    work: Work, consent_id: str, subject_id: str, recipient_id: str, now: datetime
) -> Version | None:
    """Return the version that a request is to replace.

    Raises:
        InvalidArgumentError: FIELD_INVALID, it is of others or has ended.
    """
    if not consent_id:
        return None
    found = await work.consents.get(consent_id, now)
    field = "supersedes_consent_id"
    if found is None or (found.core.subject_id, found.core.recipient_id) != (
        subject_id,
        recipient_id,
    ):
        problem = "is no consent of this firm to you: name one of them, or leave it out"
        raise refusal("FIELD_INVALID", {field: problem})
    if state_at(found, now) not in STANDING_STATES:
        problem = "has ended or was never granted: leave it out, there is nothing to replace"
        raise refusal("FIELD_INVALID", {field: problem})
    return Version(consent_id, found.sha256)


async def _void(work: Work, consent: Consent, now: datetime) -> Collection[str]:
    """Return those who agreed to a consent and may not any more; the others may until the end."""
    agreed = sorted({each.signer_id for each in consent.signatures})
    subject_id = consent.core.subject_id
    held = [await work.mandates.hold(signer_id) for signer_id in agreed]
    return [
        signer_id
        for signer_id, mandate in zip(agreed, held, strict=True)
        if not allows(mandate, subject_id, Power.GRANT, now)
    ]


async def _require_good_standing(
    work: Work, caller: Caller, consent: Consent | None = None
) -> bool:
    """Hold the standing of the caller, and of a recipient; tell whether that one is suspended.

    Raises:
        PermissionDeniedError: PARTICIPANT_SUSPENDED, the caller is.
    """
    recipient_id = "" if consent is None else consent.core.recipient_id
    held = sorted({caller.participant_id, recipient_id} - {""})
    standings = await work.participants.hold_standings(held)
    # The operator of the configuration is not registered, and never suspended.
    require_good_standing(standings.get(caller.participant_id, Standing.ACTIVE))
    # One that has left is as one that is suspended, for good.
    return standings.get(recipient_id, Standing.ACTIVE) is not Standing.ACTIVE


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
