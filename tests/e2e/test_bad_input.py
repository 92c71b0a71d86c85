"""What must not get in, over real gRPC and real HTTP: code, reason and field of each, as documented.

One table of rows (a bad row never blocks its batch) and one of calls.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from puhui.datashare.v1 import accesses_pb2, consents_pb2, records_pb2
from puhui.datashare.v1.consents_pb2 import Consent
from puhui.scoring.v1 import scoring_pb2
from tests.e2e.town import OTHER_USCC, USCC, Town, headcount, invoices

Body = dict[str, Any]
SUBMIT, REQUEST, FETCH, SCORE = "SubmitRecords", "RequestConsent", "FetchSummary", "Score"
METHODS: dict[str, tuple[str, type[Message], str]] = {
    SUBMIT: (
        "/puhui.datashare.v1.RecordService/SubmitRecords",
        records_pb2.SubmitRecordsRequest,
        "/v1/records:submit",
    ),
    REQUEST: (
        "/puhui.datashare.v1.ConsentService/RequestConsent",
        consents_pb2.RequestConsentRequest,
        "/v1/consents:request",
    ),
    FETCH: (
        "/puhui.datashare.v1.AccessService/FetchSummary",
        accesses_pb2.FetchSummaryRequest,
        "/v1/subjects/{subject}/summary:fetch",
    ),
    SCORE: ("/puhui.scoring.v1.ScoringService/Score", scoring_pb2.ScoreRequest, "/v1/scores"),
}
RESPONSES: dict[str, type[Message]] = {
    SUBMIT: records_pb2.SubmitRecordsResponse,
    REQUEST: consents_pb2.RequestConsentResponse,
    FETCH: accesses_pb2.FetchSummaryResponse,
    SCORE: scoring_pb2.ScoreResponse,
}
HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "BATCH_TOO_LARGE": 413,  # a reason, for which HTTP has a better one than its code's
}


@dataclass(frozen=True)
class Refusal:
    """How a call was refused; the code is the canonical one or, over HTTP, the status."""

    code: str
    reason: str
    fields: tuple[str, ...]


async def over_grpc(town: Town, rpc: str, body: Body, headers: Mapping[str, str]) -> Body | Refusal:
    method, request_type, _ = METHODS[rpc]
    request = ParseDict(body, request_type())
    async with grpc.aio.insecure_channel(town.platform.gateway) as channel:
        call: Any = channel.unary_unary(method)
        try:
            answer = await call(
                request.SerializeToString(), metadata=tuple(headers.items()), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
    return MessageToDict(RESPONSES[rpc].FromString(answer))


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = status_pb2.Status.FromString(details)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(detail.Unpack(info) for detail in status.details)
    any(detail.Unpack(bad) for detail in status.details)
    return Refusal(
        code_pb2.Code.Name(status.code), info.reason, tuple(v.field for v in bad.field_violations)
    )


async def over_http(town: Town, rpc: str, body: Body, headers: Mapping[str, str]) -> Body | Refusal:
    path = METHODS[rpc][2]
    if "{subject}" in path:
        path = path.format(subject=body["fetch"]["subjectId"])
    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}", timeout=20) as client:
        answer = await client.post(path, json=body, headers=dict(headers))
    content: Body = answer.json()
    if answer.status_code == httpx2.codes.OK:
        return content
    assert answer.headers["content-type"] == "application/problem+json"
    # Over HTTP a code is seen as its status, which it may share with others.
    return Refusal(
        f"{answer.status_code}", content["reason"], tuple(f["field"] for f in content["fields"])
    )


Transport = Callable[[Town, str, Body, Mapping[str, str]], Any]


@pytest.fixture(params=[over_grpc, over_http], ids=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


def refusal(transport: Transport, code: str, reason: str, *fields: str) -> Refusal:
    told = code if transport is over_grpc else f"{HTTP_STATUS.get(reason) or HTTP_STATUS[code]}"
    return Refusal(told, reason, fields)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# -- rows ------------------------------------------------------------------------------------------


def tomorrow() -> Body:
    day = datetime.now(UTC) + timedelta(days=2)
    return {"year": day.year, "month": day.month, "day": day.day}


def changed(record: Body, **changes: Any) -> Body:
    made = deepcopy(record)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = made
        for parent in parents:
            at = at[parent]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return made


INVOICE: Body = MessageToDict(invoices(1)[0])
HEADCOUNT: Body = MessageToDict(headcount(12))
BAD_ROWS: list[tuple[str, str, Body, str, str]] = [
    ("a malformed USCC", "tax", changed(INVOICE, subject__uscc=USCC[:-1] + "0"), "USCC_MALFORMED", "subject.uscc"),
    ("an unknown type", "tax", changed(INVOICE, recordType="horoscope"), "TYPE_UNKNOWN", "record_type"),
    ("a payload of another type", "tax", changed(INVOICE, recordType="tax_filing"), "TYPE_MISMATCH", "vat_invoice"),
    ("another provider's type", "hr", INVOICE, "TYPE_NOT_YOURS", "record_type"),
    ("a negative headcount", "hr", changed(HEADCOUNT, socialInsurance__headcount=-3), "NUMBER_OUT_OF_RANGE", "social_insurance.headcount"),
    ("a date in the future", "tax", changed(INVOICE, date=tomorrow()), "DATE_IN_FUTURE", "date"),
    ("a day that does not exist", "tax", changed(INVOICE, date={"year": 2025, "month": 2, "day": 30}), "DATE_INVALID", "date"),
    ("a currency that is missing", "tax", changed(INVOICE, vatInvoice__net__currencyCode=None), "CURRENCY_MISSING", "vat_invoice.net.currency_code"),
    ("a foreign currency", "tax", changed(INVOICE, vatInvoice__tax__currencyCode="USD"), "CURRENCY_UNSUPPORTED", "vat_invoice.tax.currency_code"),
    ("a part of a fen", "tax", changed(INVOICE, vatInvoice__gross__nanos=1), "AMOUNT_INVALID", "vat_invoice.gross.nanos"),
    ("no side", "tax", changed(INVOICE, vatInvoice__side=None), "FIELD_INVALID", "vat_invoice.side"),
    ("no subject", "tax", changed(INVOICE, subject=None), "FIELD_INVALID", "subject"),
    ("other content under the same id", "tax", changed(INVOICE, vatInvoice__net__units="7"), "RECORD_CONFLICT", "provider_record_id"),
    ("a version that leaves one out", "tax", changed(INVOICE, version=5, vatInvoice__net__units="8"), "VERSION_OUT_OF_ORDER", "version"),
]  # fmt: skip  # a table, line by line


@pytest.mark.parametrize(
    ("provider", "row", "reason", "field"),
    [case[1:] for case in BAD_ROWS],
    ids=[case[0] for case in BAD_ROWS],
)
async def test_a_bad_row_is_rejected_alone(
    town: Town, transport: Transport, provider: str, row: Body, reason: str, field: str
) -> None:
    good = INVOICE if provider == "tax" else HEADCOUNT
    body = {"records": [good, row, good], "historical": provider == "tax"}
    answer = await transport(town, SUBMIT, body, bearer(town.key(provider)))
    ack = answer["ack"]
    [rejection] = ack["rejections"]
    assert (rejection["row"], rejection["reason"], rejection["field"]) == (1, reason, field)
    assert rejection["message"]
    assert USCC not in rejection["message"]
    assert sorted(ack.get("accepted", []) + ack.get("duplicates", [])) == [0, 2]


# -- calls -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Consents:
    """Consents in the states that calls meet."""

    active: Consent
    withdrawn: Consent
    requested: Consent
    expired: Consent
    rejected: Consent
    revoked: Consent


@pytest.fixture(scope="module")
def consents(town: Town) -> Consents:
    async def make() -> Consents:
        expired = await town.consent(expires_at=datetime.now(UTC) + timedelta(seconds=2))
        async with town.client("firm") as firm, town.client("bank") as bank:
            withdrawn = await firm.withdraw_consent((await town.consent()).consent_id)
            rejected = await firm.reject_consent((await town.consent(grant=False)).consent_id)
            revoked = await bank.revoke_consent((await town.consent()).consent_id)
        made = Consents(
            await town.consent(),
            withdrawn,
            await town.consent(grant=False),
            expired,
            rejected,
            revoked,
        )
        await asyncio.sleep(2.1)
        return made

    return asyncio.run(make())


Ordered = Callable[[Town, Consents], Body]


def fetch(consent: str = "active", **changes: Any) -> tuple[str, Ordered]:
    def body(town: Town, consents: Consents) -> Body:
        asked = {
            "requestId": os.urandom(8).hex(),
            "subjectId": town.subject_id,
            "consentId": getattr(consents, consent).consent_id,
            "purpose": "credit_application",
            "officer": {"name": "王", "fileReference": "F-1"},
        }
        return {"fetch": asked | changes}

    return FETCH, body


def score(consent: str = "active", **changes: Any) -> tuple[str, Ordered]:
    def body(town: Town, consents: Consents) -> Body:
        return {"order": fetch(consent, **changes)[1](town, consents)["fetch"]}

    return SCORE, body


def ask(**changes: Any) -> tuple[str, Ordered]:
    def body(town: Town, consents: Consents) -> Body:
        asked = {
            "requestId": os.urandom(8).hex(),
            "subject": {"subjectId": town.subject_id},
            "terms": MessageToDict(consents.active.terms),
            "officer": {"name": "Wang 王", "fileReference": "A-17"},
        }
        return changed(asked, **changes)

    return REQUEST, body


def period(year: int) -> Body:
    return {
        "from": {"year": year, "month": 1, "day": 1},
        "to": {"year": year, "month": 12, "day": 31},
    }


PRECONDITION, INVALID, DENIED = "FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"
BAD_CALLS: list[tuple[str, str, tuple[str, Ordered], str, str, str]] = [
    ("a consent for another bank", "other_bank", fetch(), "NOT_FOUND", "CONSENT_NOT_FOUND", ""),
    ("a withdrawn consent", "bank", fetch("withdrawn"), PRECONDITION, "CONSENT_WITHDRAWN", ""),
    ("an expired consent", "bank", fetch("expired"), PRECONDITION, "CONSENT_EXPIRED", ""),
    ("a consent not yet granted", "bank", fetch("requested"), PRECONDITION, "CONSENT_NOT_ACTIVE", ""),
    ("a rejected consent", "bank", fetch("rejected"), PRECONDITION, "CONSENT_NOT_ACTIVE", ""),
    ("a revoked consent", "bank", fetch("revoked"), PRECONDITION, "CONSENT_REVOKED", ""),
    ("a type outside the consent", "bank", fetch(recordTypes=["credit_facility"]), DENIED, "TYPE_NOT_CONSENTED", ""),
    ("a period outside the consent", "bank", fetch(period=period(2019)), DENIED, "PERIOD_NOT_CONSENTED", ""),
    ("another purpose", "bank", fetch(purpose="portfolio_review"), DENIED, "PURPOSE_NOT_CONSENTED", ""),
    ("no consent for data that needs one", "bank", fetch(consentId="", recordTypes=["vat_invoice"]), PRECONDITION, "CONSENT_REQUIRED", ""),
    ("a score under a withdrawn consent", "bank", score("withdrawn"), PRECONDITION, "CONSENT_WITHDRAWN", ""),
    ("a score under an expired consent", "bank", score("expired"), PRECONDITION, "CONSENT_EXPIRED", ""),
    ("a score for another bank", "other_bank", score(), "NOT_FOUND", "CONSENT_NOT_FOUND", ""),
    ("a score by a model that is not there", "bank", score(modelVersion="none-1"), "NOT_FOUND", "MODEL_NOT_FOUND", ""),
    ("a score without a request_id", "bank", score(requestId=""), INVALID, "FIELD_INVALID", "order.request_id"),
    ("a score for no file", "bank", score(officer={"name": "王"}), INVALID, "OFFICER_REQUIRED", "order.officer.file_reference"),
    ("a fetch by nobody", "bank", fetch(officer={}), INVALID, "OFFICER_REQUIRED", "fetch.officer.name fetch.officer.file_reference"),
    ("a firm that scores", "firm", score(), DENIED, "ROLE_NOT_ALLOWED", ""),
    ("a provider that reads", "tax", fetch(), DENIED, "ROLE_NOT_ALLOWED", ""),
    ("a malformed USCC", "bank", ask(subject={"uscc": OTHER_USCC[:-1] + "0"}), INVALID, "USCC_MALFORMED", "subject.uscc"),
    ("an unknown provider", "bank", ask(terms__providerIds=["par_nobody"]), INVALID, "FIELD_INVALID", "terms.provider_ids[0]"),
    ("an unknown purpose", "bank", ask(terms__purpose="curiosity"), INVALID, "PURPOSE_UNKNOWN", "terms.purpose"),
    ("an unknown type", "bank", ask(terms__recordTypes=["horoscope"]), INVALID, "TYPE_UNKNOWN", "terms.record_types[0]"),
    ("a type of any length, to read", "bank", fetch(recordTypes=["x" * 65]), INVALID, "FIELD_INVALID", "fetch.record_types[0]"),
    ("a type of any length, to consent to", "bank", ask(terms__recordTypes=["x" * 65]), INVALID, "FIELD_INVALID", "terms.record_types[0]"),
    ("a provider of any length", "bank", ask(terms__providerIds=["x" * 65]), INVALID, "FIELD_INVALID", "terms.provider_ids[0]"),
    ("more than the purpose allows", "bank", ask(terms__expiresAt="2099-01-01T00:00:00Z"), INVALID, "CONSENT_OVER_CEILING", "terms.expires_at"),
    ("no content level", "bank", ask(terms__contentLevel=None), INVALID, "FIELD_INVALID", "terms.content_level"),
]  # fmt: skip  # a table, line by line


@pytest.mark.parametrize(
    ("who", "what", "code", "reason", "field"),
    [case[1:] for case in BAD_CALLS],
    ids=[case[0] for case in BAD_CALLS],
)
async def test_a_bad_call_is_refused(
    town: Town,
    consents: Consents,
    transport: Transport,
    who: str,
    what: tuple[str, Ordered],
    code: str,
    reason: str,
    field: str,
) -> None:
    rpc, body = what
    answer = await transport(town, rpc, body(town, consents), bearer(town.key(who)))
    assert answer == refusal(transport, code, reason, *field.split())


async def test_a_replayed_score_is_refused_after_the_withdrawal(
    town: Town, consents: Consents, transport: Transport
) -> None:
    consent = await town.consent()
    rpc, ordered = score(consentId=consent.consent_id)
    body = ordered(town, consents)
    first = await transport(town, rpc, body, bearer(town.key("bank")))
    again = await transport(town, rpc, body, bearer(town.key("bank")))
    assert first["decision"]["decisionId"] == again["decision"]["decisionId"]
    async with town.client("firm") as firm:
        await firm.withdraw_consent(consent.consent_id)
    answer = await transport(town, rpc, body, bearer(town.key("bank")))
    assert answer == refusal(transport, PRECONDITION, "CONSENT_WITHDRAWN")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"authorization": "Bearer key_1.wrong"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Bearer x"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Basic dXNlcjpwdw=="}, "CREDENTIALS_INVALID"),
        ({"x-puhui-identity": "forged"}, "CREDENTIALS_MISSING"),
    ],
    ids=["no key", "a wrong key", "no key at all", "another scheme", "a forged identity alone"],
)
async def test_without_a_right_key_nobody_gets_in(
    town: Town, transport: Transport, headers: dict[str, str], reason: str
) -> None:
    answer = await transport(town, SUBMIT, {"records": [INVOICE]}, headers)
    assert isinstance(answer, Refusal)
    assert answer == refusal(transport, "UNAUTHENTICATED", reason)


async def test_an_identity_that_a_client_sends_is_dropped(
    town: Town, consents: Consents, transport: Transport
) -> None:
    rpc, body = fetch()
    headers = bearer(town.key("other_bank")) | {
        "x-puhui-identity": "forged",
        "x-puhui-role": "BANK",
    }
    answer = await transport(town, rpc, body(town, consents), headers)
    assert answer == refusal(transport, "NOT_FOUND", "CONSENT_NOT_FOUND")


async def test_a_batch_that_is_too_large_is_refused_whole(town: Town, transport: Transport) -> None:
    answer = await transport(town, SUBMIT, {"records": [INVOICE] * 1001}, bearer(town.key("tax")))
    assert answer == refusal(transport, "INVALID_ARGUMENT", "BATCH_TOO_LARGE", "records")


async def test_back_fill_is_for_historical_sources_alone(town: Town, transport: Transport) -> None:
    body = {"records": [HEADCOUNT], "historical": True}
    answer = await transport(town, SUBMIT, body, bearer(town.key("hr")))
    assert isinstance(answer, Refusal)
    assert answer == refusal(transport, DENIED, "BACKFILL_NOT_ALLOWED", *answer.fields)


async def test_a_request_id_with_another_body_is_refused(
    town: Town, consents: Consents, transport: Transport
) -> None:
    rpc, body = fetch()
    first = body(town, consents)
    await transport(town, rpc, first, bearer(town.key("bank")))
    other = changed(first, fetch__recordTypes=["vat_invoice"])
    answer = await transport(town, rpc, other, bearer(town.key("bank")))
    assert answer == refusal(transport, "ALREADY_EXISTS", "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"records": [changed(HEADCOUNT, socialInsurance__headcount="many")]}, "headcount"),
        ({"records": [changed(HEADCOUNT, socialInsurance__mood="good")]}, "mood"),
        ({"records": "none"}, "records"),
    ],
    ids=["words for a number", "an unknown field", "words for a list"],
)
async def test_a_field_of_the_wrong_type_is_refused_over_http(
    town: Town, body: Body, field: str
) -> None:
    answer = await over_http(town, SUBMIT, body, bearer(town.key("hr")))
    assert isinstance(answer, Refusal)
    assert answer.code == "400"
    assert any(field in path for path in answer.fields)


async def test_bytes_that_are_no_message_are_refused_over_grpc(town: Town) -> None:
    async with grpc.aio.insecure_channel(town.platform.gateway) as channel:
        call: Any = channel.unary_unary(METHODS[SUBMIT][0])
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(b"\xff\xff\xff", metadata=tuple(bearer(town.key("hr")).items()))
    found = refusal_of(refusal.value)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


async def test_a_batch_out_of_sequence_ends_the_stream_and_keeps_what_was_acked(
    town: Town,
) -> None:
    header = records_pb2.PushHeader(delivery_id=os.urandom(6).hex(), historical=True)

    async def opened(*sequences: int) -> tuple[int, list[int], str]:
        async with grpc.aio.insecure_channel(town.platform.gateway) as channel:
            call: Any = channel.stream_stream(
                "/puhui.datashare.v1.RecordService/PushRecords",
                request_serializer=records_pb2.PushRecordsRequest.SerializeToString,
                response_deserializer=records_pb2.PushRecordsResponse.FromString,
            )
            stream = call(metadata=tuple(bearer(town.key("tax")).items()), timeout=20)
            await stream.write(records_pb2.PushRecordsRequest(header=header))
            ready = (await stream.read()).ready.last_sequence
            for sequence in sequences:
                batch = records_pb2.PushBatch(sequence=sequence, records=invoices(2))
                await stream.write(records_pb2.PushRecordsRequest(batch=batch))
            await stream.done_writing()
            acked: list[int] = []
            try:
                while (response := await stream.read()) is not grpc.aio.EOF:
                    acked.append(response.ack.sequence)
            except grpc.aio.AioRpcError as error:
                return ready, acked, refusal_of(error).reason
            return ready, acked, ""

    assert await opened(1, 2, 4) == (0, [1, 2], "OUT_OF_SEQUENCE")
    assert await opened(3) == (2, [3], "")


async def test_a_stream_without_a_header_is_refused(town: Town) -> None:
    async with grpc.aio.insecure_channel(town.platform.gateway) as channel:
        call: Any = channel.stream_stream("/puhui.datashare.v1.RecordService/PushRecords")
        stream = call(metadata=tuple(bearer(town.key("tax")).items()), timeout=20)
        batch = records_pb2.PushBatch(sequence=1)
        await stream.write(records_pb2.PushRecordsRequest(batch=batch).SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stream.read()
    assert refusal_of(refusal.value).reason == "HEADER_EXPECTED"


async def test_a_revoked_key_is_refused_within_seconds(town: Town) -> None:
    async with town.client("operator") as operator:
        key = await operator.issue_key(town.people["other_bank"].participant_id)
        body = {"subject": {"uscc": USCC}}
        headers = bearer(key.api_key)
        before = await over_http(town, REQUEST, body, headers)
        assert isinstance(before, Refusal)
        assert before.reason == "FIELD_INVALID"
        await operator.revoke_key(key.key_id)
        async with asyncio.timeout(10):
            while True:
                answer = await over_http(town, REQUEST, body, headers)
                assert isinstance(answer, Refusal)
                if answer.reason == "CREDENTIALS_INVALID":
                    break
                await asyncio.sleep(0.1)


async def test_a_suspended_bank_is_refused_at_once_on_every_fetch(
    town: Town, consents: Consents
) -> None:
    rpc, body = fetch()
    bank = town.people["bank"].participant_id
    async with town.client("operator") as operator:
        await operator.set_standing(bank, "SUSPENDED")
        try:
            answer = await over_grpc(town, rpc, body(town, consents), bearer(town.key("bank")))
        finally:
            await operator.set_standing(bank, "ACTIVE")
    assert isinstance(answer, Refusal)
    assert answer.reason == "PARTICIPANT_SUSPENDED"
