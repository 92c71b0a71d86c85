"""The threat model names files and tests that there are; the audit claims no more than it knows."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<kind>[STRIDE](?:, [STRIDE])*|API\d+) \|(?P<cells>.*)\|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/.]+\.py)(?:::(\w+))?`")


def rows() -> list[tuple[str, list[str]]]:
    page = (CHECKOUT / "docs/threat-model.md").read_text("utf-8")
    return [(row["kind"], row["cells"].split("|")) for row in ROW.finditer(page)]


def test_every_kind_of_threat_is_looked_at_on_every_boundary() -> None:
    page = (CHECKOUT / "docs/threat-model.md").read_text("utf-8")
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert len(parts) == 16
    for part in parts[:-2]:
        kinds = {letter for row in ROW.finditer(part) for letter in row["kind"].split(", ")}
        assert kinds == set("STRIDE"), part.partition("\n")[0]
    assert [row["kind"] for row in ROW.finditer(parts[-1])] == [f"API{n}" for n in range(1, 11)]


def test_every_threat_has_a_defence_and_a_test_or_is_a_known_gap() -> None:
    for kind, cells in rows():
        threat, defence, test, remains = (cell.strip() for cell in cells)
        if test == "known gap":
            assert remains, threat
        else:
            assert NAMED.search(defence), (kind, threat)
            assert all(name for _, name in NAMED.findall(test)), (kind, threat)
            assert NAMED.search(test), (kind, threat)


def test_the_files_and_tests_that_the_threat_model_names_are_there() -> None:
    named = [found for _, cells in rows() for found in NAMED.findall(" ".join(cells))]
    assert len(named) > 150
    for path, test in named:
        if test:
            text = (CHECKOUT / "tests" / path).read_text("utf-8")
            assert re.search(rf"^ *(?:async )?def {test}\(", text, re.MULTILINE), (path, test)
        else:
            assert any((CHECKOUT / root / path).is_file() for root in ("services", "")), path


def test_no_sql_is_made_of_what_callers_send() -> None:
    """Where a text is put together, ruff asks for a reason; here alone it may be given one."""
    said = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "S608", "--ignore-noqa", "services",
         "--output-format", "concise"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip  # a table, line by line
    places = {re.split(r":\d", line)[0] for line in said.stdout.splitlines() if "S608" in line}
    assert {place for place in places if "/migrations/" not in place} == {
        "services/datashare/bulk.py",
        "services/datashare/quota/store.py",
        "services/kit/partitions.py",
    }


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return requirements/audit.py as it is where bills of materials cannot be checked."""
    for name in ("cyclonedx", "cyclonedx.schema", "cyclonedx.validation"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    validation: Any = ModuleType("cyclonedx.validation.json")
    validation.JsonStrictValidator = object
    monkeypatch.setitem(sys.modules, "cyclonedx.validation.json", validation)
    monkeypatch.setattr(sys.modules["cyclonedx.schema"], "SchemaVersion", object, raising=False)
    spec = importlib.util.spec_from_file_location("audit", CHECKOUT / "requirements/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, vulnerable: dict[str, set[str]]
) -> None:
    """Have each source know vulnerable packages; one that is not named does not answer."""

    def run(_program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        known = vulnerable.get(arguments[arguments.index("--vulnerability-service") + 1])
        if known is None:
            return subprocess.CompletedProcess([], 1, "", "no connection")
        pins = Path(arguments[-1]).read_text().split()
        told = [
            {"name": name, "version": version, "vulns": [{"id": "X-1", "fix_versions": []}]}
            if name in known
            else {"name": name, "version": version, "vulns": []}
            for name, version in (pin.split("==") for pin in pins)
        ]
        text = audit.json.dumps({"dependencies": told})
        return subprocess.CompletedProcess([], 0, text, "")

    monkeypatch.setattr(audit, "_run", run)


@pytest.mark.parametrize("sources", [{}, {"pypi": set()}, {"pypi": set(), "osv": set()}])
def test_an_audit_without_a_source_claims_nothing(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sources: dict[str, set[str]],
) -> None:
    answers(audit, monkeypatch, sources)
    assert audit.vulnerable_packages() == 0
    told = capsys.readouterr().out
    assert "DEPENDENCIES NOT CHECKED" in told
    assert "pip-audit: 0" not in told


def test_an_audit_fails_on_what_any_source_knows(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(audit, monkeypatch, {"osv": {"jinja2", "grpcio"}})
    assert audit.vulnerable_packages() == 1
    assert "grpcio " in capsys.readouterr().out


def test_explanations_have_a_reason(audit: ModuleType) -> None:
    assert not audit._NOSEC.search("x = 1  # nosec B311  # ids, no secrets")
    for silent in ("# nosec", "# nosec B311", "# nosec B311 because"):
        assert audit._NOSEC.search(f"x = 1  {silent}")
