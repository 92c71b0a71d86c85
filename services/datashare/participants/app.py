"""Registering participants, their keys, what they sign with, and their standing."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.credentials import app as credentials
from services.datashare.credentials.app import Credentials
from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey, require_same
from services.datashare.log.domain import LeafKind, Sealer, rfc3339
from services.datashare.mandates import recording
from services.datashare.mandates.domain import Mandate, read_by, registered
from services.datashare.notices.domain import NoticeKind
from services.datashare.notices.writing import ManyNotices, TellingStanding, tell_of_standing
from services.datashare.participants.domain import (
    SECRET_BYTES,
    ApiKey,
    Participant,
    Role,
    SigningKey,
    Standing,
    SubjectName,
    accept,
    check_registration,
    check_signer,
    new_secret,
)
from services.datashare.participants.jwk import public_key
from services.datashare.participants.life_cycle import (
    Event,
    Evidence,
    Step,
    actor,
    admitted,
    applied,
    content,
    take,
)
from services.datashare.subjects.uscc import UsccError, check
from services.kit.clock import Clock
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    FieldProblem,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

T = TypeVar("T")


class Participants(Protocol):
    """Participants and keys."""

    async def add(self, participant: Participant) -> bool:
        """Add a participant, unless its subject is registered as a firm; tell whether it did."""
        ...

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...

    async def lock(self, participant_id: str) -> Participant | None:
        """Return a participant that nobody else reads for a fetch or changes until the end."""
        ...

    async def change(self, changed: Participant) -> None:
        """Write a locked participant's standing, products and licence."""
        ...

    async def add_steps(self, participant_id: str, first: int, events: Sequence[Event]) -> None:
        """Add what happened to a locked participant, numbered from `first` on."""
        ...

    async def steps(self, participant_id: str) -> Sequence[Event]:
        """Return what happened to a participant, the earliest first."""
        ...

    async def revoke_keys(self, participant_id: str, at: datetime) -> Sequence[str]:
        """Mark a locked participant's API and signing keys revoked; return the former's ids."""
        ...

    async def page(self, roles: Collection[Role], after: str, limit: int) -> Sequence[Participant]:
        """Return participants of these roles whose id is greater, by id."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Add a key."""
        ...

    async def get_key(self, key_id: str) -> ApiKey | None:
        """Return a key."""
        ...

    async def lock_key(self, key_id: str) -> ApiKey | None:
        """Return a key that nobody else changes until the end."""
        ...

    async def revoke_key(self, key_id: str, at: datetime) -> None:
        """Mark a locked key revoked."""
        ...

    async def add_signing_key(self, key: SigningKey) -> bool:
        """Add a locked participant's signing key, unless it is registered; tell whether it did.

        From then on the participant signs.
        """
        ...

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        ...

    async def revoke_signing_key(self, key_id: str, at: datetime) -> None:
        """Mark a signing key of a locked participant revoked."""
        ...

    async def signing_keys(
        self, participant_id: str, after: str, limit: int
    ) -> Sequence[SigningKey]:
        """Return a participant's signing keys whose id is greater, by id."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        """Return the subject_id of every checked code, made now where there was none."""
        ...

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...


class Mandates(Protocol):
    """Who speaks for firms."""

    async def add(self, added: Mandate) -> None:
        """Add a mandate."""
        ...

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...

    async def lock_subject(self, subject_id: str) -> Sequence[Mandate]:
        """Return a firm's mandates that nobody ended; nobody acts under them until the end."""
        ...


