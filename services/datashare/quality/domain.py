"""Findings: where the records of several sources, or of several subjects, contradict each other.

Invariants:

- A rule is a pure function of what is stored; it rejects nothing and changes nothing.
- A contradiction has a key that does not depend on how large it is, nor on the order in which
  records came in: looking again finds the same one, and `reconcile` makes no second finding of it.
- A finding is open as long as its contradiction holds, and is cleared once, for good; the same
  contradiction later is another finding.
- Months are integers yyyymm, days are counted since 1970-01-01, amounts are fen.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.datashare.china import month_of_day

PPM: Final = 1_000_000
SALES: Final = "vat_invoice"
FILINGS: Final = "tax_filing"
INSURANCE: Final = "social_insurance"
REPORTS: Final = "annual_report"
REGISTRATION: Final = "registration"
GUARANTEE: Final = "guarantee"


class Rule(StrEnum):
    """What a finding says; `rules.toml` has the words and the thresholds."""

    SALES_GAP = "sales_gap"
    HEADCOUNT_GAP = "headcount_gap"
    CANCELLED_BUT_INVOICING = "cancelled_but_invoicing"
    INVOICE_UNDER_TWO_FIRMS = "invoice_under_two_firms"
    JUMP = "jump"
    GUARANTEE_CIRCLE = "guarantee_circle"


OF_ONE_SUBJECT: Final = frozenset(
    {Rule.SALES_GAP, Rule.HEADCOUNT_GAP, Rule.CANCELLED_BUT_INVOICING, Rule.JUMP}
)
"""Rules that look at one subject's records alone."""


@dataclass(frozen=True)
class SalesGap:
    """Thresholds of `sales_gap`.

    Args:
        over_ppm: share of the larger amount by which invoiced sales may exceed declared ones.
        under_ppm: likewise by which declared sales may exceed invoiced ones.
        floor_fen: a gap up to this is none.
    """

    over_ppm: int
    under_ppm: int
    floor_fen: int


@dataclass(frozen=True)
class HeadcountGap:
    """Thresholds of `headcount_gap`.

    Args:
        tolerance_ppm: share of the larger number that they may differ by.
        floor: a gap up to this many persons is none.
    """

    tolerance_ppm: int
    floor: int


@dataclass(frozen=True)
class CancelledButInvoicing:
    """Thresholds of `cancelled_but_invoicing`.

    Args:
        grace_months: whole months after the one of the cancellation that are let pass.
        floor_invoices: fewer are none.
    """

    grace_months: int
    floor_invoices: int


@dataclass(frozen=True)
class InvoiceUnderTwoFirms:
    """Thresholds of `invoice_under_two_firms`.

    Args:
        floor_invoices: fewer that two firms share are none.
        number_alone: characters from which on a number without code names one invoice.
    """

    floor_invoices: int
    number_alone: int


class Watched(NamedTuple):
    """A measure whose jumps are looked for.

    Args:
        record_type: its type.
        measure: its name.
        floor: a distance from the median up to this is no jump, in the measure's unit.
    """

    record_type: str
    measure: str
    floor: int


@dataclass(frozen=True)
class Jump:
    """Thresholds of `jump`.

    Args:
        window: months before a month with which it is compared.
        present: how many of them must have records.
        score_ppm: distance from the median, in millionths of the scaled median absolute deviation.
        ratio: a value is beyond so many times the median, or below that part of it.
        measures: what is watched.
    """

    window: int
    present: int
    score_ppm: int
    ratio: int
    measures: tuple[Watched, ...]


@dataclass(frozen=True)
class GuaranteeCircle:
    """Thresholds of `guarantee_circle`.

    Args:
        floor_members: fewer are no circle; at least 2.
    """

    floor_members: int


@dataclass(frozen=True)
class Words:
    """What a rule is called, means and asks for, in both languages, and why it is so."""

    zh: str
    en: str
    means_zh: str
    means_en: str
    do_zh: str
    do_en: str
    source: str


