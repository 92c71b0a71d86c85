import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.cli.conftest import Run


def test_a_service_without_its_configuration_is_wrong_use(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PUHUI_")}
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "serve", "gateway"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environ,
        check=False,
    )
    assert done.returncode == 2
    assert "PUHUI_GATEWAY_" in done.stderr


def test_serve_knows_its_services(run: Run) -> None:
    done = run("serve", "ledger")
    assert done.code == 2
    assert "'all'" in done.err


def test_a_city_as_files_that_push_reads(run: Run, tmp_path: Path) -> None:
    done = run(
        *("sandbox", "simulate", "--firms", "3", "--seed", "7", "--until", "2024-05-31"),
        *("--out", "city", "--json"),
    ).document
    assert (done["firms"], done["seed"]) == (3, 7)
    with (tmp_path / "city" / "firms.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    lines = sum(
        len(path.read_text("utf-8").splitlines()) for path in (tmp_path / "city").glob("*.jsonl")
    )
    assert lines == done["records"]


def test_a_folder_without_the_data_set(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("sandbox", "run", "cumcm2020c", "empty", "--json", "out.json")
    assert done.code == 2
    assert "empty does not hold cumcm2020c" in " ".join(done.err.split())
    assert not (tmp_path / "out.json").exists()
