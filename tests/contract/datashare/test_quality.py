"""Inspection, findings and quality reports, on SQLite and PostgreSQL alike."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.idempotency.domain import RequestKey
from services.datashare.main import MIGRATIONS, Stores, Work
from services.datashare.quality import tables
from services.datashare.quality.app import OTHERS_GONE_AFTER, Inspect
from services.datashare.quality.domain import Finding, Rule, Rules
from services.datashare.quality.examine import PayloadExaminer
from services.datashare.quality.loader import load as load_rules
from services.datashare.quality.report import (
    ListFindings,
    QualityReport,
    ReportQuality,
    TypeQuality,
)
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.subjects.uscc import make
from services.datashare.summaries.domain import SeriesKey
from services.kit.db import Database
from services.kit.errors import InvalidArgumentError, PermissionDeniedError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from services.kit.migrations import upgrade
from tests.contract.datashare import previous_version
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

KEY = b"counterparty-key"
TAX, MARKET, HR, LENDER = "par_tax", "par_market_regulator", "par_social_insurance", "par_lender"
OTHER = make("91", "110105", "MA02WXYR")
THIRD = make("91", "110106", "MA03WXYR")
OPERATOR = Caller("operator", "OPERATOR")
REGULATOR = Caller("par_regulator", "REGULATOR")
RULES = load_rules()


class Quality:
    """Inspection and its use cases over a datashare."""

    def __init__(self, datashare: Datashare, rules: Rules = RULES) -> None:
        self.datashare = datashare
        number_alone = rules.invoice_under_two_firms.number_alone
        self.inspect = Inspect(
            datashare.transactions,
            PayloadExaminer(CounterpartyTokens(KEY), number_alone),
            rules,
            datashare.clock,
            RandomIds(datashare.clock),
        )
        self._report = ReportQuality(datashare.transactions, datashare.clock)
        self._list = ListFindings(datashare.transactions, datashare.clock)

    async def found(self, who: Caller = OPERATOR, **filters: Any) -> list[Finding]:
        """Every finding that somebody sees."""
        asked: dict[str, Any] = {
            "rule": "",
            "subject_id": "",
            "provider_id": "",
            "cleared": False,
            "before": "",
            "page_size": 500,
        }
        findings, more = await self._list(who, **(asked | filters))
        assert not more
        return list(findings)

    async def inspected(self, **filters: Any) -> list[Finding]:
        """Every finding after looking."""
        await self.inspect()
        return await self.found(**filters)

    async def report(
        self,
        who: Caller = OPERATOR,
        provider_id: str = "",
        first: date | None = None,
        last: date | None = None,
    ) -> QualityReport:
        return await self._report(who, provider_id, first, last)

    async def of(self, provider_id: str, record_type: str) -> TypeQuality:
        """The report about one type."""
        report = await self.report(provider_id=provider_id)
        (found,) = [item for item in report.types if item.place == (provider_id, record_type)]
        return found

    async def due(self) -> list[str]:
        async with self.datashare.transactions.read() as work:
            return [item.subject_id for item in await work.quality.due(100)]


async def populate(database: Database, **more: Any) -> Datashare:
    built = Datashare(database, **more)
    await built.register(
        provider("tax", historical=True),
        provider("tax", suffix="2"),
        provider("market_regulator"),
        provider("social_insurance"),
        provider("lender"),
    )
    return built


@pytest.fixture
async def quality(database: Database) -> Quality:
    return Quality(await populate(database))


def of(uscc: str) -> types_pb2.SubjectRef:
    return types_pb2.SubjectRef(uscc=uscc)


def coded(
    record_id: str, number: str, *, code: str = "1100", uscc: str = USCC, **fields: Any
) -> records_pb2.Record:
    """An invoice with a code."""
    made = invoice(record_id, subject=of(uscc), **fields)
    made.vat_invoice.code, made.vat_invoice.number = code, number
    return made


def filing(
    sales: int | None, month: int = 1, *, kind: str = "vat", **fields: Any
) -> records_pb2.Record:
    """The filing of a month of 2024."""
    made = records_pb2.Record(
        provider_record_id=f"filing-{month}",
        period=types_pb2.DatePeriod(
            **{"from": day(f"2024-{month:02}-01"), "to": day(f"2024-{month:02}-28")}
        ),
        record_type="tax_filing",
        tax_filing=payloads_pb2.TaxFiling(
            tax_kind=kind,
            declared_tax=money(0),
            declared_sales=None if sales is None else money(sales),
        ),
        **{"version": 1, "subject": of(USCC), **fields},
    )
    made.obtained_at.FromDatetime(datetime(2024, 6, 1, tzinfo=UTC))
    return made


def insured(headcount: int, on: str = "2023-12-31") -> records_pb2.Record:
    return record(
        f"insured-{on}",
        on,
        record_type="social_insurance",
        social_insurance=payloads_pb2.SocialInsurance(headcount=headcount),
    )


def report_of_2023(version: int = 1, **counts: int) -> records_pb2.Record:
    return record(
        "report-2023",
        "2023-12-31",
        version=version,
        record_type="annual_report",
        annual_report=payloads_pb2.AnnualReport(**counts),
    )


def registered(
    status: str, on: str, *, record_id: str = "reg", version: int = 1
) -> records_pb2.Record:
    return record(
        record_id,
        on,
        version=version,
        record_type="registration",
        registration=payloads_pb2.Registration(
            name="A firm", founded=day("2015-03-01"), status=status
        ),
    )


def guaranteed(
    record_id: str,
    uscc: str,
    other: str,
    *,
    role: str = "guarantor",
    kind: str = "joint",
    until: str = "2030-12-31",
    **fields: Any,
) -> records_pb2.Record:
    """A guarantee that the first firm gives the second, or gets from it."""
    status = fields.pop("status", "")
    return record(
        record_id,
        subject=of(uscc),
        record_type="guarantee",
        guarantee=payloads_pb2.Guarantee(
            contract_number=record_id,
            role=role,
            other_party=other,
            amount=money(1_000_000_00),
            valid_from=day("2024-01-15"),
            valid_to=day(until),
            kind=kind,
            status=status,
        ),
        **fields,
    )


class TestFindings:
    async def test_invoiced_sales_beyond_declared_ones(self, quality: Quality) -> None:
        push = quality.datashare.submit
        await push(TAX, invoice("a", 100_000_00), filing(60_000_00), filing(1, 2, kind="cit"))
        (gap,) = await quality.inspected()
        subject_id = await quality.datashare.subject_id()
        assert gap.contradiction.rule is Rule.SALES_GAP
        assert gap.contradiction.subject_id == subject_id
        assert gap.contradiction.figures["gap_fen"] == 40_000_00
        assert gap.found_at == NOW

        # Nothing new: the same one. More of the same: the same one with other figures.
        assert await quality.inspected() == [gap]
        quality.datashare.clock.advance(timedelta(minutes=1))
        await push(TAX, invoice("b", 10_000_00))
        (larger,) = await quality.inspected()
        assert larger.finding_id == gap.finding_id
        assert larger.found_at == NOW
        assert larger.contradiction.figures["gap_fen"] == 50_000_00

        await push(TAX, filing(110_000_00, version=2))
        assert await quality.inspected() == []
        (cleared,) = await quality.found(cleared=True)
        assert cleared == replace(larger, cleared_at=quality.datashare.clock.now())

        # The same contradiction later is another finding.
        await push(TAX, filing(60_000_00, version=3))
        (again,) = await quality.inspected()
        assert again.finding_id != gap.finding_id
        assert again.contradiction == larger.contradiction
        assert len(await quality.found(cleared=True)) == 2

    async def test_a_retracted_filing_says_nothing(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(60_000_00))
        assert len(await quality.inspected()) == 1
        await quality.datashare.submit(TAX, retraction(filing(60_000_00), 2))
        assert await quality.inspected() == []

    async def test_a_filing_that_states_no_sales_says_nothing(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(None))
        assert await quality.inspected() == []

    async def test_insured_headcount_against_the_annual_report(self, quality: Quality) -> None:
        push = quality.datashare.submit
        await push(HR, insured(12))
        await push(MARKET, report_of_2023(headcount=30))
        (gap,) = await quality.inspected(rule="headcount_gap")
        assert gap.contradiction.figures["gap"] == -18
        assert gap.contradiction.provider_ids == (MARKET, HR)
        # The number of insured is what compares, where the report has it.
        await push(MARKET, report_of_2023(2, headcount=30, insured_headcount=12))
        assert await quality.inspected() == []

    async def test_a_cancelled_firm_that_invoices(self, quality: Quality) -> None:
        push = quality.datashare.submit
        await push(MARKET, registered("active", "2015-03-01"))
        await push(TAX, invoice("a", 9_00, on="2024-03-05"), invoice("b", on="2024-02-05"))
        assert await quality.inspected() == []
        await push(MARKET, registered("cancelled", "2024-02-10", record_id="reg-2"))
        (held,) = await quality.inspected()
        assert held.contradiction.rule is Rule.CANCELLED_BUT_INVOICING
        assert held.contradiction.figures == {
            "invoices": 1,
            "net_fen": 9_00,
            "ended_month": 202402,
        }
        await push(TAX, retraction(invoice("a"), 2))
        assert await quality.inspected() == []

    async def test_a_register_that_keeps_the_day_of_founding(self, quality: Quality) -> None:
        push = quality.datashare.submit
        ended = registered("revoked", "2015-03-01")
        ended.obtained_at.FromDatetime(datetime(2024, 2, 10, tzinfo=UTC))
        await push(MARKET, ended)
        await push(TAX, invoice("a", on="2024-02-05"), invoice("b", on="2024-03-05"))
        (held,) = await quality.inspected()
        assert held.contradiction.figures["invoices"] == 1

    async def test_a_month_in_the_wrong_unit(self, quality: Quality) -> None:
        months = [f"2023-{month:02}-10" for month in range(1, 13)]
        rows = [invoice(on, 500_00, on=on) for on in months]
        wrong = invoice("wrong", 5_000_000_00, on="2024-01-10")
        await quality.datashare.submit(TAX, *rows, wrong)
        (held,) = await quality.inspected()
        assert held.contradiction.rule is Rule.JUMP
        assert held.contradiction.figures["median"] == 500_00
        await quality.datashare.submit(TAX, invoice("wrong", 500_00, on="2024-01-10", version=2))
        assert await quality.inspected() == []

    async def test_what_is_long_ago_is_looked_at_no_more(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(60_000_00))
        assert len(await quality.inspected()) == 1
        clock = quality.datashare.clock
        clock.advance(datetime(2027, 1, 31, 12, tzinfo=UTC) - clock.now())
        assert len(await quality.inspected()) == 1
        clock.advance(timedelta(days=1))
        assert await quality.inspected() == []

    async def test_no_finding_outlives_what_is_hidden(
        self, quality: Quality, database: Database
    ) -> None:
        clock = quality.datashare.clock
        await quality.datashare.submit(
            TAX,
            coded("a", "1", on="2024-01-10"),
            coded("b", "2", on="2024-01-20"),
            coded("x", "1", uscc=OTHER, on="2024-01-20"),
            coded("y", "2", uscc=THIRD, on="2024-01-20"),
        )
        assert len(await quality.inspected()) == 2
        # Invoices are hidden after 10,950 days, the first one on 2054-01-02.
        clock.advance(datetime(2054, 1, 1, 15, 59, tzinfo=UTC) - clock.now())
        assert len(await quality.found()) == 2
        clock.advance(timedelta(minutes=1))
        # At once, before anything looks at it again.
        (left,) = await quality.found()
        third = await quality.datashare.subject_id(THIRD)
        assert third in {left.contradiction.subject_id, *left.contradiction.others}
        assert (await quality.of(TAX, "vat_invoice")).findings == {left.contradiction.rule: 1}
        assert await quality.inspected() == [left]
        clock.advance(timedelta(days=10))
        assert await quality.found() == []
        assert await quality.inspected(cleared=True) == []
        async with quality.datashare.transactions.begin() as work:
            ids = [await quality.datashare.subject_id(uscc) for uscc in (USCC, OTHER, THIRD)]
            await work.quality.forget_hidden(ids, 40_000, clock.now())
        async with database.read() as conn:
            for table in (tables.finding, tables.finding_subject, tables.finding_provider):
                assert not (await conn.execute(sa.select(table))).all()


async def test_what_is_sealed_is_looked_at_too(database: Database) -> None:
    sealed = frozenset({"vat_invoice", "tax_filing", "guarantee"})
    quality = Quality(await populate(database, sealed=sealed))
    await contradicting(quality)
    assert len(await quality.inspected()) == 3
    assert (await quality.of(TAX, "vat_invoice")).missing == {"code": 1, "counterparty": 0}


class TestInvoiceUnderTwoFirms:
    async def test_it_is_one_finding_for_two_firms(self, quality: Quality) -> None:
        push = quality.datashare.submit
        await push(
            TAX,
            coded("a", "001", on="2024-01-05"),
            coded("b", "002", on="2024-02-05"),
            coded("c", "003"),
        )
        assert await quality.inspected() == []
        await push(
            "par_tax2",
            coded("x", "001", uscc=OTHER, on="2024-01-05"),
            coded("y", "002 ", code=" 1100", uscc=OTHER, on="2024-03-05"),
            coded("z", "004", uscc=OTHER),
        )
        (held,) = await quality.inspected()
        mine, other = (
            await quality.datashare.subject_id(),
            await quality.datashare.subject_id(OTHER),
        )
        found = held.contradiction
        assert found.rule is Rule.INVOICE_UNDER_TWO_FIRMS
        assert {found.subject_id, *found.others} == {mine, other}
        assert found.provider_ids == (TAX, "par_tax2")
        assert found.figures == {"invoices": 2}
        assert (found.first_month, found.last_month) == (202401, 202403)

        await push(TAX, retraction(coded("a", "001"), 2))
        (held,) = await quality.inspected()
        assert held.contradiction.figures == {"invoices": 1}
        await push("par_tax2", coded("y", "005", uscc=OTHER, version=2))
        assert await quality.inspected() == []

    @pytest.mark.parametrize(
        ("code", "number", "side"),
        [
            ("", "00000001", payloads_pb2.INVOICE_SIDE_OUTPUT),  # names no invoice by itself
            ("1100", "001", payloads_pb2.INVOICE_SIDE_INPUT),  # the buyer's view of the same one
            ("1101", "001", payloads_pb2.INVOICE_SIDE_OUTPUT),
        ],
    )
    async def test_not_the_same_one(
        self, quality: Quality, code: str, number: str, side: int
    ) -> None:
        first_code = "" if not code else "1100"
        await quality.datashare.submit(
            TAX,
            coded("a", number, code=first_code),
            coded("x", number, code=code, uscc=OTHER, side=side),
        )
        assert await quality.inspected() == []

    async def test_a_digital_invoice_has_a_number_alone(self, quality: Quality) -> None:
        number = "24112000000012345678"
        await quality.datashare.submit(
            TAX, coded("a", number, code=""), coded("x", number, code="", uscc=OTHER)
        )
        assert len(await quality.inspected()) == 1

    async def test_three_firms_are_three_pairs(self, quality: Quality) -> None:
        rows = [coded("a", "001", uscc=uscc) for uscc in (USCC, OTHER, THIRD)]
        await quality.datashare.submit(TAX, *rows)
        found = await quality.inspected()
        assert len({(f.contradiction.subject_id, f.contradiction.others) for f in found}) == 3

    async def test_versions_may_be_counted_in_any_order(self, quality: Quality) -> None:
        """A mark is of the newest version, though an older one be looked at later."""
        submit = quality.datashare.submit
        await submit(TAX, coded("x", "001", uscc=OTHER), coded("a", "001"))
        async with quality.datashare.transactions.read() as work:
            first = await work.quality.arrivals(None, 10)
        quality.datashare.clock.advance(timedelta(seconds=1))
        await submit(TAX, coded("a", "002", version=2))
        async with quality.datashare.transactions.begin() as work:
            assert await work.quality.take(first)
        await quality.inspect()
        async with quality.datashare.transactions.begin() as work:
            mine = {SeriesKey(*arrival[:3]): arrival.records for arrival in first}
            await work.quality.note_arrivals(mine, first[0].recorded_at)
        assert await quality.inspected() == []

    async def test_no_number_is_kept_in_clear(self, quality: Quality, database: Database) -> None:
        await quality.datashare.submit(TAX, coded("a", "73517351", code="110022003300"))
        await quality.inspect()
        async with database.read() as conn:
            rows = (await conn.execute(sa.select(tables.invoice))).all()
        assert len(rows) == 1
        assert not any(b"7351" in bytes(str(value), "utf-8") for value in rows[0])
        assert b"73517351" not in rows[0].fingerprint


class TestGuaranteeCircles:
    async def test_a_circle_is_found_and_clears(self, quality: Quality) -> None:
        push = quality.datashare.submit
        async with quality.datashare.transactions.begin() as work:
            await work.subjects.resolve_or_create_many([OTHER])
        # Each supplied from another side: A for B, B for C, and C for A.
        await push(LENDER, guaranteed("g1", USCC, OTHER))
        await push(LENDER, guaranteed("g2", THIRD, OTHER, role="debtor"))
        assert await quality.inspected() == []
        await push(LENDER, guaranteed("g3", THIRD, USCC))
        (circle,) = await quality.inspected()
        found = circle.contradiction
        ids = [await quality.datashare.subject_id(uscc) for uscc in (USCC, OTHER, THIRD)]
        assert found.rule is Rule.GUARANTEE_CIRCLE
        assert [found.subject_id, *found.others] == sorted(ids)
        assert found.figures == {"members": 3, "guarantees": 3, "amount_fen": 3_000_000_00}
        assert await quality.inspected() == [circle]
        await push(LENDER, guaranteed("g3", THIRD, USCC, version=2, status="released"))
        assert await quality.inspected() == []

    async def test_members_without_records_of_their_own_are_known(self, quality: Quality) -> None:
        async with quality.datashare.transactions.begin() as work:
            await work.subjects.resolve_or_create_many([OTHER])
        await quality.datashare.submit(
            LENDER,
            guaranteed("g1", USCC, OTHER),
            guaranteed("g2", USCC, OTHER, role="debtor"),
            guaranteed("g3", USCC, "somebody else", role="debtor"),
        )
        (circle,) = await quality.inspected()
        assert circle.contradiction.figures["members"] == 2

    @pytest.mark.parametrize("change", [{"kind": "counter"}, {"until": "2024-06-14"}])
    async def test_what_closes_no_circle(self, quality: Quality, change: dict[str, Any]) -> None:
        await quality.datashare.submit(
            LENDER,
            guaranteed("g1", USCC, OTHER),
            guaranteed("g2", OTHER, USCC, **change),
            guaranteed("g3", THIRD, THIRD),
        )
        assert await quality.inspected() == []

    async def test_a_circle_ends_with_the_term_of_a_guarantee(self, quality: Quality) -> None:
        await quality.datashare.submit(
            LENDER,
            guaranteed("g1", USCC, OTHER),
            guaranteed("g2", OTHER, USCC, until="2024-06-20"),
        )
        assert len(await quality.inspected()) == 1
        quality.datashare.clock.advance(timedelta(days=5))
        assert len(await quality.inspected()) == 1
        quality.datashare.clock.advance(timedelta(days=1))
        assert await quality.inspected() == []


class TestWhoSees:
    async def findings(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(60_000_00))
        await quality.datashare.submit(HR, insured(12))
        await quality.datashare.submit(MARKET, report_of_2023(headcount=30))
        await quality.inspect()

    async def test_a_provider_sees_those_in_which_it_takes_part(self, quality: Quality) -> None:
        await self.findings(quality)
        rules = {
            who: [f.contradiction.rule for f in await quality.found(Caller(who, "PROVIDER"))]
            for who in (TAX, HR, MARKET, LENDER)
        }
        assert rules == {
            TAX: [Rule.SALES_GAP],
            HR: [Rule.HEADCOUNT_GAP],
            MARKET: [Rule.HEADCOUNT_GAP],
            LENDER: [],
        }
        for who in (OPERATOR, REGULATOR):
            assert len(await quality.found(who)) == 2
            assert len(await quality.found(who, provider_id=TAX)) == 1

    async def test_a_provider_does_not_see_another(self, quality: Quality) -> None:
        await self.findings(quality)
        tax = Caller(TAX, "PROVIDER")
        with pytest.raises(PermissionDeniedError) as caught:
            await quality.found(tax, provider_id=HR)
        assert caught.value.reason == "NOT_YOURS"
        with pytest.raises(PermissionDeniedError) as caught:
            await quality.report(tax, HR)
        assert caught.value.reason == "NOT_YOURS"
        assert {item.place.provider_id for item in (await quality.report(tax)).types} == {TAX}
        everybody = {item.place.provider_id for item in (await quality.report()).types}
        assert everybody == {TAX, HR, MARKET}

    async def test_filters_and_pages(self, quality: Quality) -> None:
        await self.findings(quality)
        await quality.datashare.submit(TAX, coded("a2", "001"), coded("x", "001", uscc=OTHER))
        newest_first = await quality.inspected()
        assert len(newest_first) == 3
        assert newest_first == sorted(newest_first, key=lambda f: f.finding_id, reverse=True)
        other = await quality.datashare.subject_id(OTHER)
        (shared,) = await quality.found(subject_id=other)
        assert shared.contradiction.rule is Rule.INVOICE_UNDER_TWO_FIRMS
        assert await quality.found(rule="sales_gap", subject_id=other) == []
        paged: list[Finding] = []
        before = ""
        for size in (2, 2):
            page, before = await quality._list(
                OPERATOR,
                rule="",
                subject_id="",
                provider_id="",
                cleared=False,
                before=before,
                page_size=size,
            )
            paged += page
        assert paged == newest_first
        assert before == ""
        with pytest.raises(InvalidArgumentError) as caught:
            await quality.found(rule="no_such_rule")
        assert "sales_gap" in caught.value.message


class TestReport:
    async def test_what_became_of_rows(self, quality: Quality) -> None:
        first = invoice("a", on="2024-05-05")
        await quality.datashare.submit(
            TAX,
            first,
            first,
            invoice("b", on="2024-05-31", counterparty=""),
            invoice("c", on="2024-05-15"),
            record("d", record_type="vat_invoice"),
            invoice("a", net=1),
        )
        await quality.datashare.submit(
            TAX, invoice("a", 1, on="2024-05-05", version=2), retraction(invoice("b"), 2)
        )
        before = await quality.report()
        assert before.inspected_until == NOW
        await quality.inspect()
        found = await quality.of(TAX, "vat_invoice")
        assert found.counts == (8, 5, 1, 0)
        assert found.rejects == {"RECORD_CONFLICT": 1, "TYPE_MISMATCH": 1}
        assert found.observed is not None
        assert found.observed.corrections == 1
        assert found.observed.retractions == 1
        assert found.observed.described == 4
        assert found.observed.last_arrival == NOW
        assert found.observed.last_month == 202405
        assert found.missing == {"code": 4, "counterparty": 1}
        assert found.lateness == (31, 44)
        assert found.findings == {}
        report = await quality.report()
        assert report.inspected_until == quality.datashare.clock.now()
        assert (report.first, report.last) == (date(2024, 5, 17), date(2024, 6, 15))

    async def test_days_are_of_arrival_and_freshness_is_of_ever(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a"))
        quality.datashare.clock.advance(timedelta(days=10))
        await quality.datashare.submit(TAX, invoice("a", version=2, net=1), filing(1))
        await quality.inspect()
        tenth = date(2024, 6, 25)
        late = (await quality.report(first=tenth)).types
        early = (await quality.report(last=tenth - timedelta(days=1))).types
        assert [item.place.record_type for item in late] == ["tax_filing", "vat_invoice"]
        counts = [
            (item.counts.accepted, item.observed.corrections, item.observed.last_arrival.day)
            for item in (late[1], early[1])
            if item.observed
        ]
        assert counts == [(1, 1, 25), (1, 0, 25)]
        assert (late[1].lateness, early[1].lateness) == (None, (181, 181))

    async def test_imports_are_not_late(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a"), historical=True)
        await quality.inspect()
        found = await quality.of(TAX, "vat_invoice")
        assert found.lateness is None
        assert found.missing["code"] == 1

    async def test_findings_are_counted_by_type(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(60_000_00))
        await quality.inspect()
        for record_type in ("vat_invoice", "tax_filing"):
            assert (await quality.of(TAX, record_type)).findings == {Rule.SALES_GAP: 1}

    @pytest.mark.parametrize(
        ("first", "last"),
        [
            (date.min, date.max),
            (date(2024, 6, 15), None),
            (date.max, date.max),
            (date.min, date.min),
        ],
    )
    async def test_any_days_will_do(self, quality: Quality, first: date, last: date | None) -> None:
        await quality.report(first=first, last=last)

    async def test_days_in_the_wrong_order(self, quality: Quality) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await quality.report(first=date(2024, 6, 2), last=date(2024, 6, 1))
        assert caught.value.reason == "DATE_INVALID"
        assert caught.value.fields[0].field == "to"


async def counted(database: Database) -> tuple[int, int, int, set[str]]:
    """Versions, corrections, versions by lateness or later version, and fingerprints."""
    async with database.read() as conn:
        days = (
            await conn.execute(
                sa.select(sa.func.sum(tables.day.c.accepted), sa.func.sum(tables.day.c.corrections))
            )
        ).one()
        late = await conn.scalar(sa.select(sa.func.sum(tables.lateness.c.records)))
        marks = (await conn.execute(sa.select(tables.invoice.c.fingerprint))).scalars()
        return int(days[0] or 0), int(days[1] or 0), int(late or 0), {str(mark) for mark in marks}


class _KilledError(Exception):
    pass


class TestOnce:
    """What comes in is counted once, whatever happens meanwhile."""

    async def push_all(self, quality: Quality, batches: int = 12) -> tuple[int, int, int, int]:
        for number in range(batches):
            rows = [
                coded(f"{number}-{row}", f"{number}{row:03}", uscc=uscc)
                for uscc in (USCC, OTHER)
                for row in range(7)
            ]
            if number:
                rows.append(coded(f"{number - 1}-0", f"9{number}", version=2))
            quality.datashare.clock.advance(timedelta(seconds=1))
            await quality.datashare.submit(TAX, *rows)
        return batches * 14 + batches - 1, batches - 1, batches * 14, batches * 14

    async def test_small_steps_are_as_one(
        self, quality: Quality, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.datashare.quality.app.RECORDS_A_STEP", 10)
        monkeypatch.setattr("services.datashare.quality.app.ARRIVALS_A_STEP", 3)
        *expected, marks = await self.push_all(quality)
        await quality.inspect()
        *found, fingerprints = await counted(database)
        assert found == expected
        assert len(fingerprints) == marks / 2 + 11  # both firms have the same numbers

    async def test_killed_at_any_moment_it_goes_on(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.datashare.quality.app.RECORDS_A_STEP", 10)
        chance = random.Random(5)
        deaths = 0

        class Deadly(Work):
            """Dies now and then at the end of a write, or before."""

            def __init__(self, conn: AsyncConnection, stores: Stores) -> None:
                super().__init__(conn, stores)
                for name in ("take", "add", "settle", "done", "note"):
                    setattr(self.quality, name, self._deadly(getattr(self.quality, name)))

            @staticmethod
            def _deadly(method: Any) -> Any:
                async def call(*arguments: Any) -> Any:
                    nonlocal deaths
                    result = await method(*arguments)
                    if chance.random() < 0.3:
                        deaths += 1
                        raise _KilledError
                    return result

                return call

        datashare = await populate(database)
        quality = Quality(datashare)
        *expected, _ = await self.push_all(quality)
        dying = Datashare(database, work=lambda conn: Deadly(conn, datashare.stores))
        dying.clock.advance(datashare.clock.now() - dying.clock.now())
        while True:
            try:
                await Quality(dying).inspect()
                break
            except _KilledError:
                continue
        assert deaths > 10
        assert (await counted(database))[:3] == tuple(expected)
        (shared,) = await quality.found()
        assert shared.contradiction.figures == {"invoices": 12 * 7 - 11}

    async def test_two_replicas_count_once(self, postgres: Database) -> None:
        datashare = await populate(postgres)
        replicas = [Quality(datashare), Quality(datashare)]
        pushing = asyncio.create_task(self.push_all(replicas[0]))
        while not pushing.done():
            await asyncio.gather(*(replica.inspect.step() for replica in replicas))
        await replicas[1].inspect()
        *expected, _ = await pushing
        assert (await counted(postgres))[:3] == tuple(expected)

    async def test_only_one_replica_looks(self, postgres: Database) -> None:
        datashare = await populate(postgres)
        await datashare.submit(TAX, invoice("a"))
        async with datashare.transactions.read() as work:
            assert await work.quality.alone()
            assert not await Quality(datashare).inspect.step()
        assert await Quality(datashare).inspect.step()

    async def test_arrivals_taken_by_another_are_left_to_it(self, postgres: Database) -> None:
        """Though both think they are alone: a lock may be lost."""
        datashare = await populate(postgres)

        class Deluded(Work):
            def __init__(self, conn: AsyncConnection, stores: Stores) -> None:
                super().__init__(conn, stores)
                self.quality.alone = self._yes  # type: ignore[method-assign]  # the point of it

            async def _yes(self) -> bool:
                return True

        both = [
            Quality(Datashare(postgres, work=lambda conn: Deluded(conn, datashare.stores)))
            for _ in range(2)
        ]
        *expected, _ = await self.push_all(Quality(datashare))
        for _ in range(40):
            await asyncio.gather(*(one.inspect.step() for one in both), return_exceptions=True)
        await Quality(datashare).inspect()
        assert (await counted(postgres))[:3] == tuple(expected)

    async def test_a_batch_that_commits_late_is_not_missed(self, postgres: Database) -> None:
        """Its records are older than what was looked at before it could be seen."""
        go_on, arrived = asyncio.Event(), asyncio.Event()

        class Slow(Work):
            """Its batches commit only when they are told to."""

            def __init__(self, conn: AsyncConnection, stores: Stores) -> None:
                super().__init__(conn, stores)
                append = self.changes.append

                async def wait(changes: Sequence[Any]) -> None:
                    await append(changes)
                    arrived.set()
                    await go_on.wait()

                self.changes.append = wait  # type: ignore[method-assign]  # the last step of a batch

        quick = await populate(postgres)
        slow = Datashare(postgres, work=lambda conn: Slow(conn, quick.stores))
        quality = Quality(quick)
        await quick.submit("par_tax2", filing(60_000_00))
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(slow.submit(TAX, invoice("late", 100_000_00)))
            await arrived.wait()
            quick.clock.advance(timedelta(hours=1))
            await quick.submit("par_tax2", coded("x", "1", uscc=OTHER))
            await quality.inspect()
            assert (await counted(postgres))[0] == 2
            assert await quality.found() == []
            go_on.set()
        (gap,) = await quality.inspected()
        assert gap.contradiction.rule is Rule.SALES_GAP
        assert (await counted(postgres))[0] == 3


class TestUpgrade:
    async def test_what_was_there_before_is_counted_once(
        self, quality: Quality, database: Database
    ) -> None:
        submit, clock = quality.datashare.submit, quality.datashare.clock
        await submit(TAX, invoice("old", 100_000_00), filing(60_000_00))
        # As the migration finds it: records without arrivals.
        async with database.begin() as conn:
            await conn.execute(sa.delete(tables.arrival))
            row = {"name": "catch_up", "value": clock.now().isoformat()}
            await conn.execute(sa.insert(tables.state), [row])
        clock.advance(timedelta(minutes=1))
        await submit(TAX, invoice("new"))
        # A replica of the version before goes on for a while, and leaves no arrivals.
        clock.advance(timedelta(minutes=1))
        await submit(TAX, invoice("by the old program"), coded("x", "1", uscc=OTHER))
        async with database.begin() as conn:
            since = tables.arrival.c.recorded_at >= clock.now()
            await conn.execute(sa.delete(tables.arrival).where(since))
        assert not await quality.inspect.step()
        assert (await quality.report()).inspected_until is None
        clock.advance(OTHERS_GONE_AFTER)
        assert len(await quality.inspected()) == 1
        assert (await counted(database))[0] == 5
        assert (await quality.report()).inspected_until == clock.now()
        await submit(TAX, invoice("later"))
        await quality.inspect()
        assert (await counted(database))[0] == 6

    async def test_a_database_of_the_version_before_is_caught_up_with(self, tmp_path: Path) -> None:
        path = tmp_path / "datashare.db"
        url = f"sqlite:///{path}"
        upgrade(url, MIGRATIONS, previous_version.INITIAL)
        previous_version.populate_sqlite(str(path), firms=3)
        upgrade(url, MIGRATIONS)
        database = Database.open(url)
        quality = Quality(Datashare(database))
        quality.datashare.clock.at = datetime.now(UTC)
        assert not await quality.inspect.step()
        quality.datashare.clock.advance(OTHERS_GONE_AFTER + timedelta(minutes=1))
        await quality.inspect()
        assert (await counted(database))[0] == 30
        assert (await quality.report()).inspected_until == quality.datashare.clock.now()
        await database.close()

    async def test_new_thresholds_are_applied_to_what_is_there(self, quality: Quality) -> None:
        await quality.datashare.submit(TAX, invoice("a", 100_000_00), filing(60_000_00))
        assert len(await quality.inspected()) == 1
        lax = replace(RULES, version=2, sales_gap=replace(RULES.sales_gap, over_ppm=900_000))
        newer = Quality(quality.datashare, lax)
        assert await newer.inspected() == []
        # A replica of the version before judges no more.
        await quality.datashare.submit(TAX, filing(1, 1, version=2))
        assert len(await quality.inspected()) == 0
        assert len(await newer.inspected()) == 1


ABOUT_SUBJECTS = (
    tables.arrival,
    tables.due,
    tables.finding,
    tables.finding_subject,
    tables.invoice,
    tables.guarantee,
)


async def contradicting(quality: Quality) -> None:
    """Push what gives three findings, two of them about two firms."""
    await quality.datashare.submit(
        TAX,
        invoice("a", 100_000_00),
        filing(60_000_00),
        coded("b", "1"),
        coded("x", "1", uscc=OTHER),
    )
    await quality.datashare.submit(
        LENDER, guaranteed("g1", USCC, OTHER), guaranteed("g2", OTHER, USCC)
    )


async def nothing_is_left(database: Database, subject_id: str) -> None:
    async with database.read() as conn:
        for table in ABOUT_SUBJECTS:
            rows = (await conn.execute(sa.select(table.c.subject_id))).scalars()
            assert subject_id not in set(rows), table.name
        others = (await conn.execute(sa.select(tables.finding.c.others))).scalars()
        assert not any(subject_id.encode() in bytes(value) for value in others)


async def test_what_is_kept_of_a_subject_goes_with_it(quality: Quality, database: Database) -> None:
    await contradicting(quality)
    assert len(await quality.inspected()) == 3
    subject_id = await quality.datashare.subject_id()
    await quality.datashare.erase(RequestKey("par_operator", "r1", b"f" * 32), subject_id, "asked")
    assert await quality.found(cleared=True) == []
    assert await quality.inspected(cleared=True) == []
    await nothing_is_left(database, subject_id)
    async with database.read() as conn:
        assert not (await conn.execute(sa.select(tables.finding_provider))).all()


async def test_who_is_erased_while_it_is_looked_at_leaves_nothing(postgres: Database) -> None:
    for steps in range(6):
        quality = Quality(await populate(postgres) if not steps else Datashare(postgres))
        await contradicting(quality)
        subject_id = await quality.datashare.subject_id()
        for _ in range(steps):
            await quality.inspect.step()
        request = RequestKey("par_operator", f"r{steps}", b"f" * 32)
        await asyncio.gather(
            quality.datashare.erase(request, subject_id, "asked"), quality.inspect()
        )
        await nothing_is_left(postgres, subject_id)
        await quality.inspect()
        await nothing_is_left(postgres, subject_id)


async def test_a_run_of_retention_deletes_the_marks(quality: Quality, database: Database) -> None:
    await quality.datashare.submit(TAX, coded("a", "1"), coded("x", "1", uscc=OTHER))
    assert len(await quality.inspected()) == 1
    quality.datashare.clock.advance(timedelta(days=365 * 31))
    retention = quality.datashare.retention
    plan = await retention.plan()
    await retention.run(RequestKey("par_operator", "r1", b"f" * 32), plan.plan_id)
    assert await quality.inspected(cleared=True) == []
    async with database.read() as conn:
        assert not (await conn.execute(sa.select(tables.invoice))).all()


async def test_marks_of_hidden_records_can_be_deleted(quality: Quality, database: Database) -> None:
    await quality.datashare.submit(TAX, coded("a", "1"))
    await quality.inspect()
    subject_id = await quality.datashare.subject_id()
    for today, left in ((20_000, 1), (40_000, 0)):
        async with quality.datashare.transactions.begin() as work:
            await work.quality.forget_hidden([subject_id], today, NOW)
        async with database.read() as conn:
            assert len((await conn.execute(sa.select(tables.invoice))).all()) == left
