"""The import contracts of pyproject.toml, shown to bite: each is broken on purpose in a copy."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Modules that break the rules, by path, with one import each.
OFFENCES = {
    "services/datashare/offence/domain.py": "import grpc",
    "services/datashare/offence/app.py": "import services.kit.offence",
    "services/kit/offence.py": "import sqlalchemy",
    "services/gateway/features/offence.py": "from google.protobuf import message",
    "services/scoring/offence/app.py": "from puhui.scoring.v1 import scoring_pb2",
    "services/scoring/offence/domain.py": "import services.scoring.offence.app",
    "services/scoring/offence/servicer.py": "import services.scoring.offence.store",
    "services/scoring/offence/store.py": "import services.datashare.offence",
    "services/gateway/offence/servicer.py": "import services.gateway.main",
    "services/gateway/offence/store.py": "import services.sandbox",
    "services/kit/offence_of_layers.py": "import services.gateway",
    "puhui_client/offence.py": "import services.kit",
}

CAUGHT = [
    ("Domain, app and features", "services.datashare.offence.domain -> grpc"),
    ("Domain, app and features", "services.datashare.offence.app -> services.kit.offence"),
    ("Domain, app and features", "services.kit.offence -> sqlalchemy"),
    ("Domain, app and features", "services.gateway.features.offence -> google"),
    ("Domain, app and features", "services.scoring.offence.app -> puhui"),
    ("In an aggregate", "services.scoring.offence.domain -> services.scoring.offence.app"),
    ("In an aggregate", "services.scoring.offence.servicer -> services.scoring.offence.store"),
    ("Services meet in", "services.scoring.offence.store -> services.datashare.offence"),
    ("Wiring is done in main", "services.gateway.offence.servicer -> services.gateway.main"),
    ("Services know neither", "services.gateway.offence.store -> services.sandbox"),
    ("Kit is below everything", "services.kit.offence_of_layers -> services.gateway"),
    ("The client needs", "puhui_client.offence -> services.kit"),
]


@pytest.fixture(scope="module")
def report(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What import-linter says about the offences: for each broken contract, its text."""
    copy = tmp_path_factory.mktemp("contracts")
    shutil.copy(checkout / "pyproject.toml", copy)
    for package in ("services", "puhui_client"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / package, copy / package, ignore=ignored)
    for path, offence in {"services/gateway/main.py": "", **OFFENCES}.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).parent.joinpath("__init__.py").touch()
        (copy / path).write_text(offence)
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    details = result.stdout.partition("Broken contracts")[2]
    _, *parts = re.split(r"^(\S.*)\n-+$", details, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(("contract", "chain"), CAUGHT)
def test_an_offence_is_caught(report: dict[str, str], contract: str, chain: str) -> None:
    [text] = [text for name, text in report.items() if name.startswith(contract)]
    assert chain in text
