"""The metric of incidents."""

from opentelemetry.metrics import Meter

from services.datashare.incidents.domain import Severity


class MeteredIncidents:
    """Counts incidents that the watch entered.

    Args:
        meter: makes the counter `puhui.datashare.incidents`.
    """

    def __init__(self, meter: Meter) -> None:
        self._count = meter.create_counter(
            "puhui.datashare.incidents", description="incidents that the watch entered, by rule"
        )

    def __call__(self, rule: str, severity: Severity) -> None:
        """Count one."""
        self._count.add(1, {"rule": rule, "severity": severity.lower()})
