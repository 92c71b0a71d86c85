"""Issuers other than the gateway whose tokens count, as `gateway.issuers`, a TOML file, lists them.

An issuer's tokens count for what the file says: those of `institutions` name a participant and are
bound to its certificate, those of `persons` name an account (`iss`, `sub`) that the operator
registered. Its keys come from a file, or over https without redirects; they are asked for anew
every ten minutes, and sooner for a `kid` that is not among them, yet never more often than every
thirty seconds, whoever sends what. While an issuer does not answer, the keys it gave within the
last hour go on counting.
"""

import asyncio
import json
import ssl
import tomllib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import structlog

from services.gateway import claims, jws
from services.gateway.jws import RefusedTokenError, Unverified, VerifyingKey
from services.kit.clock import Clock
from services.kit.config import ConfigError
from services.kit.errors import UnavailableError

INSTITUTIONS: Final = "institutions"
PERSONS: Final = "persons"

_ALGORITHMS: Final = ("PS256", "ES256", "EdDSA", "Ed25519")
# The one algorithm that every OpenID provider has; people's tokens pass no third party.
_OF_PERSONS: Final = (*_ALGORITHMS, "RS256")
_TYPES: Final = (None, "jwt", "at+jwt", "application/at+jwt")
_LONGEST: Final = timedelta(hours=1)
_FRESH: Final = timedelta(minutes=10)
_STALE: Final = timedelta(hours=1)
_PAUSE: Final = timedelta(seconds=30)
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 256 * 1024
_NEEDED: Final = ("issuer", "kind", "audience", "algorithms")
_KNOWN: Final = (*_NEEDED, "jwks_url", "jwks_file", "ca_file", "participant_claim")

_log = structlog.get_logger()

Fetch = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class IssuerConfig:
    """One entry of the file.

    Args:
        issuer: `iss`, exactly as in its tokens.
        kind: `INSTITUTIONS` or `PERSONS`.
        audience: `aud`, or one of several.
        algorithms: that its tokens may be signed with.
        jwks_url: where its keys are, https; or else
        jwks_file: a file with its keys.
        ca_file: PEM, authorities by which `jwks_url` is checked; None: those of every browser.
        participant_claim: the claim with the participant_id; of institutions.
    """

    issuer: str
    kind: str
    audience: str
    algorithms: tuple[str, ...]
    jwks_url: str | None
    jwks_file: Path | None
    ca_file: Path | None
    participant_claim: str | None


@dataclass(frozen=True)
class Named:
    """Whom a token of another issuer names, verified.

    Args:
        kind: `INSTITUTIONS` or `PERSONS`.
        name: the participant_id, or the `sub` of a person.
        certificate: thumbprint of the certificate it is bound to, if it is.
        expires: until when it counts.
    """

    kind: str
    name: str
    certificate: str | None
    expires: datetime


def load(file: Path) -> tuple[IssuerConfig, ...]:
    """Return what a file lists; names of files in it are seen from its folder.

    Raises:
        ConfigError: naming what is wrong.
    """
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        problem = f"{file} cannot be read ({error.strerror}), check it"
        raise ConfigError([f"gateway.issuers: {problem}"]) from None
    except ValueError as error:
        raise ConfigError([f"gateway.issuers: {file} is no TOML: {error}"]) from None
    entries = table.get("issuers")
    if not isinstance(entries, list) or not entries or set(table) != {"issuers"}:
        raise ConfigError([f"gateway.issuers: {file} must hold [[issuers]] and nothing else"])
    problems: list[str] = []
    read = []
    for number, entry in enumerate(entries, 1):
        try:
            read.append(_entry(entry, file.parent))
        except ValueError as error:
            problems.append(f"gateway.issuers: issuer {number} in {file}: {error}")
    if len({each.issuer for each in read}) != len(read):
        problems.append(f"gateway.issuers: {file} lists an issuer twice")
    if problems:
        raise ConfigError(problems)
    return tuple(read)


def _entry(entry: Mapping[str, Any], folder: Path) -> IssuerConfig:
    unknown = sorted(set(entry) - set(_KNOWN))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: there is no such key")
    for name in _NEEDED:
        if name not in entry:
            raise ValueError(f"{name} is missing")
    for name, value in entry.items():
        if name != "algorithms" and not (isinstance(value, str) and value):
            raise ValueError(f"{name} must be a text")
    kind, algorithms = entry["kind"], entry["algorithms"]
    if kind not in (INSTITUTIONS, PERSONS):
        raise ValueError(f"kind must be {INSTITUTIONS} or {PERSONS}")
    allowed = _OF_PERSONS if kind == PERSONS else _ALGORITHMS
    if not isinstance(algorithms, list) or not algorithms or not set(algorithms) <= set(allowed):
        raise ValueError(f"algorithms must be some of {', '.join(allowed)}")
    if ("participant_claim" in entry) != (kind == INSTITUTIONS):
        raise ValueError(f"participant_claim is for {INSTITUTIONS}, which need it")
    url = entry.get("jwks_url")
    if (url is None) == ("jwks_file" not in entry):
        raise ValueError("give jwks_url or jwks_file, one of them")
    if url is not None and not url.startswith("https://"):
        raise ValueError("jwks_url must begin with https://")
    return IssuerConfig(
        entry["issuer"],
        kind,
        entry["audience"],
        tuple(algorithms),
        url,
        folder / entry["jwks_file"] if "jwks_file" in entry else None,
        folder / entry["ca_file"] if "ca_file" in entry else None,
        entry.get("participant_claim"),
    )


