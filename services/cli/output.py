"""What a command prints: one JSON document, or tables; on stdout. Notes and progress: on stderr."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from google.type.date_pb2 import Date
    from rich.console import Console, ConsoleOptions, RenderableType

    from puhui_client import PuhuiError

Document = Mapping[str, Any]
"""What `--json` prints."""

_WORD, _PADDING = 12, 3
_CONTROLS = {*range(32), *range(127, 160)} - {ord("\t"), ord("\n")}
# Turn the direction of letters.
_TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_UNSEEN = dict.fromkeys(_CONTROLS | _TURNS, "\ufffd")


def legible(text: str) -> str:
    """Return what others wrote, with nothing in it that a terminal would obey."""
    return text.translate(_UNSEEN)


def plain(message: "Message") -> dict[str, Any]:
    """Return a message as JSON values, by the names of the .proto, with every field."""
    from google.protobuf.json_format import MessageToDict

    values: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values


def count(number: int, noun: str, plural: str = "") -> str:
    """Return how many there are, in words."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def day(date: "Date") -> str:
    """Return a date for a table."""
    return f"{date.year:04}-{date.month:02}-{date.day:02}" if date.year else ""


def moment(time: "Timestamp") -> str:
    """Return a time for a table, in the reader's zone."""
    if not time.seconds:
        return ""
    from datetime import UTC

    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def instant(time: "Timestamp") -> str:
    """Return a time in the reader's zone, and the zone: where the law counts by it."""
    if not time.seconds:
        return ""
    from datetime import UTC

    return time.ToDatetime(UTC).astimezone().isoformat(" ", "seconds")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    """Return a table; columns whose name ends in `>` are aligned right.

    On a console that is too narrow for it, each row is a block of names and values.
    """
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title, style="bold"), _Rows(columns, [list(row) for row in rows]))


class _Rows:
    """Rows in a table, or one under the other where a table would be cells of a few letters."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._columns = columns
        self._rows = [[legible(cell) for cell in row] for row in rows]

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> "Iterator[RenderableType]":
        if not self._rows:
            return
        if self._least_width() <= options.max_width:
            yield self._table()
            return
        for row in self._rows:
            yield ""
            named = zip(self._columns, row, strict=True)
            yield pairs(row[0], [(name.rstrip(">"), cell) for name, cell in named][1:])

    def _least_width(self) -> int:
        """The first column and all names whole, else words of up to `_WORD` letters."""
        from rich.cells import cell_len

        width = 1 + len(self._columns) * _PADDING
        for index, name in enumerate(self._columns):
            cells = [row[index] for row in self._rows]
            words = cells if index == 0 else [word for cell in cells for word in cell.split()]
            longest = max(map(cell_len, words), default=0)
            if index > 0:
                longest = min(longest, _WORD)
            width += max(longest, _longest_word(name))
        return width

    def _table(self) -> "RenderableType":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        made = Table(box=SIMPLE_HEAD)
        for index, name in enumerate(self._columns):
            justify: Literal["left", "right"] = "right" if name.endswith(">") else "left"
            # The first column is what a reader copies: it stays whole.
            made.add_column(
                name.rstrip(">"),
                justify=justify,
                overflow="fold",
                no_wrap=index == 0,
                min_width=_longest_word(name),
            )
        for row in self._rows:
            made.add_row(*(Text(cell) for cell in row))
        return made


def _longest_word(name: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, name.rstrip(">").split()), default=0)


def pairs(title: str, values: Iterable[tuple[str, str]]) -> "RenderableType":
    """Return names and values, those that are there."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in values:
        if value:
            made.add_row(name, Text(legible(value)))
    return Group(Text(legible(title), style="bold"), made)


class Output:
    """Prints for people or for programs.

    Args:
        as_json: one JSON document on stdout.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, document: Document, *parts: "RenderableType") -> None:
        """Print a result.

        Args:
            document: for programs.
            parts: for people.
        """
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False, indent=2))
            return
        console = self.stdout()
        for part in parts:
            console.print(part)

    def note(self, text: str) -> None:
        """Tell people something beside the result."""
        self.stderr().print(text, style="dim", markup=False, highlight=False)

    def refused(self, error: "PuhuiError") -> None:
        """Print why the platform did not do it."""
        if self.as_json:
            print(json.dumps({"error": error_document(error)}, ensure_ascii=False, indent=2))
            return
        from rich.text import Text

        console = self.stderr()
        console.print(Text.assemble((error.reason, "bold red"), "  ", legible(error.message)))
        for field in error.fields:
            name = (legible(field.field) or "message", "bold")
            console.print(Text.assemble("  ", name, ": ", legible(field.problem)))
        for violation in error.violations:
            name = (legible(violation.subject), "bold")
            console.print(Text.assemble("  ", name, ": ", legible(violation.description)))
        if error.retry_after is not None:
            console.print(f"  try again in {error.retry_after.total_seconds():g} s")
        if error.trace_id:
            console.print(f"  trace {error.trace_id}", style="dim", highlight=False)

    def failed(self, reason: str, message: str) -> None:
        """Print why it was not done here, on this machine."""
        if self.as_json:
            print_failure(reason, message)
        else:
            self.stderr().print(message, style="bold red", markup=False)

    def stdout(self) -> "Console":
        """Return a console on stdout."""
        from rich.console import Console

        return Console(soft_wrap=False)

    def stderr(self) -> "Console":
        """Return a console on stderr."""
        from rich.console import Console

        return Console(stderr=True)


def print_failure(reason: str, message: str) -> None:
    """Print as JSON what went wrong on this side of the platform."""
    error = {"code": "", "reason": reason, "message": message, "fields": []}
    print(json.dumps({"error": error}, ensure_ascii=False, indent=2))


def error_document(error: "PuhuiError") -> dict[str, Any]:
    """Return an error as JSON values."""
    document: dict[str, Any] = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "fields": [{"field": f.field, "problem": f.problem} for f in error.fields],
        "trace_id": error.trace_id,
    }
    if error.violations:
        document["violations"] = [dataclasses.asdict(violation) for violation in error.violations]
    if error.retry_after is not None:
        document["retry_after_seconds"] = error.retry_after.total_seconds()
    return document
