import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from services.gateway.clients import ASSERTION_TYPE, ClientAssertions
from services.gateway.directory import Client
from services.gateway.http.server import PEER
from services.gateway.oauth import TOKEN_PATH, TokenEndpoint
from services.gateway.state.buckets import MemoryBuckets
from services.gateway.state.replays import MemoryReplays
from services.gateway.tokens import AccessTokens
from services.kit.calls import Peer
from services.kit.clock import FixedClock
from services.kit.errors import PuhuiError, UnavailableError
from services.kit.identity import Caller, new_key_pair

ISSUER = "https://gateway.example"
ASKED = {
    "grant_type": "client_credentials",
    "client_assertion_type": ASSERTION_TYPE,
    # {"alg":"ES256"}.{"iss":"par_1","sub":"par_1"}
    "client_assertion": "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJwYXJfMSIsInN1YiI6InBhcl8xIn0.AA",
}


class Entrance:
    """The token endpoint, and who is at the other end of the connection."""

    def __init__(self) -> None:
        self.clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.peer: Peer | None = Peer("mine")
        self.refused: list[str] = []
        self.found = Client(Caller("par_1", "BANK"), frozenset(), {})
        self.error: PuhuiError | None = None
        tokens = AccessTokens(new_key_pair()[0], (), ISSUER, self.clock)
        clients = ClientAssertions(self.find, MemoryReplays(self.clock), ISSUER, self.clock)
        endpoint = TokenEndpoint(tokens, clients, MemoryBuckets(), self.note, self.clock)
        self.app = Starlette(routes=endpoint.routes())

    async def find(self, participant_id: str) -> Client:
        if self.error:
            raise self.error
        return self.found

    def note(self, method: str, caller: Caller | None, error: PuhuiError) -> None:
        self.refused.append(error.message)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told: dict[str, Any] = {PEER: self.peer} if self.peer else {}
        await self.app({**scope, "extensions": told}, receive, send)


@pytest.fixture
def entrance() -> Entrance:
    return Entrance()


@pytest.fixture
async def http(entrance: Entrance) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=entrance)
    async with httpx2.AsyncClient(transport=transport, base_url=ISSUER) as client:
        yield client


async def test_who_asks_for_tokens_without_end_is_told_to_wait(
    entrance: Entrance, http: httpx2.AsyncClient
) -> None:
    for _ in range(200):
        assert (await http.post(TOKEN_PATH, data=ASKED)).status_code == 401
    answer = await http.post(TOKEN_PATH, data=ASKED)
    assert (answer.status_code, answer.json()["error"]) == (429, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    entrance.peer = Peer("another")
    assert (await http.post(TOKEN_PATH, data=ASKED)).status_code == 401
    entrance.peer = Peer("mine")
    entrance.clock.advance(timedelta(seconds=1))
    assert (await http.post(TOKEN_PATH, data=ASKED)).status_code == 401


async def test_while_datashare_does_not_answer_clients_are_told_to_come_back(
    entrance: Entrance, http: httpx2.AsyncClient
) -> None:
    entrance.error = UnavailableError("UNAVAILABLE", "a service does not answer")
    answer = await http.post(TOKEN_PATH, data=ASKED)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert not entrance.refused


async def test_refusals_are_noted(entrance: Entrance, http: httpx2.AsyncClient) -> None:
    entrance.peer = None
    answer = await http.post(TOKEN_PATH, data=ASKED)
    assert answer.status_code == 401
    assert entrance.refused == [answer.json()["error_description"]]


async def test_a_body_that_does_not_come_is_not_waited_for(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.oauth.BODY_SECONDS", 0.01)
    form = (b"content-type", b"application/x-www-form-urlencoded")
    scope = {
        "type": "http", "method": "POST", "path": TOKEN_PATH, "raw_path": TOKEN_PATH.encode(),
        "query_string": b"", "headers": [form, (b"host", b"gateway.example")], "scheme": "https",
    }  # fmt: skip  # a table, line by line
    told: list[Message] = []
    first = [{"type": "http.request", "body": b"grant_type=", "more_body": True}]

    async def receive() -> Message:
        return first.pop() if first else await asyncio.Future()

    async def send(message: Message) -> None:
        told.append(message)

    await entrance(scope, receive, send)
    assert told[0]["status"] == 408
    assert b"did not come" in told[1]["body"]
    assert len(entrance.refused) == 1