class Work(recording.Work, TellingStanding, Protocol):
    """What these use cases need in a transaction."""

    @property
    def participants(self) -> Participants:
        """Participants and keys."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for firms."""
        ...

    @property
    def credentials(self) -> Credentials:
        """What participants prove themselves with."""
        ...

    @property
    def notices(self) -> ManyNotices:
        """What parties are told."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """What is said of a new participant; see `Participant`."""

    role: Role
    name: str
    provider_kind: str = ""
    subject: SubjectName | None = None
    historical_source: bool = False
    simulated_source: bool = False


@dataclass(frozen=True, slots=True)
class Advance:
    """A step that is to be taken; see `life_cycle.Event`."""

    step: Step
    evidence: Evidence | None = None
    products: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class BootstrapKey:
    """The operator's key from the configuration, with which the first participants are registered.

    Args:
        key_id: its public part.
        secret_sha256: of its secret part.
    """

    key_id: str
    secret_sha256: bytes


class ParticipantDirectory:
    """Who takes part.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes participant ids and key ids.
        sealer: makes leaves; signing keys are in the log, so that nobody dates one back.
        random_bytes: returns that many random bytes; secrets are made of them.
        participant_codec: of stored responses.
        time_codec: of stored responses.
        signing_key_codec: of stored responses.
        provider_kinds: those that the catalogue names.
        bootstrap: the operator's key from the configuration, if there is one.
        operator: the participant whose that key is.
        products: what participants are licensed for.
        sandbox: whether institutions are active at once, with every product.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        random_bytes: Callable[[int], bytes],
        participant_codec: Codec[Participant],
        time_codec: Codec[datetime],
        signing_key_codec: Codec[SigningKey],
        provider_kinds: Collection[str],
        bootstrap: BootstrapKey | None,
        operator: Participant,
        products: Collection[str],
        sandbox: bool,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._random_bytes = random_bytes
        self._participant_codec = participant_codec
        self._time_codec = time_codec
        self._signing_key_codec = signing_key_codec
        self._provider_kinds = frozenset(provider_kinds)
        self._bootstrap = bootstrap
        self._operator = operator
        self._products = tuple(sorted(products))
        self._sandbox = sandbox

    async def register(self, caller: Caller, key: RequestKey, wanted: Registration) -> Participant:
        """Register a participant: a firm acts from then on, an institution once it is admitted.

        Raises:
            InvalidArgumentError: FIELD_INVALID or USCC_MALFORMED.
            NotFoundError: NOT_FOUND, there is no subject with the id.
            AlreadyExistsError: ALREADY_EXISTS, the firm is registered; or REQUEST_ID_REUSED.
        """
        check_registration(
            wanted.role,
            wanted.provider_kind,
            has_subject=wanted.subject is not None,
            historical_source=wanted.historical_source,
            simulated_source=wanted.simulated_source,
            kinds=self._provider_kinds,
        )

        firm = wanted.role is Role.FIRM
        at_once = firm or self._sandbox

        async def add(work: Work) -> Participant:
            now = self._clock.now()
            participant = Participant(
                participant_id=self._ids.new("par"),
                role=wanted.role,
                name=wanted.name,
                provider_kind=wanted.provider_kind,
                subject_id=await _subject_id(work, wanted.subject),
                historical_source=wanted.historical_source,
                standing=Standing.ACTIVE if at_once else Standing.APPLIED,
                registered_at=now,
                simulated_source=wanted.simulated_source,
                # A firm's own data needs no licence.
                products=self._products if at_once else (),
            )
            if not await work.participants.add(participant):
                raise AlreadyExistsError(
                    "ALREADY_EXISTS", "this firm is registered: list the participants for it"
                )
            if not firm:
                by = actor(caller)
                admission = admitted(now, by, self._products) if at_once else [applied(now, by)]
                await self._record(work, participant.participant_id, 1, admission)
            await self._let_speak(work, participant, key.caller_id, now)
            return participant

        return await self._once(key, self._participant_codec, add)

    async def list(
        self, caller: Caller, role: Role | None, after: str, page_size: int
    ) -> tuple[Sequence[Participant], str]:
        """Return a page of participants by id, and the id after which the next begins, or "".

        Args:
            caller: firms are listed to the operator only.
            role: only this one; None is all.
            after: the id after which the page begins; "" is the first page.
            page_size: most participants.

        Raises:
            PermissionDeniedError: ROLE_NOT_ALLOWED, firms were asked for by name.
        """
        visible = set(Role)
        if caller.role != Role.OPERATOR:
            if role is Role.FIRM:
                raise PermissionDeniedError(
                    "ROLE_NOT_ALLOWED", "firms are listed to the operator only: name another role"
                )
            visible.discard(Role.FIRM)
        roles = visible if role is None else {role}
        async with self._transactions.read() as work:
            found = await work.participants.page(roles, after, page_size + 1)
        now = self._clock.now()
        page = [each.today(now) for each in found[:page_size]]
        return page, page[-1].participant_id if len(found) > page_size else ""

    async def issue_key(self, key: RequestKey, participant_id: str) -> tuple[str, str]:
        """Make an API key.

        Returns:
            The key's id, and the whole key, which is not kept.

        Raises:
            NotFoundError: NOT_FOUND, there is no such participant.
            FailedPreconditionError: PARTICIPANT_STATE, it has left; or API_KEYS_NOT_HERE, outside
                of the sandbox.
            AlreadyExistsError: REQUEST_ID_REUSED, also for the same call sent again.
        """
        if not self._sandbox:
            raise FailedPreconditionError(
                "API_KEYS_NOT_HERE",
                "API keys are of the sandbox: register a certificate and a key for an institution, "
                "and persons' accounts for a firm",
            )
        now = self._clock.now()
        async with self._transactions.begin() as work:
            stored = await work.requests.claim(key, now)
            if stored is not None:
                require_same(key, stored.fingerprint)
                raise AlreadyExistsError(
                    "REQUEST_ID_REUSED",
                    "this key was issued and its secret is shown once: issue another one with a "
                    "new request_id, and revoke this one if its secret was lost",
                )
            participant = await work.participants.lock(participant_id)
            if participant is None:
                raise _no_participant()
            if participant.standing is Standing.EXITED:
                raise _left()
            secret, secret_sha256 = new_secret(self._random_bytes(SECRET_BYTES))
            key_id = self._ids.new("key")
            await work.participants.add_key(ApiKey(key_id, participant_id, secret_sha256, now))
            await work.requests.complete(key, b"")
        return key_id, f"{key_id}.{secret}"

    async def revoke_key(self, key: RequestKey, key_id: str) -> datetime:
        """Revoke an API key and return since when it is revoked.

        Raises:
            NotFoundError: NOT_FOUND, there is no such key.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """

        async def revoke(work: Work) -> datetime:
            found = await work.participants.lock_key(key_id)
            now = self._clock.now()
            if found is None:
                raise NotFoundError("NOT_FOUND", "there is no such key: check the key_id")
            if found.revoked_at is not None:
                return found.revoked_at
            await work.participants.revoke_key(key_id, now)
            change = Change(
                ChangeKind.KEY_REVOKED, now, participant_id=found.participant_id, key_id=key_id
            )
            await work.changes.append([change])
            return now

        return await self._once(key, self._time_codec, revoke)

    async def register_signing_key(
        self, key: RequestKey, participant_id: str, jwk: str
    ) -> SigningKey:
        """Register a key to sign with; once this returns, no unsigned batch is taken in.

        Args:
            key: the write.
            participant_id: whose it is.
            jwk: the public key as JSON.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: NOT_FOUND, there is no such participant.
            FailedPreconditionError: PARTICIPANT_STATE, it has left.
            AlreadyExistsError: ALREADY_EXISTS, or REQUEST_ID_REUSED.
        """
        public = public_key(jwk)

        async def add(work: Work) -> SigningKey:
            # Batches under way hold the participant, so they end before or see the key.
            participant = await work.participants.lock(participant_id)
            now = self._clock.now()
            if participant is None:
                raise _no_participant()
            check_signer(participant)
            if participant.standing is Standing.EXITED:
                raise _left()
            added = SigningKey(public.key_id, participant_id, public.jwk, now)
            if not await work.participants.add_signing_key(added):
                raise AlreadyExistsError(
                    "ALREADY_EXISTS",
                    "this signing key is or was registered: one that is valid needs nothing, "
                    "in the place of a revoked one make a new key",
                )
            await self._log(work, "registered", added, now)
            return added

        return await self._once(key, self._signing_key_codec, add)

    async def revoke_signing_key(
        self, key: RequestKey, participant_id: str, key_id: str
    ) -> SigningKey:
        """Revoke a signing key; once this returns, no batch under it is taken in.

        Raises:
            NotFoundError: NOT_FOUND, the participant has no such key.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """

        async def revoke(work: Work) -> SigningKey:
            await work.participants.lock(participant_id)
            now = self._clock.now()
            found = await work.participants.signing_key(participant_id, key_id)
            if found is None:
                raise NotFoundError(
                    "NOT_FOUND", "the participant has no such signing key: list its keys"
                )
            if found.revoked_at is not None:
                return found
            await work.participants.revoke_signing_key(key_id, now)
            revoked = replace(found, revoked_at=now)
            await self._log(work, "revoked", revoked, now)
            return revoked

        return await self._once(key, self._signing_key_codec, revoke)

    async def signing_keys(
        self, caller: Caller, participant_id: str, after: str, page_size: int
    ) -> tuple[Sequence[SigningKey], str]:
        """Return a page of signing keys by id, and the id after which the next begins, or "".

        Args:
            caller: a provider lists its own.
            participant_id: whose.
            after: the id after which the page begins; "" is the first page.
            page_size: most keys.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        if caller.role != Role.OPERATOR and caller.participant_id != participant_id:
            raise PermissionDeniedError(
                "NOT_YOURS", "these are another participant's keys: name yourself"
            )
        async with self._transactions.read() as work:
            found = await work.participants.signing_keys(participant_id, after, page_size + 1)
        page = found[:page_size]
        return page, page[-1].key_id if len(found) > page_size else ""

    async def advance(
        self, caller: Caller, key: RequestKey, participant_id: str, wanted: Advance
    ) -> Participant:
        """Take a participant one step on, or out.

        Exit revokes its credentials, API keys and signing keys with it.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: NOT_FOUND, there is no such participant.
            PermissionDeniedError: SECOND_PERSON_REQUIRED.
            FailedPreconditionError: PARTICIPANT_STATE.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """

        async def go(work: Work) -> Participant:
            found = await work.participants.lock(participant_id)
            # Only now, as those who hold it may have been waited for: nothing is dated after this.
            now = self._clock.now()
            if found is None:
                raise _no_participant()
            event = Event(
                wanted.step, now, actor(caller), wanted.evidence, wanted.products, wanted.note
            )
            return await self._step(work, found, event)

        return await self._once(key, self._participant_codec, go)

    async def set_standing(
        self,
        caller: Caller,
        key: RequestKey,
        participant_id: str,
        standing: Standing,
        note: str,
    ) -> Participant:
        """Suspend or reinstate a participant; every later fetch sees it.

        Raises:
            NotFoundError: NOT_FOUND, there is no such participant.
            FailedPreconditionError: PARTICIPANT_STATE, it is not admitted, has left, or its licence
                has ended.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """
        step = Step.SUSPENDED if standing is Standing.SUSPENDED else Step.REINSTATED

        async def change(work: Work) -> Participant:
            found = await work.participants.lock(participant_id)
            now = self._clock.now()
            if found is None:
                raise _no_participant()
            if found.standing is standing:
                return found
            return await self._step(work, found, Event(step, now, actor(caller), note=note))

        return await self._once(key, self._participant_codec, change)

    async def get(self, caller: Caller, participant_id: str) -> tuple[Participant, Sequence[Event]]:
        """Return a participant and what happened to it, the earliest first.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            NotFoundError: NOT_FOUND, there is no such participant.
        """
        if caller.role not in (Role.OPERATOR, Role.REGULATOR) and (
            caller.participant_id != participant_id
        ):
            raise PermissionDeniedError("NOT_YOURS", "this is another participant: name yourself")
        if participant_id == self._operator.participant_id:
            return self._operator, ()
        async with self._transactions.read() as work:
            found = await work.participants.get(participant_id)
            events = await work.participants.steps(participant_id)
        if found is None:
            raise _no_participant()
        return found.today(self._clock.now()), events

    async def verify_key(self, key_id: str, secret_sha256: bytes) -> Participant:
        """Return whose key it is.

        Args:
            key_id: the key's public part.
            secret_sha256: of its secret part's characters.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID, whatever is wrong.
            PermissionDeniedError: PARTICIPANT_SUSPENDED.
        """
        if self._bootstrap is not None and key_id == self._bootstrap.key_id:
            operator, sha256 = self._operator, self._bootstrap.secret_sha256
            key = ApiKey(key_id, operator.participant_id, sha256, operator.registered_at)
            return accept(key, operator, secret_sha256)
        async with self._transactions.read() as work:
            found = await work.participants.get_key(key_id)
            # Asks also when there is no such key, so that the time taken does not tell.
            participant = await work.participants.get(found.participant_id if found else "")
            mandate = await work.mandates.get(found.participant_id if found else "")
        now = self._clock.now()
        accepted = accept(found, participant, secret_sha256).today(now)
        if accepted.role is not Role.FIRM:
            return accepted
        # What others believe of this, they use to show what is held; acts ask the mandate itself.
        return replace(accepted, subject_id=read_by(mandate, now))

    async def _step(self, work: Work, found: Participant, event: Event) -> Participant:
        """Take a step of a locked participant, with all that follows from it."""
        participant_id, at = found.participant_id, event.at
        history = await work.participants.steps(participant_id)
        changed = take(found, history, event, products=self._products)
        await work.participants.change(changed)
        await self._record(work, participant_id, len(history) + 1, [event])
        if event.step is Step.EXITED:
            unrevoked = await work.credentials.unrevoked(participant_id)
            await credentials.revoke(work, self._sealer, unrevoked, at)
            revoked = await work.participants.revoke_keys(participant_id, at)
            await work.changes.append(
                [
                    Change(ChangeKind.KEY_REVOKED, at, participant_id=participant_id, key_id=key_id)
                    for key_id in revoked
                ]
            )
        await work.changes.append(
            [Change(kind, at, participant_id=participant_id) for kind in _told(found, changed)]
        )
        acted, acts = found.standing is Standing.ACTIVE, changed.standing is Standing.ACTIVE
        if acted and not acts:
            await tell_of_standing(work, participant_id, NoticeKind.CONSENT_PAUSED, at)
        elif event.step is Step.REINSTATED:
            await tell_of_standing(work, participant_id, NoticeKind.CONSENT_RESUMED, at)
        return changed

    async def _record(
        self, work: Work, participant_id: str, first: int, events: Sequence[Event]
    ) -> None:
        """Put steps on record and into the log."""
        leaves = [
            self._sealer.seal(LeafKind.PARTICIPANT, content(participant_id, event), event.at)
            for event in events
        ]
        attested = [
            replace(event, leaf_id=leaf.leaf_id) for event, leaf in zip(events, leaves, strict=True)
        ]
        await work.participants.add_steps(participant_id, first, attested)
        await work.leaves.append(leaves)

    async def _once(
        self, key: RequestKey, codec: Codec[T], work: Callable[[Work], Awaitable[T]]
    ) -> T:
        return await write_once(self._transactions, self._retry, key, self._clock, codec, work)

    async def _let_speak(
        self, work: Work, participant: Participant, operator_id: str, now: datetime
    ) -> None:
        """Make a firm's account its representative: the operator answers for who it is."""
        if participant.subject_id is None:
            return
        if await work.mandates.lock_subject(participant.subject_id):
            raise AlreadyExistsError(
                "ALREADY_EXISTS",
                "somebody speaks for this firm: register the account without the firm, and have "
                "its representative appoint it",
            )
        mandate = registered(
            self._ids.new("man"), participant.subject_id, participant.participant_id, now
        )
        await work.mandates.add(mandate)
        await recording.record(work, self._sealer, [mandate], "claimed", operator_id, now)

    async def _log(self, work: Work, action: str, key: SigningKey, at: datetime) -> None:
        content = {
            "action": action,
            "at": rfc3339(at),
            "key_id": key.key_id,
            "participant_id": key.participant_id,
            "public_jwk": key.public_jwk,
        }
        await work.leaves.append([self._sealer.seal(LeafKind.SIGNING_KEY, content, at)])


