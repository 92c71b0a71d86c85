"""What a party is told, as the client gives it."""

import pytest

from puhui.datashare.v1 import notices_pb2 as pb
from puhui_client import Client, UnavailableError, transport
from puhui_client.errors import PuhuiError
from tests.fakes.platform import UNAVAILABLE, FakePlatform, refusal


def page(cursor: str, *ids: str) -> pb.StreamNoticesResponse:
    return pb.StreamNoticesResponse(
        notices=[pb.Notice(notice_id=notice_id) for notice_id in ids], cursor=cursor
    )


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.001)


async def test_a_dropped_stream_goes_on_behind_the_last_page(
    client: Client, platform: FakePlatform
) -> None:
    late = refusal("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    platform.answer(
        "StreamNotices",
        [UNAVAILABLE],
        [page("2", "a", "b"), page("2"), UNAVAILABLE],
        [late],
        [page("3", "c")],
    )
    told = []
    async for item in client.notices(follow=True):
        told.append((item.notice.notice_id, item.cursor))
        if len(told) == 3:
            break
    assert told == [("a", ""), ("b", "2"), ("c", "3")]
    asked = [(request.cursor, request.follow) for request in platform.requests("StreamNotices")]
    assert asked == [("", True), ("", True), ("2", True), ("2", True)]


async def test_a_platform_that_stays_away_and_a_refusal_end_it(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer("StreamNotices", [UNAVAILABLE])
    with pytest.raises(UnavailableError):
        await anext(client.notices(follow=True))
    platform.answer("StreamNotices", [refusal("PERMISSION_DENIED", "MANDATE_REQUIRED")])
    with pytest.raises(PuhuiError) as refused:
        await anext(client.notices())
    assert refused.value.reason == "MANDATE_REQUIRED"


async def test_asking_acknowledging_and_where_one_is_told(
    client: Client, platform: FakePlatform
) -> None:
    platform.answer(
        "ListNotices", pb.ListNoticesResponse(notices=[pb.Notice(notice_id="a")], cursor="9")
    )
    platform.answer("AcknowledgeNotices", pb.AcknowledgeNoticesResponse())
    waiting = await client.waiting_notices(limit=7)
    await client.acknowledge_notices(waiting.cursor)
    assert platform.requests("ListNotices")[0].page_size == 7
    assert platform.requests("AcknowledgeNotices")[0].cursor == "9"
    webhook = pb.Webhook(url="https://bank.example.cn/x")
    platform.answer("SetWebhook", pb.SetWebhookResponse(webhook=webhook, secret="whsec_eA=="))
    platform.answer("ResumeWebhook", pb.ResumeWebhookResponse(webhook=webhook))
    platform.answer("RemoveWebhook", pb.RemoveWebhookResponse())
    platform.answer("ListWebhooks", pb.ListWebhooksResponse(webhooks=[webhook]))
    assert (await client.set_webhook(webhook.url)).secret == "whsec_eA=="
    assert await client.resume_webhook() == webhook
    assert [each async for each in client.webhooks()] == [webhook]
    await client.remove_webhook()
    contact = pb.Contact(email="a@b.cn", mobile="+8613800000000", language="en")
    platform.answer("SetContact", pb.SetContactResponse(contact=contact))
    platform.answer("GetContact", pb.GetContactResponse())
    assert (
        await client.set_contact(email="a@b.cn", mobile="+8613800000000", language="en") == contact
    )
    assert await client.contact() == pb.Contact()
    assert platform.requests("SetContact")[0].contact == contact
