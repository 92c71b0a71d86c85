"""How many records a second go in through the gateway's stream, beside a bare COPY of the same.

VAT invoices, end to end: authenticated, validated row by row, deduplicated, summarised and acked,
into PostgreSQL with its durable defaults and into SQLite; the three services are three processes.
The last line is one JSON object.

Environment: BENCH_ROWS (120,000).
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from services.sandbox.cumcm2020c import TAX
from services.sandbox.embedded import end_on_sigterm
from services.sandbox.members import Members
from tests.bench.rig.processes import Measured, measure, say
from tests.bench.rig.stack import Stack, postgres, stack

ROWS = int(os.environ.get("BENCH_ROWS", "120000"))


async def join(platform: Stack) -> str:
    """Registers the tax provider as a historical source; returns its API key."""
    members = Members(platform.gateway, platform.operator_key)
    return (await members.join_providers([TAX]))[TAX.key].api_key


def push(
    name: str, database: Callable[[str], str] | None, also: Mapping[str, int]
) -> dict[str, Any]:
    """Pushes everything into a fresh platform.

    Args:
        name: of the database.
        database: as `stack` takes it.
        also: processes to watch besides the services.
    """
    with (
        tempfile.TemporaryDirectory(prefix="puhui-bench-") as folder,
        stack(Path(folder), database) as platform,
    ):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            api_key = runner.run(join(platform))
        job = {"gateway": platform.gateway, "api_key": api_key, "rows": ROWS}
        watched = {**platform.pids, **also}
        say("process ids: " + "  ".join(f"{each} {pid}" for each, pid in watched.items()))
        measured = measure("tests.bench.rig.push", job, watched)
    result = measured.result
    say(
        f"{name}: {result['rows']} {result['kind']} invoices, {result['accepted']} accepted, "
        f"{result['duplicate']} duplicate, rejected {result['rejected']}"
    )
    _told(name, measured)
    return result


def _told(name: str, measured: Measured) -> None:
    cpu = "  ".join(f"{who} {seconds:.1f}" for who, seconds in measured.cpu.items())
    say(f"{name}: {measured.result['per_s']:.0f} rows/s; CPU seconds: {cpu}")


def main() -> int:
    """Runs it."""
    end_on_sigterm()
    with postgres() as server:
        into_postgres = push("PostgreSQL", server.create, {"postgres": server.pid})
        into_sqlite = push("SQLite", None, {})
        job = {"url": server.create("bare"), "rows": ROWS}
        bare = measure("tests.bench.rig.copy", job, {"postgres": server.pid})
        _told("bare COPY", bare)
    print(f"{into_postgres['rows']} VAT invoices, {into_postgres['kind']}")
    print(
        json.dumps(
            {
                "name": "ingest",
                "postgres_rows_per_s": round(into_postgres["per_s"]),
                "sqlite_rows_per_s": round(into_sqlite["per_s"]),
                "copy_rows_per_s": round(bare.result["per_s"]),
                "postgres_vs_copy": round(into_postgres["per_s"] / bare.result["per_s"], 4),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
