"""Taking in batches: one transaction covers records, summaries, the outbox and the delivery."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.china import china_day
from services.datashare.deliveries.app import Deliveries, Sent, account, check_signature
from services.datashare.deliveries.domain import Delivery, check_opened, check_reopened
from services.datashare.log.domain import Leaves
from services.datashare.mandates import registry
from services.datashare.mandates.acting import HeldMandates
from services.datashare.mandates.submissions import LogSubmission
from services.datashare.notices.writing import Notices, Recipients, tell_of_records
from services.datashare.participants.domain import Participant, Role, SigningKey
from services.datashare.records.domain import (
    Accepted,
    Ack,
    Duplicate,
    History,
    Incoming,
    RecordKey,
    Rejection,
    admit,
    check_supplier,
    is_first,
)
from services.datashare.records.own import own_rows, speaking
from services.datashare.records.sharing import Consents, uncovered
from services.datashare.reviews.app import Hints, Names, Reviews
from services.datashare.reviews.domain import NAMING_TYPE
from services.datashare.summaries.app import Facts, Series, update_summaries
from services.datashare.summaries.domain import Fact, Layout, SeriesChange, SeriesKey
from services.kit.clock import Clock
from services.kit.transactions import Retry, Transactions

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Participants(Protocol):
    """Who takes part."""

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...

    async def hold(self, participant_id: str) -> Participant | None:
        """Return a participant, whose standing and keys cannot change until the end."""
        ...

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code, if it has one."""
        ...

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> Mapping[str, str]:
        """Return the subject_id of every checked code, made now where there was none."""
        ...

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...


class Mandates(registry.MandateRows, HeldMandates, Protocol):
    """Who speaks for firms."""


class NewRecord(NamedTuple):
    """A version of a record to store.

    Args:
        subject_id: whose.
        incoming: the row.
        known_at: microseconds since 1970-01-01 UTC.
        hidden_on: from this day on no read shows the record; None is never.
    """

    subject_id: str
    incoming: Incoming
    known_at: int
    hidden_on: int | None


class Records(Facts, Protocol):
    """Every version of every record."""

    @property
    def sealed_types(self) -> frozenset[str]:
        """Record types whose rows go through `blinded` before they are admitted."""
        ...

    async def blinded(self, rows: Sequence[tuple[str, Incoming]]) -> Sequence[Incoming]:
        """Return rows, those of sealed types with a keyed hash in the place of the plain one.

        Args:
            rows: each with its subject_id.
        """
        ...

    async def histories(
        self, provider_id: str, keys: Sequence[RecordKey]
    ) -> dict[RecordKey, History]:
        """Return the versions of those records that have any."""
        ...

    async def facts_of(
        self, provider_id: str, versions: Sequence[tuple[RecordKey, int]]
    ) -> Sequence[tuple[RecordKey, Fact]]:
        """Return the fact of each version, none of which is a retraction."""
        ...

    async def insert(
        self, provider_id: str, records: Sequence[NewRecord], recorded_at: datetime
    ) -> None:
        """Store versions that are not there yet."""
        ...

    async def hide(self, provider_id: str, days: Mapping[RecordKey, int | None]) -> None:
        """Give all stored versions of records another day from which on they are hidden."""
        ...


class Arrivals(Protocol):
    """What inspection is to look at, off this path."""

    async def note_arrivals(self, records: Mapping[SeriesKey, int], recorded_at: datetime) -> None:
        """Leave the number of records that came in, by series."""
        ...


