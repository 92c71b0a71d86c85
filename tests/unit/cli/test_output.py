from io import StringIO

import pytest
from rich.console import Console

from services.cli import output


def shown(width: int, columns: list[str], *rows: list[str]) -> list[str]:
    written = StringIO()
    Console(file=written, width=width).print(output.table("Title", columns, rows))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_nothing_is_a_title_without_a_table() -> None:
    assert shown(80, ["key", "type"]) == ["Title"]


@pytest.mark.parametrize("name", ["vat_invoice.counterparty", "vat_invoice.counterparty>"])
def test_names_of_columns_are_never_broken(name: str) -> None:
    whole = name.rstrip(">")
    for width in range(30, 60):
        assert any(whole in line for line in shown(width, ["row>", "id", name], ["2", "b1", "A"]))


def test_what_others_wrote_commands_no_terminal() -> None:
    """A firm's statement, say, before a bank's officer."""
    evil = "fine\x1b[2J\x1b]0;title\x07 \x9b31m\u202egnorw [red]x[/red]"
    kept = "fine\ufffd[2J\ufffd]0;title\ufffd \ufffd31m\ufffdgnorw"
    (*_, row) = shown(200, ["id", "says"], ["dis_1", evil])[:5]
    assert kept in row
    assert "[red]x[/red]" in row
    written = StringIO()
    Console(file=written, width=200).print(output.pairs(evil, [("says", evil)]))
    assert written.getvalue().count(kept) == 2
    assert "\x1b" not in written.getvalue()
