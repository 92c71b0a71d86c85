"""Claiming firms, appointing delegates, ending mandates and saying who must sign.

Every change locks the mandates of its firm, so that an act of the firm either ends before it or
sees it.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Json, LeafKind, Sealer, rfc3339
from services.datashare.mandates import recording
from services.datashare.mandates.domain import (
    ALL_POWERS,
    ANY_ONE,
    Mandate,
    MandateKind,
    MandateState,
    Power,
    SigningRule,
    change_of,
    check_end,
    check_newer,
    check_rule,
    ended,
    ended_at,
    require_active,
    require_representative,
    state_at,
)
from services.datashare.participants.domain import (
    Participant,
    Role,
    require_good_standing,
)
from services.datashare.subjects.uscc import UsccError, check
from services.kit.clock import Clock
from services.kit.errors import (
    AlreadyExistsError,
    NotFoundError,
    PermissionDeniedError,
    invalid_field,
)
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proved:
    """That whoever holds an account represents a firm.

    Args:
        how: how it was proved, e.g. "business_licence".
        proof_id: names a proof that may be used once; empty of one that may be used again.
        issued_at: as of when it is so; None of a proof that does not say it.
    """

    how: str
    proof_id: str = ""
    issued_at: datetime | None = None


class IdentityProof(Protocol):
    """Checks who represents a firm: the identity port."""

    def check(self, uscc: str, participant_id: str, proof: str, now: datetime) -> Proved:
        """Return how it is proved that an account is that of a firm's representative.

        Args:
            uscc: the firm's checked registration number.
            participant_id: the account.
            proof: as it was sent.
            now: the time.

        Raises:
            PermissionDeniedError: PROOF_INVALID.
        """
        ...


class MandateRows(Protocol):
    """Mandates and signing rules."""

    async def add(self, added: Mandate) -> None:
        """Add a mandate; loses the race when the account or the firm got another one meanwhile."""
        ...

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...

    async def lock_subject(self, subject_id: str) -> Sequence[Mandate]:
        """Return a firm's mandates that nobody ended; nobody acts under them until the end."""
        ...

    async def end(self, mandates: Sequence[Mandate]) -> None:
        """Write the end of locked mandates."""
        ...

    async def page(self, subject_id: str, before: str, limit: int) -> Sequence[Mandate]:
        """Return mandates of a firm with an id less than `before`, newest first, also ended."""
        ...

    async def rule(self, subject_id: str) -> SigningRule | None:
        """Return the signing rule of a firm that has set one."""
        ...

    async def set_rule(self, subject_id: str, rule: SigningRule | None) -> None:
        """Replace the signing rule of a firm whose mandates are locked; None takes it away."""
        ...

    async def use_proof(self, proof_id: str, at: datetime) -> bool:
        """Take a proof that may be used once; tell whether it was not used before."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        """Return the subject_id of every checked code, made now where there was none."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def hold(self, participant_id: str) -> Participant | None:
        """Return a participant, whose standing cannot change until the end."""
        ...


