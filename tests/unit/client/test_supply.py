"""What a provider is told, as the client gives it."""

from datetime import date
from typing import Any

import pytest
from google.type.date_pb2 import Date

from puhui.datashare.v1 import accesses_pb2, wanted_pb2
from puhui_client import Client, PuhuiError, UnavailableError, WantedItem, transport
from tests.fakes.platform import UNAVAILABLE, FakePlatform, refusal


def page(cursor: str, *consents: str) -> wanted_pb2.StreamWantedResponse:
    return wanted_pb2.StreamWantedResponse(
        items=[wanted_pb2.Wanted(consent_id=consent) for consent in consents], cursor=cursor
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.001)


async def test_an_item_says_where_to_go_on_once_it_is_dealt_with(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("StreamWanted", [page("2", "a", "b"), page("3"), page("4", "c")])
    items = [(item.wanted.consent_id, item.cursor) async for item in client.wanted("1")]
    assert items == [("a", "1"), ("b", "2"), ("c", "4")]
    (request,) = platform.requests("StreamWanted")
    assert request == wanted_pb2.StreamWantedRequest(cursor="1")


async def test_a_dropped_stream_goes_on_behind_the_last_item(
    client: Client, platform: FakePlatform
) -> None:
    late = refusal("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    platform.answer(
        "StreamWanted", [page("2", "a", "b"), UNAVAILABLE], [late], [page("3", "c"), UNAVAILABLE]
    )
    items: list[WantedItem] = []
    async for item in client.wanted(follow=True):
        items.append(item)
        if len(items) == 3:
            break
    assert [item.wanted.consent_id for item in items] == ["a", "b", "c"]
    asked = [(request.cursor, request.follow) for request in platform.requests("StreamWanted")]
    assert asked == [("", True), ("2", True), ("2", True)]


async def test_a_platform_that_stays_away_and_a_refusal_end_it(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("StreamWanted", [UNAVAILABLE])
    with pytest.raises(UnavailableError):
        await anext(client.wanted(follow=True))
    suspended = refusal("PERMISSION_DENIED", "PARTICIPANT_SUSPENDED")
    platform.answer("StreamWanted", [page("2", "a"), suspended])
    items = client.wanted(follow=True)
    await anext(items)
    with pytest.raises(PuhuiError) as ended:
        await anext(items)
    assert ended.value.reason == "PARTICIPANT_SUSPENDED"


async def test_uses(client: Client, platform: FakePlatform) -> None:
    def use(record_type: str) -> Any:
        return accesses_pb2.Use(record_type=record_type, count=2)

    platform.answer(
        "ListUses",
        accesses_pb2.ListUsesResponse(uses=[use("a")], next_page_token="p"),
        accesses_pb2.ListUsesResponse(uses=[use("b")]),
    )
    found = [use async for use in client.uses("par_1", first=date(2024, 5, 1))]
    assert [use.record_type for use in found] == ["a", "b"]
    request, _ = platform.requests("ListUses")
    assert (request.provider_id, request.HasField("to")) == ("par_1", False)
    assert getattr(request, "from") == Date(year=2024, month=5, day=1)
