"""Mail and text messages to firms, over both databases; the clock is simulated."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_string, policy
from pathlib import Path
from typing import cast

import grpc
import httpx2
import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import notices_pb2 as pb
from services.datashare.catalogue.loader import load
from services.datashare.idempotency.servicer import fingerprint, key_of
from services.datashare.main import Stores, Work
from services.datashare.mandates.domain import Power
from services.datashare.notices.app import TellNotices
from services.datashare.notices.contacts import MESSAGES_AN_HOUR, Message, MessageError
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.endpoints import contact as contact_table
from services.datashare.notices.messaging import SendMessages
from services.datashare.notices.messengers import (
    FolderMessenger,
    NetworkMessenger,
    NoticesConfig,
)
from services.datashare.notices.parked import CountParked
from services.datashare.notices.servicer import NoticeServicer
from services.datashare.notices.setting import SettleContacts, SettleWebhooks
from services.datashare.notices.texts import load as load_texts
from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions
from services.kit.errors import AlreadyExistsError, InvalidArgumentError, PermissionDeniedError
from services.kit.identity import set_caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_world import BANK, FIRM, NOW, RIVAL, caller
from tests.fakes.mandates import delegated, representative
from tests.fakes.requests import fresh_key
from tests.fakes.sealing import vault
from tests.fakes.threads import busy_threads

ASKED = Notice(
    "sub_0001",
    NoticeKind.CONSENT_REQUESTED,
    NOW,
    subject_id="sub_0001",
    participant_id="par_bank",
)
MAIL, MOBILE = "owner@firm.example.cn", "+8613800000000"


class Post:
    """What was sent, and whether it is taken."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.texts: list[Message] = []
        self.down = self.silent = self.refuses = False
        self.troubles: list[str] = []
        self.parked: list[tuple[str, str]] = []
        self.counted = (0, 0)

    async def mail(self, message: Message) -> None:
        if self.down:
            raise MessageError("the mail server: down")
        if self.refuses:
            raise MessageError("the mail server: no such user", refused=True)
        self.mails.append(message)

    async def text(self, message: Message) -> None:
        if self.silent:
            raise MessageError("the gateway for text messages: down")
        self.texts.append(message)

    def sent(self) -> None:
        pass

    def unsent(self, why: str) -> None:
        self.troubles.append(why)

    def parks(self, participant_id: str, why: str) -> None:
        self.parked.append((participant_id, why))

    def parked_now(self, webhooks: int, contacts: int) -> None:
        self.counted = (webhooks, contacts)


class Office:
    """Messages over one database."""

    def __init__(self, database: Database) -> None:
        self.clock = FixedClock(NOW)
        self.post = Post()
        catalogue = load()
        stores = Stores(catalogue, RandomIds(self.clock), vault(catalogue, self.clock))
        self.transactions: Transactions[Work] = Transactions(database, stores)
        self.settle = SettleContacts(self.transactions, self.clock)
        self.send = SendMessages(
            self.transactions,
            self.post,
            self.post,
            load_texts(catalogue),
            self.clock,
            lambda: 1.0,
        )
        self.count = CountParked(self.transactions, self.post)

    async def open(self) -> None:
        async with self.transactions.begin() as work:
            for person in (BANK, FIRM, RIVAL):
                await work.participants.add(person)
            await work.mandates.add(representative(FIRM))

    async def happen(self, count: int = 1, **changes: NoticeKind) -> None:
        for number in range(count):
            async with self.transactions.begin() as work:
                notice = replace(ASKED, consent_id=f"con_{number}", **changes)  # type: ignore[arg-type]  # a kind
                await work.notices.append([notice])


@pytest.fixture
async def office(database: Database) -> Office:
    """With a firm that is spoken for."""
    office = Office(database)
    await office.open()
    return office


async def test_a_firm_is_told_what_comes_from_now_on(office: Office) -> None:
    await office.happen()
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "")
    await office.send()
    assert office.post.mails == []
    await office.happen()
    await office.send()
    await office.send()
    ((mail,), (text,)) = office.post.mails, office.post.texts
    assert (mail.to, text.to) == (MAIL, MOBILE)
    assert mail.text.startswith("A bank请求授权使用企业的信用信息。")
    assert text.text == "【普惠】A bank请求授权使用企业的信用信息。"
    assert "con_" not in mail.text + mail.subject + text.text
    assert mail.message_id == text.message_id


