"""Adding leaves for what happened in another service.

Invariant: an event has one leaf, however often it is sent: the one that it was given first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from services.datashare.idempotency.app import Codec, Requests
from services.datashare.idempotency.domain import RequestKey, require_same
from services.datashare.log.domain import Leaf, LeafKind, Leaves, Sealer, canonical
from services.kit.clock import Clock
from services.kit.errors import InvalidArgumentError, invalid_field
from services.kit.transactions import Retry, Transactions


@dataclass(frozen=True, slots=True)
class Attested:
    """Something that happened elsewhere.

    Args:
        key: its id, with the hash of its content.
        content: RFC 8785 canonical JSON, an object.
    """

    key: RequestKey
    content: bytes


class Work(Protocol):
    """What this needs in a transaction."""

    @property
    def requests(self) -> Requests:
        """The ids that were used."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...


class AttestEvents:
    """Adds leaves for events of scoring's registry of models.

    Args:
        transactions: opens transactions.
        retry: runs one again that lost a race.
        clock: the time.
        sealer: makes leaves.
        codec: of leaves.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        sealer: Sealer,
        codec: Codec[Leaf],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._sealer = sealer
        self._codec = codec

    async def __call__(self, events: Sequence[Attested]) -> Sequence[Leaf]:
        """Return the leaf of each event, made now where there was none.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED, an event has another content now.
            InvalidArgumentError: FIELD_INVALID, a content is not canonical JSON.
        """
        contents = [_parsed(event.content, at) for at, event in enumerate(events)]

        async def attempt() -> Sequence[Leaf]:
            found, made = [], []
            async with self._transactions.begin() as work:
                now = self._clock.now()
                for event, content in zip(events, contents, strict=True):
                    stored = await work.requests.claim(event.key, now)
                    if stored is not None:
                        require_same(event.key, stored.fingerprint)
                        found.append(self._codec.decode(stored.response))
                        continue
                    leaf = self._sealer.seal(LeafKind.MODEL, content, now)
                    await work.requests.complete(event.key, self._codec.encode(leaf))
                    found.append(leaf)
                    made.append(leaf)
                if made:
                    await work.leaves.append(made)
            return found

        return await self._retry(attempt)


def _parsed(content: bytes, at: int) -> dict[str, str]:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise _not_canonical(at) from None
    if not isinstance(parsed, dict) or canonical(parsed) != content:
        raise _not_canonical(at)
    return parsed


def _not_canonical(at: int) -> InvalidArgumentError:
    problem = "is not the canonical JSON of an object"
    return invalid_field("FIELD_INVALID", f"events[{at}].content", problem)
