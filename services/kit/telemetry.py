"""Traces, metrics and logs of one service, with one trace id across all of them.

Invariants:

- Every call has a trace id, also when nothing is recorded: from the caller's W3C `traceparent`,
  else new. It goes out with every call made meanwhile and stands in every log line.
- Nothing leaves the machine unless an OTLP endpoint is configured.
- A log line, a span and a metric hold no personal data and no registration number. Of an exception
  only its type and the places in the code are logged, since messages quote values; 18-character
  numbers that slip into a text are blotted out.
- A `Telemetry` belongs to one service and is injected: several live in one process, so the global
  providers of OpenTelemetry are never touched. Only the format of log lines is the process's.

Measured: a call that is not recorded costs about 10 us, most of it the histogram; a recorded one
about 50 us more.
"""

import asyncio
import contextvars
import importlib.metadata
import logging
import random
import re
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final

import orjson
import structlog
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest

TRACEPARENT_METADATA: Final = "traceparent"

_EXPORT_TIMEOUT_S: Final = 3
_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# A USCC (GB 32100) or a resident's identity number (GB 11643), perhaps with blanks or hyphens.
_NUMBER: Final = re.compile(
    r"(?<![0-9A-Z])[0-9A-Z][ -]?[0-9A-Z](?:[ -]?[0-9]){6}(?:[ -]?[0-9A-Z]){10}(?![0-9A-Z])",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class TelemetryConfig:
    """What is exported, and where to.

    Args:
        otlp_endpoint: an OpenTelemetry collector; without it nothing leaves the machine.
        sample_ratio: share of the traces begun here that are recorded; a caller's own decision
            is followed.
        metrics_interval: time between two exports of the metrics.
    """

    otlp_endpoint: str | None = field(
        default=None, metadata={"help": "OTLP gRPC collector, such as http://collector:4317"}
    )
    sample_ratio: float = field(
        default=0.05, metadata={"help": "share of traces recorded when a collector is set, 0 to 1"}
    )
    metrics_interval: timedelta = field(
        default=timedelta(seconds=15), metadata={"help": "time between exports of metrics"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError("sample_ratio must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in which trace something happens.

    Args:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        sampled: the trace is being recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The W3C header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(header: str) -> TraceContext | None:
    """Return what a W3C `traceparent` says; None when it is absent or not valid."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    unusable = version == "ff" or (version == "00" and more)
    if unusable or trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


@dataclass(frozen=True, slots=True)
class _Scope:
    """What the code that runs now belongs to."""

    telemetry: "Telemetry"
    trace: TraceContext | None


_scope: contextvars.ContextVar[_Scope | None] = contextvars.ContextVar("puhui_scope", default=None)


def current_traceparent() -> str:
    """Return the `traceparent` to send with a call; of a new trace when none is under way."""
    scope = _scope.get()
    trace = scope.trace if scope else None
    return (trace or _new_trace(sampled=False)).traceparent


def current_trace_id() -> str:
    """Return the id of the trace under way; empty when there is none."""
    scope = _scope.get()
    return scope.trace.trace_id if scope and scope.trace else ""


def redact(text: str) -> str:
    """Return the text with what looks like a registration or identity number blotted out."""
    return _NUMBER.sub("[number]", text)


class Span:
    """The serving of one call, measured while it is entered."""

    __slots__ = (
        "_code",
        "_name",
        "_otel",
        "_outer",
        "_parent",
        "_reason",
        "_started",
        "_telemetry",
    )

    def __init__(
        self,
        telemetry: "Telemetry",
        name: str,
        parent: TraceContext | None,
    ) -> None:
        self._telemetry = telemetry
        self._name = name
        self._parent = parent
        self._code = "OK"
        self._reason = ""
        self._otel: OtelSpan | None = None
        self._outer: _Scope | None = None
        self._started = 0.0

    def __enter__(self) -> "Span":
        trace, self._otel = self._telemetry._begin(self._name, self._parent)
        self._telemetry._running += 1
        self._outer = _scope.get()
        _scope.set(_Scope(self._telemetry, trace))
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._started
        # Not by token: an async generator may be closed in another context than it was begun in.
        _scope.set(self._outer)
        if error is not None and self._code == "OK":
            gone = isinstance(error, (asyncio.CancelledError, GeneratorExit))
            self.fail("CANCELLED" if gone else "UNKNOWN", type(error).__name__)
        self._telemetry._served(self._name, self._code, self._reason, seconds)
        if self._otel is not None:
            if self._code != "OK":
                self._otel.set_status(Status(StatusCode.ERROR, self._reason))
                self._otel.set_attribute("error.type", self._reason)
            self._otel.set_attribute("rpc.response.status_code", self._code)
            self._otel.end()

    def fail(self, code: str, reason: str) -> None:
        """Note that the work failed.

        Args:
            code: canonical code, such as "FAILED_PRECONDITION".
            reason: name of the `ErrorReason`.
        """
        self._code = code
        self._reason = reason


class Telemetry:
    """Traces, metrics and logs of one service. Make it with `setup`.

    Args:
        service: its name, such as "datashare".
        sample_ratio: share of the traces begun here that are recorded.
        spans: where spans go; None records none.
        metrics: where metrics go besides `render_metrics`.
        metrics_interval: time between two exports of the metrics.
        logs: where log lines go besides stderr.
    """

    def __init__(
        self,
        service: str,
        *,
        sample_ratio: float = 0.0,
        spans: SpanExporter | None = None,
        metrics: MetricExporter | None = None,
        metrics_interval: timedelta = timedelta(seconds=15),
        logs: LogRecordExporter | None = None,
    ) -> None:
        self.service = service
        self._ratio = sample_ratio
        self._running = 0
        self._outcomes: dict[tuple[str, str, str], dict[str, str]] = {}
        resource = Resource.create(
            {
                "service.name": service,
                "service.namespace": "puhui",
                "service.version": importlib.metadata.version("puhui"),
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        self._tracers: TracerProvider | None = None
        self._tracer: Tracer | None = None
        if spans is not None:
            self._tracers = TracerProvider(
                # Whether to record is decided in _begin, before a span is made.
                sampler=ALWAYS_ON,
                resource=resource,
                shutdown_on_exit=False,
            )
            self._tracers.add_span_processor(BatchSpanProcessor(spans))
            self._tracer = self._tracers.get_tracer("puhui")
        self._loggers: LoggerProvider | None = None
        self._logger: Logger | None = None
        if logs is not None:
            self._loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
            self._loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
            self._logger = self._loggers.get_logger("puhui")
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        readers: list[Any] = [
            PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        ]
        if metrics is not None:
            readers.append(
                PeriodicExportingMetricReader(
                    metrics, export_interval_millis=metrics_interval.total_seconds() * 1000
                )
            )
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self.meter: Meter = self._meters.get_meter("puhui")
        self._duration = self.meter.create_histogram(
            "rpc.server.call.duration",
            unit="s",
            description="time to serve a call, by method, canonical code and reason",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )
        self.meter.create_observable_gauge(
            "rpc.server.active_calls", [self._observe_running], description="calls being served"
        )

    @classmethod
    def setup(cls, service: str, config: TelemetryConfig) -> "Telemetry":
        """Return a service's telemetry, and let the log lines of the tasks begun from here name it.

        Args:
            service: its name, such as "datashare".
            config: what is exported, and where to.
        """
        endpoint = config.otlp_endpoint
        if endpoint is None:
            made = cls(service)
        else:
            made = cls(
                service,
                sample_ratio=config.sample_ratio,
                spans=OTLPSpanExporter(endpoint, timeout=_EXPORT_TIMEOUT_S),
                metrics=OTLPMetricExporter(endpoint, timeout=_EXPORT_TIMEOUT_S),
                metrics_interval=config.metrics_interval,
                logs=OTLPLogExporter(endpoint, timeout=_EXPORT_TIMEOUT_S),
            )
        _scope.set(_Scope(made, None))
        return made

    def serve(self, method: str, metadata: Mapping[str, str]) -> Span:
        """Measure the serving of one call.

        Args:
            method: full name, "/package.Service/Method".
            metadata: the call's; its `traceparent` says which trace it belongs to.
        """
        header = metadata.get(TRACEPARENT_METADATA)
        parent = parse_traceparent(header) if header else None
        return Span(self, method.lstrip("/"), parent)

    def render_metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    async def close(self) -> None:
        """Export what is left, as far as the collector takes it, and stop."""
        providers = (self._tracers, self._loggers, self._meters)
        await asyncio.gather(
            *(asyncio.to_thread(each.shutdown) for each in providers if each is not None)
        )

    def _begin(
        self, name: str, parent: TraceContext | None
    ) -> tuple[TraceContext, OtelSpan | None]:
        if parent is None:
            scope = _scope.get()
            parent = scope.trace if scope else None
        tracer = self._tracer
        if parent is not None:
            if tracer is None or not parent.sampled:
                return parent, None
            inherited = set_span_in_context(
                NonRecordingSpan(
                    SpanContext(
                        int(parent.trace_id, 16),
                        int(parent.span_id, 16),
                        is_remote=True,
                        trace_flags=TraceFlags(TraceFlags.SAMPLED),
                    )
                ),
                Context(),
            )
        elif tracer is None or random.random() >= self._ratio:  # noqa: S311 - sampling
            return _new_trace(sampled=False), None
        else:
            inherited = Context()
        span = tracer.start_span(name, inherited, SpanKind.SERVER)
        made = span.get_span_context()
        return TraceContext(f"{made.trace_id:032x}", f"{made.span_id:016x}", sampled=True), span

    def _served(self, method: str, code: str, reason: str, seconds: float) -> None:
        self._running -= 1
        key = (method, code, reason)
        attributes = self._outcomes.get(key)
        if attributes is None:
            attributes = {"rpc.method": method, "rpc.response.status_code": code}
            if reason:
                attributes["error.type"] = reason
            self._outcomes[key] = attributes
        self._duration.record(seconds, attributes)

    def _observe_running(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._running)]

    def _export_line(self, level: str, line: Mapping[str, Any]) -> None:
        if self._logger is not None:
            attributes = {
                key: value if isinstance(value, (str, int, float, bool)) else str(value)
                for key, value in line.items()
                if key not in _OWN_FIELDS
            }
            self._logger.emit(
                timestamp=time.time_ns(),
                context=_otel_context(),
                severity_number=_SEVERITIES.get(level, SeverityNumber.INFO),
                severity_text=level,
                body=str(line["event"]),
                attributes=attributes,
            )


def _new_trace(*, sampled: bool) -> TraceContext:
    # Ids need to differ, not to be secret; zero is not valid.
    trace_id = random.getrandbits(128) or 1  # nosec B311  # an id of a trace, no secret
    span_id = random.getrandbits(64) or 1  # nosec B311  # an id of a trace, no secret
    return TraceContext(f"{trace_id:032x}", f"{span_id:016x}", sampled)


def _otel_context() -> Context:
    scope = _scope.get()
    if scope is None or scope.trace is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if scope.trace.sampled else TraceFlags.DEFAULT)
    trace_id, span_id = int(scope.trace.trace_id, 16), int(scope.trace.span_id, 16)
    return set_span_in_context(
        NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)),
        Context(),
    )


_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_OWN_FIELDS: Final = {"event", "time", "level", "service", "trace_id", "span_id"}


def configure_logs(level: str = "info") -> None:
    """Make every log line of the process one JSON object on stderr.

    Lines of other packages (warnings and worse) are cut to their first line, as the rest may quote
    values.

    Args:
        level: "debug", "info", "warning" or "error".
    """
    structlog.configure(
        processors=[
            _place,
            _time,
            structlog.processors.add_log_level,
            _error,
            _blot,
            _export,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_names: structlog.BytesLogger(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _ForeignHandler)]:
        root.removeHandler(handler)
    root.addHandler(_ForeignHandler(logging.WARNING))


class _ForeignHandler(logging.Handler):
    """Writes the lines of packages that log by `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, Any] = {
            "event": record.getMessage().partition("\n")[0][:300],
            "logger": record.name,
            "level": record.levelname.lower(),
        }
        if record.exc_info:
            line["exc_info"] = record.exc_info
        for step in (_place, _time, _error, _blot):
            line = step(None, "", line)
        structlog.BytesLogger(sys.stderr.buffer).msg(_render(None, "", line))


def _place(_logger: object, _name: str, line: Any) -> Any:
    scope = _scope.get()
    if scope is not None:
        line.setdefault("service", scope.telemetry.service)
        if scope.trace is not None:
            line["trace_id"] = scope.trace.trace_id
            line["span_id"] = scope.trace.span_id
    return line


def _time(_logger: object, _name: str, line: Any) -> Any:
    line["time"] = datetime.now(UTC).isoformat(timespec="microseconds")
    return line


def _error(_logger: object, _name: str, line: Any) -> Any:
    """Replace an exception by its type, its causes' types and the places in the code."""
    given = line.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    if isinstance(given, BaseException):
        given = (type(given), given, given.__traceback__)
    if given and given[0]:
        kind, error, trace = given
        line["error"] = kind.__qualname__
        line["stack"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)
        ]
        causes = []
        while error is not None and (error := error.__cause__ or error.__context__):
            causes.append(type(error).__qualname__)
        if causes:
            line["causes"] = causes
    return line


def _blot(_logger: object, _name: str, line: Any) -> Any:
    if isinstance(line, str):
        return redact(line)
    if isinstance(line, dict):
        return {key: _blot(None, "", value) for key, value in line.items()}
    if isinstance(line, (list, tuple)):
        return [_blot(None, "", value) for value in line]
    return line


def _export(_logger: object, _name: str, line: Any) -> Any:
    scope = _scope.get()
    if scope is not None:
        scope.telemetry._export_line(line["level"], line)
    return line


def _render(_logger: object, _name: str, line: Any) -> bytes:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