@dataclass(frozen=True)
class Rules:
    """Every rule's thresholds.

    Args:
        version: grows with every change of a threshold.
        look_back_months: months before the running one that sums are compared in.
        words: by rule.
    """

    version: int
    look_back_months: int
    sales_gap: SalesGap
    headcount_gap: HeadcountGap
    cancelled_but_invoicing: CancelledButInvoicing
    invoice_under_two_firms: InvoiceUnderTwoFirms
    jump: Jump
    guarantee_circle: GuaranteeCircle
    words: Mapping[Rule, Words]


class Summary(NamedTuple):
    """One series, as far as rules look at it.

    Args:
        record_type: its type.
        provider_id: whose.
        columns: by measure, the value of every month that has records.
        hidden_on: the next day on which one of its records is hidden; None is never.
    """

    record_type: str
    provider_id: str
    columns: Mapping[str, Mapping[int, int]]
    hidden_on: int | None = None


class Filing(NamedTuple):
    """A VAT filing.

    Args:
        provider_id: who supplied it.
        first_month: of its period.
        last_month: of its period.
        sales: declared, fen; None where it says none.
    """

    provider_id: str
    first_month: int
    last_month: int
    sales: int | None


class Report(NamedTuple):
    """An annual report.

    Args:
        provider_id: who supplied it.
        year: that it is about.
        headcount: insured persons, or employees where it does not say; None where it says neither.
    """

    provider_id: str
    year: int
    headcount: int | None


class Registered(NamedTuple):
    """A firm's standing in the register from a day on.

    Args:
        provider_id: who supplied it.
        day: from which on.
        ended: the registration is cancelled or revoked.
    """

    provider_id: str
    day: int
    ended: bool


@dataclass(frozen=True)
class View:
    """What is stored about one subject, as far as rules look at it.

    Args:
        subject_id: whose.
        summaries: its series.
        filings: of VAT.
        reports: annual ones, the latest of a year last.
        registrations: in the order of their days.
        hidden_on: the next day on which any record of these is hidden; None is never.
    """

    subject_id: str
    summaries: Sequence[Summary] = ()
    filings: Sequence[Filing] = ()
    reports: Sequence[Report] = ()
    registrations: Sequence[Registered] = ()
    hidden_on: int | None = None


@dataclass(frozen=True)
class Contradiction:
    """What a rule says.

    Args:
        rule: which.
        key: what makes it this one and no other, besides the rule and the subjects.
        subject_id: the first of its subjects.
        others: the others, sorted.
        provider_ids: whose records take part, sorted.
        record_types: of which types they are, sorted.
        first_month: that it is about.
        last_month: that it is about.
        figures: what was compared.
        holds_until: from this day on it says nothing until it is looked at again, because a record
            is hidden or a term is over then; None is without end.
    """

    rule: Rule
    key: tuple[str, ...]
    subject_id: str
    others: tuple[str, ...]
    provider_ids: tuple[str, ...]
    record_types: tuple[str, ...]
    first_month: int
    last_month: int
    figures: Mapping[str, int]
    holds_until: int | None = None

    @property
    def digest(self) -> bytes:
        """The key as 32 bytes."""
        parts = (self.rule, self.subject_id, *self.others, "", *self.key)
        return hashlib.sha256("\0".join(parts).encode()).digest()


@dataclass(frozen=True)
class Finding:
    """A contradiction that was found.

    Args:
        finding_id: its id.
        contradiction: as it is, or was last.
        found_at: when it was found.
        cleared_at: when it no longer held; None while it does.
    """

    finding_id: str
    contradiction: Contradiction
    found_at: datetime
    cleared_at: datetime | None = None


@dataclass(frozen=True)
class Reconciled:
    """What looking again changes.

    Args:
        added: contradictions without an open finding.
        changed: open findings, by id, as they are now.
        cleared: ids of open findings that no longer hold.
        same: ids of open findings that hold as they were.
    """

    added: tuple[Contradiction, ...]
    changed: Mapping[str, Contradiction]
    cleared: tuple[str, ...]
    same: tuple[str, ...]


def reconcile(opened: Iterable[Finding], held: Iterable[Contradiction]) -> Reconciled:
    """Compare the open findings of a scope with the contradictions that hold in it.

    Args:
        opened: every open finding of the scope.
        held: every contradiction that holds in it now.
    """
    now = {contradiction.digest: contradiction for contradiction in held}
    changed = {}
    cleared = []
    same = []
    for finding in opened:
        contradiction = now.pop(finding.contradiction.digest, None)
        if contradiction is None:
            cleared.append(finding.finding_id)
        elif contradiction != finding.contradiction:
            changed[finding.finding_id] = contradiction
        else:
            same.append(finding.finding_id)
    return Reconciled(tuple(now.values()), changed, tuple(cleared), tuple(same))


