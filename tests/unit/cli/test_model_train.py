import json
from pathlib import Path
from typing import Any

import pytest

from puhui.datashare.v1 import accesses_pb2, disputes_pb2, summaries_pb2
from services.scoring.models.folder import read_folder
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

FIRMS = 60


def defaulted(number: int) -> bool:
    return number % 3 == 0


def summary(request: accesses_pb2.FetchSummaryRequest) -> Any:
    """As `real`, with one firm that a simulated source knows."""
    answer = real(request)
    if request.fetch.subject_id == "sub_7":
        answer.summary.simulated = True
    return answer


def real(request: accesses_pb2.FetchSummaryRequest) -> Any:
    """A firm whose sales fell if it defaulted; two refused, one of which nothing is known."""
    fetch = request.fetch
    number = int(fetch.subject_id.removeprefix("sub_"))
    if number >= FIRMS + 1:
        return refusal("FAILED_PRECONDITION", "CONSENT_WITHDRAWN")
    answer = accesses_pb2.FetchSummaryResponse(access_id="acc")
    answer.summary.subject_id = fetch.subject_id
    answer.summary.as_of.CopyFrom(fetch.as_of)
    answer.summary.coverage.add(
        record_type="vat_invoice",
        state=summaries_pb2.COVERAGE_STATE_NOT_SUPPLIED
        if number == FIRMS
        else summaries_pb2.COVERAGE_STATE_SUPPLIED,
    )
    if number < FIRMS:
        series = answer.summary.series.add(record_type="vat_invoice", provider_id="par_tax")
        months = range(12)
        series.months.extend(202301 + month for month in months)
        slope = -7 if defaulted(number) else 3
        sales = [(100 + number + slope * month) * 100_000 for month in months]
        for name in ("output_net", "output_positive_net"):
            series.columns.add(name=name, values=sales)
        series.columns.add(name="output_valid", values=[10] * 12)
    if number < 3:
        state = disputes_pb2.DISPUTE_STATE_UPHELD if number else disputes_pb2.DISPUTE_STATE_OPEN
        answer.summary.disputes.add(dispute_id="dis_1", record_type="vat_invoice", state=state)
    return answer


def write_labels(path: Path, numbers: range) -> Path:
    lines = [f"sub_{n},con_{n},2023-12-31,{int(defaulted(n))}" for n in numbers]
    path.write_text("\n".join(["subject_id,consent_id,as_of,label", *lines]) + "\n")
    return path


def test_train_writes_a_folder_that_can_be_shown(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("FetchSummary", summary)
    write_labels(tmp_path / "labels.csv", range(FIRMS + 3))
    done = call(
        *(
            "model",
            "train",
            "--file-ref",
            "M-1",
            "--labels",
            "labels.csv",
            "--out",
            "models/bank-1",
        ),
        *("--folds", "3", "--repeats", "1", "--json"),
    )
    assert done.code == 0, done.err
    document = done.document
    assert (document["rows"], document["events"], document["insufficient"]) == (60, 20, 1)
    assert document["refused"] == {"CONSENT_WITHDRAWN": 2}
    assert document["disputed"] == 1
    assert document["metrics"]["auc"]["value"] > 0.9
    fetch = platform.requests("FetchSummary")[0].fetch
    assert fetch.purpose == "model_training"
    assert fetch.as_of.ToDatetime().isoformat() == "2023-12-31T15:59:59.999999"

    manifest = read_folder(tmp_path / "models" / "bank-1").manifest
    assert manifest.model_class == document["model_class"] == "SIMULATED"
    assert manifest.data.as_of == "2023-12-31"

    shown = call("model", "show", "models/bank-1", "--json").document
    assert shown["manifest"]["version"] == "bank-1"
    assert "bank-1" in call("model", "show", "models/bank-1").out
    again = call(
        "model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "models/bank-1"
    )
    assert again.code == 2
    assert "a model's version never changes" in " ".join(again.err.split())


def test_data_of_real_sources_make_no_simulated_model(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("FetchSummary", real)
    write_labels(tmp_path / "labels.csv", range(FIRMS))
    train = (
        "model",
        "train",
        "--file-ref",
        "M-1",
        "--labels",
        "labels.csv",
        "--folds",
        "3",
        "--repeats",
        "1",
    )
    done = call(*train, "--out", "bank-1")
    assert done.code == 0, done.err
    assert read_folder(tmp_path / "bank-1").manifest.model_class == "UNVALIDATED"


def test_what_the_bank_declares_is_an_input_behind_the_platform_s(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("FetchSummary", real)
    lines = [
        f"sub_{n},con_{n},2023-12-31,{int(defaulted(n))},{n * 1000 if n else ''},"
        f"{'pledge' if n % 2 else 'none'}"
        for n in range(FIRMS)
    ]
    head = "subject_id,consent_id,as_of,label,declared.requested_amount,declared.security"
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]) + "\n")
    train = ("model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "declared-1")
    done = call(*train, "--folds", "3", "--repeats", "1")
    assert done.code == 0, done.err
    amount, security = read_folder(tmp_path / "declared-1").manifest.features[-2:]
    assert (amount.name, amount.source, amount.categories) == ("requested_amount", "DECLARED", ())
    assert (security.name, security.source) == ("security", "DECLARED")
    assert security.categories == ("none", "pledge")
    assert amount.group == security.group == "declared"


def test_too_few_outcomes_make_no_model(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    platform.answer("FetchSummary", summary)
    write_labels(tmp_path / "labels.csv", range(6))
    done = call(
        "model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "m", "--json"
    )
    assert done.code == 1
    assert json.loads(done.out)["error"]["reason"] == "TRAINING_REFUSED"
    assert (
        "gather at least"
        in call("model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "m").err
    )
    assert not (tmp_path / "m").exists()


def test_a_role_that_may_not_is_told(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    platform.answer("FetchSummary", refusal("UNAUTHENTICATED", "CREDENTIALS_INVALID"))
    write_labels(tmp_path / "labels.csv", range(6))
    done = call("model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "m")
    assert done.code == 1
    assert "CREDENTIALS_INVALID" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject_id,label\n", "the columns as_of, consent_id are missing"),
        ("subject_id,consent_id,as_of,label\ns,c,2023-12-31,yes\n", "line 2: label is neither"),
        ("subject_id,consent_id,as_of,label\ns,,2023-12-31,1\n", "line 2: subject_id or consent"),
        ("subject_id,consent_id,as_of,label\ns,c,soon,1\n", "line 2: as_of: not a time"),
        ("subject_id,consent_id,label,as_of\ns,c,1\n", "line 2: as_of: not a time"),
        ("subject_id,consent_id,as_of,label\ns\n", "line 2: label is neither"),
        (
            "subject_id,consent_id,as_of,label\n\udcd6\udcd0,c,2023-12-31,1\n",
            "not UTF-8: convert it",
        ),
    ],
)
def test_labels_that_cannot_be_read(call: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = call("model", "train", "--file-ref", "M-1", "--labels", "labels.csv", "--out", "m")
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_a_folder_that_was_changed(call: Run, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "manifest.json").write_text("{}")
    done = call("model", "show", "m")
    assert done.code == 2
    assert "restore the folder" in " ".join(done.err.split())
