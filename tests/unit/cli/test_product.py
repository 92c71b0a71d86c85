"""Score products, what is missing for a score, referrals and replays on the command line."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from puhui.datashare.v1 import consents_pb2
from puhui.scoring.v1 import decisions_pb2, products_pb2, scoring_pb2
from puhui_client.values import to_period, to_timestamp
from services.cli.inputs import parse_day
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_commands import CONSENT, DECISION, directory, refused

TERMS = consents_pb2.ConsentTerms(
    purpose="portfolio_review",
    provider_ids=["par_tax"],
    record_types=["vat_invoice", "tax_filing"],
    data_period=to_period(parse_day("2021-05-01"), parse_day("2024-08-30")),
    expires_at=to_timestamp(datetime(2024, 8, 30, tzinfo=UTC)),
)
PRODUCT = products_pb2.ScoreProduct(
    code="loan_review",
    title_zh="贷后管理",
    title_en="Review of loans",
    purpose="portfolio_review",
    required=[products_pb2.TypeNeed(record_type="vat_invoice", months=3)],
    optional=[products_pb2.TypeNeed(record_type="tax_filing")],
    declared=[
        products_pb2.DeclaredInput(
            name="years",
            title_zh="年限",
            title_en="Years",
            unit="years",
            required=True,
            number=products_pb2.NumberRange(least=0, most=100),
        ),
        products_pb2.DeclaredInput(
            name="security", category=products_pb2.CategoryList(categories=["none", "pledge"])
        ),
    ],
)
GOT = products_pb2.GetScoreProductResponse(product=PRODUCT, terms=TERMS)
STOPPED = scoring_pb2.Referral(
    code="SCORING_STOPPED",
    text_zh="评分已被停止",
    text_en="Scoring is stopped",
    since=to_timestamp(datetime(2024, 5, 1, tzinfo=UTC)),
)
ASKED = ("--file-ref", "A-17")


def test_products_are_listed_and_shown(call: Run, platform: FakePlatform) -> None:
    listing = products_pb2.ListScoreProductsResponse(products=[PRODUCT])
    platform.answer("ListScoreProducts", listing)
    platform.answer("GetScoreProduct", GOT)
    listed = call("product", "list")
    for part in ("1 product", "loan_review", "vat_invoice, 3 months", "in service"):
        assert part in listed.out
    shown = call("product", "show", "loan_review")
    for part in ("0 to 100 years", "none, pledge", "par_tax", "2021-05-01", "2024-08-30"):
        assert part in shown.out
    assert platform.requests("GetScoreProduct")[0].code == "loan_review"


def test_a_check_says_what_would_suffice_and_fails_where_something_is_missing(
    call: Run, platform: FakePlatform
) -> None:
    answer = products_pb2.CheckScoreResponse(
        types=[
            products_pb2.TypeCheck(
                record_type="vat_invoice",
                required=True,
                state=products_pb2.TYPE_STATE_PERIOD_TOO_SHORT,
                first_month=202401,
                suffices_zh="请企业重新授权",
                suffices_en="ask the firm for a longer consent",
            )
        ],
        consent_refused=refusal("FAILED_PRECONDITION", "CONSENT_EXPIRED", "it is over: ask anew"),
        terms=TERMS,
        referral=STOPPED,
    )
    platform.answer("CheckScore", answer)
    asked = ("product", "check", "loan_review", "sub_1", "--consent", "con_1", *ASKED)
    shown = call(*asked)
    assert shown.code == 1
    for part in (
        *("No score", "period too short", "2024-01", "ask the firm for a longer consent"),
        *("it is over: ask anew", "SCORING_STOPPED", "par_tax"),
    ):
        assert part in " ".join(shown.out.split())
    request = platform.requests("CheckScore")[0]
    assert (request.subject_id, request.product) == ("sub_1", "loan_review")
    assert (request.consent_id, request.officer.file_reference) == ("con_1", "A-17")
    platform.answer("CheckScore", products_pb2.CheckScoreResponse(ready=True))
    ready = call(*asked, "--json")
    assert (ready.code, ready.document["ready"]) == (0, True)


def test_a_score_of_a_product_is_of_its_purpose(call: Run, platform: FakePlatform) -> None:
    decision = scoring_pb2.Decision()
    decision.CopyFrom(DECISION)
    decision.MergeFrom(
        scoring_pb2.Decision(
            product="loan_review",
            declared=[scoring_pb2.DeclaredFeature(name="years", number=2.5)],
            interval=scoring_pb2.PdInterval(low=0.01, high=0.2, method="of bins"),
            referral=scoring_pb2.Referral(code="THIN_FILE", text_en="A person decides"),
            base=600,
            points=[scoring_pb2.GroupScore(group="sales", points=42, title_en="Sales")],
        )
    )
    decision.reasons[0].improve_en = "Invoice regularly"
    platform.answer("GetScoreProduct", GOT)
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=decision))
    shown = call(
        *("score", "sub_1", "--consent", "con_1", "--product", "loan_review", *ASKED),
        *("--declared", "years=2.5", "--declared", "security=pledge"),
    )
    assert shown.code == 0
    for part in (
        *("1.00% to 20.00%", "years = 2.5", "THIN_FILE", "A person decides"),
        *("Points: 600 + groups = 642", "+42", "Invoice regularly"),
    ):
        assert part in shown.out
    order = platform.requests("Score")[0].order
    assert (order.product, order.purpose) == ("loan_review", "portfolio_review")
    assert [each.WhichOneof("value") for each in order.declared] == ["number", "category"]
    wrong = call("score", "sub_1", "--product", "loan_review", "--declared", "years", *ASKED)
    refused(wrong, 2, "NAME=VALUE")


def test_a_model_that_claims_no_pd_shows_none(call: Run, platform: FakePlatform) -> None:
    decision = scoring_pb2.Decision()
    decision.CopyFrom(DECISION)
    decision.ClearField("pd")
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=decision))
    assert "Grade BBB   PD -" in call("score", "sub_1", "--consent", "con_1", *ASKED).out


def test_while_scoring_is_stopped_a_score_is_a_referral(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("Score", scoring_pb2.ScoreResponse(referral=STOPPED))
    refused(call("score", "sub_1", *ASKED), 1, "SCORING_STOPPED", "Scoring is stopped")
    answers = [scoring_pb2.BatchScoreResponse(index=0, referral=STOPPED)]
    platform.answer("BatchScore", lambda request: answers)
    (tmp_path / "p.csv").write_text("subject_id\nsub_1\n")
    document = call("score", "--batch", "p.csv", *ASKED, "--json").document
    assert (document["scored"], document["refused"], document["referred"]) == (0, 0, 1)
    assert document["results"][0]["referral"]["code"] == "SCORING_STOPPED"
    assert "1 referred" in call("score", "--batch", "p.csv", *ASKED).out


def test_a_portfolio_names_products_and_what_is_declared_by_row(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("GetScoreProduct", GOT)
    platform.answer("BatchScore", lambda request: [])
    (tmp_path / "p.csv").write_text(
        "subject_id,product,declared\nsub_1,loan_review,years=3 security=none\nsub_2,,\n"
    )
    assert call("score", "--batch", "p.csv", *ASKED).code == 0
    one, two = platform.requests("BatchScore")[0].orders
    assert (one.product, one.purpose) == ("loan_review", "portfolio_review")
    assert (two.product, two.purpose) == ("", "credit_application")
    assert (one.declared[0].name, one.declared[0].number) == ("years", 3)
    (tmp_path / "p.csv").write_text("subject_id,declared\nsub_1,years\n")
    refused(call("score", "--batch", "p.csv", *ASKED), 2, "line 2: years is not NAME=VALUE")
    refused(call("score", "--batch", "p.csv", "--declared", "a=1", *ASKED), 2, "column `declared`")


def test_too_little_data_says_what_would_suffice(call: Run, platform: FakePlatform) -> None:
    status = refusal("FAILED_PRECONDITION", "DATA_INSUFFICIENT")
    status.details.add().Pack(
        error_details_pb2.PreconditionFailure(
            violations=[
                error_details_pb2.PreconditionFailure.Violation(
                    type="NOT_CONSENTED", subject="vat_invoice", description="ask for a consent"
                )
            ]
        )
    )
    platform.answer("Score", status)
    refused(call("score", "sub_1", *ASKED), 1, "vat_invoice: ask for a consent")
    failed = call("score", "sub_1", *ASKED, "--json").document["error"]
    assert failed["violations"][0]["type"] == "NOT_CONSENTED"


def test_a_consent_is_requested_on_a_product_s_terms(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetScoreProduct", GOT)
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    platform.answer("ListParticipants", directory(par_tax="Tax"))
    asked = ("consent", "request", "sub_1", "--product", "loan_review", *ASKED)
    assert call(*asked, "--type", "vat_invoice").code == 0
    terms = platform.requests("RequestConsent")[0].terms
    assert (terms.purpose, list(terms.provider_ids)) == ("portfolio_review", ["par_tax"])
    assert list(terms.record_types) == ["vat_invoice"]  # options win
    assert terms.data_period == TERMS.data_period
    platform.answer("GetScoreProduct", products_pb2.GetScoreProductResponse(product=PRODUCT))
    refused(call(*asked), 2, "nobody could supply")
    refused(call("consent", "request", "sub_1", *ASKED), 2, "or --product")


REPLAYED = b'{"outcome":{"pd":0.25,"reasons":[{"code":"A"}],"score":600}}'


def test_a_replay_that_is_the_same(call: Run, platform: FakePlatform) -> None:
    answer = decisions_pb2.ReplayDecisionResponse(
        decision_id="dec_1", stored=REPLAYED, again=REPLAYED, same=True
    )
    platform.answer("ReplayDecision", answer)
    shown = call("decision", "replay", "dec_1", "--use", "dispute")
    assert shown.code == 0
    assert "Same bytes" in shown.out
    assert shown.out.count(hashlib.sha256(REPLAYED).hexdigest()) == 2
    assert platform.requests("ReplayDecision")[0].use == decisions_pb2.DECISION_USE_DISPUTE


@pytest.mark.parametrize("again", [REPLAYED.replace(b"0.25", b"0.5").replace(b'{"code":"A"}', b"")])
def test_a_replay_that_differs_says_where_and_fails(
    call: Run, platform: FakePlatform, again: bytes
) -> None:
    answer = decisions_pb2.ReplayDecisionResponse(
        decision_id="dec_1", stored=REPLAYED, again=again, remark="another result"
    )
    platform.answer("ReplayDecision", answer)
    shown = call("decision", "replay", "dec_1")
    assert shown.code == 1
    for part in ("Not the same", "another result", "outcome.pd", "0.25", "0.5", "reasons[0]"):
        assert part in shown.out
    found = call("decision", "replay", "dec_1", "--json").document["differences"]
    assert found[0] == {"what": "outcome.pd", "stored": "0.25", "again": "0.5"}


def test_a_replay_whose_model_is_gone_fails(call: Run, platform: FakePlatform) -> None:
    answer = decisions_pb2.ReplayDecisionResponse(stored=REPLAYED, remark="the model is gone")
    platform.answer("ReplayDecision", answer)
    shown = call("decision", "replay", "dec_1")
    assert (shown.code, "Differences" in shown.out) == (1, False)
    assert "the model is gone" in shown.out


def test_improvements_are_shown(call: Run, platform: FakePlatform) -> None:
    change = decisions_pb2.FeatureChange(
        feature="tax_days_late", to=0, unit="days", text_en="Pay taxes in time"
    )
    setattr(change, "from", 30.0)
    found = decisions_pb2.Counterfactual(grade="A", score=655, changes=[change])
    answer = decisions_pb2.GetImprovementsResponse(counterfactuals=[found], remark="and so on")
    platform.answer("GetImprovements", answer)
    shown = call("decision", "improvements", "dec_1")
    for part in ("grade A, score 655", "30", "Pay taxes in time", "and so on"):
        assert part in shown.out
