"""`puhui notices`, `puhui webhook` and `puhui contact`."""

import json
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from puhui.datashare.v1 import notices_pb2 as pb
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

DUE = pb.Notice(
    notice_id="ntc_1",
    kind=pb.NOTICE_KIND_ERASURE_DUE,
    occurred_at=Timestamp(seconds=1_700_000_000),
    consent_id="con_1",
    due_at=Timestamp(seconds=1_700_086_400),
    text_zh="须于期限前删除。",
    text_en="It must be erased.",
)
OPENED = pb.Notice(
    notice_id="ntc_2",
    kind=pb.NOTICE_KIND_DISPUTE_OPENED,
    occurred_at=Timestamp(seconds=1_700_000_001),
    dispute_id="dis_1",
    text_zh="企业提出异议。",
    text_en="It is disputed.",
)
PARKED = pb.Webhook(
    participant_id="par_bank",
    url="https://bank.example.cn",
    state=pb.WEBHOOK_STATE_PARKED,
    failures=35,
    last_failure="answered with status 503",
    waiting=1200,
)


def page(cursor: str, *notices: pb.Notice) -> pb.StreamNoticesResponse:
    return pb.StreamNoticesResponse(notices=notices, cursor=cursor)


def test_it_lists_and_acknowledges_what_was_shown(call: Run, platform: FakePlatform) -> None:
    platform.answer("StreamNotices", [page("2", DUE, OPENED)], [page("2", DUE)], [])
    platform.answer("AcknowledgeNotices", pb.AcknowledgeNoticesResponse())
    shown = call("notices").out
    for part in ("2 notices", "erasure_due", "须于期限前删除。", "con_1", "dis_1"):
        assert part in shown
    assert platform.requests("AcknowledgeNotices") == []
    assert "It must be erased." in call("notices", "--english", "--ack").out
    assert call("notices", "--ack", "--json").document == {"notices": [], "cursor": ""}
    assert [request.cursor for request in platform.requests("AcknowledgeNotices")] == ["2"]


def test_who_follows_gets_a_line_for_each_and_goes_on_from_the_file(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    kept = tmp_path / "notices.cursor"
    gone = refusal("PERMISSION_DENIED", "MANDATE_REQUIRED")
    platform.answer("StreamNotices", [page("2", DUE), page("3", OPENED), gone])
    outcome = call("notices", "--follow", "--cursor-file", str(kept))
    assert outcome.code == 1
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["con_1", "dis_1"]
    assert kept.read_text() == "3\n"
    lines = call("notices", "--follow", "--json", "--cursor-file", str(kept)).out.splitlines()
    assert [json.loads(line)["cursor"] for line in lines[:2]] == ["2", "3"]
    assert [request.cursor for request in platform.requests("StreamNotices")] == ["", "3"]


def test_who_follows_acknowledges_what_was_shown(call: Run, platform: FakePlatform) -> None:
    gone = refusal("PERMISSION_DENIED", "MANDATE_REQUIRED")
    platform.answer("StreamNotices", [page("2", DUE, OPENED), page("3", DUE), gone])
    platform.answer("AcknowledgeNotices", pb.AcknowledgeNoticesResponse())
    assert len(call("notices", "--follow", "--ack").out.splitlines()) == 3
    assert [request.cursor for request in platform.requests("AcknowledgeNotices")] == ["2", "3"]


def test_a_webhook_is_set_shown_resumed_and_removed(call: Run, platform: FakePlatform) -> None:
    fresh = pb.Webhook(url="https://bank.example.cn/x", state=pb.WEBHOOK_STATE_ACTIVE)
    platform.answer("SetWebhook", pb.SetWebhookResponse(webhook=fresh, secret="whsec_eA=="))
    platform.answer("ListWebhooks", pb.ListWebhooksResponse(webhooks=[PARKED]))
    platform.answer("ResumeWebhook", pb.ResumeWebhookResponse(webhook=fresh))
    platform.answer("RemoveWebhook", pb.RemoveWebhookResponse())
    assert "whsec_eA==" in call("webhook", "set", "https://bank.example.cn/x").out
    shown = call("webhook", "show").out
    for part in ("1 webhook", "parked", "35", "1,200", "503"):
        assert part in shown
    document = call("webhook", "show", "--json").document
    assert document["webhooks"][0]["last_failure"] == PARKED.last_failure
    assert "active" in call("webhook", "resume").out
    assert call("webhook", "remove", "--json").document == {"removed": True}


def test_a_contact_is_set_and_shown(call: Run, platform: FakePlatform) -> None:
    contact = pb.Contact(email="owner@firm.example.cn", language="en")
    platform.answer("SetContact", pb.SetContactResponse(contact=contact))
    platform.answer("GetContact", pb.GetContactResponse())
    shown = call("contact", "set", "--email", "owner@firm.example.cn", "--language", "en").out
    for part in ("owner@firm.example.cn", "none", "en"):
        assert part in shown
    assert platform.requests("SetContact")[0].contact == contact
    assert "none" in call("contact", "show").out
    refused = pb.Contact(email="owner@firm.example.cn", email_parked=True)
    platform.answer("GetContact", pb.GetContactResponse(contact=refused))
    assert "parked" in call("contact", "show").out


def test_the_operator_lists_where_messages_are_refused(call: Run, platform: FakePlatform) -> None:
    since = Timestamp(seconds=1_800_000_000)
    parked = pb.ParkedContact(participant_id="par_firm", email_refused_since=since)
    platform.answer("ListParkedContacts", pb.ListParkedContactsResponse(contacts=[parked]))
    shown = call("contact", "parked").out
    for part in ("1 parked contact", "par_firm", "2027-01-15"):
        assert part in shown
    document = call("contact", "parked", "--json").document
    assert "mobile_refused_since" not in document["contacts"][0]
