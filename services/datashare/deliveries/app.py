"""Signatures and counts of batches that are taken in, closing deliveries, and reading both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Protocol

from services.datashare.china import china_date, china_day
from services.datashare.deliveries.domain import (
    Claim,
    Controls,
    Delivery,
    Evidence,
    Group,
    Place,
    Reconciliation,
    Sum,
    Tally,
    Total,
    both_ends,
    canonical,
    check_reopened,
    day_end,
    evidence_place,
    refusals,
    submissions,
    submitted_on,
    tallied,
)
from services.datashare.deliveries.signatures import named_key, verify
from services.datashare.participants.domain import Participant, Role, SigningKey
from services.datashare.records.domain import Ack, check_supplier
from services.kit.clock import Clock
from services.kit.errors import AlreadyExistsError, NotFoundError, invalid_field
from services.kit.identity import Caller
from services.kit.transactions import Retry, Transactions

NO_ROWS = Tally(0, 0, 0, 0, 0, 0)
_SEES_ALL = (Role.OPERATOR, Role.REGULATOR)


class Participants(Protocol):
    """Who takes part, and with which signing keys."""

    async def hold(self, participant_id: str) -> Participant | None:
        """Return a participant, whose standing and keys cannot change until the end."""
        ...

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        ...


class Deliveries(Protocol):
    """Where each delivery is, and what was counted of it."""

    async def get(self, provider_id: str, delivery_id: str) -> Delivery | None:
        """Return a delivery."""
        ...

    async def lock(self, opened: Delivery, at: datetime) -> Delivery:
        """Return a delivery as it is now, made if there is none; nobody else goes on with it."""
        ...

    async def advance(self, advanced: Delivery, at: datetime) -> None:
        """Store that a locked delivery has come further."""
        ...

    async def submitted(self, opened: Delivery, at: datetime) -> None:
        """Make the delivery of a day's single submissions, unless it is there."""
        ...

    async def count(
        self, provider_id: str, delivery_id: str, tallies: Mapping[Group, Tally]
    ) -> None:
        """Add to what became of a delivery's rows."""
        ...

    async def count_refusals(
        self, provider_id: str, day: int, refusals: Mapping[tuple[str, str], int]
    ) -> None:
        """Add to the rows that were refused on a day, by record type and reason."""
        ...

    async def close(self, closed: Delivery, claim: Claim) -> None:
        """Store that a locked delivery is closed, and what its provider says of it."""
        ...

    async def totals(self, of: Delivery) -> Sequence[Total]:
        """Return what both ends counted of a delivery."""
        ...

    async def counted(self, deliveries: Sequence[Delivery]) -> Mapping[Place, Tally]:
        """Return what became of the rows of deliveries, those without any left out."""
        ...

    async def differences(self, deliveries: Sequence[Delivery]) -> Mapping[Place, Sequence[Total]]:
        """Return the first totals of each delivery that its ends counted differently."""
        ...

    async def page(
        self, day: date, provider_id: str, after: tuple[int, str, str] | None, limit: int
    ) -> Sequence[tuple[int, Delivery]]:
        """Return deliveries opened or closed on a day or open still, those that differ first.

        Args:
            day: of China Standard Time.
            provider_id: whose; empty is everybody's.
            after: rank, provider and delivery of the last one on the page before.
            limit: most deliveries.

        Returns:
            Each with its rank.
        """
        ...

    async def keep(self, evidence: Evidence) -> None:
        """Keep evidence, unless the same is kept."""
        ...

    async def evidence(self, provider_id: str, delivery_id: str, sequence: int) -> Evidence | None:
        """Return the evidence of a batch."""
        ...


