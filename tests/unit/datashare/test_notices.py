"""What parties are told, and how."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from puhui.datashare.v1 import notices_pb2 as pb
from services.datashare.catalogue.loader import load
from services.datashare.consent.domain import Action
from services.datashare.notices.app import PAGE, SIGN_OF_LIFE, Page, TellNotices
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.texts import TextsError, Words
from services.datashare.notices.texts import load as load_texts
from services.datashare.participants.domain import Standing
from services.kit.errors import InvalidArgumentError, PermissionDeniedError
from services.kit.identity import Caller
from tests.fakes.datashare_world import BANK, FIRM, NOW, RIVAL, TAX, World, caller

GRANTED = Notice(
    "par_bank",
    NoticeKind.CONSENT_GRANTED,
    NOW,
    subject_id="sub_0001",
    consent_id="con_1",
    participant_id="par_firm",
)


class Listener:
    """Streams that are read by hand; `moments` happen while one waits, one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waits = 0
        self.moments: list[Callable[[], object]] = []
        self.tell = TellNotices(
            world.transactions, load_texts(world.catalogue), world.clock, self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 100
        if self.moments:
            happening = self.moments.pop(0)()
            if hasattr(happening, "__await__"):
                await happening

    async def add(self, *notices: Notice) -> None:
        async with self.world.transactions.begin() as work:
            await work.notices.append(notices)

    def open(
        self, who: Caller, position: int | None = None, *, follow: bool = False
    ) -> AsyncIterator[Page]:
        return self.tell.stream(who, position, follow=follow)

    async def told(self, who: Caller, position: int | None = None) -> list[Notice]:
        pages = [page async for page in self.open(who, position)]
        return [told.entry.notice for page in pages for told in page.notices]


@pytest.fixture
def listener() -> Listener:
    return Listener(World())


def numbered(n: int) -> Notice:
    return replace(GRANTED, consent_id=f"con_{n}")


class TestTheStream:
    async def test_each_party_is_told_its_own(self, listener: Listener) -> None:
        mine, theirs = GRANTED, replace(GRANTED, party_id="sub_0001")
        other = replace(GRANTED, party_id="sub_0002")
        await listener.add(mine, theirs, other)
        assert await listener.told(caller(BANK)) == [mine]
        assert await listener.told(caller(FIRM)) == [theirs]
        assert await listener.told(caller(RIVAL)) == [other]
        assert await listener.told(caller(TAX)) == []

    async def test_it_goes_on_from_a_cursor(self, listener: Listener) -> None:
        await listener.add(*map(numbered, range(PAGE + 3)))
        first, second = [page async for page in listener.open(caller(BANK))]
        assert (len(first.notices), len(second.notices)) == (PAGE, 3)
        assert await listener.told(caller(BANK), first.position) == [
            told.entry.notice for told in second.notices
        ]
        assert await listener.told(caller(BANK), second.position) == []

    async def test_without_a_cursor_it_begins_behind_what_is_acknowledged(
        self, listener: Listener
    ) -> None:
        await listener.add(*map(numbered, range(3)))
        page = await listener.tell.list(caller(BANK), 2)
        assert [told.entry.notice.consent_id for told in page.notices] == ["con_0", "con_1"]
        assert await listener.tell.list(caller(BANK), 2) == page
        await listener.tell.acknowledge(caller(BANK), page.position)
        assert await listener.told(caller(BANK)) == [numbered(2)]
        assert await listener.told(caller(BANK), 0) == [numbered(0), numbered(1), numbered(2)]

    async def test_nobody_acknowledges_what_was_not_told_yet(self, listener: Listener) -> None:
        await listener.add(numbered(0), replace(GRANTED, party_id="sub_0001"))
        for position in (2, 2**63 - 1):
            with pytest.raises(InvalidArgumentError) as refused:
                await listener.tell.acknowledge(caller(BANK), position)
            assert refused.value.reason == "PAGE_TOKEN_INVALID"
        assert await listener.told(caller(BANK)) == [numbered(0)]

    async def test_it_follows_what_comes_and_shows_that_it_lives(self, listener: Listener) -> None:
        await listener.add(numbered(1))
        nothing = [lambda: None] * SIGN_OF_LIFE
        listener.moments = [lambda: listener.add(numbered(2)), *nothing]
        pages = listener.open(caller(BANK), follow=True)
        seen = [await anext(pages) for _ in range(3)]
        assert [[told.entry.notice for told in page.notices] for page in seen] == [
            [numbered(1)],
            [numbered(2)],
            [],
        ]
        assert seen[2].position == seen[1].position

    async def test_it_ends_when_the_firm_is_spoken_for_by_another(self, listener: Listener) -> None:
        async def end() -> None:
            async with listener.world.transactions.begin() as work:
                mandate = await work.mandates.get("par_firm")
                assert mandate is not None
                await work.mandates.end([replace(mandate, ended_at=NOW)])

        await listener.add(replace(GRANTED, party_id="sub_0001"))
        listener.moments = [end]
        pages = listener.open(caller(FIRM), follow=True)
        await anext(pages)
        with pytest.raises(PermissionDeniedError) as refused:
            await anext(pages)
        assert refused.value.reason == "MANDATE_REQUIRED"
        with pytest.raises(PermissionDeniedError):
            await listener.tell.acknowledge(caller(FIRM), 1)

    async def test_it_ends_where_who_reads_it_speaks_for_another_firm(
        self, listener: Listener
    ) -> None:
        async def change() -> None:
            async with listener.world.transactions.begin() as work:
                mandate = await work.mandates.get("par_firm")
                assert mandate is not None
                await work.mandates.end([replace(mandate, ended_at=NOW)])
                other = replace(mandate, mandate_id="man_other", subject_id="sub_9")
                await work.mandates.add(other)
                await work.notices.append([replace(GRANTED, party_id="sub_9")])

        await listener.add(replace(GRANTED, party_id="sub_0001"))
        listener.moments = [change]
        pages = [page async for page in listener.open(caller(FIRM), follow=True)]
        assert [page.party_id for page in pages] == ["sub_0001"]
        assert await listener.tell.party(caller(FIRM)) == "sub_9"

    async def test_who_is_suspended_is_still_told(self, listener: Listener) -> None:
        await listener.add(GRANTED)
        people = listener.world.transactions.memory.participants
        people["par_bank"] = replace(BANK, standing=Standing.SUSPENDED)
        assert await listener.told(caller(BANK)) == [GRANTED]


class TestTexts:
    def test_every_kind_of_the_protocol_has_a_sentence(self) -> None:
        names = {name.removeprefix("NOTICE_KIND_") for name in pb.NoticeKind.keys()}  # noqa: SIM118 - an enum wrapper, which is no mapping
        assert names - {"UNSPECIFIED"} == {kind.value for kind in NoticeKind}
        texts = load_texts(load())
        for kind in NoticeKind:
            notice = Notice("p", kind, NOW, record_type="vat_invoice", due_at=NOW)
            zh, en = texts.of(notice, TAX)
            assert zh.endswith("。")
            assert en.endswith(".")
            assert "{" not in zh + en

    def test_an_account_of_a_firm_is_never_called_by_its_name(self) -> None:
        texts = load_texts(load())
        assert texts.of(GRANTED, FIRM) == Words(
            "授权已由企业同意，现已生效。", "A consent was granted by the firm and is in force."
        )
        asked = replace(GRANTED, kind=NoticeKind.CONSENT_REQUESTED)
        assert "A bank" in texts.of(asked, BANK).en
        assert "the platform" in texts.of(asked, None).en

    def test_days_are_those_of_china_and_types_have_their_titles(self) -> None:
        due = NOW.replace(hour=17) + timedelta(days=20)  # the next day in China
        notice = Notice("p", NoticeKind.DISPUTE_OPENED, NOW, record_type="vat_invoice", due_at=due)
        zh, en = load_texts(load()).of(notice, TAX)
        assert "增值税发票" in zh
        assert "VAT invoice" in en
        assert "2026-05-22" in zh
        assert "2026-05-22" in en

    def test_a_deadline_at_midnight_is_said_as_the_day_that_it_ends(self) -> None:
        due = NOW.replace(hour=16, minute=0, second=0, microsecond=0)  # midnight in China
        notice = Notice("p", NoticeKind.DISPUTE_OPENED, NOW, record_type="vat_invoice", due_at=due)
        zh, en = load_texts(load()).of(notice, TAX)
        assert f"最迟应于{due:%Y-%m-%d}答复" in zh
        assert f"due by {due:%Y-%m-%d}." in en

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("firm = 1", "missing"),
            ("[x", "texts.toml"),
        ],
    )
    def test_a_wrong_file_stops_the_service(self, text: str, problem: str) -> None:
        with pytest.raises(TextsError, match=problem):
            load_texts(load(), text)

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ('en = "the firm"', "", r"`firm` should have the keys zh and en"),
            ('en = "the firm"', 'en = ""', r"`firm.en` should be a sentence"),
            ('en = "the firm"', 'en = "{name}"', r"`firm.en` has the unknown place"),
            ('en = "the firm"', 'en = "{who"', r"`firm.en`"),
            ("[firm]", "[farm]", r"`farm` is unknown"),
        ],
    )
    def test_a_wrong_sentence_stops_the_service(self, old: str, new: str, problem: str) -> None:
        from importlib import resources

        text = resources.files("services.datashare.notices").joinpath("texts.toml").read_text()
        with pytest.raises(TextsError, match=problem):
            load_texts(load(), text.replace(old, new))


