"""A file on its way to the platform: what was done so far stands beside it until all is done.

Invariants: a row that is not in is written beside the file, also where the process that was told so
died; running a push again goes on with its delivery as long as the file, the mapping and what is
left out of it are the same; nothing that is beside the file already is written over.
"""

import hashlib
import json
import os
import secrets
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from puhui_client.totals import Totals
from services.cli.checks import rejected, unread
from services.cli.rows import Reject, Source

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2 import Record
    from puhui_client import BatchAck, Client, PushReport
    from puhui_client.canonical import Signer

_SUFFIX: Final = ".puhui-push"
_FIRST: Final = 20


@dataclass(frozen=True)
class Review:
    """A row that waits until somebody says whom it is about."""

    row: int
    record_id: str
    review_id: str


@dataclass
class Outcome:
    """What became of the rows of a file, over all processes that pushed it.

    Args:
        rejects: why rows are not in, by their number.
        refused: how many the platform refused, by reason.
        not_sent: how many were not sent.
        first: record ids of the first that were refused, by their number.
        reviews: rows that wait.
        last_ack: the last batch that is accounted for; None where a delivery is resumed of which
            nothing is known here.
    """

    rejects: dict[int, Reject] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    not_sent: int = 0
    first: dict[int, str] = field(default_factory=dict)
    reviews: list[Review] = field(default_factory=list)
    last_ack: int | None = 0
    _same: dict[Reject, Reject] = field(default_factory=dict)

    def add(self, entry: dict[str, Any]) -> None:
        """Add what became of a batch, as the journal has it."""
        for row, record_id, reason, path, problem in entry["rejected"]:
            reject = Reject(reason, path, problem)
            self.rejects[row] = self._same.setdefault(reject, reject)
            self.refused[reason] += 1
            if len(self.first) < _FIRST:
                self.first[row] = record_id
        self.reviews += [Review(*held) for held in entry["held"]]
        self.last_ack = entry["sequence"]


class Journal:
    """What a push has done so far: a file of JSON lines that nobody else can read.

    Args:
        path: of the file.
        delivery_id: of the delivery.
        outcome: what earlier processes were told.
        resumed: it was there already.
    """

    def __init__(self, path: Path, delivery_id: str, outcome: Outcome, *, resumed: bool) -> None:
        self._path = path
        self.delivery_id = delivery_id
        self.outcome = outcome
        self.resumed = resumed

    @classmethod
    def open(cls, beside: Path, fingerprint: str, delivery_id: str | None) -> "Journal":
        """Return the journal of a push, a new one where there is none of the same rows.

        Args:
            beside: the file that is pushed.
            fingerprint: of what is sent.
            delivery_id: that was asked for, if one was.
        """
        path = beside.with_name(beside.name + _SUFFIX)
        entries = _entries(path)
        if entries:
            head = entries[0]
            if head.get("fingerprint") == fingerprint and delivery_id in {
                None,
                head["delivery_id"],
            }:
                outcome = Outcome()
                for entry in entries[1:]:
                    outcome.add(entry)
                _write(path, entries)  # without a line that was cut off
                return cls(path, head["delivery_id"], outcome, resumed=True)
        named = delivery_id or f"push-{secrets.token_hex(8)}"
        _write(path, [{"delivery_id": named, "fingerprint": fingerprint}])
        outcome = Outcome(last_ack=None if delivery_id else 0)
        return cls(path, named, outcome, resumed=False)

    def add(self, entry: dict[str, Any]) -> None:
        """Note what became of a batch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.outcome.add(entry)

    def remove(self) -> None:
        """Forget it: all is done."""
        self._path.unlink(missing_ok=True)


def _entries(path: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                break  # cut off when the process died
    return entries


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    part.replace(path)


def fingerprint(path: Path, *said: str | int) -> str:
    """Return what tells a push from one of other rows, in any process.

    Args:
        path: the file that is pushed.
        said: what else decides what is sent.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(said).encode())
    return digest.hexdigest()


class Sending:
    """Pushes the rows of a source and keeps account of them.

    Args:
        source: the rows.
        journal: of this push.
        bad: rows that are not to be sent, and why.
        advance: told of the size of every row.
    """

    def __init__(
        self,
        source: Source,
        journal: Journal,
        bad: dict[int, Reject],
        advance: Callable[[int], None],
    ) -> None:
        self._source = source
        self._journal = journal
        self._bad = bad
        self._advance = advance
        self._numbers = array("Q")
        self._unread: dict[int, Reject] = {}

    async def run(
        self,
        client: "Client",
        *,
        historical: bool,
        signer: "Signer | None",
        control_fields: dict[str, str],
    ) -> "PushReport":
        """Push all rows and close the delivery.

        Raises:
            PuhuiError: it cannot go on; running it again does.
        """
        journal = self._journal
        report = await client.push(
            self._records(),
            delivery_id=journal.delivery_id,
            historical=historical,
            keep_rejections=0,
            on_ack=self._acked,
            totals=Totals(control_fields),
            signer=signer,
            acked_through=journal.outcome.last_ack,
        )
        outcome = journal.outcome
        for unsent in (self._bad, self._unread):
            outcome.rejects |= unsent
            outcome.not_sent += len(unsent)
        return report

    def _records(self) -> "Iterator[Record]":
        for row in self._source.rows():
            self._advance(row.size)
            if row.number in self._bad:
                continue
            if row.problems:
                self._unread[row.number] = rejected(unread(row))
                continue
            self._numbers.append(row.number)
            yield row.record

    def _acked(self, ack: "BatchAck") -> None:
        self._journal.add(
            {
                "sequence": ack.sequence,
                "rejected": [
                    [self._numbers[r.row], r.record_id, r.reason, r.field, r.message]
                    for r in ack.rejections
                ],
                "held": [[self._numbers[h.row], h.record_id, h.review_id] for h in ack.held],
            }
        )


def free_name(path: Path) -> Path:
    """Return a path where nothing is: this one, or one with a number behind its name."""
    target, number = path, 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return target


def write_rejects(source: Source, rejects: dict[int, Reject], path: Path, like: Path) -> Path:
    """Write the rows that are not in.

    Args:
        source: has the rows.
        rejects: why they are not in, by their number.
        path: of the file, if nothing is there.
        like: the file that they are from; who could read it can read this one.

    Returns:
        The file that was written.
    """
    target = free_name(path)
    part = target.with_name(f"{target.stem}.part{target.suffix}")
    source.write_rejects(part, rejects)
    shutil.copymode(like, part)
    part.rename(target)
    return target