class Issuers:
    """Verifies tokens of other issuers.

    Args:
        configs: the issuers.
        clock: the time.

    Raises:
        ConfigError: a file of authorities cannot be used.
    """

    def __init__(self, configs: Sequence[IssuerConfig], clock: Clock) -> None:
        self._clock = clock
        self._http: list[httpx2.AsyncClient] = []
        self._issuers = {
            config.issuer: (config, KeySet(self._fetch(config), clock)) for config in configs
        }

    async def verify(self, token: Unverified) -> Named:
        """Return whom a token names, whether it has expired or not.

        Raises:
            RefusedTokenError: it is none of an issuer that is listed.
            UnavailableError: the issuer's keys cannot be had.
        """
        issuer = token.claims.get("iss")
        found = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if found is None:
            raise RefusedTokenError("is by an issuer that does not count here")
        config, keys = found
        kind = token.header.get("typ")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
            raise RefusedTokenError("has a typ that is not a token's")
        if token.header["alg"] not in config.algorithms:
            raise RefusedTokenError(f"must be signed by one of {', '.join(config.algorithms)}")
        jws.verify(token, await keys.for_kid(token.header.get("kid")), config.algorithms)
        audiences = token.claims.get("aud")
        if config.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise RefusedTokenError("is for somebody else: its aud is not ours")
        expires = claims.expiry(token.claims, self._clock.now(), _LONGEST)
        name = claims.text(token.claims, config.participant_claim or "sub")
        return Named(config.kind, name, claims.bound_to(token.claims), expires)

    async def close(self) -> None:
        """Let the connections go."""
        for client in self._http:
            await client.aclose()

    def _fetch(self, config: IssuerConfig) -> Fetch:
        if config.jwks_file is not None:
            file = config.jwks_file

            async def read() -> bytes:
                return await asyncio.to_thread(file.read_bytes)

            return read
        try:
            tls = ssl.create_default_context(cafile=config.ca_file)
        except OSError as error:
            problem = f"{config.ca_file} holds no authorities in PEM ({error.strerror})"
            raise ConfigError([f"gateway.issuers: {problem}"]) from None
        client = httpx2.AsyncClient(verify=tls, timeout=_TIMEOUT_S, trust_env=False)
        self._http.append(client)
        url = str(config.jwks_url)

        async def fetch() -> bytes:
            content = bytearray()
            async with asyncio.timeout(_TIMEOUT_S), client.stream("GET", url) as response:
                if response.status_code != httpx2.codes.OK:
                    raise ValueError(f"status {response.status_code}")
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MOST_BYTES:
                        raise ValueError(f"more than {_MOST_BYTES} bytes")
            return bytes(content)

        return fetch


class KeySet:
    """The keys of one issuer, remembered.

    Args:
        fetch: returns them as JSON (RFC 7517); raises OSError, ValueError or httpx2.HTTPError.
        clock: the time.
    """

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: tuple[VerifyingKey, ...] = ()
        self._given: datetime | None = None
        self._asked: datetime | None = None
        self._asking: asyncio.Task[None] | None = None

    async def for_kid(self, kid: object) -> tuple[VerifyingKey, ...]:
        """Return the keys, asked for anew where they are old or none has this `kid`.

        Raises:
            UnavailableError: there are none, or none that are young enough.
        """
        now = self._clock.now()
        known = kid is None or any(kid in key.names for key in self._keys)
        fresh = self._given is not None and now - self._given < _FRESH
        if not (known and fresh) and (self._asked is None or now - self._asked >= _PAUSE):
            self._asked = now
            self._asking = asyncio.create_task(self._renew(now))
        # Who makes up a kid holds up nobody whose key is here.
        if self._asking is not None and not (known and fresh):
            # One caller that goes away does not take the answer from the others.
            await asyncio.shield(self._asking)
        if self._given is None or self._clock.now() - self._given >= _STALE:
            raise UnavailableError(
                "UNAVAILABLE", "the keys of the token's issuer cannot be had now: try again later"
            )
        return self._keys

    async def _renew(self, now: datetime) -> None:
        try:
            self._keys = _parse(await self._fetch())
            self._given = now
        except (OSError, ValueError, TypeError, KeyError, httpx2.HTTPError) as error:
            _log.warning("keys of an issuer not read", problem=type(error).__name__)
        finally:
            self._asking = None


def _parse(content: bytes) -> tuple[VerifyingKey, ...]:
    """Return the keys that can verify tokens; others, e.g. for encryption, are left out.

    Raises:
        ValueError: it is no JSON, or none of the keys can be used.
        KeyError: it is no set of keys.
        TypeError: likewise.
    """
    table = json.loads(content)
    keys = []
    for entry in table["keys"]:
        try:
            keys.append(jws.verifying_key(entry))
        except (ValueError, TypeError):
            continue
    if not keys:
        raise ValueError("no key that can be used")
    return tuple(keys)
