"""`puhui model train --from-platform`: every firm that consents, in every cohort."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from puhui.datashare.v1 import accesses_pb2, consents_pb2, summaries_pb2
from services.cli.observing import cohorts_before
from services.scoring.models.folder import read_folder
from services.scoring.training import evidence
from services.scoring.training.cohorts import OutcomeRule
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

FIRMS = 60
TRAIN = ("model", "train", "--from-platform", "--file-ref", "M-1", "--out", "cohorts-1")


def defaulted(number: int) -> bool:
    return number % 3 == 0


def months(first: int, count: int) -> list[int]:
    return [(first + at) // 12 * 100 + (first + at) % 12 + 1 for at in range(count)]


def summary(request: accesses_pb2.FetchSummaryRequest) -> Any:
    """Sales that fell if the firm was to default, and loans that were past due from 2024 on."""
    fetch = request.fetch
    number = int(fetch.subject_id.removeprefix("sub_"))
    if number == FIRMS:
        return refusal("FAILED_PRECONDITION", "CONSENT_EXPIRED")
    answer = accesses_pb2.FetchSummaryResponse(access_id="acc")
    for name in ("vat_invoice", "credit_facility"):
        answer.summary.coverage.add(record_type=name, state=summaries_pb2.COVERAGE_STATE_SUPPLIED)
    sales = answer.summary.series.add(record_type="vat_invoice", provider_id="par_tax")
    sales.months.extend(months(2023 * 12, 12))
    slope = -7 if defaulted(number) else 3
    amounts = [(100 + number + slope * month) * 100_000 for month in range(12)]
    for measure in ("output_net", "output_positive_net"):
        sales.columns.add(name=measure, values=amounts)
    sales.columns.add(name="output_valid", values=[10] * 12)
    loans = answer.summary.series.add(record_type="credit_facility", provider_id="par_lender")
    loans.months.extend(months(2024 * 12, 12))
    late = 45 if number == 1 else 95 if defaulted(number) else 0
    loans.columns.add(name="days_past_due", values=[0] * 6 + [late] * 6)
    return answer


@pytest.fixture
def consenting(platform: FakePlatform) -> FakePlatform:
    """Firms whose consent to training stands, and one to something else."""
    consents = [
        consents_pb2.Consent(
            consent_id=f"con_{number}",
            subject_id=f"sub_{number}",
            terms=consents_pb2.ConsentTerms(purpose="model_training"),
        )
        for number in range(FIRMS + 1)
    ]
    consents.append(
        consents_pb2.Consent(
            consent_id="con_other",
            subject_id="sub_999",
            terms=consents_pb2.ConsentTerms(purpose="credit_application"),
        )
    )
    platform.answer("ListConsents", consents_pb2.ListConsentsResponse(consents=consents))
    platform.answer("FetchSummary", summary)
    return platform


def test_cohorts_are_observed_judged_and_trained_on(
    call: Run, consenting: FakePlatform, tmp_path: Path
) -> None:
    done = call(
        *TRAIN, "--cohort", "2023-12-31", "--cohort", "2023-09-30",
        "--folds", "3", "--repeats", "1", "--budget", "1", "--json",
    )  # fmt: skip  # a command, line by line
    assert done.code == 0, done.err
    document = done.document
    old, new = document["vintages"]
    assert (old["cohort"], new["cohort"]) == ("2023-09-30", "2023-12-31")
    assert new["outcomes"] == {"BAD": 20, "GOOD": 39, "INDETERMINATE": 1}
    assert (new["rate"], new["refused"]) == (20 / 59, 1)
    assert document["refused"] == {"CONSENT_EXPIRED": 3}
    assert (document["rows"], document["events"]) == (118, 40)

    fetches = [each.fetch for each in consenting.requests("FetchSummary")]
    assert {each.purpose for each in fetches} == {"model_training"}
    assert {each.subject_id for each in fetches} == {f"sub_{n}" for n in range(FIRMS + 1)}
    today = [each for each in fetches if not each.HasField("as_of")]
    assert {tuple(each.record_types) for each in today} == {("credit_facility",)}
    then = {each.as_of.ToDatetime().isoformat() for each in fetches if each.HasField("as_of")}
    assert then == {"2023-09-30T15:59:59", "2023-12-31T15:59:59"}

    measured = evidence.load(read_folder(tmp_path / "cohorts-1").training)
    assert "90 days past due" in measured.outcome.definition
    assert measured.sampling.left_out == {"neither good nor bad": 2, "data not released": 2}
    assert measured.sampling.groups == FIRMS - 1
    assert [each.value for each in measured.periods] == [
        "2023Q4"
    ]  # nothing is older than the other


def test_a_cohort_whose_window_is_not_over_is_refused(
    call: Run, consenting: FakePlatform, tmp_path: Path
) -> None:
    day = dt.datetime.now(dt.UTC).date().isoformat()
    refused = call(*TRAIN, "--cohort", day)
    assert refused.code == 2
    assert "is known from" in " ".join(refused.err.split())
    assert consenting.requests("FetchSummary") == []
    assert not (tmp_path / "cohorts-1").exists()


def test_nobody_who_consents_is_said(call: Run, platform: FakePlatform) -> None:
    platform.answer("ListConsents", consents_pb2.ListConsentsResponse())
    refused = call(*TRAIN)
    assert refused.code == 2
    assert "no firm consents to training" in " ".join(refused.err.split())


def test_the_default_cohorts_are_the_last_ripe_quarters() -> None:
    assert cohorts_before(dt.date(2026, 1, 1), OutcomeRule(months=12)) == [
        dt.date(2024, 3, 31),
        dt.date(2024, 6, 30),
        dt.date(2024, 9, 30),
        dt.date(2024, 12, 31),
    ]
    assert cohorts_before(dt.date(2025, 12, 31), OutcomeRule(months=12))[-1] == dt.date(2024, 9, 30)
