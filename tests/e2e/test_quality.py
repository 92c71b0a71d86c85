"""Contradicting data from several providers, over real gRPC: what everybody then sees of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2
import pytest

from puhui.datashare.v1.quality_pb2 import Finding, GetQualityReportResponse, TypeQuality
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client, PermissionDeniedError, PuhuiError, records
from puhui_client.values import month
from services.datashare.subjects import uscc
from tests.e2e.town import Town

FIRMS = [uscc.make("91", "110108", f"MA0Q{number}TE5") for number in range(3)]
KINDS = ("tax", "market_regulator", "social_insurance", "lender")
OBTAINED = datetime.now(UTC) - timedelta(hours=1)


def head(record_id: str, firm: str, occurred: date | tuple[date, date]) -> dict[str, Any]:
    return {"record_id": record_id, "uscc": firm, "occurred": occurred, "obtained_at": OBTAINED}


def invoice(record_id: str, firm: str, on: date, net: str, number: str, code: str) -> Record:
    return records.vat_invoice(
        **head(record_id, firm, on),
        number=number,
        code=code,
        side="output",
        net=net,
        tax="0.00",
        gross=net,
    )


def guarantee(record_id: str, guarantor: str, debtor: str) -> Record:
    return records.of_type(
        "guarantee",
        {
            "contract_number": record_id,
            "role": "guarantor",
            "other_party": debtor,
            "amount": "1000000.00",
            "valid_from": date(2024, 1, 15),
            "valid_to": date(2099, 12, 31),
            "kind": "joint",
        },
        **head(record_id, guarantor, date(2024, 1, 15)),
    )


SUPPLIED: dict[str, Sequence[Record]] = {
    "tax": [
        invoice("q1", FIRMS[0], date(2024, 1, 10), "100000.00", "00000001", "1100224130"),
        invoice("q2", FIRMS[0], date(2024, 3, 10), "1000.00", "00000002", "1100224130"),
        # The same one under another firm.
        invoice("q3", FIRMS[1], date(2024, 1, 10), "100000.00", "00000001", "1100224130"),
        records.tax_filing(
            **head("f1", FIRMS[0], month(2024, 1)),
            tax_kind="vat",
            declared_sales="60000.00",
            declared_tax="0.00",
        ),
        # Refused: which shows in the report.
        invoice("q4", FIRMS[1], date(2024, 1, 10), "1.001", "00000004", "1100224130"),
    ],
    "market_regulator": [
        records.registration(
            **head("r1", FIRMS[0], date(2024, 2, 1)),
            name="测试科技有限公司",
            founded=date(2015, 3, 1),
            status="cancelled",
        ),
        records.of_type(
            "annual_report",
            {"headcount": 30},
            **head("a1", FIRMS[0], (date(2023, 1, 1), date(2023, 12, 31))),
        ),
    ],
    "social_insurance": [
        records.social_insurance(**head("s1", FIRMS[0], month(2023, 12)), headcount=12)
    ],
    "lender": [
        guarantee(f"g{number}", FIRMS[number], FIRMS[(number + 1) % 3]) for number in range(3)
    ],
}
RULES = {
    "tax": {"sales_gap", "invoice_under_two_firms", "cancelled_but_invoicing"},
    "market_regulator": {"headcount_gap", "cancelled_but_invoicing"},
    "social_insurance": {"headcount_gap"},
    "lender": {"guarantee_circle"},
}


async def findings(client: Client, **filters: Any) -> list[Finding]:
    return [finding async for finding in client.findings(**filters)]


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait for the background work."""
    async with asyncio.timeout(60):
        while not await look():  # noqa: ASYNC110 - another process sets what is waited for
            await asyncio.sleep(0.5)


async def test_contradictions_are_found_told_and_cleared(town: Town) -> None:
    who, keys = {}, {}
    async with town.client("operator") as operator:
        for kind in KINDS:
            made = await operator.register_participant("PROVIDER", f"Q {kind}", provider_kind=kind)
            keys[kind] = (await operator.issue_key(made.participant_id)).api_key
            who[kind] = made.participant_id

        def client(kind: str) -> Client:
            return Client(town.platform.gateway, keys[kind], timeout=20)

        for kind, rows in SUPPLIED.items():
            async with client(kind) as provider:
                report = await provider.push(rows)
                assert sum(report.rejected.values()) == (kind == "tax"), report
        ids: dict[str, str] = {}

        async def all_found() -> bool:
            found = await findings(operator)
            mine = [each for each in found if set(each.provider_ids) & set(who.values())]
            ids.update({each.rule: each.finding_id for each in mine})
            return len(mine) == 5

        await until(all_found)
        assert set(ids) == set().union(*RULES.values())

        # Each sees what it takes part in, and nothing of another.
        for kind in KINDS:
            async with client(kind) as provider:
                mine = await findings(provider)
                assert {each.rule for each in mine} == RULES[kind]
                assert all(who[kind] in each.provider_ids for each in mine)
                types = (await provider.quality_report()).types
                assert {each.provider_id for each in types} == {who[kind]}
                for call in (
                    findings(provider, provider_id=who["tax"]),
                    provider.quality_report(who["tax"]),
                ):
                    if kind == "tax":
                        await call
                        continue
                    with pytest.raises(PermissionDeniedError) as caught:
                        await call
                    assert caught.value.reason == "NOT_YOURS"
        async with town.client("bank") as bank:
            for refused in (findings(bank), bank.quality_report()):
                with pytest.raises(PuhuiError) as told:
                    await refused
                assert told.value.reason == "ROLE_NOT_ALLOWED"

        invoices = _of(await operator.quality_report(who["tax"]), "vat_invoice")
        assert (invoices.received, invoices.accepted) == (4, 3)
        assert [(r.reason, r.rows) for r in invoices.rejects] == [("AMOUNT_INVALID", 1)]
        assert [(m.field, m.missing, m.records) for m in invoices.missing] == [
            ("code", 0, 3),
            ("counterparty", 3, 3),
        ]
        assert invoices.lateness_p50_days > 365
        assert invoices.last_month == 202403
        assert {f.rule: f.findings for f in invoices.findings} == dict.fromkeys(RULES["tax"], 1)

        # Mended at the source, it clears.
        async with client("tax") as tax:
            gone = records.retraction(
                "vat_invoice", version=2, **head("q3", FIRMS[1], date(2024, 1, 10))
            )
            assert (await tax.push([gone])).accepted == 1

            async def cleared() -> bool:
                return not await findings(tax, rule="invoice_under_two_firms")

            await until(cleared)
            (was,) = await findings(tax, rule="invoice_under_two_firms", cleared=True)
            assert was.finding_id == ids["invoice_under_two_firms"]
            assert was.HasField("cleared_at")

    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}") as http:
        bearer = {"authorization": f"Bearer {keys['lender']}"}
        answer = (
            await http.get("/v1/findings", params={"rule": "guarantee_circle"}, headers=bearer)
        ).json()
        (circle,) = answer["findings"]
        assert circle["figures"]["members"] == "3"
        asked = f"providerId={who['tax']}&from.year=2020&from.month=1&from.day=1"
        other = await http.get(f"/v1/quality?{asked}", headers=bearer)
        assert (other.status_code, other.json()["reason"]) == (403, "NOT_YOURS")


def _of(report: GetQualityReportResponse, record_type: str) -> TypeQuality:
    (found,) = [each for each in report.types if each.record_type == record_type]
    return found
