"""Receipts of releases: proof to the recipient that its access is in the log, or will be.

Invariants:

- A receipt has all that its leaf's hash covers, so that whoever holds it can compute the hash.
- The promise is a compact JWS under a key of the platform over the leaf's hash and the time by
  which the log has it: `PROMISED` after the access. A replay gets the leaf and time of the release.
- A receipt is made after the commit: what was rolled back was promised to nobody.
"""

import base64
from datetime import timedelta
from typing import Final

from services.datashare.access.domain import Receipt, Sealed, content
from services.datashare.log.domain import canonical, rfc3339
from services.datashare.receipts.domain import Signer

PROMISED: Final = timedelta(hours=24)
"""Within which a leaf is put into the log."""


def receipt(sealed: Sealed, signer: Signer) -> Receipt:
    """Return the receipt of a release that was committed."""
    payload = canonical(
        {
            "included_by": rfc3339(sealed.access.accessed_at + PROMISED),
            "leaf_hash": sealed.hash.hex(),
        }
    )
    header, _, signature = signer.sign(payload).split(".")
    body = base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    return Receipt(
        leaf_hash=sealed.hash,
        salt=sealed.salt,
        content=canonical(content(sealed.access)),
        promise=f"{header}.{body}.{signature}",
    )
