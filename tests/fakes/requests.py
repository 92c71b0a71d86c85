"""Keys of writes."""

from itertools import count

from services.datashare.idempotency.domain import RequestKey

_numbers = count(1)


def fresh_key(caller_id: str = "par_bank") -> RequestKey:
    """Return the key of a write that nobody made yet."""
    return RequestKey(caller_id, f"request-{next(_numbers)}", b"f" * 32)
