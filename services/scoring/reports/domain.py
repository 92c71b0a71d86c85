"""A credit report as a document: what one access released of a firm, beside the decision on it.

Invariants: a report says what the score's access released and nothing else; the same decision and
release give the same document, to the last byte of its RFC 8785 JSON; pages are made from that
document alone, so what is signed is all that they can show. Money is decimal text in CNY.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from services.scoring.decisions.papers import Entry, Papers, Receipt
from services.scoring.features.domain import FirmSummary
from services.scoring.features.firm import EPOCH, china_day, ordinal
from services.scoring.reports.figures import MONTHS, Figure, Figures, yyyymm
from services.scoring.reports.words import Words

REPORT_VERSION: Final = 1
"""Of the shape of the document; credit-report.schema.json describes it."""
Json = dict[str, Any]
"""A JSON object."""


class Format(StrEnum):
    """What a report is written as: names of ReportFormat without the prefix."""

    JSON = "JSON"
    HTML = "HTML"
    PDF = "PDF"


class Language(StrEnum):
    """Of pages: names of ReportLanguage without the prefix."""

    ZH = "ZH"
    EN = "EN"


@dataclass(frozen=True, slots=True)
class Type:
    """A record type in a report.

    Args:
        title: of it.
        flow: read up to the last month that is over.
        open_: by law, so that no consent's period limits it.
    """

    title: Words
    flow: bool
    open_: bool


@dataclass(frozen=True, slots=True)
class FactSpec:
    """One figure or one code that a report states; content.toml says what each part means."""

    record_type: str
    title: Words
    unit: str
    measure: str = ""
    attribute: str = ""
    fold: str = ""
    join: str = "sum"
    over: str = ""
    beside: str = ""


@dataclass(frozen=True, slots=True)
class LineSpec:
    """One series of a plot."""

    record_type: str
    measure: str
    title: Words
    join: str


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """One plot by month."""

    key: str
    title: Words
    kind: str
    unit: str
    lines: tuple[LineSpec, ...]


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """One section."""

    key: str
    title: Words
    facts: tuple[FactSpec, ...]
    plots: tuple[PlotSpec, ...]
    note: Words | None


@dataclass(frozen=True, slots=True)
class Content:
    """What reports of a release say.

    Args:
        types: record types, in their order.
        figures: those of the first page.
        sections: in their order.
        codes: words of codes, by unit.
        limits: of use.
    """

    types: Mapping[str, Type]
    figures: Mapping[str, FactSpec]
    sections: tuple[SectionSpec, ...]
    codes: Mapping[str, Mapping[str, Words]]
    limits: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class GradeBand:
    """A grade on the scale of a model.

    Args:
        grade: its name.
        pd_from: lowest PD that has it.
        score_from: lowest score that has it; None of the worst grade.
    """

    grade: str
    pd_from: float
    score_from: float | None


@dataclass(frozen=True, slots=True)
class Scale:
    """What a model's scores mean.

    Args:
        outcome: what it predicts, in words.
        grades: best first.
        base: points at `odds`.
        odds: good to bad.
        pdo: points that double the odds.
    """

    outcome: str
    grades: tuple[GradeBand, ...]
    base: float
    odds: float
    pdo: float


@dataclass(frozen=True, slots=True)
class Basis:
    """All that a report is made from.

    Args:
        decision: as it is answered, by the names of the .proto.
        bank_id: who asked.
        names: of the bank and of providers, by id, as far as the directory lists them.
        officer: at the bank.
        file_reference: the bank's file.
        as_of: data known by then.
        summary: what the access released.
        papers: of the access.
        linked_papers: of linked subjects' accesses, by their ids.
        scale: of the model; None when its folder is gone.
    """

    decision: Json
    bank_id: str
    names: Mapping[str, str]
    officer: str
    file_reference: str
    as_of: dt.datetime
    summary: FirmSummary
    papers: Papers
    linked_papers: Mapping[str, Papers]
    scale: Scale | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What signs a document.

    Args:
        digest: SHA-256 of it, in hexadecimal.
        jws: detached, over it.
        key_id: thumbprint of the key.
    """

    digest: str
    jws: str
    key_id: str


