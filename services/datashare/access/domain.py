"""Accesses: what a fetch may read, why it may not, and what is recorded either way.

Invariants:

- Types that are open by law need no consent, but a purpose; every other type needs a consent that
  covers the fetch now. A consent that is named must hold, whatever is asked for.
- A fetch is allowed as it stands or refused, never trimmed.
- Data that is to enter another firm's score is asked for by a purpose of its own, for that firm by
  name, and under a consent that names the same one.
- Every fetch names the officer and the file it is made for; one that does not is refused.
- Of a type of which the consent opens some measures only, a fetch gets those, and is told that the
  type is not consented to: what is not there must not be taken for a zero.
- A provider that the consent leaves out shows as a type that is not consented, though not what its
  records say: leaving it out must not look like having no records there.
- What is kept to its supplier is read by nobody else, and nobody else learns that it is there.
- Summaries are by month: of a period only the months that lie wholly within it are read, so that
  nothing from outside of it is released.
- A check is allowed as the fetch would be, tells which types are there and since when, and uses
  none of the consent's fetches; it is an access of the level PROFILE.
- An access never changes after it was written; its leaf attests every field of it.
"""

from calendar import monthrange
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum

from services.datashare.catalogue.domain import Catalogue, ContentLevel, Purpose, SharingMode
from services.datashare.china import china_date, china_day
from services.datashare.consent.domain import (
    Consent,
    Period,
    Selection,
    Wanted,
    check,
    not_found,
)
from services.datashare.consent.terms import ceiling_lowered
from services.datashare.disputes.domain import Mark
from services.datashare.log.domain import Json, rfc3339
from services.datashare.quota.domain import Limit
from services.datashare.summaries.domain import StoredSeries, SummaryQuery
from services.kit.errors import (
    FailedPreconditionError,
    FieldProblem,
    InvalidArgumentError,
    PuhuiError,
    invalid_field,
)

OPEN_MONTHS = 60
"""How far back a fetch reads that names neither a consent nor a period."""


class Outcome(StrEnum):
    """How an access ended: names of `AccessOutcome` without the prefix."""

    RELEASED = "RELEASED"
    REFUSED = "REFUSED"


class Channel(StrEnum):
    """The service through which the data is used."""

    DATASHARE = "datashare"
    SCORING = "scoring"


class CoverageState(StrEnum):
    """Why a type is there or not: names of the .proto without the prefix."""

    SUPPLIED = "SUPPLIED"
    NOT_CONSENTED = "NOT_CONSENTED"
    NOT_SUPPLIED = "NOT_SUPPLIED"
    NONE_EXISTS = "NONE_EXISTS"


@dataclass(frozen=True, slots=True)
class Fetch:
    """A request for a subject's summary.

    Args:
        request_id: unique for its caller.
        fingerprint: SHA-256 of the request's body.
        subject_id: about whom.
        consent_id: under which consent; empty names none.
        purpose: code of the table of purposes.
        record_types: which types; empty are those of the consent and those open by law.
        period: when the records occurred; None is the consent's.
        as_of: records known by then; None is now.
        officer: the person at the institution.
        file_reference: the institution's file.
        fields: measures and attributes of types; those of a type that is not named are the
            consent's.
        score: a score is made of it.
        automated_decision: a decision is made of it by machine alone.
        for_subject_id: the firm whose score it is for; empty is that of the subject itself.
        product: the bank's product that it is for; may be empty.
        check: only to find out what there is: of the level PROFILE, and no use of the consent.
    """

    request_id: str
    fingerprint: bytes
    subject_id: str
    consent_id: str
    purpose: str
    record_types: tuple[str, ...] = ()
    period: Period | None = None
    as_of: datetime | None = None
    officer: str = ""
    file_reference: str = ""
    fields: tuple[Selection, ...] = ()
    score: bool = False
    automated_decision: bool = False
    for_subject_id: str = ""
    product: str = ""
    check: bool = False

    @property
    def level(self) -> ContentLevel:
        """How much of the data it is told."""
        return ContentLevel.PROFILE if self.check else ContentLevel.SUMMARY


