"""Access tokens for an institution: client credentials, bound to its certificate (FAPI 2.0).

Needs the extra `puhui[oauth]`. The institution proves itself twice: by the certificate of its TLS
connection, and by an assertion that its registered key signs (RFC 7523). The token that it gets is
good only with that certificate (RFC 8705). A token is used until a fifth of its life is left; calls
that need one at the same time wait for the same answer.
"""

import asyncio
import json
import secrets
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

try:
    import httpx2
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
except ImportError as missing:
    raise ImportError(
        "tokens need packages that are not installed: pip install 'puhui[oauth]'"
    ) from missing

from puhui_client.errors import PuhuiError, UnauthenticatedError, UnavailableError
from puhui_client.transport import Tls

METADATA_PATH: Final = "/.well-known/oauth-authorization-server"
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# An assertion counts for 60 s after it was made; less, as clocks differ.
_ASSERTION_LIFE: Final = 50
_LEAST_RSA_BITS: Final = 2048
_REMAINING: Final = 0.2
_TIMEOUT: Final = 10.0
_Key = OKPKey | ECKey | RSAKey


class ClientKeyError(ValueError):
    """The key or certificate cannot be used; the message says why and what to do."""


class ClientKey:
    """An institution's key at a token endpoint; give it to `Client` as its credentials.

    Args:
        issuer: URL of the gateway as issuer, "https://host:port"; its metadata name the endpoint.
        client_id: the participant_id.
        key: private key whose public part is registered: Ed25519, P-256, or RSA of at least 2048
            bits, in PEM (PKCS 8) or JWK.
        tls: with the certificate that is registered, and its key.
        monotonic: seconds that only grow, by which tokens age.

    Raises:
        ClientKeyError: the key is of another kind, or there is no certificate with its key.

    Example:
        >>> from pathlib import Path
        >>> from puhui_client import Client, Tls
        >>> from puhui_client.oauth import ClientKey
        >>>
        >>> async def main(folder: Path) -> None:
        ...     tls = Tls.read(folder / "bank.crt", folder / "bank.key", ca=folder / "ca.crt")
        ...     key = (folder / "client.pem").read_text()
        ...     credentials = ClientKey("https://gateway.example", "par_1", key, tls)
        ...     async with Client("gateway.example:7444", credentials, tls=tls) as bank:
        ...         print(await bank.whoami())
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        key: str | bytes,
        tls: Tls,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if urlsplit(issuer).scheme != "https":
            raise ClientKeyError(f"the issuer {issuer!r} must be an https URL")
        if tls.certificate is None or tls.key is None:
            raise ClientKeyError("a token is bound to a certificate: give Tls one, with its key")
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._key, self._algorithm = _private_key(key)
        self._context = _context(tls)
        self._monotonic = monotonic
        self._token, self._renew_at, self._ends_at = "", 0.0, 0.0
        self._endpoint = ""
        self._lock: asyncio.Lock | None = None

    async def authorization(self) -> str:
        """Return the header's value, with a token that is good for a while.

        Raises:
            UnauthenticatedError: the endpoint gives none: it does not know the key or certificate.
            UnavailableError: it does not answer.
        """
        if self._monotonic() >= self._renew_at:
            self._lock = self._lock or asyncio.Lock()
            async with self._lock:
                if self._monotonic() >= self._renew_at:
                    await self._renew()
        return f"Bearer {self._token}"

    def rejected(self, authorization: str) -> bool:
        """Ask for another token, unless there is one already."""
        if authorization == f"Bearer {self._token}":
            self._renew_at = self._ends_at = 0.0
        return True

    async def _renew(self) -> None:
        try:
            await self._ask()
        except UnavailableError:
            # What is left of the last one carries over a short absence of the endpoint.
            if self._monotonic() >= self._ends_at:
                raise

    async def _ask(self) -> None:
        begun = self._monotonic()
        async with httpx2.AsyncClient(verify=self._context, timeout=_TIMEOUT) as http:
            try:
                answer = await http.post(await self._found(http), data=self._request())
                told = answer.json()
            except (httpx2.HTTPError, ValueError):
                raise _unreachable(self._issuer) from None
        if answer.status_code >= httpx2.codes.INTERNAL_SERVER_ERROR:
            raise _unreachable(self._issuer)
        if answer.status_code != httpx2.codes.OK or not isinstance(told, dict):
            raise _refused(told)
        life = float(told.get("expires_in", 0))
        self._token = str(told.get("access_token", ""))
        self._renew_at, self._ends_at = begun + life * (1 - _REMAINING), begun + life

    async def _found(self, http: httpx2.AsyncClient) -> str:
        if not self._endpoint:
            answer = await http.get(self._issuer + METADATA_PATH)
            told = answer.raise_for_status().json()
            if told.get("issuer") != self._issuer:  # RFC 8414, 3.3
                raise UnauthenticatedError(
                    "UNAUTHENTICATED",
                    "TOKEN_INVALID",
                    f"{self._issuer} says that it is {told.get('issuer')!r}: name it so",
                )
            aliases = told.get("mtls_endpoint_aliases", {})
            endpoint = str(aliases.get("token_endpoint") or told["token_endpoint"])
            if urlsplit(endpoint).scheme != "https":
                raise UnauthenticatedError(
                    "UNAUTHENTICATED",
                    "TOKEN_INVALID",
                    f"{self._issuer} names the token endpoint {endpoint!r}, which is no https URL: "
                    "no token is asked for there; tell the gateway's operator",
                )
            self._endpoint = endpoint
        return self._endpoint

    def _request(self) -> dict[str, str]:
        now = int(time.time())
        assertion = jwt.encode(
            {"alg": self._algorithm, "kid": self._key.thumbprint(), "typ": "JWT"},
            {
                "iss": self._client_id,
                "sub": self._client_id,
                "aud": self._issuer,
                "jti": secrets.token_urlsafe(24),
                "iat": now,
                "nbf": now,
                "exp": now + _ASSERTION_LIFE,
            },
            self._key,
            algorithms=[self._algorithm],
        )
        return {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion,
        }


def _private_key(key: str | bytes) -> tuple[_Key, str]:
    pem = key.decode() if isinstance(key, bytes) else key
    try:
        if "-----BEGIN" not in pem:
            made: Any = JWKRegistry.import_key(json.loads(pem))
            if not made.is_private:
                raise ClientKeyError("this is a public key: give the private one")
            pem = made.as_pem(private=True).decode()
        found = load_pem_private_key(pem.encode(), None)
    except ClientKeyError:
        raise
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm):
        raise ClientKeyError("there is no key in PEM (PKCS 8) or JWK") from None
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return OKPKey.import_key(pem), "Ed25519"
    if isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(found.curve, ec.SECP256R1):
        return ECKey.import_key(pem), "ES256"
    if isinstance(found, rsa.RSAPrivateKey) and found.key_size >= _LEAST_RSA_BITS:
        return RSAKey.import_key(pem), "PS256"
    raise ClientKeyError("the key must be Ed25519, P-256, or RSA of at least 2048 bits")


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.ca.decode() if tls.ca else None)
    # Python's ssl takes certificates from files alone.
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate"), Path(folder, "key")
        certificate.write_bytes(tls.certificate or b"")
        key.touch(0o600)
        key.write_bytes(tls.key or b"")
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError:
            raise ClientKeyError("the certificate and its key are no pair, or not PEM") from None
    return context


def _unreachable(issuer: str) -> UnavailableError:
    return UnavailableError(
        "UNAVAILABLE",
        "UNAVAILABLE",
        f"{issuer} gives no token: check the address, or try later",
    )


def _refused(told: Any) -> PuhuiError:
    told = told if isinstance(told, dict) else {}
    why = told.get("error_description") or told.get("error") or "it does not say why"
    return UnauthenticatedError(
        "UNAUTHENTICATED", "CREDENTIALS_INVALID", f"no access token was given: {why}"
    )
