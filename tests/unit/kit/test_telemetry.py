import asyncio
import json
import logging
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2,
    metrics_service_pb2_grpc,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from services.kit.telemetry import (
    Telemetry,
    TelemetryConfig,
    configure_logs,
    current_trace_id,
    current_traceparent,
    parse_traceparent,
    redact,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
METHOD = "/puhui.x.v1.XService/Get"


class Lines:
    """What was logged."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.text = ""

    @property
    def all(self) -> list[dict[str, Any]]:
        self.text += self._capsys.readouterr().err
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    configure_logs()
    yield Lines(capsys)
    structlog.reset_defaults()
    for handler in list(logging.getLogger().handlers):
        if type(handler).__module__ == "services.kit.telemetry":
            logging.getLogger().removeHandler(handler)


class Recorded:
    """A telemetry whose spans and logs stay here."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.spans = InMemorySpanExporter()
        self.logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the exporter has no types
        self.telemetry = Telemetry("x", sample_ratio=ratio, spans=self.spans, logs=self.logs)

    async def finished(self) -> dict[str, Any]:
        await self.telemetry.close()
        return {span.name: span for span in self.spans.get_finished_spans()}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_bad_traceparent_begins_a_new_trace(header: str) -> None:
    assert parse_traceparent(header) is None
    with Telemetry("x").serve(METHOD, {"traceparent": header}):
        assert len(current_trace_id()) == 32
        assert current_trace_id() != TRACE


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    found = parse_traceparent(f"01-{TRACE}-{SPAN}-03-more")
    assert found is not None
    assert found.traceparent == SAMPLED["traceparent"]


def test_a_trace_goes_through_a_service_that_records_nothing() -> None:
    with Telemetry("x").serve(METHOD, SAMPLED):
        assert current_traceparent() == SAMPLED["traceparent"]
    assert current_trace_id() == ""


def test_calls_out_of_one_call_share_its_trace() -> None:
    with Telemetry("x").serve(METHOD, {}):
        first = current_traceparent()
        assert first == current_traceparent()
        assert parse_traceparent(first) is not None
    assert parse_traceparent(current_traceparent()) is not None


async def test_a_span_belongs_to_the_callers_trace() -> None:
    recorded = Recorded(ratio=0)
    with recorded.telemetry.serve(METHOD, SAMPLED):
        inside = parse_traceparent(current_traceparent())
    server = (await recorded.finished())["puhui.x.v1.XService/Get"]
    assert f"{server.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == SPAN
    assert inside is not None
    assert inside.span_id == f"{server.context.span_id:016x}"
    assert server.resource.attributes["service.name"] == "x"


async def test_the_callers_decision_not_to_record_is_followed() -> None:
    recorded = Recorded(ratio=1)
    with recorded.telemetry.serve(METHOD, UNSAMPLED):
        assert current_traceparent() == UNSAMPLED["traceparent"]
    assert await recorded.finished() == {}


async def test_a_share_of_new_traces_is_recorded() -> None:
    random.seed(1)
    recorded = Recorded(ratio=0.25)
    for _ in range(400):
        with recorded.telemetry.serve(METHOD, {}):
            pass
    await recorded.telemetry.close()
    assert 70 < len(recorded.spans.get_finished_spans()) < 130


async def test_failures_are_recorded_with_code_and_reason() -> None:
    recorded = Recorded()
    with recorded.telemetry.serve(METHOD, {}) as served:
        served.fail("FAILED_PRECONDITION", "CONSENT_WITHDRAWN")
    with pytest.raises(asyncio.CancelledError), recorded.telemetry.serve("/s/Cancelled", {}):
        raise asyncio.CancelledError
    with pytest.raises(ValueError, match="private"), recorded.telemetry.serve("/s/Broken", {}):
        raise ValueError("private")
    metrics = recorded.telemetry.render_metrics().decode()
    spans = await recorded.finished()
    failed = spans["puhui.x.v1.XService/Get"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "CONSENT_WITHDRAWN"
    assert failed.attributes["rpc.response.status_code"] == "FAILED_PRECONDITION"
    assert spans["s/Cancelled"].attributes["rpc.response.status_code"] == "CANCELLED"
    assert spans["s/Broken"].attributes["error.type"] == "ValueError"
    assert "private" not in spans["s/Broken"].to_json()
    assert 'rpc_method="s/Cancelled"' in metrics


def samples(telemetry: Telemetry, name: str) -> list[str]:
    lines = telemetry.render_metrics().decode().splitlines()
    return [line for line in lines if line.startswith(name)]


def test_metrics_count_calls_by_method_code_and_reason() -> None:
    telemetry, other = Telemetry("x"), Telemetry("y")
    for _ in range(2):
        with telemetry.serve(METHOD, {}):
            pass
    with telemetry.serve(METHOD, {}):
        assert samples(telemetry, "rpc_server_active_calls ") == ["rpc_server_active_calls 1.0"]
    with telemetry.serve(METHOD, {}) as served:
        served.fail("NOT_FOUND", "NOT_FOUND")
    counts = samples(telemetry, "rpc_server_call_duration_seconds_count")
    assert sorted(counts) == [
        'rpc_server_call_duration_seconds_count{error_type="",'
        'rpc_method="puhui.x.v1.XService/Get",rpc_response_status_code="OK"} 3.0',
        'rpc_server_call_duration_seconds_count{error_type="NOT_FOUND",'
        'rpc_method="puhui.x.v1.XService/Get",rpc_response_status_code="NOT_FOUND"} 1.0',
    ]
    assert samples(telemetry, "rpc_server_active_calls ") == ["rpc_server_active_calls 0.0"]
    assert samples(telemetry, "process_resident_memory_bytes")
    assert samples(other, "rpc_server_call_duration_seconds_count") == []


def test_log_lines_are_json_with_the_service_and_the_trace(lines: Lines) -> None:
    log = structlog.get_logger()
    with Telemetry("datashare").serve(METHOD, SAMPLED):
        log.info("batch stored", rows=2, firms=["91110108MA01ABCD2X"])
    log.debug("not said")
    (line,) = lines.all
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "event": "batch stored",
        "level": "info",
        "service": "datashare",
        "trace_id": TRACE,
        "span_id": SPAN,
        "rows": 2,
        "firms": ["[number]"],
    }


async def test_services_in_one_process_keep_their_names_and_endpoints_apart(lines: Lines) -> None:
    async def run(name: str) -> None:
        Telemetry.setup(name, TelemetryConfig())
        await asyncio.sleep(0)
        await asyncio.create_task(say())

    async def say() -> None:
        structlog.get_logger().info("ready")

    await asyncio.gather(run("datashare"), run("scoring"))
    assert [line["service"] for line in lines.all] == ["datashare", "scoring"]


def test_an_exception_is_logged_without_what_it_quotes(lines: Lines) -> None:
    log = structlog.get_logger()
    try:
        try:
            raise KeyError("private")
        except KeyError as inner:
            raise RuntimeError("private") from inner
    except RuntimeError as error:
        log.exception("fault")
        log.warning("fault", exc_info=error)
    said = lines.all
    assert "private" not in lines.text
    assert len(said) == 2
    for line in said:
        assert line["error"] == "RuntimeError"
        assert "test_telemetry.py" in line["stack"][0]
        assert line["causes"] == ["KeyError"]


def test_lines_of_other_packages_join_in_without_their_details(lines: Lines) -> None:
    logger = logging.getLogger("some.package")
    with Telemetry("x").serve(METHOD, SAMPLED):
        logger.info("chatter")
        logger.error("failed for %s\nDETAIL: private", "91110108MA01ABCD2X")
    (line,) = lines.all
    assert (line["event"], line["logger"], line["level"], line["trace_id"]) == (
        "failed for [number]",
        "some.package",
        "error",
        TRACE,
    )


async def test_log_lines_are_exported_with_their_trace(lines: Lines) -> None:
    recorded = Recorded()
    with recorded.telemetry.serve(METHOD, SAMPLED):
        structlog.get_logger().warning("slow", seconds=2.5, firm="91110108MA01ABCD2X")
    await recorded.telemetry.close()
    (exported,) = recorded.logs.get_finished_logs()
    record = exported.log_record
    assert f"{record.trace_id:032x}" == TRACE
    assert (record.body, record.severity_text) == ("slow", "warning")
    assert dict(record.attributes or {}) == {"seconds": 2.5, "firm": "[number]"}
    assert exported.resource.attributes["service.name"] == "x"
    assert len(lines.all) == 1


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}

    def Export(self, request: Any, _context: Any) -> Any:
        self.received[type(request).__name__] = request
        return answers[type(request).__name__]()


