"""The client that ingest is measured with: a provider that pushes its invoices over one stream.

A program of its own. The messages are made before the window; to serialise and send them is in it.
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from puhui.datashare.v1.records_pb2 import PushBatch
from puhui_client import MAX_BATCH, Client
from tests.bench.rig.invoices import invoices
from tests.bench.rig.processes import announce


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Pushes and accounts for every row.

    Raises:
        ValueError: a row is not accounted for.
    """
    kind, rows = invoices(job["rows"])
    batches = [
        PushBatch(records=rows[start : start + MAX_BATCH])
        for start in range(0, len(rows), MAX_BATCH)
    ]
    async with Client(job["gateway"], job["api_key"]) as client:
        await client.ready()
        announce("begin")
        started = time.perf_counter()
        report = await client.push(batches, historical=True, keep_rejections=0)
        seconds = time.perf_counter() - started
        announce("end")
    settled = report.accepted + report.duplicate + sum(report.rejected.values())
    if not len(rows) == report.sent == settled or report.reconnects:
        raise ValueError(f"{len(rows)} rows were not pushed in one go: {report}")
    return {
        "kind": kind,
        "rows": len(rows),
        "per_s": len(rows) / seconds,
        "accepted": report.accepted,
        "duplicate": report.duplicate,
        "rejected": report.rejected,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
