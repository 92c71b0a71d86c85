"""One trace through all services, exported by OTLP, without a word that could name a firm."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from puhui.common.v1 import types_pb2
from puhui.scoring.v1 import scoring_pb2
from services.embedded import Embedded, Folder
from services.sandbox.embedded import ANY_PORT
from services.sandbox.embedded import Embedded as Address
from tests.e2e.town import MODEL, USCC, a_model, invoices, settle

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
OFFICER, FILE = "Ouyang 欧阳", "loan-20261123-77"


@dataclass
class Collector(
    trace_service_pb2_grpc.TraceServiceServicer,
    metrics_service_pb2_grpc.MetricsServiceServicer,
    logs_service_pb2_grpc.LogsServiceServicer,
):
    """Keeps what it is sent."""

    requests: list[Any] = field(default_factory=list)

    async def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return {
            "ExportTraceServiceRequest": trace_service_pb2.ExportTraceServiceResponse,
            "ExportMetricsServiceRequest": metrics_service_pb2.ExportMetricsServiceResponse,
            "ExportLogsServiceRequest": logs_service_pb2.ExportLogsServiceResponse,
        }[request.DESCRIPTOR.name]()

    def spans(self) -> list[tuple[str, str, str]]:
        """Service, name and trace id of every span."""
        return [
            (
                next(
                    attribute.value.string_value
                    for attribute in resource.resource.attributes
                    if attribute.key == "service.name"
                ),
                span.name,
                span.trace_id.hex(),
            )
            for request in self.requests
            if hasattr(request, "resource_spans")
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    made = Collector()
    server = grpc.aio.server()
    registrars: list[Any] = [
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
    ]
    for register in registrars:
        register(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made, f"http://127.0.0.1:{port}"
    await server.stop(0)


async def test_one_trace_goes_through_all_services(
    collector: tuple[Collector, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept, endpoint = collector
    folder = Folder(tmp_path)
    folder.prepare()
    a_model(tmp_path / "models" / MODEL)
    environ = {
        f"PUHUI_{service}_TELEMETRY_{key}": value
        for service in ("GATEWAY", "SCORING", "DATASHARE")
        for key, value in (("OTLP_ENDPOINT", endpoint), ("SAMPLE_RATIO", "1"))
    }
    platform = Embedded(folder, ANY_PORT | environ, None)
    await platform.start()
    try:
        operator_key = (tmp_path / "operator.key").read_text()
        town = await settle(
            Address(
                tmp_path,
                platform.endpoints["gateway"],
                platform.endpoints["http"],
                operator_key,
                0,
            )
        )
        consent = await town.consent()
        order = scoring_pb2.ScoreOrder(
            request_id="traced",
            subject_id=town.subject_id,
            consent_id=consent.consent_id,
            purpose="credit_application",
            officer=types_pb2.Officer(name=OFFICER, file_reference=FILE),
        )
        unnamed = scoring_pb2.ScoreOrder()
        unnamed.CopyFrom(order)
        unnamed.request_id, unnamed.officer.file_reference = "unnamed", ""
        async with grpc.aio.insecure_channel(town.platform.gateway) as channel:
            call: Any = channel.unary_unary("/puhui.scoring.v1.ScoringService/Score")
            with pytest.raises(grpc.aio.AioRpcError):
                await call(
                    scoring_pb2.ScoreRequest(order=unnamed).SerializeToString(),
                    metadata=(("authorization", f"Bearer {town.key('bank')}"),),
                )
            await call(
                scoring_pb2.ScoreRequest(order=order).SerializeToString(),
                metadata=(
                    ("authorization", f"Bearer {town.key('bank')}"),
                    ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"),
                ),
            )
        async with httpx2.AsyncClient() as http:
            health = platform.endpoints["health"]["scoring"]
            metrics = (await http.get(f"http://{health}/metrics")).text
            assert (await http.get(f"http://{health}/readyz")).status_code == httpx2.codes.OK
    finally:
        await platform.stop()
    traced = {(service, name) for service, name, trace_id in kept.spans() if trace_id == TRACE_ID}
    assert {service for service, _ in traced} == {"gateway", "scoring", "datashare"}
    assert "rpc_server_call_duration" in metrics
    captured = capfd.readouterr()
    everything = "".join(map(str, kept.requests)) + captured.out + captured.err + metrics
    counterparty = invoices(1)[0].vat_invoice.counterparty
    for secret in (USCC, counterparty, town.key("bank"), operator_key, OFFICER, FILE):
        assert secret not in everything
