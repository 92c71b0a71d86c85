"""What PostgreSQL alone gives: callers that each insert a row and wait until it is durable.

Beside it stands what a release writes: as many bytes as an access with its leaf, in one table with
one key, one statement and one commit for each, by asyncpg, prepared; nothing is decided.
"""

import asyncio
import json
import secrets
import sys
import time
from typing import Any

import asyncpg
import uvloop

from tests.bench.rig.processes import announce

_BYTES = 500
_TABLE = "CREATE TABLE IF NOT EXISTS bare (id bytea PRIMARY KEY, at timestamptz, content bytea)"
_INSERT = "INSERT INTO bare (id, at, content) VALUES ($1, now(), $2)"


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job: the URL, how many callers, seconds to warm up and to measure."""
    connections = [await asyncpg.connect(job["url"]) for _ in range(job["callers"])]
    await connections[0].execute(_TABLE)
    statements = [await connection.prepare(_INSERT) for connection in connections]
    latencies: list[float] = []
    begins = time.perf_counter() + job["warmup"]
    ends = begins + job["seconds"]

    async def caller(statement: Any) -> None:
        while (started := time.perf_counter()) < ends:
            await statement.fetch(secrets.token_bytes(16), secrets.token_bytes(_BYTES))
            finished = time.perf_counter()
            if begins <= finished < ends:
                latencies.append(finished - started)

    async def mark() -> None:
        await asyncio.sleep(begins - time.perf_counter())
        announce("begin")
        await asyncio.sleep(ends - time.perf_counter())
        announce("end")

    await asyncio.gather(mark(), *(caller(statement) for statement in statements))
    for connection in connections:
        await connection.close()
    ranked = sorted(latencies)

    def quantile(share: float) -> float:
        return round(ranked[min(int(share * len(ranked)), len(ranked) - 1)] * 1000, 3)

    return {
        "per_s": len(ranked) / job["seconds"],
        "checked": len(ranked),
        "p50_ms": quantile(0.50),
        "p95_ms": quantile(0.95),
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
