"""Access tokens of the gateway's own (RFC 9068), each bound to a client certificate (RFC 8705).

A token counts for five minutes and for the certificate with which it was got. It says who the
client is, never what it may: standing, role, products, and whether certificate and key still count,
are asked of datashare at every call (`proof`). What another issuer, or the gateway of another
tenant, signs is none. Keys change over without a gap: the public key of the next one is listed
first, then it signs, then the old one goes; `kid` is a key's thumbprint (RFC 7638).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import OKPKey

from services.gateway import claims, jws
from services.gateway.clients import Proved
from services.gateway.jws import RefusedTokenError, Unverified
from services.kit.clock import Clock

LIFE: Final = timedelta(minutes=5)

_ALGORITHM: Final = "Ed25519"
_TYPE: Final = "at+jwt"
_MOST_KEPT: Final = 10_000


@dataclass(frozen=True)
class AccessToken:
    """What a token says, verified.

    Args:
        client: who got it, and how.
        expires: until when it counts.
    """

    client: Proved
    expires: datetime


class AccessTokens:
    """Issues tokens and verifies them; a verified one is remembered.

    Args:
        private_key: PEM, Ed25519, of the key that signs.
        public_keys: PEM, Ed25519, of further keys whose tokens count.
        issuer: URL of the gateway, also the tokens' audience.
        clock: the time.
    """

    def __init__(
        self, private_key: str, public_keys: Sequence[str], issuer: str, clock: Clock
    ) -> None:
        self._key = OKPKey.import_key(private_key)
        self._issuer = issuer
        self._clock = clock
        public = [
            key.as_dict(private=False)
            for key in (self._key, *(OKPKey.import_key(pem) for pem in public_keys))
        ]
        self._keys = [jws.verifying_key(jwk) for jwk in public]
        self._jwks = [
            {**jwk, "kid": key.key.thumbprint(), "alg": _ALGORITHM, "use": "sig"}
            for jwk, key in zip(public, self._keys, strict=True)
        ]
        self._verified: dict[str, AccessToken] = {}

    @property
    def issuer(self) -> str:
        """The URL under which it issues."""
        return self._issuer

    def key_set(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517)."""
        return {"keys": self._jwks}

    def issue(self, client: Proved) -> str:
        """Return a token for who proved itself so."""
        now = int(self._clock.now().timestamp())
        return jwt.encode(
            {"alg": _ALGORITHM, "typ": _TYPE, "kid": self._key.thumbprint()},
            {
                "iss": self._issuer,
                "aud": self._issuer,
                "sub": client.client_id,
                "client_id": client.client_id,
                "iat": now,
                "exp": now + int(LIFE.total_seconds()),
                "jti": secrets.token_urlsafe(16),
                "cnf": {"x5t#S256": client.certificate},
                "key": client.key_id,
            },
            self._key,
            algorithms=[_ALGORITHM],
        )

    def known(self, text: str) -> AccessToken | None:
        """Return what a token says that was verified lately; its text is read no further."""
        return self._verified.get(text)

    def is_ours(self, token: Unverified) -> bool:
        """Return whether a token says that the gateway issued it."""
        return token.claims.get("iss") == self._issuer

    def verify(self, token: Unverified) -> AccessToken:
        """Return what a token of the gateway's says, whether it has expired or not.

        Raises:
            RefusedTokenError: it is none.
        """
        known = self._verified.get(token.text)
        if known is None:
            known = self._read(token)
            while len(self._verified) >= _MOST_KEPT:
                del self._verified[next(iter(self._verified))]
            self._verified[token.text] = known
        return known

    def _read(self, token: Unverified) -> AccessToken:
        if token.header.get("typ") not in (_TYPE, f"application/{_TYPE}"):
            raise RefusedTokenError(f"is no access token: its typ is not {_TYPE}")
        jws.verify(token, self._keys, [_ALGORITHM])
        said = token.claims
        if said.get("iss") != self._issuer or said.get("aud") != self._issuer:
            raise RefusedTokenError("is from or for somebody else")
        expires = claims.expiry(said, self._clock.now(), LIFE)
        certificate = claims.bound_to(said)
        if certificate is None or claims.text(said, "client_id", 64) != said.get("sub"):
            raise RefusedTokenError("is not bound to a certificate and a client")
        client = Proved(said["sub"], certificate, claims.text(said, "key", 64))
        return AccessToken(client, expires)
