"""Datashare alone, over gRPC, on both databases: every method that the consent side serves."""

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from puhui.common.v1 import access_pb2, types_pb2
from puhui.datashare.v1 import (
    accesses_pb2,
    changes_pb2,
    consents_pb2,
    participants_pb2,
    receipts_pb2,
    records_pb2,
    summaries_pb2,
)
from puhui_client.signing import PublicKey
from services.datashare.main import MIGRATIONS, DatashareConfig, build, migrate
from services.kit.client import Channel
from services.kit.clock import SystemClock
from services.kit.config import ConfigError, load
from services.kit.errors import PuhuiError
from services.kit.identity import DATASHARE, GATEWAY, SCORING, Caller, IdentitySigner, new_key_pair
from services.kit.ids import RandomIds
from services.kit.service import Service
from services.kit.status import error_from_status
from tests.fakes.raw_files import Files
from tests.fakes.sealing import key_files

M = TypeVar("M", bound=Message)

USCC = "91110108MA01234537"
OPERATOR = Caller("operator", "OPERATOR")
THE_GATEWAY = Caller("gateway", "GATEWAY")
THE_SCORING = Caller("scoring", "SCORING")
FIRST_SECRET = "first-secret"


@dataclass
class Datashare:
    """The service and ways to call it."""

    service: Service
    signers: Mapping[str, IdentitySigner]
    exits: AsyncExitStack
    people: dict[str, Caller] = field(default_factory=dict)
    channels: dict[Caller, Channel] = field(default_factory=dict)

    def identity(self, who: Caller, audience: str = DATASHARE) -> str:
        return self.signers[SCORING if who.role == "SCORING" else GATEWAY].sign(who, audience)

    async def call(self, who: Caller, method: str, request: Message, response: type[M]) -> M:
        if who not in self.channels:
            channel = Channel(f"127.0.0.1:{self.service.port}", lambda: self.identity(who))
            self.channels[who] = channel
            self.exits.push_async_callback(channel.close)
        return await self.channels[who].unary(f"/puhui.datashare.v1.{method}", request, response)

    async def refused(self, who: Caller, method: str, request: Message) -> PuhuiError:
        with pytest.raises(PuhuiError) as caught:
            await self.call(who, method, request, Timestamp)
        return caught.value

    async def register(self, name: str, role: str, **more: Any) -> Caller:
        response = await self.call(
            self.people.get("operator", OPERATOR),
            "ParticipantService/RegisterParticipant",
            participants_pb2.RegisterParticipantRequest(
                request_id=rid(), role=access_pb2.Role.Value(f"ROLE_{role}"), name=name, **more
            ),
            participants_pb2.RegisterParticipantResponse,
        )
        made = response.participant
        self.people[name] = Caller(made.participant_id, role, made.subject_id or None, name)
        return self.people[name]


def rid() -> str:
    return uuid.uuid4().hex


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


@pytest.fixture
def own_postgres_url(migrated_copy: Callable[[Path], str]) -> str:
    """The URL of a PostgreSQL database that only this test's datashare is on."""
    return migrated_copy(MIGRATIONS)


@pytest.fixture(params=["sqlite", "postgresql"])
async def datashare(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Datashare]:
    keys = {GATEWAY: new_key_pair(), SCORING: new_key_pair()}
    for issuer, (_, public) in keys.items():
        (tmp_path / issuer).write_text(public)
    (tmp_path / "counterparty").write_text("0f" * 32)
    config = DatashareConfig(
        identity_gateway_public_key=tmp_path / GATEWAY,
        identity_scoring_public_key=tmp_path / SCORING,
        counterparty_key=tmp_path / "counterparty",
        **key_files(tmp_path),
        database_url=f"sqlite:///{tmp_path / 'datashare.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("own_postgres_url"),
        bootstrap_operator_key_id="key_first",
        bootstrap_operator_key_sha256=hashlib.sha256(FIRST_SECRET.encode()).hexdigest(),
        sandbox=True,
        sandbox_proof_key=tmp_path / "proof",
    )
    (tmp_path / "proof").touch(0o600)
    (tmp_path / "proof").write_text("0f" * 32)
    migrate(config)
    clock = SystemClock()
    service = build(config, clock, RandomIds(clock))
    await service.start()
    signers = {
        issuer: IdentitySigner(private, issuer, clock, config.tenant)
        for issuer, (private, _) in keys.items()
    }
    async with AsyncExitStack() as exits:
        made = Datashare(service, signers, exits)
        await made.register("tax", "PROVIDER", provider_kind="tax", simulated_source=True)
        await made.register("bank", "BANK")
        await made.register("other", "BANK")
        await made.register("firm", "FIRM", subject=types_pb2.SubjectRef(uscc=USCC))
        yield made
    await service.stop()


