"""Stages of a longer run: a progress bar on stderr for each, and how many seconds it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

Advance = Callable[[int], None]


class Stages:
    """Shows stages while it is entered.

    Args:
        console: where the bars go.

    Attributes:
        seconds: how long each stage took, by name, in the order of their ends.
    """

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=18),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, name: str, description: str, total: int = 1) -> Iterator[Advance]:
        """One stage.

        Args:
            name: its key in `seconds`.
            description: what the reader sees.
            total: steps; the stage is complete when it ends without an error.

        Yields:
            What to call with the number of steps that were made.
        """
        started = time.monotonic()
        task = self._progress.add_task(description, total=total)
        yield lambda steps: self._progress.advance(task, steps)
        self._progress.update(task, completed=total)
        self.seconds[name] = round(time.monotonic() - started, 2)
