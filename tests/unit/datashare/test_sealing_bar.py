"""How far a command is, on a terminal and in a log."""

import io
import sys

import pytest

from services.datashare.sealing.commands import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    told: list[str] = []
    bar = Bar(told.append)
    bar("data keys", 500, 1_000)
    bar("data keys", 1_000, 1_000)
    bar.end()
    bar.end()
    first, second, rest = shown.getvalue().lstrip("\r").replace("\n", "\r|").split("\r")
    assert first == f"[{'#' * 15}{'.' * 15}] 500 of 1,000 data keys\x1b[K"
    assert second == f"[{'#' * 30}] 1,000 of 1,000 data keys\x1b[K"
    assert rest == "|"
    assert told == []


def test_a_log_gets_the_first_and_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    told: list[str] = []
    bar = Bar(told.append)
    for done in range(100, 1_001, 100):
        bar("data keys", done, 1_000)
    bar.end()
    assert told == ["100 of 1,000 data keys", "1,000 of 1,000 data keys"]
    assert shown.getvalue() == ""
