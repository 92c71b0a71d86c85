"""Orders of a product, what is declared, referrals, and what a decision replays to."""

import asyncio
import dataclasses
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.kit.clock import FixedClock
from services.kit.errors import FailedPreconditionError, NotFoundError, PuhuiError
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from services.scoring.decisions.app import OrderCall, Result, Scoring
from services.scoring.decisions.canonical import canonical
from services.scoring.decisions.domain import (
    Decision,
    Inputs,
    Interval,
    NoticeCode,
    Order,
    Outcome,
    Reason,
    Referred,
    Use,
    outcome_of,
)
from services.scoring.decisions.servicer import decision_to_proto
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.products.domain import Asked, Declared, DeclaredInput, Need, Product
from services.scoring.registry.domain import Stop
from tests.fakes.decisions import INPUTS, AddingModel, FakeModels, FakeSummaries, FakeWork

NOW = datetime(2026, 5, 20, tzinfo=UTC)
BANK, OTHER_BANK = Caller("par_bank", "BANK"), Caller("par_other", "BANK")
FIRM, REGULATOR = Caller("par_firm", "FIRM", "sub_good"), Caller("par_reg", "REGULATOR")
PRODUCT = Product(
    "p",
    "产品",
    "Product",
    "",
    "",
    "credit_application",
    (Need("vat_invoice", 12),),
    declared=(DeclaredInput("amount", "金额", "Amount", "CNY", least=0, most=1),),
)
DECLARING = Inputs(1, (*INPUTS.names, "amount"), (*INPUTS.units, "CNY"))


def sales(fen: int, first: int = 202401) -> FirmSummary:
    months = (first, 202604) if first < 202604 else (202604,)
    series = SubjectSeries(
        "vat_invoice", "par_tax", months, {"output_net": (0, fen)[-len(months) :]}
    )
    return FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED})


class World:
    def __init__(self) -> None:
        self.summaries = FakeSummaries(
            {
                "sub_good": sales(1000),
                "sub_young": sales(1000, 202604),
                "sub_thin": FirmSummary((), {"vat_invoice": Coverage.NOT_CONSENTED}),
            },
            NOW,
        )
        self.models = FakeModels(
            {
                "v1": AddingModel("v1"),
                "declaring": AddingModel(
                    "declaring", inputs=DECLARING, asks={"amount": Asked("CNY")}
                ),
                "wide": AddingModel("wide", interval=Interval(0.01, 0.9, "of bins"), refer=True),
                "expert": AddingModel(
                    "expert", model_class="EXPERT", interval=Interval(0.0, 0.2, "none")
                ),
            },
            "v1",
        )
        self.work = FakeWork()
        self.observed: list[tuple[Decision, FirmSummary]] = []
        self.scoring = Scoring(
            self.summaries,
            self.models,
            self.work,
            FixedClock(NOW),
            SequentialIds(),
            {"p": PRODUCT, "d": dataclasses.replace(PRODUCT, code="d", model="declaring")},
            self.observed.extend,
        )

    async def order(self, subject_id: str = "sub_good", **given: Any) -> Result:
        order = Order("r1", subject_id, "con_1", **{"purpose": "credit_application", **given})
        deadline = asyncio.get_running_loop().time() + 5
        [result] = await self.scoring.score([OrderCall(order, BANK, "assertion", deadline, "")])
        return result

    async def decide(self, subject_id: str = "sub_good", **given: Any) -> Decision:
        result = await self.order(subject_id, **given)
        assert isinstance(result, Decision), result
        return result


@pytest.fixture
def world() -> World:
    return World()


AMOUNT = (Declared("amount", 0.25),)


