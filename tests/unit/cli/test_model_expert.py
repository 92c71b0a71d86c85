"""`puhui model expert` and `puhui model recalibrate`: a first score, and a PD from few outcomes."""

from pathlib import Path

import numpy as np
import pytest

from services.scoring.models.folder import read_folder
from services.scoring.models.signing import ModelKey
from tests.fakes.models import small_model
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_model_train import FIRMS, real, summary, write_labels

KEY = ModelKey.new()


def flat(text: str) -> str:
    return " ".join(text.split())


def test_an_expert_scorecard_is_written_signed_and_shown(run: Run, tmp_path: Path) -> None:
    done = run("model", "expert", "--out", "models/expert-1", "--json")
    assert done.code == 0, done.err
    document = done.document
    folder = read_folder(tmp_path / "models" / "expert-1")
    assert document["model_class"] == folder.manifest.model_class == "EXPERT"
    assert document["key_id"] == folder.key_id
    assert document["features"] == len(folder.manifest.features)
    assert "expert.toml states them" in run("model", "show", "models/expert-1").out
    again = run("model", "expert", "--out", "models/expert-1")
    assert again.code == 2
    assert "a model's version never changes" in flat(again.err)


def test_sources_of_an_expert_scorecard_are_chosen(run: Run, tmp_path: Path) -> None:
    done = run("model", "expert", "--out", "few", "--source", "tax_filing", "--json")
    assert done.document["sources"] == ["tax_filing"]
    names = {feature.name for feature in read_folder(tmp_path / "few").manifest.features}
    assert "tax_grade" in names
    assert not any(name.startswith("credit_") for name in names)
    wrong = run("model", "expert", "--out", "other", "--source", "weather")
    assert wrong.code == 2
    assert "weather: the sources are tax_filing" in flat(wrong.err)


@pytest.mark.parametrize(("answers", "expected"), [(real, "UNVALIDATED"), (summary, "SIMULATED")])
def test_an_expert_scorecard_gets_a_pd_from_firms_that_consented(
    call: Run, platform: FakePlatform, tmp_path: Path, answers: object, expected: str
) -> None:
    platform.answer("FetchSummary", answers)
    write_labels(tmp_path / "labels.csv", range(FIRMS))
    call("model", "expert", "--out", "expert-1")
    done = call(
        *("model", "recalibrate", "expert-1", "--labels", "labels.csv", "--out", "bank-1"),
        *("--file-ref", "M-1", "--outcome", "90 days past due", "--json"),
    )
    assert done.code == 0, done.err
    document = done.document
    assert (document["rows"], document["events"]) == (FIRMS, 20)
    assert document["slope"]["fitted"]
    assert document["recalibrated_from"] == "expert-1"
    assert sum(group["rows"] for group in document["groups"]) == FIRMS
    manifest = read_folder(tmp_path / "bank-1").manifest
    assert manifest.model_class == document["model_class"] == expected
    assert manifest.outcome == "90 days past due"
    assert platform.requests("FetchSummary")[0].fetch.purpose == "model_training"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "made-up-1"
    small_model(folder, KEY)
    return folder


def write_table(path: Path, rows: int, seed: int = 5) -> int:
    """Rows as the small model knows them, with rather more defaults; how many."""
    chance = np.random.default_rng(seed)
    sales, overdue = chance.normal(size=rows), chance.exponential(10, rows)
    risk = -1.6 * sales + 0.06 * overdue - 0.4
    bad = chance.random(rows) < 1 / (1 + np.exp(-risk))
    lines = [
        f"{a:.4f},{b:.2f},C,{'yes' if default else 'no'},{1 if default else 2}"
        for a, b, default in zip(sales, overdue, bad, strict=True)
    ]
    path.write_text("\n".join(["sales,overdue,industry,bad,weight", *lines]) + "\n", "utf-8")
    return int(bad.sum())


def test_a_model_of_a_table_is_recalibrated_on_a_table(
    run: Run, made: Path, tmp_path: Path
) -> None:
    events = write_table(tmp_path / "new.csv", 160)
    words = ("model", "recalibrate", str(made), "new.csv", "--label", "bad", "--positive", "yes")
    done = run(*words, "--out", "bank-2", "--json")
    assert done.code == 0, done.err
    document = done.document
    assert (document["rows"], document["events"]) == (160, events)
    assert document["slope"]["low"] < document["slope"]["mean"] < document["slope"]["high"]
    after = sum(group["pd_after"] * group["rows"] for group in document["groups"])
    assert after == pytest.approx(events, rel=0.05)
    assert (tmp_path / "bank-2" / "model.txt").read_bytes() == (made / "model.txt").read_bytes()

    weighted = run(*words, "--weight", "weight", "--out", "bank-3", "--json").document
    assert weighted["intercept"]["mean"] < document["intercept"]["mean"]
    shown = run(*words, "--out", "bank-4")
    assert "PD before and after" in shown.out
    scored = run("model", "score", "bank-2", "new.csv", "--out", "scores.csv", "--json")
    assert scored.document["rows"] == 160


def test_too_few_outcomes_are_refused_and_write_nothing(
    run: Run, made: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "new.csv", 9)
    words = ("model", "recalibrate", str(made), "new.csv", "--label", "bad", "--positive", "yes")
    done = run(*words, "--out", "bank-2", "--json")
    assert done.code == 1
    assert done.document["error"]["reason"] == "RECALIBRATION_REFUSED"
    assert "10 are needed for the intercept" in done.document["error"]["message"]
    assert not (tmp_path / "bank-2").exists()


def test_wrong_use_is_told(run: Run, made: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "new.csv", 60)
    run("model", "expert", "--out", "expert-1")
    for arguments, words in (
        ((str(made), "--out", "x"), "name a TABLE with --label"),
        ((str(made), "new.csv", "--out", "x"), "name the outcome's column"),
        (("expert-1", "new.csv", "--label", "bad", "--out", "x"), "platform's records"),
        ((str(made), "new.csv", "--label", "bad", "--out", "expert-1"), "never changes"),
        ((str(made), "--labels", "new.csv", "--out", "x"), "officer"),
    ):
        done = run("model", "recalibrate", *arguments)
        assert done.code == 2, done.out
        assert words in flat(done.err)
