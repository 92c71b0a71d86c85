"""The input of features, without any wire format: a firm's monthly series and what is missing.

Invariants: months are yyyymm and ascend; every column has one integer per month, in the unit that
the catalogue gives it; a type that is not SUPPLIED has no series.
"""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Coverage(enum.StrEnum):
    """Why a record type is there or not. The kinds of missing are different inputs."""

    SUPPLIED = "SUPPLIED"
    NOT_CONSENTED = "NOT_CONSENTED"
    NOT_SUPPLIED = "NOT_SUPPLIED"
    NONE_EXISTS = "NONE_EXISTS"


class Relation(enum.StrEnum):
    """What a linked subject is to the firm that is scored."""

    OWNER = "OWNER"
    GUARANTOR = "GUARANTOR"
    BUYER = "BUYER"


@dataclass(frozen=True, slots=True)
class SubjectSeries:
    """What one provider's records of one type say, by month.

    Args:
        record_type: name of the type in the catalogue.
        provider_id: whose records.
        months: yyyymm, ascending.
        columns: measure -> one integer per month.
        attributes: latest values of code-like fields.
    """

    record_type: str
    provider_id: str
    months: tuple[int, ...]
    columns: Mapping[str, Sequence[int]]
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FirmSummary:
    """All that a model may know of a firm.

    Args:
        series: at most one per record type and provider.
        coverage: record type -> whether it is there; a type without an entry is SUPPLIED when it
            has a series, else NOT_SUPPLIED.
        period: first and last day of occurrence that were opened; None is without limit.
        simulated: some of it comes from a simulated source.
        withheld: something known by then is hidden by law; it is in nothing else here.
        linked: of each relation of which somebody is named, what `linked.worst` leaves: the PD, or
            why there is none.
    """

    series: tuple[SubjectSeries, ...]
    coverage: Mapping[str, Coverage]
    period: tuple[dt.date, dt.date] | None = None
    simulated: bool = False
    withheld: bool = False
    linked: Mapping[Relation, float | Coverage] = field(default_factory=dict)

    def coverage_of(self, record_type: str) -> Coverage:
        """Whether and why not a record type is there."""
        stated = self.coverage.get(record_type)
        if stated is not None:
            return stated
        present = any(series.record_type == record_type for series in self.series)
        return Coverage.SUPPLIED if present else Coverage.NOT_SUPPLIED

    def why_no_pd_of(self, relation: Relation) -> Coverage | None:
        """Why no linked subject's PD is there; None when one is.

        Where nobody is named, nobody consented.
        """
        shown = self.linked.get(relation, Coverage.NOT_CONSENTED)
        return shown if isinstance(shown, Coverage) else None


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The features of one firm, in the order of the registry.

    Args:
        values: NaN where missing.
        missing: why, by feature; None where there is a value. A quantity that does not exist in
            data which is there (a share of no sales) is NONE_EXISTS.
    """

    values: tuple[float, ...]
    missing: tuple[Coverage | None, ...]
