"""The commands of docs/consent.md as they stand there, on a real platform.

Marks are those of `guides`; keys are in the files that the page names.
"""

from pathlib import Path

import pytest

from tests.e2e.guides import LEFT_OUT, assert_shown, blocks, environment, run, script, settled
from tests.e2e.town import USCC, Town


def first_missing(lines: list[str], printed: list[str]) -> str:
    """Return the first line that was not printed after those before it; dots end a line early."""
    begun = [line.split("...")[0] if line != LEFT_OUT else line for line in lines]
    at = 0
    for line in begun:
        if line == LEFT_OUT:
            continue
        found = next((i for i in range(at, len(printed)) if printed[i].startswith(line)), None)
        if found is None:
            return line
        at = found + 1
    return ""


@pytest.mark.heavy
def test_what_the_page_of_consents_says_runs(town: Town, checkout: Path, tmp_path: Path) -> None:
    text, expected = script(blocks((checkout / "docs/consent.md").read_text("utf-8")))
    assert len(expected) >= 7
    words = {"TAX_BUREAU": town.people["tax"].participant_id, " USCC ": f" {USCC} "}
    for word, meant in words.items():
        assert word in text
        text = text.replace(word, meant)
    for who in ("bank", "firm"):
        key = tmp_path / f"{who}.key"
        key.write_text(town.key(who))
        key.chmod(0o600)
    environ = environment(
        PUHUI_GATEWAY=town.platform.gateway,
        COLUMNS="200",
        HOME=str(tmp_path),
    )
    printed = run(text, tmp_path, environ)
    for block, output in zip(expected, printed, strict=False):
        line = first_missing(settled(block.content), settled(output))
        assert_shown(line, output)
    assert "deleted" in printed[-2]
