"""`puhui quality`."""

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from puhui.datashare.v1 import quality_pb2
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

WHEN = Timestamp(seconds=1717200000)
DAYS = {"from": Date(year=2024, month=5, day=1), "to": Date(year=2024, month=5, day=31)}
REPORT = quality_pb2.GetQualityReportResponse(
    **DAYS,
    types=[
        quality_pb2.TypeQuality(
            provider_id="par_tax",
            record_type="vat_invoice",
            received=1200,
            accepted=1100,
            rejects=[
                quality_pb2.RejectCount(reason="AMOUNT_INVALID", rows=60),
                quality_pb2.RejectCount(reason="USCC_MALFORMED", rows=40),
            ],
            lateness_p50_days=3,
            lateness_p95_days=17,
            missing=[
                quality_pb2.MissingField(field="code", missing=275, records=1100),
                quality_pb2.MissingField(field="counterparty", missing=0, records=1100),
            ],
            last_arrival=WHEN,
            last_month=202405,
            findings=[
                quality_pb2.FindingCount(rule="sales_gap", findings=2),
                quality_pb2.FindingCount(rule="jump", findings=5),
            ],
        ),
        quality_pb2.TypeQuality(provider_id="par_tax", record_type=""),
    ],
    inspected_until=WHEN,
)
CIRCLE = quality_pb2.Finding(
    finding_id="fnd_2",
    rule="guarantee_circle",
    subject_id="sub_1",
    other_subject_ids=[f"sub_{number}" for number in range(2, 8)],
    provider_ids=["par_lender"],
    first_month=202401,
    last_month=202403,
    figures={"members": 7, "amount_fen": 7_000_000_00},
    found_at=WHEN,
)


def test_report(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetQualityReport", REPORT)
    asked = ("quality", "report", "--from", "2024-05-01", "--to", "2024-05-31")
    shown = call(*asked, "--provider", "par_tax")
    text = " ".join(shown.out.split())
    for part in ("2024-05-01 to 2024-05-31", "1,200", "100", "2024-05", "7", "(no type)"):
        assert part in text
    assert "AMOUNT_INVALID 60" in text
    assert "code 275 1,100 25.0" in text
    assert "counterparty" not in text  # nothing of it is missing
    assert "until 2024-06-01" in shown.err
    document = call(*asked, "--json").document
    assert document["types"][0]["missing"][1] == {
        "field": "counterparty",
        "missing": "0",
        "records": "1100",
    }
    request, other = platform.requests("GetQualityReport")
    assert (request.provider_id, other.provider_id) == ("par_tax", "")
    assert getattr(request, "from") == DAYS["from"]
    assert request.to == DAYS["to"]


def test_report_of_the_usual_days(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetQualityReport", quality_pb2.GetQualityReportResponse(**DAYS))
    assert "not yet" in call("quality", "report").err
    (request,) = platform.requests("GetQualityReport")
    assert not request.HasField("from")
    assert not request.HasField("to")


def test_days_in_the_wrong_order(call: Run, platform: FakePlatform) -> None:
    outcome = call("quality", "report", "--from", "2024-05-02", "--to", "2024-05-01")
    assert outcome.code == 2
    assert not platform.requests("GetQualityReport")


def test_findings_go_over_pages(call: Run, platform: FakePlatform) -> None:
    gap = quality_pb2.Finding(
        finding_id="fnd_1",
        rule="sales_gap",
        subject_id="sub_9",
        first_month=202405,
        last_month=202405,
        figures={"gap_ppm": 764_346},
    )
    pages = (
        quality_pb2.ListFindingsResponse(findings=[CIRCLE], next_page_token="more"),
        quality_pb2.ListFindingsResponse(findings=[gap]),
    )
    platform.answer("ListFindings", *pages, *pages)
    shown = " ".join(call("quality", "findings", "--cleared", "--rule", "x").out.split())
    # Cells are broken between words.
    for part in (
        "2 findings",
        "sub_1 sub_2",
        "and 3",
        "2024-01 to",
        "7,000,000.00 yuan",
        "members 7",
        "76.4 %",
    ):
        assert part in shown
    assert "sub_5" not in shown
    first, second = platform.requests("ListFindings")
    assert (first.rule, first.cleared, first.page_token, second.page_token) == (
        "x",
        True,
        "",
        "more",
    )
    document = call("quality", "findings", "--limit", "1", "--json").document
    assert [item["finding_id"] for item in document["findings"]] == ["fnd_2"]


def test_what_is_another_ones_is_refused(call: Run, platform: FakePlatform) -> None:
    platform.answer("ListFindings", refusal("PERMISSION_DENIED", "NOT_YOURS"))
    outcome = call("quality", "findings", "--provider", "par_other")
    assert outcome.code == 1
    assert "NOT_YOURS" in outcome.err
