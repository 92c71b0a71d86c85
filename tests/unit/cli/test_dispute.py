"""`puhui dispute` and `puhui reevaluations`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from puhui.datashare.v1 import disputes_pb2 as pb
from puhui.datashare.v1 import summaries_pb2
from puhui.scoring.v1 import decisions_pb2, scoring_pb2
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

OPEN = pb.Dispute(
    dispute_id="dis_1",
    subject_id="sub_1",
    record_type="court_case",
    provider_id="par_court",
    provider_record_id="2024-17",
    field="amount",
    statement="已结清。",
    state=pb.DISPUTE_STATE_OPEN,
    reason=pb.DISPUTE_REASON_SETTLED,
    version=3,
    deadline_provisional=True,
    overdue=True,
)
OPEN.opened_at.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
OPEN.answer_due_at.FromDatetime(datetime(2026, 1, 22, 16, tzinfo=UTC))
ARGUMENTS = ("par_court", "court_case", "2024-17", "--reason", "settled", "--statement", "已结清。")


def test_open(call: Run, platform: FakePlatform) -> None:
    platform.answer("OpenDispute", pb.OpenDisputeResponse(dispute=OPEN))
    shown = call("dispute", "open", *ARGUMENTS, "--field", "amount")
    assert shown.code == 0
    for part in (
        "dis_1",
        "open, overdue",
        "court_case 2024-17",
        "amount",
        "已结清。",
        "provisional",
    ):
        assert part in shown.out
    document = call("dispute", "open", *ARGUMENTS, "--json").document
    assert document["dispute"]["state"] == "DISPUTE_STATE_OPEN"
    named, whole = platform.requests("OpenDispute")
    assert (named.field, whole.field) == ("amount", "")
    assert named.reason == pb.DISPUTE_REASON_SETTLED
    assert named.provider_record_id == "2024-17"
    assert call("dispute", "open", "par_court", "court_case", "2024-17").code == 2


def test_answer(call: Run, platform: FakePlatform) -> None:
    platform.answer("AnswerDispute", pb.AnswerDisputeResponse(dispute=OPEN))
    outcome = call("dispute", "answer", "dis_1", "upheld", "--answer", "no")
    assert outcome.code == 2
    assert "--evidence" in outcome.err
    assert platform.requests("AnswerDispute") == []
    given = ("--answer", "no", "--evidence", "(2024)京01民初17号")
    assert call("dispute", "answer", "dis_1", "upheld", *given).code == 0
    assert call("dispute", "answer", "dis_1", "corrected", "--answer", "yes", "--json").document
    upheld, corrected = platform.requests("AnswerDispute")
    assert upheld.state == pb.DISPUTE_STATE_UPHELD
    assert upheld.evidence == "(2024)京01民初17号"
    assert corrected.state == pb.DISPUTE_STATE_CORRECTED
    assert call("dispute", "answer", "dis_1", "open", "--answer", "x").code == 2


def test_answering_too_early_says_what_to_do(call: Run, platform: FakePlatform) -> None:
    platform.answer("AnswerDispute", refusal("FAILED_PRECONDITION", "DISPUTE_STATE", "push first"))
    outcome = call("dispute", "answer", "dis_1", "corrected", "--answer", "yes")
    assert outcome.code == 1
    assert "DISPUTE_STATE" in outcome.err
    assert "push first" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "method", "response"),
    [
        (("close", "dis_1"), "CloseDispute", pb.CloseDisputeResponse(dispute=OPEN)),
        (("statement", "dis_1", "是"), "SetStatement", pb.SetStatementResponse(dispute=OPEN)),
        (("statement", "dis_1", ""), "SetStatement", pb.SetStatementResponse(dispute=OPEN)),
        (("show", "dis_1"), "GetDispute", pb.GetDisputeResponse(dispute=OPEN)),
    ],
)
def test_one_dispute(
    call: Run,
    platform: FakePlatform,
    arguments: tuple[str, ...],
    method: str,
    response: object,
) -> None:
    platform.answer(method, response)
    shown = call("dispute", *arguments)
    assert shown.code == 0
    assert "dis_1" in shown.out
    assert call("dispute", *arguments, "--json").document["dispute"]["version"] == 3
    request = platform.requests(method)[0]
    assert request.dispute_id == "dis_1"
    if method == "SetStatement":
        assert request.statement == arguments[2]


def test_list(call: Run, platform: FakePlatform) -> None:
    second = pb.Dispute(dispute_id="dis_2", state=pb.DISPUTE_STATE_UPHELD)
    platform.answer("ListDisputes", pb.ListDisputesResponse(disputes=[OPEN, second]))
    shown = call("dispute", "list").out
    for part in ("2 disputes", "dis_1", "open, overdue", "settled", "dis_2", "all of it"):
        assert part in shown
    assert len(call("dispute", "list", "--limit", "1", "--json").document["disputes"]) == 1
    assert call("dispute", "list", "--state", "upheld", "--overdue").code == 0
    everything, _, narrowed = platform.requests("ListDisputes")
    assert (everything.state, everything.overdue) == (pb.DISPUTE_STATE_UNSPECIFIED, False)
    assert (narrowed.state, narrowed.overdue) == (pb.DISPUTE_STATE_UPHELD, True)


def test_reevaluations(call: Run, platform: FakePlatform) -> None:
    due = decisions_pb2.Reevaluation(
        decision=scoring_pb2.Decision(decision_id="dec_1", subject_id="sub_1", score=612),
        cause="RECORD_CORRECTED",
        dispute_id="dis_1",
    )
    due.due_since.FromDatetime(datetime(2026, 1, 5, tzinfo=UTC))
    platform.answer(
        "ListReevaluations", decisions_pb2.ListReevaluationsResponse(reevaluations=[due] * 2)
    )
    shown = call("reevaluations").out
    for part in ("2 scores to be made again", "dec_1", "612", "record corrected", "dis_1"):
        assert part in shown
    document = call("reevaluations", "--limit", "1", "--json").document
    assert [each["cause"] for each in document["reevaluations"]] == ["RECORD_CORRECTED"]


def test_a_portfolio_and_a_list_tell_which_scores_are_on_disputed_records(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    states = [pb.DISPUTE_STATE_UNVERIFIABLE, pb.DISPUTE_STATE_OPEN, pb.DISPUTE_STATE_OPEN]
    disputed = scoring_pb2.Decision(
        decision_id="dec_1",
        disputes=[summaries_pb2.DisputeMark(dispute_id="dis_1", state=state) for state in states],
    )
    plain = scoring_pb2.Decision(decision_id="dec_2")
    plain.linked.add().disputes.add(state=pb.DISPUTE_STATE_UPHELD)
    plain.notices.add(code="DISPUTED_SINCE")
    answers = [
        scoring_pb2.BatchScoreResponse(index=index, decision=decision)
        for index, decision in enumerate([disputed, plain])
    ]
    platform.answer("BatchScore", lambda request: answers)
    (tmp_path / "p.csv").write_text("subject_id,consent_id\nsub_1,con_1\nsub_2,con_2\n")
    platform.answer(
        "ListDecisions", decisions_pb2.ListDecisionsResponse(decisions=[disputed, plain])
    )
    for command in (
        ("score", "--batch", "p.csv", "--officer", "Wang", "--file-ref", "A-17"),
        ("decision", "list"),
    ):
        shown = call(*command).out
        assert "in dispute" in shown
        (first,) = [line for line in shown.splitlines() if "dec_1" in line]
        (second,) = [line for line in shown.splitlines() if "dec_2" in line]
        assert "2 open, 1 unverifiable" in first
        assert "open" not in second
        assert "1 upheld, some since" in second


def test_a_decision_shows_what_was_disputed(call: Run, platform: FakePlatform) -> None:
    mark = summaries_pb2.DisputeMark(
        dispute_id="dis_1",
        record_type="court_case",
        month=202601,
        state=pb.DISPUTE_STATE_UNVERIFIABLE,
        statement="已结清。",
    )
    decision = scoring_pb2.Decision(decision_id="dec_1", disputes=[mark])
    platform.answer("GetDecision", decisions_pb2.GetDecisionResponse(decision=decision))
    shown = call("decision", "show", "dec_1").out
    for part in ("In dispute 异议", "dis_1", "unverifiable", "2026-01", "all of it", "已结清。"):
        assert part in shown
