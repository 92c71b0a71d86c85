"""Rows that do not say whom they are about: matched, held, decided."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.idempotency.domain import RequestKey
from services.datashare.participants.domain import SubjectName
from services.datashare.records.domain import Ack
from services.datashare.reviews.app import DecideReview, Hints, ListReviews, NameEarlier
from services.datashare.reviews.domain import Evidence, Hint, Review, ReviewState
from services.datashare.reviews.loader import load
from services.datashare.reviews.servicer import AckCodec
from services.datashare.reviews.store import review as review_table
from services.datashare.reviews.store import subject_name
from services.datashare.sealing.domain import provider_owner
from services.datashare.subjects.uscc import make
from services.kit.db import Database, retry_on_conflict
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_records import Datashare, invoice, money, provider, record, retraction

USCCS = [make("91", district, f"MA01{n:04}") for n, district in enumerate(["110108"] * 9)]
MARKET, TAX = Caller("par_market_regulator", "PROVIDER"), Caller("par_tax", "PROVIDER")
OPERATOR = Caller("operator", "OPERATOR")
NAME = "北京小桔科技有限公司"


class Town(Datashare):
    """Datashare with its queue."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.ids = RandomIds(self.clock)
        self.list = ListReviews(self.transactions)
        self.decision: DecideReview[Any] = DecideReview(
            self.transactions, retry_on_conflict, self.take_in.row, AckCodec(), self.clock
        )

    async def registered(self, firm: int, name: str, *, version: int = 1, **fields: Any) -> str:
        """Register a firm; return its subject_id."""
        values: dict[str, Any] = {"district": "110108", **fields}
        on = values.pop("on", "2024-01-15")
        row = record(
            values.pop("record_id", f"r{firm}"),
            on,
            subject=types_pb2.SubjectRef(uscc=USCCS[firm]),
            record_type="registration",
            version=version,
            registration=payloads_pb2.Registration(
                name=name,
                firm_kind="limited",
                industry="I",
                status="active",
                capital=money(1_000_000_00),
                founded={"year": 2019, "month": 1, "day": 2},
                **values,
            ),
        )
        ack = await self.submit(MARKET.participant_id, row)
        assert list(ack.accepted) == [0], ack
        return await self.subject_id(USCCS[firm])

    async def waiting(self, who: Caller = TAX) -> Sequence[Review]:
        return (await self.list(who, ReviewState.WAITING, "", 10))[0]

    async def decide(
        self,
        review: Review,
        *,
        subject: str = "",
        uscc: str = "",
        dismiss: str = "",
        who: Caller = TAX,
        request_id: str = "",
    ) -> tuple[Review, Ack]:
        key = RequestKey(who.participant_id, request_id or self.ids.new("req"), b"f" * 32)
        name = SubjectName(subject, uscc) if subject or uscc else None
        return await self.decision(who, key, review.review_id, name, dismiss)


def hinted(record_id: str = "a", **hint: str) -> records_pb2.Record:
    """Return an invoice that only hints at whom it is about."""
    row = invoice(record_id, hint=records_pb2.SubjectHint(**hint))
    row.ClearField("subject")
    return row


def hinted_bill() -> records_pb2.Record:
    """Return an electricity bill that only hints at whom it is about."""
    bill = payloads_pb2.UtilityBill(kind="electricity", meter="m", amount=money(100_00))
    hint = records_pb2.SubjectHint(name=NAME)
    row = record("bill", record_type="utility_bill", hint=hint, utility_bill=bill)
    row.ClearField("subject")
    return row


@pytest.fixture
async def town(database: Database) -> Town:
    """A town with its providers."""
    town = Town(database)
    await town.register(provider("market_regulator"), provider("tax"), provider("court"))
    return town


async def sent(town: Town, *rows: records_pb2.Record) -> records_pb2.PushAck:
    return await town.submit(TAX.participant_id, *rows)


