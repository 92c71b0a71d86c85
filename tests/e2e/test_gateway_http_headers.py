"""What HTTP adds to the RPCs: conditions, pages, keys of writes, encodings, events, bounds."""

import asyncio
import gzip
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from services.gateway.http import asgi, protocol
from services.gateway.http.headers import MAX_HEADER_BYTES, MAX_TARGET_BYTES
from services.kit.client import MAX_MESSAGE_BYTES
from tests.e2e.gateway import Entrance, entrance, eventually
from tests.e2e.test_gateway_http import bearer, problem


@pytest.fixture
async def world() -> AsyncIterator[Entrance]:
    async with entrance() as made:
        yield made


async def exchanged(world: Entrance, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes on a connection of their own and return what comes until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.http_port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    told = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), told, body


# Conditions


async def test_an_answer_that_the_client_has_is_not_sent_again(world: Entrance) -> None:
    headers = bearer(world.key("FIRM", subject_id="sub_1"))
    first = await world.http.get("/v1/consents/con_7", headers=headers)
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[\w-]{24}"', tag)
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"] == "authorization, accept-encoding"
    for condition in (tag, f'"other", W/{tag}', "*"):
        seen = await world.http.get(
            "/v1/consents/con_7", headers=headers | {"if-none-match": condition}
        )
        assert (seen.status_code, seen.content) == (304, b"")
        assert (seen.headers["etag"] == tag) or condition == "*"
        assert seen.headers["cache-control"] == "private, no-cache"
    other = await world.http.get("/v1/consents/con_8", headers=headers | {"if-none-match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag
    head = await world.http.head("/v1/consents/con_7", headers=headers)
    assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")
    assert head.headers["content-length"] == first.headers["content-length"]


async def test_a_condition_never_spares_a_check(world: Entrance) -> None:
    key = world.key("FIRM", subject_id="sub_1")
    first = await world.http.get("/v1/consents/con_7", headers=bearer(key))
    condition = {"if-none-match": first.headers["etag"]}
    await world.http.get("/v1/consents/con_7", headers=bearer(key) | condition)
    assert len(world.backend.notes.calls) == 2
    stranger = await world.http.get("/v1/consents/con_7", headers=condition)
    problem(stranger, 401, "CREDENTIALS_MISSING")
    bank = bearer(world.key("PROVIDER")) | condition
    problem(await world.http.get("/v1/consents/con_7", headers=bank), 403, "ROLE_NOT_ALLOWED")


async def test_a_write_and_a_problem_are_never_kept(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    order = {"requestId": "r", "subjectId": "s", "purpose": "p"}
    written = await world.http.post("/v1/scores", headers=headers, json={"order": order})
    assert written.headers["cache-control"] == "no-store"
    assert "etag" not in written.headers
    refused = await world.http.get("/v1/consents?x=1", headers=headers)
    assert refused.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["if-match", "if-unmodified-since"])
async def test_a_write_under_a_condition_is_refused(world: Entrance, name: str) -> None:
    headers = bearer(world.key("BANK")) | {name: '"x"'}
    response = await world.http.post("/v1/scores", headers=headers, json={})
    problem(response, 400, "MALFORMED_MESSAGE")
    assert world.backend.notes.calls == []


# Pages


async def test_links_lead_through_a_list(world: Entrance) -> None:
    world.backend.consents.pages = 3
    headers = bearer(world.key("BANK"))
    found, address = [], "/v1/consents?state=CONSENT_STATE_ACTIVE&pageSize=1"
    first = address
    while address:
        response = await world.http.get(address, headers=headers)
        found.append(response.json()["consents"][0]["consentId"])
        assert response.links["first"]["url"] == first
        address = response.links.get("next", {}).get("url", "")
    assert found == ["con_0", "con_1", "con_2"]
    tokens = [seen.request.page_token for seen in world.backend.notes.calls]
    states = {seen.request.state for seen in world.backend.notes.calls}
    assert (tokens, states) == (["", "1", "2"], {2})
    one = await world.http.get("/v1/consents/con_1", headers=headers)
    assert "link" not in one.headers


# Keys of writes


@pytest.mark.parametrize(
    ("header", "taken"), [('""', None), ('"k-1 \\"a\\""', 'k-1 "a"'), ("k-1", "k-1")]
)
async def test_an_idempotency_key_is_the_request_id(
    world: Entrance, header: str, taken: str | None
) -> None:
    firm = bearer(world.key("FIRM", subject_id="sub_1")) | {"idempotency-key": header}
    bank = bearer(world.key("BANK")) | {"idempotency-key": header}
    answers = [
        await world.http.post("/v1/consents/con_1:withdraw", headers=firm, json={}),
        await world.http.post(
            "/v1/scores", headers=bank, json={"order": {"subjectId": "s", "purpose": "p"}}
        ),
        await world.http.post(
            "/v1/subjects/sub_1/summary:fetch", headers=bank, json={"fetch": {"purpose": "p"}}
        ),
    ]
    if taken is None:
        for answer in answers:
            problem(answer, 400, "FIELD_INVALID")
        return
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    withdraw, score, fetch = (seen.request for seen in world.backend.notes.calls)
    assert (withdraw.request_id, score.order.request_id, fetch.fetch.request_id) == (taken,) * 3


async def test_an_idempotency_key_and_a_request_id_must_agree(world: Entrance) -> None:
    headers = bearer(world.key("BANK")) | {"idempotency-key": "k-1"}
    order = {"subjectId": "s", "purpose": "p", "requestId": "k-1"}
    response = await world.http.post("/v1/scores", headers=headers, json={"order": order})
    assert response.status_code == 200
    order["requestId"] = "k-2"
    response = await world.http.post("/v1/scores", headers=headers, json={"order": order})
    told = problem(response, 400, "FIELD_INVALID")
    assert told["fields"] == [
        {
            "field": "order.request_id",
            "problem": "differs from the one in the idempotency-key header: leave it out",
        }
    ]
    twice = [*headers.items(), ("idempotency-key", "k-2")]
    response = await world.http.post("/v1/scores", headers=twice, json={"order": {}})
    problem(response, 400, "FIELD_INVALID")
    long = headers | {"idempotency-key": "k" * 65}
    del order["requestId"]
    response = await world.http.post("/v1/scores", headers=long, json={"order": order})
    assert problem(response, 400, "FIELD_INVALID")["fields"][0]["field"] == "order.request_id"


# Verbs, kinds and sizes


async def test_options_tells_the_verbs_to_anybody(world: Entrance) -> None:
    for path, allow in (
        ("/v1/participants", "GET, HEAD, OPTIONS, POST"),
        ("/v1/scores", "OPTIONS, POST"),
        ("/v1/notices:stream", "GET, OPTIONS"),
    ):
        response = await world.http.options(path)
        assert (response.status_code, response.headers["allow"]) == (204, allow)
        assert "access-control-allow-origin" not in response.headers
        other = await world.http.request("TRACE", path)
        problem(other, 405, "UNKNOWN_METHOD")
        assert other.headers["allow"] == allow
    problem(await world.http.options("/v1/nothing"), 404, "UNKNOWN_METHOD")
    problem(await world.http.post("/docs"), 405, "UNKNOWN_METHOD")


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ("", True),
        ("*/*", True),
        ("application/*;q=0.1", True),
        ("text/html, application/json;q=0.9", True),
        ("nonsense", True),
        ("text/html", False),
        ("application/json;q=0, */*", False),
        ("application/problem+json", False),
        ("text/event-stream", False),
    ],
)
async def test_an_answer_of_another_kind_is_not_promised(
    world: Entrance, accept: str, taken: bool
) -> None:
    headers = bearer(world.key("BANK")) | {"accept": accept}
    response = await world.http.get("/v1/consents", headers=headers)
    if taken:
        assert response.status_code == 200
    else:
        assert "application/json" in problem(response, 406, "MALFORMED_MESSAGE")["detail"]


