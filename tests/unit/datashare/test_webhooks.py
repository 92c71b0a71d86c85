"""Which addresses notices are posted to, how they are signed, and when they are tried again."""

import ipaddress
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from puhui_client import webhooks as client
from services.datashare.notices.domain import Entry, Notice, NoticeKind
from services.datashare.notices.webhooks import (
    LONGEST_DELAY,
    PARK_AFTER,
    PARK_FAILURES,
    Webhook,
    WebhookState,
    body_of,
    check_url,
    failed,
    headers_of,
    may_reach,
    resumed,
    shown_secret,
    taken,
)
from services.kit.errors import InvalidArgumentError
from tests.fakes.datashare_world import NOW

WEBHOOK = Webhook("par_bank", "par_bank", "https://bank.example/x", b"s" * 32, NOW, 0, NOW)
ENTRY = Entry(
    7,
    "ntc_1",
    Notice(
        "par_bank",
        NoticeKind.ERASURE_DUE,
        NOW,
        subject_id="sub_1",
        consent_id="con_1",
        due_at=NOW + timedelta(days=3),
    ),
)


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "https://bank.example.cn/puhui",
            "https://bank.example.cn:8443/a?b=c",
            "https://93.184.215.14/",
            "https://[2606:4700:4700::1111]/",
        ],
    )
    def test_public_ones_by_https(self, url: str) -> None:
        check_url(url, private=False)

    @pytest.mark.parametrize(
        "url",
        [
            "http://bank.example.cn/",
            "http://127.0.0.1/",
            "https://127.0.0.1/",
            "https://localhost/",
            "https://10.0.0.1/",
            "https://192.168.1.1/",
            "https://100.64.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[64:ff9b:1::7f00:1]/",
            "https://[::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[fec0::1]/",
            "https://0.0.0.0/",
            "https://224.0.0.1/",
            "https://user:secret@bank.example.cn/",
            "https://bank.example.cn/#part",
            "https://bank.example.cn:0/",
            "https://bank.example.cn:99999/",
            "https:///x",
            "https://bank.example.cn/ x",
            "https://bank.example.cn/\r\nhost: x",
            "https://bank.example.cn/银行",
            "https://[::1/",
            "ftp://bank.example.cn/",
            "bank.example.cn",
            "",
        ],
    )
    def test_nothing_else(self, url: str) -> None:
        with pytest.raises(InvalidArgumentError) as refused:
            check_url(url, private=False)
        assert [problem.field for problem in refused.value.fields] == ["url"]

    def test_a_sandbox_may_reach_itself_but_not_the_credentials_of_a_cloud(self) -> None:
        for url in (
            "http://127.0.0.1:9/",
            "http://localhost/",
            "http://[::1]/",
            "https://10.0.0.1",
        ):
            check_url(url, private=True)
        for url in ("http://10.0.0.1/", "http://bank.example.cn/", "https://169.254.169.254/"):
            with pytest.raises(InvalidArgumentError):
                check_url(url, private=True)
        assert not may_reach(ipaddress.ip_address("fe80::1"), private=True)
        assert not may_reach(ipaddress.ip_address("::ffff:169.254.169.254"), private=True)


