"""The features, as data (features.toml) and the functions that compute them.

Invariants: the order of FEATURES is the order of a model's inputs. A feature never raises and is
finite or NaN. Every feature that needs an OPTIONAL source is constrained: `encode` gives what a
firm withheld the most adverse value there is, which only a constrained feature has. So is every
feature of linked subjects, where whatever is missing counts as withheld: who is named is chosen,
and to name somebody of whom nothing is known must not be better than to name nobody.
"""

import dataclasses
import datetime as dt
import functools
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from services.scoring.features import invoices, linked, records
from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary, Relation
from services.scoring.features.firm import OPTIONAL, Firm, lookback

REQUIRED: Final = ("vat_invoice",)
"""Without these there is no score: DATA_INSUFFICIENT."""

WITHHELD: Final = 1e18
"""Beyond any threshold that a tree can have learned from what firms showed."""


ABSENCE: Final = "absence"
"""Unit of the features that say that nothing of a source is supplied. They are there when nothing
else of it is, so that the kinds of missing are inputs of their own; PD may only rise with them, so
that to withhold a source is never better than to have nothing in it."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of a model.

    Args:
        name: stable; never reused for something else.
        group: what a reason speaks about.
        unit: how to read the value; features.toml lists them.
        monotone: direction in which PD may move as it grows: 1, -1 or 0.
        needs: record types that it is computed from.
        zh: title in Chinese.
        en: title in English.
        compute: the value; NaN when it does not exist.
        relation: of the linked subjects that it is about; None is the firm itself.
    """

    name: str
    group: str
    unit: str
    monotone: int
    needs: tuple[str, ...]
    zh: str
    en: str
    compute: Callable[[Firm], float]
    relation: Relation | None = None

    def value(self, summary: FirmSummary, as_of: dt.date) -> float:
        """The value from what is there, whatever its coverage says."""
        return float(self.compute(Firm(summary, as_of)))


def _read(stated: Mapping[str, Mapping[str, Any]]) -> tuple[Feature, ...]:
    compute = {**invoices.COMPUTE, **records.COMPUTE, **linked.COMPUTE}
    if set(stated) != set(compute):
        raise ValueError(
            f"features.toml and the functions differ in {sorted(set(stated) ^ set(compute))}: "
            "add what is missing"
        )
    return tuple(
        Feature(
            name,
            **{**row, "needs": tuple(row["needs"])},
            compute=compute[name],
            relation=linked.RELATION_OF.get(name),
        )
        for name, row in stated.items()
    )


_STATED: Final = tomllib.loads((files(__package__) / "features.toml").read_text("utf-8"))

VERSION: Final[int] = _STATED["version"]
FEATURES: Final = _read(_STATED["features"])
NAMES: Final = tuple(feature.name for feature in FEATURES)
BY_NAME: Final = {feature.name: feature for feature in FEATURES}

_TYPES: Final = tuple(sorted({name for feature in FEATURES for name in feature.needs}))
_NOT_THERE: Final = (Coverage.NOT_CONSENTED, Coverage.NOT_SUPPLIED)


def compute(summary: FirmSummary, as_of: dt.date) -> FeatureVector:
    """All features of a firm.

    A type that does not exist for the firm (NONE_EXISTS) counts as none: zero cases, zero patents.
    A type that is not there gives NaN, with the reason; NOT_CONSENTED goes before NOT_SUPPLIED.
    Coverage is what `as_opened` leaves of it.

    Args:
        summary: what is known of it.
        as_of: the last day that may be seen.

    Returns:
        Values and why those that are missing are missing, in the order of `FEATURES`.
    """
    summary = as_opened(summary, as_of)
    firm = Firm(summary, as_of)
    reasons = _absent(
        tuple(map(summary.coverage_of, _TYPES)), tuple(map(summary.why_no_pd_of, Relation))
    )
    values = tuple(
        math.nan if reason else float(feature.compute(firm))
        for feature, reason in zip(FEATURES, reasons, strict=True)
    )
    missing = tuple(
        Coverage.NONE_EXISTS if reason is None and math.isnan(value) else reason
        for value, reason in zip(values, reasons, strict=True)
    )
    return FeatureVector(values, missing)


def as_opened(summary: FirmSummary, as_of: dt.date) -> FirmSummary:
    """A summary in which an optional source that was not opened far enough counts as withheld.

    Far enough is all months that features look back on: from a shorter period nobody can tell what
    lies outside it, also where nothing lies within.
    """
    first, last = lookback(as_of)
    if summary.period is None or (summary.period[0] <= first and last <= summary.period[1]):
        return summary
    withheld = dict.fromkeys(OPTIONAL, Coverage.NOT_CONSENTED)
    return dataclasses.replace(summary, coverage={**summary.coverage, **withheld})


@functools.lru_cache(1024)
def _absent(
    coverages: Sequence[Coverage], no_pds: Sequence[Coverage | None]
) -> tuple[Coverage | None, ...]:
    """Return for each feature why it is not there.

    Args:
        coverages: of `_TYPES`.
        no_pds: of each relation.
    """
    coverage = dict(zip(_TYPES, coverages, strict=True))
    no_pd = dict(zip(Relation, no_pds, strict=True))
    return tuple(
        no_pd[feature.relation]
        if feature.relation
        else next(
            (
                why
                for why in (_NOT_THERE[:1] if feature.unit == ABSENCE else _NOT_THERE)
                if why in [coverage[name] for name in feature.needs]
            ),
            None,
        )
        for feature in FEATURES
    )


def encode(vector: FeatureVector, features: Sequence[Feature] = FEATURES) -> list[float]:
    """A model's inputs: what is missing stays NaN, except what was withheld.

    A constrained feature that was not consented to takes the value at the end where PD is highest.
    PD never falls towards that end, so whatever was withheld, showing it would not have been worse.
    Training encodes the same way: a model is fitted, under the constraint, to those who withhold.

    Args:
        vector: the features.
        features: what they are.
    """
    return [
        WITHHELD * feature.monotone
        if feature.monotone
        and (reason is Coverage.NOT_CONSENTED or (reason is not None and feature.relation))
        else value
        for feature, value, reason in zip(features, vector.values, vector.missing, strict=True)
    ]


def why_insufficient(summary: FirmSummary) -> Coverage | None:
    """Why no score can be given: what is not consented to goes first; None when one can."""
    states = [summary.coverage_of(record_type) for record_type in insufficient(summary)]
    if not states:
        return None
    withheld = Coverage.NOT_CONSENTED in states
    return Coverage.NOT_CONSENTED if withheld else Coverage.NOT_SUPPLIED


def insufficient(summary: FirmSummary) -> tuple[str, ...]:
    """Required types that are not there; empty when a score can be given."""
    return tuple(
        record_type
        for record_type in REQUIRED
        if summary.coverage_of(record_type) is not Coverage.SUPPLIED
    )
