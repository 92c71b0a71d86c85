"""A participant that floods: callers that ask again at once, whatever they are told.

Bounded in time and in calls. A refusal is counted and its pause not made, and so is a call that the
transport did not take, beyond the streams of a connection; any other error fails the program.
"""

import asyncio
import base64
import itertools
import json
import sys
import time
from typing import Any

import grpc
import uvloop

from tests.bench.rig.load import Target, names
from tests.bench.rig.processes import announce

_TIMEOUT = 30.0


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Flood.

    Args:
        job: address, method, targets as of `load`, callers, seconds, and the most calls.
    """
    targets = itertools.cycle(
        [Target.of(0, key, base64.b64decode(template)) for _, key, template in job["targets"]]
    )
    name, ends = names(), time.perf_counter() + job["seconds"]
    served = shed = cut = 0
    async with grpc.aio.insecure_channel(job["address"]) as channel:
        call: Any = channel.unary_unary(job["method"])

        async def caller() -> None:
            nonlocal served, shed, cut
            while time.perf_counter() < ends and served + shed + cut < job["most"]:
                target = next(targets)
                metadata = (("authorization", target.authorization),)
                try:
                    await call(target.body(next(name)), metadata=metadata, timeout=_TIMEOUT)
                    served += 1
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                        shed += 1
                    elif error.code() is grpc.StatusCode.UNAVAILABLE:
                        cut += 1
                    else:
                        raise

        announce("begin")
        await asyncio.gather(*(caller() for _ in range(job["callers"])))
        announce("end")
    return {"served": served, "shed": shed, "cut": cut}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
