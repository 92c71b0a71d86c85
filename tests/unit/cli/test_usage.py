"""`puhui usage` and `puhui incident` against the platform's side."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from python_calamine import CalamineWorkbook

from puhui.datashare.v1 import incidents_pb2, metering_pb2
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run

SCORE = "puhui.scoring.v1.ScoringService/Score"
FORMULA = "=1+1"
"""A cell that a table program must not work out."""


def read(path: Path) -> list[dict[str, object]]:
    """Return the rows of a table, each cell as its file types it."""
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return [
                    {key: int(cell) if cell.isdigit() else cell for key, cell in row.items()}
                    for row in csv.DictReader(file)
                ]
        case ".xlsx":
            header, *rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
            return [dict(zip(map(str, header), row, strict=True)) for row in rows]
        case _:
            return [dict(row) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def used(platform: FakePlatform) -> FakePlatform:
    platform.answer(
        "ListUsage",
        metering_pb2.ListUsageResponse(
            usages=[
                metering_pb2.Usage(
                    participant_id="par_1",
                    product="credit_reporting",
                    method=SCORE,
                    served=7,
                    refused=2,
                    response_bytes=5_000_000_000,
                    day=Date(year=2026, month=11, day=1),
                ),
                metering_pb2.Usage(participant_id=FORMULA, method=SCORE, failed=1),
            ]
        ),
    )
    return platform


@pytest.mark.parametrize("name", ["usage.csv", "usage.xlsx", "usage.parquet"])
def test_usage_of_a_month_as_a_table(
    call: Run, used: FakePlatform, tmp_path: Path, name: str
) -> None:
    exported = call("usage", "export", "--month", "2026-11", "--out", name, "--json")
    assert exported.document == {"file": name, "month": "2026-11", "rows": 2}
    asked = used.requests("ListUsage")[0].month
    assert (asked.year, asked.month) == (2026, 11)
    first, second = read(tmp_path / name)
    assert first == {
        "month": "2026-11",
        "participant_id": "par_1",
        "product": "credit_reporting",
        "method": SCORE,
        "served": 7,
        "refused": 2,
        "failed": 0,
        "request_bytes": 0,
        "response_bytes": 5_000_000_000,
    }
    assert (second["participant_id"], second["product"]) == (FORMULA, "")
    again = call("usage", "export", "--month", "2026-11", "--out", name)
    assert again.code == 2
    assert "is there already" in again.err


@pytest.mark.parametrize("name", ["shares.csv", "shares.xlsx", "shares.parquet"])
def test_contributions_of_a_month_as_a_table(
    call: Run, platform: FakePlatform, tmp_path: Path, name: str
) -> None:
    contribution = metering_pb2.Contribution(
        provider_id="par_tax", record_type="vat_invoice", accepted=9, subjects=3, uses=2
    )
    platform.answer(
        "ListContributions", metering_pb2.ListContributionsResponse(contributions=[contribution])
    )
    call("usage", "export", "--month", "2026-11", "--contributions", "--out", name)
    assert read(tmp_path / name) == [
        {
            "month": "2026-11",
            "provider_id": "par_tax",
            "record_type": "vat_invoice",
            "accepted": 9,
            "subjects": 3,
            "uses": 2,
            "recipients": 0,
        }
    ]


@pytest.mark.parametrize("name", ["usage.xlsx", "usage.parquet"])
def test_a_month_without_usage_is_an_empty_table(
    call: Run, platform: FakePlatform, tmp_path: Path, name: str
) -> None:
    platform.answer("ListUsage", metering_pb2.ListUsageResponse())
    call("usage", "export", "--month", "2026-11", "--out", name)
    assert read(tmp_path / name) == []


def test_what_cannot_be_exported_is_refused_before_anything_is_asked(
    call: Run, used: FakePlatform
) -> None:
    for arguments, why in (
        (("--month", "2026-13", "--out", "a.csv"), "should be a month"),
        (("--month", "2026-11", "--out", "a.xls"), "should end in"),
    ):
        refused = call("usage", "export", *arguments)
        assert refused.code == 2
        assert why in refused.err
    assert used.requests("ListUsage") == []


INCIDENT = incidents_pb2.Incident(
    incident_id="inc_1",
    rule="refused_calls",
    severity=incidents_pb2.INCIDENT_SEVERITY_GRAVE,
    state=incidents_pb2.INCIDENT_STATE_TAKEN,
    participant_id="par_1",
    opened_at=Timestamp(seconds=1_800_000_000),
    summary_zh="调用连续被拒绝",
    summary_en="Calls refused in a row",
    access_ids=["acc_1", "acc_2"],
    handling=[
        incidents_pb2.HandlingStep(
            at=Timestamp(seconds=1_800_000_060),
            by_person_id="per_li",
            note="Called them.",
            state=incidents_pb2.INCIDENT_STATE_TAKEN,
            reference="2026-7",
        )
    ],
)


def test_incidents_are_listed_and_shown(call: Run, platform: FakePlatform) -> None:
    platform.answer("ListIncidents", incidents_pb2.ListIncidentsResponse(incidents=[INCIDENT]))
    platform.answer("GetIncident", incidents_pb2.GetIncidentResponse(incident=INCIDENT))
    listed = call("incident", "list", "--state", "taken", "--participant", "par_1").out
    for part in ("1 incident", "inc_1", "grave", "taken", "refused_calls", "par_1"):
        assert part in listed
    (asked,) = platform.requests("ListIncidents")
    assert (asked.state, asked.participant_id) == (incidents_pb2.INCIDENT_STATE_TAKEN, "par_1")
    shown = call("incident", "show", "inc_1").out
    for part in ("Calls refused in a row", "2 accesses", "Called them.", "per_li", "2026-7"):
        assert part in shown
    assert call("incident", "show", "inc_1", "--json").document["rule"] == "refused_calls"


def test_the_operator_enters_and_handles_an_incident(call: Run, platform: FakePlatform) -> None:
    platform.answer("OpenIncident", incidents_pb2.OpenIncidentResponse(incident=INCIDENT))
    platform.answer("HandleIncident", incidents_pb2.HandleIncidentResponse(incident=INCIDENT))
    nothing = call("incident", "open", "grave")
    assert nothing.code == 2
    assert "--summary" in nothing.err
    words = ("--summary", "Key leaked.", "--access", "acc_1", "--access", "acc_2")
    call("incident", "open", "grave", "--participant", "par_1", *words)
    (entered,) = platform.requests("OpenIncident")
    assert entered.severity == incidents_pb2.INCIDENT_SEVERITY_GRAVE
    assert (entered.participant_id, list(entered.access_ids)) == ("par_1", ["acc_1", "acc_2"])
    call("incident", "handle", "inc_1", "Told them.", "--state", "closed", "--share")
    (handled,) = platform.requests("HandleIncident")
    assert (handled.incident_id, handled.note, handled.share) == ("inc_1", "Told them.", True)
    assert handled.state == incidents_pb2.INCIDENT_STATE_CLOSED


def test_rules_of_the_watch_are_listed(call: Run, platform: FakePlatform) -> None:
    rule = incidents_pb2.WatchRule(
        rule="volume_past",
        severity=incidents_pb2.INCIDENT_SEVERITY_WARNING,
        zh="访问量异常",
        en="More than usual",
        threshold=3,
        window_seconds=3600,
    )
    platform.answer("ListWatchRules", incidents_pb2.ListWatchRulesResponse(rules=[rule]))
    shown = call("incident", "rules").out
    for part in ("1 rule", "volume_past", "warning", "More than usual", "3", "1 h"):
        assert part in shown
