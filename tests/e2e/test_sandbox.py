"""The demo and the run on public data, as people start them: real processes, real gRPC."""

import json
import random
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.sandbox.delivery import Provider
from services.sandbox.embedded import EmbeddedError, embedded, peak_memory_mb
from services.sandbox.members import Members, Pushed
from tests.e2e.town import Town, invoices

NAMES = ("企业代号", "发票号码", "开票日期", "单位代号", "金额", "税额", "价税合计", "发票状态")
LABELLED, OTHERS = 42, 3


def puhui(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_the_demo_goes_through_the_main_job_and_ends_cleanly() -> None:
    shown = puhui("demo", "--firms", "200", "--seed", "6", "--json")
    assert shown.returncode == 0, shown.stderr
    out = shown.stderr  # for people; stdout is one document
    assert "0 duplicate, 0 rejected" in out
    for word in ("good 好", "middling 中", "bad 差", "strongest reasons"):
        assert word in out
    assert "本模型以模拟数据训练" in out
    assert "Trained on simulated data" in out
    assert "A new call is refused: FAILED_PRECONDITION CONSENT_WITHDRAWN" in out
    assert "A replay of the old one is refused: FAILED_PRECONDITION CONSENT_WITHDRAWN" in out
    assert out.count("refused: CONSENT_WITHDRAWN") == 2  # in the list of accesses
    assert "released" in out
    assert out.rstrip().endswith("The platform has ended cleanly.")
    assert "Simulated Tax Bureau" in out  # progress
    document = json.loads(shown.stdout)
    assert document["records"]["accepted"] == document["records"]["sent"] > 0
    assert document["scored"] + sum(document["refused"].values()) == document["firms"] == 200
    for case in document["scores"].values():
        assert case["decision"]["model"]["model_class"] == "MODEL_CLASS_SIMULATED"
        assert "MODEL_SIMULATED" in [notice["code"] for notice in case["decision"]["notices"]]
    assert [error["reason"] for error in document["after_withdrawal"]] == ["CONSENT_WITHDRAWN"] * 2
    assert [access["refusal_reason"] for access in document["accesses"]].count(
        "CONSENT_WITHDRAWN"
    ) == 2


async def test_what_a_provider_of_the_city_pushes_reconciles(town: Town) -> None:
    members = Members(town.platform.gateway, town.platform.operator_key)
    provider = Provider("bureau", "tax", "a tax bureau")
    (bureau,) = (await members.join_providers([provider])).values()
    pushed = Pushed()
    await members.push(bureau, invoices(3), lambda _: None, pushed)
    async with town.client("operator") as operator:
        found = [each async for each in operator.reconciliations(provider_id=bureau.participant_id)]
    assert [(each.agrees, each.HasField("closed_at"), each.rows_sent) for each in found] == [
        (True, True, pushed.sent)
    ]


def invoice(code: str, number: int, day: date, net: float) -> tuple[object, ...]:
    net = round(net, 2)
    tax = round(net * 0.13, 2)
    return (code, number, day, f"B{number % 7}", net, tax, round(net + tax, 2), "有效发票")


def small_set(folder: Path) -> int:
    """Writes a set like CUMCM 2020 C, of which every third labelled firm sells less and less.

    Each file has an exact repeat and a row with the id of another and other content.
    """
    rng = random.Random(1)
    lines = ["企业代号,企业名称,信誉评级,是否违约"]
    lines += [f"E{i},***公司,B,{'是' if i % 3 == 0 else '否'}" for i in range(1, LABELLED + 1)]
    (folder / "attach1_enterprises.csv").write_text("\n".join(lines), "utf-8")
    lines = ["企业代号,企业名称"]
    lines += [f"E{LABELLED + i},***公司" for i in range(1, OTHERS + 1)]
    (folder / "attach2_enterprises.csv").write_text("\n".join(lines), "utf-8")
    parts = {1: range(1, LABELLED + 1), 2: range(LABELLED + 1, LABELLED + OTHERS + 1)}
    count = 0
    for part, firms in parts.items():
        for side in ("input", "output"):
            rows = []
            for firm in firms:
                for month in range(24):
                    day = date(2018, 3, 1) + timedelta(days=30 * month)
                    fading = 1 / (1 + month / 4) if firm % 3 == 0 else 1.0
                    net = 10_000 * fading * rng.lognormvariate(0, 0.4)
                    rows.append(invoice(f"E{firm}", 1000 + month, day, net))
            rows.append(rows[-1])
            rows.append((*rows[-1][:4], 1.0, 0.13, 1.13, "有效发票"))
            count += len(rows)
            columns = zip(*rows, strict=True)
            table = pa.table({n: pa.array(c) for n, c in zip(NAMES, columns, strict=True)})
            pq.write_table(table, folder / f"attach{part}_{side}_invoices.parquet")
    return count


def test_a_run_accounts_for_every_row_and_scores_every_firm(tmp_path: Path) -> None:
    rows = small_set(tmp_path)
    report_to = tmp_path / "report.json"
    ran = puhui("sandbox", "run", "cumcm2020c", str(tmp_path), "--json", str(report_to))
    assert ran.returncode == 0, ran.stderr
    report = json.loads(report_to.read_text("utf-8"))
    assert list(report) == [
        "records",
        "firms",
        "consents",
        "model",
        "decisions",
        "seconds",
        "peak_memory_mb",
    ]
    assert report["records"] == {
        "sent": rows,
        "accepted": rows - 8,
        "duplicate": 4,
        "rejected": {"RECORD_CONFLICT": 4},
    }
    assert report["firms"] == report["consents"] == report["decisions"] == LABELLED + OTHERS
    assert list(report["model"]) == ["features", "cv_auc_mean", "cv_auc_std", "cv"]
    assert report["model"]["cv_auc_mean"] > 0.9
    assert report["seconds"]["push"] > 0
    assert 50 < report["peak_memory_mb"] < 1_500


def test_a_folder_without_the_set_is_a_usage_error(tmp_path: Path) -> None:
    ran = puhui("sandbox", "run", "cumcm2020c", str(tmp_path), "--json", str(tmp_path / "out"))
    assert ran.returncode == 2
    letters = "".join(c for c in ran.stderr if c.isalnum() or c in "._")  # the message is in a box
    assert "attach1_enterprises.csv" in letters
    assert not (tmp_path / "out").exists()


def test_a_platform_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUHUI_DATASHARE_NO_SUCH_SETTING", "1")
    with pytest.raises(EmbeddedError, match="NO_SUCH_SETTING"), embedded(tmp_path):
        pytest.fail("it started")


def test_a_platform_can_be_started_again_on_its_folder(tmp_path: Path) -> None:
    with embedded(tmp_path) as first:
        key = first.operator_key
    assert not (tmp_path / "endpoints.json").exists()
    with embedded(tmp_path) as second:
        assert second.operator_key == key
        assert second.pid != first.pid
    assert peak_memory_mb() > 50