class Work(Protocol):
    """What taking in a batch needs in a transaction."""

    @property
    def participants(self) -> Participants:
        """Who takes part."""
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
    def register(self) -> registry.Register:
        """What records of the register say of representatives."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def names(self) -> Names:
        """The index of names, by which subjects are found."""
        ...

    @property
    def reviews(self) -> Reviews:
        """Rows that wait until somebody says whom they are about."""
        ...

    @property
    def consents(self) -> Consents:
        """Consents, by what they made due."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """How far each delivery has come."""
        ...

    @property
    def records(self) -> Records:
        """Every version of every record."""
        ...

    @property
    def series(self) -> Series:
        """Stored summaries."""
        ...

    @property
    def quality(self) -> Arrivals:
        """What inspection is to look at."""
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
    def changes(self) -> Changes:
        """The outbox."""
        ...


@dataclass(frozen=True)
class Batch:
    """Rows of one provider that were checked one by one.

    Args:
        provider_id: whose.
        historical: they count as known when the provider obtained them.
        sequence: in the delivery; 0 without one.
        rows: the well-formed ones.
        rejections: why the others are not.
        delivery: as it was opened; None of a single submission.
        sent: the batch as it was sent.
    """

    provider_id: str
    historical: bool
    sequence: int
    rows: Sequence[Incoming]
    rejections: Sequence[Rejection]
    delivery: Delivery | None = None
    sent: Sent = field(default_factory=Sent)


class TakeIn:
    """Takes in batches.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        layouts: what summaries hold, by record type.
        on_consent: the record types that are shared on consent.
        hints: finds whom rows are about that do not say it.
        clock: the time.
        watch: suspends mandates when the register shows another representative.
        log_submission: logs what accounts supply for firms.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        retry: Retry,
        layouts: Mapping[str, Layout],
        on_consent: Collection[str],
        hints: Hints,
        clock: Clock,
        watch: registry.RegisterWatch,
        log_submission: LogSubmission,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._layouts = layouts
        self._on_consent = on_consent
        self._hints = hints
        self._clock = clock
        self._watch = watch
        self._log_submission = log_submission
        self._repeating: set[str] = set()

    async def supplier(self, provider_id: str, *, historical: bool) -> Participant:
        """Return a provider that may supply records now.

        Raises:
            PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED, BACKFILL_NOT_ALLOWED or
                MANDATE_REQUIRED.
        """
        async with self._transactions.read() as work:
            found = check_supplier(await work.participants.get(provider_id), historical=historical)
            if found.role is not Role.FIRM:
                return found
            return speaking(found, await work.mandates.get(provider_id), self._clock.now())

    async def open(self, provider_id: str, delivery_id: str, *, historical: bool) -> Delivery:
        """Return a delivery, where it stands.

        Raises:
            InvalidArgumentError: FIELD_INVALID, it was opened otherwise before, or has the name of
                something else.
        """
        check_opened(delivery_id)
        async with self._transactions.read() as work:
            delivery = await work.deliveries.get(provider_id, delivery_id)
        if delivery is None:
            return Delivery(provider_id, delivery_id, historical)
        check_reopened(delivery, historical=historical)
        return delivery

    async def __call__(self, batch: Batch) -> Ack:
        """Take in a batch; everything or, when it raises, nothing of it is stored.

        Raises:
            AlreadyExistsError: DELIVERY_MISMATCH.
            FailedPreconditionError: DELIVERY_CLOSED.
            InvalidArgumentError: SIGNATURE_MISSING or SIGNATURE_INVALID.
            OutOfRangeError: OUT_OF_SEQUENCE.
            PermissionDeniedError: as `supplier`.
        """
        # Who sends a record again has mostly sent others again before.
        trusting = batch.provider_id not in self._repeating

        async def attempt() -> Ack:
            nonlocal trusting
            try:
                return await self._transact(batch, trusting=trusting)
            except Exception:
                # Perhaps a record was there already; only `retry` knows whether to go on.
                trusting = False
                raise

        return await self._retry(attempt)

    async def _transact(self, batch: Batch, *, trusting: bool) -> Ack:
        async with self._transactions.begin() as work:
            # Before any other lock: whoever suspends the provider waits for the batches that hold
            # it, which therefore must not wait for one that waits for its turn here.
            provider = check_supplier(
                await work.participants.hold(batch.provider_id), historical=batch.historical
            )
            mandate = None
            if provider.role is Role.FIRM:
                mandate = await work.mandates.hold(batch.provider_id)
                provider = speaking(provider, mandate, self._clock.now())
            delivery = batch.delivery
            key_id = await check_signature(
                work.participants,
                provider,
                delivery.delivery_id if delivery else "",
                batch.sequence,
                batch.sent,
            )
            if delivery:
                delivery = await work.deliveries.lock(delivery, self._clock.now())
                check_reopened(delivery, historical=batch.historical)
                earlier = delivery.earlier(batch.sequence, batch.sent.sha256)
                if earlier:
                    return earlier
            ack = await self._decided(work, batch, provider, trusting=trusting)
            if mandate is not None:
                taken = set(ack.accepted)
                rows = [row for row in batch.rows if row.row in taken]
                await self._log_submission(work, mandate, rows, self._clock.now())
            await account(
                work.deliveries, provider, delivery, batch.sent, ack, key_id, self._clock.now()
            )
        return ack

    async def row(
        self, work: Work, provider: Participant, row: Incoming, *, historical: bool
    ) -> Ack:
        """Take in a row that waited until its subject was named, in the transaction that names it.

        Args:
            work: the transaction; it holds the provider.
            provider: whose row.
            row: it names its subject.
            historical: it counts as known when the provider obtained it.
        """
        batch = Batch(
            provider_id=provider.participant_id,
            historical=historical,
            sequence=0,
            rows=[row],
            rejections=[],
        )
        return await self._decided(work, batch, provider, trusting=False)

    async def _decided(
        self, work: Work, batch: Batch, provider: Participant, *, trusting: bool
    ) -> Ack:
        """Take in what may come in; return what became of every row."""
        own, foreign = await own_rows(work.subjects, provider, batch.rows)
        settled = await self._hints.settle(
            work, provider.participant_id, own, historical=batch.historical
        )
        rejections = [*batch.rejections, *foreign, *settled.rejections]
        batch = replace(batch, rows=settled.rows, rejections=rejections)
        rows, unnamed = await _named(work.subjects, batch)
        # Found out once for all of them: most batches have one type, which needs none of it.
        types = {row.record_type for row in batch.rows}
        refused: list[Rejection] = []
        if not types.isdisjoint(self._on_consent):
            asked = ((row.key.subject_id, row.incoming) for row in rows)
            refused = await uncovered(work.consents, self._on_consent, provider, asked, self._clock)
        if refused:
            unnamed += refused
            out = {rejection.row for rejection in refused}
            rows = [row for row in rows if row.incoming.row not in out]
        if not types.isdisjoint(work.records.sealed_types):
            rows = await _blinded(work.records, rows)
        done = await self._take(work, batch, provider, rows, trusting=trusting)
        return Ack(
            batch.sequence,
            tuple(done.accepted),
            tuple(done.duplicates),
            tuple(sorted([*rejections, *unnamed, *done.rejections])),
            tuple(settled.held),
        )

    async def _take(
        self,
        work: Work,
        batch: Batch,
        provider: Participant,
        rows: Sequence["_Named"],
        *,
        trusting: bool,
    ) -> "_Admission":
        """Take in rows.

        Args:
            work: the transaction.
            batch: of the rows.
            provider: whose.
            rows: about subjects that there are.
            trusting: take it on trust that a first version is of a record never seen: where that is
                wrong, storing it fails, which rolls back everything.
        """
        provider_id = provider.participant_id
        # Holding the series first keeps every record of theirs still until the commit.
        states = await work.series.lock({row.series for row in rows})
        # Only now, as the locks may have been waited for: what a series holds already was recorded
        # before, so that times follow the order in which batches take effect.
        now = self._clock.now()
        histories = await work.records.histories(
            provider_id, [row.key for row in rows if not (trusting and is_first(row.incoming))]
        )
        if not trusting:
            (self._repeating.add if histories else self._repeating.discard)(provider_id)
        admission = _Admission(histories, now, historical=batch.historical)
        admission.admit(rows)
        if not admission.records:
            return admission
        removed = await work.records.facts_of(provider_id, admission.superseded)
        for key, fact in removed:
            series = SeriesKey(key.subject_id, key.record_type, provider_id)
            admission.changes[series].removed.append(fact)
        if any(key.record_type in registry.TYPES for key in admission.changes):
            shown = [(new.subject_id, new.incoming) for new in admission.records]
            await self._watch(work, provider_id, shown, now)
        await work.records.insert(provider_id, admission.records, now)
        await work.records.hide(provider_id, admission.days)
        if any(key.record_type == NAMING_TYPE for key in admission.changes):
            naming = [
                (new.subject_id, new.incoming)
                for new in admission.records
                if new.incoming.record_type == NAMING_TYPE
            ]
            await work.names.index(provider_id, naming)
        await work.quality.note_arrivals(admission.arrivals, now)
        await update_summaries(
            work.series,
            work.records,
            self._layouts,
            states,
            admission.changes,
            admission.today,
            simulated=provider.simulated_source,
        )
        announcements = admission.announcements(provider_id)
        await tell_of_records(work, announcements)
        await work.changes.append(announcements)
        return admission


