"""Cursors in files: a command that is told things goes on behind what it showed last.

A file holds one cursor; a crash leaves the old one or the new one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from services.cli.command import Session

Follow = Annotated[
    bool, typer.Option("--follow", help="Wait for what comes; with --json one document a line.")
]
CursorFile = Annotated[
    Path | None,
    typer.Option(
        "--cursor-file",
        metavar="FILE",
        dir_okay=False,
        help="Go on behind what was shown last, as kept in this file; made by the first run.",
    ),
]


def kept_cursor(cursor_file: Path | None) -> str:
    """Return the cursor of a file, or "" where there is none yet."""
    if cursor_file is None or not cursor_file.exists():
        return ""
    return cursor_file.read_text().strip()


def keep_cursor(cursor_file: Path | None, cursor: str) -> None:
    """Write a cursor; "" and no file write nothing."""
    if cursor_file is None or not cursor:
        return
    beside = cursor_file.with_name(f"{cursor_file.name}.new")
    beside.write_text(f"{cursor}\n")
    beside.replace(cursor_file)


def show_followed(
    session: Session,
    cursor_file: Path | None,
    cursor: str,
    document: Mapping[str, object],
    line: str,
) -> None:
    """Show one thing of those that are followed, then keep its cursor.

    Args:
        session: of the command.
        cursor_file: where the cursor is kept; None is nowhere.
        cursor: behind the thing.
        document: the thing as JSON has it.
        line: the thing as people read it.
    """
    if session.out.as_json:
        line = json.dumps({**document, "cursor": cursor}, ensure_ascii=False)
    # A reader at the other end of a pipe has it before the cursor moves on.
    typer.echo(line)
    keep_cursor(cursor_file, cursor)
