"""Registering and revoking credentials, and finding who proves itself by them."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.credentials.certificates import certificate
from services.datashare.credentials.domain import (
    Claim,
    Credential,
    Kind,
    PersonAccount,
    PersonIds,
    check_change,
    check_reader,
    check_registration,
    nobody,
    taken,
    usable,
)
from services.datashare.credentials.keys import assertion_key
from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import LeafKind, Leaves, Sealer, rfc3339
from services.datashare.mandates.domain import Mandate, read_by
from services.datashare.participants.domain import Participant, Role, require_good_standing
from services.kit.clock import Clock
from services.kit.errors import NotFoundError
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

T = TypeVar("T")


class Credentials(Protocol):
    """Credentials."""

    async def add(self, added: Credential) -> bool:
        """Add a credential, unless what it stands for is registered; tell whether it did."""
        ...

    async def get(self, participant_id: str, credential_id: str) -> Credential | None:
        """Return a participant's credential."""
        ...

    async def person(self, person_id: str) -> Credential | None:
        """Return the credential of a person that is not revoked."""
        ...

    async def unrevoked(self, participant_id: str) -> Sequence[Credential]:
        """Return what a participant has that is not revoked, by id."""
        ...

    async def revoke(self, revoked: Credential, at: datetime) -> None:
        """Mark a credential of a locked participant revoked."""
        ...

    async def page(self, participant_id: str, after: str, limit: int) -> Sequence[Credential]:
        """Return a participant's credentials whose id is greater, by id."""
        ...


class Participants(Protocol):
    """Participants."""

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...

    async def lock(self, participant_id: str) -> Participant | None:
        """Return a participant that nobody else reads for a fetch or changes until the end."""
        ...


class Mandates(Protocol):
    """Who speaks for firms."""

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...


