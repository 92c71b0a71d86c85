"""Matching rows to subjects, and the queue of those that wait.

A row that is matched, at once or by a reviewer, is taken in as if it had come with its subject. The
same row sent again while it waits is looked at anew: what was registered meanwhile may have made it
certain; else it waits on under the same review. A row that was dismissed stays out. What is shared
on consent does not wait: it would be kept while nobody allowed it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from services.datashare.idempotency.app import Codec, Requests, write_once
from services.datashare.idempotency.domain import RequestKey
from services.datashare.participants.app import checked_uscc
from services.datashare.participants.domain import Participant, Role, SubjectName
from services.datashare.records.domain import Ack, Held, Incoming, Rejection, check_supplier
from services.datashare.reviews.domain import (
    Candidate,
    Decision,
    Entry,
    Evidence,
    Hint,
    Review,
    ReviewState,
    Weights,
    candidates,
    check_decided,
    chosen,
    no_review,
)
from services.datashare.reviews.names import read, searched
from services.datashare.summaries.domain import SeriesKey
from services.kit.clock import Clock
from services.kit.errors import NotFoundError
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions


class Names(Protocol):
    """The index of names and numbers."""

    def number_key(self, registration_number: str) -> str:
        """Return what a number of before is found by."""
        ...

    async def index(self, provider_id: str, rows: Sequence[tuple[str, Incoming]]) -> None:
        """Put the names in registration records in the place of those of earlier versions.

        Args:
            provider_id: whose records.
            rows: versions that are being stored, each with its subject_id.
        """
        ...

    async def unnamed(self, after: tuple[str, str], limit: int) -> Sequence[SeriesKey]:
        """Return series of registrations that have no names here.

        Args:
            after: only behind this subject and provider.
            limit: most series.
        """
        ...

    async def name(self, keys: Sequence[SeriesKey], usccs: Mapping[str, str]) -> None:
        """Put the names in the records of held series here."""
        ...

    async def with_keys(self, keys: Iterable[str]) -> Mapping[str, set[str]]:
        """Return the subjects that have, or had, each of the names and numbers."""
        ...

    async def alike(self, name: str, pairs: Sequence[str]) -> set[str]:
        """Return the subjects whose names are most like one, of those that share a pair with it.

        Args:
            name: that one.
            pairs: of `names.blocks`.
        """
        ...

    async def entries(self, subject_ids: Iterable[str]) -> Sequence[Entry]:
        """Return all entries of subjects."""
        ...


NAME_EVERY: Final = timedelta(hours=6)
"""How often earlier registrations are looked for, as the version before may still write some."""
PAUSE_S: Final = 0.05
"""Between two parts, so that others have their turn."""
_AT_ONCE: Final = 200


class RowKey(NamedTuple):
    """What tells rows that wait apart."""

    record_type: str
    provider_record_id: str
    version: int
    content_hash: bytes


class Waiting(NamedTuple):
    """A row that waits, and whether it is of an import."""

    row: Incoming
    historical: bool


class Reviews(Protocol):
    """The queue."""

    async def known(self, provider_id: str, keys: Sequence[RowKey]) -> Mapping[RowKey, Review]:
        """Return the reviews of rows that waited before."""
        ...

    async def add(self, review: Review, waiting: Waiting) -> None:
        """Add a review with its row."""
        ...

    async def peek(self, review_id: str) -> Review | None:
        """Return a review."""
        ...

    async def lock(self, review_id: str) -> Review | None:
        """Return a review that nobody else decides until the end."""
        ...

    async def row(self, review_id: str) -> Waiting:
        """Return the row of a review that waits."""
        ...

    async def decide(self, review: Review) -> None:
        """Store that a locked review is decided, and forget its row."""
        ...

    async def page(
        self, provider_id: str, state: ReviewState, after: str, limit: int
    ) -> Sequence[Review]:
        """Return reviews, oldest first.

        Args:
            provider_id: whose rows; "" is everybody's.
            state: only in this one.
            after: only with an id greater than this; "" is any.
            limit: most reviews.
        """
        ...


class Matching(Protocol):
    """What matching needs in a transaction."""

    @property
    def names(self) -> Names:
        """The index of names and numbers."""
        ...

    @property
    def reviews(self) -> Reviews:
        """The queue."""
        ...


class Settled(NamedTuple):
    """What became of rows that came without subject.

    Args:
        rows: all rows that have one now.
        held: those that wait.
        rejections: those that were dismissed before, and those that may not wait.
    """

    rows: Sequence[Incoming]
    held: Sequence[Held]
    rejections: Sequence[Rejection]


class Hints:
    """Finds whom rows are about that do not say it.

    Args:
        weights: how much evidence says.
        on_consent: the record types that are shared on consent.
        clock: the time.
        ids: makes review ids.
    """

    def __init__(
        self, weights: Weights, on_consent: Collection[str], clock: Clock, ids: Ids
    ) -> None:
        self._weights = weights
        self._on_consent = on_consent
        self._clock = clock
        self._ids = ids

    async def settle(
        self, work: Matching, provider_id: str, rows: Sequence[Incoming], *, historical: bool
    ) -> Settled:
        """Name the subjects of rows, and hold those of whom it is not certain.

        Args:
            work: the transaction that takes the rows in.
            provider_id: whose rows.
            rows: of a batch.
            historical: they count as known when the provider obtained them.
        """
        asking = [row for row in rows if row.hint is not None]
        if not asking:
            return Settled(rows, (), ())
        known = dict(await work.reviews.known(provider_id, [_key(row) for row in asking]))
        hints = {row.hint for row in asking if row.hint and not _decided(known.get(_key(row)))}
        found = await self.match(work.names, sorted(hints))
        named: list[Incoming] = []
        held: list[Held] = []
        rejections: list[Rejection] = []
        for row in rows:
            if row.hint is None:
                named.append(row)
                continue
            key = _key(row)
            review = known.get(key)
            if review is not None and review.state is ReviewState.DISMISSED:
                problem = "a reviewer found that this row is about nobody here: name its subject"
                rejections.append(Rejection(row.row, "NOT_FOUND", "hint", problem))
                continue
            subject_id = review.subject_id if review is not None else ""
            if not subject_id:
                subject_id = chosen(found[row.hint], self._weights) or ""
                if subject_id and review is not None:
                    known[key] = await self._matched(work, review, subject_id)
            if subject_id:
                named.append(row._replace(subject_id=subject_id, hint=None))
                continue
            if review is None and row.record_type in self._on_consent:
                problem = (
                    "a firm has to allow this, and which one is not certain: name it by the "
                    "registration number that StreamWanted tells"
                )
                rejections.append(Rejection(row.row, "CONSENT_REQUIRED", "hint", problem))
                continue
            if review is None:
                review = known[key] = self._review(provider_id, row, found[row.hint])
                await work.reviews.add(review, Waiting(row, historical))
            held.append(Held(row.row, review.review_id))
        return Settled(named, held, rejections)

    async def match(
        self, names: Names, hints: Sequence[Hint]
    ) -> Mapping[Hint, Sequence[Candidate]]:
        """Return whom each hint may mean, best first."""
        keys = {
            hint: [
                *([read(hint.name).key] if hint.name else []),
                *([names.number_key(hint.registration_number)] if hint.registration_number else []),
            ]
            for hint in hints
        }
        with_keys = await names.with_keys({key for mine in keys.values() for key in mine})
        meant = {
            hint: set().union(*(with_keys.get(key, ()) for key in keys[hint])) for hint in hints
        }
        found = await self._weigh(names, meant)
        unsure = {hint for hint in hints if hint.name and not self._certain(found[hint])}
        for hint in unsure:
            for pairs in searched(read(hint.name)):
                meant[hint] |= await names.alike(hint.name, pairs)
        return {**found, **await self._weigh(names, {hint: meant[hint] for hint in unsure})}

    def _certain(self, found: Sequence[Candidate]) -> bool:
        """Tell whether nothing that is only like the name could make it less certain."""
        sure = {Evidence.NAME, Evidence.REGISTRATION_NUMBER}
        return chosen(found, self._weights) is not None and not sure.isdisjoint(found[0].evidence)

    async def _weigh(
        self, names: Names, meant: Mapping[Hint, set[str]]
    ) -> dict[Hint, Sequence[Candidate]]:
        entries: dict[str, list[Entry]] = {}
        for entry in await names.entries(set().union(*meant.values())):
            entries.setdefault(entry.subject_id, []).append(entry)
        return {
            hint: candidates(
                hint,
                names.number_key(hint.registration_number) if hint.registration_number else "",
                (entry for each in sorted(subjects) for entry in entries.get(each, ())),
                self._weights,
            )
            for hint, subjects in meant.items()
        }

    async def _matched(self, work: Matching, review: Review, subject_id: str) -> Review:
        locked = await work.reviews.lock(review.review_id)
        if locked is None or locked.state is not ReviewState.WAITING:
            return locked or review
        decided = replace(
            locked,
            state=ReviewState.MATCHED,
            subject_id=subject_id,
            decided_at=self._clock.now(),
        )
        await work.reviews.decide(decided)
        return decided

    def _review(self, provider_id: str, row: Incoming, found: Sequence[Candidate]) -> Review:
        return Review(
            review_id=self._ids.new("rev"),
            provider_id=provider_id,
            record_type=row.record_type,
            provider_record_id=row.provider_record_id,
            version=row.version,
            content_hash=row.content_hash,
            hint=row.hint or Hint(),
            candidates=tuple(found),
            held_at=self._clock.now(),
        )


class Work(Matching, Protocol):
    """What the queue needs in a transaction."""

    @property
    def participants(self) -> "Participants":
        """Who takes part."""
        ...

    @property
    def subjects(self) -> "Subjects":
        """The mapping of registration numbers to opaque ids."""
        ...

    @property
    def requests(self) -> Requests:
        """The request ids that were used."""
        ...


class Participants(Protocol):
    """Who takes part."""

    async def hold(self, participant_id: str) -> Participant | None:
        """Return a participant, whose standing cannot change until the end."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> Mapping[str, str]:
        """Return the subject_id of every checked code, made now where there was none."""
        ...

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...


