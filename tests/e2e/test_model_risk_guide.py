"""The commands of docs/model-risk.md as they stand there, on the example's tables."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.guides import assert_shown, blocks, environment, missing, run, script, settled


@pytest.mark.heavy
def test_what_the_page_for_model_risk_teams_says_runs(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout / "examples", tmp_path / "examples")
    text, expected = script(blocks((checkout / "docs/model-risk.md").read_text("utf-8")))
    assert len(expected) >= 3
    environ = environment(COLUMNS="150", HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    printed = run(text, tmp_path, environ, timeout=600)
    for block, output in zip(expected, printed, strict=False):
        line = missing(settled(block.content), settled(output))
        assert_shown(line, output)
