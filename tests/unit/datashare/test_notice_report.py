"""What the operator is told of deliveries."""

import json

import structlog

from services.datashare.notices.messengers import MeteredReport
from services.kit.telemetry import Telemetry, TelemetryConfig


async def test_counters_and_what_is_logged() -> None:
    telemetry = Telemetry.setup("datashare", TelemetryConfig())
    report = MeteredReport(telemetry.meter)
    with structlog.testing.capture_logs() as lines:
        report.delivered(3)
        report.failed("answered with status 500")
        report.parked("par_bank", "bank.example.cn", "answered with status 500")
        report.sent()
        report.unsent("the mail server: down")
        report.broke_off(ZeroDivisionError())
        report.parks("par_firm", "the mail server: SMTPRecipientsRefused")
    report.parked_now(2, 3)
    metrics = telemetry.render_metrics().decode()
    for line in (
        "puhui_webhook_delivered_total 3.0",
        "puhui_webhook_failed_total 1.0",
        "puhui_webhook_parked_total 1.0",
        "puhui_message_sent_total 1.0",
        "puhui_message_failed_total 1.0",
        "puhui_webhooks_parked 2.0",
        "puhui_contacts_parked 3.0",
    ):
        assert line in metrics
    await telemetry.close()
    parked, unsent, broken, refused = lines
    assert isinstance(broken["exc_info"], ZeroDivisionError)
    assert refused["participant_id"] == "par_firm"
    assert parked["participant_id"] == "par_bank"
    assert parked["host"] == "bank.example.cn"
    assert parked["log_level"] == unsent["log_level"] == "warning"
    assert "/" not in json.dumps(parked)
