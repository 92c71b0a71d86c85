"""How much one participant may ask at once, so that no one takes what all need."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from services.kit.client import MAX_MESSAGE_BYTES
from services.kit.errors import InvalidArgumentError, ResourceExhaustedError

_RETRY_AFTER = timedelta(seconds=1)


def check_size(body: bytes | bytearray) -> None:
    """Check the size of a message, or of what has come of it.

    Raises:
        InvalidArgumentError: BATCH_TOO_LARGE.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        raise InvalidArgumentError(
            "BATCH_TOO_LARGE", f"the message is over {MAX_MESSAGE_BYTES} bytes: send less at once"
        )


class Concurrency:
    """Counts the calls of each participant that run now.

    Args:
        most: of one participant.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: Counter[str] = Counter()

    @contextlib.contextmanager
    def enter(self, participant_id: str) -> Iterator[None]:
        """Count one call while it runs.

        Raises:
            ResourceExhaustedError: OVERLOADED: the participant has as many as it may.
        """
        if self._running[participant_id] >= self._most:
            raise ResourceExhaustedError(
                "OVERLOADED",
                f"more than {self._most} of your calls run at once: wait for some to end",
                retry_after=_RETRY_AFTER,
            )
        self._running[participant_id] += 1
        try:
            yield
        finally:
            self._running[participant_id] -= 1
            if not self._running[participant_id]:
                del self._running[participant_id]
