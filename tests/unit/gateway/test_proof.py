import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import jws
from services.gateway.clients import Proved
from services.gateway.directory import Client, Clients, Persons
from services.gateway.issuers import Issuers
from services.gateway.jws import RefusedTokenError
from services.gateway.proof import Proof
from services.gateway.tokens import LIFE, AccessTokens
from services.kit.calls import Call, Peer
from services.kit.clock import FixedClock
from services.kit.errors import UnauthenticatedError
from services.kit.identity import Caller, new_key_pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER = "https://gateway.example"
BANK = Caller("par_bank", "BANK")
PROVED = Proved("par_bank", "thumbprint", "cre_1")


class Directory:
    """Knows one bank."""

    def __init__(self) -> None:
        self.held = {"cre_1": object()}

    async def client(self, participant_id: str) -> Any:
        return Client(BANK, frozenset({"thumbprint"}), dict(self.held))  # type: ignore[arg-type]  # keys are only named here

    async def person(self, issuer: str, subject: str) -> Caller:
        raise UnauthenticatedError("CREDENTIALS_INVALID", "nobody")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


def tokens(clock: FixedClock, private: str = "", public: tuple[str, ...] = ()) -> AccessTokens:
    return AccessTokens(private or new_key_pair()[0], public, ISSUER, clock)


def called(token: str) -> Call:
    return Call({"authorization": f"Bearer {token}"}, peer=Peer("thumbprint"))


async def test_a_stream_outlives_its_token_and_not_its_credentials(clock: FixedClock) -> None:
    directory: Any = Directory()
    issued = tokens(clock)
    clients = Clients(directory, clock, timedelta(seconds=5))
    persons = Persons(directory, clock, timedelta(seconds=5))
    proof = Proof(issued, Issuers((), clock), clients, persons, None, clock)
    call = called(issued.issue(PROVED))
    assert await proof.authenticate(call) == BANK
    clock.advance(LIFE)
    with pytest.raises(UnauthenticatedError, match="has expired"):
        await proof.authenticate(call)
    assert await proof.again(call) == BANK
    directory.held.clear()
    clients.forget_participant("par_bank")
    with pytest.raises(UnauthenticatedError, match="no longer valid"):
        await proof.again(call)


async def test_where_api_keys_do_not_count_the_answer_says_so(clock: FixedClock) -> None:
    directory: Any = Directory()
    keep = timedelta(seconds=5)
    proof = Proof(
        tokens(clock),
        Issuers((), clock),
        Clients(directory, clock, keep),
        Persons(directory, clock, keep),
        None,
        clock,
    )
    with pytest.raises(UnauthenticatedError) as refusal:
        await proof.authenticate(called("key_1.secret"))
    assert refusal.value.reason == "API_KEYS_NOT_HERE"


def test_token_keys_change_over_without_a_gap(clock: FixedClock) -> None:
    (old, old_public), (new, new_public) = new_key_pair(), new_key_pair()
    before = tokens(clock, old, (new_public,))
    after = tokens(clock, new, (old_public,))
    at_the_end = tokens(clock, new)
    by_old, by_new = (jws.read(each.issue(PROVED)) for each in (before, after))
    for each in (before, after):
        assert each.verify(by_old).client == PROVED
        assert each.verify(by_new).client == PROVED
    assert at_the_end.verify(by_new).client == PROVED
    with pytest.raises(RefusedTokenError):
        at_the_end.verify(by_old)
    published = {key["kid"] for key in before.key_set()["keys"]}
    assert {by_old.header["kid"], by_new.header["kid"]} == published


def test_tokens_differ(clock: FixedClock) -> None:
    issued = tokens(clock)
    assert issued.issue(PROVED) != issued.issue(PROVED)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda content: content.hex()))
def test_no_text_breaks_the_reader(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", f"eyJhbGciOiJFUzI1NiJ9.{text}."):
        try:
            jws.read(token)
        except RefusedTokenError:
            continue


@pytest.mark.parametrize("kid", [["a"], {"a": 1}, 1, True, None])
def test_a_kid_is_a_text(kid: object) -> None:
    issued = tokens(FixedClock(NOW))
    header = json.dumps({"alg": "Ed25519", "typ": "at+jwt", "kid": kid}).encode()
    start = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    with pytest.raises(RefusedTokenError, match="kid that is no text"):
        issued.verify(jws.read(f"{start}.e30.AA"))


@given(st.data())
def test_one_token_has_one_spelling(data: st.DataObject) -> None:
    clock = FixedClock(NOW)
    issued = tokens(clock)
    token = issued.issue(PROVED)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCXYZabcxyz0189-_=.+/ \n"))
    changed = token[:at] + other + token[at + 1 :]
    if changed != token:
        with pytest.raises(RefusedTokenError):
            issued.verify(jws.read(changed))


@pytest.mark.parametrize(
    "members", [{"kty": "OKP", "crv": "Ed448"}, {"kty": "oct"}, {}, {"d": "x"}]
)
def test_other_keys_are_refused(members: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        jws.verifying_key({**members, "x": secrets.token_urlsafe(57), "k": "a2V5"})