class _Named(NamedTuple):
    """A row, the record that it is a version of, and the series in which that counts."""

    series: SeriesKey
    key: RecordKey
    incoming: Incoming


async def _named(subjects: Subjects, batch: Batch) -> tuple[list[_Named], list[Rejection]]:
    """Return the rows about subjects that there are, and why the others are refused."""
    ids: Mapping[str, str] = {}
    if usccs := {row.uscc for row in batch.rows if row.uscc}:
        ids = await subjects.resolve_or_create_many(usccs)
    existing: set[str] = set()
    if named := {row.subject_id for row in batch.rows if not row.uscc}:
        existing = await subjects.existing(named)
    series: dict[tuple[str, str], SeriesKey] = {}
    rows = []
    rejections = []
    new = tuple.__new__  # takes half as long as a named tuple's own function
    for row in batch.rows:
        subject_id = ids[row.uscc] if row.uscc else row.subject_id
        if not row.uscc and subject_id not in existing:
            problem = "there is no such subject: name it by its registration number"
            rejections.append(Rejection(row.row, "NOT_FOUND", "subject.subject_id", problem))
            continue
        record_type = row.record_type
        of = series.get((subject_id, record_type))
        if of is None:
            of = SeriesKey(subject_id, record_type, batch.provider_id)
            series[subject_id, record_type] = of
        key = new(RecordKey, (subject_id, record_type, row.provider_record_id))
        rows.append(new(_Named, (of, key, row)))
    return rows, rejections