def terms(datashare: Datashare, **changes: Any) -> consents_pb2.ConsentTerms:
    period = {
        "from": {"year": 2023, "month": 1, "day": 1},
        "to": {"year": 2026, "month": 12, "day": 31},
    }
    made: dict[str, Any] = {
        "purpose": "credit_application",
        "provider_ids": [datashare.people["tax"].participant_id],
        "record_types": ["vat_invoice", "tax_filing"],
        "content_level": types_pb2.CONTENT_LEVEL_SUMMARY,
        "data_period": types_pb2.DatePeriod(**period),
        "expires_at": stamp(datetime.now(UTC) + timedelta(days=30)),
    }
    return consents_pb2.ConsentTerms(**(made | changes))


async def requested(datashare: Datashare, **changes: Any) -> consents_pb2.Consent:
    response = await datashare.call(
        datashare.people["bank"],
        "ConsentService/RequestConsent",
        consents_pb2.RequestConsentRequest(
            request_id=rid(),
            subject=types_pb2.SubjectRef(uscc=USCC),
            terms=terms(datashare, **changes),
            officer=types_pb2.Officer(name="王", file_reference="F-1"),
        ),
        consents_pb2.RequestConsentResponse,
    )
    return response.consent


async def granted(datashare: Datashare) -> consents_pb2.Consent:
    asked = await requested(datashare)
    response = await datashare.call(
        datashare.people["firm"],
        "ConsentService/GrantConsent",
        consents_pb2.GrantConsentRequest(
            request_id=rid(),
            consent_id=asked.consent_id,
            canonical_sha256=hashlib.sha256(asked.canonical).digest(),
        ),
        consents_pb2.GrantConsentResponse,
    )
    return response.consent


async def withdrawn(datashare: Datashare, consent: consents_pb2.Consent) -> consents_pb2.Consent:
    response = await datashare.call(
        datashare.people["firm"],
        "ConsentService/WithdrawConsent",
        consents_pb2.WithdrawConsentRequest(
            request_id=rid(), consent_id=consent.consent_id, note="不再需要"
        ),
        consents_pb2.WithdrawConsentResponse,
    )
    return response.consent


def fetch(consent: consents_pb2.Consent, **changes: Any) -> accesses_pb2.SummaryFetch:
    made: dict[str, Any] = {
        "request_id": rid(),
        "subject_id": consent.subject_id,
        "consent_id": consent.consent_id,
        "purpose": "credit_application",
        "officer": types_pb2.Officer(name="王", file_reference="F-1"),
    }
    return accesses_pb2.SummaryFetch(**(made | changes))


async def fetched(
    datashare: Datashare, wanted: accesses_pb2.SummaryFetch
) -> accesses_pb2.FetchSummaryResponse:
    return await datashare.call(
        datashare.people["bank"],
        "AccessService/FetchSummary",
        accesses_pb2.FetchSummaryRequest(fetch=wanted),
        accesses_pb2.FetchSummaryResponse,
    )


