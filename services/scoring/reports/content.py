"""What a report says of a summary: content.toml as plain objects.

Invariants: it names types, measures and words only; what may be read is the consent's to say.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from services.scoring.reports.domain import Content, FactSpec, LineSpec, PlotSpec, SectionSpec, Type
from services.scoring.reports.words import Words


def read(text: str) -> Content:
    """Return the content that a file states.

    Raises:
        TypeError, KeyError: it states something unknown, or leaves something out.
    """
    stated = tomllib.loads(text)
    return Content(
        types={
            name: Type(_words(row), flow=row.get("flow", False), open_=row.get("open", False))
            for name, row in stated["types"].items()
        },
        figures={name: _fact(row) for name, row in stated["figures"].items()},
        sections=tuple(_section(key, row) for key, row in stated["sections"].items()),
        codes={
            unit: {code: _words(row) for code, row in codes.items()}
            for unit, codes in stated["codes"].items()
        },
        limits=tuple(map(_words, stated["limits"])),
    )


def _section(key: str, row: Mapping[str, Any]) -> SectionSpec:
    return SectionSpec(
        key,
        _words(row),
        tuple(map(_fact, row["facts"])),
        tuple(map(_plot, row.get("plots", ()))),
        _words(row["note"]) if "note" in row else None,
    )


def _fact(row: Mapping[str, Any]) -> FactSpec:
    named = {name: value for name, value in row.items() if name not in ("type", "zh", "en")}
    return FactSpec(record_type=row["type"], title=_words(row), **named)


def _plot(row: Mapping[str, Any]) -> PlotSpec:
    lines = tuple(
        LineSpec(line["type"], line["measure"], _words(line), line.get("join", "sum"))
        for line in row["lines"]
    )
    return PlotSpec(row["key"], _words(row), row["kind"], row["unit"], lines)


def _words(row: Mapping[str, Any]) -> Words:
    return Words(row["zh"], row["en"])


CONTENT: Final = read((files(__package__) / "content.toml").read_text("utf-8"))
"""As this release writes reports."""