async def test_few_messages_an_hour_and_the_rest_together(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "en")
    for _ in range(MESSAGES_AN_HOUR):
        await office.happen()
        await office.send()
    assert len(office.post.mails) == MESSAGES_AN_HOUR
    await office.happen(30)
    await office.send()
    assert len(office.post.mails) == MESSAGES_AN_HOUR
    office.clock.advance(timedelta(hours=1))
    await office.send()
    digest = office.post.mails[-1]
    assert len(office.post.mails) == MESSAGES_AN_HOUR + 1
    assert digest.subject == "Puhui: 30 notice(s)"
    assert "And 20 more." in digest.text
    await office.happen()
    await office.send()
    assert len(office.post.mails) == MESSAGES_AN_HOUR + 2


async def test_who_has_a_firm_told_much_holds_up_no_warning(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "en")
    for _ in range(MESSAGES_AN_HOUR):
        await office.happen()
        await office.send()
    await office.happen(20)
    await office.happen(kind=NoticeKind.MANDATE_CHANGED)
    await office.send()
    assert len(office.post.mails) == MESSAGES_AN_HOUR + 1
    about = "Who may speak for the firm has changed."
    assert about in office.post.mails[-1].text.splitlines()[0]
    assert about in office.post.texts[-1].text
    await office.happen()
    await office.send()
    assert len(office.post.mails) == MESSAGES_AN_HOUR + 1


async def test_a_clock_that_is_set_back_puts_nothing_off(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "en")
    office.clock.advance(timedelta(days=30))
    for _ in range(MESSAGES_AN_HOUR):
        await office.happen()
        await office.send()
    office.clock.advance(timedelta(days=-30))
    for _ in range(MESSAGES_AN_HOUR + 1):
        await office.happen()
        await office.send()
    # As many as there may be in an hour from then on.
    assert len(office.post.mails) == 2 * MESSAGES_AN_HOUR


async def test_what_was_not_taken_is_sent_again(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    office.post.down = True
    await office.happen(2)
    await office.send()
    await office.send()
    assert office.post.troubles == ["the mail server: down"]
    office.post.down = False
    office.clock.advance(timedelta(seconds=30))
    await office.send()
    (mail,) = office.post.mails
    assert mail.subject == "普惠平台通知（2 条）"


async def test_a_mail_is_not_sent_again_because_the_text_message_was_not_taken(
    office: Office,
) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "en")
    office.post.silent = True
    await office.happen()
    await office.send()
    office.clock.advance(timedelta(minutes=1))
    await office.send()
    assert len(office.post.mails) == 1
    await office.happen()
    office.clock.advance(timedelta(minutes=2))
    await office.send()
    assert [mail.subject for mail in office.post.mails] == ["Puhui: 1 notice(s)"] * 2
    office.post.silent = False
    office.clock.advance(timedelta(minutes=4))
    await office.send()
    assert len(office.post.mails) == 2
    (text,) = office.post.texts
    assert "And 1 more." in text.text


async def test_an_address_that_refuses_is_parked_after_a_day_and_holds_up_no_text_message(
    office: Office,
) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "en")
    office.post.refuses = True
    await office.happen()
    await office.send()
    assert len(office.post.texts) == 1
    for _ in range(25):
        office.clock.advance(timedelta(hours=1))
        await office.send()
    tried = len(office.post.troubles)
    assert tried < 40
    assert office.post.parked == [("par_firm", "the mail server: no such user")]
    await office.happen(2)
    await office.send()
    assert len(office.post.troubles) == tried
    assert "And 1 more." in office.post.texts[-1].text
    await office.count()
    assert office.post.counted == (0, 1)
    shown = await office.settle.get(caller(FIRM))
    assert shown
    assert (shown.mail.parked, shown.text.parked) == (True, False)
    (page, last) = await office.settle.parked("", 1)
    assert [contact.participant_id for contact in page] == ["par_firm"]
    assert last == ""

    office.post.refuses = False
    texts = len(office.post.texts)
    await office.settle.set(caller(FIRM), fresh_key(), "new@firm.example.cn", MOBILE, "en")
    assert (await office.settle.parked("", 1))[0] == []
    await office.send()
    assert [mail.subject for mail in office.post.mails] == ["Puhui: 3 notice(s)"]
    assert len(office.post.texts) == texts