class Work(Protocol):
    """What these use cases need in a transaction."""

    @property
    def participants(self) -> Participants:
        """Who takes part."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """Where each delivery is."""
        ...


@dataclass(frozen=True)
class Sent:
    """A batch as its provider sent it, before its rows are checked and changed.

    Args:
        sha256: of its content; empty of a single submission.
        controls: its rows.
        jws: its signature; empty without one.
        record_sha256s: of every record, one after the other; empty without a signature.
    """

    sha256: bytes = b""
    controls: Controls = field(default_factory=Controls)
    jws: str = ""
    record_sha256s: bytes = b""


async def check_signature(
    participants: Participants, provider: Participant, delivery_id: str, sequence: int, sent: Sent
) -> str:
    """Return the id of the key that signed a batch; empty of a provider that signs none.

    Args:
        participants: in the transaction of the batch, where they hold the provider: no key of its
            is registered or revoked before the end.
        provider: who sent it.
        delivery_id: of the batch; empty of a single submission.
        sequence: of the batch; 0 of a single submission.
        sent: the batch.

    Raises:
        InvalidArgumentError: SIGNATURE_MISSING or SIGNATURE_INVALID.
    """
    if not sent.jws:
        if provider.signs:
            problem = (
                "is missing: you have registered a signing key, so sign every batch by a valid one"
            )
            raise invalid_field("SIGNATURE_MISSING", "jws", problem)
        return ""
    if not provider.signs:
        problem = (
            "cannot be checked, as no signing key of yours is registered: have the operator "
            "register it, or push without a signature"
        )
        raise invalid_field("SIGNATURE_INVALID", "jws", problem)
    key = await participants.signing_key(provider.participant_id, named_key(sent.jws))
    if key is None:
        problem = "names a key that is not registered for you: sign by one that is"
        raise invalid_field("SIGNATURE_INVALID", "jws", problem)
    if key.revoked_at is not None:
        problem = "is by a key that was revoked: sign by a valid one"
        raise invalid_field("SIGNATURE_INVALID", "jws", problem)
    verify(sent.jws, key.public_jwk, canonical(delivery_id, sequence, sent.record_sha256s))
    return key.key_id


async def account(
    deliveries: Deliveries,
    provider: Participant,
    delivery: Delivery | None,
    sent: Sent,
    ack: Ack,
    key_id: str,
    now: datetime,
) -> None:
    """Count the rows of a batch that takes effect, and keep its signature.

    The last step of its transaction but for the commit: those who wait for the counts of a day,
    which all of a provider's batches share, wait for little else.

    Args:
        deliveries: in the transaction of the batch.
        provider: who sent it.
        delivery: locked, before the batch; None of a single submission.
        sent: the batch.
        ack: what became of it.
        key_id: that signed it; empty without a signature.
        now: when it takes effect.
    """
    provider_id = provider.participant_id
    if delivery is None:
        opened = Delivery(provider_id, submissions(now), historical=False)
        await deliveries.submitted(opened, now)
    else:
        opened = delivery
        await deliveries.advance(delivery.advanced(ack, sent.sha256), now)
    if key_id:
        evidence = Evidence(
            *evidence_place(opened, ack.sequence, sent.record_sha256s),
            sequence=ack.sequence,
            key_id=key_id,
            jws=sent.jws,
            record_sha256s=sent.record_sha256s,
            recorded_at=now,
        )
        await deliveries.keep(evidence)
    await deliveries.count(provider_id, opened.delivery_id, tallied(sent.controls, ack))
    if ack.rejections:
        day = china_day(now)
        await deliveries.count_refusals(provider_id, day, refusals(sent.controls, ack))


class CloseDelivery:
    """Closes deliveries.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Work], retry: Retry, clock: Clock) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock

    async def __call__(self, opened: Delivery, claim: Claim) -> Reconciliation:
        """Close a delivery and return what both ends counted; the same again returns the same.

        Args:
            opened: the delivery as it was opened.
            claim: what its provider says that it sent.

        Raises:
            AlreadyExistsError: DELIVERY_MISMATCH, it was closed otherwise before.
            InvalidArgumentError: FIELD_INVALID, it was opened otherwise before.
            PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED or BACKFILL_NOT_ALLOWED.
        """
        return await self._retry(lambda: self._transact(opened, claim))

    async def _transact(self, opened: Delivery, claim: Claim) -> Reconciliation:
        async with self._transactions.begin() as work:
            provider = await work.participants.hold(opened.provider_id)
            check_supplier(provider, historical=opened.historical)
            now = self._clock.now()
            delivery = await work.deliveries.lock(opened, now)
            check_reopened(delivery, historical=opened.historical)
            counted = await work.deliveries.totals(delivery)
            if delivery.closed_at is not None:
                _check_closed_again(delivery, counted, claim)
                return await _reconciliation(work, delivery, counted)
            received = {total.group: total.received for total in counted}
            totals = both_ends(claim.sums, received)
            rows = sum(said.rows for said in received.values())
            closed = replace(
                delivery,
                closed_at=now,
                rows_sent=claim.rows,
                agrees=claim.rows == rows and all(total.agrees for total in totals),
            )
            await work.deliveries.close(closed, claim)
            return await _reconciliation(work, closed, totals)


