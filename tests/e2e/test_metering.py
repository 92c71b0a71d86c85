"""Usage, contributions and incidents over real gRPC: what the gateway counts, datashare tells."""

import asyncio
import csv
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from typer.testing import CliRunner

from puhui.datashare.v1.incidents_pb2 import Incident
from puhui_client.errors import NotFoundError, PermissionDeniedError, PuhuiError
from services.cli.main import app
from services.datashare.china import china_date
from tests.e2e.town import Person, Town

T = TypeVar("T")
_TRIES = 300


@pytest.fixture
async def newcomer(town: Town) -> str:
    """A bank of which nobody has heard; its participant id."""
    async with town.client("operator") as operator:
        member = await operator.register_participant("BANK", "Newcomer Bank")
        key = await operator.issue_key(member.participant_id)
    town.people["newcomer"] = Person(member.participant_id, "", key.api_key)
    return member.participant_id


async def until(
    found: Callable[[], AsyncIterator[T]], enough: Callable[[list[T]], bool]
) -> list[T]:
    """Ask until there is enough."""
    items: list[T] = []
    for _ in range(_TRIES):
        items = [item async for item in found()]
        if enough(items):
            return items
        await asyncio.sleep(0.2)
    raise AssertionError(f"not enough: {items}")


def today() -> date:
    return china_date(datetime.now(UTC))


async def test_what_a_bank_calls_is_counted_once_and_exported(
    town: Town, newcomer: str, tmp_path: Path
) -> None:
    async with town.client("newcomer") as bank:
        for _ in range(7):
            await bank.whoami()
        with pytest.raises(NotFoundError):
            await bank.incident("inc_none")
        with pytest.raises(PermissionDeniedError) as refused:
            await anext(bank.usage(today(), participant_id=town.people["tax"].participant_id))
        assert refused.value.reason == "NOT_YOURS"
        mine = await until(
            lambda: bank.usage(today()), lambda found: sum(u.served + u.refused for u in found) >= 9
        )
    by_method = {usage.method.rpartition("/")[2]: usage for usage in mine}
    assert {usage.participant_id for usage in mine} == {newcomer}
    assert by_method["WhoAmI"].served == 7
    lookup = by_method["GetIncident"]
    assert (lookup.served, lookup.refused, lookup.request_bytes) == (0, 1, len("inc_none") + 2)
    async with town.client("operator") as operator:
        everyone = {usage.participant_id async for usage in operator.usage(today())}
    assert newcomer in everyone
    out = tmp_path / "usage.csv"
    month = f"{today():%Y-%m}"
    told = await asyncio.to_thread(
        CliRunner().invoke,
        app,
        ["usage", "export", "--month", month, "--participant", newcomer, "--out", str(out)],
        env={"PUHUI_GATEWAY": town.platform.gateway, "PUHUI_API_KEY": town.platform.operator_key},
    )
    assert told.exit_code == 0, told.output
    with out.open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {(row["month"], row["participant_id"]) for row in rows} == {(month, newcomer)}
    assert "7" in {row["served"] for row in rows if row["method"].endswith("WhoAmI")}


async def test_a_flood_of_refused_calls_raises_its_incident(town: Town, newcomer: str) -> None:
    async with town.client("newcomer") as bank:
        for _ in range(100):
            with pytest.raises(PuhuiError):
                await bank.incident("inc_none")

    async def raised() -> AsyncIterator[Incident]:
        async with town.client("operator") as operator:
            async for incident in operator.incidents(participant_id=newcomer):
                yield incident

    (incident,) = await until(raised, bool)
    assert incident.rule == "refused_calls"
    async with town.client("newcomer") as bank:
        assert [each async for each in bank.incidents()] == []
        async with town.client("operator") as operator:
            await operator.handle_incident(incident.incident_id, "Called them.", state="TAKEN")
            await operator.handle_incident(incident.incident_id, "Told them.", share=True)
            assert "refused_calls" in {rule.rule for rule in await operator.watch_rules()}
        seen = await bank.incident(incident.incident_id)
    assert [step.note for step in seen.handling] == ["Told them."]


@pytest.mark.heavy
async def test_fetches_without_consent_in_a_row_raise_an_incident(
    town: Town, newcomer: str
) -> None:
    """Heavy: the watch looks at an access only after a while, so that none commits behind it."""
    async with town.client("newcomer") as bank:
        for n in range(20):
            with pytest.raises(PuhuiError):
                await bank.fetch_summary(
                    town.subject_id,
                    purpose="credit_application",
                    officer="Zhao",
                    file_reference=f"L-{n}",
                    record_types=["vat_invoice"],
                )

    async def raised() -> AsyncIterator[Incident]:
        async with town.client("operator") as operator:
            async for incident in operator.incidents(participant_id=newcomer):
                if incident.rule == "refused_run":
                    yield incident

    (incident,) = await until(raised, bool)
    assert len(incident.access_ids) == 20
    assert "Zhao" not in str(incident)