W = TypeVar("W", bound=Work)
W_contra = TypeVar("W_contra", bound=Work, contravariant=True)


class TakeRow(Protocol[W_contra]):
    """Takes in a row that has a subject now."""

    async def __call__(
        self, work: W_contra, provider: Participant, row: Incoming, *, historical: bool
    ) -> Ack:
        """Return what became of the row, in the transaction that decides about it."""
        ...


class ListReviews:
    """Rows that wait, or waited.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Transactions[Work]) -> None:
        self._transactions = transactions

    async def __call__(
        self, caller: Caller, state: ReviewState, after: str, page_size: int
    ) -> tuple[Sequence[Review], str]:
        """Return a page of reviews, oldest first, and the id after which the next begins, or "".

        Args:
            caller: a provider sees those of its own rows, the operator all.
            state: only in this one.
            after: the id after which the page begins; "" is the first page.
            page_size: most reviews.
        """
        whose = "" if caller.role == Role.OPERATOR else caller.participant_id
        async with self._transactions.read() as work:
            found = await work.reviews.page(whose, state, after, page_size + 1)
            page = await _present(work.subjects, found[:page_size])
        return page, page[-1].review_id if len(found) > page_size else ""


class SeriesLocks(Protocol):
    """Stored summaries, by which the records of a series are held still."""

    async def lock(self, keys: Iterable[SeriesKey]) -> object:
        """Hold series, which nobody else changes until the end."""
        ...


class Naming(Protocol):
    """What naming earlier registrations needs in a transaction."""

    @property
    def names(self) -> Names:
        """The index of names and numbers."""
        ...

    @property
    def series(self) -> SeriesLocks:
        """Stored summaries."""
        ...

    @property
    def subjects(self) -> "Numbers":
        """The mapping of registration numbers."""
        ...


class Numbers(Protocol):
    """The mapping of registration numbers, read."""

    async def usccs(self, subject_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the registration numbers of subjects, but for those that were erased."""
        ...