class TestProduct:
    async def test_what_is_declared_is_kept_and_used(self, world: World) -> None:
        made = await world.decide(product="d", declared=AMOUNT)
        assert made.order.declared == AMOUNT
        assert made.outcome.pd == pytest.approx(0.35)
        assert made.features.values[-1] == 0.25
        assert world.work.decisions.made[made.decision_id] == made

    async def test_without_it_the_input_is_missing(self, world: World) -> None:
        made = await world.decide(product="d")
        assert math.isnan(made.features.values[-1])
        assert made.outcome.pd == pytest.approx(0.1)

    @pytest.mark.parametrize(
        "given",
        [
            {"product": "q"},
            {"product": "p", "purpose": "portfolio_review"},
            {"product": "p", "model_version": "wide"},
            {"product": "p", "declared": (Declared("amount", 2.0),)},
            {"declared": AMOUNT},
        ],
    )
    async def test_what_is_not_as_the_product_says_reads_nothing(
        self, world: World, given: dict[str, Any]
    ) -> None:
        result = await world.order(**given)
        assert isinstance(result, PuhuiError)
        assert result.reason == "FIELD_INVALID"
        assert result.fields
        assert world.summaries.fetched == [[]]

    def test_what_is_declared_has_no_order(self) -> None:
        said = (Declared("amount", 1.0), Declared("security", "none"))
        one = Order("r1", "sub_good", "con_1", "credit_application", product="d", declared=said)
        other = dataclasses.replace(one, declared=said[::-1])
        assert one.fingerprint() == other.fingerprint()

    async def test_another_declared_value_is_another_order(self, world: World) -> None:
        first = await world.decide(product="d", declared=AMOUNT)
        assert await world.order(product="d", declared=AMOUNT) == first
        others: tuple[dict[str, Any], ...] = (
            {"product": "d", "declared": (Declared("amount", 0.5),)},
            {"product": "d"},
            {"product": "p", "declared": AMOUNT},
        )
        for other in others:
            again = await world.order(**other)
            assert isinstance(again, PuhuiError)
            assert again.reason == "REQUEST_ID_REUSED"

    @pytest.mark.parametrize(
        ("subject_id", "product", "state"),
        [
            ("sub_thin", "p", "NOT_CONSENTED"),
            ("sub_young", "p", "HISTORY_TOO_SHORT"),
            ("sub_thin", "", "NOT_CONSENTED"),
        ],
    )
    async def test_below_the_minimum_it_says_what_would_suffice(
        self, world: World, subject_id: str, product: str, state: str
    ) -> None:
        result = await world.order(subject_id, product=product)
        assert isinstance(result, FailedPreconditionError)
        assert result.reason == "DATA_INSUFFICIENT"
        (violation,) = result.violations
        assert (violation.type, violation.subject) == (state, "vat_invoice")
        assert violation.description
        assert world.work.decisions.made == {}

    async def test_a_short_history_is_enough_where_nothing_is_required_of_it(
        self, world: World
    ) -> None:
        assert (await world.decide("sub_young")).outcome.score == 590

    async def test_it_is_shown_to_the_bank_the_firm_and_who_supervises(self, world: World) -> None:
        made = await world.decide(product="d", declared=AMOUNT)
        readers = ((BANK, Use.EXPLANATION), (FIRM, Use.DISPUTE), (REGULATOR, Use.SUPERVISION))
        for reader, use in readers:
            reading = await world.scoring.read(made.decision_id, use, reader)
            (declared,) = decision_to_proto(reading.decision).declared
            assert (declared.name, declared.number) == ("amount", 0.25)
        with pytest.raises(NotFoundError):
            await world.scoring.read(made.decision_id, Use.EXPLANATION, OTHER_BANK)


class TestReferral:
    async def test_while_scoring_is_stopped_nothing_is_read(self, world: World) -> None:
        await world.decide()
        world.models.stop = Stop("evt_1", "*", NOW, "drift")
        for said in ({}, {"product": "p"}, {"product": "p", "model_version": "v1"}):
            assert await world.order(**said) == Referred(NOW)
        assert [len(calls) for calls in world.summaries.fetched] == [1, 0, 0, 0]

    async def test_a_product_is_checked_all_the_same(self, world: World) -> None:
        world.models.stop = Stop("evt_1", "*", NOW, "drift")
        assert isinstance(await world.order(product="q"), PuhuiError)

    async def test_a_thin_file_has_a_score_and_goes_to_a_person(self, world: World) -> None:
        made = await world.decide(model_version="wide")
        message = decision_to_proto(made)
        assert (message.interval.low, message.interval.high) == (0.01, 0.9)
        assert message.referral.code == "THIN_FILE"
        assert message.referral.text_zh
        assert message.score == 590

    async def test_no_pd_is_claimed_of_judgement(self, world: World) -> None:
        made = await world.decide(model_version="expert")
        message = decision_to_proto(made)
        assert not message.HasField("pd")
        assert not message.HasField("interval")
        assert message.score == 590
        assert NoticeCode.MODEL_EXPERT in made.notices
        assert b'"pd":null' in made.answered.whole


class TestTold:
    async def test_whole_points_add_up_to_the_score(self, world: World) -> None:
        message = decision_to_proto(await world.decide())
        assert message.base + sum(each.points for each in message.points) == message.score
        (reason,) = message.reasons
        assert reason.points < 0
        assert reason.direction == 2  # lowers the score

    async def test_shadows_see_decisions_that_were_made_and_no_replays(self, world: World) -> None:
        made = await world.decide()
        await world.decide()
        assert [decision for decision, _ in world.observed] == [made]


