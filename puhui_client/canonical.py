"""The bytes that a provider's signatures cover.

Invariants: they are the same on both ends whatever the serialisation on the way; different batches,
or the same rows in another place of a delivery, have different bytes.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol

from puhui.datashare.v1.records_pb2 import Record


class Signer(Protocol):
    """What signs batches; `puhui_client.signing.SigningKey` does."""

    def sign(self, content: bytes) -> str:
        """Return a detached JWS over the content."""
        ...


def canonical_batch(delivery_id: str, sequence: int, records: Iterable[Record]) -> bytes:
    r"""Return what the signature of a batch covers, as `PushBatch.jws` documents it.

    Args:
        delivery_id: of the delivery; empty for `SubmitRecords`.
        sequence: of the batch; 0 for `SubmitRecords`.
        records: of the batch, in order.

    >>> canonical_batch("d", 1, [])
    b'puhui batch v1\nd\n1\n'
    """
    lines = ["puhui batch v1", delivery_id, str(sequence)]
    lines += [
        hashlib.sha256(record.SerializeToString(deterministic=True)).hexdigest()
        for record in records
    ]
    return "".join(f"{line}\n" for line in lines).encode()
