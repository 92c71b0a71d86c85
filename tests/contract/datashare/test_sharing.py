"""Rows of types that are shared on consent: what comes in, and what no longer does."""

import asyncio
import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent import store as consent_store
from services.datashare.consent.app import Consents
from services.datashare.consent.consuming import tell_consumed
from services.datashare.consent.domain import Action, Consent, Officer, Period, Terms
from services.datashare.consent.servicer import ConsentCodec
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.mandates.domain import registered
from services.datashare.participants.domain import Participant, Role, Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME
from services.datashare.records.store import record as record_table
from services.datashare.subjects.uscc import make
from services.kit.db import Database, retry_on_conflict
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    Datashare,
    day,
    invoice,
    money,
    provider,
    record,
    retraction,
)
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS, set_standing

PERIOD = Period(date(2023, 1, 1), date(2024, 12, 31))
OTHER = make("91", "110108", "MA01ABCE")
BANK = Caller("par_bank", "BANK")
OFFICER = Officer("王", "F-1")


def bill(record_id: str, month: int = 1, year: int = 2024, **fields: Any) -> records_pb2.Record:
    """Return an electricity bill of a month of 30 days."""
    period = types_pb2.DatePeriod(to={"year": year, "month": month, "day": 28})
    getattr(period, "from").CopyFrom(type(period.to)(year=year, month=month, day=1))
    made = record(
        record_id,
        record_type="utility_bill",
        utility_bill=payloads_pb2.UtilityBill(
            kind="electricity", meter="m-1", amount=money(100_00)
        ),
        **fields,
    )
    made.period.CopyFrom(period)
    return made


class Town:
    """Records and consents over one database."""

    def __init__(self, database: Database) -> None:
        self.records = Datashare(database)
        ids = RandomIds(self.records.clock)
        self.consents = Consents(
            transactions=self.records.transactions,
            retry=retry_on_conflict,
            clock=self.records.clock,
            ids=ids,
            sealer=Sealer(ids, bytes),
            signer=SIGNER,
            codec=ConsentCodec(),
            catalogue=self.records.catalogue,
        )
        self.firm = Caller("par_firm", "FIRM", "")
        self._ids = ids

    async def populate(self) -> None:
        """Register everybody."""
        await self.records.register(
            provider("utility"), provider("tax"), provider("utility", suffix="_2")
        )
        async with self.records.transactions.begin() as work:
            made = await work.subjects.resolve_or_create_many([USCC, OTHER])
            for id_, role, subject_id in (
                ("par_bank", Role.BANK, None),
                ("par_firm", Role.FIRM, made[USCC]),
            ):
                await work.participants.add(
                    Participant(
                        id_,
                        role,
                        id_,
                        "",
                        subject_id,
                        False,
                        Standing.ACTIVE,
                        NOW,
                        products=PRODUCTS,
                    )
                )
            await work.mandates.add(registered("man_firm", made[USCC], "par_firm", NOW))
        self.firm = Caller("par_firm", "FIRM", made[USCC])

    def key(self, who: Caller) -> RequestKey:
        return RequestKey(who.participant_id, self._ids.new("req"), b"f" * 32)

    async def granted(self, **changes: Any) -> Consent:
        terms: dict[str, Any] = {
            "purpose": "credit_application",
            "provider_ids": ("par_utility",),
            "record_types": ("utility_bill",),
            "content_level": ContentLevel.SUMMARY,
            "data_period": PERIOD,
            "not_before": None,
            "expires_at": self.records.clock.now() + timedelta(days=30),
        }
        asked = await self.consents.request(
            BANK, self.key(BANK), SubjectName(uscc=USCC), Terms(**(terms | changes)), OFFICER
        )
        return await self.consents.grant(
            self.firm, self.key(self.firm), asked.core.consent_id, asked.sha256, ()
        )

    async def end(self, consent: Consent, action: Action = Action.WITHDRAW) -> None:
        who = self.firm if action is Action.WITHDRAW else BANK
        await self.consents.end(who, self.key(who), consent.core.consent_id, action, "")

    async def reasons(self, *rows: records_pb2.Record, by: str = "par_utility") -> dict[int, str]:
        """Submit rows; return why those that were rejected were."""
        ack = await self.records.submit(by, *rows)
        return {rejection.row: rejection.reason for rejection in ack.rejections}

    async def stored(self) -> set[str]:
        """Return the ids of the records that are stored."""
        async with self.records.database.read() as conn:
            return set((await conn.execute(sa.select(record_table.c.provider_record_id))).scalars())


