"""The claims of a token (RFC 7519) that say for whom and how long it counts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.gateway.jws import RefusedTokenError

# FAPI 2.0: a clock up to 10 s ahead of ours is accepted, one more than 60 s ahead never.
AHEAD: Final = timedelta(seconds=10)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def text(claims: Mapping[str, Any], name: str, most: int = 255) -> str:
    """Return a claim that must be a text, without control characters or halves of characters.

    Raises:
        RefusedTokenError: it is not.
    """
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise RefusedTokenError(f"needs {name}, a text of 1 to {most} characters")
    return value


def expiry(claims: Mapping[str, Any], now: datetime, longest: timedelta) -> datetime:
    """Return until when a token counts; whether that is over is for the caller to say.

    Args:
        claims: `exp`, and `iat` or `nbf` or both, in seconds since 1970.
        now: the time.
        longest: how long it may count, from `iat`, or from `nbf` where there is no `iat`.

    Raises:
        RefusedTokenError: one is missing, the token is of the future, or counts for too long.
    """
    expires = _moment(claims, "exp")
    begins = [_moment(claims, name) for name in ("iat", "nbf") if name in claims]
    if not begins:
        raise RefusedTokenError("needs iat or nbf, in seconds")
    at = now.timestamp()
    if max(begins) > at + AHEAD.total_seconds():
        raise RefusedTokenError("was made in the future: check the clock")
    if expires - begins[0] > longest.total_seconds():
        raise RefusedTokenError(f"counts for longer than {longest.total_seconds():g} s")
    return datetime.fromtimestamp(expires, now.tzinfo)


def bound_to(claims: Mapping[str, Any]) -> str | None:
    """Return the thumbprint of the certificate that a token is bound to (RFC 8705)."""
    confirmation = claims.get("cnf")
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    return thumbprint if isinstance(thumbprint, str) else None


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value: Any = claims.get(name)
    # bool is an int.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _LAST:
        raise RefusedTokenError(f"needs {name}, in seconds")
    return float(value)
