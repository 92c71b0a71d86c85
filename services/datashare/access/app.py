"""Fetching summaries: the one place where data is released.

Invariants:

- Everything that belongs to a fetch happens in one transaction: the consent and the recipient's
  standing are held, the rules asked, the summary read, the access, its leaf and the use of each
  provider's records written. The summary is returned after the commit, so that nothing is released
  that was not recorded, and nothing after a withdrawal that was acknowledged.
- A batch is one transaction with a fixed number of statements, but for reads of a past, which may
  take long: they have transactions of their own, each of a few folds. Each item has its own result,
  a refusal is recorded and touches no other item, and so does an item that breaks its transaction.
- A request_id that was released before is checked again, makes no new access, uses no quota and
  reads the data of the same time. Within a batch an id stands for the first request that has it.
- A release under a consent is counted last, when nothing else can refuse it, and in its own
  transaction: what is rolled back has used nothing.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from services.datashare.access.domain import (
    Access,
    Channel,
    Earlier,
    Fetch,
    Outcome,
    Recorded,
    Released,
    Rules,
    Scope,
    Sealed,
    content,
    shown,
)
from services.datashare.access.enquiries import ENQUIRY, PLATFORM
from services.datashare.access.manifest import Manifests
from services.datashare.access.receipts import receipt
from services.datashare.catalogue.domain import Catalogue, RecordType
from services.datashare.consent import consuming
from services.datashare.consent.consuming import tell_consumed
from services.datashare.consent.domain import Consent
from services.datashare.idempotency.domain import RequestKey, require_same
from services.datashare.log.domain import Leaf, LeafKind, Leaves, Sealer
from services.datashare.mandates.acting import Mandates, reading
from services.datashare.mandates.domain import Power
from services.datashare.participants.domain import (
    Held,
    Participant,
    Role,
    Standing,
    require_good_standing,
    require_product,
)
from services.datashare.quota.domain import ONE_TIME, Key, Wish, beyond, exhausted, wanted
from services.datashare.receipts.domain import Signer
from services.datashare.summaries.domain import Found, StoredSeries, SummaryQuery
from services.datashare.uses.domain import Counted, counted
from services.kit.clock import Clock
from services.kit.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

MOST_FOLDS: Final = 8
"""Most pasts of subjects that are read in one transaction."""

_PAGE: Final = 500

Results: TypeAlias = dict[int, Released | PuhuiError]
"""Summaries and refusals by the index of the item."""


class Consents(consuming.Consents, Protocol):
    """Consents."""

    async def hold(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Consent]:
        """Return the consents of sorted (subject_id, consent_id), unchangeable until the end.

        Without signatures and note.
        """
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def hold_many(self, participant_ids: Sequence[str]) -> Mapping[str, Held]:
        """Return standing and licence of sorted participants, unchangeable until the end."""
        ...

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...

    async def page(self, roles: Collection[Role], after: str, limit: int) -> Sequence[Participant]:
        """Return participants of these roles whose id is greater, by id."""
        ...


class Accesses(Protocol):
    """Releases and refusals."""

    async def released(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Earlier]:
        """Return the releases of (recipient_id, request_id)."""
        ...

    async def sealed(self, keys: Sequence[tuple[str, str]]) -> Mapping[str, Sealed]:
        """Return accesses of (subject_id, access_id) with their leaves, by access_id."""
        ...

    async def append(self, accesses: Sequence[tuple[Access, Leaf]]) -> None:
        """Add accesses with their leaves.

        Loses the race when another transaction released one of the requests meanwhile.
        """
        ...

    async def page(
        self, *, subject_id: str, recipient_id: str, before: str, limit: int
    ) -> Sequence[Recorded]:
        """Return accesses, newest first.

        Args:
            subject_id: to this subject's data; "" is any.
            recipient_id: of this bank; "" is any.
            before: only with an id less than this; "" is any.
            limit: most accesses.
        """
        ...


class Subjects(Protocol):
    """Subjects."""

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...


class Summaries(Protocol):
    """Summaries of records."""

    async def read(self, queries: Sequence[SummaryQuery]) -> Sequence[Found]:
        """Return what each query finds."""
        ...

    async def supplied_types(self) -> Mapping[str, datetime]:
        """Return since when a record was known of each record type that somebody supplies."""
        ...


class Enquiries(Protocol):
    """Who asked before."""

    async def read(self, queries: Sequence[SummaryQuery]) -> Sequence[StoredSeries | None]:
        """Return the series that each query finds; None where nobody asked in its months."""
        ...


class Uses(Protocol):
    """How often what providers supplied is used."""

    async def append(self, counts: Sequence[Counted]) -> None:
        """Add what was used in this transaction; once in it."""
        ...


class Quotas(Protocol):
    """How often consents were fetched under."""

    async def add(self, counts: Sequence[tuple[Key, int]]) -> Mapping[Key, int]:
        """Count uses by ascending keys and return the sums; nobody else counts until the end."""
        ...


class Erasures(Protocol):
    """Subjects that were erased."""

    async def erased(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that stood for a subject that was erased."""
        ...