class TestMatching:
    @pytest.mark.parametrize(
        "hint",
        [
            {"name": NAME},
            {"name": "北京小桔科技 有限责任公司", "district": "110108"},
            {"name": "北京小桔科技有限公司", "district": "110105"},
            {"name": "北京桔子网络有限公司", "district": "110108"},
            {"registration_number": "110108012345678"},
            {"registration_number": USCCS[0][8:17]},
            {"registration_number": "110108012345678", "name": "小桔科技有限公司"},
        ],
    )
    async def test_what_is_certain_comes_in_as_if_it_had_said_so(
        self, town: Town, hint: dict[str, str]
    ) -> None:
        await town.registered(
            0, NAME, former_names=["北京桔子网络有限公司"], registration_number="110108012345678"
        )
        ack = await sent(town, hinted(**hint))
        assert list(ack.accepted) == [0], ack
        (series,) = await town.read("vat_invoice", uscc=USCCS[0])
        assert list(series.months) == [202401]
        # Sent again with its subject it is there already.
        again = invoice("a", subject=types_pb2.SubjectRef(uscc=USCCS[0]))
        assert list((await sent(town, again)).duplicates) == [0]

    @pytest.mark.parametrize(
        "hint",
        [
            {"name": "上海小桔科技有限公司"},
            {"name": "北京小桔科技股份有限公司"},
            {"name": "北京桔子网络有限公司"},
            {"name": "北京小吉科技有限公司", "district": "110108"},
            {"name": NAME, "district": "310115"},
            {"registration_number": "110108012345678", "name": "湖南大米餐饮有限公司"},
            {"registration_number": "110108012345679"},
            {"name": "深圳大象物流有限公司"},
        ],
    )
    async def test_what_is_not_waits(self, town: Town, hint: dict[str, str]) -> None:
        await town.registered(
            0, NAME, former_names=["北京桔子网络有限公司"], registration_number="110108012345678"
        )
        ack = await sent(town, hinted(**hint))
        assert not ack.accepted
        (held,) = ack.held
        (review,) = await town.waiting()
        assert (held.row, held.review_id) == (0, review.review_id)
        assert review.hint == Hint(**hint)
        assert all(candidate.confidence < 0.9 for candidate in review.candidates)
        assert await town.read("vat_invoice", uscc=USCCS[0]) == []

    async def test_one_name_in_two_districts_needs_the_district(self, town: Town) -> None:
        await town.registered(0, NAME)
        other = await town.registered(1, NAME, district="310115")
        ack = await sent(town, hinted("a", name=NAME), hinted("b", name=NAME, district="310115"))
        assert ([held.row for held in ack.held], list(ack.accepted)) == ([0], [1])
        (review,) = await town.waiting()
        assert len(review.candidates) == 2
        assert review.candidates[0].confidence < 0.5
        async with town.transactions.read() as work:
            assert await work.subjects.resolve(USCCS[1]) == other

    async def test_names_follow_corrections_and_retractions(self, town: Town) -> None:
        await town.registered(0, "北京小橘科技有限公司")
        await town.registered(0, NAME, version=2)
        assert list((await sent(town, hinted(name=NAME))).accepted) == [0]
        assert (await sent(town, hinted("b", name="北京小橘科技有限公司"))).held
        row = record(
            "r0",
            subject=types_pb2.SubjectRef(uscc=USCCS[0]),
            record_type="registration",
            version=3,
        )
        ack = await town.submit(MARKET.participant_id, retraction(row, 3))
        assert list(ack.accepted) == [0]
        assert (await sent(town, hinted("c", name=NAME))).held
        async with town.database.read() as conn:
            assert await conn.scalar(sa.select(sa.func.count()).select_from(subject_name)) == 0

    async def test_the_name_of_an_earlier_record_is_a_former_one(self, town: Town) -> None:
        await town.registered(0, "北京小橘科技有限公司", record_id="2020", on="2020-05-01")
        await town.registered(0, NAME, record_id="2024", on="2024-01-15")
        async with town.transactions.read() as work:
            hint = Hint(name="北京小橘科技有限公司")
            found = await Hints(load(), (), town.clock, town.ids).match(work.names, [hint])
        (candidate,) = found[hint]
        assert candidate.evidence == (Evidence.FORMER_NAME,)
        assert candidate.name == NAME

    async def test_a_hint_that_says_nobody_is_refused(self, town: Town) -> None:
        ack = await sent(town, hinted(), hinted("b", name="()"), hinted("c", district="110108"))
        fields = [(rejection.row, rejection.field) for rejection in ack.rejections]
        assert fields == [(0, "hint"), (1, "hint.name"), (2, "hint")]

    async def test_registrations_of_a_version_without_names_get_theirs(self, town: Town) -> None:
        await town.registered(0, "北京小橘科技有限公司")
        await town.registered(0, NAME, version=2, registration_number="110108012345678")
        await town.registered(1, "北京大象物流有限公司")
        columns = sorted(subject_name.c.keys())

        async def index() -> list[tuple[Any, ...]]:
            async with town.database.read() as conn:
                query = sa.select(*(subject_name.c[name] for name in columns))
                return sorted(tuple(row) for row in await conn.execute(query))

        async def sleep(_: float) -> None:
            pass

        whole = await index()
        first = await town.subject_id(USCCS[0])
        async with town.database.begin() as conn:
            await conn.execute(sa.delete(subject_name).where(subject_name.c.subject_id == first))
        name_earlier = NameEarlier(town.transactions, sleep)
        assert await name_earlier() == 1
        assert await index() == whole
        assert await name_earlier() == 0


