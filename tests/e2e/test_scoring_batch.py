"""A portfolio that outlasts one call, and one firm whose data cannot be read, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from puhui.datashare.v1 import accesses_pb2, accesses_pb2_grpc
from puhui.scoring.v1 import scoring_pb2_grpc
from puhui_client import Client, ScoreResult, score_order
from services.kit.calls import Authenticate, Call
from services.kit.client import Channel
from services.kit.clock import SystemClock
from services.kit.errors import FailedPreconditionError, InternalError, PuhuiError
from services.kit.identity import GATEWAY, SCORING, Caller, IdentityVerifier
from services.kit.ids import SequentialIds
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.telemetry import Telemetry
from services.scoring.decisions.app import OrderCall, Released, Scoring
from services.scoring.decisions.datashare import DatashareSummaries
from services.scoring.decisions.domain import Order
from services.scoring.decisions.servicer import ScoringServicer
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from tests.e2e.gateway import PUBLIC, entrance
from tests.fakes.decisions import AddingModel, FakeModels, FakeSummaries, FakeWork

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BANK = Caller("par_bank", "BANK")


def sales(fen: int) -> FirmSummary:
    series = SubjectSeries("vat_invoice", "par_tax", (202604,), {"output_net": (fen,)})
    return FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED})


@asynccontextmanager
async def served(authenticate: Authenticate, *added: tuple[Any, object]) -> AsyncIterator[Server]:
    config = ServerConfig("127.0.0.1:0", grace=0.1)
    server = Server(config, authenticate, Telemetry("test"), SystemClock())
    for register, servicer in added:
        server.add(register, servicer)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def scored(
    model: AddingModel, summaries: FakeSummaries, subjects: list[str], *, stream_limit: float
) -> tuple[list[ScoreResult], FakeWork]:
    """Score a portfolio as a bank does: through the gateway, by the client."""
    work = FakeWork()
    scoring = Scoring(
        summaries, FakeModels({"v1": model}, "v1"), work, SystemClock(), SequentialIds()
    )
    servicer = ScoringServicer(scoring, stream_limit=stream_limit)
    authenticate = by_assertion(IdentityVerifier({GATEWAY: PUBLIC}, SCORING, SystemClock()))
    register = scoring_pb2_grpc.add_ScoringServiceServicer_to_server
    async with (
        served(authenticate, (register, servicer)) as server,
        entrance(scoring=f"127.0.0.1:{server.port}") as front,
        Client(f"127.0.0.1:{front.gateway.port}", front.key("BANK"), timeout=20) as bank,
    ):
        orders = [
            score_order(subject, "con_1", officer="王", file_reference="F-1")
            for subject in subjects
        ]
        return [result async for result in bank.batch_score(orders)], work


async def test_a_portfolio_that_outlasts_a_call_is_gone_on_with_by_the_client() -> None:
    subjects = [f"sub_{number}" for number in range(150)]
    summaries = FakeSummaries({subject: sales(1000) for subject in subjects}, NOW)
    results, work = await scored(AddingModel("v1"), summaries, subjects, stream_limit=0.0)
    assert [result.index for result in results] == list(range(150))
    assert [result.decision.subject_id for result in results if result.decision] == subjects
    # Each call got one part done; nobody was asked for twice.
    assert [len(calls) for calls in summaries.fetched] == [64, 64, 22]
    assert len(work.decisions.made) == 150


async def test_a_firm_that_the_model_fails_on_is_refused_alone() -> None:
    summaries = FakeSummaries({"sub_good": sales(1000), "sub_odd": sales(9000)}, NOW)
    model = AddingModel("v1", chokes_on=0.9)
    results, _ = await scored(model, summaries, ["sub_odd", "sub_good"], stream_limit=25.0)
    assert [result.error.reason if result.error else "" for result in results] == ["INTERNAL", ""]


class Damaged(accesses_pb2_grpc.AccessServiceServicer):
    """Releases summaries, of which the first cannot be read."""

    async def BatchFetchSummaries(
        self, request: accesses_pb2.BatchFetchSummariesRequest, context: Any
    ) -> accesses_pb2.BatchFetchSummariesResponse:
        answer = accesses_pb2.BatchFetchSummariesResponse()
        for number, _ in enumerate(request.items):
            released = answer.results.add().released
            released.access_id = f"acc_{number}"
            series = released.summary.series.add(record_type="grant", provider_id="p")
            series.months.append(202401)
            series.columns.add(name="grants", values=[1] * number)
        return answer


async def test_a_summary_that_cannot_be_read_fails_its_own_order() -> None:
    async def as_scoring(call: Call) -> Caller:
        return Caller("scoring", "SCORING")

    deadline = asyncio.get_running_loop().time() + 5
    calls = [
        OrderCall(Order(f"r{n}", "sub_1", "con_1", "credit_application"), BANK, "a", deadline, "")
        for n in range(2)
    ]
    register = accesses_pb2_grpc.add_AccessServiceServicer_to_server
    async with served(as_scoring, (register, Damaged())) as server:  # type: ignore[abstract]  # methods that no test calls are left out
        channel = Channel(f"127.0.0.1:{server.port}", lambda: "token")
        damaged, whole = await DatashareSummaries(channel, SystemClock()).fetch(calls)
        await channel.close()
    assert isinstance(damaged, InternalError)
    assert isinstance(whole, Released)
    assert whole.access_id == "acc_1"


class WithdrawnInTheMiddle(FakeSummaries):
    """A datashare in which the consent is withdrawn after the first part of a portfolio."""

    async def fetch(
        self, calls: Sequence[OrderCall], answered: Callable[[], None] | None = None
    ) -> list[Released | PuhuiError]:
        answers = await super().fetch(calls, answered)
        if len(self.fetched) == 1:
            return answers
        return [FailedPreconditionError("CONSENT_WITHDRAWN", "withdrawn")] * len(answers)


async def test_the_consent_is_checked_again_before_each_part_of_a_stream() -> None:
    subjects = [f"sub_{number}" for number in range(150)]
    summaries = WithdrawnInTheMiddle({subject: sales(1000) for subject in subjects}, NOW)
    results, work = await scored(AddingModel("v1"), summaries, subjects, stream_limit=25.0)
    # Each part is a fetch of its own, which checks: what was not fetched before is not scored.
    assert [len(calls) for calls in summaries.fetched] == [64, 64, 22]
    outcomes = [result.error.reason if result.error else "" for result in results]
    assert outcomes == [""] * 64 + ["CONSENT_WITHDRAWN"] * 86
    assert len(work.decisions.made) == 64