@pytest.fixture
async def town(database: Database) -> Town:
    """A town with everybody registered."""
    town = Town(database)
    await town.populate()
    return town


async def test_a_row_comes_in_while_a_consent_covers_it(town: Town) -> None:
    assert await town.reasons(bill("a")) == {0: "CONSENT_REQUIRED"}
    await town.granted()
    assert await town.reasons(bill("a")) == {}
    assert await town.stored() == {"a"}


async def test_each_row_is_judged_alone(town: Town) -> None:
    await town.granted()
    reasons = await town.reasons(
        bill("in"),
        bill("early", year=2022),
        bill("other", subject=types_pb2.SubjectRef(uscc=OTHER)),
        bill("late", month=5),
    )
    assert reasons == {1: "PERIOD_NOT_CONSENTED", 2: "CONSENT_REQUIRED"}
    assert await town.stored() == {"in", "late"}


async def test_another_provider_of_the_same_kind_is_not_named(town: Town) -> None:
    await town.granted()
    assert await town.reasons(bill("a"), by="par_utility_2") == {0: "CONSENT_REQUIRED"}


async def test_what_rests_on_a_law_needs_no_consent(town: Town) -> None:
    assert await town.reasons(invoice("a"), by="par_tax") == {}


@pytest.mark.parametrize(
    ("action", "reason"),
    [(Action.WITHDRAW, "CONSENT_WITHDRAWN"), (Action.REVOKE, "CONSENT_REVOKED")],
)
async def test_after_its_end_nothing_more_comes_in(town: Town, action: Action, reason: str) -> None:
    consent = await town.granted()
    first = bill("a")
    assert await town.reasons(first) == {}
    await town.end(consent, action)
    # Nor what is there already, and no correction of it; but it may be taken back.
    assert await town.reasons(first, bill("a", version=2), bill("b")) == dict.fromkeys(
        range(3), reason
    )
    assert await town.reasons(retraction(first, 2)) == {}
    # Another consent opens it again, and the old one has no more to say.
    await town.granted()
    assert await town.reasons(bill("b")) == {}


async def test_while_it_is_paused_nothing_comes_in(town: Town) -> None:
    consent, firm = await town.granted(), town.firm
    consent_id = consent.core.consent_id
    await town.consents.pause(firm, town.key(firm), consent_id, "")
    assert await town.reasons(bill("a")) == {0: "CONSENT_PAUSED"}
    await town.consents.resume(firm, town.key(firm), consent_id)
    assert await town.reasons(bill("a")) == {}
    for standing, reasons in (
        (Standing.SUSPENDED, {0: "CONSENT_PAUSED"}),
        (Standing.ACTIVE, {}),
    ):
        async with town.records.transactions.begin() as work:
            assert await work.participants.lock("par_bank")
            await set_standing(work, "par_bank", standing)
        assert await town.reasons(bill("b")) == reasons


async def test_after_its_one_use_nothing_comes_in(town: Town) -> None:
    consent = await town.granted(fetch_limit=ONE_TIME)
    assert await town.reasons(bill("a")) == {}
    async with town.records.transactions.begin() as work:
        await tell_consumed(work, [consent], town.records.clock.now(), SIGNER)
    assert await town.reasons(bill("b")) == {0: "CONSENT_REQUIRED"}


async def test_a_later_version_takes_over_what_is_due(town: Town) -> None:
    old = await town.granted()
    terms = replace(old.core.terms, data_period=Period(date(2024, 1, 1), date(2024, 12, 31)))
    asked = await town.consents.request(
        BANK,
        town.key(BANK),
        SubjectName(uscc=USCC),
        terms,
        OFFICER,
        supersedes=old.core.consent_id,
    )
    await town.consents.grant(
        town.firm, town.key(town.firm), asked.core.consent_id, asked.sha256, ()
    )
    assert await town.reasons(bill("in", year=2024), bill("out", year=2023)) == {
        1: "PERIOD_NOT_CONSENTED"
    }


