"""Reads the wire's summary into the plain input of features. The only place that knows both."""

import datetime as dt
from typing import Final

from google.type.date_pb2 import Date

from puhui.datashare.v1 import summaries_pb2
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries

_COVERAGE: Final = {
    summaries_pb2.COVERAGE_STATE_SUPPLIED: Coverage.SUPPLIED,
    summaries_pb2.COVERAGE_STATE_NOT_CONSENTED: Coverage.NOT_CONSENTED,
    summaries_pb2.COVERAGE_STATE_NOT_SUPPLIED: Coverage.NOT_SUPPLIED,
    summaries_pb2.COVERAGE_STATE_NONE_EXISTS: Coverage.NONE_EXISTS,
}


def read_summary(summary: summaries_pb2.SubjectSummary) -> FirmSummary:
    """The plain form of a summary.

    Raises:
        ValueError: a column does not have one value per month, a state of coverage is unknown, or
            a day of the period does not exist.
    """
    series = []
    for each in summary.series:
        months = tuple(each.months)
        columns = {column.name: column.values[:] for column in each.columns}
        for name, values in columns.items():
            if len(values) != len(months):
                raise ValueError(
                    f"{each.record_type}.{name} has {len(values)} values for {len(months)} months: "
                    "the summary is damaged"
                )
        attributes = {attribute.name: attribute.value for attribute in each.attributes}
        series.append(
            SubjectSeries(each.record_type, each.provider_id, months, columns, attributes)
        )
    try:
        coverage = {item.record_type: _COVERAGE[item.state] for item in summary.coverage}
    except KeyError as error:
        raise ValueError(
            f"unknown state of coverage {error}: upgrade scoring, which is older than datashare"
        ) from None
    period = None
    if summary.HasField("period"):
        period = (_day(getattr(summary.period, "from")), _day(summary.period.to))
    return FirmSummary(tuple(series), coverage, period, summary.simulated, summary.withheld)


def _day(day: Date) -> dt.date:
    return dt.date(day.year, day.month, day.day)