def document(basis: Basis, content: Content) -> Json:
    """Return a report as a JSON object."""
    day = china_day(basis.as_of)
    types = content.types.items()
    figures = Figures(
        basis.summary,
        day,
        frozenset(name for name, each in types if each.flow),
        frozenset(name for name, each in types if each.open_),
    )
    period = basis.summary.period
    return {
        "report_version": REPORT_VERSION,
        "names": dict(basis.names),
        "asked_by": {
            "bank_id": basis.bank_id,
            "officer": basis.officer,
            "file_reference": basis.file_reference,
        },
        "as_of": day.isoformat(),
        "period": None
        if period is None
        else {"from": period[0].isoformat(), "to": period[1].isoformat()},
        "simulated_data": basis.summary.simulated,
        "withheld_data": basis.summary.withheld,
        "decision": basis.decision,
        "scale": _scale(basis.scale, claims_pd="pd" in basis.decision),
        "figures": [
            {"name": name, **_fact(spec, figures, content)}
            for name, spec in content.figures.items()
        ],
        "sections": [_section(spec, figures, content) for spec in content.sections],
        "sources": _sources(basis.summary, figures, content),
        "completeness": _completeness(basis, content),
        "receipt": _receipt(basis.papers.receipt),
        "linked_receipts": {
            access_id: _receipt(each.receipt) for access_id, each in basis.linked_papers.items()
        },
        "titles": {name: _words(each.title) for name, each in types},
        "limits": [_words(each) for each in content.limits],
    }


def _scale(scale: Scale | None, *, claims_pd: bool) -> Json | None:
    """Return a scale; of a model that claims no PD the points of its grades alone."""
    if scale is None:
        return None
    return {
        "outcome": scale.outcome,
        "base": scale.base if claims_pd else None,
        "odds": scale.odds if claims_pd else None,
        "pdo": scale.pdo if claims_pd else None,
        "grades": [
            {
                "grade": band.grade,
                "pd_from": band.pd_from if claims_pd else None,
                "score_from": band.score_from,
            }
            for band in scale.grades
        ],
    }


def _section(spec: SectionSpec, figures: Figures, content: Content) -> Json:
    return {
        "name": spec.key,
        "title": _words(spec.title),
        "facts": [_fact(each, figures, content) for each in spec.facts],
        "plots": [_plot(each, figures) for each in spec.plots],
        "note": None if spec.note is None else _words(spec.note),
    }


def _fact(spec: FactSpec, figures: Figures, content: Content) -> Json:
    found = _figure(spec, figures)
    stated: Json = {
        "record_type": spec.record_type,
        "of": spec.attribute or spec.measure,
        "fold": spec.fold,
        "title": _words(spec.title),
        "unit": spec.unit,
        "value": _code(spec, figures, content) if spec.attribute else _value(found, spec, content),
        "missing": found.missing,
        "since": None if found.since is None else yyyymm(found.since),
        "at": None if found.at is None else yyyymm(found.at),
    }
    if spec.beside:
        moved = figures.fold(spec.record_type, spec.measure, spec.beside, spec.join)
        stated["year_on_year"] = _rounded(moved.value)
    return stated


def _figure(spec: FactSpec, figures: Figures) -> Figure:
    if spec.attribute:
        return Figure(None, figures.missing(spec.record_type))
    found = figures.fold(spec.record_type, spec.measure, spec.fold, spec.join)
    if not spec.over or found.value is None:
        return found
    whole = figures.fold(spec.record_type, spec.over, spec.fold, spec.join)
    ratio = found.value / whole.value * 1_000_000 if whole.value else None
    return Figure(ratio, found.missing, found.since, found.at)


def _value(found: Figure, spec: FactSpec, content: Content) -> Any:
    value = found.value
    if value is None:
        return None
    if spec.unit == "cny":
        return money(int(value))
    if spec.unit == "share":
        return _rounded(value / 1_000_000)
    if spec.unit in ("day", "valid_to"):
        return (EPOCH + dt.timedelta(days=int(value))).isoformat() if value else None
    if spec.unit in content.codes:
        return _coded(str(int(value)), content.codes[spec.unit]) if value else None
    return int(value)


