"""The wire's summary becomes the plain input of features."""

import datetime as dt

import pytest
from google.type.date_pb2 import Date

from puhui.datashare.v1 import summaries_pb2 as pb
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.reader import read_summary


def test_everything_that_features_use_comes_over() -> None:
    wire = pb.SubjectSummary(
        series=[
            pb.Series(
                record_type="court_case",
                provider_id="court",
                months=[202401, 202403],
                columns=[pb.Column(name="defendant", values=[1, 2])],
                attributes=[pb.Attribute(name="stage", value="closed")],
            )
        ],
        coverage=[
            pb.Coverage(record_type="court_case", state=pb.COVERAGE_STATE_SUPPLIED),
            pb.Coverage(record_type="tax_filing", state=pb.COVERAGE_STATE_NOT_CONSENTED),
            pb.Coverage(record_type="grant", state=pb.COVERAGE_STATE_NONE_EXISTS),
            pb.Coverage(record_type="ip_right", state=pb.COVERAGE_STATE_NOT_SUPPLIED),
        ],
    )
    read = read_summary(wire)
    assert read.series == (
        SubjectSeries(
            "court_case", "court", (202401, 202403), {"defendant": [1, 2]}, {"stage": "closed"}
        ),
    )
    assert read.coverage == {
        "court_case": Coverage.SUPPLIED,
        "tax_filing": Coverage.NOT_CONSENTED,
        "grant": Coverage.NONE_EXISTS,
        "ip_right": Coverage.NOT_SUPPLIED,
    }


def test_that_something_was_withheld_comes_over() -> None:
    assert read_summary(pb.SubjectSummary(withheld=True)).withheld
    assert not read_summary(pb.SubjectSummary()).withheld


def test_the_period_and_whether_a_source_is_simulated_come_over() -> None:
    wire = pb.SubjectSummary(simulated=True)
    assert read_summary(wire) == FirmSummary((), {}, None, True)
    getattr(wire.period, "from").CopyFrom(Date(year=2021, month=6, day=1))
    wire.period.to.CopyFrom(Date(year=2024, month=5, day=31))
    assert read_summary(wire).period == (dt.date(2021, 6, 1), dt.date(2024, 5, 31))


def test_a_day_that_does_not_exist_is_refused() -> None:
    wire = pb.SubjectSummary()
    getattr(wire.period, "from").CopyFrom(Date(year=2021, month=6, day=1))
    wire.period.to.CopyFrom(Date(year=2024, month=2, day=30))
    with pytest.raises(ValueError, match="day"):
        read_summary(wire)


def test_a_column_of_another_length_is_refused() -> None:
    wire = pb.SubjectSummary(
        series=[pb.Series(record_type="grant", months=[202401], columns=[pb.Column(name="grants")])]
    )
    with pytest.raises(ValueError, match=r"grant\.grants has 0 values for 1 months"):
        read_summary(wire)


def test_an_unknown_state_of_coverage_is_refused() -> None:
    wire = pb.SubjectSummary(coverage=[pb.Coverage(record_type="grant")])
    with pytest.raises(ValueError, match="unknown state of coverage"):
        read_summary(wire)