def judge(view: View, rules: Rules, this_month: int) -> list[Contradiction]:
    """Return the contradictions in one subject's records.

    Args:
        view: what is stored of it.
        rules: the thresholds.
        this_month: the month that is running and not complete yet.
    """
    sums = (
        *sales_gaps(view, rules.sales_gap),
        *headcount_gaps(view, rules.headcount_gap),
        *jumps(view, rules.jump, this_month),
    )
    oldest = _months_later(this_month, -rules.look_back_months)
    held = [contradiction for contradiction in sums if contradiction.first_month >= oldest]
    held += cancelled_but_invoicing(view, rules.cancelled_but_invoicing)
    return [replace(contradiction, holds_until=view.hidden_on) for contradiction in held]


def sales_gaps(view: View, limits: SalesGap) -> Iterable[Contradiction]:
    """Compare invoiced net sales with the VAT sales declared, for each filing period.

    A period counts when it lies within the months of which there are invoices at all, and every
    filing of it states its sales. Several filings of one period add up.
    """
    invoices = _of_type(view, SALES)
    invoiced = _total(invoices, "output_net")
    if not invoiced:
        return
    periods: dict[tuple[int, int], list[Filing]] = {}
    for filing in view.filings:
        periods.setdefault((filing.first_month, filing.last_month), []).append(filing)
    first_known, last_known = min(invoiced), max(invoiced)
    for (first, last), filings in sorted(periods.items()):
        if first < first_known or last > last_known:
            continue
        stated = [filing.sales for filing in filings if filing.sales is not None]
        if len(stated) < len(filings):
            continue
        sales = sum(value for month, value in invoiced.items() if first <= month <= last)
        declared = sum(stated)
        gap = sales - declared
        share = limits.over_ppm if gap > 0 else limits.under_ppm
        larger = max(abs(sales), abs(declared))
        if abs(gap) <= limits.floor_fen or abs(gap) * PPM <= share * larger:
            continue
        yield Contradiction(
            rule=Rule.SALES_GAP,
            key=(str(first), str(last)),
            subject_id=view.subject_id,
            others=(),
            provider_ids=_sorted(
                [filing.provider_id for filing in filings]
                + [summary.provider_id for summary in invoices]
            ),
            record_types=(FILINGS, SALES),
            first_month=first,
            last_month=last,
            figures={
                "invoiced_fen": sales,
                "declared_fen": declared,
                "gap_fen": gap,
                "gap_ppm": abs(gap) * PPM // larger,
            },
        )


def headcount_gaps(view: View, limits: HeadcountGap) -> Iterable[Contradiction]:
    """Compare the insured headcount of December with the annual report of the year.

    The insured of several bureaus add up: a firm may insure its staff in several cities.
    """
    insurers = _of_type(view, INSURANCE)
    insured = _total(insurers, "headcount")
    for report in {report.year: report for report in view.reports}.values():
        december = report.year * 100 + 12
        if report.headcount is None or december not in insured:
            continue
        gap = insured[december] - report.headcount
        larger = max(insured[december], report.headcount)
        if abs(gap) <= limits.floor or abs(gap) * PPM <= limits.tolerance_ppm * larger:
            continue
        yield Contradiction(
            rule=Rule.HEADCOUNT_GAP,
            key=(str(report.year),),
            subject_id=view.subject_id,
            others=(),
            provider_ids=_sorted([report.provider_id, *(s.provider_id for s in insurers)]),
            record_types=(REPORTS, INSURANCE),
            first_month=december,
            last_month=december,
            figures={
                "insured": insured[december],
                "reported": report.headcount,
                "gap": gap,
                "gap_ppm": abs(gap) * PPM // larger,
            },
        )