async def test_time_ends_and_begins_it(town: Town) -> None:
    clock = town.records.clock
    await town.granted(expires_at=clock.now() + timedelta(days=1))
    clock.advance(timedelta(days=1))
    assert await town.reasons(bill("a")) == {0: "CONSENT_EXPIRED"}
    await town.granted(not_before=clock.now() + timedelta(days=1))
    assert await town.reasons(bill("a")) == {0: "CONSENT_NOT_YET_VALID"}
    clock.advance(timedelta(days=1))
    assert await town.reasons(bill("a")) == {}


async def test_a_firm_supplies_about_itself_without_consent_and_about_nobody_else(
    town: Town,
) -> None:
    def statement(record_id: str, **fields: Any) -> records_pb2.Record:
        return record(
            record_id,
            record_type="financial_statement",
            financial_statement=payloads_pb2.FinancialStatement(
                kind="annual", assets=money(100_00)
            ),
            **fields,
        )

    stranger = make("91", "110108", "MA01ABCF")
    own = town.firm.subject_id or ""
    reasons = await town.reasons(
        statement("by number"),
        statement("by id", subject=types_pb2.SubjectRef(subject_id=own)),
        statement("other", subject=types_pb2.SubjectRef(uscc=OTHER)),
        statement("stranger", subject=types_pb2.SubjectRef(uscc=stranger)),
        statement("other id", subject=types_pb2.SubjectRef(subject_id="sub_none")),
        by="par_firm",
    )
    assert reasons == {2: "NOT_YOURS", 3: "NOT_YOURS", 4: "NOT_YOURS"}
    assert await town.stored() == {"by number", "by id"}
    async with town.records.transactions.read() as work:
        assert await work.subjects.resolve(stranger) is None
    assert await town.reasons(invoice("a"), by="par_firm") == {0: "TYPE_NOT_YOURS"}


async def test_a_visiting_bank_needs_the_firm_to_consent(town: Town) -> None:
    visit = record(
        "v",
        record_type="field_visit",
        field_visit=payloads_pb2.FieldVisit(
            officer="Wang", visited_at=day("2024-01-15"), findings=["operating"]
        ),
    )
    assert await town.reasons(visit, by="par_bank") == {0: "CONSENT_REQUIRED"}
    await town.granted(provider_ids=("par_bank",), record_types=("field_visit",))
    assert await town.reasons(visit, by="par_bank") == {}


async def test_a_batch_about_many_firms(town: Town) -> None:
    """More firms than have gates of their own in one batch."""
    usccs = [make("91", "110108", f"MA02{number:04}") for number in range(100)]
    async with town.records.transactions.begin() as work:
        await work.subjects.resolve_or_create_many(usccs)
    await town.granted()
    rows = [bill(uscc[-6:], subject=types_pb2.SubjectRef(uscc=uscc)) for uscc in usccs]
    reasons = await town.reasons(*rows, bill("a"))
    assert reasons == dict.fromkeys(range(100), "CONSENT_REQUIRED")
    assert await town.stored() == {"a"}


@pytest.mark.parametrize("gated", [64, 0])
async def test_no_row_is_stored_after_a_withdrawal_was_acknowledged(
    town: Town, gated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent_store, "_MOST_GATED", gated)
    moments = random.Random(20181022)
    outcomes: set[bool] = set()

    async def supply(name: str, delay: float) -> bool:
        await asyncio.sleep(delay)
        reasons = await town.reasons(bill(name))
        assert set(reasons.values()) <= {"CONSENT_WITHDRAWN"}
        return not reasons

    async def withdraw(consent: Consent, delay: float) -> set[str]:
        await asyncio.sleep(delay)
        await town.end(consent)
        # Acknowledged: every row that there will ever be is there now.
        return await town.stored()

    for number in range(12):
        consent = await town.granted()
        acknowledged, came_in = await asyncio.gather(
            withdraw(consent, moments.uniform(0, 0.03)),
            asyncio.gather(*(supply(f"{number}.{n}", moments.uniform(0, 0.06)) for n in range(8))),
        )
        assert await town.stored() == acknowledged
        outcomes |= set(came_in)
    assert outcomes == {True, False}