class TestTrying:
    def test_it_waits_longer_each_time_and_is_parked_after_a_day(self) -> None:
        webhook, now, waits = WEBHOOK, NOW, []
        while webhook.state is WebhookState.ACTIVE:
            webhook = failed(webhook, "answered with status 500", now, lambda: 1.0)
            waits.append((webhook.next_attempt_at - now).total_seconds())
            now = webhook.next_attempt_at
        assert waits[:4] == [5, 10, 20, 40]
        assert max(waits) == LONGEST_DELAY.total_seconds()
        assert waits == sorted(waits)
        assert webhook.failures == len(waits) > PARK_FAILURES
        assert webhook.failing_since == NOW
        assert PARK_AFTER <= now - LONGEST_DELAY - NOW < PARK_AFTER + LONGEST_DELAY
        assert webhook.last_failure == "answered with status 500"

    def test_attempts_of_many_are_spread(self) -> None:
        soon = failed(WEBHOOK, "no", NOW, lambda: 0.0)
        assert soon.next_attempt_at == NOW + timedelta(seconds=2.5)

    def test_one_failure_after_a_long_pause_parks_nothing(self) -> None:
        webhook = failed(WEBHOOK, "no", NOW, lambda: 1.0)
        webhook = failed(webhook, "no", NOW + timedelta(days=9), lambda: 1.0)
        assert webhook.state is WebhookState.ACTIVE

    def test_a_success_or_a_resumption_forgets_failures(self) -> None:
        bad = replace(failed(WEBHOOK, "no", NOW, lambda: 1.0), state=WebhookState.PARKED)
        assert resumed(bad, NOW) == WEBHOOK
        assert taken(failed(WEBHOOK, "no", NOW, lambda: 1.0), 7, NOW) == replace(
            WEBHOOK, position=7
        )


class TestSigning:
    secret = shown_secret(WEBHOOK.secret)
    body = body_of(ENTRY)
    headers = headers_of(WEBHOOK, ENTRY, body, NOW)

    @staticmethod
    def at(seconds: float = 0) -> float:
        return NOW.timestamp() + seconds

    def test_the_client_verifies_what_is_posted(self) -> None:
        upper = {name.upper(): value for name, value in self.headers.items()}
        notice = client.verify(self.secret, upper, self.body, now=self.at)
        assert notice.notice_id == "ntc_1"
        assert notice.consent_id == "con_1"
        assert notice.due_at.ToDatetime(NOW.tzinfo) == NOW + timedelta(days=3)
        assert json.loads(self.body)["type"] == "erasure.due"

    def test_known_signature(self) -> None:
        """As computed with the reference implementation's formula, apart from ours."""
        import base64
        import hashlib
        import hmac

        content = b"ntc_1." + self.headers["webhook-timestamp"].encode() + b"." + self.body
        mac = hmac.new(base64.b64decode(self.secret[6:]), content, hashlib.sha256).digest()
        assert self.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()

    @pytest.mark.parametrize(
        "changes",
        [
            {"webhook-id": "ntc_2"},
            {"webhook-timestamp": "1"},
            {"webhook-timestamp": "x"},
            {"webhook-timestamp": ""},
            {"webhook-signature": ""},
            {"webhook-signature": "v1,AAAA"},
            {"webhook-signature": "v2,AAAA"},
        ],
    )
    def test_what_was_altered_is_refused(self, changes: dict[str, str]) -> None:
        with pytest.raises(client.NotVerifiedError):
            client.verify(self.secret, {**self.headers, **changes}, self.body, now=self.at)

    def test_another_body_another_secret_or_another_time_is_refused(self) -> None:
        with pytest.raises(client.NotVerifiedError):
            client.verify(self.secret, self.headers, self.body + b" ", now=self.at)
        with pytest.raises(client.NotVerifiedError):
            client.verify(shown_secret(b"t" * 32), self.headers, self.body, now=self.at)
        for seconds in (301, -301):
            with pytest.raises(client.NotVerifiedError):
                client.verify(
                    self.secret,
                    self.headers,
                    self.body,
                    now=lambda seconds=seconds: self.at(seconds),  # type: ignore[misc]  # a default binds the loop's value
                )
        for wrong in ("", "whsec_", "whsec_%", "c2VjcmV0"):
            with pytest.raises(ValueError, match="whsec_"):
                client.verify(wrong, self.headers, self.body, now=self.at)

    def test_one_of_several_signatures_is_enough(self) -> None:
        both = {
            **self.headers,
            "webhook-signature": f"v1,AAAA {self.headers['webhook-signature']}",
        }
        assert client.verify(self.secret, both, self.body, now=self.at).notice_id == "ntc_1"