def cancelled_but_invoicing(view: View, limits: CancelledButInvoicing) -> Iterable[Contradiction]:
    """Look for sales invoices in the months after the registration ended."""
    ended = _ended(view.registrations)
    if ended is None:
        return
    after = _months_later(ended.month, limits.grace_months)
    invoices = 0
    net = 0
    months: set[int] = set()
    suppliers = set()
    for summary in _of_type(view, SALES):
        red = summary.columns.get("output_red", {})
        positive = summary.columns.get("output_positive_net", {})
        for month, valid in summary.columns.get("output_valid", {}).items():
            sold = valid - red.get(month, 0)
            if month > after and sold > 0:
                invoices += sold
                net += positive.get(month, 0)
                months.add(month)
                suppliers.add(summary.provider_id)
    if invoices < limits.floor_invoices or not months:
        return
    yield Contradiction(
        rule=Rule.CANCELLED_BUT_INVOICING,
        key=(),
        subject_id=view.subject_id,
        others=(),
        provider_ids=_sorted([ended.provider_id, *suppliers]),
        record_types=(REGISTRATION, SALES),
        first_month=min(months),
        last_month=max(months),
        figures={"invoices": invoices, "net_fen": net, "ended_month": ended.month},
    )


class _Ended(NamedTuple):
    provider_id: str
    month: int


def _ended(registrations: Sequence[Registered]) -> _Ended | None:
    """Return since when the registration is over, if it is by the latest entry."""
    since = None
    for entry in registrations:
        if not entry.ended:
            since = None
        elif since is None:
            since = entry
    return None if since is None else _Ended(since.provider_id, month_of_day(since.day))


def jumps(view: View, limits: Jump, this_month: int) -> Iterable[Contradiction]:
    """Look for months far from the median of the months before.

    Consecutive months beyond the same side are one: a new level, until it is the median.
    """
    for record_type, measure, floor in limits.measures:
        for summary in _of_type(view, record_type):
            values = summary.columns.get(measure, {})
            for run in _runs(values, limits, floor, this_month):
                first = run[0]
                yield Contradiction(
                    rule=Rule.JUMP,
                    key=(record_type, summary.provider_id, measure, str(first.month), first.side),
                    subject_id=view.subject_id,
                    others=(),
                    provider_ids=(summary.provider_id,),
                    record_types=(record_type,),
                    first_month=first.month,
                    last_month=run[-1].month,
                    figures={
                        measure: first.value,
                        "median": first.median,
                        "deviation": first.deviation,
                        "months": len(run),
                    },
                )


class _Jumped(NamedTuple):
    month: int
    side: str
    value: int
    median: int
    deviation: int


def _runs(
    values: Mapping[int, int], limits: Jump, floor: int, this_month: int
) -> Iterable[list[_Jumped]]:
    run: list[_Jumped] = []
    months = sorted(month for month in values if month < this_month)
    for index, month in enumerate(months):
        begin = bisect_left(months, _months_later(month, -limits.window), 0, index)
        before = [values[earlier] for earlier in months[begin:index]]
        side = ""
        if len(before) >= limits.present:
            median = median_of(before)
            deviation = median_of([abs(value - median) for value in before])
            side = _side(values[month], median, deviation, limits, floor)
            if side:
                if run and run[-1].side != side:
                    yield run
                    run = []
                run.append(_Jumped(month, side, values[month], median, deviation))
        if run and not side:
            yield run
            run = []
    if run:
        yield run


# Of a normal distribution, the standard deviation is so many median absolute deviations.
_SCALE_PPM: Final = 1_482_600


def _side(value: int, median: int, deviation: int, limits: Jump, floor: int) -> str:
    distance = abs(value - median)
    scaled = deviation * _SCALE_PPM * limits.score_ppm
    if median < 0 or distance <= floor or distance * PPM * PPM <= scaled:
        return ""
    if value > median * limits.ratio:
        return "up"
    return "down" if value * limits.ratio < median else ""


