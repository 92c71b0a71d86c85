"""Proofs of who represents a firm."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from services.datashare.main import DatashareConfig
from services.datashare.mandates.proofs import (
    Issuer,
    Issuers,
    Proofs,
    proofs_taken,
    read_issuers,
    sandbox_code,
)
from services.kit.config import ConfigError
from services.kit.errors import PermissionDeniedError

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
USCC = "91110108MA01234537"
ISSUER = "https://verifier.example"
ED25519 = OKPKey.generate_key("Ed25519")
P256 = ECKey.generate_key("P-256")
KEY = bytes(range(32))

Statement = Callable[..., str]


@pytest.fixture
def statement() -> Statement:
    def make(key: Any = ED25519, **changes: Any) -> str:
        claims = {
            "iss": ISSUER,
            "aud": "puhui",
            "iat": int(NOW.timestamp()),
            "exp": int((NOW + timedelta(minutes=10)).timestamp()),
            "jti": "one",
            "uscc": USCC,
            "nonce": "par_1",
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        algorithm = "Ed25519" if key.key_type == "OKP" else "ES256"
        return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])

    return make


@pytest.fixture
def proofs() -> Proofs:
    return Proofs(Issuers("puhui", {ISSUER: Issuer("business_licence", ED25519)}), None)


def test_a_statement_is_believed_and_named(proofs: Proofs, statement: Statement) -> None:
    proved = proofs.check(USCC, "par_1", statement(), NOW)
    assert (proved.how, proved.issued_at) == ("business_licence", NOW)
    again = proofs.check(USCC, "par_1", statement(exp=NOW.timestamp() + 30), NOW)
    assert again.proof_id == proved.proof_id
    assert proofs.check(USCC, "par_1", statement(jti="two"), NOW).proof_id != proved.proof_id


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": OKPKey.generate_key("Ed25519")}, "not signed by a verifier"),
        ({"key": P256}, "not signed by a verifier"),
        ({"iss": "https://other.example"}, "not signed by a verifier"),
        ({"aud": "another"}, "another platform"),
        ({"aud": None}, "another platform"),
        ({"exp": int(NOW.timestamp())}, "expired"),
        ({"exp": None}, "lacks"),
        ({"iat": None}, "lacks"),
        ({"jti": None}, "lacks"),
        ({"jti": 7}, "lacks"),
        ({"iat": "then"}, "lacks"),
        ({"exp": 1e300}, "lacks"),
        ({"exp": int((NOW + timedelta(hours=2)).timestamp())}, "more than an hour"),
        ({"iat": int((NOW + timedelta(minutes=2)).timestamp())}, "future"),
        ({"nbf": int((NOW + timedelta(minutes=2)).timestamp())}, "future"),
        ({"nbf": "later"}, "future"),
        ({"aud": ["puhui", "another"]}, "another platform"),
        ({"exp": float("nan")}, "lacks"),
        ({"uscc": "91110108MA0ABCDE12"}, "another firm"),
        ({"uscc": None}, "another firm"),
        ({"nonce": "par_2"}, "not made for this account"),
        ({"nonce": None}, "not made for this account"),
    ],
)
def test_a_statement_about_anything_else_is_not(
    proofs: Proofs, statement: Statement, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(PermissionDeniedError, match=told) as caught:
        proofs.check(USCC, "par_1", statement(**changes), NOW)
    assert caught.value.reason == "PROOF_INVALID"


def unsigned(header: Any, statement: str) -> str:
    said = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{said}.{statement.split('.')[1]}"


@pytest.mark.parametrize(
    "key",
    [ED25519.as_pem(private=False), ED25519.get_op_key("verify").public_bytes_raw()],
    ids=["pem", "raw"],  # its bytes differ from worker to worker
)
def test_a_public_key_is_no_shared_secret(proofs: Proofs, statement: Statement, key: bytes) -> None:
    forged = unsigned({"alg": "HS256"}, statement())
    mac = base64.urlsafe_b64encode(hmac.digest(key, forged.encode(), "sha256")).rstrip(b"=")
    with pytest.raises(PermissionDeniedError, match="not signed by a verifier"):
        proofs.check(USCC, "par_1", f"{forged}.{mac.decode()}", NOW)


@pytest.mark.parametrize("algorithm", ["none", "NONE", "", "HS256", "ES256", "EdDSA", None, []])
def test_a_header_makes_no_signature(proofs: Proofs, statement: Statement, algorithm: Any) -> None:
    whole = statement()
    for signature in ("", "AAAA", whole.split(".")[2]):
        forged = f"{unsigned({'alg': algorithm}, whole)}.{signature}"
        with pytest.raises(PermissionDeniedError, match="not signed by a verifier"):
            proofs.check(USCC, "par_1", forged, NOW)


def test_a_key_that_a_statement_brings_is_not_believed(proofs: Proofs) -> None:
    own = OKPKey.generate_key("Ed25519")
    header = {"alg": "Ed25519", "jwk": own.as_dict(private=False)}
    forged = jwt.encode(header, {"iss": ISSUER}, own, algorithms=["Ed25519"])
    with pytest.raises(PermissionDeniedError, match="not signed by a verifier"):
        proofs.check(USCC, "par_1", forged, NOW)


def signed(header: Any, statement: str, **changes: Any) -> str:
    """A statement by the verifier's key with another header, as other libraries write it."""
    claims = json.loads(base64.urlsafe_b64decode(statement.split(".")[1] + "==")) | changes
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    private = ED25519.get_op_key("sign")
    assert isinstance(private, Ed25519PrivateKey)
    signature = private.sign(b".".join(parts))
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_the_older_name_of_the_algorithm_is_taken(proofs: Proofs, statement: Statement) -> None:
    older = signed({"alg": "EdDSA", "typ": "JWT", "kid": "2026"}, statement())
    assert proofs.check(USCC, "par_1", older, NOW).how == "business_licence"


