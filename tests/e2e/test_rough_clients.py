"""Clients that stall, break off or talk nonsense, over plaintext and TLS: others are served.

Payloads come from a seeded generator. Nobody who does what is right waits for those who do not; the
bound on that is generous, for a loaded machine.
"""

import asyncio
import os
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from services.gateway.http import protocol, server
from tests.bench.rig.processes import megabytes
from tests.e2e.secured import Secured, secured

WHO = "/puhui.gateway.v1.GatewayService/WhoAmI"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE = 20.0
GROWTH_MB = 300.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Secured]:
    loopback = "127.0.0.1:0"
    async with secured(tmp_path, plain_listen=loopback, plain_http_listen=loopback) as made:
        yield made


class Line:
    """A connection that can be broken off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, content: bytes) -> None:
        with suppress(OSError):
            self.writer.write(content)
            await self.writer.drain()

    async def ended(self) -> None:
        """Wait until the other end closes."""
        with suppress(OSError, ssl.SSLError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Break off by RST."""
        made: socket.socket = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def connected(port: int, context: ssl.SSLContext | None = None) -> Line:
    return Line(*await asyncio.open_connection("127.0.0.1", port, ssl=context))


def entrances(world: Secured) -> list[tuple[int, ssl.SSLContext | None]]:
    """The listeners: how to come to each."""
    plain_http, plain_grpc = world.gateway.plain_http_port, world.gateway.plain_port
    assert plain_http
    assert plain_grpc
    certified = world.certified
    issued = certified.participant()
    plain, mutual = certified.context(), certified.context(issued)
    h2 = certified.context(issued)
    h2.set_alpn_protocols(["h2"])
    return [
        (plain_http, None),
        (world.gateway.http_port, plain),
        (world.gateway.http_port, mutual),
        (plain_grpc, None),
        (world.gateway.port, h2),
    ]


async def served(world: Secured) -> None:
    """Somebody else is answered by every entrance."""
    key = {"authorization": f"Bearer {world.key('BANK')}"}
    async with asyncio.timeout(PATIENCE):
        plain = f"http://127.0.0.1:{world.gateway.plain_http_port}"
        async with world.http() as https, httpx2.AsyncClient(base_url=plain) as http:
            for client in (https, http):
                assert (await client.get("/v1/whoami", headers=key)).status_code == 200
        for channel in (
            world.channel(world.certified.participant()),
            grpc.aio.insecure_channel(f"127.0.0.1:{world.gateway.plain_port}"),
        ):
            async with channel:
                call: Any = channel.unary_unary(WHO)
                assert await call(b"", metadata=tuple(key.items()))


def nonsense(rng: random.Random) -> bytes:
    """What no client sends: noise, or what begins right."""
    noise = rng.randbytes(rng.choice((1, 9, 100, 5000)))
    return rng.choice(
        (
            noise,
            PREFACE + noise,
            PREFACE + b"\0\0\0\4\0\0\0\0\0" + noise,
            b"GET / HTTP/1.1\r\n" + noise + b"\r\n\r\n",
            b"GET /" + noise.hex().encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n" + noise,
            b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + noise,
            b"POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n" + noise,
            b"GET /v1/whoami HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + noise + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01" + noise,
        )
    )


async def talk(world: Secured, seed: int, rounds: int) -> None:
    """Say nonsense at every entrance, breaking off in one way or another."""
    rng = random.Random(seed)
    ways = entrances(world)
    for _ in range(rounds):
        for port, context in ways:
            line = await connected(port, rng.choice((None, context)))
            await line.say(nonsense(rng))
            if rng.random() < 0.5:
                line.reset()
            else:
                line.writer.close()


async def flood(world: Secured, rounds: int) -> None:
    before = megabytes(os.getpid(), "VmRSS")
    async with asyncio.TaskGroup() as talks:
        for seed in range(4):
            talks.create_task(talk(world, seed, rounds))
    await served(world)
    assert megabytes(os.getpid(), "VmRSS") - before < GROWTH_MB


async def test_nonsense_and_resets_disturb_nobody(world: Secured) -> None:
    await flood(world, 3)


@pytest.mark.heavy
async def test_much_nonsense_disturbs_nobody(world: Secured) -> None:
    await flood(world, 100)


async def idle(world: Secured, each: int) -> list[Line]:
    """Open connections that stall: before, in and after the handshake, in a head, in a body."""
    lines = []
    beginnings = (
        b"",
        b"GET /v1/whoami HTTP/1.1\r\nx-slow: ",
        b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        PREFACE[:10],
        PREFACE,
    )
    for port, context in entrances(world):
        for beginning in beginnings:
            for _ in range(each):
                line = await connected(port, context)
                await line.say(beginning)
                lines.append(line)
        if context:
            for beginning in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
                line = await connected(port)
                await line.say(beginning)
                lines.append(line)
    return lines


async def stalled(world: Secured, each: int) -> None:
    lines = await idle(world, each)
    try:
        await served(world)
    finally:
        for line in lines:
            line.writer.transport.abort()
    await served(world)


async def test_clients_that_stall_hold_up_nobody(world: Secured) -> None:
    await stalled(world, 2)


@pytest.mark.heavy
async def test_many_clients_that_stall_hold_up_nobody(world: Secured) -> None:
    await stalled(world, 20)


@pytest.mark.parametrize("beginning", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_handshake_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.3)
    async with secured(tmp_path) as world:
        line = await connected(world.gateway.http_port)
        await line.say(beginning)
        async with asyncio.timeout(PATIENCE):
            await line.ended()
        line.writer.transport.abort()


async def test_a_head_that_never_ends_is_ended(
    world: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    line = await connected(world.gateway.http_port, world.certified.context())
    await line.say(b"GET / HTTP/1.1\r\nx: ")
    async with asyncio.timeout(PATIENCE):
        await line.ended()
    line.writer.transport.abort()


async def test_huge_metadata_is_refused_and_others_are_served(world: Secured) -> None:
    async with world.channel(world.certified.participant()) as channel:
        call: Any = channel.unary_unary(WHO)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", metadata=(("x-much", "x" * 2_000_000),), timeout=10)
    async with world.http() as http:
        with suppress(httpx2.TransportError):
            answer = await http.get("/v1/whoami", headers={"x-much": "x" * 2_000_000})
            assert answer.status_code == 431
    await served(world)
