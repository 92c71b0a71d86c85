import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run


def test_a_service_without_its_configuration_is_wrong_use(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PUHUI_")}
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "serve", "gateway"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environ,
        check=False,
    )
    assert done.returncode == 2
    assert "PUHUI_GATEWAY_" in done.stderr


def test_a_section_that_no_service_has_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "puhui.toml").write_text("[scorin]\nmodels_dir = 'm'\n")
    for service in ("all", "scoring"):
        done = subprocess.run(
            [sys.executable, "-m", "services", service, "--config", "puhui.toml"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 2
        assert "[scorin] in puhui.toml is unknown: did you mean scoring?" in done.stderr


@pytest.mark.parametrize(("package", "extra"), [("typer", "cli"), ("uvloop", "all")])
def test_without_its_packages_the_command_names_the_extra(package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['puhui', 'serve', 'all']\n"
        "from services.cli.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    *_, told = done.stderr.splitlines()
    assert told == f"puhui: {package} is not installed: pip install 'puhui[{extra}]'"
    assert "Traceback" not in done.stderr


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


@pytest.mark.parametrize("report", ["no/out.json", "."])
def test_a_report_that_cannot_be_written_is_known_first(
    run: Run, tmp_path: Path, report: str
) -> None:
    (tmp_path / "set").mkdir()
    done = run("sandbox", "run", "cumcm2020c", "set", "--json", report)
    assert done.code == 2
    told = " ".join(done.err.split())
    assert f"{report} cannot be written" in told
    assert "does not hold" not in told


def test_a_demo_that_is_too_small_is_wrong_use(run: Run) -> None:
    done = run("demo", "--firms", "50", "--json")
    assert done.code == 2
    assert "200" in done.document["error"]["message"]