async def listed(datashare: Datashare, who: str) -> list[accesses_pb2.Access]:
    response = await datashare.call(
        datashare.people[who],
        "AccessService/ListAccesses",
        accesses_pb2.ListAccessesRequest(),
        accesses_pb2.ListAccessesResponse,
    )
    return list(response.accesses)


async def push_filing(datashare: Datashare) -> None:
    response = await datashare.call(
        datashare.people["tax"],
        "RecordService/SubmitRecords",
        records_pb2.SubmitRecordsRequest(
            records=[
                records_pb2.Record(
                    provider_record_id="f-1",
                    subject=types_pb2.SubjectRef(uscc=USCC),
                    record_type="tax_filing",
                    date={"year": 2025, "month": 3, "day": 15},
                    obtained_at=stamp(datetime.now(UTC) - timedelta(minutes=1)),
                    tax_filing={  # type: ignore[arg-type]  # the stubs take messages, protobuf dictionaries too
                        "tax_kind": "vat",
                        "declared_tax": {"currency_code": "CNY", "units": 130},
                        "declared_sales": {"currency_code": "CNY", "units": 1000},
                        "grade": "A",
                    },
                )
            ]
        ),
        records_pb2.SubmitRecordsResponse,
    )
    assert list(response.ack.accepted) == [0], response.ack


class TestConsentAndAccess:
    async def test_a_consent_opens_the_summary_until_it_is_withdrawn(
        self, datashare: Datashare
    ) -> None:
        await push_filing(datashare)
        consent = await granted(datashare)
        assert consent.state == consents_pb2.CONSENT_STATE_ACTIVE
        assert consent.revision == 2
        # It has no signing key, so it agreed by its authenticated call.
        firm_id = datashare.people["firm"].participant_id
        assert [(each.signer_id, each.jws) for each in consent.signatures] == [(firm_id, "")]
        keys = await datashare.call(
            datashare.people["firm"],
            "ReceiptService/ListPlatformKeys",
            receipts_pb2.ListPlatformKeysRequest(),
            receipts_pb2.ListPlatformKeysResponse,
        )
        (key,) = keys.keys
        PublicKey.parse(key.public_jwk).verify(consent.platform_jws, consent.canonical)

        wanted = fetch(consent)
        released = await fetched(datashare, wanted)
        (series,) = released.summary.series
        assert (series.record_type, list(series.months)) == ("tax_filing", [202503])
        columns = {column.name: list(column.values) for column in series.columns}
        assert columns["vat_declared_sales"] == [100000]
        coverage = {item.record_type: item.state for item in released.summary.coverage}
        assert coverage["tax_filing"] == summaries_pb2.COVERAGE_STATE_SUPPLIED
        assert coverage["vat_invoice"] == summaries_pb2.COVERAGE_STATE_NOT_SUPPLIED
        assert coverage["credit_facility"] == summaries_pb2.COVERAGE_STATE_NOT_CONSENTED
        assert released.summary.simulated
        assert released.summary.period == consent.terms.data_period
        assert await fetched(datashare, wanted) == released

        ended = await withdrawn(datashare, consent)
        assert (ended.state, ended.note) == (consents_pb2.CONSENT_STATE_WITHDRAWN, "不再需要")
        for again in (wanted, fetch(consent)):
            error = await datashare.refused(
                datashare.people["bank"],
                "AccessService/FetchSummary",
                accesses_pb2.FetchSummaryRequest(fetch=again),
            )
            assert (error.code, error.reason) == ("FAILED_PRECONDITION", "CONSENT_WITHDRAWN")

        accesses = await listed(datashare, "firm")
        assert accesses == await listed(datashare, "bank")
        assert [access.refusal_reason for access in accesses] == ["CONSENT_WITHDRAWN"] * 2 + [""]
        first = accesses[-1]
        assert first.access_id == released.access_id
        assert (first.recipient_name, first.officer.name) == ("bank", "王")
        assert first.channel == "datashare"
        assert len(first.leaf_hash) == 32
        assert await listed(datashare, "other") == []

    async def test_terms_that_ask_for_too_much(self, datashare: Datashare) -> None:
        late = stamp(datetime.now(UTC) + timedelta(days=366))
        cases: list[tuple[dict[str, Any], str, list[str]]] = [
            ({"expires_at": late}, "CONSENT_OVER_CEILING", ["terms.expires_at"]),
            ({"purpose": "curiosity"}, "PURPOSE_UNKNOWN", ["terms.purpose"]),
            ({"record_types": ["horoscope"]}, "TYPE_UNKNOWN", ["terms.record_types[0]"]),
            ({"provider_ids": ["par_none"]}, "FIELD_INVALID", ["terms.provider_ids[0]"]),
            (
                {"data_period": {"from": {"year": 2023, "month": 2, "day": 30}, "to": {}}},
                "DATE_INVALID",
                ["terms.data_period.from"],
            ),
        ]
        for changes, reason, fields in cases:
            with pytest.raises(PuhuiError) as caught:
                await requested(datashare, **changes)
            error = caught.value
            assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)
            assert [problem.field for problem in error.fields] == fields

    async def test_lists_are_paged_and_bound_to_their_filter(self, datashare: Datashare) -> None:
        made = [(await requested(datashare)).consent_id for _ in range(3)]
        request = consents_pb2.ListConsentsRequest(page_size=2)
        answer = consents_pb2.ListConsentsResponse
        firm = datashare.people["firm"]
        first = await datashare.call(firm, "ConsentService/ListConsents", request, answer)
        request.page_token = first.next_page_token
        second = await datashare.call(firm, "ConsentService/ListConsents", request, answer)
        assert [c.consent_id for c in [*first.consents, *second.consents]] == sorted(made)[::-1]
        assert second.next_page_token == ""
        request.state = consents_pb2.CONSENT_STATE_ACTIVE
        error = await datashare.refused(firm, "ConsentService/ListConsents", request)
        assert error.reason == "PAGE_TOKEN_INVALID"

    async def test_a_stranger_finds_no_consent(self, datashare: Datashare) -> None:
        consent = await requested(datashare)
        request = consents_pb2.GetConsentRequest(consent_id=consent.consent_id)
        error = await datashare.refused(
            datashare.people["other"], "ConsentService/GetConsent", request
        )
        assert (error.code, error.reason) == ("NOT_FOUND", "CONSENT_NOT_FOUND")


