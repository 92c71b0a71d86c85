"""Datashare of a production tenant over gRPC: how a bank comes to be admitted, acts and leaves."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.type.date_pb2 import Date
from joserfc.jwk import OKPKey

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, consents_pb2, credentials_pb2, participants_pb2
from services.datashare.main import DatashareConfig, build, migrate
from services.kit.clock import SystemClock
from services.kit.identity import GATEWAY, SCORING, Caller, IdentitySigner, new_key_pair
from services.kit.ids import RandomIds
from tests.e2e.test_datashare import (
    THE_GATEWAY,
    USCC,
    Datashare,
    fetch,
    own_postgres_url,
    requested,
    rid,
    terms,
)
from tests.fakes.certificates import certificate
from tests.fakes.sealing import key_files

__all__ = ["own_postgres_url"]

ISSUER = "https://id.example"
TODAY = datetime.now(UTC) - timedelta(days=1)
DAY = Date(year=TODAY.year, month=TODAY.month, day=TODAY.day)
PAPER = participants_pb2.Evidence(kind="licence", reference="7/2026", dated=DAY)


@asynccontextmanager
async def producing(folder: Path, url: str, **more: Any) -> AsyncIterator[Datashare]:
    """Serve a production tenant with two first operators, li and wang."""
    keys = {GATEWAY: new_key_pair(), SCORING: new_key_pair()}
    for issuer, (_, public) in keys.items():
        (folder / issuer).write_text(public)
    (folder / "counterparty").write_text("0f" * 32)
    config = DatashareConfig(
        identity_gateway_public_key=folder / GATEWAY,
        identity_scoring_public_key=folder / SCORING,
        counterparty_key=folder / "counterparty",
        **key_files(folder),
        database_url=url,
        bootstrap_operators=(f"{ISSUER} li", f"{ISSUER} wang"),
        **more,
    )
    migrate(config)
    clock = SystemClock()
    service = build(config, clock, RandomIds(clock))
    await service.start()
    signers = {
        issuer: IdentitySigner(private, issuer, clock, config.tenant)
        for issuer, (private, _) in keys.items()
    }
    async with AsyncExitStack() as exits:
        yield Datashare(service, signers, exits)
    await service.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
async def production(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Datashare]:
    url = (
        f"sqlite:///{tmp_path / 'datashare.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("own_postgres_url")
    )
    async with producing(tmp_path, url) as datashare:
        yield datashare


async def person(datashare: Datashare, subject: str) -> Caller:
    """Return as whom the gateway lets a person call."""
    account = credentials_pb2.PersonAccount(issuer=ISSUER, subject=subject)
    found = await datashare.call(
        THE_GATEWAY,
        "CredentialService/FindPerson",
        credentials_pb2.FindPersonRequest(person=account),
        credentials_pb2.FindPersonResponse,
    )
    made = found.participant
    return Caller(
        made.participant_id, "OPERATOR", None, made.name, found.person_id, tuple(made.products)
    )


def step(of: Caller, name: str, **more: Any) -> participants_pb2.AdvanceParticipantRequest:
    if name != "ACTIVATED":
        more.setdefault("evidence", PAPER)
    return participants_pb2.AdvanceParticipantRequest(
        request_id=rid(),
        participant_id=of.participant_id,
        step=participants_pb2.ParticipantStep.Value(f"PARTICIPANT_STEP_{name}"),
        **more,
    )


async def advance(
    datashare: Datashare, by: Caller, of: Caller, name: str, **more: Any
) -> participants_pb2.Participant:
    answer = await datashare.call(
        by,
        "ParticipantService/AdvanceParticipant",
        step(of, name, **more),
        participants_pb2.AdvanceParticipantResponse,
    )
    return answer.participant


async def admit(datashare: Datashare, of: Caller, li: Caller, wang: Caller, product: str) -> None:
    await advance(datashare, li, of, "LICENCE_CHECKED", products=[product])
    await advance(datashare, li, of, "CONFORMANT")
    await advance(datashare, li, of, "APPROVED")
    refused = await datashare.refused(
        li, "ParticipantService/AdvanceParticipant", step(of, "APPROVED")
    )
    assert refused.reason == "SECOND_PERSON_REQUIRED"
    await advance(datashare, wang, of, "APPROVED")
    active = await advance(datashare, li, of, "ACTIVATED")
    assert active.standing == participants_pb2.STANDING_ACTIVE


async def test_a_bank_is_admitted_acts_within_its_licence_and_leaves(
    production: Datashare,
) -> None:
    li, wang = await person(production, "li"), await person(production, "wang")
    assert (li.participant_id, li.products) == ("operator", ("credit_reporting", "data_service"))
    assert li.person_id != wang.person_id
    production.people |= {"operator": li}
    bank = await production.register("bank", "BANK")
    tax = await production.register("tax", "PROVIDER", provider_kind="tax")
    await production.register("firm", "FIRM", subject=types_pb2.SubjectRef(uscc=USCC))

    asking = _request(production)
    refused = await production.refused(bank, "ConsentService/RequestConsent", asking)
    assert refused.reason == "PARTICIPANT_NOT_ACTIVE"
    for who in (bank, tax):
        await admit(production, who, li, wang, "credit_reporting")

    consent = await requested(production)
    assert consent.consent_id
    refused = await production.refused(
        bank, "ConsentService/RequestConsent", _request(production, purpose="model_training")
    )
    assert refused.reason == "PRODUCT_NOT_LICENSED"

    await _credentials(production, li, bank)

    suspend = participants_pb2.SetStandingRequest(
        request_id=rid(),
        participant_id=bank.participant_id,
        standing=participants_pb2.STANDING_SUSPENDED,
        note="an incident",
    )
    await production.call(
        li, "ParticipantService/SetStanding", suspend, participants_pb2.SetStandingResponse
    )
    find = credentials_pb2.FindClientRequest(participant_id=bank.participant_id)
    refused = await production.refused(THE_GATEWAY, "CredentialService/FindClient", find)
    assert refused.reason == "PARTICIPANT_SUSPENDED"

    await advance(production, wang, bank, "EXITED")
    refused = await production.refused(THE_GATEWAY, "CredentialService/FindClient", find)
    assert refused.reason == "CREDENTIALS_INVALID"
    wanted = accesses_pb2.FetchSummaryRequest(fetch=fetch(consent))
    refused = await production.refused(bank, "AccessService/FetchSummary", wanted)
    assert refused.reason == "PARTICIPANT_NOT_ACTIVE"

    told = await production.call(
        li,
        "ParticipantService/GetParticipant",
        participants_pb2.GetParticipantRequest(participant_id=bank.participant_id),
        participants_pb2.GetParticipantResponse,
    )
    names = [
        participants_pb2.ParticipantStep.Name(event.step).removeprefix("PARTICIPANT_STEP_")
        for event in told.events
    ]
    assert names == [
        "APPLIED",
        "LICENCE_CHECKED",
        "CONFORMANT",
        "APPROVED",
        "APPROVED",
        "ACTIVATED",
        "SUSPENDED",
        "EXITED",
    ]
    assert [event.by_person_id for event in told.events[3:5]] == [li.person_id, wang.person_id]
    assert told.events[1].evidence == PAPER
    assert told.events[6].note == "an incident"


def _request(datashare: Datashare, **changes: Any) -> consents_pb2.RequestConsentRequest:
    supplying = {"provider_ids": [datashare.people["tax"].participant_id]} | changes
    return consents_pb2.RequestConsentRequest(
        request_id=rid(),
        subject=types_pb2.SubjectRef(uscc=USCC),
        terms=terms(datashare, **supplying),
        officer=types_pb2.Officer(name="王", file_reference="F-1"),
    )


async def _credentials(datashare: Datashare, operator: Caller, bank: Caller) -> None:
    """The operator registers what the bank comes in by, the bank its next key."""
    pem = certificate()
    jwk = json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=False))
    made = {}
    offers: list[tuple[Caller, dict[str, Any]]] = [
        (operator, {"certificate_pem": pem}),
        (bank, {"public_jwk": jwk}),
    ]
    for by, kind in offers:
        request = credentials_pb2.RegisterCredentialRequest(
            request_id=rid(), participant_id=bank.participant_id, label="2027", **kind
        )
        answer = await datashare.call(
            by,
            "CredentialService/RegisterCredential",
            request,
            credentials_pb2.RegisterCredentialResponse,
        )
        made[answer.credential.credential_id] = answer.credential
    found = await datashare.call(
        THE_GATEWAY,
        "CredentialService/FindClient",
        credentials_pb2.FindClientRequest(participant_id=bank.participant_id),
        credentials_pb2.FindClientResponse,
    )
    assert {each.credential_id: each for each in found.credentials} == made
    assert list(found.participant.products) == ["credit_reporting"]
    named = credentials_pb2.RegisterCredentialRequest(
        request_id=rid(),
        participant_id=bank.participant_id,
        person=credentials_pb2.PersonAccount(issuer=ISSUER, subject="zhao"),
    )
    refused = await datashare.refused(bank, "CredentialService/RegisterCredential", named)
    assert refused.reason == "ROLE_NOT_ALLOWED"
    first = next(iter(made))
    ended = await datashare.call(
        bank,
        "CredentialService/RevokeCredential",
        credentials_pb2.RevokeCredentialRequest(
            request_id=rid(), participant_id=bank.participant_id, credential_id=first
        ),
        credentials_pb2.RevokeCredentialResponse,
    )
    assert ended.credential.HasField("revoked_at")
    listed = await datashare.call(
        bank,
        "CredentialService/ListCredentials",
        credentials_pb2.ListCredentialsRequest(participant_id=bank.participant_id),
        credentials_pb2.ListCredentialsResponse,
    )
    valid = [each for each in listed.credentials if not each.HasField("revoked_at")]
    assert (len(listed.credentials), len(valid)) == (2, 1)
