"""What parties are told, over real gRPC and HTTP; and by webhook, also when datashare is killed."""

import asyncio
import json
import signal
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from puhui.datashare.v1 import notices_pb2 as pb
from puhui_client import Client, NotFoundError, webhooks
from puhui_client.errors import InvalidArgumentError, PermissionDeniedError
from tests.e2e.platforms import Process, started
from tests.e2e.town import USCC, Town
from tests.fakes.receiver import Receiver, receiving

GRANTED, WITHDRAWN = pb.NOTICE_KIND_CONSENT_GRANTED, pb.NOTICE_KIND_CONSENT_WITHDRAWN


async def test_a_withdrawal_is_told_to_who_listens_asks_or_is_posted_to(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm, receiving() as receiver:
        waiting = (await bank.waiting_notices(limit=500)).notices
        mine = [each for each in waiting if each.consent_id == consent.consent_id]
        assert mine[-1].kind == GRANTED
        last = [item.cursor async for item in bank.notices()][-1]
        await bank.acknowledge_notices(last)
        assert not (await bank.waiting_notices()).notices
        made = await bank.set_webhook(receiver.url)

        told = bank.notices(follow=True)
        next_one = asyncio.ensure_future(anext(told))
        await firm.withdraw_consent(consent.consent_id)
        async with asyncio.timeout(20):
            item = await next_one
            await receiver.came.wait()
        assert (item.notice.kind, item.notice.consent_id) == (WITHDRAWN, consent.consent_id)
        assert item.notice.text_zh == "授权已被企业撤回，不得再据此查询。"
        headers, body = receiver.requests[0]
        posted = webhooks.verify(made.secret, headers, body)
        assert posted.notice_id == item.notice.notice_id
        assert USCC.encode() not in body

        (shown,) = [each async for each in bank.webhooks()]
        assert shown.url == receiver.url
        async with town.client("operator") as operator:
            assert shown.participant_id in {
                each.participant_id async for each in operator.webhooks()
            }
            assert [each async for each in operator.parked_contacts()] == []
        with pytest.raises(PermissionDeniedError):
            await anext(bank.parked_contacts())
        with pytest.raises(InvalidArgumentError) as refused:
            await bank.acknowledge_notices((await firm.waiting_notices()).cursor)
        assert refused.value.reason == "PAGE_TOKEN_INVALID"
        await bank.acknowledge_notices(item.cursor)
        await bank.remove_webhook()
        with pytest.raises(NotFoundError):
            await bank.resume_webhook()


async def test_over_http(town: Town) -> None:
    consent = await town.consent()
    authorization = {"authorization": f"Bearer {town.key('firm')}"}
    base = f"http://{town.platform.http}"
    async with httpx2.AsyncClient(base_url=base, headers=authorization, timeout=20) as http:
        page = (await http.get("/v1/notices", params={"page_size": 500})).json()
        assert consent.consent_id in {each["consentId"] for each in page["notices"]}
        follow = {"follow": "true"}
        async with http.stream("GET", "/v1/notices:stream", params=follow) as stream:
            lines = (line async for line in stream.aiter_lines() if line.startswith("data:"))
            first = json.loads((await anext(lines))[5:])
        assert first["notices"][0] == page["notices"][0]
        done = await http.post("/v1/notices:acknowledge", json={"cursor": page["cursor"]})
        assert done.status_code == 200
        contact = {"email": "owner@firm.example.cn", "language": "en"}
        asked = {"contact": contact, "requestId": "set"}
        assert (await http.post("/v1/contact", json=asked)).status_code == 200
        shown = (await http.get("/v1/contact")).json()["contact"]
        assert shown == contact | {
            "mobile": "",
            "emailParked": False,
            "mobileParked": False,
        }
        ended = {"contact": {"language": "zh"}, "requestId": "end"}
        assert (await http.post("/v1/contact", json=ended)).status_code == 200


async def test_a_notice_is_delivered_though_datashare_is_killed_before(tmp_path: Path) -> None:
    receiver = Receiver()
    with started(Process(tmp_path)) as process:
        operator_key = (tmp_path / "operator.key").read_text().strip()
        async with Client(process.gateway, operator_key, timeout=20) as operator:
            tax = await operator.register_participant("PROVIDER", "tax", provider_kind="tax")
            await operator.register_participant("FIRM", "a firm", uscc=USCC)
            member = await operator.register_participant("BANK", "a bank")
            key = (await operator.issue_key(member.participant_id)).api_key
        async with Client(process.gateway, key, timeout=20) as bank:
            async with receiving(receiver):
                made = await bank.set_webhook(receiver.url)
            # Nobody listens there now.
            asked = await bank.request_consent(
                uscc=USCC,
                purpose="credit_application",
                providers=[tax.participant_id],
                record_types=["vat_invoice"],
                data_from=date(2023, 1, 1),
                data_to=date(2026, 12, 31),
                expires_at=datetime.now(UTC) + timedelta(days=30),
                officer="Wang 王",
                file_reference="A-17",
            )
        await asyncio.to_thread(process.end, signal.SIGKILL)
        async with receiving(receiver):
            await asyncio.to_thread(process.start)
            async with asyncio.timeout(60):
                await receiver.came.wait()
        headers, body = receiver.requests[0]
        notice = webhooks.verify(made.secret, headers, body)
        assert (notice.kind, notice.consent_id) == (
            pb.NOTICE_KIND_CONSENT_REQUESTED,
            asked.consent_id,
        )
