"""`puhui retention` and `puhui subject`."""

from puhui.datashare.v1 import retention_pb2 as pb
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

DUE = pb.DueRecords(
    record_type="penalty",
    provider_id="par_department",
    reason="repaired",
    records=1_200,
    versions=2_400,
    subjects=900,
)
DONE = pb.RetentionRun(
    run_id="ret_1", operator_id="par_operator", deleted=[DUE], leaf_hash=b"\xab" * 32
)


def test_plan_shows_what_would_go_and_how_to_run_it(call: Run, platform: FakePlatform) -> None:
    platform.answer("PlanRetention", pb.PlanRetentionResponse(plan_id="plan_1", due=[DUE]))
    shown = call("retention", "plan")
    for part in ("1,200 records due", "penalty", "par_department", "repaired", "2,400", "900"):
        assert part in shown.out
    assert "puhui retention run plan_1" in shown.err
    assert call("retention", "plan", "--json").document["plan_id"] == "plan_1"


def test_run_asks_and_says_what_went(call: Run, platform: FakePlatform) -> None:
    platform.answer("RunRetention", pb.RunRetentionResponse(run=DONE))
    assert call("retention", "run", "plan_1", input="n\n").code != 0
    assert platform.requests("RunRetention") == []
    shown = call("retention", "run", "plan_1", input="y\n").out
    assert "1,200 records deleted" in shown
    assert "ab" * 32 in shown
    assert call("retention", "run", "plan_1", "--json").code == 2
    document = call("retention", "run", "plan_1", "--json", "--yes").document
    assert document["run_id"] == "ret_1"
    assert {request.plan_id for request in platform.requests("RunRetention")} == {"plan_1"}


def test_a_stale_plan_is_told(call: Run, platform: FakePlatform) -> None:
    platform.answer("RunRetention", refusal("FAILED_PRECONDITION", "PLAN_STALE"))
    refused = call("retention", "run", "plan_1", "--yes")
    assert refused.code != 0
    assert "PLAN_STALE" in refused.err


def test_runs_lists_erasures_too(call: Run, platform: FakePlatform) -> None:
    erasure = pb.RetentionRun(run_id="ret_2", subject_id="sub_1", deleted=[DUE, DUE])
    platform.answer("ListRetentionRuns", pb.ListRetentionRunsResponse(runs=[erasure, DONE]))
    shown = call("retention", "runs").out
    for part in ("2 runs", "ret_2", "sub_1", "2,400", "ret_1", "abababababababab"):
        assert part in shown
    assert len(call("retention", "runs", "--limit", "1", "--json").document["runs"]) == 1


def test_erase_shows_what_would_go_then_asks(call: Run, platform: FakePlatform) -> None:
    def answer(request: pb.EraseSubjectRequest) -> pb.EraseSubjectResponse:
        run = pb.RetentionRun(run_id="ret_3", subject_id="sub_1", deleted=[DUE])
        return pb.EraseSubjectResponse(due=[DUE], run=run if request.confirm else None)

    platform.answer("EraseSubject", answer)
    command = ("subject", "erase", "sub_1", "--reason", "court order")
    assert "1,200 records would go" in call(*command, "--plan").out
    assert call(*command, "--json").code == 2
    assert call(*command, input="n\n").code != 0
    assert not any(request.confirm for request in platform.requests("EraseSubject"))
    assert "1,200 records deleted" in call(*command, input="y\n").out
    assert call(*command, "--json", "--yes").document["subject_id"] == "sub_1"
    assert {request.reason for request in platform.requests("EraseSubject")} == {"court order"}
