"""Claiming a firm by the statement of a verifier, on a platform that is no sandbox."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from puhui.datashare.v1.mandates_pb2 import (
    MANDATE_STATE_ACTIVE,
    MANDATE_STATE_ENDED,
    ClaimFirmRequest,
    ClaimFirmResponse,
    EndMandateRequest,
    EndMandateResponse,
    Mandate,
)
from services.datashare.mandates.proofs import sandbox_code
from services.datashare.subjects import uscc
from services.kit.errors import PermissionDeniedError
from services.kit.identity import Caller
from tests.e2e.test_admission import person, producing
from tests.e2e.test_datashare import Datashare, rid

ISSUER = "https://licence.example.cn"
KEY = OKPKey.generate_key("Ed25519")
FIRM = uscc.make("91", "110108", "MA0C1A1M")
UNHEARD_OF = uscc.make("91", "110108", "MA0C2A2M")

Try = Callable[[str, str, str], Awaitable[Mandate]]


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Datashare]:
    issuers = tmp_path / "issuers.toml"
    issuers.write_text(
        f"audience = 'puhui'\n[issuers.'{ISSUER}']\nhow = 'business_licence'\n"
        f"key = '''{KEY.as_pem(private=False).decode()}'''\n"
    )
    url = f"sqlite:///{tmp_path / 'datashare.db'}"
    async with producing(tmp_path, url, proof_issuers=issuers) as datashare:
        datashare.people["operator"] = await person(datashare, "li")
        yield datashare


@pytest.fixture
async def accounts(platform: Datashare) -> list[str]:
    """Two accounts of role FIRM that speak for nobody."""
    return [(await platform.register(name, "FIRM")).participant_id for name in ("one", "two")]


@pytest.fixture
def claim(platform: Datashare) -> Try:
    async def claim(who: str, firm: str, proof: str) -> Mandate:
        request = ClaimFirmRequest(request_id=rid(), uscc=firm, proof=proof)
        answer = await platform.call(
            Caller(who, "FIRM"), "MandateService/ClaimFirm", request, ClaimFirmResponse
        )
        return answer.mandate

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
    platform: Datashare, accounts: list[str], claim: Try
) -> None:
    boss, thief = accounts
    mine = statement(boss, "mine")
    assert "not made for this account" in await told(claim, thief, FIRM, mine)
    assert "another firm" in await told(claim, boss, UNHEARD_OF, mine)
    assert "another platform" in await told(claim, boss, FIRM, statement(boss, "a", aud="b"))
    expired = statement(boss, "b", iat=int(time.time()) - 700, exp=int(time.time()) - 1)
    assert "expired" in await told(claim, boss, FIRM, expired)
    assert "no sandbox" in await told(claim, thief, FIRM, sandbox_code(bytes(32), FIRM))

    claimed = await claim(boss, FIRM, mine)
    assert (claimed.proved_by, claimed.state) == ("business_licence", MANDATE_STATE_ACTIVE)
    # What is wrong is said alike, whether the platform knows the firm or not.
    forged = f"{mine.rpartition('.')[0]}.{'A' * 86}"
    known = await told(claim, thief, FIRM, forged)
    assert known == await told(claim, thief, UNHEARD_OF, forged)

    ending = EndMandateRequest(request_id=rid(), mandate_id=claimed.mandate_id)
    ended = await platform.call(
        Caller(boss, "FIRM"), "MandateService/EndMandate", ending, EndMandateResponse
    )
    assert ended.mandate.state == MANDATE_STATE_ENDED
    assert "used before" in await told(claim, boss, FIRM, mine)


async def test_a_statement_that_was_kept_takes_nothing_back(
    accounts: list[str], claim: Try
) -> None:
    former, boss = accounts
    firm = uscc.make("91", "110108", "MA0C3A3M")
    earlier = int(time.time()) - 120
    kept = statement(former, "kept", uscc=firm, iat=earlier, exp=earlier + 1800)
    await claim(boss, firm, statement(boss, "new", uscc=firm))
    assert "older than the claim" in await told(claim, former, firm, kept)
