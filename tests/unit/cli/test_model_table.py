import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.scoring.models.folder import read_folder
from services.scoring.training import evidence
from services.scoring.training.spec import parse_spec
from tests.fakes import tables
from tests.unit.cli.conftest import Run

SPEC = """
label = "loan_status"
positive = "Charged Off"
time = "issue_d"
weight = "sample_weight"
[monotone]
int_rate = 1
[groups]
ability = ["annual_inc", "dti"]
[reasons]
ability = { zh = "偿债能力", en = "Ability to pay" }
int_rate = { zh = "利率", en = "Interest rate" }
[outcome]
definition = "charged off within the loan's term"
"""


@dataclass(frozen=True)
class Trained:
    """A model of a table.

    Args:
        folder: where it is.
        table: of its training.
        document: that the command printed.
    """

    folder: Path
    table: Path
    document: Any


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    room = tmp_path_factory.mktemp("trained")
    table = tables.write_csv(room / "loans.csv", tables.platform_loans(500))
    (room / "spec.toml").write_text(SPEC, "utf-8")
    arguments = ["model", "train", str(table), "--spec", str(room / "spec.toml")]
    arguments += ["--out", str(room / "models/loans-1"), "--json"]
    arguments += ["--folds", "2", "--repeats", "1", "--budget", "1"]
    before = dict(os.environ)
    os.environ["XDG_CONFIG_HOME"] = str(room / "config")
    try:
        done = CliRunner().invoke(app, arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert done.exit_code == 0, done.output
    yield Trained(room / "models/loans-1", table, json.loads(done.stdout))
    shutil.rmtree(room)


def test_training_says_what_was_inferred_found_and_measured(trained: Trained) -> None:
    document = trained.document
    assert document["rows"] == 500
    assert document["model_class"] == "UNVALIDATED"
    refused = {f["column"] for f in document["findings"] if f["refused"]}
    assert refused == {"id", "total_pymnt", "recoveries", "hardship_flag"}
    assert {c["role"] for c in document["columns"] if c["name"] == "issue_d"} == {"time"}
    assert document["metrics"]["auc"]["low"] < document["metrics"]["auc"]["value"]
    assert len(document["baselines"]) == 2
    assert document["protocol"]["kind"] == "out_of_time"


def test_what_was_inferred_and_found_is_on_record(trained: Trained) -> None:
    folder = read_folder(trained.folder)
    measured = evidence.load(folder.training)
    assert measured.outcome.definition == "charged off within the loan's term"
    assert measured.sampling.weighted
    assert measured.sampling.prior == pytest.approx(0.2)
    assert {f.column for f in measured.findings if f.refused} >= {"recoveries"}
    assert parse_spec(measured.spec).groups == {"ability": ("annual_inc", "dti")}
    assert "lightgbm" in measured.environment
    by_name = {feature.name: feature for feature in folder.manifest.features}
    assert by_name["int_rate"].monotone == 1
    assert by_name["dti"].group == "ability"
    assert folder.manifest.words["ability"].zh == "偿债能力"
    assert "total_pymnt" in folder.card


def test_scores_are_the_tables_rows_in_its_order(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    done = run("model", "score", str(trained.folder), str(trained.table), "--out", "s.parquet")
    assert done.code == 0, done.err
    found = pq.read_table(tmp_path / "s.parquet")
    assert found.column_names[:7] == [
        "pd", "score", "grade", "reason_1", "reason_2", "reason_3", "reason_4",
    ]  # fmt: skip  # a table, line by line
    assert found.column_names[7:] == ["pd_low", "pd_high", "refer"]
    assert len(found) == 500
    rates = pacsv.read_csv(trained.table)["int_rate"].to_pylist()
    order = sorted(range(500), key=lambda at: float(rates[at].rstrip("%")))
    pds = found["pd"].to_pylist()
    low, high = (sum(pds[at] for at in part) for part in (order[:100], order[-100:]))
    assert low < high / 2
    assert all(
        low <= pd <= high
        for low, pd, high in zip(
            *(found[c].to_pylist() for c in ("pd_low", "pd", "pd_high")), strict=True
        )
    )
    reasons = [text for text in found["reason_1"].to_pylist() if text]
    assert any(text.startswith("Interest rate lowers the score by ") for text in reasons)
    assert any(text.endswith("%)") for text in reasons)


def test_scores_need_no_label_nor_other_columns_and_may_be_csv_in_chinese(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    table = pacsv.read_csv(trained.table)
    kept = table.select(["dti", "term", "annual_inc", "int_rate", "purpose", "emp_length"])
    pq.write_table(kept.append_column("new", pa.array(range(500))), "t.parquet")
    done = run("model", "score", str(trained.folder), "t.parquet", "--out", "s.csv", "--lang", "zh")
    assert done.code == 0, done.err
    run("model", "score", str(trained.folder), str(trained.table), "--out", "s.parquet")
    found = pacsv.read_csv(tmp_path / "s.csv")
    assert found["pd"].to_pylist() == pq.read_table("s.parquet")["pd"].to_pylist()
    assert "利率使评分" in (found["reason_1"][0].as_py() + (found["reason_2"][0].as_py() or ""))


def test_what_scoring_cannot_read_is_counted_and_told(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    table = pacsv.read_csv(trained.table).slice(0, 3)
    at = table.column_names.index("purpose")
    table = table.set_column(at, "purpose", pa.array(["yacht", "car", "car"]))
    at = table.column_names.index("dti")
    table = table.set_column(at, "dti", pa.array(["high", "", "12"]))
    pacsv.write_csv(table, "t.csv")
    done = run("model", "score", str(trained.folder), "t.csv", "--out", "s.csv", "--json")
    assert (done.document["rows"], done.document["unread"]) == (3, {"dti": 1})
    assert done.document["unseen"]["purpose"] == 1
    shown = run("model", "score", str(trained.folder), "t.csv", "--out", "s2.csv").out
    assert "1 cells, which count as missing" in shown  # training knew all purposes


def test_a_table_that_cannot_be_scored_says_why_and_leaves_no_file(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    table = pacsv.read_csv(trained.table).drop_columns(["dti"])
    pacsv.write_csv(table, "t.csv")
    for name, content, said in (
        ("t.csv", None, "the table lacks 1 column that loans-1 was trained on: dti"),
        ("bad.csv", trained.table.read_bytes() + b"1,2\n", "Expected 13 columns, got 2"),
        ("none.csv", trained.table.read_bytes().split(b"\n")[0] + b"\n", "has no rows"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        done = run("model", "score", str(trained.folder), name, "--out", "s.parquet", "--json")
        assert done.code == 2
        assert said in done.document["error"]["message"]
        assert not list(tmp_path.glob("*s.parquet*"))
    done = run("model", "score", str(trained.folder), "t.csv", "--out", "s.xlsx", "--json")
    assert "is not one of .parquet, .csv" in done.document["error"]["message"]


def test_a_model_is_validated_on_other_rows(run: Run, trained: Trained, tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "later.csv", tables.platform_loans(700, seed=8))
    call = ("model", "validate", str(trained.folder), "later.csv", "--label", "loan_status")
    document = run(*call, "--json").document
    assert (document["n"], document["events"], document["positive"]) == (700, 350, "Charged Off")
    assert (document["weight"], document["time"]) == ("sample_weight", "issue_d")
    assert document["observed"] == pytest.approx(0.2)
    for name in ("auc", "gini", "ks", "brier", "log_loss", "calibration_slope", "ece"):
        assert isinstance(document[name], float), name
    assert document["auc_low"] < document["auc"] < document["auc_high"]
    assert 0 <= document["psi_score"] < 0.25
    assert set(document["psi"]) >= {"int_rate", "dti"}
    assert document["verdict"] in {"FIT", "WATCH", "UNFIT"}
    assert document["segments"]["term"][0]["rows"] > 100
    assert len(document["periods"]) == 5
    shown = run(*call)
    assert document["verdict"] in shown.out
    assert "calibration slope" in shown.out


def test_a_population_that_moved_and_turned_is_unfit(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    columns = tables.platform_loans(700, seed=8)
    columns["int_rate"] = [f"{40 - float(text.rstrip('%')):.2f}%" for text in columns["int_rate"]]
    tables.write_csv(tmp_path / "turned.csv", columns)
    done = run(
        *("model", "validate", str(trained.folder), "turned.csv", "--label", "loan_status"),
        "--json",
    )
    assert done.document["verdict"] == "UNFIT"
    said = " ".join(done.document["reasons"])
    assert "ranks much worse than it did" in said
    assert "another population" in said


def test_validation_on_the_training_rows_says_so(run: Run, trained: Trained) -> None:
    done = run(
        *("model", "validate", str(trained.folder), str(trained.table)),
        *("--label", "loan_status", "--json"),
    )
    assert "it was trained on" in done.document["findings"][-1]["detail"]


def test_the_spec_can_be_printed_kept_and_used(run: Run, tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "t.csv", tables.chinese_firms(300), "gb18030")
    done = run("model", "train", "t.csv", "--label", "是否违约", "--print-spec")
    assert done.code == 0, done.err
    spec = parse_spec(done.out)
    assert (spec.label, spec.positive, spec.time) == ("是否违约", "是", "申请日期")
    assert "left out after inspection: 企业编号, 核销日期" in done.out
    assert "LEFT OUT of the model (2)" in done.err
    (tmp_path / "spec.toml").write_text(done.out, "utf-8")
    again = run("model", "train", "t.csv", "--spec", "spec.toml", "--print-spec", "--json")
    assert parse_spec(again.document["spec"]) == spec
    assert again.document["inferred"] == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a TABLE with --label or --spec"),
        (("t.csv",), "name the folder to write by --out"),
        (("t.csv", "--out", "m"), "name the column of the outcome by --label"),
        (("t.csv", "--out", "m", "--label", "loan"), "did you mean `loan_status`?"),
        (("t.csv", "--out", "m", "--spec", "s.toml", "--label", "y"), "leave --label out"),
        (("t.csv", "--out", "m", "--spec", "s.toml"), "unknown key `labl`: did you mean `label`?"),
        (("t.csv", "--out", ".", "--label", "loan_status"), "take another name"),
    ],
)
def test_wrong_calls_say_what_to_do(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    tables.write_csv(tmp_path / "t.csv", tables.platform_loans(60))
    (tmp_path / "s.toml").write_text("labl = 'x'")
    done = run("model", "train", *arguments, "--json")
    assert done.code == 2
    assert said in done.document["error"]["message"]


def test_too_few_outcomes_are_refused(run: Run, tmp_path: Path) -> None:
    columns = tables.ratios(80)
    columns["Bankrupt?"] = [1, 1, 1] + [0] * 77
    tables.write_csv(tmp_path / "t.csv", columns)
    done = run("model", "train", "t.csv", "--label", "Bankrupt?", "--out", "m", "--json")
    assert (done.code, done.document["error"]["reason"]) == (1, "TRAINING_REFUSED")
    assert not (tmp_path / "m").exists()
