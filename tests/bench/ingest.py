"""How many records a second go in through the gateway's stream, beside a bare COPY of the same.

VAT invoices, end to end: authenticated, validated row by row, deduplicated, summarised and acked,
into PostgreSQL with its durable defaults and into SQLite; the three services are three processes.
Then, into PostgreSQL, all real invoices, and so many simulated ones that memory would show what it
keeps. The last line is one JSON object; what was left out is null in it.

Environment: BENCH_ROWS (120,000); BENCH_FLAT_ROWS (2,000,000), 0 leaves both long runs out.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import uvloop

from services.sandbox.cumcm2020c import TAX
from services.sandbox.embedded import end_on_sigterm
from services.sandbox.members import Members
from tests.bench.rig.invoices import real
from tests.bench.rig.processes import Measured, measure, say
from tests.bench.rig.stack import Postgres, Stack, postgres, stack

ROWS = int(os.environ.get("BENCH_ROWS", "120000"))
FLAT_ROWS = int(os.environ.get("BENCH_FLAT_ROWS", "2000000"))


async def join(platform: Stack) -> str:
    """Registers the tax provider as a historical source; returns its API key."""
    members = Members(platform.gateway, platform.operator_key)
    return (await members.join_providers([TAX]))[TAX.key].api_key


def push(
    name: str,
    source: str,
    rows: int,
    database: Callable[[str], str] | None,
    also: Mapping[str, int],
) -> Measured:
    """Pushes rows into a fresh platform.

    Args:
        name: of the run.
        source: of the rows, as `rig.push` takes it.
        rows: how many.
        database: as `stack` takes it.
        also: processes to watch besides the services.
    """
    with (
        tempfile.TemporaryDirectory(prefix="puhui-bench-") as folder,
        stack(Path(folder), database) as platform,
    ):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            api_key = runner.run(join(platform))
        job = {"gateway": platform.gateway, "api_key": api_key, "source": source, "rows": rows}
        watched = {**platform.pids, **also}
        say("process ids: " + "  ".join(f"{each} {pid}" for each, pid in watched.items()))
        measured = measure("tests.bench.rig.push", job, watched)
    result = measured.result
    say(
        f"{name}: {result['rows']} {result['kind']} invoices, {result['accepted']} accepted, "
        f"{result['duplicate']} duplicate, rejected {result['rejected']}"
    )
    tell(name, measured)
    return measured


def copy(server: Postgres, peer: str) -> Measured:
    """Copies the same rows without a platform.

    Args:
        server: the database server.
        peer: as `rig.copy` takes it.
    """
    job = {"url": server.create(f"bare_{peer}"), "rows": ROWS, "peer": peer}
    bare = measure("tests.bench.rig.copy", job, {"postgres": server.pid})
    tell(f"bare COPY, {peer}", bare)
    return bare


def tell(name: str, measured: Measured) -> None:
    """Says what a run found and what it cost."""
    cpu = "  ".join(f"{who} {seconds:.1f}" for who, seconds in measured.cpu.items())
    say(f"{name}: {measured.result['per_s']:.0f} rows/s; CPU seconds: {cpu}")


def tell_memory(measured: Measured) -> None:
    """Says what each process of ours kept on the way."""
    names = ("datashare", "gateway", "scoring")
    for rows, memory in measured.memory:
        kept = "  ".join(f"{name} {memory[name]:.0f}" for name in names)
        say(f"  after {rows:>9,} rows, MB: {kept}")
    say("  at most, MB: " + "  ".join(f"{name} {measured.peak[name]:.0f}" for name in names))


def main() -> int:
    """Runs it."""
    end_on_sigterm()
    everything = flat = None
    with postgres() as server:

        def into_postgres(name: str, source: str, rows: int) -> Measured:
            def create(service: str) -> str:
                return server.create(f"{source}_{service}")

            return push(name, source, rows, create, {"postgres": server.pid})

        postgresql = into_postgres("PostgreSQL", "sample", ROWS)
        same = copy(server, "record")
        narrow = copy(server, "narrow")
        sqlite = push("SQLite", "sample", ROWS, None, {})
        if FLAT_ROWS and real():
            everything = into_postgres("all real invoices", "real", 0)
            tell_memory(everything)
        if FLAT_ROWS:
            flat = into_postgres("simulated invoices", "simulated", FLAT_ROWS)
            tell_memory(flat)
    per_s = postgresql.result["per_s"]
    print(f"{postgresql.result['rows']} VAT invoices, {postgresql.result['kind']}")
    print(
        f"beside COPY of 11 columns under a key of two, {narrow.result['per_s']:.0f} rows/s: "
        f"{per_s / narrow.result['per_s']:.4f}"
    )
    print(
        json.dumps(
            {
                "name": "ingest",
                "postgres_vs_copy": round(per_s / same.result["per_s"], 4),
                "postgres_rows_per_s": round(per_s),
                "sqlite_rows_per_s": round(sqlite.result["per_s"]),
                "copy_rows_per_s": round(same.result["per_s"]),
                "real_invoices_seconds": everything and round(everything.result["seconds"], 1),
                "peak_memory_mb": round(
                    max(run.peak["datashare"] for run in (everything, flat) if run)
                )
                if flat
                else None,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
