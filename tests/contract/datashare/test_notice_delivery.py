"""Webhooks over both databases and a real receiver on loopback; the clock is simulated."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from puhui_client import webhooks as client
from services.datashare.catalogue.loader import load
from services.datashare.main import Stores, Work
from services.datashare.mandates.domain import Power
from services.datashare.notices.delivery import Deliver
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.endpoints import webhook as webhook_table
from services.datashare.notices.post import HttpPost
from services.datashare.notices.setting import SettleWebhooks, Shown
from services.datashare.notices.store import NoticeStore, in_turn
from services.datashare.notices.webhooks import PostError, WebhookState, shown_secret
from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions
from services.kit.errors import AlreadyExistsError, NotFoundError, PermissionDeniedError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_world import BANK, FIRM, NOW, OPERATOR, caller
from tests.fakes.mandates import delegated, representative
from tests.fakes.receiver import Receiver, receiving
from tests.fakes.requests import fresh_key
from tests.fakes.sealing import vault
from tests.fakes.threads import busy_threads

SOMETHING = Notice("par_bank", NoticeKind.CONSENT_WITHDRAWN, NOW, subject_id="sub_0001")
OTHER = Caller("par_other", "BANK")


class Log:
    """What the operator is told."""

    def __init__(self) -> None:
        self.taken = 0
        self.failures: list[str] = []
        self.broken: list[BaseException] = []
        self.parked_ones: list[tuple[str, str, str]] = []

    def delivered(self, notices: int) -> None:
        self.taken += notices

    def failed(self, why: str) -> None:
        self.failures.append(why)

    def broke_off(self, error: BaseException) -> None:
        self.broken.append(error)

    def parked(self, participant_id: str, host: str, why: str) -> None:
        self.parked_ones.append((participant_id, host, why))


class Office:
    """Deliveries over one database."""

    def __init__(self, database: Database) -> None:
        self.clock = FixedClock(NOW)
        self.log = Log()
        self.post = HttpPost(private=True)
        catalogue = load()
        stores = Stores(catalogue, RandomIds(self.clock), vault(catalogue, self.clock))
        self.transactions: Transactions[Work] = Transactions(database, stores)
        self.settle = SettleWebhooks(
            self.transactions, self.clock, lambda size: b"k" * size, private=True
        )
        self.deliver = self.replica()

    def replica(self) -> Deliver:
        return Deliver(self.transactions, self.post, self.log, self.clock, lambda: 1.0)

    async def hurry(self) -> None:
        """Wait for answers a moment only."""
        await self.post.close()
        self.post = HttpPost(private=True, timeout_s=1.5)
        self.deliver = self.replica()

    async def happen(self, *numbers: int, party_id: str = "par_bank") -> None:
        for number in numbers:
            async with self.transactions.begin() as work:
                notice = replace(SOMETHING, party_id=party_id, consent_id=f"con_{number}")
                await work.notices.append([notice])

    async def shown(self, who: Caller | None = None) -> Shown:
        (page, last) = await self.settle.list(who or caller(BANK), None, 10)
        assert last is None
        (found,) = page
        return found

    def told(self, receiver: Receiver) -> list[int]:
        """Return the numbers of what came, in its order; each is verified."""
        numbers = []
        for headers, body in receiver.requests:
            stamp = int(headers["webhook-timestamp"])
            secret = shown_secret(b"k" * 32)
            notice = client.verify(secret, headers, body, now=lambda stamp=stamp: stamp)  # type: ignore[misc]  # a default binds the loop's value
            numbers.append(int(notice.consent_id.removeprefix("con_")))
        return numbers


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    """With a clock that stands."""
    office = Office(database)
    yield office
    await office.post.close()


async def test_notices_are_posted_in_order_and_once(office: Office) -> None:
    async with receiving() as receiver:
        await office.happen(1, 2)
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(*range(3, 120))
        await office.happen(7, party_id="par_other")
        await office.deliver()
        await office.deliver()
        assert office.told(receiver) == list(range(1, 120))
        assert set(receiver.paths) == {"/hook?token=hidden"}
        assert receiver.requests[0][0]["host"] == f"127.0.0.1:{receiver.port}"
        assert (await office.shown()).waiting == 0
        assert office.log.taken == 119


async def test_it_begins_behind_what_was_acknowledged(office: Office) -> None:
    await office.happen(1, 2)
    async with office.transactions.begin() as work:
        first, _ = await work.notices.after("par_bank", 0, 10)
        await work.notices.acknowledge("par_bank", first.position)
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.deliver()
        assert office.told(receiver) == [2]


async def test_a_receiver_down_for_a_day_loses_nothing(office: Office) -> None:
    receiver = Receiver()
    async with receiving(receiver):
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(1)
        await office.deliver()
    for number in range(2, 74):
        await office.happen(number)
        await office.deliver()
        shown = await office.shown()
        assert shown.webhook.state is WebhookState.ACTIVE
        assert shown.waiting == number - 1
        office.clock.advance(timedelta(minutes=20))
    assert office.clock.now() == NOW + timedelta(days=1)
    assert 20 < len(office.log.failures) <= 72
    async with receiving(receiver):
        office.clock.advance(timedelta(hours=1))
        await office.deliver()
        assert office.told(receiver) == list(range(1, 74))
    shown = await office.shown()
    assert (shown.waiting, shown.webhook.failures, shown.webhook.last_failure) == (0, 0, "")


async def test_who_fails_for_longer_is_parked_reported_and_resumed(office: Office) -> None:
    receiver = Receiver(status=503)
    async with receiving(receiver):
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(1, 2)
        while (await office.shown()).webhook.state is WebhookState.ACTIVE:
            await office.deliver()
            office.clock.advance(timedelta(minutes=61))
        assert NOW + timedelta(days=1) < office.clock.now() < NOW + timedelta(days=1, hours=4)
        assert office.log.parked_ones == [("par_bank", "127.0.0.1", "answered with status 503")]
        seen = len(receiver.requests)
        office.clock.advance(timedelta(days=3))
        await office.happen(3)
        await office.deliver()
        assert len(receiver.requests) == seen
        everyones = await office.shown(OPERATOR)
        assert everyones.webhook.url == f"http://127.0.0.1:{receiver.port}"
        assert everyones.waiting == 3
        receiver.status = 200
        receiver.requests.clear()
        resumed = await office.settle.resume(caller(BANK), fresh_key())
        assert (resumed.webhook.state, resumed.waiting) == (WebhookState.ACTIVE, 3)
        await office.deliver()
        assert office.told(receiver) == [1, 2, 3]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"status": 302, "headers": "location: http://127.0.0.1:1/\r\n"}, "status 302"),
        ({"status": 410}, "status 410"),
        ({"silent": 1}, "no answer within 1.5 s"),
    ],
)
async def test_what_is_not_taken_is_posted_again(
    office: Office, answer: dict[str, Any], why: str
) -> None:
    if "silent" in answer:
        await office.hurry()
    async with receiving(Receiver(**answer)) as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(1, 2)
        await office.deliver()
        assert why in (await office.shown()).webhook.last_failure
        assert office.told(receiver) == [1]
        receiver.status, receiver.headers = 200, ""
        office.clock.advance(timedelta(seconds=5))
        await office.deliver()
        assert office.told(receiver) == [1, 1, 2]
        first, again, _ = [headers["webhook-id"] for headers, _ in receiver.requests]
        assert first == again


async def test_a_slow_receiver_holds_up_nobody_else(office: Office) -> None:
    await office.hurry()
    async with receiving(Receiver(silent=9)) as slow, receiving() as quick:
        await office.settle.set(caller(BANK), fresh_key(), slow.url)
        await office.settle.set(OTHER, fresh_key(), quick.url)
        await office.happen(1)
        await office.happen(2, party_id="par_other")
        running = asyncio.create_task(office.deliver())
        async with asyncio.timeout(5):
            await quick.came.wait()
        assert office.log.failures == []
        await running


async def test_two_replicas_keep_the_order_and_post_once(office: Office) -> None:
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(*range(1, 130))
        replicas = [office.replica() for _ in range(3)]
        await asyncio.gather(*(replica() for replica in replicas))
        await office.deliver()
        assert office.told(receiver) == list(range(1, 130))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)  # SQLite has one writer
async def test_what_is_told_while_nothing_seems_to_wait_is_posted(office: Office) -> None:
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        async with asyncio.TaskGroup() as group, office.transactions.begin() as work:
            await work.notices.append([replace(SOMETHING, consent_id="con_1")])
            await work.notices.finish()
            # It is not committed when somebody looks, sees nothing, and would look no more.
            looking = group.create_task(office.deliver())
            await asyncio.sleep(0.3)
            assert not looking.done()
        await office.deliver()
        assert office.told(receiver) == [1]
        async with office.transactions.read() as work:
            assert await work.webhooks.due(office.clock.now(), 10) == []


@pytest.mark.parametrize("database", ["postgres"], indirect=True)  # SQLite has one writer
async def test_who_tells_and_who_lets_go_of_a_webhook_wait_for_each_other_in_turn(
    office: Office, database: Database
) -> None:
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.deliver()  # nothing waits, which is noted
        async with (
            asyncio.timeout(20),
            asyncio.TaskGroup() as group,
            database.begin() as conn,
        ):
            await in_turn(conn, ["par_bank"])
            # As if it had been due a moment ago: another replica let go of it meanwhile.
            group.create_task(office.deliver._turn("par_bank"))
            await asyncio.sleep(0.3)
            store = NoticeStore(conn, RandomIds(office.clock))
            await store.append([replace(SOMETHING, consent_id="con_1")])
            await store.finish()
        await office.deliver()
        assert office.told(receiver) == [1]


async def test_a_clock_that_is_set_back_puts_nothing_off(office: Office) -> None:
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        office.clock.advance(timedelta(days=30))
        await office.happen(1)
        await office.deliver()
        office.clock.advance(timedelta(days=-30))
        await office.happen(2)
        await office.deliver()
        assert office.told(receiver) == [1, 2]


async def test_what_nobody_foresaw_is_told_to_the_operator_and_tried_again(office: Office) -> None:
    async def broken(url: str, headers: dict[str, str], body: bytes) -> None:
        raise ZeroDivisionError

    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(1)
        deliver = Deliver(office.transactions, broken, office.log, office.clock, lambda: 1.0)
        with pytest.raises(ZeroDivisionError):
            await deliver()
        await asyncio.sleep(0)
        assert [type(error) for error in office.log.broken] == [ZeroDivisionError]
        office.clock.advance(timedelta(seconds=30))
        await office.deliver()
        assert office.told(receiver) == [1]


async def test_one_that_dies_is_followed_when_its_time_is_over(office: Office) -> None:
    async with receiving() as receiver:
        await office.settle.set(caller(BANK), fresh_key(), receiver.url)
        await office.happen(1)
        async with office.transactions.begin() as work:
            lease = office.clock.now() + timedelta(seconds=30)
            assert await work.webhooks.claim("par_bank", office.clock.now(), lease)
        await office.deliver()
        assert receiver.requests == []
        office.clock.advance(timedelta(seconds=30))
        await office.deliver()
        assert office.told(receiver) == [1]


async def test_another_address_goes_on_where_the_one_before_was(office: Office) -> None:
    async with receiving() as first, receiving() as second:
        await office.settle.set(caller(BANK), fresh_key(), first.url)
        await office.happen(1)
        await office.deliver()
        await office.happen(2)
        await office.settle.set(caller(BANK), fresh_key(), second.url)
        await office.deliver()
        assert (office.told(first), office.told(second)) == ([1], [2])
        await office.settle.remove(caller(BANK), fresh_key())
        await office.happen(3)
        await office.deliver()
        assert office.told(second) == [2]
        assert (await office.settle.list(caller(BANK), None, 10))[0] == []
        with pytest.raises(NotFoundError):
            await office.settle.resume(caller(BANK), fresh_key())


async def test_calls_sent_again_and_out_of_order_bring_back_no_address_of_before(
    office: Office,
) -> None:
    first, removal, again = fresh_key(), fresh_key(), fresh_key()
    await office.settle.set(caller(BANK), first, "https://old.example.cn/hook")
    await office.settle.remove(caller(BANK), removal)
    await office.settle.set(caller(BANK), again, "https://new.example.cn/hook")
    with pytest.raises(AlreadyExistsError) as refused:
        await office.settle.set(caller(BANK), first, "https://old.example.cn/hook")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    await office.settle.remove(caller(BANK), removal)
    shown = await office.shown()
    assert shown.webhook.url == "https://new.example.cn/hook"
    other = replace(removal, fingerprint=b"o" * 32)
    with pytest.raises(AlreadyExistsError):
        await office.settle.remove(caller(BANK), other)

    parking = fresh_key()
    assert (await office.settle.resume(caller(BANK), parking)).webhook == shown.webhook
    async with office.transactions.begin() as work:
        await work.webhooks.update(replace(shown.webhook, state=WebhookState.PARKED))
    again_parked = await office.settle.resume(caller(BANK), parking)
    assert again_parked.webhook.state is WebhookState.PARKED


async def test_address_and_secret_are_sealed(office: Office, database: Database) -> None:
    await office.settle.set(caller(BANK), fresh_key(), "https://bank.example.cn/hook?token=hidden")
    async with database.read() as conn:
        (row,) = await conn.execute(sa.select(webhook_table))
    assert b"hidden" not in row.endpoint
    assert b"kkkk" not in row.endpoint


@pytest.mark.parametrize("how", ["suspended", "a delegate who may not read"])
async def test_a_firms_ends_with_who_speaks_for_it(office: Office, how: str) -> None:
    mandate = representative(FIRM)
    async with office.transactions.begin() as work:
        await work.participants.add(FIRM)
        await work.mandates.add(mandate)
    async with receiving() as receiver:
        await office.settle.set(caller(FIRM), fresh_key(), receiver.url)
        await office.happen(1, party_id="sub_0001")
        await office.deliver()
        async with office.transactions.begin() as work:
            if how == "suspended":
                await work.mandates.suspend([mandate], NOW)
            else:
                await work.mandates.end([replace(mandate, ended_at=NOW)])
                await work.mandates.add(delegated(mandate, Power.SUBMIT))
        await office.happen(2, party_id="sub_0001")
        await office.deliver()
        assert office.told(receiver) == [1]
        ((_, host, why),) = office.log.parked_ones
        assert (host, "may not read for the firm" in why) == ("127.0.0.1", True)
        with pytest.raises(PermissionDeniedError):
            await office.settle.resume(caller(FIRM), fresh_key())


async def test_pages_show_parked_ones_first(office: Office) -> None:
    for number in range(5):
        who = Caller(f"par_{number}", "BANK")
        await office.settle.set(who, fresh_key(), f"https://bank{number}.example.cn/secret")
    async with office.transactions.begin() as work:
        found = await work.webhooks.lock("par_3")
        assert found
        await work.webhooks.update(replace(found, state=WebhookState.PARKED))
    seen, after = [], None
    while True:
        page, after = await office.settle.list(OPERATOR, after, 2)
        seen += [shown.webhook.party_id for shown in page]
        assert all("secret" not in shown.webhook.url for shown in page)
        if after is None:
            break
    assert seen == ["par_3", "par_0", "par_1", "par_2", "par_4"]


class TestTheWayThere:
    async def test_a_name_that_leads_to_a_private_address_is_refused(self) -> None:
        async with receiving() as receiver:
            post = HttpPost(private=False)
            for host in ("localhost", "127.0.0.1"):
                with pytest.raises(PostError, match="private address"):
                    await post(f"https://{host}:{receiver.port}/", {}, b"{}")
            await post.close()
            assert receiver.requests == []

    async def test_names_are_resolved_beside_the_threads_of_others(self) -> None:
        async with busy_threads(), receiving() as receiver:
            post = HttpPost(private=True)
            async with asyncio.timeout(5):
                await post(receiver.url, {}, b"{}")
            await post.close()
        assert len(receiver.requests) == 1

    async def test_http_is_for_loopback_alone(self) -> None:
        post = HttpPost(private=True)
        with pytest.raises(PostError, match="loopback"):
            await post("http://10.0.0.1/", {}, b"{}")
        await post.close()

    async def test_what_goes_wrong_is_said_without_the_address(self) -> None:
        async with receiving() as receiver:
            pass
        post = HttpPost(private=True)
        no_name = "https://" + 64 * "x" + ".example/secret"
        for url, why in ((receiver.url, "connected to"), (no_name, "name is not known")):
            with pytest.raises(PostError, match=why) as failed:
                await post(url, {}, b"{}")
            assert "hidden" not in str(failed.value)
            assert "xxx" not in str(failed.value)
        await post.close()

    async def test_the_certificate_is_checked_for_the_hosts_name(self, tmp_path: Path) -> None:
        server, trusting = _certificate(tmp_path, "localhost")
        async with receiving(tls=server) as receiver:
            post = HttpPost(private=True, tls=trusting)
            await post(f"https://localhost:{receiver.port}/hook", {"webhook-id": "1"}, b"{}")
            assert receiver.requests[0][0]["host"] == f"localhost:{receiver.port}"
            with pytest.raises(PostError, match="certificate"):
                await post(f"https://127.0.0.1:{receiver.port}/hook", {}, b"{}")
            await post.close()
            distrusting = HttpPost(private=True)
            with pytest.raises(PostError, match="certificate"):
                await distrusting(f"https://localhost:{receiver.port}/hook", {}, b"{}")
            await distrusting.close()
        assert len(receiver.requests) == 1


def _certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return what a server shows that is called `host`, and what trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    trusting = ssl.create_default_context(cafile=str(file))
    return server, trusting