async def test_a_mail_server_that_is_down_parks_nobody(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    office.post.down = True
    await office.happen()
    for _ in range(30):
        await office.send()
        office.clock.advance(timedelta(hours=1))
    assert office.post.parked == []
    office.post.down = False
    await office.send()
    assert len(office.post.mails) == 1


async def test_where_nothing_is_open_nothing_is_due_until_it_is_set_again(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    office.post.refuses = True
    await office.happen()
    for _ in range(30):
        await office.send()
        office.clock.advance(timedelta(hours=1))
    assert len(office.post.parked) == 1
    async with office.transactions.read() as work:
        assert await work.contacts.due(office.clock.now(), 9) == []
    office.post.refuses = False
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    await office.send()
    assert len(office.post.mails) == 1


async def test_what_nobody_can_read_any_more_ends_it(office: Office) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    async with office.transactions.begin() as work:
        await work.seals.destroy("sub_0001", office.clock.now())
    await office.happen()
    async with asyncio.timeout(5):
        await office.send()
    assert office.post.mails == []


@pytest.mark.parametrize("how", ["suspended", "a delegate who may not read"])
async def test_who_speaks_no_more_is_only_told_of_that(office: Office, how: str) -> None:
    await office.settle.set(caller(FIRM), fresh_key(), MAIL, "", "")
    async with office.transactions.begin() as work:
        mandate = await work.mandates.hold("par_firm")
        assert mandate
        if how == "suspended":
            await work.mandates.suspend([mandate], NOW)
        else:
            await work.mandates.end([replace(mandate, ended_at=NOW)])
            await work.mandates.add(delegated(mandate, Power.SUBMIT))
    await office.happen()
    await office.happen(kind=NoticeKind.MANDATE_CHANGED)
    await office.send()
    (mail,) = office.post.mails
    assert "可代表企业办理业务的人员授权有变动" in mail.text
    assert "请求授权" not in mail.text


async def test_it_is_kept_sealed_and_shown_to_the_firm_alone(
    office: Office, database: Database
) -> None:
    assert await office.settle.get(caller(FIRM)) is None
    made = await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "en")
    assert await office.settle.get(caller(FIRM)) == made
    key = fresh_key()
    for _ in range(2):
        await office.settle.set(caller(FIRM), key, MAIL, "", "en")
    made = await office.settle.set(caller(FIRM), fresh_key(), MAIL, MOBILE, "en")
    assert await office.settle.set(caller(FIRM), key, MAIL, "", "en") == made
    with pytest.raises(PermissionDeniedError) as refused:
        await office.settle.get(caller(RIVAL))
    assert refused.value.reason == "MANDATE_REQUIRED"
    async with database.read() as conn:
        (row,) = await conn.execute(sa.select(contact_table))
    assert MAIL.encode() not in row.content
    assert MOBILE.encode() not in row.content
    await office.settle.set(caller(FIRM), fresh_key(), "", "", "")
    await office.happen()
    await office.send()
    assert office.post.mails == office.post.texts == []


@pytest.mark.parametrize(
    ("email", "mobile", "field"),
    [
        ("owner", "", "contact.email"),
        ("a@b", "", "contact.email"),
        ("a@b.cn\r\nBcc: x@y.cn", "", "contact.email"),
        ("a@b.cn, x@y.cn", "", "contact.email"),
        ("<a@b.cn>", "", "contact.email"),
        ("", "13800000000", "contact.mobile"),
        ("", "+0138", "contact.mobile"),
    ],
)
async def test_what_is_no_address_or_number_is_refused(
    email: str, mobile: str, field: str, tmp_path: Path
) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(InvalidArgumentError) as refused:
        await Office(database).settle.set(caller(FIRM), fresh_key(), email, mobile, "")
    assert [problem.field for problem in refused.value.fields] == [field]
    await database.close()


MESSAGE = Message("ntc_1", MAIL, "普惠平台通知（1 条）", "有银行请求授权。\n")


async def test_the_sandboxs_folder_has_a_file_for_each(tmp_path: Path) -> None:
    messenger = FolderMessenger(tmp_path / "messages")
    for _ in range(2):
        await messenger.mail(MESSAGE)
        await messenger.text(MESSAGE)
    names = sorted(path.name for path in (tmp_path / "messages").iterdir())
    assert names == ["ntc_1.mail.txt", "ntc_1.text.txt"]
    assert "有银行" in (tmp_path / "messages" / names[0]).read_text()


@asynccontextmanager
async def _mail_server(refuses: bool = False) -> AsyncIterator[tuple[int, list[str]]]:
    """An SMTP server on loopback that keeps what it is sent."""
    kept: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        await say("220 here")
        while line := (await reader.readline()).decode().strip():
            verb = line.split()[0].upper()
            if verb == "RCPT" and refuses:
                await say("550 no such user")
            elif verb == "DATA":
                await say("354 go on")
                kept.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                await say("250 taken")
            elif verb == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 ok")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], kept
    finally:
        server.close()


def _config(**fields: object) -> NoticesConfig:
    return NoticesConfig(**fields)  # type: ignore[arg-type]  # as each test gives them


async def test_mail_goes_by_smtp_beside_the_threads_of_others() -> None:
    async with _mail_server() as (port, kept), busy_threads(), asyncio.timeout(5):
        config = _config(
            smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", mail_from="no-reply@puhui.cn"
        )
        messenger = NetworkMessenger(config, FixedClock(NOW))
        await messenger.mail(MESSAGE)
        await messenger.text(MESSAGE)
        await messenger.close()
    mail = message_from_string(kept[0], policy=policy.default)
    assert (mail["To"], mail["Subject"]) == (MAIL, MESSAGE.subject)
    assert mail["Message-ID"] == "<ntc_1@puhui.cn>"
    assert "有银行请求授权" in mail.get_content()


async def test_a_mail_server_that_refuses_or_is_not_there_is_said_without_the_address() -> None:
    async with _mail_server(refuses=True) as (port, _):
        config = _config(
            smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none", mail_from="no-reply@puhui.cn"
        )
        messenger = NetworkMessenger(config, FixedClock(NOW))
        with pytest.raises(MessageError) as refused:
            await messenger.mail(MESSAGE)
    assert smtplib.SMTPRecipientsRefused.__name__ in str(refused.value)
    assert refused.value.refused
    assert MAIL not in str(refused.value)
    with pytest.raises(MessageError) as unreachable:
        await messenger.mail(MESSAGE)
    assert not unreachable.value.refused
    await messenger.close()


async def test_text_messages_go_to_a_gateway(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    asked: list[httpx2.Request] = []
    status = 200

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(status)

    config = _config(sms_url="https://sms.example.cn/send", sms_token=token)
    messenger = NetworkMessenger(config, FixedClock(NOW), httpx2.MockTransport(answer))
    await messenger.text(replace(MESSAGE, to=MOBILE))
    await messenger.mail(MESSAGE)
    (request,) = asked
    assert request.headers["authorization"] == "Bearer t0ken"
    assert b'"to":"+8613800000000"' in request.content
    for status, its_number in ((500, False), (422, True)):
        with pytest.raises(MessageError, match=f"status {status}") as refused:
            await messenger.text(MESSAGE)
        assert refused.value.refused is its_number
    await messenger.close()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"smtp_tls": "no"}, "smtp_tls"),
        ({"smtp_host": "mail"}, "mail_from"),
        ({"smtp_user": "u", "smtp_tls": "none"}, "smtp_tls"),
        ({"sms_url": "http://sms"}, "sms_url"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        _config(**fields)


async def test_a_request_id_stands_for_one_contact_whose_number_nobody_finds(
    office: Office,
) -> None:
    servicer = NoticeServicer(
        cast("TellNotices", None), cast("SettleWebhooks", None), office.settle, b"s" * 32
    )
    asked = pb.SetContactRequest(request_id="r1", contact=pb.Contact(mobile=MOBILE))
    other = pb.SetContactRequest(request_id="r1", contact=pb.Contact(mobile="+8613900000000"))
    set_caller(caller(FIRM))
    context = cast("grpc.aio.ServicerContext[object, object]", None)
    first = await servicer.SetContact(asked, context)
    assert await servicer.SetContact(asked, context) == first
    with pytest.raises(AlreadyExistsError) as caught:
        await servicer.SetContact(other, context)
    assert caught.value.reason == "REQUEST_ID_REUSED"
    async with office.transactions.begin() as work:
        kept = await work.requests.claim(key_of(caller(FIRM), "r1", asked), NOW)
    assert kept is not None
    assert kept.fingerprint != fingerprint(asked)
