"""The commands of docs/http.md as they stand there, over HTTPS on a real platform.

Marks are those of `guides`; keys are in the files that the page names.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.guides import assert_shown, blocks, environment, missing, run, script, settled
from tests.e2e.town import USCC, Town


def test_what_the_page_of_http_says_runs(town: Town, checkout: Path, tmp_path: Path) -> None:
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"the page's commands need {tool}: install it")
    text, expected = script(blocks((checkout / "docs/http.md").read_text("utf-8")))
    assert len(expected) >= 7
    data = town.platform.data_dir
    shutil.copy(data / "keys" / "authority.crt", tmp_path)
    for who in ("bank", "firm"):
        (tmp_path / f"{who}.key").write_text(town.key(who))
    endpoints = json.loads((data / "endpoints.json").read_text("utf-8"))
    environ = environment(
        AT=endpoints["https"],
        BUREAU=town.people["tax"].participant_id,
        USCC=USCC,
        HOME=str(tmp_path),
    )
    printed = run(text, tmp_path, environ)
    for block, output in zip(expected, printed, strict=False):
        assert_shown(missing(settled(block.content), settled(output)), output)
