"""What who watches sees of the registry and of shadows."""

import structlog
from opentelemetry.metrics import Meter

from services.scoring.shadow.domain import Loss

_log = structlog.get_logger()


class RegistryMetrics:
    """Metrics of the registry and of shadows.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._unlogged = meter.create_gauge(
            "puhui.registry.unlogged",
            description="events of the registry without a leaf in the log",
        )
        self._stopped = meter.create_gauge(
            "puhui.scoring.stopped", description="stops that stand: of all scoring, of versions"
        )
        self._scored = meter.create_counter(
            "puhui.shadow.scored", description="decisions that challengers have scored"
        )
        self._dropped = meter.create_counter(
            "puhui.shadow.dropped",
            description="decisions that a challenger has not scored, for want of room or time",
        )
        self._failed = meter.create_counter(
            "puhui.shadow.failed", description="decisions that a challenger failed on"
        )

    def unlogged(self, events: int) -> None:
        """So many events wait for their leaf."""
        self._unlogged.set(events)

    def stopped(self, stops: int) -> None:
        """So many stops stand."""
        self._stopped.set(stops)

    def scored(self, decisions: int) -> None:
        """Challengers have scored decisions."""
        self._scored.add(decisions)

    def lost(self, loss: Loss) -> None:
        """Challengers have not scored decisions."""
        if loss.dropped:
            self._dropped.add(loss.dropped)
        if loss.failed:
            self._failed.add(loss.failed)

    def hangs(self, version: str) -> None:
        """A challenger has not come back in time."""
        _log.error("a challenger hangs", version=version)

    def failed(self, version: str, error: Exception) -> None:
        """A challenger failed on decisions, on the last of them by this."""
        _log.error("a challenger failed", version=version, exc_info=error)