@pytest.mark.parametrize(
    "kind", ["text/json", "application/json; charset=utf-16", "application/xml", ""]
)
async def test_a_body_of_another_kind_is_refused(world: Entrance, kind: str) -> None:
    headers = bearer(world.key("BANK")) | {"content-type": kind}
    response = await world.http.post("/v1/scores", headers=headers, content=b"{}")
    problem(response, 415, "MALFORMED_MESSAGE")
    assert response.headers["accept"] == "application/json"


async def test_a_long_address_and_a_large_head_are_refused(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    response = await world.http.get(
        "/v1/consents", headers=headers, params={"pageToken": "x" * MAX_TARGET_BYTES}
    )
    problem(response, 414, "MALFORMED_MESSAGE")
    response = await world.http.get(
        "/v1/consents", headers=headers | {"x-much": "x" * (MAX_HEADER_BYTES + 1)}
    )
    problem(response, 431, "MALFORMED_MESSAGE")
    # Also one that never ends.
    head = b"GET /v1/consents HTTP/1.1\r\nhost: x\r\nx-much: " + b"x" * 10 * MAX_HEADER_BYTES
    status, told, body = await exchanged(world, head)
    assert (status, told["content-type"]) == (431, "application/problem+json")
    assert json.loads(body)["status"] == 431


@pytest.mark.parametrize(
    "request_",
    [
        b"no HTTP\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"GET /v1/whoami HTTP/1.1\r\n\r\n",
        b"GET /v1/whoami HTTP/1.1\r\nhost: x\r\nbad header: x\r\n\r\n",
        b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/scores HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ],
    ids=["words", "TLS", "no host", "a name with a space", "two lengths", "a negative length"],
)
async def test_what_is_no_request_gets_a_problem(world: Entrance, request_: bytes) -> None:
    status, told, body = await exchanged(world, request_)
    assert (status, told["content-type"]) == (400, "application/problem+json")
    assert told["connection"] == "close"
    assert json.loads(body)["reason"] == "MALFORMED_MESSAGE"


async def test_a_head_that_does_not_come_is_not_waited_for(
    world: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)
    for start in (b"", b"GET /v1/who"):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.http_port)
        writer.write(start)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_an_announced_body_that_is_too_large_is_not_read(world: Entrance) -> None:
    key = world.key("PROVIDER")
    length = MAX_MESSAGE_BYTES + 1
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.http_port)
    head = f"POST /v1/records:submit HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}"
    writer.write(f"{head}\r\ncontent-length: {length}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_every_response_tells_browsers_to_keep_off(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    for response in (
        await world.http.get("/v1/whoami", headers=headers),
        await world.http.get("/v1/whoami"),
        await world.http.get("/openapi.json"),
        await world.http.get("/nothing"),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers


# Encodings


async def test_a_large_answer_comes_in_gzip_to_who_takes_it(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    world.backend.consents.subject_id = "x" * 5_000
    plain = await world.http.get("/v1/consents", headers=headers | {"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    zipped = await world.http.get("/v1/consents", headers=headers | {"accept-encoding": "br, gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < 500
    assert zipped.json() == plain.json()
    assert zipped.headers["etag"] == plain.headers["etag"].rstrip('"') + '-gzip"'
    for tag in (zipped.headers["etag"], plain.headers["etag"]):
        seen = await world.http.get("/v1/consents", headers=headers | {"if-none-match": tag})
        assert (seen.status_code, seen.headers["etag"]) == (304, tag)
    small = await world.http.get("/v1/consents/con_1", headers=headers)
    assert "content-encoding" not in small.headers


async def test_a_body_in_gzip_is_taken(world: Entrance) -> None:
    rows = {"records": [{"providerRecordId": f"{number}"} for number in range(900)]}
    headers = bearer(world.key("PROVIDER")) | {
        "content-type": "application/json",
        "content-encoding": "gzip",
    }
    body = gzip.compress(json.dumps(rows).encode())
    response = await world.http.post("/v1/records:submit", headers=headers, content=body)
    assert len(response.json()["ack"]["accepted"]) == 900


BOMB = gzip.compress(b" " * 400 * 1024 * 1024)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (BOMB, 413, "BATCH_TOO_LARGE"),
        (b"{}", 400, "MALFORMED_MESSAGE"),
        (gzip.compress(b"{}")[:-4], 400, "MALFORMED_MESSAGE"),
        (gzip.compress(b"{}") + b"more", 400, "MALFORMED_MESSAGE"),
        (b"", 400, "MALFORMED_MESSAGE"),
    ],
    ids=["a bomb", "plain", "a part", "more behind it", "nothing"],
)
async def test_a_body_that_is_no_sound_gzip_is_refused(
    world: Entrance, body: bytes, status: int, reason: str
) -> None:
    headers = bearer(world.key("PROVIDER")) | {
        "content-type": "application/json",
        "content-encoding": "gzip",
    }
    response = await world.http.post("/v1/records:submit", headers=headers, content=body)
    problem(response, status, reason)
    assert world.backend.notes.calls == []


async def test_another_encoding_is_refused_with_those_that_are_known(world: Entrance) -> None:
    headers = bearer(world.key("PROVIDER")) | {
        "content-type": "application/json",
        "content-encoding": "br",
    }
    response = await world.http.post("/v1/records:submit", headers=headers, content=b"{}")
    problem(response, 415, "MALFORMED_MESSAGE")
    assert response.headers["accept-encoding"] == "gzip, identity"


# Events


async def test_events_have_ids_from_which_a_stream_goes_on(world: Entrance) -> None:
    headers = bearer(world.key("FIRM")) | {"accept": "text/event-stream"}
    first = await world.http.get("/v1/notices:stream", headers=headers)
    assert re.findall(r"^id: (.*)$", first.text, re.MULTILINE) == ["1", "2", "3"]
    assert first.text.endswith("event: end\ndata: {}\n\n")
    again = await world.http.get(
        "/v1/notices:stream?cursor=1", headers=headers | {"last-event-id": "2"}
    )
    assert re.findall(r"^id: (.*)$", again.text, re.MULTILINE) == ["3", "4", "5"]
    assert [seen.request.cursor for seen in world.backend.notes.calls] == ["", "2"]
    assert (await world.http.head("/v1/notices:stream", headers=headers)).status_code == 405


async def test_a_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "HEARTBEAT_SECONDS", 0.05)
    async with entrance() as world:
        order = {"requestId": "r", "subjectId": "s", "purpose": "p", "consentId": "wait"}
        request = world.http.stream(
            "POST", "/v1/scores:batch", headers=bearer(world.key("BANK")), json={"orders": [order]}
        )
        async with request as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(4)] == [":", "", ":", ""]
            world.backend.notes.go_on.set()
            rest = [line async for line in lines]
    assert any(line.startswith("data: ") for line in rest)
    assert "event: end" in rest


