"""The client that ingest is measured with: a provider that pushes its invoices over one stream.

A program of its own. Of a sample the messages are made before the window, and to serialise and send
them is in it; of the long runs they are made on the way, as an importer makes them.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import uvloop

from puhui.datashare.v1.records_pb2 import PushBatch, Record
from puhui_client import MAX_BATCH, BatchAck, Client
from tests.bench.rig.invoices import invoices, real, simulated
from tests.bench.rig.processes import announce

_STEPS = 10
"""Times that a long run says how far it is."""


def rows_of(job: dict[str, Any]) -> tuple[str, int, Iterator[Record] | list[PushBatch]]:
    """What the rows are, how many, and the rows.

    Args:
        job: `source` is "sample", "real" or "simulated"; `rows` how many, of "real" all.
    """
    if job["source"] == "sample":
        kind, rows = invoices(job["rows"])
        starts = range(0, len(rows), MAX_BATCH)
        return kind, len(rows), [PushBatch(records=rows[at : at + MAX_BATCH]) for at in starts]
    if job["source"] == "real":
        files = real()
        count = sum(map(len, files))
        return "real (CUMCM 2020 C)", count, chain.from_iterable(files)
    count = job["rows"]
    # 500 invoices a firm: about as many firms in a batch as a bureau's day has.
    files = simulated(count, firms=max(300, count // 500))
    return "simulated", count, islice(chain.from_iterable(files), count)


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Pushes and accounts for every row.

    Raises:
        ValueError: a row is not accounted for.
    """
    kind, count, rows = rows_of(job)
    step = max(count // _STEPS, 1)
    acked = 0

    def told(ack: BatchAck) -> None:
        nonlocal acked
        acked += ack.rows
        if acked // step > (acked - ack.rows) // step:
            announce("progress", rows=acked)

    async with Client(job["gateway"], job["api_key"]) as client:
        await client.ready()
        announce("begin")
        started = time.perf_counter()
        report = await client.push(rows, historical=True, keep_rejections=0, on_ack=told)
        seconds = time.perf_counter() - started
        announce("end")
    settled = report.accepted + report.duplicate + sum(report.rejected.values())
    if not count == report.sent == settled or report.reconnects:
        raise ValueError(f"{count} rows were not pushed in one go: {report}")
    return {
        "kind": kind,
        "rows": count,
        "seconds": seconds,
        "per_s": count / seconds,
        "accepted": report.accepted,
        "duplicate": report.duplicate,
        "rejected": report.rejected,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
