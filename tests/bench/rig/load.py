"""The load generator: callers that each wait for an answer before they ask again.

A program of its own, on uvloop, so that it shares an interpreter with nothing that it measures.
What is sent was serialised before: a request is its template with a request id of its own put in.
Every answer is kept and checked after the window; one that is not right fails the program.
"""

import asyncio
import base64
import hashlib
import itertools
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop

from puhui.datashare.v1.accesses_pb2 import FetchSummaryResponse
from puhui.datashare.v1.catalogue_pb2 import GetRecordTypeResponse
from puhui.scoring.v1.scoring_pb2 import (
    BatchScoreRequest,
    BatchScoreResponse,
    ScoreRequest,
    ScoreResponse,
)
from tests.bench.rig import echo
from tests.bench.rig.processes import announce

SCORE = "/puhui.scoring.v1.ScoringService/Score"
BATCH_SCORE = "/puhui.scoring.v1.ScoringService/BatchScore"
FETCH = "/puhui.datashare.v1.AccessService/FetchSummary"
HOP = "/puhui.datashare.v1.CatalogueService/GetRecordType"
"""Answered from memory by the service behind the gateway: what it costs is the way there."""

TYPE = "vat_invoice"
"""What a hop asks for."""

PLACE = "request-id-of-thirty-two-letters"
"""Stands in a template where each request gets an id of its own; the same length, so that the
lengths around it stay right."""

_TIMEOUT = 30.0
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """What one request asks, and as whom.

    Args:
        channel: which connection; each key has one.
        authorization: of the caller; empty is nobody.
        head: the request up to its id; all of it, when it has none.
        tail: what follows the id.
        named: it has an id.
    """

    channel: int
    authorization: str
    head: bytes
    tail: bytes
    named: bool

    @classmethod
    def of(cls, channel: int, authorization: str, template: bytes) -> "Target":
        """A target from a serialised template."""
        head, place, tail = template.partition(PLACE.encode())
        return cls(channel, authorization, head, tail, bool(place))

    def body(self, name: bytes) -> bytes:
        """The request with its id."""
        return self.head + name + self.tail if self.named else self.head


@dataclass(frozen=True)
class Tls:
    """How the load generator proves who it is; PEM.

    Args:
        ca: the authority of the server's certificate.
        clients: key and certificate by channel.
    """

    ca: str
    clients: Sequence[tuple[str, str]]

    def credentials(self, channel: int) -> grpc.ChannelCredentials:
        """The credentials of a channel."""
        key, certificate = self.clients[channel]
        return grpc.ssl_channel_credentials(self.ca.encode(), key.encode(), certificate.encode())


