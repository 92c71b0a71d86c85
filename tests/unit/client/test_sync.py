"""The client without an event loop, in a thread that has none, against a real server."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from puhui.datashare.v1 import accesses_pb2
from puhui.gateway.v1 import gateway_pb2
from puhui_client import Client, NotFoundError, SyncClient
from puhui_client.loop_thread import LoopThread
from tests.fakes.platform import FakePlatform, refusal


async def without_loop(work: Callable[[SyncClient], object], platform: FakePlatform) -> object:
    def run() -> object:
        with SyncClient(platform.address, "key_1.secret", timeout=5) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_a_call_returns_its_answer(platform: FakePlatform) -> None:
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))
    told = await without_loop(lambda client: client.whoami().participant_id, platform)
    assert told == "par_1"
    assert platform.calls[0].metadata["authorization"] == "Bearer key_1.secret"


async def test_an_error_is_raised_as_it_is(platform: FakePlatform) -> None:
    platform.answer("GetDecision", refusal("NOT_FOUND", "NOT_FOUND"))
    with pytest.raises(NotFoundError):
        await without_loop(lambda client: client.get_decision("dec_1"), platform)


async def test_a_list_is_paged_as_it_is_read(platform: FakePlatform) -> None:
    def page(*ids: str, after: str = "") -> accesses_pb2.ListAccessesResponse:
        accesses = [accesses_pb2.Access(access_id=one) for one in ids]
        return accesses_pb2.ListAccessesResponse(accesses=accesses, next_page_token=after)

    platform.answer("ListAccesses", page("a", "b", after="2"), page("c"))

    def first(client: SyncClient) -> tuple[str, int]:
        accesses = client.accesses()
        return next(accesses).access_id, len(platform.requests("ListAccesses"))

    assert await without_loop(first, platform) == ("a", 1)
    platform.answer("ListAccesses", page("a", "b", after="2"), page("c"))
    told = await without_loop(
        lambda client: [access.access_id for access in client.accesses()], platform
    )
    assert told == ["a", "b", "c"]


async def test_one_client_serves_several_threads(platform: FakePlatform) -> None:
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))

    def all_of_them(client: SyncClient) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return [w.participant_id for w in pool.map(lambda _: client.whoami(), range(40))]

    assert await without_loop(all_of_them, platform) == ["par_1"] * 40


async def test_a_closed_client_says_so(platform: FakePlatform) -> None:
    def closed() -> None:
        client = SyncClient(platform.address, "key_1.secret")
        client.close()
        client.whoami()

    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.to_thread(closed)


def test_an_iterator_that_is_left_is_ended_where_it_runs() -> None:
    ended = []

    async def endless() -> AsyncGenerator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append(True)

    loop = LoopThread()
    items = loop.iterate(endless())
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]  # it is a generator
    loop.stop()
    assert ended == [True]


def test_it_has_every_method_with_the_same_parameters() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(SyncClient) == methods(Client)