class Revoking(Protocol):
    """What revoking needs in a transaction."""

    @property
    def credentials(self) -> Credentials:
        """Credentials."""
        ...

    @property
    def changes(self) -> Changes:
        """What others must learn."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...


class Work(Revoking, Protocol):
    """What these use cases need in a transaction."""

    @property
    def participants(self) -> Participants:
        """Participants."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for firms."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be registered; one of the three is set.

    Args:
        certificate_pem: a client's certificate.
        public_jwk: a key that signs client assertions.
        person: a person's account.
        label: what it is called among the participant's.
    """

    certificate_pem: str = ""
    public_jwk: str = ""
    person: PersonAccount | None = None
    label: str = ""

    @property
    def kind(self) -> Kind:
        """What it is."""
        if self.person is not None:
            return Kind.PERSON
        return Kind.CERTIFICATE if self.certificate_pem else Kind.KEY


class CredentialDesk:
    """What participants prove themselves with.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes credential ids.
        sealer: makes leaves, so that nobody dates a credential back.
        codec: of stored responses.
        person_ids: names persons.
        bootstrap: accounts of the first operators, from the configuration.
        operator: the participant for which those act.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        codec: Codec[Credential],
        person_ids: PersonIds,
        bootstrap: Collection[PersonAccount],
        operator: Participant,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._codec = codec
        self._person_ids = person_ids
        self._bootstrap = frozenset(bootstrap)
        self._operator = operator

    async def register(
        self, caller: Caller, key: RequestKey, participant_id: str, offer: Offer
    ) -> Credential:
        """Register a credential.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: NOT_FOUND, there is no such participant.
            PermissionDeniedError: NOT_YOURS, ROLE_NOT_ALLOWED, or the caller may not act.
            FailedPreconditionError: PARTICIPANT_STATE, it has left.
            AlreadyExistsError: ALREADY_EXISTS, or REQUEST_ID_REUSED.
        """
        check_change(caller, participant_id, offer.kind)
        claim = self._claim(offer)

        async def add(work: Work) -> Credential:
            found = await work.participants.lock(participant_id)
            now = self._clock.now()
            if caller.participant_id == participant_id:
                require_good_standing(found.standing if found else None)
            check_registration(caller, found, claim.kind)
            added = Credential(self._ids.new("crd"), participant_id, claim, offer.label, now)
            if claim.person in self._bootstrap or not await work.credentials.add(added):
                raise taken(claim.kind)
            await record(work, self._sealer, "registered", [added], now)
            return added

        return await self._once(key, add)

    async def revoke(
        self, caller: Caller, key: RequestKey, participant_id: str, credential_id: str
    ) -> Credential:
        """Revoke a credential; a replay or a second time returns what was revoked.

        Raises:
            NotFoundError: NOT_FOUND, the participant has no such credential.
            PermissionDeniedError: NOT_YOURS, ROLE_NOT_ALLOWED, or the caller may not act.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """
        check_reader(caller, participant_id)

        async def end(work: Work) -> Credential:
            participant = await work.participants.lock(participant_id)
            now = self._clock.now()
            found = await work.credentials.get(participant_id, credential_id)
            if participant is None or found is None:
                raise NotFoundError(
                    "NOT_FOUND", "the participant has no such credential: list its credentials"
                )
            check_change(caller, participant_id, found.claim.kind)
            if caller.participant_id == participant_id:
                require_good_standing(participant.standing)
            if found.revoked_at is not None:
                return found
            (revoked,) = await revoke(work, self._sealer, [found], now)
            return revoked

        return await self._once(key, end)

    async def list(
        self, caller: Caller, participant_id: str, after: str, page_size: int
    ) -> tuple[Sequence[Credential], str]:
        """Return a page of credentials by id, and the id after which the next begins, or "".

        Args:
            caller: a participant lists its own; to the operator alone persons are named.
            participant_id: whose.
            after: the id after which the page begins; "" is the first page.
            page_size: most credentials.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        check_reader(caller, participant_id)
        async with self._transactions.read() as work:
            found = await work.credentials.page(participant_id, after, page_size + 1)
        page = [shown_to(caller, each) for each in found[:page_size]]
        return page, page[-1].credential_id if len(found) > page_size else ""

    async def find_client(self, participant_id: str) -> tuple[Participant, Sequence[Credential]]:
        """Return a participant and the certificates and keys that it may prove itself with now.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID, there is none.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
        """
        async with self._transactions.read() as work:
            participant = await work.participants.get(participant_id)
            credentials = await work.credentials.unrevoked(participant_id)
        now = self._clock.now()
        found = usable(credentials, now)
        if participant is None:
            raise nobody()
        require_good_standing(participant.standing)
        return participant.today(now), found

    async def find_person(self, person: PersonAccount) -> tuple[Participant, str]:
        """Return for whom a person acts, and the person's id.

        Raises:
            UnauthenticatedError: CREDENTIALS_INVALID, for nobody.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
        """
        person_id = self._person_ids.of(person)
        if person in self._bootstrap:
            return self._operator, person_id
        async with self._transactions.read() as work:
            found = await work.credentials.person(person_id)
            if found is None:
                raise nobody()
            participant = await work.participants.get(found.participant_id)
            mandate = await work.mandates.get(found.participant_id)
        if participant is None:
            raise nobody()
        require_good_standing(participant.standing)
        now = self._clock.now()
        if participant.role is Role.FIRM:
            # What others believe of this, they use to show what is held; acts ask the mandate.
            participant = replace(participant, subject_id=read_by(mandate, now))
        return participant.today(now), person_id

    def _claim(self, offer: Offer) -> Claim:
        if offer.person is not None:
            person_id = self._person_ids.of(offer.person)
            return Claim(Kind.PERSON, person_id, person=offer.person)
        if offer.kind is Kind.CERTIFICATE:
            return certificate(offer.certificate_pem, self._clock.now())
        return assertion_key(offer.public_jwk)

    async def _once(
        self, key: RequestKey, work: Callable[[Work], Awaitable[Credential]]
    ) -> Credential:
        return await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, work
        )


def shown_to(caller: Caller, credential: Credential) -> Credential:
    """Return a credential as the caller may see it: a person's account to the operator alone."""
    person = credential.claim.person
    if person is None or caller.role == Role.OPERATOR:
        return credential
    return replace(credential, claim=replace(credential.claim, person=replace(person, subject="")))


async def revoke(
    work: Revoking, sealer: Sealer, credentials: Sequence[Credential], at: datetime
) -> Sequence[Credential]:
    """Revoke credentials of a locked participant, and return them so."""
    revoked = []
    for each in credentials:
        await work.credentials.revoke(each, at)
        revoked.append(replace(each, revoked_at=at))
    await record(work, sealer, "revoked", revoked, at)
    return revoked


async def record(
    work: Revoking, sealer: Sealer, action: str, changed: Sequence[Credential], at: datetime
) -> None:
    """Put changes of credentials into the log and the feed."""
    leaves = []
    for each in changed:
        content = {
            "action": action,
            "at": rfc3339(at),
            "credential_id": each.credential_id,
            "identity": each.claim.identity,
            "kind": each.claim.kind.value,
            "participant_id": each.participant_id,
        }
        leaves.append(sealer.seal(LeafKind.CREDENTIAL, content, at))
    await work.leaves.append(leaves)
    await work.changes.append(
        [
            Change(
                ChangeKind.CREDENTIAL_CHANGED,
                at,
                participant_id=each.participant_id,
                key_id=each.credential_id,
            )
            for each in changed
        ]
    )
