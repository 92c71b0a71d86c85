"""Claiming a firm by the statement of a verifier, on a platform that is no sandbox."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from puhui.datashare.v1.mandates_pb2 import MANDATE_STATE_ACTIVE, MANDATE_STATE_ENDED, Mandate
from puhui_client import Client, PermissionDeniedError
from services.datashare.mandates.proofs import sandbox_code
from services.datashare.subjects import uscc
from services.sandbox.embedded import Embedded, embedded

ISSUER = "https://licence.example.cn"
KEY = OKPKey.generate_key("Ed25519")
FIRM = uscc.make("91", "110108", "MA0C1A1M")
UNHEARD_OF = uscc.make("91", "110108", "MA0C2A2M")

Try = Callable[[str, str, str], Awaitable[Mandate]]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    folder = tmp_path_factory.mktemp("claims")
    issuers = folder / "issuers.toml"
    issuers.write_text(
        f"audience = 'puhui'\n[issuers.'{ISSUER}']\nhow = 'business_licence'\n"
        f"key = '''{KEY.as_pem(private=False).decode()}'''\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUHUI_DATASHARE_PROOF_ISSUERS", str(issuers))
        patch.setenv("PUHUI_DATASHARE_SANDBOX", "false")
        with embedded(folder) as running:
            yield running


@pytest.fixture
async def accounts(platform: Embedded) -> dict[str, str]:
    """Two accounts of role FIRM that speak for nobody: their keys by their ids."""
    made = {}
    async with Client(platform.gateway, platform.operator_key, timeout=20) as operator:
        for _ in range(2):
            person = await operator.register_participant("FIRM", "a person")
            made[person.participant_id] = (await operator.issue_key(person.participant_id)).api_key
    return made


@pytest.fixture
def claim(platform: Embedded, accounts: dict[str, str]) -> Try:
    async def claim(who: str, firm: str, proof: str) -> Mandate:
        async with Client(platform.gateway, accounts[who], timeout=20) as client:
            return await client.claim_firm(firm, proof)

    return claim


def statement(account: str, jti: str, **changes: Any) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "puhui",
        "iat": now,
        "exp": now + 600,
        "jti": jti,
        "uscc": FIRM,
        "nonce": account,
    }
    return jwt.encode({"alg": "Ed25519"}, claims | changes, KEY, algorithms=["Ed25519"])


async def told(claim: Try, who: str, firm: str, proof: str) -> str:
    with pytest.raises(PermissionDeniedError) as caught:
        await claim(who, firm, proof)
    assert caught.value.reason == "PROOF_INVALID"
    return str(caught.value)


async def test_a_firm_is_claimed_by_its_own_statement_alone(
    platform: Embedded, accounts: dict[str, str], claim: Try
) -> None:
    boss, thief = accounts
    mine = statement(boss, "mine")
    assert "not made for this account" in await told(claim, thief, FIRM, mine)
    assert "another firm" in await told(claim, boss, UNHEARD_OF, mine)
    assert "another platform" in await told(claim, boss, FIRM, statement(boss, "a", aud="b"))
    expired = statement(boss, "b", iat=int(time.time()) - 700, exp=int(time.time()) - 1)
    assert "expired" in await told(claim, boss, FIRM, expired)
    key = bytes.fromhex((platform.data_dir / "keys" / "sandbox-proof.key").read_text().strip())
    assert "no sandbox" in await told(claim, thief, FIRM, sandbox_code(key, FIRM))

    claimed = await claim(boss, FIRM, mine)
    assert (claimed.proved_by, claimed.state) == ("business_licence", MANDATE_STATE_ACTIVE)
    # What is wrong is said alike, whether the platform knows the firm or not.
    forged = f"{mine.rpartition('.')[0]}.{'A' * 86}"
    known = await told(claim, thief, FIRM, forged)
    assert known == await told(claim, thief, UNHEARD_OF, forged)

    async with Client(platform.gateway, accounts[boss], timeout=20) as client:
        ended = await client.end_mandate(claimed.mandate_id)
    assert ended.state == MANDATE_STATE_ENDED
    assert "used before" in await told(claim, boss, FIRM, mine)


async def test_a_statement_that_was_kept_takes_nothing_back(
    accounts: dict[str, str], claim: Try
) -> None:
    former, boss = accounts
    firm = uscc.make("91", "110108", "MA0C3A3M")
    earlier = int(time.time()) - 120
    kept = statement(former, "kept", uscc=firm, iat=earlier, exp=earlier + 1800)
    await claim(boss, firm, statement(boss, "new", uscc=firm))
    assert "older than the claim" in await told(claim, former, firm, kept)