class TestQueue:
    async def test_the_same_row_again_waits_under_the_same_review(self, town: Town) -> None:
        first = (await sent(town, hinted(name=NAME), hinted(name=NAME))).held
        again = (await sent(town, hinted(name=NAME))).held
        assert {held.review_id for held in [*first, *again]} == {first[0].review_id}
        other = (await sent(town, hinted("b", name=NAME))).held
        assert other[0].review_id != first[0].review_id
        assert len(await town.waiting()) == 2

    async def test_sent_many_times_at_once_it_waits_once(self, town: Town) -> None:
        acks = await asyncio.gather(*(sent(town, hinted(name=NAME)) for _ in range(8)))
        assert len({held.review_id for ack in acks for held in ack.held}) == 1
        assert len(await town.waiting()) == 1

    async def test_decided_by_two_at_once_it_comes_in_once(self, town: Town) -> None:
        subject_id = await town.registered(0, NAME)
        await sent(town, hinted(name="小桔科技"))
        (review,) = await town.waiting()
        decisions, _ = await asyncio.gather(
            asyncio.gather(*(town.decide(review, subject=subject_id) for _ in range(6))),
            sent(town, hinted(name="小桔科技")),
        )
        accepted = [ack.accepted for _, ack in decisions if ack.accepted]
        assert accepted == [(0,)]
        assert len(await town.read("vat_invoice", uscc=USCCS[0])) == 1

    async def test_sent_again_it_may_have_become_certain(self, town: Town) -> None:
        (held,) = (await sent(town, hinted(name=NAME))).held
        subject_id = await town.registered(0, NAME)
        assert list((await sent(town, hinted(name=NAME))).accepted) == [0]
        assert await town.waiting() == []
        ((review,), _) = await town.list(TAX, ReviewState.MATCHED, "", 10)
        assert (review.review_id, review.subject_id) == (held.review_id, subject_id)
        assert review.decided_by == ""

    async def test_a_reviewer_names_the_subject(self, town: Town) -> None:
        subject_id = await town.registered(0, NAME)
        await sent(town, hinted(name="小桔科技"))
        (review,) = await town.waiting()
        decided, ack = await town.decide(review, subject=subject_id)
        assert (decided.state, ack.accepted) == (ReviewState.MATCHED, (0,))
        assert (decided.decided_by, decided.subject_id) == (TAX.participant_id, subject_id)
        (series,) = await town.read("vat_invoice", uscc=USCCS[0])
        assert list(series.months) == [202401]
        # The same row sent again is known by now.
        assert list((await sent(town, hinted(name="小桔科技"))).duplicates) == [0]
        # The row is in its place now, and no longer here.
        async with town.database.read() as conn:
            (content,) = (await conn.execute(sa.select(review_table.c.content))).scalars()
        async with town.transactions.read() as work:
            owner, place = provider_owner("par_tax"), ("review", review.review_id)
            opened = await work.seals.open(owner, place, content)
        assert opened is not None
        assert orjson.loads(opened).keys() == {"hint", "candidates"}

    async def test_a_subject_may_be_named_by_its_number_though_nobody_knew_it(
        self, town: Town
    ) -> None:
        await sent(town, hinted(name=NAME))
        (review,) = await town.waiting()
        decided, ack = await town.decide(review, uscc=USCCS[3], who=OPERATOR)
        assert (decided.decided_by, ack.accepted) == ("operator", (0,))
        assert len(await town.read("vat_invoice", uscc=USCCS[3])) == 1

    async def test_what_is_dismissed_stays_out_and_noted(self, town: Town) -> None:
        await sent(town, hinted(name=NAME))
        (review,) = await town.waiting()
        decided, ack = await town.decide(review, dismiss="no such firm")
        assert (decided.state, decided.note, ack) == (
            ReviewState.DISMISSED,
            "no such firm",
            Ack(0),
        )
        await town.registered(0, NAME)
        (rejection,) = (await sent(town, hinted(name=NAME))).rejections
        assert (rejection.reason, rejection.field) == ("NOT_FOUND", "hint")

    async def test_deciding_twice(self, town: Town) -> None:
        subject_id = await town.registered(0, NAME)
        await sent(town, hinted(name="小桔科技"))
        (review,) = await town.waiting()
        first = await town.decide(review, subject=subject_id, request_id="one")
        assert await town.decide(review, subject=subject_id, request_id="one") == first
        same, ack = await town.decide(review, uscc=USCCS[0], request_id="two")
        assert (same, ack) == (first[0], Ack(0))
        for uscc, dismiss in ((USCCS[1], ""), ("", "nobody")):
            with pytest.raises(PuhuiError) as late:
                await town.decide(review, uscc=uscc, dismiss=dismiss)
            assert late.value.reason == "FIELD_INVALID"

    async def test_a_row_that_is_refused_with_its_subject_waits_on(self, town: Town) -> None:
        subject_id = await town.registered(0, NAME)
        second = hinted(name="小桔科技")
        second.version = 2
        await sent(town, second)
        (review,) = await town.waiting()
        decided, ack = await town.decide(review, subject=subject_id)
        assert [rejection.reason for rejection in ack.rejections] == ["VERSION_OUT_OF_ORDER"]
        assert decided.state is ReviewState.WAITING
        await sent(town, invoice("a", 50_00, subject=types_pb2.SubjectRef(uscc=USCCS[0])))
        decided, ack = await town.decide(review, subject=subject_id)
        assert (decided.state, ack.accepted) == (ReviewState.MATCHED, (0,))

    async def test_what_needs_a_consent_does_not_wait(self, town: Town) -> None:
        await town.register(provider("utility"))
        ack = await town.submit("par_utility", hinted_bill())
        (rejection,) = ack.rejections
        assert (rejection.reason, rejection.field) == ("CONSENT_REQUIRED", "hint")
        assert await town.waiting(OPERATOR) == []
        # Of whom it is certain it is judged as any other.
        await town.registered(0, NAME)
        (rejection,) = (await town.submit("par_utility", hinted_bill())).rejections
        assert (rejection.reason, rejection.field) == ("CONSENT_REQUIRED", "record_type")

    async def test_what_has_come_to_need_a_consent_needs_it_when_it_is_decided(
        self, town: Town
    ) -> None:
        await town.register(provider("utility"))
        rows, _ = town.intake.read([hinted_bill()], 0, "utility", town.clock.now())
        needing_none = Hints(load(), (), town.clock, town.ids)
        async with town.transactions.begin() as work:
            settled = await needing_none.settle(work, "par_utility", rows, historical=False)
        assert len(settled.held) == 1
        subject_id = await town.registered(0, NAME)
        (review,) = await town.waiting(OPERATOR)
        decided, acked = await town.decide(review, subject=subject_id, who=OPERATOR)
        assert [rejection.reason for rejection in acked.rejections] == ["CONSENT_REQUIRED"]
        assert decided.state is ReviewState.WAITING

    async def test_each_provider_sees_its_own_and_the_operator_all(self, town: Town) -> None:
        await sent(town, hinted("a", name=NAME), hinted("b", name=NAME))
        court = Caller("par_court", "PROVIDER")
        assert await town.waiting(court) == []
        assert len(await town.waiting(OPERATOR)) == 2
        (review, _) = await town.waiting()
        with pytest.raises(PuhuiError) as foreign:
            await town.decide(review, dismiss="mine?", who=court)
        assert foreign.value.reason == "NOT_FOUND"
        page, behind = await town.list(TAX, ReviewState.WAITING, "", 1)
        rest, end = await town.list(TAX, ReviewState.WAITING, behind, 1)
        assert ([*page, *rest], end) == (list(await town.waiting()), "")

    async def test_an_import_counts_from_when_it_was_obtained(self, town: Town) -> None:
        await town.register(provider("tax", historical=True, suffix="_2"))
        await town.submit("par_tax_2", hinted(name=NAME), historical=True)
        (review,) = await town.waiting(OPERATOR)
        await town.decide(review, uscc=USCCS[0], who=OPERATOR)
        before = town.clock.now() - timedelta(days=1)
        assert len(await town.read("vat_invoice", uscc=USCCS[0], as_of=before)) == 1

    async def test_no_review_names_who_was_erased(self, town: Town) -> None:
        erased, other = [
            await town.registered(firm, NAME, district=f"11010{firm}") for firm in (5, 6)
        ]
        await sent(town, hinted("a", name=NAME), hinted("b", name=NAME))
        dismissed, waiting = await town.waiting()
        assert erased in {each.subject_id for each in waiting.candidates}
        await town.decide(dismissed, dismiss="nobody knows")
        key = RequestKey(OPERATOR.participant_id, "erase", b"f" * 32)
        await town.erase(key, erased, "asked for")
        reviews = [*await town.waiting()]
        reviews += (await town.list(TAX, ReviewState.DISMISSED, "", 10))[0]
        assert len(reviews) == 2
        for review in reviews:
            assert [each.subject_id for each in review.candidates] == [other]
        await town.decide(waiting, subject=other)
        assert len(await town.read("vat_invoice", uscc=USCCS[6])) == 1

    async def test_a_firm_that_was_erased_is_no_candidate_any_more(self, town: Town) -> None:
        subject_id = await town.registered(0, NAME)
        await sent(town, hinted(name="小桔科技"))
        (review,) = await town.waiting()
        assert [candidate.subject_id for candidate in review.candidates] == [subject_id]
        async with town.transactions.begin() as work:
            await work.subjects.erase(subject_id, town.clock.now())
            await work.erasing.erase(subject_id)
        (review,) = await town.waiting()
        assert review.candidates == ()
        with pytest.raises(PuhuiError) as gone:
            await town.decide(review, subject=subject_id)
        assert gone.value.reason == "NOT_FOUND"
        # Nor does anything find it by its name.
        assert (await sent(town, hinted("b", name=NAME))).held

    async def test_nothing_of_it_stands_in_clear(self, town: Town) -> None:
        await sent(town, hinted(name=NAME))
        async with town.database.read() as conn:
            (row,) = await conn.execute(sa.select(review_table))
        assert NAME.encode() not in b"".join(each for each in row if isinstance(each, bytes))
        assert NAME not in row
