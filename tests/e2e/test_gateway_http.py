"""The gateway over real HTTP: the same RPCs, reasons and rules as over gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.kit.calls import Timeouts
from services.kit.client import MAX_MESSAGE_BYTES
from tests.e2e.gateway import Entrance, entrance, eventually
from tests.fakes.policies import bounded

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def world() -> AsyncIterator[Entrance]:
    async with entrance() as made:
        yield made


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def problem(response: httpx2.Response, status: int, reason: str) -> dict[str, Any]:
    """Check that a response is a problem, and return it."""
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["status"], told["reason"]) == (status, status, reason), told
    assert told["type"] == f"/docs#{reason}"
    assert told["detail"]
    assert told["title"]
    assert told["code"]
    assert told["retryable"] == ("retry-after" in response.headers)
    return told


async def test_who_am_i(world: Entrance) -> None:
    response = await world.http.get("/v1/whoami", headers=bearer(world.key("BANK", "par_bank")))
    assert response.status_code == 200
    assert response.headers["cache-control"] == "private, no-cache"
    who = response.json()
    assert (who["participantId"], who["role"]) == ("par_bank", "ROLE_BANK")
    assert "puhui.scoring.v1.ScoringService/Score" in who["methods"]


# What is passed on


async def test_a_body_in_camel_case_or_as_in_the_proto_is_taken(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    for order in (
        {"requestId": "r", "subjectId": "s", "purpose": "p", "asOf": "2026-01-31T08:00:00Z"},
        {"request_id": "r", "subject_id": "s", "purpose": "p", "as_of": "2026-01-31T08:00:00Z"},
    ):
        response = await world.http.post("/v1/scores", headers=headers, json={"order": order})
        assert response.status_code == 200
        decision = response.json()["decision"]
        assert (decision["score"], decision["pd"], decision["reasons"]) == (600, 0.02, [])
    for seen in world.backend.notes.calls:
        assert seen.request.order.as_of.seconds == 1769846400


async def test_variables_of_the_path_reach_their_fields(world: Entrance) -> None:
    bank, firm = bearer(world.key("BANK")), bearer(world.key("FIRM", subject_id="sub_1"))
    fetch = {"fetch": {"requestId": "r", "purpose": "p", "recordTypes": ["vat_invoice"]}}
    response = await world.http.post("/v1/subjects/sub%2F1/summary:fetch", headers=bank, json=fetch)
    assert response.json()["accessId"] == "acc_1"
    assert world.backend.notes.calls[-1].request.fetch.subject_id == "sub/1"

    response = await world.http.post(
        "/v1/consents/con_7:withdraw", headers=firm, json={"requestId": "r", "note": "enough"}
    )
    assert response.status_code == 200
    assert world.backend.notes.calls[-1].request.consent_id == "con_7"

    response = await world.http.get("/v1/consents/con_7", headers=firm)
    assert response.json()["consent"]["consentId"] == "con_7"


async def test_a_variable_that_the_body_contradicts_is_refused(world: Entrance) -> None:
    response = await world.http.post(
        "/v1/consents/con_7:withdraw",
        headers=bearer(world.key("FIRM", subject_id="sub_1")),
        json={"requestId": "r", "consentId": "con_8"},
    )
    told = problem(response, 400, "FIELD_INVALID")
    assert told["fields"][0]["field"] == "consent_id"


async def test_a_query_becomes_the_message(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    query = {"state": "CONSENT_STATE_ACTIVE", "pageSize": "7", "page_token": "t"}
    response = await world.http.get("/v1/consents", headers=headers, params=query)
    assert response.status_code == 200
    request = world.backend.notes.calls[-1].request
    assert (request.state, request.page_size, request.page_token) == (2, 7, "t")
    response = await world.http.head("/v1/consents", headers=headers)
    assert (response.status_code, response.content) == (200, b"")


async def test_the_service_sees_the_caller_and_the_trace_and_nothing_else(world: Entrance) -> None:
    headers = bearer(world.key("BANK", "par_bank")) | {
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "x-puhui-identity": "forged",
        "x-puhui-role": "OPERATOR",
    }
    await world.http.get("/v1/consents", headers=headers)
    [seen] = world.backend.notes.calls
    assert (seen.caller.participant_id, seen.caller.role) == ("par_bank", "BANK")
    assert TRACE in seen.metadata["traceparent"]
    assert "x-puhui-role" not in seen.metadata


# Refusals


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "CREDENTIALS_MISSING"),
        ({"x-puhui-identity": "forged"}, "CREDENTIALS_MISSING"),
        ({"authorization": "Bearer key_1.wrong"}, "CREDENTIALS_INVALID"),
        ({"authorization": "Basic x"}, "CREDENTIALS_INVALID"),
    ],
)
async def test_without_a_right_key_nobody_gets_in(
    world: Entrance, headers: dict[str, str], reason: str
) -> None:
    world.key("BANK")
    response = await world.http.post("/v1/scores", headers=headers, content=b"not even JSON")
    problem(response, 401, reason)
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_role_that_the_method_does_not_name_is_refused(world: Entrance) -> None:
    response = await world.http.post(
        "/v1/records:submit", headers=bearer(world.key("REGULATOR")), json={}
    )
    problem(response, 403, "ROLE_NOT_ALLOWED")
    assert world.backend.notes.calls == []


async def test_what_there_is_not_is_not_found(world: Entrance) -> None:
    headers = bearer(world.key("OPERATOR"))
    for path in ("/v1/nothing", "/", "/v1/consents/a/b", "/v1/consents/a:no", "/v1/consents/%ff"):
        problem(await world.http.get(path, headers=headers), 404, "UNKNOWN_METHOD")
    response = await world.http.delete("/v1/participants", headers=headers)
    problem(response, 405, "UNKNOWN_METHOD")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_internal_methods_have_no_path(world: Entrance) -> None:
    headers = bearer(world.key("OPERATOR"))
    for service, method in (
        ("puhui.datashare.v1.ParticipantService", "VerifyKey"),
        ("puhui.datashare.v1.AccessService", "BatchFetchSummaries"),
        ("puhui.common.v1.RelayService", "Relay"),
    ):
        response = await world.http.post(f"/{service}/{method}", headers=headers, json={})
        problem(response, 404, "UNKNOWN_METHOD")


@pytest.mark.parametrize(
    ("body", "reason", "fields"),
    [
        (b"{", "MALFORMED_MESSAGE", []),
        (b"[]", "MALFORMED_MESSAGE", []),
        (b'"x"', "MALFORMED_MESSAGE", []),
        (b"null", "MALFORMED_MESSAGE", []),
        (b"[" * 100_000, "MALFORMED_MESSAGE", []),
        (b'{"order": {"colour": 1}}', "FIELD_INVALID", ["order.colour"]),
        (b'{"order": {"asOf": "yesterday"}}', "FIELD_INVALID", ["order.as_of"]),
        (b'{"order": {"requestId": 5}, "x": 1}', "FIELD_INVALID", ["order.request_id", "x"]),
        (b'{"order": "text"}', "FIELD_INVALID", ["order"]),
    ],
)
async def test_json_that_is_not_the_message_is_refused_with_its_fields(
    world: Entrance, body: bytes, reason: str, fields: list[str]
) -> None:
    headers = bearer(world.key("BANK")) | {"content-type": "application/json; charset=utf-8"}
    response = await world.http.post("/v1/scores", headers=headers, content=body)
    told = problem(response, 400, reason)
    assert [each["field"] for each in told["fields"]] == fields
    assert "yesterday" not in response.text


async def test_a_wrong_type_in_a_row_is_named_with_its_place(world: Entrance) -> None:
    rows = [{"providerRecordId": "a"}, {"socialInsurance": {"headcount": "many"}}]
    response = await world.http.post(
        "/v1/records:submit", headers=bearer(world.key("PROVIDER")), json={"records": rows}
    )
    told = problem(response, 400, "FIELD_INVALID")
    assert told["fields"] == [
        {
            "field": "records[1].social_insurance.headcount",
            "problem": "must be a whole number within its range",
        }
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("colour=1", "colour"),
        ("pageSize=many", "page_size"),
        ("state=NONE", "state"),
        ("pageSize=1&page_size=2", "page_size"),
        ("a%00b=1", "(not a name)"),
    ],
)
async def test_a_wrong_parameter_is_named(world: Entrance, query: str, field: str) -> None:
    response = await world.http.get(f"/v1/consents?{query}", headers=bearer(world.key("BANK")))
    told = problem(response, 400, "FIELD_INVALID")
    assert [each["field"] for each in told["fields"]] == [field]


async def test_a_form_is_not_taken_for_json(world: Entrance) -> None:
    response = await world.http.post(
        "/v1/scores", headers=bearer(world.key("BANK")), data={"order": "x"}
    )
    told = problem(response, 415, "MALFORMED_MESSAGE")
    assert "application/json" in told["detail"]


async def test_errors_of_the_service_have_their_status_fields_and_trace(world: Entrance) -> None:
    headers = bearer(world.key("FIRM", subject_id="sub_1"))
    headers["traceparent"] = f"00-{TRACE}-b7ad6b7169203331-01"
    response = await world.http.post(
        "/v1/consents/con_1:withdraw", headers=headers, json={"requestId": "r", "note": "refuse"}
    )
    told = problem(response, 400, "FIELD_INVALID")
    assert told["fields"] == [{"field": "terms.record_types[2]", "problem": "is unknown"}]
    assert told["traceId"] == TRACE

    response = await world.http.get("/v1/consents/con_expired", headers=headers)
    problem(response, 400, "CONSENT_EXPIRED")

    response = await world.http.post(
        "/v1/consents/con_1:withdraw", headers=headers, json={"note": "x" * 501}
    )
    told = problem(response, 400, "FIELD_INVALID")
    assert [each["field"] for each in told["fields"]] == ["request_id", "note"]


async def test_a_fault_tells_only_its_trace(world: Entrance) -> None:
    response = await world.http.post(
        "/v1/subjects:resolve", headers=bearer(world.key("BANK")), json={"uscc": "fault"}
    )
    told = problem(response, 500, "INTERNAL")
    assert len(told["traceId"]) == 32
    assert "ValueError" not in response.text


async def test_too_large_a_body_is_refused(world: Entrance) -> None:
    body = json.dumps({"records": [], "padding": "x" * MAX_MESSAGE_BYTES}).encode()
    headers = bearer(world.key("PROVIDER")) | {"content-type": "application/json"}
    response = await world.http.post("/v1/records:submit", headers=headers, content=body)
    problem(response, 413, "BATCH_TOO_LARGE")


async def test_a_body_that_does_not_come_meets_the_deadline() -> None:
    async with entrance(timeouts=Timeouts(default=0.3)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.http_port)
        head = f"POST /v1/scores HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key('BANK')}"
        writer.write(f"{head}\r\ncontent-length: 10\r\n\r\n{{".encode())
        status = await asyncio.wait_for(reader.readline(), 5)
        assert status.startswith(b"HTTP/1.1 504 ")
        writer.close()


async def test_the_body_of_a_stranger_is_not_waited_for(world: Entrance) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.http_port)
    writer.write(b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), 5)
    assert status.startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_flood_gets_a_time_to_try_again(tmp_path: Path) -> None:
    async with entrance(policy=bounded(tmp_path, par_1={"concurrent": 1})) as world:
        headers = bearer(world.key("BANK"))

        async def resolve(uscc: str) -> httpx2.Response:
            return await world.http.post(
                "/v1/subjects:resolve", headers=headers, json={"uscc": uscc}
            )

        running = asyncio.create_task(resolve("wait"))
        await eventually(lambda: len(world.backend.notes.calls) == 1)
        response = await resolve("a")
        problem(response, 429, "OVERLOADED")
        assert response.headers["retry-after"] == "1"
        world.backend.notes.go_on.set()
        assert (await running).json() == {"subjectId": "sub_wait"}


# Streams


def portfolio(*consents: str) -> dict[str, Any]:
    order = {"requestId": "r", "subjectId": "s", "purpose": "p"}
    return {"orders": [{**order, "consentId": consent} for consent in consents]}


async def events(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    name = "message"
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def test_a_stream_comes_as_events_and_an_error_ends_it(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    request = world.http.stream(
        "POST", "/v1/scores:batch", headers=headers, json=portfolio("a", "b", "fail", "c")
    )
    async with request as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        found = [event async for event in events(response)]
    assert [name for name, _ in found] == ["message", "message", "error"]
    assert [data["index"] for _, data in found[:2]] == [0, 1]
    assert found[2][1]["reason"] == "MODEL_NOT_FOUND"
    assert found[2][1]["status"] == 400


async def test_events_come_when_they_are_ready(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    request = world.http.stream(
        "POST", "/v1/scores:batch", headers=headers, json=portfolio("a", "wait")
    )
    async with request as response:
        found = events(response)
        assert (await anext(found))[1]["index"] == 0
        world.backend.notes.go_on.set()
        assert (await anext(found))[1]["index"] == 1


async def test_a_stream_refused_at_once_is_a_problem(world: Entrance) -> None:
    response = await world.http.post(
        "/v1/scores:batch", headers=bearer(world.key("BANK")), json=portfolio("fail")
    )
    problem(response, 400, "MODEL_NOT_FOUND")
    response = await world.http.post(
        "/v1/scores:batch", headers=bearer(world.key("FIRM")), json=portfolio("a")
    )
    problem(response, 403, "ROLE_NOT_ALLOWED")
    response = await world.http.post(
        "/v1/scores:batch", headers=bearer(world.key("BANK")), json={"orders": []}
    )
    assert problem(response, 400, "FIELD_INVALID")["fields"][0]["field"] == "orders"


@pytest.mark.parametrize("consents", [("wait",), ("a", "wait")])
async def test_a_client_that_goes_away_ends_the_stream(
    world: Entrance, consents: tuple[str, ...]
) -> None:
    async def read() -> None:
        headers = bearer(world.key("BANK"))
        request = world.http.stream(
            "POST", "/v1/scores:batch", headers=headers, json=portfolio(*consents)
        )
        async with request as response:
            async for _ in events(response):
                pass

    reading = asyncio.create_task(read())
    await eventually(lambda: bool(world.backend.notes.calls))
    await asyncio.sleep(0.1)
    reading.cancel()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)


# Documents


async def test_the_documents_are_served_to_anybody(world: Entrance) -> None:
    document = (await world.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/subjects/{subject_id}/summary:fetch" in document["paths"]
    response = await world.http.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert "/v1/scores:batch" in response.text
    assert 'id="CONSENT_EXPIRED"' in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "//" not in response.text.replace("<!doctype html>", "").replace("http://", "")
