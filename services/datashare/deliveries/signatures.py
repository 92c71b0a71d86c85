"""Detached signatures over batches and consents: JWS (RFC 7515, appendix F) by Ed25519 or P-256.

Invariants: a signature names its key in the protected header and covers bytes that both ends make
of what is signed; a header that asks for anything that is not understood here is refused.
"""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from joserfc import jws as rfc7515
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from services.datashare.participants.jwk import imported
from services.kit.errors import InvalidArgumentError, invalid_field

Refuse: TypeAlias = Callable[[str], InvalidArgumentError]

_ALGORITHMS: Final = ("Ed25519", "ES256")
_OF_A_BATCH: Final = (
    "is not by that key over this batch: sign its canonical bytes, with its delivery_id, "
    "sequence and records as they are sent, by Ed25519 or ES256"
)


class _Registry(JWSRegistry):
    """Takes Ed25519 by its older name too (RFC 8037), which RFC 9864 replaced."""

    def get_alg(self, name: str) -> Any:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


REGISTRY: Final = _Registry(algorithms=_ALGORITHMS)
"""The algorithms that are taken, by the names that they have and had."""


def _refusal(problem: str) -> InvalidArgumentError:
    return invalid_field("SIGNATURE_INVALID", "jws", problem)


def named_key(jws: str, refuse: Refuse = _refusal) -> str:
    """Return the key that a signature names, which is not checked yet.

    Args:
        jws: detached.
        refuse: makes the error of a problem.

    Raises:
        InvalidArgumentError: SIGNATURE_INVALID, or what `refuse` makes.
    """
    protected, _, signature = jws.partition("..")
    if not (_is_base64url(protected) and _is_base64url(signature)):
        raise refuse(
            "is no detached JWS: send the header, two dots and the signature, in base64url"
        )
    try:
        header = json.loads(_decoded(protected))
    except (ValueError, RecursionError):
        raise refuse("has a header that is not JSON") from None
    members = header if isinstance(header, dict) else {}
    # The library understands some that would change what is signed (RFC 7797).
    if "crit" in members or "b64" in members:
        raise refuse("has a header with `crit` or `b64`, which are not taken here: leave them out")
    key_id = members.get("kid")
    if not isinstance(key_id, str) or not key_id.isascii() or not key_id.isprintable():
        raise refuse("names no key: put the key_id that was registered into its header as `kid`")
    return key_id


def verify(
    jws: str,
    public_jwk: str,
    content: bytes,
    *,
    problem: str = _OF_A_BATCH,
    refuse: Refuse = _refusal,
) -> None:
    """Check a signature that names its key.

    Args:
        jws: detached.
        public_jwk: of the key that it names.
        content: what it has to cover.
        problem: to be told when it does not.
        refuse: makes the error of a problem.

    Raises:
        InvalidArgumentError: SIGNATURE_INVALID, or what `refuse` makes.
    """
    protected, _, signature = jws.partition("..")
    whole = b".".join(
        (protected.encode(), base64.urlsafe_b64encode(content).rstrip(b"="), signature.encode())
    )
    try:
        rfc7515.deserialize_compact(whole, imported(public_jwk), registry=REGISTRY)
    except (JoseError, ValueError):
        raise refuse(problem) from None


def _is_base64url(text: str) -> bool:
    """Tell whether it is base64url as encoders write it: no other spelling of the same bytes."""
    try:
        decoded = _decoded(text)
    except (ValueError, binascii.Error):
        return False
    return bool(text) and base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == text


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