@pytest.mark.parametrize("datashare", ["sqlite", "postgresql"], indirect=True)
async def test_no_registration_number_reaches_the_files(
    datashare: Datashare, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    await push_filing(datashare)
    consent = await granted(datashare)
    await fetched(datashare, fetch(consent))
    await withdrawn(datashare, consent)
    path = tmp_path / "datashare.db"
    files = (
        Files("", path)
        if path.exists()
        else Files(request.getfixturevalue("own_postgres_url"), None)
    )
    # The firm's participant is there, so what is looked for would be found.
    name = datashare.people["firm"].participant_id.encode()
    assert await files.hold(USCC.encode(), name) == {name}


class TestBatch:
    async def test_a_text_that_no_database_takes_is_refused_before_it(
        self, datashare: Datashare
    ) -> None:
        consent, bank = await granted(datashare), datashare.people["bank"]
        asked = fetch(consent, officer=types_pb2.Officer(name="Li\0"))
        request = accesses_pb2.FetchSummaryRequest(fetch=asked)
        error = await datashare.refused(bank, "AccessService/FetchSummary", request)
        assert (error.reason, error.fields[0].field) == ("FIELD_INVALID", "fetch.officer.name")

    async def test_what_a_firm_proved_to_scoring_cannot_grant_a_consent(
        self, datashare: Datashare
    ) -> None:
        firm = datashare.people["firm"]
        passed_on = datashare.identity(firm, SCORING)
        channel = Channel(f"127.0.0.1:{datashare.service.port}", lambda: passed_on)
        with pytest.raises(PuhuiError) as caught:
            await channel.unary(
                "/puhui.datashare.v1.ConsentService/GrantConsent",
                consents_pb2.GrantConsentRequest(),
                Timestamp,
            )
        await channel.close()
        assert caught.value.reason == "IDENTITY_INVALID"

    async def test_each_item_has_its_own_caller_and_result(self, datashare: Datashare) -> None:
        consent, bank = await granted(datashare), datashare.people["bank"]
        item = accesses_pb2.BatchFetchItem
        late = stamp(datetime.now(UTC) - timedelta(seconds=1))
        identity = datashare.identity(bank, SCORING)
        other = datashare.identity(datashare.people["other"], SCORING)
        firm = datashare.identity(datashare.people["firm"], SCORING)
        response = await datashare.call(
            THE_SCORING,
            "AccessService/BatchFetchSummaries",
            accesses_pb2.BatchFetchSummariesRequest(
                items=[
                    item(identity="forged", fetch=fetch(consent)),
                    item(identity=identity, fetch=fetch(consent)),
                    item(identity=datashare.identity(bank), fetch=fetch(consent)),
                    item(identity=other, fetch=fetch(consent)),
                    item(identity=firm, fetch=fetch(consent)),
                    item(identity=identity, fetch=fetch(consent), deadline=late),
                    item(identity=identity, fetch=fetch(consent, record_types=["horoscope"])),
                    item(
                        identity=identity,
                        fetch=fetch(consent, consent_id="", record_types=["grant"]),
                    ),
                ]
            ),
            accesses_pb2.BatchFetchSummariesResponse,
        )
        assert [
            "released" if result.HasField("released") else error_from_status(result.refused).reason
            for result in response.results
        ] == [
            "IDENTITY_INVALID",
            "released",
            "IDENTITY_INVALID",  # asserted to datashare: the bank did not come to scoring
            "CONSENT_NOT_FOUND",
            "ROLE_NOT_ALLOWED",
            "DEADLINE_EXCEEDED",
            "TYPE_UNKNOWN",
            "released",
        ]
        channels = {access.channel for access in await listed(datashare, "firm")}
        assert channels == {"scoring"}

    async def test_it_is_for_scoring_only(self, datashare: Datashare) -> None:
        request = accesses_pb2.BatchFetchSummariesRequest()
        error = await datashare.refused(
            datashare.people["bank"], "AccessService/BatchFetchSummaries", request
        )
        assert error.reason == "ROLE_NOT_ALLOWED"


class TestParticipants:
    async def verify(
        self, datashare: Datashare, api_key: str
    ) -> participants_pb2.VerifyKeyResponse:
        key_id, _, secret = api_key.partition(".")
        return await datashare.call(
            THE_GATEWAY,
            "ParticipantService/VerifyKey",
            participants_pb2.VerifyKeyRequest(
                key_id=key_id, secret_sha256=hashlib.sha256(secret.encode()).digest()
            ),
            participants_pb2.VerifyKeyResponse,
        )

    async def test_a_keys_life_and_what_the_feed_tells_of_it(self, datashare: Datashare) -> None:
        bank = datashare.people["bank"].participant_id
        issue = participants_pb2.IssueKeyRequest(request_id=rid(), participant_id=bank)
        issued = await datashare.call(
            OPERATOR, "ParticipantService/IssueKey", issue, participants_pb2.IssueKeyResponse
        )
        error = await datashare.refused(OPERATOR, "ParticipantService/IssueKey", issue)
        assert (error.code, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        found = await self.verify(datashare, issued.api_key)
        assert found.participant.participant_id == bank

        for standing in (
            participants_pb2.STANDING_SUSPENDED,
            participants_pb2.STANDING_ACTIVE,
        ):
            await datashare.call(
                OPERATOR,
                "ParticipantService/SetStanding",
                participants_pb2.SetStandingRequest(
                    request_id=rid(), participant_id=bank, standing=standing
                ),
                participants_pb2.SetStandingResponse,
            )
            if standing == participants_pb2.STANDING_SUSPENDED:
                with pytest.raises(PuhuiError) as suspended:
                    await self.verify(datashare, issued.api_key)
                assert suspended.value.reason == "PARTICIPANT_SUSPENDED"

        revoke = participants_pb2.RevokeKeyRequest(request_id=rid(), key_id=issued.key_id)
        answer = participants_pb2.RevokeKeyResponse
        method = "ParticipantService/RevokeKey"
        revoked = await datashare.call(OPERATOR, method, revoke, answer)
        assert await datashare.call(OPERATOR, method, revoke, answer) == revoked
        with pytest.raises(PuhuiError) as invalid:
            await self.verify(datashare, issued.api_key)
        assert invalid.value.reason == "CREDENTIALS_INVALID"

        feed = await datashare.call(
            THE_GATEWAY,
            "ChangeService/ListChanges",
            changes_pb2.ListChangesRequest(),
            changes_pb2.ListChangesResponse,
        )
        assert [change.kind for change in feed.changes] == [
            changes_pb2.CHANGE_KIND_MANDATE_CHANGED,
            changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED,
            changes_pb2.CHANGE_KIND_PARTICIPANT_REINSTATED,
            changes_pb2.CHANGE_KIND_KEY_REVOKED,
        ]
        assert feed.changes[3].key_id == issued.key_id

    async def test_the_bootstrap_operator_has_the_configured_key(
        self, datashare: Datashare
    ) -> None:
        found = await self.verify(datashare, f"key_first.{FIRST_SECRET}")
        assert found.participant.participant_id == "operator"
        assert found.participant.role == access_pb2.ROLE_OPERATOR

    async def test_the_directory_shows_firms_to_the_operator_only(
        self, datashare: Datashare
    ) -> None:
        async def names(who: Caller) -> set[str]:
            response = await datashare.call(
                who,
                "ParticipantService/ListParticipants",
                participants_pb2.ListParticipantsRequest(),
                participants_pb2.ListParticipantsResponse,
            )
            return {participant.name for participant in response.participants}

        assert await names(OPERATOR) == {"tax", "bank", "other", "firm"}
        assert await names(datashare.people["bank"]) == {"tax", "bank", "other"}


def test_a_bootstrap_key_needs_its_hash() -> None:
    given = {
        "PUHUI_DATASHARE_IDENTITY_GATEWAY_PUBLIC_KEY": "a",
        "PUHUI_DATASHARE_IDENTITY_SCORING_PUBLIC_KEY": "b",
        "PUHUI_DATASHARE_COUNTERPARTY_KEY": "c",
        "PUHUI_DATASHARE_KEK_FILE": "d",
        "PUHUI_DATASHARE_SUBJECT_TOKEN_KEY": "e",
        "PUHUI_DATASHARE_SIGNING_KEY": "f",
        "PUHUI_DATASHARE_BOOTSTRAP_OPERATOR_KEY_ID": "key_first",
        "PUHUI_DATASHARE_BOOTSTRAP_OPERATOR_KEY_SHA256": "not a hash",
    }
    with pytest.raises(ConfigError, match="bootstrap_operator_key_sha256"):
        load(DatashareConfig, "datashare", given)


@pytest.mark.parametrize("content", [None, "not hexadecimal", "0f0f"])
def test_a_counterparty_key_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None
) -> None:
    for name in ("gateway", "scoring"):
        (tmp_path / name).write_text(new_key_pair()[1])
    if content is not None:
        (tmp_path / "counterparty").write_text(content)
    config = DatashareConfig(
        identity_gateway_public_key=tmp_path / "gateway",
        identity_scoring_public_key=tmp_path / "scoring",
        counterparty_key=tmp_path / "counterparty",
        **key_files(tmp_path),
        database_url=f"sqlite:///{tmp_path / 'datashare.db'}",
    )
    clock = SystemClock()
    with pytest.raises(ConfigError, match="counterparty_key"):
        build(config, clock, RandomIds(clock))
