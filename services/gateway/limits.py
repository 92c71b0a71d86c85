"""How large a message of a participant may be, whichever way it comes."""

from services.gateway.gate import current_bounds
from services.kit.client import MAX_MESSAGE_BYTES
from services.kit.errors import InvalidArgumentError


def check_size(body: bytes | bytearray) -> None:
    """Check the size of a message, or of what has come of it, by the bounds of who is calling.

    Raises:
        InvalidArgumentError: BATCH_TOO_LARGE.
    """
    bounds = current_bounds()
    most = bounds.message_bytes if bounds else MAX_MESSAGE_BYTES
    if len(body) > most:
        raise InvalidArgumentError(
            "BATCH_TOO_LARGE", f"the message is over {most} bytes: send less at once"
        )