async def _blinded(records: Records, rows: Sequence[_Named]) -> list[_Named]:
    incoming = await records.blinded([(row.key.subject_id, row.incoming) for row in rows])
    return [row._replace(incoming=blind) for row, blind in zip(rows, incoming, strict=True)]


class _Admission:
    """What becomes of the rows of a batch, one after the other.

    Args:
        histories: versions that are stored; those of this batch are added.
        now: when the batch is recorded.
        historical: rows count as known when the provider obtained them.
    """

    def __init__(
        self, histories: dict[RecordKey, History], now: datetime, *, historical: bool
    ) -> None:
        self.accepted: list[int] = []
        self.duplicates: list[int] = []
        self.rejections: list[Rejection] = []
        self.records: list[NewRecord] = []
        self.changes: dict[SeriesKey, SeriesChange] = {}
        self.superseded: list[tuple[RecordKey, int]] = []
        self.days: dict[RecordKey, int | None] = {}
        self.today = china_day(now)
        self._histories = histories
        self._now = now
        self._recorded_at = (now - EPOCH) // _MICROSECOND
        self._historical = historical
        self._first: dict[RecordKey, Incoming] = {}
        self._facts: dict[tuple[RecordKey, int], Fact] = {}
        self._news: dict[tuple[str, str, ChangeKind], None] = {}

    def admit(self, rows: Iterable[_Named]) -> None:
        """Decide about rows, in their order."""
        histories, first = self._histories, self._first
        for named in rows:
            series, key, row = named
            # Nearly every row of a back-fill is the first that is heard of its record.
            if key in histories or not is_first(row) or first.setdefault(key, row) is not row:
                self._admit(series, key, row)
            else:
                self._accept(series, key, row, row.hidden_on)

    def _admit(self, series: SeriesKey, key: RecordKey, row: Incoming) -> None:
        history = self._history(key)
        verdict = admit(row, history)
        if isinstance(verdict, Duplicate):
            self.duplicates.append(row.row)
        elif isinstance(verdict, Rejection):
            self.rejections.append(verdict)
        elif history is not None:
            before = history.hidden_on
            hidden_on = before if row.retracted else row.hidden_on
            history.add(row.version, row.content_hash, retracted=row.retracted, hidden_on=hidden_on)
            self._accept(series, key, row, hidden_on)
            if row.fact is not None and not self._is_hidden(hidden_on):
                self._facts[key, row.version] = row.fact
            self._correct(series, key, row, verdict, before)
            if hidden_on != before:
                self.days[key] = hidden_on

    def _history(self, key: RecordKey) -> History | None:
        """Return the versions of a record that are stored or in this batch."""
        history = self._histories.get(key)
        first = self._first.get(key)
        if history is None and first is not None:
            history = History({1: first.content_hash}, 1, hidden_on=first.hidden_on)
            self._histories[key] = history
            if first.fact is not None and not self._is_hidden(first.hidden_on):
                self._facts[key, 1] = first.fact
        return history

    def _is_hidden(self, hidden_on: int | None) -> bool:
        return hidden_on is not None and hidden_on <= self.today

    def _accept(
        self, series: SeriesKey, key: RecordKey, row: Incoming, hidden_on: int | None
    ) -> None:
        known_at = self._recorded_at
        if self._historical and row.obtained_at < known_at:
            known_at = row.obtained_at
        self.accepted.append(row.row)
        self.records.append(NewRecord(key.subject_id, row, known_at, hidden_on))
        change = self.changes.get(series)
        if change is None:
            change = self.changes[series] = SeriesChange(known_at, known_at)
        elif known_at > change.known_at:
            change.known_at = known_at
        elif known_at < change.first_known_at:
            change.first_known_at = known_at
        change.stored += 1
        if hidden_on is not None:
            change.hidden_on.add(hidden_on)
        if row.fact is not None and (hidden_on is None or hidden_on > self.today):
            change.added.append(row.fact)

    def _correct(
        self,
        series: SeriesKey,
        key: RecordKey,
        row: Incoming,
        verdict: Accepted,
        hidden_on: int | None,
    ) -> None:
        """Take the version that a row corrects out of the summary.

        Args:
            series: the record's.
            key: the record's.
            row: the correction or retraction.
            verdict: about it.
            hidden_on: of the record until now.
        """
        if row.repaired:
            kind = ChangeKind.RECORD_REPAIRED
        else:
            kind = ChangeKind.RECORD_RETRACTED if row.retracted else ChangeKind.RECORD_CORRECTED
        self._news[key.subject_id, key.record_type, kind] = None
        if not verdict.corrects or self._is_hidden(hidden_on):
            return
        change = self.changes[series]
        mine = self._facts.get((key, verdict.corrects))
        if mine is not None:
            change.removed.append(mine)
        else:
            self.superseded.append((key, verdict.corrects))

    @property
    def arrivals(self) -> dict[SeriesKey, int]:
        """How many records are stored in each series."""
        return {key: change.stored for key, change in self.changes.items()}

    def announcements(self, provider_id: str) -> list[Change]:
        """Return what the outbox tells."""
        return [
            Change(
                kind=kind,
                changed_at=self._now,
                subject_id=subject_id,
                participant_id=provider_id,
                record_type=record_type,
            )
            for subject_id, record_type, kind in self._news
        ]
