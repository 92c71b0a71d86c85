"""Clients at the token endpoint, as FAPI 2.0 asks for them.

They come with an assertion by a registered key (RFC 7523), in TLS by a registered certificate
(RFC 8705). An assertion counts once, for 60 s at most after it was made, and only here: its
audience is the gateway's issuer URL, as one text. Key and certificate are both registered for the
one client that it names. Whatever is wrong, nothing is told of whether there is such a client, nor
of its standing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.gateway import claims, jws
from services.gateway.directory import Client
from services.gateway.jws import RefusedTokenError
from services.gateway.state.replays import Replays
from services.kit.calls import Peer
from services.kit.clock import Clock
from services.kit.errors import PermissionDeniedError, UnauthenticatedError

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# `EdDSA` by its own name (RFC 9864) and the one before it.
ALGORITHMS: Final = ("PS256", "ES256", "EdDSA", "Ed25519")
LIFE: Final = timedelta(seconds=60)

_TYPES: Final = (None, "jwt", "client-authentication+jwt")
_UNKNOWN = "is not by a client that may come in: check client_id, its keys and its standing"


@dataclass(frozen=True)
class Proved:
    """A client that proved who it is.

    Args:
        client_id: the participant.
        certificate: thumbprint of the certificate it came with.
        key_id: credential of the key that signed the assertion.
    """

    client_id: str
    certificate: str
    key_id: str


class ClientAssertions:
    """Verifies client assertions.

    Args:
        find: returns a client by its id; raises UnauthenticatedError or PermissionDeniedError.
        replays: remembers which assertions were used.
        issuer: URL of the gateway as issuer.
        clock: the time.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[Client]],
        replays: Replays,
        issuer: str,
        clock: Clock,
    ) -> None:
        self._find = find
        self._replays = replays
        self._issuer = issuer
        self._clock = clock

    async def prove(self, assertion: str, client_id: str | None, peer: Peer | None) -> Proved:
        """Return who sent an assertion, which is used up by it.

        Args:
            assertion: a JWT.
            client_id: as the request says it, beside the assertion, if it does.
            peer: who is at the other end of the connection.

        Raises:
            RefusedTokenError: it proves nobody.
            UnavailableError: datashare or the shared state does not answer.
        """
        if peer is None:
            raise RefusedTokenError("came without a client certificate: use mutual TLS")
        token = jws.read(assertion)
        kind = token.header.get("typ")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise RefusedTokenError("has a typ that is not an assertion's: leave it out or say JWT")
        named = claims.text(token.claims, "sub", 64)
        if claims.text(token.claims, "iss", 64) != named:
            raise RefusedTokenError("must name the client in both iss and sub")
        if client_id not in (None, named):
            raise RefusedTokenError("is by another client than client_id")
        try:
            client = await self._find(named)
        except (UnauthenticatedError, PermissionDeniedError):
            raise RefusedTokenError(_UNKNOWN) from None
        try:
            signer = jws.verify(token, client.keys.values(), ALGORITHMS)
        except RefusedTokenError as refusal:
            wrong_algorithm = token.header["alg"] not in ALGORITHMS
            raise RefusedTokenError(str(refusal) if wrong_algorithm else _UNKNOWN) from None
        if token.claims.get("aud") != self._issuer:
            raise RefusedTokenError("needs the issuer's URL as its aud, as one text")
        now = self._clock.now()
        until = claims.expiry(token.claims, now, LIFE)
        if until <= now:
            raise RefusedTokenError("has expired")
        jti = claims.text(token.claims, "jti")
        if peer.thumbprint not in client.certificates:
            raise RefusedTokenError(
                "came with a certificate that is not registered for the client: register it by "
                "`puhui credential add-certificate`"
            )
        # One that is a little ahead of our clock lives that much longer.
        if not await self._replays.first(f"{named} {jti}", until + claims.AHEAD):
            raise RefusedTokenError("was used before: make a new one, with a jti of its own")
        key_id = next(name for name, key in client.keys.items() if key is signer)
        return Proved(named, peer.thumbprint, key_id)
