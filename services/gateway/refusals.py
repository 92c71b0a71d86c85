"""What the gateway refuses itself: logged for each participant and counted."""

import structlog
from opentelemetry.metrics import Meter

from services.kit.errors import PuhuiError
from services.kit.identity import Caller

_log = structlog.get_logger()


class Refusals:
    """Takes note of refusals.

    Args:
        meter: makes the counter `puhui.gateway.refusals`.
    """

    def __init__(self, meter: Meter) -> None:
        self._count = meter.create_counter(
            "puhui.gateway.refusals", description="calls refused at the entrance, by reason"
        )

    def __call__(self, method: str, caller: Caller | None, error: PuhuiError) -> None:
        """Log and count a refusal."""
        method = method.lstrip("/")
        _log.warning(
            "refused",
            method=method,
            participant_id=caller.participant_id if caller else None,
            role=caller.role if caller else None,
            reason=error.reason,
        )
        self._count.add(1, {"method": method, "reason": error.reason})