class Reconciliations:
    """What both ends counted, and the evidence.

    Args:
        transactions: opens snapshots.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def list(
        self,
        caller: Caller,
        day: date | None,
        provider_id: str,
        after: tuple[int, str, str] | None,
        page_size: int,
    ) -> tuple[Sequence[Reconciliation], tuple[int, str, str] | None]:
        """Return a page of a day's deliveries, and after which one the next page begins.

        Of each come the totals that differ, `SHOWN_DIFFERENCES` at most.

        Args:
            caller: a provider sees its own.
            day: of China Standard Time; None is today.
            provider_id: only of this one; empty is all that the caller may see.
            after: as returned; None is the first page.
            page_size: most deliveries.
        """
        whose = provider_id
        if caller.role not in _SEES_ALL:
            if provider_id not in ("", caller.participant_id):
                return (), None
            whose = caller.participant_id
        on = day or china_date(self._clock.now())
        async with self._transactions.read() as work:
            found = await work.deliveries.page(on, whose, after, page_size + 1)
            page = [delivery for _, delivery in found[:page_size]]
            counted = await work.deliveries.counted(page)
            differing = await work.deliveries.differences(
                [delivery for delivery in page if delivery.closed_at is not None]
            )
        now = self._clock.now()
        listed = [
            _told(
                Reconciliation(
                    delivery,
                    counted.get(place, NO_ROWS),
                    differing.get(place, ()),
                ),
                now,
            )
            for delivery in page
            for place in (Place(delivery.provider_id, delivery.delivery_id),)
        ]
        if len(found) <= page_size:
            return listed, None
        rank, last = found[page_size - 1]
        return listed, (rank, last.provider_id, last.delivery_id)

    async def get(self, caller: Caller, provider_id: str, delivery_id: str) -> Reconciliation:
        """Return a delivery as both ends counted it.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        async with self._transactions.read() as work:
            delivery = None
            if _may_see(caller, provider_id):
                delivery = await work.deliveries.get(provider_id, delivery_id)
            if delivery is None:
                raise NotFoundError(
                    "NOT_FOUND", "you have no such delivery: list the reconciliations of its day"
                )
            totals = await work.deliveries.totals(delivery)
            found = await _reconciliation(work, delivery, totals)
        return _told(found, self._clock.now())

    async def evidence(
        self, caller: Caller, provider_id: str, delivery_id: str, sequence: int
    ) -> Evidence:
        """Return the signature of a batch and what it covers.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        found = None
        if _may_see(caller, provider_id):
            async with self._transactions.read() as work:
                found = await work.deliveries.evidence(provider_id, delivery_id, sequence)
        if found is None:
            raise NotFoundError(
                "NOT_FOUND",
                "there is no signature of such a batch: check delivery_id and sequence; only "
                "batches that took effect under a signing key have one",
            )
        return found


def _may_see(caller: Caller, provider_id: str) -> bool:
    return caller.role in _SEES_ALL or caller.participant_id == provider_id


def _check_closed_again(delivery: Delivery, counted: Sequence[Total], claim: Claim) -> None:
    said = {total.group: total.sent for total in counted if total.sent != Sum(0, 0)}
    says = {group: said for group, said in claim.sums.items() if said != Sum(0, 0)}
    if said != says or delivery.rows_sent != claim.rows:
        raise AlreadyExistsError(
            "DELIVERY_MISMATCH",
            f"this delivery was closed before with other totals, {delivery.rows_sent} rows: its "
            "reconciliation shows both ends; what was said at the close stays",
        )


async def _reconciliation(
    work: Work, delivery: Delivery, totals: Sequence[Total]
) -> Reconciliation:
    counted = await work.deliveries.counted([delivery])
    place = Place(delivery.provider_id, delivery.delivery_id)
    in_order = sorted(totals, key=lambda total: (total.agrees, total.group))
    return Reconciliation(delivery, counted.get(place, NO_ROWS), in_order)


def _told(found: Reconciliation, now: datetime) -> Reconciliation:
    """Return what is told of single submissions: each call was its sender's count."""
    day = submitted_on(found.delivery.delivery_id)
    if day is None:
        return found
    return replace(
        found,
        delivery=replace(
            found.delivery,
            rows_sent=found.counted.rows,
            closed_at=day_end(day) if now >= day_end(day) else None,
        ),
        totals=[total._replace(sent=total.received) for total in found.totals],
    )