class Work(recording.Work, Protocol):
    """What these use cases need in a transaction."""

    @property
    def mandates(self) -> MandateRows:
        """Mandates and signing rules."""
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
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a firm's mandates.

    Args:
        mandates: newest first.
        rule: who must sign; None for an account that no longer speaks for the firm.
        before: the id before which the next page begins, or "".
        at: the time of reading, at which states are computed.
    """

    mandates: Sequence[Mandate]
    rule: SigningRule | None
    before: str
    at: datetime


class Mandates:
    """Who speaks for firms.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes mandate ids.
        sealer: makes leaves.
        proof: the identity port.
        mandate_codec: of stored responses.
        rule_codec: of stored responses.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        proof: IdentityProof,
        mandate_codec: Codec[Mandate],
        rule_codec: Codec[SigningRule],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._proof = proof
        self._mandate_codec = mandate_codec
        self._rule_codec = rule_codec

    async def claim(self, caller: Caller, key: RequestKey, uscc: str, proof: str) -> Mandate:
        """Make the caller the representative of a firm; every earlier mandate of it ends.

        Raises:
            InvalidArgumentError: USCC_MALFORMED.
            PermissionDeniedError: PROOF_INVALID or PARTICIPANT_SUSPENDED.
            AlreadyExistsError: ALREADY_EXISTS, the account speaks for another firm; or
                REQUEST_ID_REUSED.
        """
        code = _checked(uscc)

        async def claim(work: Work) -> Mandate:
            proved = self._proof.check(code, caller.participant_id, proof, self._clock.now())
            subject_id = (await work.subjects.resolve_or_create_many([code]))[code]
            standing = await work.mandates.lock_subject(subject_id)
            now = self._clock.now()
            mine = next((m for m in standing if m.participant_id == caller.participant_id), None)
            # Before a proof is used up: one that asks again what it has loses nothing.
            if mine and mine.is_representative and state_at(mine, now) is MandateState.ACTIVE:
                return mine
            await self._free(work, caller.participant_id, now, but=subject_id)
            check_newer(proved.issued_at, standing)
            if proved.proof_id and not await work.mandates.use_proof(proved.proof_id, now):
                raise PermissionDeniedError(
                    "PROOF_INVALID", "this proof was used before: ask for a new one"
                )
            await self._end(work, standing, caller.participant_id, now)
            claimed = Mandate(
                mandate_id=self._ids.new("man"),
                subject_id=subject_id,
                participant_id=caller.participant_id,
                kind=MandateKind.REPRESENTATIVE,
                powers=ALL_POWERS,
                since=now,
                proved_by=proved.how,
            )
            await work.mandates.add(claimed)
            await self._record(work, [claimed], "claimed", caller, now)
            return claimed

        return await self._once(caller, key, self._mandate_codec, claim)

    async def appoint(
        self,
        caller: Caller,
        key: RequestKey,
        participant_id: str,
        powers: frozenset[Power],
        until: datetime | None,
    ) -> Mandate:
        """Let another account act for the caller's firm.

        Raises:
            InvalidArgumentError: DATE_INVALID or FIELD_INVALID.
            NotFoundError: NOT_FOUND, there is no such account.
            PermissionDeniedError: MANDATE_REQUIRED or PARTICIPANT_SUSPENDED.
            AlreadyExistsError: ALREADY_EXISTS, the account speaks for a firm; or
                REQUEST_ID_REUSED.
        """

        async def appoint(work: Work) -> Mandate:
            _, mine, now = await self._as_representative(work, caller)
            check_end(until, now)
            person = await work.participants.hold(participant_id)
            if person is None:
                raise NotFoundError(
                    "NOT_FOUND", "there is no such participant: check the participant_id"
                )
            if person.role is not Role.FIRM:
                problem = "is not an account of role FIRM: have the operator register one"
                raise invalid_field("FIELD_INVALID", "participant_id", problem)
            await self._free(work, participant_id, now)
            appointed = Mandate(
                mandate_id=self._ids.new("man"),
                subject_id=mine.subject_id,
                participant_id=participant_id,
                kind=MandateKind.DELEGATE,
                powers=powers,
                since=now,
                appointed_by=caller.participant_id,
                until=until,
            )
            await work.mandates.add(appointed)
            await self._record(work, [appointed], "appointed", caller, now)
            return appointed

        return await self._once(caller, key, self._mandate_codec, appoint)

    async def end(self, caller: Caller, key: RequestKey, mandate_id: str) -> Mandate:
        """End a delegate's mandate as the representative, or one's own.

        A representative's own ends those of all delegates.

        Raises:
            NotFoundError: NOT_FOUND.
            PermissionDeniedError: MANDATE_REQUIRED or PARTICIPANT_SUSPENDED.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """

        async def end(work: Work) -> Mandate:
            mine = await work.mandates.get(caller.participant_id)
            if mine is None or mine.mandate_id != mandate_id:
                standing, _, now = await self._as_representative(work, caller)
            else:
                standing = await work.mandates.lock_subject(mine.subject_id)
                now = self._clock.now()
            found = next((each for each in standing if each.mandate_id == mandate_id), None)
            if found is None:
                raise NotFoundError(
                    "NOT_FOUND", "no mandate of the firm that stands has this id: list them"
                )
            ending = standing if found.is_representative else [found]
            await self._end(work, ending, caller.participant_id, now)
            return ended(found, now)

        return await self._once(caller, key, self._mandate_codec, end)

    async def set_rule(self, caller: Caller, key: RequestKey, rule: SigningRule) -> SigningRule:
        """Say how many of which accounts must agree before a consent of the firm is active.

        Raises:
            InvalidArgumentError: FIELD_INVALID, the rule can never be met.
            PermissionDeniedError: MANDATE_REQUIRED or PARTICIPANT_SUSPENDED.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """

        async def set_rule(work: Work) -> SigningRule:
            standing, mine, now = await self._as_representative(work, caller)
            check_rule(rule, standing, now)
            await work.mandates.set_rule(mine.subject_id, rule)
            content: dict[str, Json] = {
                "action": "signing_rule_set",
                "at": rfc3339(now),
                "by": caller.participant_id,
                "required": rule.required,
                "signer_ids": rule.signer_ids,
                "subject_id": mine.subject_id,
                **mine.names,
            }
            await work.leaves.append([self._sealer.seal(LeafKind.MANDATE, content, now)])
            await work.changes.append([change_of(mine, now)])
            await work.notices.append([recording.notice_of(mine, now)])
            return rule

        return await self._once(caller, key, self._rule_codec, set_rule)

    async def list(self, caller: Caller, before: str, page_size: int) -> Listed:
        """Return a page of the mandates of the caller's firm, newest first.

        An account whose mandate is suspended or over sees that one alone.

        Raises:
            PermissionDeniedError: MANDATE_REQUIRED, the account speaks for no firm.
        """
        async with self._transactions.read() as work:
            now = self._clock.now()
            mine = await work.mandates.get(caller.participant_id)
            if mine is not None and state_at(mine, now) is not MandateState.ACTIVE:
                return Listed([mine], None, "", now)
            mine = require_active(mine, now)
            found = await work.mandates.page(mine.subject_id, before, page_size + 1)
            rule = await work.mandates.rule(mine.subject_id)
        page = found[:page_size]
        next_before = page[-1].mandate_id if len(found) > page_size else ""
        return Listed(page, rule or ANY_ONE, next_before, now)

    async def _once(
        self,
        caller: Caller,
        key: RequestKey,
        codec: Codec[T],
        act: Callable[[Work], Awaitable[T]],
    ) -> T:
        async def do(work: Work) -> T:
            person = await work.participants.hold(caller.participant_id)
            require_good_standing(person.standing if person else None)
            return await act(work)

        return await write_once(self._transactions, self._retry, key, self._clock, codec, do)

    async def _as_representative(
        self, work: Work, caller: Caller
    ) -> tuple[Sequence[Mandate], Mandate, datetime]:
        """Return the locked mandates of the firm that the caller represents, its own, and the time.

        That is the time after the locks: no act that was waited for is dated after what is done.
        """
        mandate = await work.mandates.get(caller.participant_id)
        mine = require_representative(mandate, self._clock.now())
        standing = await work.mandates.lock_subject(mine.subject_id)
        now = self._clock.now()
        # It may have been ended while this waited.
        same = (each for each in standing if each.mandate_id == mine.mandate_id)
        return standing, require_representative(next(same, None), now), now

    async def _free(self, work: Work, participant_id: str, now: datetime, but: str = "") -> None:
        """Refuse an account that speaks for a firm; write the end of a mandate whose time is over.

        Args:
            work: the transaction.
            participant_id: the account.
            now: the time.
            but: a firm for which it may speak.
        """
        found = await work.mandates.get(participant_id)
        if found is None or found.subject_id == but:
            return
        if ended_at(found, now) is None:
            raise AlreadyExistsError(
                "ALREADY_EXISTS",
                "the account speaks for a firm already: end that mandate first, or take another "
                "account",
            )
        await work.mandates.end([ended(found, now)])

    async def _end(self, work: Work, mandates: Sequence[Mandate], by: str, now: datetime) -> None:
        """End locked mandates; without a representative the firm's signing rule goes as well."""
        over = [ended(each, now) for each in mandates]
        await work.mandates.end(over)
        for each in over:
            if each.is_representative:
                await work.mandates.set_rule(each.subject_id, None)
        await recording.record(work, self._sealer, over, "ended", by, now)

    async def _record(
        self, work: Work, mandates: Sequence[Mandate], action: str, caller: Caller, now: datetime
    ) -> None:
        await recording.record(work, self._sealer, mandates, action, caller.participant_id, now)


def _checked(uscc: str) -> str:
    try:
        return check(uscc)
    except UsccError as error:
        raise invalid_field("USCC_MALFORMED", "uscc", str(error)) from None