class Work(consuming.Work, Protocol):
    """What a fetch needs in a transaction."""

    @property
    def consents(self) -> Consents:
        """Consents."""
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
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def subjects(self) -> Subjects:
        """Subjects."""
        ...

    @property
    def summaries(self) -> Summaries:
        """Summaries of records."""
        ...

    @property
    def enquiries(self) -> Enquiries:
        """Who asked before."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for firms."""
        ...

    @property
    def erasures(self) -> Erasures:
        """Subjects that were erased."""
        ...

    @property
    def uses(self) -> Uses:
        """How often what providers supplied is used."""
        ...

    @property
    def quotas(self) -> Quotas:
        """How often consents were fetched under."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One fetch of a batch.

    Args:
        caller: the bank that asks.
        fetch: what it asks for.
        deadline: not worth doing after this; None is never too late.
    """

    caller: Caller
    fetch: Fetch
    deadline: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes the request unique: recipient_id and request_id."""
        return self.caller.participant_id, self.fetch.request_id


class FetchSummaries:
    """Releases summaries under consent.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes access ids.
        sealer: makes leaves.
        rules: of the catalogue.
        manifests: tell whether all is there.
        signer: promises that a leaf gets into the log.
        narrowed: returns a series' bytes with no more than the measures and attributes named.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        rules: Rules,
        manifests: Manifests,
        signer: Signer,
        narrowed: Callable[[bytes, Collection[str]], bytes],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._rules = rules
        self._manifests = manifests
        self._signer = signer
        self._narrowed = narrowed
        # As what participants supply, which never changes.
        self._kinds: dict[str, str] = {}

    async def __call__(
        self, items: Sequence[Item], channel: Channel
    ) -> list[Released | PuhuiError]:
        """Return a summary or a refusal for each item, in their order.

        An InternalError names its cause, which nobody else has seen.

        Args:
            items: at least one.
            channel: the service through which the data is used.
        """
        now = self._clock.now()
        results: Results = {}
        waiting: dict[int, Item] = {}
        for index, item in enumerate(items):
            if item.deadline is not None and item.deadline <= now:
                results[index] = DeadlineExceededError(
                    "DEADLINE_EXCEEDED", "the deadline passed before the fetch: allow more time"
                )
            else:
                waiting[index] = item
        firsts: dict[tuple[str, str], int] = {}
        for index, item in waiting.items():
            firsts.setdefault(item.key, index)
        present = {i: waiting[i] for i in firsts.values() if waiting[i].fetch.as_of is None}
        results |= await self._run(present, channel, past=False)
        # Twice where another transaction released one meanwhile; then it is found.
        while rest := {i: waiting[i] for i in firsts.values() if i not in results}:
            for part in _few_folds(rest):
                results |= await self._run(part, channel, past=True)
        for index, item in waiting.items():
            if index not in results:
                first = firsts[item.key]
                results[index] = _again(item, waiting[first], results[first])
        return [results[index] for index in range(len(items))]

    async def _run(self, items: Mapping[int, Item], channel: Channel, *, past: bool) -> Results:
        """Do items with distinct requests; where that fails, each half of them for itself.

        So only the items fail whose data the database does not take.
        """
        if not items:
            return {}
        try:
            return await self._retry(functools.partial(self._transact, items, channel, past=past))
        except (PuhuiError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail the others
            indices = list(items)
            if len(indices) == 1:
                fault = InternalError("INTERNAL", "a fault of ours: report the trace id")
                fault.__cause__ = error
                return {indices[0]: fault}
        half = len(indices) // 2
        results: Results = {}
        for part in (indices[:half], indices[half:]):
            results |= await self._run({i: items[i] for i in part}, channel, past=past)
        return results

    async def _transact(
        self, items: Mapping[int, Item], channel: Channel, *, past: bool
    ) -> Results:
        """Do items with distinct requests in one transaction.

        Args:
            items: by index.
            channel: the service through which the data is used.
            past: whether to read a past; else allowed replays have no result.

        Returns:
            The results; a request has none that was released meanwhile, on which this waited.
        """
        async with self._transactions.begin() as work:
            consents = await work.consents.hold(_consent_keys(items.values()))
            holders = await work.participants.hold_many(
                sorted({item.caller.participant_id for item in items.values()})
            )
            # A consent names its subject; without one the subject may be anything.
            unproved = {
                item.fetch.subject_id
                for item in items.values()
                if (item.fetch.subject_id, item.fetch.consent_id) not in consents
            }
            unproved |= {
                item.fetch.for_subject_id
                for item in items.values()
                if item.fetch.for_subject_id != _consented_firm(consents, item.fetch)
            } - {""}
            unknown = unproved - await work.subjects.existing(unproved) if unproved else set()
            earlier = await work.accesses.released([item.key for item in items.values()])
            # Only now, as the locks may have been waited for: a consent must hold at this time.
            now = self._clock.now()

            decisions: dict[int, Scope | PuhuiError] = {}
            for index, item in items.items():
                fetch, before = item.fetch, earlier.get(item.key)
                consent = consents.get((fetch.subject_id, fetch.consent_id))
                holder = holders.get(item.caller.participant_id)
                decision = self._decide(item, before, holder, consent, now)
                if isinstance(decision, Scope) and not unknown.isdisjoint(
                    (fetch.subject_id, fetch.for_subject_id)
                ):
                    decision = NotFoundError(
                        "NOT_FOUND",
                        "there is no such subject: check subject_id and for_subject_id",
                    )
                if past or before is None or not isinstance(decision, Scope):
                    decisions[index] = decision

            scopes = {i: scope for i, scope in decisions.items() if isinstance(scope, Scope)}
            queries = [query for scope in scopes.values() for query in scope.queries]
            answers = iter(await work.summaries.read(queries) if queries else ())
            supplied = await work.summaries.supplied_types() if scopes else {}
            found = {i: [next(answers) for _ in scope.queries] for i, scope in scopes.items()}
            await _add_enquiries(work, scopes, found)
            # Of an erased subject nothing is there, so whoever has something needs no question.
            bare = {
                items[i].fetch.subject_id
                for i, answers_of in found.items()
                if not any(answer.series for answer in answers_of)
            }
            gone = await work.erasures.erased(bare | unknown) if bare or unknown else set()
            for index in [i for i in decisions if items[i].fetch.subject_id in gone]:
                if index in scopes or isinstance(decisions[index], NotFoundError):
                    scopes.pop(index, None)
                    decisions[index] = FailedPreconditionError(
                        "SUBJECT_ERASED", "the subject was erased: there is no data about it"
                    )
            unknown -= gone
            for index, refusal in (await self._count(work, items, scopes, earlier, now)).items():
                del scopes[index]
                if refusal is None:
                    del decisions[index]
                else:
                    decisions[index] = refusal
            made: dict[int, tuple[Access, Leaf]] = {}
            for index, decision in decisions.items():
                item = items[index]
                # A request_id that stands for something else says nothing about data.
                if isinstance(decision, AlreadyExistsError) or (
                    index in scopes and item.key in earlier
                ):
                    continue
                access = self._access(
                    item,
                    channel,
                    consents.get((item.fetch.subject_id, item.fetch.consent_id)),
                    decision,
                    found.get(index, ()),
                    now,
                )
                if item.fetch.subject_id in unknown:
                    # Whatever was sent instead of an id, perhaps a registration number.
                    access = replace(access, subject_id="")
                if item.fetch.for_subject_id in unknown:
                    access = replace(access, for_subject_id="")
                made[index] = access, self._sealer.seal(LeafKind.ACCESS, content(access), now)
            replays = [
                (items[i].fetch.subject_id, earlier[items[i].key].access_id)
                for i in scopes
                if i not in made
            ]
            repeated = await work.accesses.sealed(replays) if replays else {}
            kinds = await self._supplying(work, scopes.values())
            await work.accesses.append(list(made.values()))
            await work.leaves.append([leaf for _, leaf in made.values()])
            await work.uses.append(
                counted(
                    (
                        (
                            series.provider_id,
                            series.record_type,
                            items[index].fetch.purpose,
                            items[index].caller.participant_id,
                        )
                        for index in scopes
                        if index in made and not items[index].fetch.check
                        for answer in found[index]
                        for series in answer.series
                        if series.provider_id != PLATFORM
                    ),
                    now,
                )
            )
            await tell_consumed(
                work,
                [
                    consents[items[index].fetch.subject_id, items[index].fetch.consent_id]
                    for index, scope in scopes.items()
                    if scope.limit == ONE_TIME and index in made and not items[index].fetch.check
                ],
                now,
                self._signer,
            )

        results: Results = {}
        for index, decision in decisions.items():
            if not isinstance(decision, Scope):
                results[index] = decision
                continue
            if index in made:
                access, leaf = made[index]
                sealed = Sealed(access, leaf.salt, leaf.hash)
            else:
                sealed = repeated[earlier[items[index].key].access_id]
            known = {name for name, since in supplied.items() if since <= decision.as_of}
            known.add(ENQUIRY)
            results[index] = self._released(decision, found[index], sealed, known, kinds)
        return results

    def _released(
        self,
        scope: Scope,
        found: Sequence[Found],
        sealed: Sealed,
        supplied: Collection[str],
        kinds: Mapping[str, str],
    ) -> Released:
        """Return a release as it is answered, once its access is committed.

        Args:
            scope: what is opened.
            found: what there is in it.
            sealed: the access and its leaf.
            supplied: types that somebody supplied by then.
            kinds: as what each provider supplies.
        """
        series = tuple(self._opened(part, scope) for answer in found for part in answer.series)
        coverage = self._rules.coverage(
            scope,
            present={part.record_type for part in series},
            left_out=frozenset().union(*(answer.left_out for answer in found)),
            supplied=supplied,
        )
        return Released(
            access_id=sealed.access.access_id,
            subject_id=sealed.access.subject_id,
            as_of=scope.as_of,
            period=scope.period,
            series=series,
            withheld=any(answer.withheld for answer in found),
            disputes=tuple(shown(mark, scope) for answer in found for mark in answer.disputes),
            coverage=coverage,
            manifest=self._manifests.of(scope, found, coverage, kinds),
            receipt=receipt(sealed, self._signer),
        )

    def _opened(self, series: StoredSeries, scope: Scope) -> StoredSeries:
        names = scope.opened.get(series.record_type)
        if names is None:
            return series
        return replace(series, content=self._narrowed(series.content, names))

    async def _count(
        self,
        work: Work,
        items: Mapping[int, Item],
        scopes: Mapping[int, Scope],
        earlier: Mapping[tuple[str, str], Earlier],
        now: datetime,
    ) -> dict[int, PuhuiError | None]:
        """Count what is about to be released, and return the refusals of what is beyond a limit.

        None is of a request that another transaction released, whose count this waited for.
        """
        wishes = {
            index: Wish(items[index].fetch.subject_id, items[index].fetch.consent_id, scope.limit)
            for index, scope in scopes.items()
            if scope.limit is not None and items[index].key not in earlier
        }
        asked = list(wishes.values())
        if not asked:
            return {}
        used = await work.quotas.add(wanted(asked, now))
        refused = [
            index for index, over in zip(wishes, beyond(asked, used, now), strict=True) if over
        ]
        unused = {*refused, *(index for index in wishes if items[index].fetch.check)}
        if unused:
            back = wanted([wishes[index] for index in unused], now)
            await work.quotas.add([(key, -count) for key, count in back])
        if not refused:
            return {}
        meanwhile = await work.accesses.released([items[index].key for index in refused])
        return {
            index: None if items[index].key in meanwhile else exhausted(wishes[index].limit, now)
            for index in refused
        }

    async def _supplying(self, work: Work, scopes: Collection[Scope]) -> Mapping[str, str]:
        """Return as what each provider that the scopes name supplies."""
        named = {
            provider_id
            for scope in scopes
            for query in scope.queries
            for provider_id in query.provider_ids or ()
        }
        if fresh := named - self._kinds.keys():
            people = await work.participants.among(fresh)
            self._kinds |= {id_: person.supplies_as for id_, person in people.items()}
        return self._kinds

    def _decide(
        self,
        item: Item,
        before: Earlier | None,
        holder: Held | None,
        consent: Consent | None,
        now: datetime,
    ) -> Scope | PuhuiError:
        fetch, recipient_id = item.fetch, item.caller.participant_id
        as_of = fetch.as_of or now
        try:
            require_good_standing(holder.standing if holder else None)
            if holder and (product := self._rules.product(fetch.purpose)):
                require_product(holder, product, now)
            if before is not None:
                key = RequestKey(recipient_id, fetch.request_id, fetch.fingerprint)
                require_same(key, before.fingerprint)
                as_of = before.as_of
        except PuhuiError as error:
            return error
        return self._rules.decide(fetch, recipient_id, consent, now, as_of)

    def _access(
        self,
        item: Item,
        channel: Channel,
        consent: Consent | None,
        decision: Scope | PuhuiError,
        found: Sequence[Found],
        now: datetime,
    ) -> Access:
        fetch = item.fetch
        if consent is not None and consent.core.recipient_id != item.caller.participant_id:
            consent = None  # what another bank's consent says is not for this one's list
        types: Collection[str]
        if isinstance(decision, Scope):
            outcome, reason, types = Outcome.RELEASED, "", decision.record_types
            begins = [series.first_month for answer in found for series in answer.series]
            first, last = min([decision.first_month, *begins]), decision.last_month
            as_of = decision.as_of
        else:
            named = consent.core.terms.record_types if consent is not None else ()
            types = self._rules.known(fetch.record_types) if fetch.record_types else named
            outcome, reason = Outcome.REFUSED, decision.reason
            first, last, as_of = 0, 0, fetch.as_of or now
        return Access(
            access_id=self._ids.new("acc"),
            subject_id=fetch.subject_id,
            recipient_id=item.caller.participant_id,
            request_id=fetch.request_id,
            fingerprint=fetch.fingerprint,
            accessed_at=now,
            as_of=as_of,
            purpose=fetch.purpose,
            record_types=tuple(sorted(types)),
            content_level=fetch.level,
            first_month=first,
            last_month=last,
            consent_id=fetch.consent_id,
            consent_revision=consent.revision if consent is not None else 0,
            outcome=outcome,
            refusal_reason=reason,
            channel=channel,
            officer=fetch.officer,
            file_reference=fetch.file_reference,
            score=fetch.score,
            automated_decision=fetch.automated_decision,
            for_subject_id=fetch.for_subject_id,
            product=fetch.product,
        )


@dataclass(frozen=True, slots=True)
class TypeSupply:
    """How a record type comes to the platform.

    Args:
        policy: of the catalogue.
        provider_ids: who may supply it, but for members that supply their own.
        supplied: somebody has, about whomever.
    """

    policy: RecordType
    provider_ids: tuple[str, ...]
    supplied: bool


class TellSupply:
    """Who may supply what, and what is supplied at all.

    Args:
        transactions: opens snapshots.
        catalogue: of record types.
    """

    def __init__(self, transactions: Transactions[Work], catalogue: Catalogue) -> None:
        self._transactions = transactions
        self._catalogue = catalogue

    async def __call__(self) -> list[TypeSupply]:
        """Return each record type, by name."""
        async with self._transactions.read() as work:
            supplied = await work.summaries.supplied_types()
            providers: list[Participant] = []
            while page := await work.participants.page(
                (Role.PROVIDER,), providers[-1].participant_id if providers else "", _PAGE
            ):
                providers += page
        able = [each for each in providers if each.standing is Standing.ACTIVE]
        return [
            TypeSupply(
                policy,
                tuple(
                    each.participant_id
                    for each in able
                    if each.provider_kind in policy.provider_kinds
                ),
                name in supplied or name == ENQUIRY,
            )
            for name, policy in sorted(self._catalogue.types.items())
        ]


class ListAccesses:
    """Who looked at what.

    Args:
        transactions: opens snapshots.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(
        self, caller: Caller, subject_id: str, before: str, page_size: int
    ) -> tuple[Sequence[Recorded], str]:
        """Return a page of accesses, newest first.

        Args:
            caller: a firm sees all accesses to its own data, a bank its own accesses.
            subject_id: a bank may narrow to one subject; "" is all. A firm always gets its own.
            before: the id before which the page begins; "" is the first page.
            page_size: most accesses.

        Returns:
            The accesses, and the id before which the next page begins or "".

        Raises:
            PermissionDeniedError: NOT_YOURS, a firm asks about another subject; or
                MANDATE_REQUIRED.
        """
        recipient_id = caller.participant_id
        async with self._transactions.read() as work:
            mandate = await reading(work.mandates, caller, self._clock.now(), Power.READ)
            if mandate is not None:
                if subject_id not in ("", mandate.subject_id):
                    raise PermissionDeniedError(
                        "NOT_YOURS",
                        "a firm lists the accesses to its own data: leave out subject_id",
                    )
                subject_id, recipient_id = mandate.subject_id, ""
            found = await work.accesses.page(
                subject_id=subject_id,
                recipient_id=recipient_id,
                before=before,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return page, page[-1].access.access_id if len(found) > page_size else ""


def _consent_keys(items: Iterable[Item]) -> list[tuple[str, str]]:
    keys = {(item.fetch.subject_id, item.fetch.consent_id) for item in items}
    return sorted(key for key in keys if key[1])


def _consented_firm(consents: Mapping[tuple[str, str], Consent], fetch: Fetch) -> str:
    """Return the firm whose score the consent that a fetch names is for; empty without one."""
    consent = consents.get((fetch.subject_id, fetch.consent_id))
    return consent.core.terms.for_subject_id if consent is not None else ""


async def _add_enquiries(
    work: Work, scopes: Mapping[int, Scope], found: Mapping[int, list[Found]]
) -> None:
    """Put what the platform itself knows beside what was supplied."""
    places = {
        (index, at): query
        for index, scope in scopes.items()
        for at, query in enumerate(scope.queries)
        if ENQUIRY in query.record_types
    }
    if not places:
        return
    series = await work.enquiries.read(list(places.values()))
    for (index, at), own in zip(places, series, strict=True):
        if own is not None:
            answer = found[index][at]
            found[index][at] = replace(answer, series=(*answer.series, own))


def _few_folds(items: Mapping[int, Item]) -> Iterator[dict[int, Item]]:
    """Cut reads of pasts into parts of a few pasts of subjects each."""
    pasts: dict[tuple[object, ...], dict[int, Item]] = {}
    for index, item in items.items():
        fetch = item.fetch
        # The past of a replay is known only to its transaction.
        past = (fetch.subject_id, fetch.as_of) if fetch.as_of else item.key
        pasts.setdefault(past, {})[index] = item
    groups = list(pasts.values())
    for start in range(0, len(groups), MOST_FOLDS):
        yield {i: item for group in groups[start : start + MOST_FOLDS] for i, item in group.items()}


def _again(item: Item, first: Item, result: Released | PuhuiError) -> Released | PuhuiError:
    """Return the result of an item whose request_id another one of its batch has."""
    key = RequestKey(item.caller.participant_id, item.fetch.request_id, item.fetch.fingerprint)
    try:
        require_same(key, first.fetch.fingerprint)
    except AlreadyExistsError as error:
        return error
    return result
