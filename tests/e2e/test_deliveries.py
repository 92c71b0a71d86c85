"""Deliveries through the gateway: signed, counted at both ends, proved and reported."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from puhui.datashare.v1.records_pb2 import PushClose, Record
from puhui_client import (
    AlreadyExistsError,
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from puhui_client.canonical import canonical_batch
from puhui_client.signing import SigningKey, new_key
from services.cli.main import app
from services.datashare.subjects import uscc
from services.sandbox.embedded import Embedded, embedded
from tests.e2e.town import invoices

ROWS = invoices(25)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with embedded(tmp_path_factory.mktemp("deliveries")) as started:
        yield started


@asynccontextmanager
async def operator(platform: Embedded) -> AsyncIterator[Client]:
    async with Client(platform.gateway, platform.operator_key, timeout=20) as client:
        yield client


@asynccontextmanager
async def provider(
    platform: Embedded, *keys: SigningKey
) -> AsyncIterator[tuple[Client, str, Path]]:
    """A new provider with these signing keys: its client, its id, a file with its API key."""
    async with operator(platform) as client:
        member = await client.register_participant("PROVIDER", "tax", provider_kind="tax")
        for key in keys:
            await client.register_signing_key(member.participant_id, key.public.jwk)
        issued = await client.issue_key(member.participant_id)
    file = platform.data_dir / f"{member.participant_id}.key"
    file.write_text(issued.api_key)
    file.chmod(0o600)
    async with Client(platform.gateway, issued.api_key, timeout=20) as client:
        yield client, member.participant_id, file


async def refusal(client: Client, rows: list[Record], key: SigningKey | None) -> PuhuiError:
    with pytest.raises(PuhuiError) as caught:
        await client.push(rows, signer=key)
    return caught.value


async def test_a_provider_that_signs_and_one_that_does_not(platform: Embedded) -> None:
    key = new_key()
    async with (
        provider(platform, key) as (signing, signer_id, _),
        provider(platform) as (
            plain,
            plain_id,
            _,
        ),
    ):
        signed = await signing.push(ROWS, delivery_id="d", batch_size=10, signer=key, totals=True)
        assert (signed.accepted, signed.rejected) == (25, {})
        assert signed.reconciliation is not None
        assert signed.reconciliation.agrees
        sums = sum(total.sum_received for total in signed.reconciliation.totals)
        assert sums == 25 * 1130_11
        unsigned = await plain.push(ROWS, delivery_id="d", totals=True)
        assert unsigned.reconciliation is not None
        assert unsigned.reconciliation.agrees

        missing = await refusal(signing, ROWS, None)
        assert (missing.code, missing.reason) == ("INVALID_ARGUMENT", "SIGNATURE_MISSING")
        assert (await refusal(signing, ROWS, new_key())).reason == "SIGNATURE_INVALID"
        assert (await refusal(plain, ROWS, key)).reason == "SIGNATURE_INVALID"

        for sequence, rows in ((1, ROWS[:10]), (3, ROWS[20:])):
            kept = await signing.evidence(signer_id, "d", sequence)
            assert kept.canonical == canonical_batch("d", sequence, rows)
            key.public.verify(kept.jws, kept.canonical)
        with pytest.raises(NotFoundError):
            await plain.evidence(signer_id, "d", 1)
        with pytest.raises(NotFoundError):
            await plain.evidence(plain_id, "d", 1)


async def test_keys_are_changed_over_and_listed(platform: Embedded) -> None:
    old, new = new_key(), new_key()
    async with provider(platform, old) as (client, provider_id, _):
        await client.push(ROWS[:5], signer=old)
        async with operator(platform) as by:
            await by.register_signing_key(provider_id, new.public.jwk)
            with pytest.raises(AlreadyExistsError):
                await by.register_signing_key(provider_id, new.public.jwk)
            with pytest.raises(InvalidArgumentError) as caught:
                await by.register_signing_key(provider_id, '{"kty":"oct","k":"c2VjcmV0"}')
            assert caught.value.fields[0].field == "public_jwk"
            revoked = await by.revoke_signing_key(provider_id, old.key_id)
            assert revoked.HasField("revoked_at")
        assert (await refusal(client, ROWS[:5], old)).reason == "SIGNATURE_INVALID"
        assert (await client.push(ROWS[:5], signer=new)).duplicate == 5
        listed = {
            key.key_id: key.HasField("revoked_at") async for key in client.signing_keys(provider_id)
        }
        assert listed == {old.key_id: True, new.key_id: False}
        with pytest.raises(PermissionDeniedError):
            await client.register_signing_key(provider_id, new_key().public.jwk)


async def test_a_single_submission_is_signed_and_counted(platform: Embedded) -> None:
    key = new_key()
    async with provider(platform, key) as (client, provider_id, _):
        with pytest.raises(InvalidArgumentError):
            await client.submit(ROWS[:3])
        ack = await client.submit(ROWS[:3], signer=key)
        assert list(ack.accepted) == [0, 1, 2]
        covered = canonical_batch("", 0, ROWS[:3])
        kept = await client.evidence(provider_id, hashlib.sha256(covered).hexdigest(), 0)
        key.public.verify(kept.jws, covered)
        (today,) = [each async for each in client.reconciliations()]
        assert today.delivery_id.startswith("submitted-")
        assert (today.agrees, today.rows_received, today.accepted) == (True, 3, 3)


async def test_another_file_is_not_taken_for_the_rest_of_a_delivery(platform: Embedded) -> None:
    async with provider(platform) as (client, _, _):
        await client.push(ROWS[:20], delivery_id="d", batch_size=5)
        other = [ROWS[24], *ROWS[1:]]
        with pytest.raises(AlreadyExistsError, match="other rows in a batch before 4") as caught:
            await client.push(other, delivery_id="d", batch_size=5)
        assert caught.value.reason == "DELIVERY_MISMATCH"
        report = await client.push(ROWS, delivery_id="d", batch_size=5, totals=True)
        assert (report.skipped, report.sent) == (20, 5)
        assert report.reconciliation is not None
        assert report.reconciliation.agrees
        # Closed again it answers the same; more of it is refused.
        again = await client.push(ROWS, delivery_id="d", batch_size=5, totals=True)
        assert again.reconciliation == report.reconciliation
        with pytest.raises(FailedPreconditionError) as closed:
            await client.push([*ROWS, ROWS[0]], delivery_id="d", batch_size=5)
        assert closed.value.reason == "DELIVERY_CLOSED"


async def test_the_report_of_a_day(platform: Embedded) -> None:
    async with provider(platform) as (client, provider_id, file):
        await client.push(ROWS[:5], delivery_id="agrees", totals=True)
        cli = ("--gateway", platform.gateway, "--key-file", str(file), "--json")
        assert run(*cli, "reconcile")[0] == 0
        await client.push(ROWS[:5], delivery_id="differs", totals=PushClose(rows=6))
        await client.push(ROWS[:5], delivery_id="open")
        found = [(each.delivery_id, each.agrees) async for each in client.reconciliations()]
        assert found == [("differs", False), ("open", False), ("agrees", True)]
        one = await client.reconciliation(provider_id, "agrees")
        assert (one.rows_sent, one.accepted) == (5, 5)

        code, report = run(*cli, "reconcile")
        assert code == 1
        assert [each["state"] for each in report["reconciliations"]] == [
            "differs",
            "open",
            "agrees",
        ]
        key = file.read_text()
        async with httpx2.AsyncClient(
            base_url=f"http://{platform.http}", headers={"authorization": f"Bearer {key}"}
        ) as http:
            listed = (await http.get("/v1/reconciliations")).json()["reconciliations"]
            assert [each["deliveryId"] for each in listed] == ["differs", "open", "agrees"]
            shown = await http.get(f"/v1/providers/{provider_id}/deliveries/agrees")
            assert shown.json()["reconciliation"]["rowsReceived"] == "5"
            missing = await http.get(f"/v1/providers/{provider_id}/deliveries/agrees/evidence")
            assert (missing.status_code, missing.json()["reason"]) == (404, "NOT_FOUND")
    async with operator(platform) as by:
        mine = [each.delivery_id async for each in by.reconciliations(provider_id=provider_id)]
        assert mine == ["differs", "open", "agrees"]
        everybody = {each.provider_id async for each in by.reconciliations()}
        assert provider_id in everybody
        assert len(everybody) > 1


def run(*arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    # A command runs a loop of its own, so it cannot run in the one of the test.
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(CliRunner().invoke, app, list(arguments)).result()
    return result.exit_code, json.loads(result.stdout)


async def test_firms_supply_about_themselves(platform: Embedded) -> None:
    async with operator(platform) as by:
        firm = await by.register_participant("FIRM", "A firm", uscc=ROWS[0].subject.uscc)
        issued = await by.issue_key(firm.participant_id)
    own = Record(record_type="declaration", provider_record_id="1", date=ROWS[0].date)
    own.subject.subject_id = firm.subject_id
    own.obtained_at.CopyFrom(ROWS[0].obtained_at)
    own.declaration.pledge = "以上属实"
    own.declaration.pledged_at.CopyFrom(own.date)
    own.declaration.fields.add(name="客户数", value="12")
    foreign = Record()
    foreign.CopyFrom(own)
    foreign.subject.uscc = "91110000MA00000077"
    async with Client(platform.gateway, issued.api_key, timeout=20) as client:
        ack = await client.submit([own, foreign, ROWS[0]])
        assert list(ack.accepted) == [0]
        assert [(item.row, item.reason, item.field) for item in ack.rejections] == [
            (1, "NOT_YOURS", "subject"),
            (2, "TYPE_NOT_YOURS", "record_type"),
        ]
        with pytest.raises(PermissionDeniedError):
            await client.push([own])


async def test_a_bank_supplies_its_visits_under_a_consent_that_names_it(
    platform: Embedded,
) -> None:
    code = uscc.make("91", "110108", "MA0XY2T1")
    async with operator(platform) as by:
        people = [
            await by.register_participant("FIRM", "Visited", uscc=code),
            await by.register_participant("BANK", "A bank"),
            await by.register_participant("BANK", "Another bank"),
        ]
        keys = [(await by.issue_key(person.participant_id)).api_key for person in people]
    visit = Record(record_type="field_visit", provider_record_id="1", date=ROWS[0].date)
    visit.subject.uscc = code
    visit.obtained_at.CopyFrom(ROWS[0].obtained_at)
    visit.field_visit.officer = "张三"
    visit.field_visit.visited_at.CopyFrom(visit.date)
    visit.field_visit.findings.append("operating")
    visit.field_visit.conclusion = "consistent"
    firm, bank, other = (Client(platform.gateway, key, timeout=20) for key in keys)
    async with firm, bank, other:
        (refused,) = (await bank.submit([visit])).rejections
        assert refused.reason == "CONSENT_REQUIRED"
        asked = await bank.request_consent(
            subject_id=people[0].subject_id,
            purpose="credit_application",
            providers=[people[1].participant_id],
            record_types=["field_visit"],
            data_from=date(2024, 1, 1),
            data_to=date(2027, 12, 31),
            expires_at=datetime.now(UTC) + timedelta(days=30),
            officer="Wang 王",
            file_reference="A-17",
        )
        await firm.grant_consent(asked)
        assert list((await bank.submit([visit])).accepted) == [0]
        (refused,) = (await other.submit([visit])).rejections
        assert refused.reason == "CONSENT_REQUIRED"
