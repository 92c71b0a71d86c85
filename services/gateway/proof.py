"""The one place where the gateway tells who is calling.

A caller proves itself in one way, in the `authorization` header, as `Bearer`: with an access token,
the gateway's or another issuer's, or in the sandbox with an API key. An institution's token counts
only in a connection by the certificate that it is bound to. Whatever it proves, standing, role,
products and whether the credentials still count are datashare's answer, seconds old at most
(`Remembered`).

A stream is asked about again with each message (`again`): it ends when a credential is revoked or
its participant suspended. That its token has expired meanwhile does not end it: the token counted
when the stream began, and a stream's time is bounded by itself.
"""

from services.gateway import jws
from services.gateway.api_keys import ApiKeys
from services.gateway.directory import Clients, Persons
from services.gateway.issuers import PERSONS, Issuers
from services.gateway.jws import RefusedTokenError, Unverified
from services.gateway.tokens import AccessToken, AccessTokens
from services.kit.calls import Call
from services.kit.clock import Clock
from services.kit.errors import UnauthenticatedError
from services.kit.identity import Caller

_HOW = "send an access token as 'authorization: Bearer <token>'"
_HOW_IN_SANDBOX = "send an API key as 'authorization: Bearer <key_id>.<secret>', or an access token"


class Proof:
    """Tells who is calling.

    Args:
        tokens: of the gateway's own; None where it issues none.
        issuers: of others.
        clients: institutions with their credentials.
        persons: who signs in at another issuer.
        api_keys: None where they do not count.
        clock: the time.
    """

    def __init__(
        self,
        tokens: AccessTokens | None,
        issuers: Issuers,
        clients: Clients,
        persons: Persons,
        api_keys: ApiKeys | None,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._issuers = issuers
        self._clients = clients
        self._persons = persons
        self._api_keys = api_keys
        self._clock = clock

    async def authenticate(self, call: Call) -> Caller:
        """Return who is calling.

        Raises:
            UnauthenticatedError: CREDENTIALS_MISSING, CREDENTIALS_INVALID, TOKEN_INVALID,
                CERTIFICATE_MISMATCH or API_KEYS_NOT_HERE.
            PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
            UnavailableError: what has to be asked does not answer.
        """
        return await self._caller(call, begun=False)

    async def again(self, call: Call) -> Caller:
        """Return who is calling in a stream that was let in; raises as `authenticate` does."""
        return await self._caller(call, begun=True)

    async def _caller(self, call: Call, *, begun: bool) -> Caller:
        credentials = _bearer(
            call.metadata.get("authorization", ""), _HOW_IN_SANDBOX if self._api_keys else _HOW
        )
        if not jws.looks_signed(credentials):
            if self._api_keys is None:
                raise UnauthenticatedError(
                    "API_KEYS_NOT_HERE", f"API keys count in the sandbox alone: {_HOW}"
                )
            return await self._api_keys.caller(credentials)
        try:
            # To read a token anew for each call costs more than all else that is asked about it.
            if self._tokens is not None and (known := self._tokens.known(credentials)) is not None:
                return await self._by_our_token(known, call, begun=begun)
            token = jws.read(credentials)
            if self._tokens is not None and self._tokens.is_ours(token):
                return await self._by_our_token(self._tokens.verify(token), call, begun=begun)
            return await self._by_other_token(token, call, begun=begun)
        except RefusedTokenError as refusal:
            raise UnauthenticatedError("TOKEN_INVALID", f"the token {refusal}") from None

    async def _by_our_token(self, read: AccessToken, call: Call, *, begun: bool) -> Caller:
        if not begun and read.expires <= self._clock.now():
            raise RefusedTokenError("has expired: get another")
        _check_certificate(read.client.certificate, call)
        client = await self._clients.find(read.client.client_id)
        if read.client.key_id not in client.keys:
            raise RefusedTokenError("was got with a key that is no longer valid: use another key")
        _check_registered(read.client.certificate, client.certificates)
        return client.caller

    async def _by_other_token(self, token: Unverified, call: Call, *, begun: bool) -> Caller:
        named = await self._issuers.verify(token)
        if not begun and named.expires <= self._clock.now():
            raise RefusedTokenError("has expired: get another")
        if named.kind == PERSONS:
            return await self._persons.find(token.claims["iss"], named.name)
        if named.certificate is None:
            raise RefusedTokenError("is bound to no certificate: its cnf has no x5t#S256")
        _check_certificate(named.certificate, call)
        client = await self._clients.find(named.name)
        _check_registered(named.certificate, client.certificates)
        return client.caller


def _bearer(authorization: str, how: str) -> str:
    if not authorization:
        raise UnauthenticatedError("CREDENTIALS_MISSING", f"no credentials were sent: {how}")
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip(" ")
    # Two headers arrive as one, with a comma between: whoever is meant by that proves nobody.
    if scheme.lower() != "bearer" or not credentials or {" ", ","} & set(credentials):
        raise UnauthenticatedError(
            "CREDENTIALS_INVALID", f"the credentials are malformed, or more than one: {how}"
        )
    return credentials


def _check_certificate(bound: str, call: Call) -> None:
    if call.peer is None or call.peer.thumbprint != bound:
        raise UnauthenticatedError(
            "CERTIFICATE_MISMATCH",
            "the token came without the certificate that it is bound to: "
            "use mutual TLS with the certificate with which it was got",
        )


def _check_registered(certificate: str, registered: frozenset[str]) -> None:
    if certificate not in registered:
        raise UnauthenticatedError(
            "CERTIFICATE_MISMATCH",
            "the certificate is not registered for this participant, or was revoked: "
            "register the one in use by `puhui credential add-certificate`",
        )
