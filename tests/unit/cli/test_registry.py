"""`puhui model`, as far as it is about the registry: what is shown, and wrong calls."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from puhui.scoring.v1 import registry_pb2 as pb
from puhui.scoring.v1.scoring_pb2 import MODEL_CLASS_VALIDATED, ModelRef
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run

SALT = b"s" * 16
CONTENT = '{"act":"STOP","reason":"wrong data"}'


def stamp() -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime(2026, 11, 23, 9, 30, tzinfo=UTC))
    return at


def event(**more: Any) -> pb.ModelEvent:
    said: dict[str, Any] = {
        "event_id": "mev_1",
        "at": stamp(),
        "act": pb.MODEL_ACT_PROMOTE,
        "version": "bank-2",
        "to": pb.MODEL_STATE_CHAMPION,
        "officer": "Zhao 赵",
        "participant_id": "par_2",
        "reason": "next",
        "content": CONTENT,
    }
    made = pb.ModelEvent(**(said | more))
    setattr(made, "from", pb.MODEL_STATE_SHADOW)
    return made


def leaf(content: str = CONTENT) -> pb.EventLeaf:
    digest = hashlib.sha256(b"\x00" + SALT + content.encode()).digest()
    return pb.EventLeaf(leaf_id="leaf_1", salt=SALT, hash=digest)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["propose", "m", "best", "--reason", "r", "--officer", "Li"], "validated, shadow"),
        (["demote", "m", "shadow", "--reason", "r", "--officer", "Li"], "draft, validated"),
        (["propose", "m", "shadow", "--reason", "r", "--officer", " "], "--officer"),
        (["stop", "--officer", "Li"], "--reason"),
        (["shadow", "m", "--since", "May"], "--since"),
    ],
)
def test_a_wrong_call_says_what_it_needs(call: Run, command: list[str], said: str) -> None:
    done = call("model", *command)
    assert done.code == 2
    assert said in " ".join(done.err.split())


def test_what_serves_is_shown_with_stops(call: Run, platform: FakePlatform) -> None:
    platform.answer(
        "GetServing",
        pb.GetServingResponse(
            champion="bank-2",
            predecessor="bank-1",
            stops=[pb.ScoringStop(since=stamp(), reason="wrong tax data")],
            models=[
                pb.RegisteredModel(
                    ref=ModelRef(version="bank-2", model_class=MODEL_CLASS_VALIDATED),
                    state=pb.MODEL_STATE_CHAMPION,
                    validation=pb.ValidationStatement(validator="Sun 孙", document="MRV-1"),
                )
            ],
        ),
    )
    shown = call("model", "serving").out
    for text in ("Scoring is stopped", "wrong tax data", "bank-1", "champion", "Sun 孙", "MRV-1"):
        assert text in shown


def test_events_are_checked_against_their_leaves(call: Run, platform: FakePlatform) -> None:
    events = [event(leaf=leaf()), event(event_id="mev_2")]
    platform.answer("ListModelEvents", pb.ListModelEventsResponse(events=events))
    done = call("model", "events")
    assert done.code == 0
    assert "promote shadow to champion" in " ".join(done.out.split())
    assert "waits" in done.out
    forged = event(event_id="mev_3", leaf=leaf("{}"))
    platform.answer("ListModelEvents", pb.ListModelEventsResponse(events=[*events, forged]))
    done = call("model", "events", "--json")
    assert (done.code, done.document["not_attested"]) == (1, ["mev_3"])


def test_a_proposal_tells_the_second_person_what_to_do(call: Run, platform: FakePlatform) -> None:
    proposed = event(act=pb.MODEL_ACT_PROPOSE, proposal_id="mpr_1", expires_at=stamp())
    platform.answer("ProposePromotion", pb.ProposePromotionResponse(event=proposed))
    platform.answer("ProposeResumption", pb.ProposeResumptionResponse(event=proposed))
    common = "--reason", "better", "--officer", "Li 李"
    done = call("model", "propose", "bank-2", "champion", *common)
    assert "puhui model approve mpr_1" in done.err
    [request] = platform.requests("ProposePromotion")
    assert (request.to, request.officer) == (pb.MODEL_STATE_CHAMPION, "Li 李")
    assert not request.HasField("validation")
    call("model", "resume", *common, "--version", "bank-2")
    assert platform.requests("ProposeResumption")[0].version == "bank-2"


def test_a_shadow_is_shown_by_day_and_by_grade(call: Run, platform: FakePlatform) -> None:
    figures = pb.ShadowFigures(
        scored=1200, dropped=3, mean=-2.25, p05=-30, p25=-9, p50=-1, p75=6, p95=20, agreement=0.875
    )
    platform.answer(
        "GetShadowReport",
        pb.GetShadowReportResponse(
            version="bank-2",
            against="bank-1",
            all=figures,
            days=[
                pb.ShadowDay(day=Date(year=2026, month=11, day=22), figures=figures),
                pb.ShadowDay(
                    day=Date(year=2026, month=11, day=23),
                    figures=pb.ShadowFigures(dropped=7),
                ),
            ],
            grades=[
                pb.GradeMove(answered="BB", challenger="BBB", firms=150),
                pb.GradeMove(answered="BB", challenger="BB", firms=1050),
            ],
        ),
    )
    shown = call("model", "shadow", "bank-2", "--since", "2026-11-22", "--out", "shadow.json").out
    for text in ("bank-2 beside bank-1", "1,200", "-2.2", "87.5%", "2026-11-23", "1,050", "150"):
        assert text in shown
    assert platform.requests("GetShadowReport")[0].since.day == 22
