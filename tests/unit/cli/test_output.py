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