def _code(spec: FactSpec, figures: Figures, content: Content) -> Json | None:
    """Return a code with words: of industries those of its section, of districts the province's."""
    code = figures.attribute(spec.record_type, spec.attribute)
    if not code:
        return None
    codes = content.codes.get(spec.attribute, {})
    known = codes.get(code[: _NAMED_BY.get(spec.attribute, len(code))])
    return {"code": code, **(_words(known) if known else {"zh": code, "en": code})}


_NAMED_BY: Final = {"industry": 1, "district": 2}
"""How many of a code's first characters have words."""


def _coded(code: str, codes: Mapping[str, Words]) -> Json:
    words = codes.get(code)
    return {"code": code, **(_words(words) if words else {"zh": code, "en": code})}


def _plot(spec: PlotSpec, figures: Figures) -> Json:
    """Return a plot of the last months, of the lines that have something in them."""
    end = max(figures.last(line.record_type) for line in spec.lines)
    there = []
    for line in spec.lines:
        values = figures.months(line.record_type, line.measure, line.join)
        shown = {month: value for month, value in values.items() if month > end - MONTHS}
        if shown:
            there.append((line, shown))
    months = range(min((min(values) for _, values in there), default=end), end + 1)
    return {
        "name": spec.key,
        "title": _words(spec.title),
        "kind": spec.kind,
        "unit": spec.unit,
        "months": [yyyymm(month) for month in months] if there else [],
        "lines": [
            {
                "record_type": line.record_type,
                "of": line.measure,
                "title": _words(line.title),
                "values": [_plotted(values.get(month), spec.unit) for month in months],
            }
            for line, values in there
        ],
        "record_type": spec.lines[0].record_type,
        "missing": None if there else figures.missing(spec.lines[0].record_type),
    }


def _plotted(value: int | None, unit: str) -> Any:
    return money(value) if unit == "cny" and value is not None else value


def _sources(summary: FirmSummary, figures: Figures, content: Content) -> list[Json]:
    order = {name: at for at, name in enumerate(content.types)}
    rows = sorted(
        summary.series, key=lambda each: (order.get(each.record_type, 99), each.provider_id)
    )
    return [
        {
            "record_type": each.record_type,
            "title": _titled(each.record_type, content),
            "provider_id": each.provider_id,
            "first_month": yyyymm(ordinal(each.months[0])) if each.months else None,
            "last_month": yyyymm(ordinal(each.months[-1])) if each.months else None,
            "months": len(each.months),
        }
        for each in rows
    ]


def _completeness(basis: Basis, content: Content) -> list[Json]:
    by_type: dict[str, list[Entry]] = {}
    for entry in basis.papers.manifest:
        by_type.setdefault(entry.record_type, []).append(entry)
    told = {each["record_type"]: each["state"] for each in basis.decision.get("coverage", ())}
    # What is opened in part counts as withheld in the score, and is there all the same.
    states = {name: str(state) for name, state in basis.summary.coverage.items()}
    named = {*states, *by_type, *(each.record_type for each in basis.summary.series)}
    order = {name: at for at, name in enumerate(content.types)}
    return [
        {
            "record_type": name,
            "title": _titled(name, content),
            "state": states.get(name) or str(basis.summary.coverage_of(name)),
            "in_score": told.get(name, "").removeprefix("COVERAGE_STATE_") or None,
            "providers": [
                {"provider_id": each.provider_id, "completeness": each.completeness}
                for each in by_type.get(name, ())
            ],
        }
        for name in sorted(named, key=lambda name: (order.get(name, len(order)), name))
    ]


def _receipt(receipt: Receipt) -> Json:
    return {
        "leaf_hash": receipt.leaf_hash.hex(),
        "salt": receipt.salt.hex(),
        "content": receipt.content.decode(),
        "promise": receipt.promise,
    }


def _titled(record_type: str, content: Content) -> Json:
    known = content.types.get(record_type)
    return _words(known.title) if known else {"zh": record_type, "en": record_type}


def _words(words: Words) -> Json:
    return {"zh": words.zh, "en": words.en}


def _rounded(value: float | None) -> float | None:
    """A share, to a millionth: as fine as summaries are, and the same wherever it is computed."""
    return None if value is None else round(value, 6)


def money(fen: int) -> str:
    """Return an amount in CNY.

    >>> money(-1234)
    '-12.34'
    """
    return str(Decimal(fen).scaleb(-2))