def connect(
    address: str, channel: int, tls: Tls | None, options: Sequence[tuple[str, int]]
) -> grpc.aio.Channel:
    """Opens a connection."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, tls.credentials(channel), options=options)


@dataclass
class Window:
    """What was measured.

    Args:
        seconds: from the end of the warm-up to the end.
        latencies: of the answers that came in it, seconds.
        answers: all that came, those of the warm-up too.
    """

    seconds: float
    latencies: list[float]
    answers: list[bytes]


def names() -> Iterator[bytes]:
    """Request ids of this program's run: distinct in it and from every other run's."""
    run = secrets.token_hex(8)
    return (f"{run}{number:016x}".encode() for number in itertools.count())


async def press(
    address: str,
    method: str,
    targets: Sequence[Target],
    callers: int,
    warmup: float,
    seconds: float,
    tls: Tls | None = None,
) -> Window:
    """Calls from `callers` sides at once, each target in turn.

    Raises:
        grpc.aio.AioRpcError: an answer was not OK.
    """
    count = 1 + max(target.channel for target in targets)
    # Else gRPC would put all of them on one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [connect(address, number, tls, options) for number in range(count)]
    calls: list[Any] = [channel.unary_unary(method) for channel in channels]
    turn, name = itertools.cycle(targets), names()
    window = Window(0.0, [], [])
    begins = time.perf_counter() + warmup
    ends = begins + seconds

    async def caller() -> None:
        while (started := time.perf_counter()) < ends:
            target = next(turn)
            metadata = (("authorization", target.authorization),) if target.authorization else ()
            answer = await calls[target.channel](
                target.body(next(name)), metadata=metadata, timeout=_TIMEOUT
            )
            finished = time.perf_counter()
            window.answers.append(answer)
            if begins <= finished < ends:
                window.latencies.append(finished - started)

    async def mark() -> None:
        await asyncio.sleep(begins - time.perf_counter())
        announce("begin")
        await asyncio.sleep(ends - time.perf_counter())
        announce("end")

    await asyncio.gather(mark(), *(caller() for _ in range(callers)))
    for channel in channels:
        await channel.close()
    window.seconds = seconds
    return window


async def portfolios(
    address: str,
    target: Target,
    templates: Sequence[bytes],
    seconds: float,
    tls: Tls | None = None,
) -> Window:
    """Scores one portfolio after the other, each in one call; the first is the warm-up.

    Raises:
        grpc.aio.AioRpcError: an answer was not OK.
    """
    options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
    window = Window(0.0, [], [])
    name = names()
    async with connect(address, target.channel, tls, options) as channel:
        batch: Any = channel.unary_stream(BATCH_SCORE)
        for number in itertools.count():
            orders = []
            for template in templates:
                order = ScoreRequest.FromString(template).order
                order.request_id = next(name).decode()
                orders.append(order)
            body = BatchScoreRequest(orders=orders).SerializeToString()
            metadata = (("authorization", target.authorization),)
            if number == 1:
                announce("begin")
            started = time.perf_counter()
            async for answer in batch(body, metadata=metadata, timeout=10 * _TIMEOUT):
                window.answers.append(answer)
            if number:
                window.latencies.append(time.perf_counter() - started)
                window.seconds += window.latencies[-1]
            if window.seconds >= seconds:
                announce("end")
                return window
    raise AssertionError("unreachable: the loop has no end of its own")


def check_scores(answers: Sequence[bytes]) -> None:
    """Each answer is a decision, and no two are the same one."""
    _distinct([ScoreResponse.FromString(answer).decision.decision_id for answer in answers])


def check_fetches(answers: Sequence[bytes]) -> None:
    """Each answer is a release of its own, whose receipt is about it."""
    accesses = []
    for answer in answers:
        response = FetchSummaryResponse.FromString(answer)
        receipt = response.receipt
        hashed = hashlib.sha256(b"\x00" + receipt.salt + receipt.content).digest()
        if hashed != receipt.leaf_hash or response.access_id.encode() not in receipt.content:
            raise ValueError("a receipt is not about its release")
        if not response.summary.coverage or not response.manifest:
            raise ValueError("an answer does not say what is there")
        accesses.append(response.access_id)
    _distinct(accesses)


def check_portfolios(answers: Sequence[bytes]) -> None:
    """Each result is a decision, and no two are the same one."""
    results = [BatchScoreResponse.FromString(answer) for answer in answers]
    _distinct([result.decision.decision_id for result in results])


def check_hops(answers: Sequence[bytes]) -> None:
    """Each answer is the type that was asked for."""
    if any(GetRecordTypeResponse.FromString(answer).type.record_type != TYPE for answer in answers):
        raise ValueError("an answer is of no type")


def check_echoes(answers: Sequence[bytes]) -> None:
    """Each answer is what was sent."""
    sent = echo.request()
    if any(answer != sent for answer in answers):
        raise ValueError("an echo is not what was sent")


def _distinct(ids: Sequence[str]) -> None:
    if not all(ids):
        raise ValueError("an answer has no decision or access")
    if len(set(ids)) != len(ids):
        raise ValueError("two requests got the same decision or access")


_CHECKS: dict[str, Callable[[Sequence[bytes]], None]] = {
    SCORE: check_scores,
    BATCH_SCORE: check_portfolios,
    FETCH: check_fetches,
    HOP: check_hops,
    echo.METHOD: check_echoes,
}


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job: see `score_rpc`."""
    templates = [base64.b64decode(template) for _, _, template in job["targets"]]
    targets = [
        Target.of(channel, authorization, template)
        for (channel, authorization, _), template in zip(job["targets"], templates, strict=True)
    ]
    tls = Tls(**job["tls"]) if job.get("tls") else None
    if job["method"] == BATCH_SCORE:
        window = await portfolios(job["address"], targets[0], templates, job["seconds"], tls)
        done = len(window.latencies) * len(templates)
    else:
        window = await press(
            job["address"],
            job["method"],
            targets,
            job["callers"],
            job["warmup"],
            job["seconds"],
            tls,
        )
        done = len(window.latencies)
    _CHECKS[job["method"]](window.answers)
    ranked = sorted(window.latencies)

    def quantile(share: float) -> float:
        return round(ranked[min(int(share * len(ranked)), len(ranked) - 1)] * 1000, 3)

    return {
        "per_s": done / window.seconds,
        "calls": len(ranked),
        "checked": len(window.answers),
        "p50_ms": quantile(0.50),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
