from pathlib import Path

from services.gateway.policy.file import DEFAULT
from tests.unit.cli.conftest import Run

SCORE = "puhui.scoring.v1.ScoringService/Score"
CASE = '\n[[case]]\nrole = "BANK"\nmethod = "{}"\nexpect = "{}"\n'


def written(folder: Path, more: str) -> str:
    file = folder / "policy.toml"
    file.write_text(DEFAULT.read_text(encoding="utf-8") + more, encoding="utf-8")
    return str(file)


def test_the_packaged_policy_comes_out(run: Run) -> None:
    done = run("policy", "test", str(DEFAULT), "--json")
    assert done.code == 0
    assert done.document["passed"]
    assert done.document["uncovered_rules"] == []
    assert all(case["passed"] for case in done.document["cases"])


def test_a_case_that_fails_is_shown_and_told_by_the_exit_code(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, CASE.format(SCORE, "platform"))
    done = run("policy", "test", file, "--json")
    assert done.code == 1
    (failed,) = [case for case in done.document["cases"] if not case["passed"]]
    assert (failed["expected"], failed["found"]) == ("platform", "PRODUCT_NOT_LICENSED")
    shown = run("policy", "test", file)
    assert shown.code == 1
    assert "1 failed" in shown.out


def test_a_rule_without_a_case_is_named_and_no_failure(run: Run, tmp_path: Path) -> None:
    rule = f'\n[[rules]]\nproduct = "data_service"\nroles = ["BANK"]\nmethods = ["{SCORE}"]\n'
    text = DEFAULT.read_text(encoding="utf-8").partition("# What this file is expected")[0]
    file = tmp_path / "policy.toml"
    file.write_text(text + rule + CASE.format(SCORE, "PRODUCT_NOT_LICENSED"), encoding="utf-8")
    done = run("policy", "test", str(file), "--json")
    assert done.code == 0
    assert done.document["uncovered_rules"][-1]["product"] == "data_service"


def test_a_wrong_file_is_refused_with_what_is_wrong(run: Run, tmp_path: Path) -> None:
    done = run("policy", "test", written(tmp_path, "[[ruels]]\n"), "--json")
    assert done.code == 1
    assert done.document["error"]["reason"] == "POLICY_REFUSED"
    assert "did you mean rules?" in done.document["error"]["message"]


def test_what_a_role_may_call_is_shown(run: Run) -> None:
    done = run("policy", "show", "--role", "BANK", "--method", "FetchSummary", "--json")
    assert done.document["methods"] == [
        {
            "role": "BANK",
            "method": "puhui.datashare.v1.AccessService/FetchSummary",
            "products": ["credit_reporting", "data_service"],
        }
    ]
    assert done.document["limits"]["BANK"]["rate"] == 1000
    assert run("policy", "show").code == 0
    assert run("policy", "show", "--role", "BANC").code == 2