@dataclass(frozen=True, slots=True)
class Scope:
    """What an allowed fetch reads.

    Args:
        record_types: the types asked for.
        consented: the types that the consent opens.
        first_month: yyyymm.
        last_month: yyyymm; before `first_month` when no whole month lies in the period.
        period: the days that are open.
        as_of: records known by then.
        queries: what to read.
        limit: how often the consent may be fetched under; None without a consent.
        opened: measures and attributes by type; a type that is not named is read whole.
        narrowed: those of the types of which the consent opens some measures only.
    """

    record_types: frozenset[str]
    consented: frozenset[str]
    first_month: int
    last_month: int
    period: Period
    as_of: datetime
    queries: tuple[SummaryQuery, ...]
    limit: Limit | None = None
    opened: Mapping[str, frozenset[str]] = field(default_factory=dict)
    narrowed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Access:
    """A release or a refusal, as recorded.

    Args:
        access_id: opaque.
        subject_id: whose data; empty of a refusal about a subject that does not exist.
        recipient_id: who asked.
        request_id: as the recipient named it.
        fingerprint: SHA-256 of the request's body.
        accessed_at: when it was decided.
        as_of: records known by then.
        purpose: as asked.
        record_types: released, or asked for as far as the catalogue has them; of a refusal of what
            named none, the consent's. Ascending.
        content_level: as asked.
        first_month: of what was released, yyyymm; 0 of a refusal. Types that are open by law may
            reach back before the period.
        last_month: likewise.
        consent_id: as named, or empty.
        consent_revision: of the consent that was checked; 0 when there was none, or another's.
        outcome: how it ended.
        refusal_reason: a name of `ErrorReason` without the prefix; empty of a release.
        channel: through which service.
        officer: the person at the institution.
        file_reference: the institution's file.
        score: whether a score is made of it; None of an access of before this was recorded.
        automated_decision: whether a decision is made of it by machine alone; None likewise.
        for_subject_id: the firm whose score it was for; empty when it was the subject's own.
        product: the bank's product that it was for, as the bank named it; may be empty.
    """

    access_id: str
    subject_id: str
    recipient_id: str
    request_id: str
    fingerprint: bytes
    accessed_at: datetime
    as_of: datetime
    purpose: str
    record_types: tuple[str, ...]
    content_level: ContentLevel
    first_month: int
    last_month: int
    consent_id: str
    consent_revision: int
    outcome: Outcome
    refusal_reason: str
    channel: Channel
    officer: str
    file_reference: str
    score: bool | None = None
    automated_decision: bool | None = None
    for_subject_id: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An access as listed.

    Args:
        access: the access.
        recipient_name: as registered now.
        leaf_hash: of its leaf in the log.
    """

    access: Access
    recipient_name: str
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a replay needs to know of the release that it repeats.

    Args:
        access_id: of that release.
        fingerprint: of its request's body.
        as_of: of its data.
    """

    access_id: str
    fingerprint: bytes
    as_of: datetime


class Completeness(StrEnum):
    """Whether all of it is here: names of the .proto without the prefix."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"
    ABSENT = "ABSENT"
    NOT_CONSENTED = "NOT_CONSENTED"


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """Whether all of a provider's records of a type is here.

    Args:
        record_type: the type.
        provider_id: the provider; empty where the entry is about none of those that may be named.
        completeness: whether all of it is here.
    """

    record_type: str
    provider_id: str
    completeness: Completeness


@dataclass(frozen=True, slots=True)
class Sealed:
    """An access with its leaf.

    Args:
        access: the access.
        salt: of the leaf.
        hash: of the leaf.
    """

    access: Access
    salt: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a release.

    Args:
        leaf_hash: SHA-256 of 0x00, salt and content.
        salt: of the leaf.
        content: RFC 8785 canonical JSON of what the leaf attests.
        promise: compact JWS over the leaf's hash and the time by which it is in the log.
    """

    leaf_hash: bytes
    salt: bytes
    content: bytes
    promise: str


