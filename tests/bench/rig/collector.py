"""A collector of telemetry that takes what it is sent and keeps nothing: it costs little itself.

As a program it listens on loopback and writes its port to stdout.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import uvloop

from services.kit.server import until_signal
from tests.bench.rig.processes import running


class _TakeAll(grpc.GenericRpcHandler):
    """Answers every unary method with an empty message, which says that all was accepted."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return grpc.unary_unary_rpc_method_handler(_taken)


async def _taken(_body: bytes, _context: object) -> bytes:
    return b""


async def serve() -> None:
    """Serves until SIGTERM."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_TakeAll(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await until_signal()
    await server.stop(None)


@contextmanager
def collector() -> Iterator[tuple[str, int]]:
    """Runs one; gives its URL and process id."""
    with running(["-m", __spec__.name]) as process:
        if process.stdout is None or not (port := process.stdout.readline().strip()):
            raise RuntimeError("the collector did not start: its last words are above")
        yield f"http://127.0.0.1:{port}", process.pid


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