class NameEarlier:
    """Names the firms of registrations that a version without this index took in.

    Args:
        transactions: opens transactions.
        sleep: waits for so many seconds.
    """

    def __init__(
        self, transactions: Transactions[Naming], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._transactions = transactions
        self._sleep = sleep

    async def __call__(self) -> int:
        """Name those there are now; return how many series."""
        after, done = ("", ""), 0
        while True:
            async with self._transactions.read() as work:
                found = await work.names.unnamed(after, _AT_ONCE)
            if not found:
                return done
            async with self._transactions.begin() as work:
                await work.series.lock(found)
                usccs = await work.subjects.usccs({key.subject_id for key in found})
                await work.names.name(found, usccs)
            after = (found[-1].subject_id, found[-1].provider_id)
            done += len(found)
            await self._sleep(PAUSE_S)


class DecideReview(Generic[W]):
    """Names the subject of a row that waits, or dismisses the row.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        take: takes in the row.
        codec: of stored responses.
        clock: the time.
    """

    def __init__(
        self,
        transactions: Transactions[W],
        retry: Retry,
        take: TakeRow[W],
        codec: Codec[Ack],
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._take = take
        self._codec = codec
        self._clock = clock

    async def __call__(
        self,
        caller: Caller,
        key: RequestKey,
        review_id: str,
        subject: SubjectName | None,
        dismiss: str,
    ) -> tuple[Review, Ack]:
        """Decide; return the review, and what became of its row.

        A row that is refused with its subject waits on: the reason says what to do first.

        Args:
            caller: a provider decides about its own rows, the operator about all.
            key: the write as its caller named it.
            review_id: which one.
            subject: whom the row is about; None dismisses it.
            dismiss: why nobody is meant.

        Raises:
            NotFoundError: NOT_FOUND, there is no such review for the caller, or no such subject.
            InvalidArgumentError: FIELD_INVALID, it was decided otherwise; or USCC_MALFORMED.
            PermissionDeniedError: PARTICIPANT_SUSPENDED, the row's provider is.
            AlreadyExistsError: REQUEST_ID_REUSED.
        """
        uscc = checked_uscc(subject.uscc) if subject is not None and subject.uscc else ""

        async def decide(work: W) -> Ack:
            return await self._decide(work, caller, review_id, subject, uscc, dismiss)

        ack = await write_once(
            self._transactions, self._retry, key, self._clock, self._codec, decide
        )
        async with self._transactions.read() as work:
            review = _own(caller, await work.reviews.peek(review_id))
            (present,) = await _present(work.subjects, [review])
        return present, ack

    async def _decide(
        self,
        work: W,
        caller: Caller,
        review_id: str,
        subject: SubjectName | None,
        uscc: str,
        dismiss: str,
    ) -> Ack:
        provider_id = _own(caller, await work.reviews.peek(review_id)).provider_id
        # The provider first, as batches hold it before anything else.
        provider = check_supplier(await work.participants.hold(provider_id), historical=False)
        review = _own(caller, await work.reviews.lock(review_id))
        subject_id = ""
        if subject is not None:
            subject_id = await _subject_id(work.subjects, subject.subject_id, uscc)
        decision = Decision(subject_id, dismiss)
        if review.state is not ReviewState.WAITING:
            check_decided(review, decision)
            return Ack(0)
        ack = Ack(0)
        if subject_id:
            waiting = await work.reviews.row(review_id)
            row = waiting.row._replace(row=0, subject_id=subject_id, hint=None)
            ack = await self._take(work, provider, row, historical=waiting.historical)
        if not ack.rejections:
            decided = replace(
                review,
                state=decision.state,
                subject_id=subject_id,
                note=dismiss,
                decided_at=self._clock.now(),
                decided_by=caller.participant_id,
            )
            await work.reviews.decide(decided)
        return ack


async def _present(subjects: Subjects, reviews: Sequence[Review]) -> list[Review]:
    """Return reviews without candidates that were erased since."""
    shown = {candidate.subject_id for review in reviews for candidate in review.candidates}
    existing = await subjects.existing(shown) if shown else set()
    return [
        replace(
            review,
            candidates=tuple(each for each in review.candidates if each.subject_id in existing),
        )
        for review in reviews
    ]


def _own(caller: Caller, review: Review | None) -> Review:
    if review is None or (
        caller.role != Role.OPERATOR and review.provider_id != caller.participant_id
    ):
        raise no_review()
    return review


async def _subject_id(subjects: Subjects, subject_id: str, uscc: str) -> str:
    if uscc:
        return (await subjects.resolve_or_create_many([uscc]))[uscc]
    if subject_id not in await subjects.existing([subject_id]):
        raise NotFoundError("NOT_FOUND", "there is no such subject: check the field `subject`")
    return subject_id


def _decided(review: Review | None) -> bool:
    return review is not None and review.state is not ReviewState.WAITING


def _key(row: Incoming) -> RowKey:
    return RowKey(row.record_type, row.provider_record_id, row.version, row.content_hash)