async def test_a_reader_that_is_slow_holds_the_stream_back(world: Entrance) -> None:
    key = world.key("FIRM")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.gateway.http_port, limit=64 * 1024
    )
    head = "GET /v1/notices:stream?cursor=flood HTTP/1.1\r\nhost: x"
    writer.write(f"{head}\r\nauthorization: Bearer {key}\r\n\r\n".encode())
    told = await settled(world)
    assert 0 < told < 400  # of 100 kB each, and kernels hold some
    for _ in range(800):
        await reader.read(100_000)
    assert world.backend.notices.told > told
    writer.close()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)


async def settled(world: Entrance) -> int:
    """Wait until no more is told, and return how much was."""
    await eventually(lambda: world.backend.notices.told > 0)
    until, told = time.monotonic() + 10, -1
    while told != world.backend.notices.told and time.monotonic() < until:
        told = world.backend.notices.told
        await asyncio.sleep(0.3)
    return told


# Problems


async def test_a_problem_says_what_the_status_of_grpc_says(world: Entrance) -> None:
    firm = bearer(world.key("FIRM", subject_id="sub_1"))
    told: Any = (await world.http.get("/v1/consents/con_expired", headers=firm)).json()
    assert (told["code"], told["retryable"]) == ("FAILED_PRECONDITION", False)
    assert len(told["traceId"]) == 32
    page = await world.http.get(told["type"])
    assert f'id="{told["reason"]}"' in page.text


async def test_a_service_that_is_away_is_worth_another_try(world: Entrance) -> None:
    headers = bearer(world.key("BANK"))
    await world.http.get("/v1/whoami", headers=headers)
    await world.backend.scoring.stop()
    order = {"requestId": "r", "subjectId": "s", "purpose": "p"}
    response: httpx2.Response = await world.http.post(
        "/v1/scores", headers=headers, json={"order": order}
    )
    told = problem(response, 503, "UNAVAILABLE")
    assert (told["retryable"], told["retryAfterSeconds"]) == (True, 1)
    assert response.headers["retry-after"] == "1"
