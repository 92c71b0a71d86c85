"""What a flood by one participant does to the others.

The platform as in production: PostgreSQL with its durable defaults, a process for each service, the
packaged policy. Three banks fetch summaries through the gateway, two callers each, each waiting for
its answer before it asks again: first alone, then while a fourth bank floods the gateway by many
callers that ask again at once whatever they are told. The flood is bounded in time and in calls, on
loopback. Every answer of the three is kept and checked. Both are measured in turn, several rounds,
as the machine itself is quicker at one time than at another. The last line is one JSON object: the
median of the rounds' 95th percentiles without and with the flood, and how many of the flood's calls
were refused.

Environment: BENCH_SECONDS of each measurement after its warm-up (4), BENCH_WARMUP seconds (2),
BENCH_ROUNDS (3), BENCH_FIRMS (60), BENCH_FLOOD callers of the flood (256), BENCH_FLOOD_CALLS of a
round at most (50000).
"""

import asyncio
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop
from rich.console import Console

from services.sandbox.embedded import end_on_sigterm
from services.sandbox.stages import Stages
from tests.bench.consent import PREPARATION_SECONDS, RECORD_TYPES, prepare
from tests.bench.rig.load import FETCH
from tests.bench.rig.processes import measure, say
from tests.bench.rig.stack import postgres, stack

SECONDS: Final = float(os.environ.get("BENCH_SECONDS", "4"))
WARMUP: Final = float(os.environ.get("BENCH_WARMUP", "2"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "3"))
FIRMS: Final = int(os.environ.get("BENCH_FIRMS", "60"))
FLOOD: Final = int(os.environ.get("BENCH_FLOOD", "256"))
FLOOD_CALLS: Final = int(os.environ.get("BENCH_FLOOD_CALLS", "50000"))
QUIET_BANKS: Final = 3
QUIET_CALLERS: Final = 6


def main() -> int:
    """Run it."""
    end_on_sigterm()
    with (
        tempfile.TemporaryDirectory(prefix="puhui-bench-") as folder,
        postgres() as server,
        stack(Path(folder), server.create) as platform,
    ):
        with (
            Stages(Console(stderr=True)) as stages,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            prepared = prepare(platform, stages, FIRMS)
            targets = runner.run(asyncio.wait_for(prepared, PREPARATION_SECONDS))[RECORD_TYPES]
        quiet_targets = [target for target in targets if target[0] < QUIET_BANKS]
        flood_targets = [target for target in targets if target[0] >= QUIET_BANKS]
        watched = {**platform.pids, "postgres": server.pid}
        load = {"address": platform.gateway, "method": FETCH}
        job = load | {
            "targets": quiet_targets,
            "callers": QUIET_CALLERS,
            "warmup": WARMUP,
            "seconds": SECONDS,
        }
        flood = load | {
            "targets": flood_targets,
            "callers": FLOOD,
            "seconds": WARMUP + SECONDS + 1.0,
            "most": FLOOD_CALLS,
        }
        quiet, flooded, shed = [], [], 0
        for _ in range(ROUNDS):
            alone = measure("tests.bench.rig.load", job, watched).result
            quiet.append(told("quiet", alone)["p95_ms"])
            with ThreadPoolExecutor(1) as beside:
                flooding = beside.submit(measure, "tests.bench.rig.flood", flood, {})
                found = measure("tests.bench.rig.load", job, watched)
                result = flooding.result().result
            flooded.append(told("flooded", found.result)["p95_ms"])
            shed += result["shed"]
            cpu = "  ".join(f"{name} {used / SECONDS:.2f}" for name, used in found.cpu.items())
            say(f"cores used during the flood: {cpu}")
            print(
                f"flood: {result['served']} served, {result['shed']} refused, "
                f"{result['cut']} not taken by the transport",
                flush=True,
            )
    print(
        json.dumps(
            {
                "name": "fairness",
                "quiet_p95_ms": median(quiet),
                "flooded_p95_ms": median(flooded),
                "shed": shed,
            }
        )
    )
    return 0


def told(what: str, result: dict[str, Any]) -> dict[str, Any]:
    """Say what was measured, and return it."""
    print(
        f"{what:8} {result['per_s']:8.1f}/s  p50 {result['p50_ms']:7.2f} ms  "
        f"p95 {result['p95_ms']:7.2f} ms  p99 {result['p99_ms']:7.2f} ms",
        flush=True,
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
