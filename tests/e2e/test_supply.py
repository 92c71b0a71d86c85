"""What a provider is told, over real gRPC and HTTP: what is due, what ended, what was used."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2
import pytest

from puhui.common.v1.types_pb2 import SubjectRef
from puhui.datashare.v1.consents_pb2 import Consent
from puhui.datashare.v1.payloads_pb2 import (
    FieldVisit,
    FinancialStatement,
    Registration,
    UtilityBill,
)
from puhui.datashare.v1.records_pb2 import Record, SubjectHint
from puhui.datashare.v1.reviews_pb2 import REVIEW_STATE_MATCHED
from puhui.datashare.v1.wanted_pb2 import WANTED_STATE_DUE, WANTED_STATE_ENDED
from puhui_client.errors import PuhuiError
from puhui_client.values import month, to_date, to_money, to_period, to_timestamp
from services.datashare.china import china_date
from tests.e2e.town import ASKED, OTHER_USCC, USCC, Person, Town, invoices

GONE = timedelta(hours=1)


@pytest.fixture
async def grid(town: Town) -> str:
    """A grid company, new for each test; its participant id."""
    async with town.client("operator") as operator:
        member = await operator.register_participant("PROVIDER", "grid", provider_kind="utility")
        key = await operator.issue_key(member.participant_id)
    town.people["grid"] = Person(member.participant_id, "", key.api_key)
    return member.participant_id


async def granted(town: Town, grid: str) -> Consent:
    return await town.consent(
        providers=[grid, town.people["tax"].participant_id],
        record_types=["utility_bill", "vat_invoice"],
    )


def bill(record_id: str) -> Record:
    record = Record(
        provider_record_id=record_id,
        record_type="utility_bill",
        subject=SubjectRef(uscc=USCC),
        period=to_period(*month(2025, 1)),
        utility_bill=UtilityBill(kind="electricity", meter="m-1", amount=to_money("812.50")),
    )
    record.obtained_at.CopyFrom(to_timestamp(datetime.now(UTC) - GONE))
    return record


async def test_a_grid_company_supplies_while_the_firm_consents(town: Town, grid: str) -> None:
    async with town.client("grid") as provider, town.client("firm") as firm:
        refused = await provider.submit([bill("2025-01")])
        assert [rejection.reason for rejection in refused.rejections] == ["CONSENT_REQUIRED"]

        told = provider.wanted(follow=True)
        waiting = asyncio.ensure_future(anext(told))
        consent = await granted(town, grid)
        async with asyncio.timeout(20):
            due = await waiting
        assert (due.wanted.state, due.wanted.uscc) == (WANTED_STATE_DUE, USCC)
        assert (due.wanted.record_type, due.wanted.consent_id) == (
            "utility_bill",
            consent.consent_id,
        )
        assert due.wanted.period == consent.terms.data_period
        assert due.wanted.until == consent.terms.expires_at
        assert list((await provider.submit([bill("2025-01")])).accepted) == [0]

        await firm.withdraw_consent(consent.consent_id)
        async with asyncio.timeout(20):
            ended = await anext(told)
        assert ended.wanted.state == WANTED_STATE_ENDED
        refused = await provider.submit([bill("2025-01-again")])
        assert [rejection.reason for rejection in refused.rejections] == ["CONSENT_WITHDRAWN"]

        # From where it was there is nothing more, and who comes late does not hear that it was due.
        assert [item async for item in provider.wanted(ended.cursor)] == []
        late = [item.wanted.state async for item in provider.wanted()]
        assert late == [WANTED_STATE_ENDED]
    async with town.client("tax") as tax:
        with pytest.raises(PuhuiError) as foreign:
            await anext(tax.wanted(ended.cursor))
        assert foreign.value.reason == "PAGE_TOKEN_INVALID"


async def test_the_same_over_http(town: Town, grid: str) -> None:
    consent = await granted(town, grid)
    headers = {"authorization": f"Bearer {town.key('grid')}"}
    async with (
        httpx2.AsyncClient(base_url=f"http://{town.platform.http}", timeout=20) as http,
        http.stream("GET", "/v1/wanted", headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    answer, end = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert end == {}
    (item,) = answer["items"]
    assert (item["state"], item["consentId"]) == ("WANTED_STATE_DUE", consent.consent_id)
    assert answer["cursor"]


async def test_a_stream_ends_when_the_provider_is_suspended(town: Town, grid: str) -> None:
    async with town.client("grid") as provider, town.client("operator") as operator:
        await granted(town, grid)
        told = provider.wanted(follow=True)
        await anext(told)
        await operator.set_standing(grid, "SUSPENDED")
        with pytest.raises(PuhuiError) as ended:
            async with asyncio.timeout(20):
                await anext(told)
    assert ended.value.reason == "PARTICIPANT_SUSPENDED"


async def test_a_provider_sees_how_often_it_was_used_and_no_more(town: Town, grid: str) -> None:
    consent = await granted(town, grid)
    async with town.client("grid") as provider:
        await provider.submit([bill("2025-01")])
    async with town.client("bank") as bank:
        for _ in range(2):
            await bank.score(town.subject_id, consent.consent_id, **ASKED)
        await bank.score(town.subject_id, consent.consent_id, **ASKED, request_id="same")
        await bank.score(town.subject_id, consent.consent_id, **ASKED, request_id="same")
    today = china_date(datetime.now(UTC))
    async with town.client("grid") as provider:
        (use,) = [use async for use in provider.uses(grid, first=today - timedelta(days=1))]
        assert (use.record_type, use.purpose, use.count) == (
            "utility_bill",
            "credit_application",
            3,
        )
        assert {field.name for field, _ in use.ListFields()} == {
            "day",
            "record_type",
            "purpose",
            "count",
        }
        assert [use async for use in provider.uses(grid, last=date(2026, 1, 1))] == []
        with pytest.raises(PuhuiError) as foreign:
            await anext(provider.uses(town.people["tax"].participant_id))
        assert foreign.value.reason == "NOT_YOURS"
    async with town.client("operator") as operator:
        assert [use.count async for use in operator.uses(grid)] == [3]


async def test_a_bank_reads_what_a_firm_says_of_itself_and_its_own_visits_only(town: Town) -> None:
    firm_id = town.people["firm"].participant_id
    bank_id = town.people["bank"].participant_id
    statement = Record(
        provider_record_id="2024",
        record_type="financial_statement",
        subject=SubjectRef(uscc=USCC),
        period=to_period(date(2024, 1, 1), date(2024, 12, 31)),
        financial_statement=FinancialStatement(kind="annual", assets=to_money(1_000_000)),
    )
    visit = Record(
        provider_record_id="v1",
        record_type="field_visit",
        subject=SubjectRef(uscc=USCC),
        date=to_date(date(2025, 3, 3)),
        field_visit=FieldVisit(
            officer="Wang", visited_at=to_date(date(2025, 3, 3)), findings=["operating"]
        ),
    )
    for record in (statement, visit):
        record.obtained_at.CopyFrom(to_timestamp(datetime.now(UTC) - GONE))
    async with (
        town.client("firm") as firm,
        town.client("bank") as bank,
        town.client("other_bank") as other,
    ):
        assert list((await firm.submit([statement])).accepted) == [0]
        refused = await bank.submit([visit])
        assert [rejection.reason for rejection in refused.rejections] == ["CONSENT_REQUIRED"]
        tax_id = town.people["tax"].participant_id
        with pytest.raises(PuhuiError) as kept:
            await town.consent(providers=[tax_id], record_types=["field_visit"])
        assert [problem.field for problem in kept.value.fields] == ["terms.record_types[0]"]
        consent = await town.consent(
            providers=[firm_id, bank_id], record_types=["financial_statement", "field_visit"]
        )
        assert list((await bank.submit([visit])).accepted) == [0]
        fetched = await bank.fetch_summary(
            town.subject_id, consent.consent_id, **ASKED, purpose="credit_application"
        )
        found = {(series.record_type, series.provider_id) for series in fetched.summary.series}
        assert {("financial_statement", firm_id), ("field_visit", bank_id)} <= found

        terms: dict[str, Any] = {
            "subject_id": town.subject_id,
            "purpose": "credit_application",
            "data_from": date(2023, 1, 1),
            "data_to": date(2026, 12, 31),
            "expires_at": datetime.now(UTC) + timedelta(days=30),
            "officer": "Wang 王",
            "file_reference": "A-17",
        }
        with pytest.raises(PuhuiError):
            await other.request_consent(**terms, providers=[bank_id], record_types=["field_visit"])
        own = await other.request_consent(
            **terms,
            providers=[firm_id, town.people["other_bank"].participant_id],
            record_types=["financial_statement", "field_visit"],
        )
        granted_ = await firm.grant_consent(own)
        fetched = await other.fetch_summary(
            town.subject_id, granted_.consent_id, **ASKED, purpose="credit_application"
        )
        found = {(series.record_type, series.provider_id) for series in fetched.summary.series}
        assert ("financial_statement", firm_id) in found
        assert "field_visit" not in {record_type for record_type, _ in found}


async def test_a_row_that_names_no_firm_waits_until_somebody_does(town: Town) -> None:
    name = "北京晴空电子有限公司"
    registration = Record(
        provider_record_id="r1",
        record_type="registration",
        subject=SubjectRef(uscc=OTHER_USCC),
        date=to_date(date(2020, 1, 2)),
        registration=Registration(
            name=name,
            firm_kind="limited",
            industry="C",
            district="110105",
            status="active",
            capital=to_money(1_000_000),
            founded=to_date(date(2020, 1, 2)),
        ),
    )
    registration.obtained_at.CopyFrom(to_timestamp(datetime.now(UTC) - GONE))
    rows = invoices(2)
    for row, said in zip(rows, ("北京晴空电子有限责任公司", "晴空电子"), strict=True):
        row.ClearField("subject")
        row.provider_record_id = f"hint {said}"
        row.hint.CopyFrom(SubjectHint(name=said))
    async with town.client("operator") as operator:
        member = await operator.register_participant(
            "PROVIDER", "market", provider_kind="market_regulator"
        )
        key = await operator.issue_key(member.participant_id)
    town.people["market"] = Person(member.participant_id, "", key.api_key)
    async with town.client("market") as market, town.client("tax") as tax:
        assert list((await market.submit([registration])).accepted) == [0]
        ack = await tax.submit(rows)
        assert (list(ack.accepted), [held.row for held in ack.held]) == ([0], [1])
        assert [review async for review in market.reviews()] == []
        (review,) = [review async for review in tax.reviews()]
        assert review.review_id == ack.held[0].review_id
        (candidate,) = review.candidates
        assert (candidate.name, candidate.district) == (name, "110105")
        assert 0.5 < candidate.confidence < 0.9
        with pytest.raises(PuhuiError) as foreign:
            await market.dismiss_review(review.review_id, "not mine")
        assert foreign.value.reason == "NOT_FOUND"
        answer = await tax.match_review(review.review_id, subject_id=candidate.subject_id)
        assert answer.review.state == REVIEW_STATE_MATCHED
        assert list(answer.ack.accepted) == [0]
        assert list((await tax.submit(rows)).duplicates) == [0, 1]
        assert [review async for review in tax.reviews()] == []