@pytest.mark.parametrize("more", [{"crit": ["x"], "x": 1}, {"crit": ["b64"], "b64": False}])
def test_a_header_that_asks_for_more_is_refused(
    proofs: Proofs, statement: Statement, more: dict[str, Any]
) -> None:
    with pytest.raises(PermissionDeniedError, match="not signed by a verifier"):
        proofs.check(USCC, "par_1", signed({"alg": "EdDSA"} | more, statement()), NOW)


def test_any_id_of_a_statement_can_be_used_up(proofs: Proofs, statement: Statement) -> None:
    proof_ids = set()
    for jti in ("a", "a\x00", "\ud800", "\U0001f600"):
        proof = signed({"alg": "Ed25519"}, statement(), jti=jti)
        proof_ids.add(proofs.check(USCC, "par_1", proof, NOW).proof_id)
    assert len(proof_ids) == 4


def test_a_header_without_end_is_refused(proofs: Proofs) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5_000).decode().rstrip("=")
    with pytest.raises(PermissionDeniedError):
        proofs.check(USCC, "par_1", f"{deep}.e30.AAAA", NOW)


@pytest.mark.parametrize("proof", ["a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "é.é.é"])
def test_what_is_no_statement_is_refused(proofs: Proofs, proof: str) -> None:
    with pytest.raises(PermissionDeniedError):
        proofs.check(USCC, "par_1", proof, NOW)


def test_a_code_is_taken_in_a_sandbox_alone(proofs: Proofs) -> None:
    code = sandbox_code(KEY, USCC)
    sandbox = Proofs(None, KEY)
    for spelling in (code, code.upper(), code.replace("-", " ")):
        proved = sandbox.check(USCC, "par_1", spelling, NOW)
        assert (proved.how, proved.proof_id) == ("simulated", "")
    for wrong in ("x", code[:-1], sandbox_code(KEY, USCC[::-1]), sandbox_code(KEY[::-1], USCC)):
        with pytest.raises(PermissionDeniedError, match="not that of this registration number"):
            sandbox.check(USCC, "par_1", wrong, NOW)
    with pytest.raises(PermissionDeniedError, match="no sandbox"):
        proofs.check(USCC, "par_1", code, NOW)


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_deployment_that_does_not_say_that_it_is_a_sandbox_is_none(
    tmp_path: Path, sandbox: bool
) -> None:
    path = tmp_path / "proof.key"
    path.touch(0o600)
    path.write_text(KEY.hex())
    proofs = proofs_taken(None, path, sandbox=sandbox)
    code = sandbox_code(KEY, USCC)
    if sandbox:
        assert proofs.check(USCC, "par_1", code, NOW).how == "simulated"
        return
    with pytest.raises(PermissionDeniedError, match="no sandbox"):
        proofs.check(USCC, "par_1", code, NOW)


def test_a_sandbox_needs_its_key(tmp_path: Path) -> None:
    keys = dict.fromkeys(
        (
            "identity_gateway_public_key",
            "identity_scoring_public_key",
            "counterparty_key",
            "kek_file",
            "subject_token_key",
            "signing_key",
        ),
        tmp_path,
    )
    with pytest.raises(ValueError, match="sandbox_proof_key"):
        DatashareConfig(**keys, sandbox=True)  # type: ignore[arg-type]  # the keys are paths


def test_who_trusts_no_verifier_takes_no_statement(statement: Statement) -> None:
    with pytest.raises(PermissionDeniedError, match="trusts no verifier"):
        Proofs(None, KEY).check(USCC, "par_1", statement(), NOW)


@pytest.mark.parametrize("key", [ED25519, P256])
def test_verifiers_are_read_from_a_file(tmp_path: Path, statement: Statement, key: Any) -> None:
    path = tmp_path / "issuers.toml"
    pem = key.as_pem(private=False).decode()
    path.write_text(
        f"audience = 'puhui'\n[issuers.'{ISSUER}']\nhow = 'business_licence'\nkey = '''{pem}'''\n"
    )
    proofs = Proofs(read_issuers("datashare.proof_issuers", path), None)
    assert proofs.check(USCC, "par_1", statement(key=key), NOW).how == "business_licence"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("=", "not TOML"),
        ("[issuers]\n", "audience"),
        ("audience = 'puhui'\n[issuers]\n", "at least one"),
        ("audience = 'puhui'\n[issuers.a]\nhow = 'simulated'\n", "needs `how`"),
        ("audience = 'puhui'\n[issuers.a]\nhow = 'x'\nkey = 'y'\n", "needs `key`"),
        (
            "audience = 'puhui'\n[issuers.a]\nhow = 'x'\n"
            f"key = '''{ED25519.as_pem(private=True).decode()}'''\n",
            "a public Ed25519",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "issuers.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_issuers("datashare.proof_issuers", path)
    assert "issuers.toml" in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_issuers("datashare.proof_issuers", tmp_path / "missing")