def _told(before: Participant, after: Participant) -> Sequence[ChangeKind]:
    """Return what others must learn of a step."""
    acted, acts = before.standing is Standing.ACTIVE, after.standing is Standing.ACTIVE
    kinds = []
    if acted and not acts:
        # Of one that leaves too: who knows only of suspensions stops as well.
        kinds.append(ChangeKind.PARTICIPANT_SUSPENDED)
    elif acts and before.standing is Standing.SUSPENDED:
        kinds.append(ChangeKind.PARTICIPANT_REINSTATED)
    licence = (before.products, before.licence_ends) != (after.products, after.licence_ends)
    left = after.standing is Standing.EXITED
    if licence or left or (acts and before.standing is Standing.APPROVED):
        kinds.append(ChangeKind.PARTICIPANT_CHANGED)
    return kinds


async def _subject_id(work: Work, subject: SubjectName | None) -> str | None:
    if subject is None:
        return None
    if subject.uscc:
        code = checked_uscc(subject.uscc)
        return (await work.subjects.resolve_or_create_many([code]))[code]
    if not await work.subjects.existing([subject.subject_id]):
        raise NotFoundError("NOT_FOUND", "there is no such subject: check subject.subject_id")
    return subject.subject_id


def checked_uscc(uscc: str) -> str:
    """Return the code of a field `subject.uscc` in its one spelling.

    Raises:
        InvalidArgumentError: USCC_MALFORMED.
    """
    try:
        return check(uscc)
    except UsccError as error:
        raise InvalidArgumentError(
            "USCC_MALFORMED",
            f"subject.uscc: {error}",
            fields=(FieldProblem("subject.uscc", str(error)),),
        ) from None


def _no_participant() -> NotFoundError:
    return NotFoundError("NOT_FOUND", "there is no such participant: check the participant_id")


def _left() -> FailedPreconditionError:
    return FailedPreconditionError(
        "PARTICIPANT_STATE", "the participant has left: register it anew as another one"
    )