def median_of(values: Sequence[int]) -> int:
    """Return the median of at least one number, rounded down."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) // 2


class Shared(NamedTuple):
    """Invoices that two subjects have on the same side.

    Args:
        subject_ids: the two, sorted.
        provider_ids: who supplied them.
        invoices: how many.
        first_month: of the occurrences.
        last_month: of the occurrences.
        hidden_on: the next day on which one of them is hidden; None is never.
    """

    subject_ids: tuple[str, str]
    provider_ids: AbstractSet[str]
    invoices: int
    first_month: int
    last_month: int
    hidden_on: int | None = None


def shared_invoices(
    shared: Iterable[Shared], limits: InvoiceUnderTwoFirms
) -> Iterable[Contradiction]:
    """Return the contradictions of invoices under two firms."""
    for pair in shared:
        if pair.invoices >= limits.floor_invoices:
            first, second = pair.subject_ids
            yield Contradiction(
                rule=Rule.INVOICE_UNDER_TWO_FIRMS,
                key=(),
                subject_id=first,
                others=(second,),
                provider_ids=_sorted(pair.provider_ids),
                record_types=(SALES,),
                first_month=pair.first_month,
                last_month=pair.last_month,
                figures={"invoices": pair.invoices},
                holds_until=pair.hidden_on,
            )


class Edge(NamedTuple):
    """A guarantee in force between two subjects.

    Args:
        guarantor: who answers for
        debtor: whom.
        provider_id: who supplied it.
        amount: secured, fen.
        month: of its occurrence.
        holds_until: from this day on it is over or hidden; None is never.
    """

    guarantor: str
    debtor: str
    provider_id: str
    amount: int
    month: int
    holds_until: int | None = None


def circles(edges: Sequence[Edge], limits: GuaranteeCircle) -> list[Contradiction]:
    """Return the guarantee circles: the strongly connected components of several subjects."""
    graph: dict[str, set[str]] = {}
    for edge in edges:
        graph.setdefault(edge.guarantor, set()).add(edge.debtor)
    member_of = {}
    members: list[list[str]] = []
    for component in components(graph):
        if len(component) >= max(limits.floor_members, 2):
            for subject_id in component:
                member_of[subject_id] = len(members)
            members.append(sorted(component))
    inside: list[list[Edge]] = [[] for _ in members]
    for edge in edges:
        circle = member_of.get(edge.guarantor)
        if circle is not None and circle == member_of.get(edge.debtor):
            inside[circle].append(edge)
    return [
        Contradiction(
            rule=Rule.GUARANTEE_CIRCLE,
            key=(),
            subject_id=subjects[0],
            others=tuple(subjects[1:]),
            provider_ids=_sorted(edge.provider_id for edge in within),
            record_types=(GUARANTEE,),
            first_month=min(edge.month for edge in within),
            last_month=max(edge.month for edge in within),
            figures={
                "members": len(subjects),
                "guarantees": len({(edge.guarantor, edge.debtor) for edge in within}),
                "amount_fen": sum(edge.amount for edge in within),
            },
            holds_until=earliest(edge.holds_until for edge in within),
        )
        for subjects, within in zip(members, inside, strict=True)
    ]


def components(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected components of a directed graph.

    R. Tarjan, Depth-first search and linear graph algorithms (1972), with a stack of its own: a
    chain of guarantees may be longer than Python's.

    Args:
        graph: successors of each node; a node may be a successor only.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: dict[str, None] = {}  # nodes whose component is not known yet, in the order of discovery
    found = []
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        path[root] = None
        work = [(root, iter(graph[root]))]
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    path[successor] = None
                    work.append((successor, iter(graph.get(successor, ()))))
                    break
                if successor in path:
                    low[node] = min(low[node], index[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: list[str] = []
                    while not component or component[-1] != node:
                        component.append(path.popitem()[0])
                    found.append(component)
    return found


def earliest(days: Iterable[int | None]) -> int | None:
    """Return the first of days, None among which is never."""
    return min((day for day in days if day is not None), default=None)


def _of_type(view: View, record_type: str) -> list[Summary]:
    return [summary for summary in view.summaries if summary.record_type == record_type]


def _total(summaries: Iterable[Summary], measure: str) -> dict[int, int]:
    total: dict[int, int] = {}
    for summary in summaries:
        for month, value in summary.columns.get(measure, {}).items():
            total[month] = total.get(month, 0) + value
    return total


def _months_later(month: int, months: int) -> int:
    ordinal = month // 100 * 12 + month % 100 - 1 + months
    return ordinal // 12 * 100 + ordinal % 12 + 1


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(ids)))
