"""The identity port's adapters: how a firm's representative proves who it is.

Invariants:

- In production a proof is a statement signed by an issuer whom the deployment trusts, such as the
  verifier of electronic business licences 电子营业执照: for this platform, about this firm, for
  this account, of this hour, and used once.
- A code of the sandbox proves nothing but that the operator told it; it is accepted only where the
  configuration says that the deployment is a sandbox.
"""

import base64
import hashlib
import hmac
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from services.datashare.deliveries.signatures import REGISTRY
from services.datashare.mandates.app import Proved
from services.datashare.sealing.keyring import read_key
from services.kit.config import ConfigError
from services.kit.errors import PermissionDeniedError

SANDBOX: Final = "simulated"

_LONGEST_LIFE: Final = timedelta(hours=1)
_SKEW: Final = timedelta(seconds=60)
_CODE_BYTES: Final = 15
_LABEL: Final = b"puhui sandbox proof\x00"
_PARTS_OF_A_JWS: Final = 3


@dataclass(frozen=True)
class Issuer:
    """Somebody whose statements are believed.

    Args:
        how: what a proof by it is called, e.g. "business_licence".
        key: its public key.
    """

    how: str
    key: OKPKey | ECKey


@dataclass(frozen=True)
class Issuers:
    """Whom a deployment believes.

    Args:
        audience: what proofs for this platform are addressed to.
        issuers: by the `iss` of their statements.
    """

    audience: str
    issuers: Mapping[str, Issuer]


class Proofs:
    """Every kind of proof that a deployment takes.

    Args:
        issuers: whose statements it believes; None is nobody's.
        sandbox_key: what codes of the sandbox are made with; None unless it is a sandbox.
    """

    def __init__(self, issuers: Issuers | None, sandbox_key: bytes | None) -> None:
        self._issuers = issuers
        self._sandbox_key = sandbox_key

    def check(self, uscc: str, participant_id: str, proof: str, now: datetime) -> Proved:
        """Return how it is proved that an account is that of a firm's representative.

        Args:
            uscc: the firm's checked registration number.
            participant_id: the account.
            proof: as it was sent.
            now: the time.

        Raises:
            PermissionDeniedError: PROOF_INVALID.
        """
        if proof.count(".") == _PARTS_OF_A_JWS - 1:
            return self._statement(uscc, participant_id, proof, now)
        if self._sandbox_key is None:
            raise _invalid(
                "this deployment is no sandbox and takes no codes: send the statement of a "
                "verifier that the operator names"
            )
        expected = sandbox_code(self._sandbox_key, uscc).encode()
        if not hmac.compare_digest(_plain(proof).encode(), _plain(expected.decode()).encode()):
            raise _invalid(
                "the code is not that of this registration number: ask the operator of the sandbox"
            )
        return Proved(SANDBOX)

    def _statement(self, uscc: str, participant_id: str, proof: str, now: datetime) -> Proved:
        if self._issuers is None:
            raise _invalid(
                "this deployment trusts no verifier: ask the operator how a firm is claimed here"
            )
        for name, issuer in self._issuers.issuers.items():
            try:
                claims = jwt.decode(proof, issuer.key, registry=REGISTRY).claims
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
            if claims.get("iss") == name:
                expected = _Expected(self._issuers.audience, uscc, participant_id)
                return _accepted(claims, name, issuer, expected, now)
        raise _invalid(
            "the proof is not signed by a verifier that this platform trusts: take one from a "
            "verifier that the operator names"
        )


@dataclass(frozen=True)
class _Expected:
    """What a statement has to be about."""

    audience: str
    uscc: str
    participant_id: str