answers = {
    "ExportTraceServiceRequest": trace_service_pb2.ExportTraceServiceResponse,
    "ExportMetricsServiceRequest": metrics_service_pb2.ExportMetricsServiceResponse,
    "ExportLogsServiceRequest": logs_service_pb2.ExportLogsServiceResponse,
}


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(ThreadPoolExecutor(1))
    collector = Collector()
    registrations: list[Any] = [
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
    ]
    for register in registrations:
        register(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


async def test_everything_goes_to_a_configured_collector(
    collector: tuple[Collector, str], lines: Lines
) -> None:
    received, endpoint = collector[0].received, collector[1]
    telemetry = Telemetry.setup("x", TelemetryConfig(endpoint, sample_ratio=1))
    with telemetry.serve(METHOD, {}):
        trace_id = current_trace_id()
        structlog.get_logger().info("done")
    await telemetry.close()
    (spans,) = received["ExportTraceServiceRequest"].resource_spans
    (logs,) = received["ExportLogsServiceRequest"].resource_logs
    (metrics,) = received["ExportMetricsServiceRequest"].resource_metrics
    assert spans.scope_spans[0].spans[0].trace_id.hex() == trace_id
    assert logs.scope_logs[0].log_records[0].trace_id.hex() == trace_id
    assert lines.all[0]["trace_id"] == trace_id
    names = {metric.name for scope in metrics.scope_metrics for metric in scope.metrics}
    assert names >= {"rpc.server.call.duration", "rpc.server.active_calls"}


async def test_an_absent_collector_holds_nothing_up(lines: Lines) -> None:
    telemetry = Telemetry.setup("x", TelemetryConfig("http://127.0.0.1:1", sample_ratio=1))
    with telemetry.serve(METHOD, {}):
        structlog.get_logger().info("done")
    async with asyncio.timeout(6):
        await telemetry.close()


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        TelemetryConfig(sample_ratio=ratio)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("firm 91110108MA01ABCD2X refused", "firm [number] refused"),
        ("person 11010519491231002X", "person [number]"),
        ("firm 91110108ma01abcd2x refused", "firm [number] refused"),
        ("firm 9111 0108 MA01 ABCD 2X.", "firm [number]."),
        ("firm 91-110108-ma01abcd2-x", "firm [number]"),
        ("2026-11-23T06:40:08.123456+00:00", "2026-11-23T06:40:08.123456+00:00"),
        ("12345678-1234-1234-1234-123456789012", "12345678-1234-1234-1234-123456789012"),
        ("con_01J8Z3M5N7P9R1T3V5X7Z9B1D3", "con_01J8Z3M5N7P9R1T3V5X7Z9B1D3"),
        (TRACE, TRACE),
    ],
)
def test_what_looks_like_a_registration_number_is_blotted_out(text: str, shown: str) -> None:
    assert redact(text) == shown