class TestWhatConsentsTell:
    async def test_every_change_is_told_to_the_firm_and_the_bank(self) -> None:
        world = World()
        listener = Listener(world)
        asked = await world.requested()
        granted = await world.granted()
        await world.end(caller(FIRM), asked, Action.REJECT)
        await world.end(caller(BANK), granted, Action.REVOKE)
        mine = await listener.told(caller(BANK))
        assert [(notice.kind, notice.consent_id, notice.participant_id) for notice in mine] == [
            (NoticeKind.CONSENT_REQUESTED, asked.core.consent_id, "par_bank"),
            (NoticeKind.CONSENT_REQUESTED, granted.core.consent_id, "par_bank"),
            (NoticeKind.CONSENT_GRANTED, granted.core.consent_id, "par_firm"),
            (NoticeKind.CONSENT_REJECTED, asked.core.consent_id, "par_firm"),
            (NoticeKind.CONSENT_REVOKED, granted.core.consent_id, "par_bank"),
        ]
        assert {notice.subject_id for notice in mine} == {"sub_0001"}
        theirs = await listener.told(caller(FIRM))
        assert theirs == [replace(notice, party_id="sub_0001") for notice in mine]
        assert await listener.told(caller(RIVAL)) == []

    async def test_a_replay_tells_nothing_more(self) -> None:
        world = World()
        consent = await world.requested()
        key = world.key(caller(FIRM), "grant-1")
        for _ in range(2):
            await world.consents.grant(
                caller(FIRM), key, consent.core.consent_id, consent.sha256, ()
            )
        assert len(await Listener(world).told(caller(BANK))) == 2
