"""A signer's signature over a consent.

Invariant: who has registered a signing key agrees by a signature under it; who has none agrees by
its authenticated call, and brings no signature, as nobody could check it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from services.datashare.consent.domain import Signature
from services.datashare.deliveries.signatures import named_key, verify
from services.datashare.participants.domain import Participant, SigningKey
from services.kit.errors import InvalidArgumentError, invalid_field
from services.kit.identity import Caller

_REASON: Final = "CONSENT_SIGNATURE_INVALID"
_JWS: Final = "signatures[0].jws"


class Keys(Protocol):
    """Participants and the keys that they sign with."""

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        """Return a participant's signing key."""
        ...


async def checked_jws(
    keys: Keys, caller: Caller, canonical: bytes, signatures: Sequence[Signature]
) -> str:
    """Return the caller's signature over a consent; empty of a caller without a signing key.

    Args:
        keys: of participants; the caller is held, so that its keys do not change.
        caller: who agrees.
        canonical: what is signed.
        signatures: as they were sent.

    Raises:
        InvalidArgumentError: CONSENT_SIGNATURE_INVALID.
    """
    signer_id = caller.participant_id
    if len(signatures) > 1:
        problem = "are more than one: each signer agrees by a call of its own"
        raise invalid_field(_REASON, "signatures", problem)
    if not signatures:
        person = (await keys.among([signer_id])).get(signer_id)
        if person is not None and person.signs:
            problem = "are missing: this account has a signing key, so sign `canonical` with it"
            raise invalid_field(_REASON, "signatures", problem)
        return ""
    if signatures[0].signer_id not in ("", signer_id):
        problem = "is another account than the caller: each signer agrees by a call of its own"
        raise invalid_field(_REASON, "signatures[0].signer_id", problem)
    jws = signatures[0].jws
    key = await keys.signing_key(signer_id, named_key(jws, _refuse))
    if key is None or key.revoked_at is not None:
        raise _refuse("names no valid signing key of this account: list its keys, or register one")
    problem = "is not by that key over this consent: sign its `canonical` by Ed25519 or ES256"
    verify(jws, key.public_jwk, canonical, problem=problem, refuse=_refuse)
    return jws


def _refuse(problem: str) -> InvalidArgumentError:
    return invalid_field(_REASON, _JWS, problem)
