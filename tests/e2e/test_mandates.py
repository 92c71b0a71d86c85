"""Who speaks for a firm, over the gateway: a delegate, a suspended account, and one for nobody."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx2
import pytest

from puhui.common.v1.types_pb2 import SubjectRef
from puhui.datashare.v1 import mandates_pb2
from puhui.datashare.v1.consents_pb2 import Consent
from puhui.datashare.v1.payloads_pb2 import OfficerChange
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client, PermissionDeniedError, PuhuiError
from puhui_client.values import to_date, to_timestamp
from services.datashare.china import china_date
from services.datashare.mandates.proofs import sandbox_code
from services.datashare.subjects import uscc
from tests.e2e.town import Town

LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"


@dataclass(frozen=True)
class Account:
    """An account and its connection."""

    participant_id: str
    api_key: str
    client: Client


Opened = Callable[[], Awaitable[Account]]


@pytest.fixture
def number() -> str:
    """The registration number of a firm of which nobody has heard."""
    own = "".join(LETTERS[byte % len(LETTERS)] for byte in os.urandom(6))
    return uscc.make("91", "110108", f"MA{own}")


@pytest.fixture
async def opened(town: Town) -> AsyncIterator[Opened]:
    """Makes accounts of role FIRM that speak for nobody."""
    clients: list[Client] = []

    async def make() -> Account:
        async with town.client("operator") as operator:
            member = await operator.register_participant("FIRM", "a person")
            key = (await operator.issue_key(member.participant_id)).api_key
        clients.append(Client(town.platform.gateway, key, timeout=20))
        return Account(member.participant_id, key, clients[-1])

    yield make
    for client in clients:
        await client.close()


@asynccontextmanager
async def refused() -> AsyncIterator[None]:
    with pytest.raises(PermissionDeniedError) as caught:
        yield
    assert caught.value.reason == "MANDATE_REQUIRED"


def code_of(town: Town, firm: str) -> str:
    key = (town.platform.data_dir / "keys" / "sandbox-proof.key").read_text().strip()
    return sandbox_code(bytes.fromhex(key), firm)


async def asked(town: Town, firm: str) -> Consent:
    async with town.client("bank") as bank:
        return await bank.request_consent(
            uscc=firm,
            purpose="credit_application",
            providers=[town.people["tax"].participant_id],
            record_types=["vat_invoice"],
            data_from=date(2023, 1, 1),
            data_to=date(2026, 12, 31),
            expires_at=datetime.now(UTC) + timedelta(days=30),
            officer="Wang 王",
            file_reference="A-17",
        )


async def every_read(client: Client) -> None:
    """Read all that is held about a firm, and by whom; each call must be allowed."""
    await client.facts()
    _ = [each async for each in client.held_records()]
    _ = [each async for each in client.list_consents()]
    _ = [each async for each in client.accesses()]


async def no_read(client: Client) -> None:
    async with refused():
        await client.facts()
    async with refused():
        await anext(client.held_records())
    async with refused():
        await anext(client.list_consents())
    async with refused():
        await anext(client.accesses())


async def test_a_delegate_does_what_it_may_and_no_more(
    town: Town, number: str, opened: Opened
) -> None:
    boss, clerk = await opened(), await opened()
    claimed = await boss.client.claim_firm(number, code_of(town, number))
    assert claimed.proved_by == "simulated"
    consent = await asked(town, number)
    await boss.client.appoint_delegate(clerk.participant_id, ["READ"])
    await every_read(clerk.client)
    assert (await clerk.client.facts()).subject_id == claimed.subject_id
    async with refused():
        await clerk.client.grant_consent(consent)
    async with refused():
        await clerk.client.submit([changed(number)])
    async with refused():
        await clerk.client.appoint_delegate(boss.participant_id, ["READ"])
    assert (await boss.client.grant_consent(consent)).state
    async with refused():
        await clerk.client.withdraw_consent(consent.consent_id)
    (standing,) = (await clerk.client.facts()).consents
    assert standing.consent.consent_id == consent.consent_id
    assert "test bank" in standing.effect_zh
    assert "test bank" in standing.effect_en

    delegated = await anext(clerk.client.mandates())
    await boss.client.end_mandate(delegated.mandate_id)
    await no_read(clerk.client)


async def test_who_may_withdraw_alone_withdraws_alone(
    town: Town, number: str, opened: Opened
) -> None:
    boss, clerk = await opened(), await opened()
    await boss.client.claim_firm(number, code_of(town, number))
    consent = await boss.client.grant_consent(await asked(town, number))
    await boss.client.appoint_delegate(clerk.participant_id, ["WITHDRAW"])
    await no_read(clerk.client)
    assert (await clerk.client.get_consent(consent.consent_id)).consent_id == consent.consent_id
    await clerk.client.withdraw_consent(consent.consent_id, note="loan repaid")
    assert not (await boss.client.facts()).consents


async def test_an_account_without_a_mandate_does_nothing(
    town: Town, number: str, opened: Opened
) -> None:
    nobody, boss = await opened(), await opened()
    await boss.client.claim_firm(number, code_of(town, number))
    consent = await asked(town, number)
    await no_read(nobody.client)
    async with refused():
        await nobody.client.grant_consent(consent)
    async with refused():
        await anext(nobody.client.mandates())
    with pytest.raises(PermissionDeniedError) as caught:
        await nobody.client.claim_firm(number, "wrong")
    assert caught.value.reason == "PROOF_INVALID"
    with pytest.raises(PuhuiError):
        await nobody.client.claim_firm(number, code_of(town, number)[::-1])
    headers = {"authorization": f"Bearer {nobody.api_key}"}
    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}") as http:
        answer = await http.get("/v1/facts", headers=headers)
    assert answer.status_code == 403
    assert "MANDATE_REQUIRED" in answer.text


def changed(firm: str, **more: Any) -> Record:
    today = china_date(datetime.now(UTC))
    record = Record(
        provider_record_id="change",
        record_type="officer_change",
        subject=SubjectRef(uscc=firm),
        date=to_date(today),
        officer_change=OfficerChange(
            role="legal_representative", former="张三", successor="李四", changed_at=to_date(today)
        ),
        **more,
    )
    record.obtained_at.CopyFrom(to_timestamp(datetime.now(UTC)))
    return record


async def test_another_representative_at_the_register_suspends_until_a_new_claim(
    town: Town, number: str, opened: Opened
) -> None:
    boss, clerk, successor = await opened(), await opened(), await opened()
    await boss.client.claim_firm(number, code_of(town, number))
    await boss.client.appoint_delegate(clerk.participant_id, ["READ", "GRANT"])
    consent = await asked(town, number)
    async with town.client("operator") as operator:
        member = await operator.register_participant(
            "PROVIDER", "registry", provider_kind="market_regulator"
        )
        key = (await operator.issue_key(member.participant_id)).api_key
    async with Client(town.platform.gateway, key, timeout=20) as registry:
        assert list((await registry.submit([changed(number)])).accepted) == [0]
    for account in (boss, clerk):
        await no_read(account.client)
        async with refused():
            await account.client.grant_consent(consent)
        (own,) = [each async for each in account.client.mandates()]
        assert own.state == mandates_pb2.MANDATE_STATE_SUSPENDED
        await learns_of_it(account.client, "")
        with pytest.raises(PermissionDeniedError):
            await anext(account.client.decisions())
    claimed = await successor.client.claim_firm(number, code_of(town, number))
    await every_read(successor.client)
    async with refused():
        await clerk.client.grant_consent(consent)
    await successor.client.appoint_delegate(clerk.participant_id, ["READ", "GRANT"])
    await clerk.client.grant_consent(consent)
    await learns_of_it(clerk.client, claimed.subject_id)


async def learns_of_it(client: Client, subject_id: str) -> None:
    """Wait until the gateway, and so scoring, knows for which firm an account may read."""
    for _ in range(400):
        if (await client.whoami()).subject_id == subject_id:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not learn of it")