@dataclass(frozen=True, slots=True)
class Released:
    """A summary that may be handed over.

    Args:
        access_id: of the access that records it.
        subject_id: whose it is.
        as_of: records known by then are in.
        period: the days that were open.
        series: the summary.
        coverage: why each type is there or not, by type, ascending.
        manifest: whether all is there, by type and provider, ascending.
        receipt: proof that the access is in the log, or will be.
        withheld: something known by then is hidden: repaired, expired or erased.
        disputes: about records that count in it.
    """

    access_id: str
    subject_id: str
    as_of: datetime
    period: Period
    series: tuple[StoredSeries, ...]
    coverage: tuple[tuple[str, CoverageState], ...]
    manifest: tuple[Entry, ...]
    receipt: Receipt
    withheld: bool = False
    disputes: tuple[Mark, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether some of its records come from a simulated source."""
        return any(series.simulated for series in self.series)


class Rules:
    """What the catalogue says about fetches.

    Args:
        catalogue: types and purposes.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._purposes = catalogue.purposes
        self._names = {
            name: frozenset((*kind.attributes, *(measure.name for measure in kind.measures)))
            for name, kind in catalogue.types.items()
        }
        self._ceilings = {code: purpose.max_fetches for code, purpose in catalogue.purposes.items()}
        self._types = tuple(sorted(catalogue.types))
        self._known = frozenset(catalogue.types)
        self._open = frozenset(
            name for name, kind in catalogue.types.items() if kind.sharing_mode is SharingMode.OPEN
        )
        self._complete = frozenset(
            name for name, kind in catalogue.types.items() if kind.complete_register
        )
        self._kept = frozenset(
            name for name, kind in catalogue.types.items() if kind.kept_to_provider
        )

    def product(self, purpose: str) -> str:
        """Return what a recipient has to be licensed for; empty of a purpose that is not known."""
        found = self._purposes.get(purpose)
        return found.product if found else ""

    def known(self, record_types: Collection[str]) -> frozenset[str]:
        """Return those of the names that the catalogue has."""
        return self._known.intersection(record_types)

    def decide(
        self,
        fetch: Fetch,
        recipient_id: str,
        consent: Consent | None,
        now: datetime,
        as_of: datetime,
    ) -> Scope | PuhuiError:
        """Return what a fetch reads, or why it is refused.

        The first reason that applies, in this order: OFFICER_REQUIRED, PURPOSE_UNKNOWN,
        FIELD_INVALID of `for_subject_id`, TYPE_UNKNOWN, DATE_IN_FUTURE, CONSENT_REQUIRED,
        CONSENT_NOT_FOUND, then those of `consent.domain.check`, CONSENT_OVER_CEILING.

        Args:
            fetch: what is asked.
            recipient_id: who asks.
            consent: the one that the fetch names, if there is such a one.
            now: the time at which the consent must hold.
            as_of: records known by then are read.
        """
        problem = self._problem(fetch, now)
        if problem is not None:
            return problem
        if consent is None:
            if fetch.consent_id:
                return not_found()
            return self._open_scope(fetch, recipient_id, as_of, china_day(now))
        terms = consent.core.terms
        consented = frozenset(terms.record_types)
        named = frozenset((*fetch.record_types, *(part.record_type for part in fetch.fields)))
        wanted = Wanted(
            recipient_id=recipient_id,
            subject_id=fetch.subject_id,
            purpose=fetch.purpose,
            record_types=named - self._open,
            content_level=ContentLevel.SUMMARY,
            period=fetch.period,
            fields={
                part.record_type: frozenset(part.names)
                for part in fetch.fields
                if part.record_type not in self._open
            },
            score=fetch.score,
            automated_decision=fetch.automated_decision,
            for_subject_id=fetch.for_subject_id,
        )
        # Whether it is used up is found out by counting, which a replay is not subject to.
        refusal = check(replace(consent, used=0), wanted, now)
        refusal = refusal or ceiling_lowered(consent, self._purposes[fetch.purpose])
        if refusal is not None:
            return refusal
        record_types = frozenset(fetch.record_types) or consented | self._open
        period = fetch.period or terms.data_period
        scope = self._scope(
            fetch,
            recipient_id,
            record_types,
            consented,
            frozenset(terms.provider_ids),
            period,
            as_of,
            china_day(now),
        )
        bound = {name: terms.opened(name) for name in record_types - self._open}
        opened = {name: names for name, names in bound.items() if names is not None}
        return replace(
            scope,
            limit=self._limit(consent),
            opened={**opened, **scope.opened},
            narrowed=frozenset(name for name in opened if not self._names[name] <= opened[name]),
        )

    def _limit(self, consent: Consent) -> Limit | None:
        """Return how often a consent may be fetched under: those of version 1 say nothing of it."""
        terms = consent.core.terms
        if terms.fetch_limit is not None or consent.core.schema_version == 1:
            return terms.fetch_limit
        return self._ceilings[terms.purpose]

    def coverage(
        self,
        scope: Scope,
        present: Collection[str],
        left_out: Collection[str],
        supplied: Collection[str],
    ) -> tuple[tuple[str, CoverageState], ...]:
        """Return why each type is there or not: those asked for and those not consented to.

        Args:
            scope: of the fetch.
            present: the types that were found for it.
            left_out: the types of which providers that the consent does not name have records.
            supplied: the types that some provider supplied to the platform as of then.
        """
        states = []
        for name in self._types:
            if name not in scope.record_types:
                if name not in scope.consented and name not in self._open:
                    states.append((name, CoverageState.NOT_CONSENTED))
            elif name in scope.narrowed or (name in left_out and name not in self._kept):
                states.append((name, CoverageState.NOT_CONSENTED))
            elif name in present:
                states.append((name, CoverageState.SUPPLIED))
            elif name in self._complete and name in supplied:
                states.append((name, CoverageState.NONE_EXISTS))
            else:
                states.append((name, CoverageState.NOT_SUPPLIED))
        return tuple(states)

    def _problem(self, fetch: Fetch, now: datetime) -> PuhuiError | None:
        if not fetch.officer.strip() or not fetch.file_reference.strip():
            return _officer_required(fetch)
        if fetch.purpose not in self._purposes:
            return _invalid("PURPOSE_UNKNOWN", "purpose", "is not in the table of purposes")
        if wrong := _wrong_firm(fetch, self._purposes[fetch.purpose]):
            return _invalid("FIELD_INVALID", "for_subject_id", wrong)
        for index, name in enumerate(fetch.record_types):
            if name not in self._known:
                return _invalid(
                    "TYPE_UNKNOWN",
                    f"record_types[{index}]",
                    "is not in the catalogue: ListRecordTypes names its types",
                )
        if selected := self._selection_problem(fetch):
            return selected
        if fetch.as_of is not None and fetch.as_of > now:
            return _invalid("DATE_IN_FUTURE", "as_of", "lies in the future: leave it out for now")
        if not fetch.consent_id and not self._open.issuperset(fetch.record_types):
            return FailedPreconditionError(
                "CONSENT_REQUIRED",
                "these record types need a consent: name one, or ask for types open by law only",
            )
        return None

    def _selection_problem(self, fetch: Fetch) -> PuhuiError | None:
        seen: set[str] = set()
        for index, part in enumerate(fetch.fields):
            where = f"fields[{index}]"
            if part.record_type in seen:
                problem = "was named before: put all its names in one place"
                return _invalid("FIELD_INVALID", f"{where}.record_type", problem)
            seen.add(part.record_type)
            if part.record_type not in self._known:
                return _invalid(
                    "TYPE_UNKNOWN",
                    f"{where}.record_type",
                    "is not in the catalogue: ListRecordTypes names its types",
                )
            if fetch.record_types and part.record_type not in fetch.record_types:
                problem = "is not among record_types: name it there too"
                return _invalid("FIELD_INVALID", f"{where}.record_type", problem)
            for position, name in enumerate(part.names):
                if name not in self._names[part.record_type]:
                    problem = "is no measure and no attribute of the type: see GetRecordType"
                    return _invalid("FIELD_INVALID", f"{where}.names[{position}]", problem)
        return None

    def _open_scope(self, fetch: Fetch, recipient_id: str, as_of: datetime, today: int) -> Scope:
        record_types = frozenset(fetch.record_types) or self._open
        period = fetch.period or last_months(as_of, OPEN_MONTHS)
        return self._scope(
            fetch, recipient_id, record_types, frozenset(), frozenset(), period, as_of, today
        )

    def _scope(
        self,
        fetch: Fetch,
        recipient_id: str,
        record_types: frozenset[str],
        consented: frozenset[str],
        provider_ids: frozenset[str],
        period: Period,
        as_of: datetime,
        today: int,
    ) -> Scope:
        first, last = whole_months(period)
        # Only what needs the consent is bound to its providers.
        bound = record_types - self._open
        parts = (
            (bound - self._kept, provider_ids),
            (bound & self._kept, provider_ids & {recipient_id}),
            (record_types & self._open, None),
        )
        queries = tuple(
            SummaryQuery(
                fetch.subject_id, tuple(sorted(names)), providers, first, last, as_of, today
            )
            for names, providers in parts
            if names
        )
        opened = {part.record_type: frozenset(part.names) for part in fetch.fields}
        return Scope(record_types, consented, first, last, period, as_of, queries, opened=opened)


def whole_months(period: Period) -> tuple[int, int]:
    """Return the first and last month, yyyymm, that lie wholly in a period."""
    first, last = period.first, period.last
    start = first.year * 12 + first.month - 1 + (first.day > 1)
    end = last.year * 12 + last.month - 1 - (last.day < monthrange(last.year, last.month)[1])
    return _yyyymm(start), _yyyymm(end)


def last_months(at: datetime, count: int) -> Period:
    """Return the days of the months up to that of a time in China, which is in whole."""
    there = china_date(at)
    # Before the year 1 there are no days.
    year, month = divmod(max(there.year * 12 + there.month - count, 12), 12)
    last_day = monthrange(there.year, there.month)[1]
    return Period(date(year, month + 1, 1), there.replace(day=last_day))


def shown(mark: Mark, scope: Scope) -> Mark:
    """Return what a fetch is told of a dispute: without its field, where that one is not opened."""
    if mark.record_type in scope.narrowed and mark.field not in scope.opened[mark.record_type]:
        return replace(mark, field="")
    return mark


def content(access: Access) -> dict[str, Json]:
    """Return what an access's leaf attests: of one of before, without what was not recorded."""
    attested: dict[str, Json] = {
        "access_id": access.access_id,
        "subject_id": access.subject_id,
        "recipient_id": access.recipient_id,
        "request_id": access.request_id,
        "fingerprint": access.fingerprint.hex(),
        "accessed_at": rfc3339(access.accessed_at),
        "as_of": rfc3339(access.as_of),
        "purpose": access.purpose,
        "record_types": access.record_types,
        "content_level": access.content_level.name,
        "first_month": access.first_month,
        "last_month": access.last_month,
        "consent_id": access.consent_id,
        "consent_revision": access.consent_revision,
        "outcome": access.outcome,
        "refusal_reason": access.refusal_reason,
        "channel": access.channel,
        "officer": access.officer,
        "file_reference": access.file_reference,
    }
    if access.score is not None:
        attested["score"] = access.score
        attested["automated_decision"] = access.automated_decision
    if access.for_subject_id:
        attested["for_subject_id"] = access.for_subject_id
    if access.product:
        attested["product"] = access.product
    return attested


def _wrong_firm(fetch: Fetch, purpose: Purpose) -> str:
    """Return what is wrong with the firm whose score the data is for; empty when nothing is."""
    other = fetch.for_subject_id
    if other and not purpose.for_another_firm:
        return "must be empty: this purpose is about the subject alone"
    if purpose.for_another_firm and not other:
        return "is needed for this purpose: name the firm whose score the data is for"
    if other == fetch.subject_id:
        return "is the subject itself: name the other firm whose score the data is for"
    return ""


def _officer_required(fetch: Fetch) -> InvalidArgumentError:
    said = "name who asks and for which of your files, the firm sees both"
    fields = tuple(
        FieldProblem(f"fetch.officer.{field}", problem)
        for field, value, problem in (
            ("name", fetch.officer, "must name the officer who asks"),
            ("file_reference", fetch.file_reference, "must name the file that this is for"),
        )
        if not value.strip()
    )
    return InvalidArgumentError(
        "OFFICER_REQUIRED",
        f"officer.name and officer.file_reference are both needed: {said}",
        fields=fields,
    )


def _yyyymm(months: int) -> int:
    year, month = divmod(months, 12)
    return year * 100 + month + 1


def _invalid(reason: str, field: str, problem: str) -> InvalidArgumentError:
    return invalid_field(reason, f"fetch.{field}", problem, said=field)