class TestReplay:
    async def test_it_is_the_same_to_the_last_byte(self, world: World) -> None:
        made = await world.decide(product="d", declared=AMOUNT)
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored == replay.again == made.answered.whole
        assert replay.remark == ""
        assert rfc8785.dumps(json.loads(replay.stored)) == replay.stored
        assert decision_to_proto(made).outcome_sha256 == made.answered.sha256
        assert [read.use for read in world.work.decisions.reads] == [Use.EXPLANATION]

    @pytest.mark.parametrize(
        ("change", "remark"),
        [
            ({"shift": 0.01}, "another result now: PD, score"),
            ({"interval": Interval(0.1, 0.2, "of bins")}, "another result now: interval"),
            ({"words": "few sales"}, "the same result in other words"),
            ({"inputs": Inputs(2, INPUTS.names, INPUTS.units)}, "features have changed"),
            ({"chokes_on": None, "cannot_score": 0.1}, "cannot compute it any more"),
        ],
    )
    async def test_whatever_differs_is_told(
        self, world: World, change: dict[str, Any], remark: str
    ) -> None:
        made = await world.decide()
        world.models.loaded["v1"] = dataclasses.replace(AddingModel("v1"), **change)
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored == made.answered.whole
        assert replay.stored != replay.again
        assert remark in replay.remark

    async def test_a_model_that_is_gone(self, world: World) -> None:
        made = await world.decide()
        del world.models.loaded["v1"]
        replay = await world.scoring.replay(made.decision_id, Use.DISPUTE, FIRM)
        assert (replay.again, "gone" in replay.remark) == (b"", True)

    async def test_a_stopped_model_explains_what_it_said(self, world: World) -> None:
        made = await world.decide()
        world.models.stop = Stop("evt_1", "*", NOW, "drift")
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored == replay.again

    async def test_words_belong_to_their_catalogue_s_version(self, world: World) -> None:
        made = await world.decide()
        model = dataclasses.replace(AddingModel("v1"), words="few sales", catalogue=2)
        world.models.loaded["v1"] = model
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored == replay.again
        assert "version 1 of their catalogue and this release has version 2" in replay.remark
        world.models.loaded["v1"] = dataclasses.replace(model, shift=0.1)
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored != replay.again

    async def test_a_decision_from_before_replays_from_its_outcome(self, world: World) -> None:
        made = await world.decide(model_version="wide")
        old = dataclasses.replace(made.outcome, interval=None, refer=False, words=0)
        world.work.decisions.made[made.decision_id] = dataclasses.replace(
            made, outcome=old, said=None
        )
        replay = await world.scoring.replay(made.decision_id, Use.EXPLANATION, BANK)
        assert replay.stored == replay.again == old.said().whole
        assert b"detail" not in replay.stored
        assert "from before" in replay.remark

    @pytest.mark.parametrize("use", [Use.EXPLANATION, Use.DISPUTE])
    async def test_only_who_may_read_it_replays_it(self, world: World, use: Use) -> None:
        made = await world.decide()
        with pytest.raises(NotFoundError):
            await world.scoring.replay(made.decision_id, use, OTHER_BANK)
        with pytest.raises(PuhuiError, match="supervision"):
            await world.scoring.replay(made.decision_id, use, REGULATOR)

    async def test_improvements_are_a_reading_for_explanation(self, world: World) -> None:
        made = await world.decide()
        found = await world.scoring.improvements(made.decision_id, FIRM)
        assert found.remark is not None
        assert [read.use for read in world.work.decisions.reads] == [Use.EXPLANATION]
        with pytest.raises(NotFoundError):
            await world.scoring.improvements(made.decision_id, OTHER_BANK)


NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(1e-7, 1e-4)
    | st.integers(-(2**53) + 1, 2**53 - 1).map(float)
)
KEYS = st.text(st.characters(max_codepoint=127), max_size=5)
WORDS = st.recursive(
    st.text(max_size=5) | st.booleans() | st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(NUMBERS, max_size=6), st.dictionaries(KEYS, WORDS, max_size=4))
def test_the_fast_way_writes_what_rfc_8785_says(
    numbers: list[float], others: dict[str, Any]
) -> None:
    found = canonical(lambda number: {"numbers": [number(each) for each in numbers], **others})
    assert found == rfc8785.dumps({"numbers": numbers, **others})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_canonical_form(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical(lambda as_written: {"a": as_written(number)})


POINTS = st.integers(-(2**30), 2**30).map(lambda grains: grains * 2.0**-20)


@given(
    st.floats(0, 1) | st.none(),
    POINTS,
    st.dictionaries(st.sampled_from(["sales", "tax", "legal"]), POINTS, max_size=3),
    st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)) | st.none(),
    st.booleans(),
    st.integers(0, 9),
)
def test_an_outcome_comes_back_from_its_bytes(
    pd: float | None,
    base: float,
    groups: dict[str, float],
    ends: tuple[float, float] | None,
    refer: bool,
    words: int,
) -> None:
    score = math.floor(math.fsum([base, *groups.values()]) + 0.5)
    made = Outcome(
        pd,
        score,
        "B",
        base,
        groups,
        (Reason("SALES_LOW", -1.5, "低", "low", ("sold",), "开票" if words else "", ""),),
        Interval(*ends, "of bins") if ends and words else None,
        refer and words > 0,
        words,
    )
    said = made.said()
    detail = json.loads(said.detail) if said.detail else None
    assert outcome_of(json.loads(said.outcome), detail) == made
    assert rfc8785.dumps(json.loads(said.whole)) == said.whole