def _accepted(
    claims: Mapping[str, Any], name: str, issuer: Issuer, expected: _Expected, now: datetime
) -> Proved:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    proof_id = claims.get("jti")
    if claims.get("aud") != expected.audience:
        raise _invalid("the proof is for another platform: ask for one whose `aud` is this one")
    if issued is None or expires is None or not isinstance(proof_id, str) or not proof_id:
        raise _invalid("the proof lacks `iat`, `exp` or `jti`: ask the verifier for all three")
    if now >= expires:
        raise _invalid("the proof has expired: ask for a new one and use it at once")
    if begins is None or max(issued, begins) > now + _SKEW or expires - issued > _LONGEST_LIFE:
        raise _invalid(
            "the proof is dated in the future, or good for more than an hour: ask for a new one"
        )
    if claims.get("uscc") != expected.uscc:
        raise _invalid("the proof is about another firm: claim the firm that it names")
    if claims.get("nonce") != expected.participant_id:
        raise _invalid(
            "the proof was not made for this account: give the verifier this account's "
            "participant id as the nonce"
        )
    # Hashed, as an issuer may put anything there; with its name, as others may use the same.
    said = f"{name}\x00{proof_id}".encode(errors="surrogatepass")
    used = hashlib.sha256(said).hexdigest()
    return Proved(issuer.how, used, issued)


def proofs_taken(issuers: Path | None, sandbox_key: Path | None, *, sandbox: bool) -> Proofs:
    """Return what proofs a deployment takes.

    Args:
        issuers: file of those whose statements it believes; None is nobody's.
        sandbox_key: file of the key from which codes are made.
        sandbox: it is a sandbox; else the key is not even read.

    Raises:
        ConfigError: a file cannot be used.
    """
    return Proofs(
        read_issuers("datashare.proof_issuers", issuers) if issuers else None,
        read_key("datashare.sandbox_proof_key", sandbox_key) if sandbox and sandbox_key else None,
    )


def sandbox_code(key: bytes, uscc: str) -> str:
    """Return the code by which a firm is claimed in a sandbox: groups of four characters.

    Args:
        key: of the sandbox.
        uscc: the firm's checked registration number.
    """
    mac = hmac.digest(key, _LABEL + uscc.encode(), hashlib.sha256)[:_CODE_BYTES]
    text = base64.b32encode(mac).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def read_issuers(setting: str, path: Path) -> Issuers:
    """Return whom a file of the configuration names.

    Args:
        setting: of the configuration, such as "datashare.proof_issuers".
        path: TOML: `audience`, and for each issuer a table `[issuers."NAME"]` with `how` and `key`,
            a public key in PEM, Ed25519 or P-256.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            [f"{setting}: {path} cannot be read ({error.strerror}), check it"]
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{setting}: {path} is not TOML ({error}), correct it"]) from None
    audience, tables = content.get("audience"), content.get("issuers")
    if not isinstance(audience, str) or not audience or not isinstance(tables, dict) or not tables:
        problem = "must hold `audience` and at least one table [issuers.NAME]"
        raise ConfigError([f"{setting}: {path} {problem}"])
    issuers = {name: _issuer(f"{setting}: {path}", name, table) for name, table in tables.items()}
    return Issuers(audience, issuers)


def _issuer(where: str, name: str, table: object) -> Issuer:
    how, key = (table.get("how"), table.get("key")) if isinstance(table, dict) else (None, None)
    if not isinstance(how, str) or not 0 < len(how) <= 64 or how == SANDBOX:
        problem = f'needs `how`, 1 to 64 characters that are not "{SANDBOX}"'
        raise ConfigError([f"{where}: issuer {name} {problem}"])
    for kind in (OKPKey, ECKey):
        try:
            found = kind.import_key(key if isinstance(key, str) else "")
        except (JoseError, ValueError, TypeError):
            continue
        if not found.is_private and found.curve_name in ("Ed25519", "P-256"):
            return Issuer(how, found)
    raise ConfigError([f"{where}: issuer {name} needs `key`, a public Ed25519 or P-256 key in PEM"])


def _time(claims: Mapping[str, Any], name: str) -> datetime | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _plain(code: str) -> str:
    return "".join(code.split()).replace("-", "").lower()


def _invalid(problem: str) -> PermissionDeniedError:
    return PermissionDeniedError("PROOF_INVALID", problem)
