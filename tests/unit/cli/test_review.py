"""`puhui review`."""

from typing import Any

from puhui.common.v1.types_pb2 import SubjectRef
from puhui.datashare.v1 import records_pb2, reviews_pb2
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run

USCC = "91110108MA01TE5T0X"
REVIEW = reviews_pb2.Review(
    review_id="rev_1",
    provider_id="par_tax",
    record_type="vat_invoice",
    provider_record_id="00000001",
    hint=records_pb2.SubjectHint(name="小桔科技", district="110108"),
    candidates=[
        reviews_pb2.Candidate(
            subject_id="sub_1",
            name="北京小桔科技有限公司",
            district="110108",
            confidence=0.8712,
            evidence=["similar_name", "district"],
        )
    ],
    state=reviews_pb2.REVIEW_STATE_WAITING,
)


def listed(request: Any) -> reviews_pb2.ListReviewsResponse:
    waiting = request.state == reviews_pb2.REVIEW_STATE_WAITING
    return reviews_pb2.ListReviewsResponse(reviews=[REVIEW] if waiting else [])


def test_list_and_show(call: Run, platform: FakePlatform) -> None:
    platform.answer("ListReviews", listed)
    shown = call("review", "list").out
    for part in ("1 review", "rev_1", "小桔科技", "87%"):
        assert part in shown
    assert call("review", "list", "--state", "dismissed", "--json").document == {"reviews": []}
    shown = call("review", "show", "rev_1").out
    for part in ("sub_1", "北京小桔科技有限公司", "similar name, district", "87.1%", "waiting"):
        assert part in shown
    missing = call("review", "show", "rev_2")
    assert missing.code == 2
    assert "rev_2" in missing.err


def test_decide(call: Run, platform: FakePlatform) -> None:
    matched = reviews_pb2.Review()
    matched.CopyFrom(REVIEW)
    matched.state = reviews_pb2.REVIEW_STATE_MATCHED
    platform.answer(
        "DecideReview",
        reviews_pb2.DecideReviewResponse(review=matched, ack=records_pb2.PushAck(accepted=[0])),
    )
    outcome = call("review", "decide", "rev_1", "--subject", USCC)
    assert outcome.code == 0
    assert "matched" in outcome.out
    assert call("review", "decide", "rev_1", "--subject", "sub_1").code == 0
    assert call("review", "decide", "rev_1", "--dismiss", "no such firm").code == 0
    by_number, by_id, dismissed = platform.requests("DecideReview")
    assert by_number.subject == SubjectRef(uscc=USCC)
    assert by_id.subject == SubjectRef(subject_id="sub_1")
    assert dismissed.dismiss == "no such firm"
    for wrong in ([], ["--subject", "sub_1", "--dismiss", "x"]):
        assert call("review", "decide", "rev_1", *wrong).code == 2


def test_a_row_that_is_refused_exits_with_1(call: Run, platform: FakePlatform) -> None:
    refusal = records_pb2.RowRejection(
        reason="CONSENT_REQUIRED", field="record_type", message="what to do"
    )
    platform.answer(
        "DecideReview",
        reviews_pb2.DecideReviewResponse(
            review=REVIEW, ack=records_pb2.PushAck(rejections=[refusal])
        ),
    )
    outcome = call("review", "decide", "rev_1", "--subject", "sub_1")
    assert outcome.code == 1
    assert "CONSENT_REQUIRED" in outcome.err
    outcome = call("review", "decide", "rev_1", "--subject", "sub_1", "--json")
    assert outcome.code == 1
    assert outcome.document["rejections"][0]["reason"] == "CONSENT_REQUIRED"
