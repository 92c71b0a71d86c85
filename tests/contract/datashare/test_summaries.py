"""Summaries as records come, change and go, on SQLite and PostgreSQL alike."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import payloads_pb2, summaries_pb2
from services.datashare.china import china_day
from services.datashare.summaries.domain import SummaryQuery
from services.datashare.summaries.store import series as series_table
from services.kit.db import Database
from tests.fakes.datashare_records import (
    NOW,
    OBTAINED,
    Datashare,
    day,
    filing,
    invoice,
    money,
    provider,
    record,
    retraction,
    table,
)

TAX = "par_tax"
INPUT = payloads_pb2.INVOICE_SIDE_INPUT
EVER = datetime(2100, 1, 1, tzinfo=UTC)
TODAY = china_day(NOW)


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    built = Datashare(database)
    await built.register(
        provider("tax", historical=True),
        provider("tax", suffix="2"),
        provider("market_regulator", historical=True),
        provider("social_insurance"),
    )
    return built


async def test_invoices_by_month(datashare: Datashare) -> None:
    await datashare.submit(
        TAX,
        invoice("a", 100_00),
        invoice("b", 300_00, counterparty="Other"),
        invoice("c", -40_00),
        invoice("d", 999_00, void=True),
        invoice("e", 50_00, side=INPUT),
        invoice("f", 10_00, on="2024-02-29"),
    )
    (series,) = await datashare.read("vat_invoice")
    assert list(series.months) == [202401, 202402]
    assert list(series.record_counts) == [5, 1]
    assert table(series) == {
        202401: {
            "input_valid": 1,
            "input_net": 50_00,
            "input_tax": 6_50,
            "input_positive_net": 50_00,
            "input_counterparties": 1,
            "input_top1": 1_000_000,
            "input_top5": 1_000_000,
            "input_hhi": 1_000_000,
            "output_valid": 3,
            "output_void": 1,
            "output_red": 1,
            "output_net": 360_00,
            "output_tax": 46_80,
            "output_red_net": 40_00,
            "output_positive_net": 400_00,
            "output_counterparties": 2,
            # Acme 60.00, Other 300.00.
            "output_top1": 833_333,
            "output_top5": 1_000_000,
            "output_hhi": (60**2 + 300**2) * 1_000_000 // 360**2,
        },
        202402: {
            "input_counterparties": 1,
            "input_top1": 1_000_000,
            "input_top5": 1_000_000,
            "input_hhi": 1_000_000,
            "output_valid": 1,
            "output_net": 10_00,
            "output_tax": 1_30,
            "output_positive_net": 10_00,
            "output_counterparties": 2,
            "output_top1": 810_810,
            "output_top5": 1_000_000,
            "output_hhi": (70**2 + 300**2) * 1_000_000 // 370**2,
        },
    }


async def test_a_correction_moves_a_record_to_another_month(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a", 100_00), filing("f", "A", on="2024-01-31"))
    await datashare.submit(
        TAX,
        invoice("a", 80_00, on="2024-03-05", version=2),
        filing("f", "B", on="2024-02-29", version=2),
    )
    invoices, filings = sorted(
        await datashare.read("vat_invoice", "tax_filing"),
        key=lambda series: series.record_type,
        reverse=True,
    )
    assert list(invoices.months) == [202403]
    assert table(invoices)[202403]["output_net"] == 80_00
    assert list(filings.months) == [202402]
    assert table(filings)[202402]["grade"] == 4


async def test_the_latest_value_is_by_time_of_statement_not_of_arrival(
    datashare: Datashare,
) -> None:
    late, early = filing("late", "D", on="2024-01-31"), filing("early", "A", on="2024-01-10")
    await datashare.submit(TAX, late)
    await datashare.submit(TAX, early)
    (series,) = await datashare.read("tax_filing")
    assert table(series)[202401]["grade"] == 1
    assert table(series)[202401]["filings"] == 2
    await datashare.submit(TAX, retraction(late, 2))
    (series,) = await datashare.read("tax_filing")
    assert table(series)[202401]["grade"] == 5


async def test_a_largest_value_goes_down_when_it_is_taken_back(datashare: Datashare) -> None:
    def insured(name: str, headcount: int, version: int = 1) -> Any:
        payload = payloads_pb2.SocialInsurance(headcount=headcount, overdue=money(headcount))
        return record(
            name, record_type="social_insurance", social_insurance=payload, version=version
        )

    rows = [insured("a", 50), insured("b", 20), insured("a", 30, 2)]
    for row in rows:
        await datashare.submit("par_social_insurance", row)
    (series,) = await datashare.read("social_insurance")
    assert table(series) == {202401: {"headcount": 30, "overdue": 30, "missed": 2}}


async def test_attributes_are_the_latest(datashare: Datashare) -> None:
    def registered(name: str, on: str, **fields: Any) -> Any:
        payload = payloads_pb2.Registration(
            name="A", founded=day("2015-03-01"), status="active", capital=money(5), **fields
        )
        return record(name, on, record_type="registration", registration=payload)

    latest = registered("b", "2020-01-01", industry="I65")
    first = registered("a", "2015-03-01", industry="C39", firm_kind="limited")
    for row in (latest, first):
        await datashare.submit("par_market_regulator", row)
    (series,) = await datashare.read("registration", first=202001)
    assert [(item.name, item.value) for item in series.attributes] == [
        ("firm_kind", "limited"),
        ("industry", "I65"),
        ("status", "active"),
        ("name", "A"),
    ]
    # Open by law: where a period begins does not limit it.
    assert list(series.months) == [201503, 202001]
    # What was stated after the end of a period does not leave with it.
    datashare.clock.advance(timedelta(hours=1))
    (ended,) = await datashare.read("registration", first=201001, last=201912)
    assert list(ended.months) == [201503]
    assert [(item.name, item.value) for item in ended.attributes] == [
        ("firm_kind", "limited"),
        ("industry", "C39"),
        ("status", "active"),
        ("name", "A"),
    ]
    query = SummaryQuery(
        await datashare.subject_id(), ("registration",), None, 201801, 202412, EVER, TODAY
    )
    assert [one.first_month for one in (await datashare.find(query)).series] == [201503]


async def test_reading_a_period_and_some_providers(datashare: Datashare) -> None:
    months = ["2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01"]
    rows = [invoice(on, 100 * index, on=on) for index, on in enumerate(months, start=1)]
    await datashare.submit(TAX, *rows)
    await datashare.submit("par_tax2", rows[0])
    (series,) = await datashare.read(
        "vat_invoice", first=202312, last=202401, providers=frozenset({TAX})
    )
    assert list(series.months) == [202312, 202401]
    assert [list(c.values) for c in series.columns if c.name == "output_net"] == [[200, 300]]
    assert {len(column.values) for column in series.columns} == {2}
    assert await datashare.read("vat_invoice", first=202501, last=202512) == []
    assert await datashare.read("vat_invoice", providers=frozenset()) == []
    assert await datashare.read("tax_filing") == []


async def test_derived_measures_tell_nothing_of_what_lies_outside_the_period(
    datashare: Datashare,
) -> None:
    """Whatever the read: of the present, of a past, of what another read has stored."""
    rows = [
        invoice(f"{on}{name}", 100_00, on=on, counterparty=name)
        for on, names in (
            ("2022-06-01", "ab"),
            ("2023-07-01", "cd"),
            ("2024-01-01", "e"),
            ("2024-02-01", "fg"),
            ("2024-03-01", "hij"),
        )
        for name in names
    ]
    await datashare.submit(TAX, *rows)
    await datashare.submit("par_tax2", *rows)
    then = datashare.clock.now()
    names = ("output_counterparties", "output_churn", "output_hhi")

    async def derived(first: int, last: int) -> dict[int, tuple[int, ...]]:
        answers = await datashare.read("vat_invoice", first=first, last=last, as_of=then)
        (mine, theirs) = [
            {
                month: tuple(values.get(name, 0) for name in names)
                for month, values in table(series).items()
            }
            for series in answers
        ]
        assert mine == theirs
        return mine

    async def check() -> None:
        assert await derived(202402, 202402) == {202402: (2, 0, 500_000)}
        assert await derived(202401, 202402) == {
            202401: (1, 0, 1_000_000),
            202402: (3, 0, 333_333),
        }
        # Twelve months before, but not the twelve before those: no churn is known.
        assert (await derived(202303, 202402))[202402] == (5, 0, 200_000)
        assert (await derived(202202, 202402))[202402] == (5, 1_000_000, 200_000)
        assert await datashare.read("vat_invoice", first=202404, last=202412, as_of=then) == []

    await check()
    whole = (await derived(202201, 202412))[202403]
    assert whole == (8, 1_000_000, 125_000)
    await check()
    datashare.clock.advance(timedelta(days=1))
    for provider_id in (TAX, "par_tax2"):
        await datashare.submit(provider_id, invoice("late", on="2024-02-05", counterparty="z"))
    await check()
    assert (await derived(202201, 202412))[202403] == whole
    then = datashare.clock.now()
    for _ in range(2):
        assert (await derived(202402, 202402))[202402][:2] == (3, 0)


async def test_derived_measures_are_kept_until_the_next_change(
    datashare: Datashare, database: Database
) -> None:
    async def stored() -> tuple[int, int, bytes]:
        async with database.read() as conn:
            columns = (
                series_table.c.revision,
                series_table.c.derived_revision,
                series_table.c.content,
            )
            row = (await conn.execute(sa.select(*columns))).one()
            return row[0], row[1], row[2]

    await datashare.submit(TAX, invoice("a"))
    assert (await stored())[:2] == (1, 0)
    query = SummaryQuery(
        await datashare.subject_id(), ("vat_invoice",), None, 202401, 202401, EVER, TODAY
    )
    (first,) = (await datashare.find(query)).series
    assert await stored() == (1, 1, first.content)
    (again,) = (await datashare.find(query)).series
    assert again == first
    await datashare.submit(TAX, invoice("b", counterparty="Other"))
    assert (await stored())[:2] == (2, 0)
    (changed,) = (await datashare.find(query)).series
    counts = table(summaries_pb2.Series.FromString(changed.content))
    assert counts[202401]["output_counterparties"] == 2


async def test_as_of_a_time_in_the_past(datashare: Datashare) -> None:
    first = invoice("a", 100_00)
    times = []
    for row in (
        first,
        invoice("b", 50_00, counterparty="Other"),
        invoice("a", 70_00, on="2024-02-01", version=2),
        retraction(first, 3),
        retraction(invoice("b"), 2),
    ):
        times.append(datashare.clock.now())
        await datashare.submit(TAX, row)
        datashare.clock.advance(timedelta(days=1))

    async def nets(as_of: datetime) -> dict[int, tuple[int, int]]:
        answers = await datashare.read("vat_invoice", as_of=as_of)
        return {
            month: (values["output_net"], values["output_counterparties"])
            for series in answers
            for month, values in table(series).items()
        }

    assert await nets(NOW - timedelta(seconds=1)) == {}
    assert await nets(times[0]) == {202401: (100_00, 1)}
    assert await nets(times[2] - timedelta(microseconds=1)) == {202401: (150_00, 2)}
    assert await nets(times[2]) == {202401: (50_00, 1), 202402: (70_00, 2)}
    assert await nets(times[3]) == {202401: (50_00, 1)}
    assert await nets(times[4]) == {}


async def test_historical_records_are_known_when_they_were_obtained(datashare: Datashare) -> None:
    old, new = invoice("a", 100_00, on="2020-01-05"), invoice("b", 50_00, on="2021-01-05")
    old.obtained_at.FromDatetime(datetime(2020, 2, 1, tzinfo=UTC))
    new.obtained_at.FromDatetime(datetime(2021, 2, 1, tzinfo=UTC))
    await datashare.submit(TAX, new, old, historical=True)
    await datashare.submit("par_tax2", old)

    async def known(as_of: datetime) -> list[tuple[str, list[int]]]:
        answers = await datashare.read("vat_invoice", as_of=as_of)
        return [(series.provider_id, list(series.months)) for series in answers]

    assert await known(datetime(2020, 1, 31, tzinfo=UTC)) == []
    assert await known(datetime(2020, 2, 1, tzinfo=UTC)) == [(TAX, [202001])]
    assert await known(NOW) == [(TAX, [202001, 202101]), ("par_tax2", [202001])]


async def test_the_past_equals_what_was_then_the_present(datashare: Datashare) -> None:
    rows = [
        invoice(f"i{n}", n, on=f"2023-{n:02}-03", counterparty=str(n % 3)) for n in range(1, 13)
    ]
    query = SummaryQuery("", ("vat_invoice",), None, 202301, 202312, NOW, TODAY)
    presents = []
    for row in rows:
        await datashare.submit(TAX, row)
        now = datashare.clock.now()
        asked = SummaryQuery(
            await datashare.subject_id(), query.record_types, None, 202301, 202312, now, TODAY
        )
        presents.append((asked, await datashare.find(asked)))
        datashare.clock.advance(timedelta(hours=1))
    for asked, present in presents:
        assert await datashare.find(asked) == present


async def test_supplied_types(datashare: Datashare) -> None:
    async def supplied() -> dict[str, datetime]:
        async with datashare.transactions.read() as work:
            return await work.summaries.supplied_types()

    assert await supplied() == {}
    await datashare.submit(TAX, invoice("a"), record("x", record_type="tax_filing"))
    assert await supplied() == {"vat_invoice": NOW}
    datashare.clock.advance(timedelta(days=1))
    await datashare.submit(TAX, filing("f"))
    await datashare.submit("par_tax2", invoice("a"))
    both = {"vat_invoice": NOW, "tax_filing": NOW + timedelta(days=1)}
    assert await supplied() == both
    # What comes in of a past that was known then makes the past no longer unsupplied.
    await datashare.submit(TAX, invoice("b"), historical=True)
    assert await supplied() == {**both, "vat_invoice": OBTAINED}


async def test_readers_and_writers_at_the_same_time(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("first"))

    async def write(start: int) -> None:
        for number in range(start, start + 5):
            await datashare.submit(TAX, invoice(f"i{number}", counterparty=str(number)))

    async def read() -> None:
        for _ in range(10):
            (series,) = await datashare.read("vat_invoice", as_of=EVER)
            values = table(series)[202401]
            # Both come from the same state: one counterparty per invoice.
            assert values["output_counterparties"] == values["output_valid"]

    await asyncio.gather(write(0), write(10), write(20), read(), read(), read())
    (series,) = await datashare.read("vat_invoice")
    assert table(series)[202401]["output_counterparties"] == 16


async def test_types_of_which_other_providers_have_records(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a", on="2024-01-15"), filing("f"))
    late = invoice("b", 999_00, on="2023-06-15")
    await datashare.submit("par_tax2", late)
    asked = SummaryQuery(
        await datashare.subject_id(),
        ("vat_invoice", "tax_filing"),
        frozenset({TAX}),
        202301,
        202412,
        NOW,
        TODAY,
    )

    async def left_out(**changes: Any) -> frozenset[str]:
        query = replace(asked, **changes)
        found = await datashare.find(query)
        assert query.provider_ids is None or all(
            series.provider_id in query.provider_ids for series in found.series
        )
        return found.left_out

    assert await left_out() == {"vat_invoice"}
    assert await left_out(provider_ids=frozenset()) == {"vat_invoice", "tax_filing"}
    assert await left_out(provider_ids=None) == frozenset()
    assert await left_out(record_types=("tax_filing",)) == frozenset()
    assert await left_out(first_month=202307) == frozenset()
    assert await left_out(last_month=202305) == frozenset()
    assert await left_out(as_of=NOW - timedelta(seconds=1)) == frozenset()
    datashare.clock.advance(timedelta(days=1))
    await datashare.submit("par_tax2", retraction(late, 2))
    assert await left_out(as_of=datashare.clock.now()) == frozenset()
    # What was known then is told as it was.
    assert await left_out() == {"vat_invoice"}


async def test_what_comes_from_a_simulated_source_says_so(datashare: Datashare) -> None:
    await datashare.register(provider("tax", simulated=True, suffix="3"))
    await datashare.submit(TAX, invoice("a"))
    await datashare.submit("par_tax3", invoice("a"))
    await datashare.submit("par_tax3", invoice("b", on="2024-02-01"))
    query = SummaryQuery(
        await datashare.subject_id(), ("vat_invoice",), None, 202401, 202412, NOW, TODAY
    )
    for as_of in (NOW, EVER):
        found = await datashare.find(replace(query, as_of=as_of))
        assert {series.provider_id: series.simulated for series in found.series} == {
            TAX: False,
            "par_tax3": True,
        }
