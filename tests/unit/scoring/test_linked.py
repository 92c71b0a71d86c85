"""Owners, guarantors and buyers: how their data enters a firm's score, and who sees of it what."""

import asyncio
import dataclasses
import datetime as dt
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puhui.scoring.v1 import decisions_pb2, scoring_pb2
from services.kit.clock import FixedClock
from services.kit.errors import FailedPreconditionError, InvalidArgumentError, PuhuiError
from services.kit.identity import Caller, set_caller
from services.kit.ids import SequentialIds
from services.scoring.decisions.app import OrderCall, Scoring
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Linked,
    NoticeCode,
    Order,
    Use,
)
from services.scoring.decisions.model import ServedModel
from services.scoring.decisions.servicer import DecisionServicer
from services.scoring.features.domain import Coverage, FirmSummary, Relation, SubjectSeries
from services.scoring.features.linked import RELATION_OF, Shown, worst
from services.scoring.features.registry import FEATURES, NAMES, WITHHELD, compute, encode
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.scorer import Scorer
from services.scoring.reevaluations.app import DisputedSince, ListReevaluations
from services.scoring.training.app import train
from tests.fakes.decisions import AddingModel, FakeModels, FakeSummaries, FakeWork
from tests.fakes.reevaluations import FakeReevaluationWork
from tests.unit.scoring.conftest import AS_OF, KEY, SETTINGS, TRAINED_AT, Trained, made_up
from tests.unit.scoring.firms import city, withholding

NOW = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
BANK, FIRM = Caller("par_bank", "BANK"), Caller("par_firm", "FIRM", "sub_firm")
OWNER, GUARANTOR, BUYER = Relation.OWNER, Relation.GUARANTOR, Relation.BUYER
SHOWN = st.one_of(st.floats(0, 1), st.sampled_from([Coverage.NOT_CONSENTED, Coverage.NOT_SUPPLIED]))
NAMED = st.lists(st.tuples(st.sampled_from(Relation), SHOWN), max_size=8)


def input_of(linked: list[tuple[Relation, Shown]], relation: Relation) -> float:
    [(summary, _)] = city(1, 202405)
    vector = compute(dataclasses.replace(summary, linked=worst(linked)), AS_OF)
    [name] = [name for name, about in RELATION_OF.items() if about is relation]
    return encode(vector)[NAMES.index(name)]


class TestTheWorstCounts:
    @given(NAMED, st.tuples(st.sampled_from(Relation), SHOWN))
    def test_naming_one_more_never_improves_a_relation_of_which_one_showed_its_data(
        self, named: list[tuple[Relation, Shown]], more: tuple[Relation, Shown]
    ) -> None:
        for relation in Relation:
            before, after = input_of(named, relation), input_of([*named, more], relation)
            if before < WITHHELD:
                assert after >= before

    @given(NAMED)
    def test_nothing_that_is_missing_is_better_than_what_is_shown(
        self, named: list[tuple[Relation, Shown]]
    ) -> None:
        for relation in Relation:
            shown = [pd for about, pd in named if about is relation]
            pds = [pd for pd in shown if not isinstance(pd, Coverage)]
            adverse = Coverage.NOT_CONSENTED in shown or not pds
            assert input_of(named, relation) == (WITHHELD if adverse else max(pds))

    def test_in_whatever_order_they_are_named(self) -> None:
        named: list[tuple[Relation, Shown]] = [
            (GUARANTOR, 0.1),
            (GUARANTOR, Coverage.NOT_SUPPLIED),
            (BUYER, 0.3),
        ]
        for _ in range(10):
            random.shuffle(named)
            assert worst(named) == {GUARANTOR: 0.1, BUYER: 0.3}

    def test_why_there_is_none_is_told(self) -> None:
        [(summary, _)] = city(1, 202405)
        named = dataclasses.replace(summary, linked={BUYER: Coverage.NOT_SUPPLIED, OWNER: 0.25})
        vector = compute(named, AS_OF)
        told = {
            name: (vector.values[NAMES.index(name)], vector.missing[NAMES.index(name)])
            for name in RELATION_OF
        }
        assert told["owner_pd"] == (0.25, None)
        assert math.isnan(told["guarantor_pd"][0])
        assert told["guarantor_pd"][1] is Coverage.NOT_CONSENTED
        assert told["buyer_pd"][1] is Coverage.NOT_SUPPLIED

    def test_each_relation_has_one_feature_that_can_only_count_against_the_firm(self) -> None:
        about = [feature for feature in FEATURES if feature.relation]
        assert sorted(feature.relation or "" for feature in about) == sorted(Relation)
        assert {feature.monotone for feature in about} == {1}
        assert {feature.group for feature in about} == {"related_parties"}


def sales(fen: int, **changes: Any) -> FirmSummary:
    series = SubjectSeries("vat_invoice", "par_tax", (202404,), {"output_net": (fen,)})
    return FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED}, **changes)


def call(*linked: Linked, request_id: str = "r1", version: str | None = None) -> OrderCall:
    order = Order(
        request_id,
        "sub_firm",
        "con_firm",
        "credit_application",
        model_version=version,
        linked=linked,
    )
    return OrderCall(order, BANK, "assertion", asyncio.get_running_loop().time() + 5, "")


def guarantor(subject_id: str = "sub_guarantor") -> Linked:
    return Linked(GUARANTOR, subject_id, f"con_{subject_id}")


class World:
    """A firm of PD 0.1, and models that add half of the guarantor's PD to a firm's own."""

    def __init__(self) -> None:
        self.summaries = FakeSummaries(
            {
                "sub_firm": sales(1000),
                "sub_guarantor": sales(2000),
                "sub_worse": sales(4000),
                "sub_thin": FirmSummary((), {"vat_invoice": Coverage.NOT_SUPPLIED}),
                "sub_closed": FirmSummary((), {"vat_invoice": Coverage.NOT_CONSENTED}),
                "sub_withdrawn": FailedPreconditionError("CONSENT_WITHDRAWN", "withdrawn"),
            },
            NOW,
        )
        self.model = AddingModel("v1", relations=frozenset({GUARANTOR}))
        self.plain = AddingModel("plain")
        self.work = FakeWork()
        self.scoring = Scoring(
            self.summaries,
            FakeModels({"v1": self.model, "plain": self.plain}, "v1"),
            self.work,
            FixedClock(NOW),
            SequentialIds(),
        )
        kept = FakeReevaluationWork(self.work.decisions)
        self.servicer = DecisionServicer(self.scoring, ListReevaluations(kept), DisputedSince(kept))

    async def decided(self, *linked: Linked, **changes: Any) -> Decision:
        [result] = await self.scoring.score([call(*linked, **changes)])
        assert isinstance(result, Decision), result
        return result

    async def refused(self, *linked: Linked, **changes: Any) -> PuhuiError:
        [result] = await self.scoring.score([call(*linked, **changes)])
        assert isinstance(result, PuhuiError)
        return result

    async def read(self, decision: Decision, who: Caller) -> decisions_pb2.GetDecisionResponse:
        set_caller(who)
        request = decisions_pb2.GetDecisionRequest(
            decision_id=decision.decision_id, use=decisions_pb2.DECISION_USE_EXPLANATION
        )
        return await self.servicer.GetDecision(request, None)


@pytest.fixture
def world() -> World:
    return World()


class TestScoring:
    async def test_the_pd_of_one_alone_enters_the_other_s(self, world: World) -> None:
        alone = await world.decided()
        beside = await world.decided(guarantor(), request_id="r2")
        # Alone, the guarantor has nobody beside it either: 0.2 + 0.5.
        assert alone.outcome.pd == pytest.approx(0.1 + 1 / 2)
        assert beside.outcome.pd == pytest.approx(0.1 + 0.7 / 2)
        [entered] = beside.linked
        assert entered.linked == guarantor()
        assert entered.pd == pytest.approx(0.7)
        assert entered.access_id == "acc_r2_sub_guarantor"
        assert entered.sources == {("vat_invoice", "par_tax")}

    async def test_all_orders_have_one_pass_more_and_none_where_nobody_is_named(
        self, world: World
    ) -> None:
        await world.scoring.score([call(request_id="r1"), call(request_id="r2")])
        assert world.model.scored == [2]
        named = [
            call(guarantor(), guarantor("sub_worse"), request_id="r3"),
            call(request_id="r4"),
            call(guarantor(), request_id="r5"),
        ]
        await world.scoring.score(named)
        assert world.model.scored == [2, 3, 3]
        assert [len(batch) for batch in world.summaries.fetched] == [2, 3]

    async def test_the_worst_of_several_counts(self, world: World) -> None:
        several = await world.decided(guarantor(), guarantor("sub_worse"), guarantor("sub_thin"))
        assert several.outcome.pd == pytest.approx(0.1 + 0.9 / 2)
        assert [entered.pd for entered in several.linked] == [
            pytest.approx(0.7),
            pytest.approx(0.9),
            None,
        ]

    @pytest.mark.parametrize("subject_id", ["sub_thin", "sub_closed"])
    async def test_too_little_data_of_one_refuses_nobody(
        self, world: World, subject_id: str
    ) -> None:
        beside = await world.decided(guarantor(subject_id))
        alone = await world.decided(request_id="r2")
        assert beside.outcome.pd == alone.outcome.pd
        assert beside.linked[0].pd is None

    async def test_one_that_is_refused_refuses_the_order(self, world: World) -> None:
        error = await world.refused(guarantor(), guarantor("sub_withdrawn"))
        assert error.reason == "CONSENT_WITHDRAWN"
        assert world.work.decisions.made == {}

    @pytest.mark.parametrize(
        ("linked", "at_fault"),
        [
            ((guarantor(), dataclasses.replace(guarantor(), relation=BUYER)), [1]),
            ((guarantor("sub_firm"),), [0]),
            ((guarantor("sub_firm"), guarantor(), guarantor()), [0, 2]),
        ],
    )
    async def test_none_is_named_twice_and_none_is_the_firm_itself(
        self, world: World, linked: tuple[Linked, ...], at_fault: list[int]
    ) -> None:
        error = await world.refused(*linked)
        assert isinstance(error, InvalidArgumentError)
        fields = [problem.field for problem in error.fields]
        assert fields == [f"order.linked[{at}].subject_id" for at in at_fault]
        assert world.summaries.fetched == [[]]

    async def test_a_model_without_their_features_reads_nothing_of_them(self, world: World) -> None:
        made = await world.decided(guarantor("sub_withdrawn"), version="plain")
        assert made.outcome.pd == pytest.approx(0.1)
        [entered] = made.linked
        assert (entered.access_id, entered.pd, entered.as_of) == ("", None, None)
        assert world.plain.scored == [1]

    async def test_a_replay_names_the_same_ones_in_their_order(self, world: World) -> None:
        first = await world.decided(guarantor(), guarantor("sub_worse"))
        assert await world.decided(guarantor(), guarantor("sub_worse")) == first
        for others in ([guarantor("sub_worse"), guarantor()], [guarantor()], []):
            assert (await world.refused(*others)).reason == "REQUEST_ID_REUSED"

    async def test_one_that_the_model_fails_on_fails_its_own_order_alone(
        self, world: World
    ) -> None:
        world.summaries.answers["sub_odd"] = sales(9000)
        for model in (
            AddingModel("v1", relations=frozenset({GUARANTOR}), chokes_on=0.9),
            AddingModel("v1", relations=frozenset({GUARANTOR}), cannot_score=1.0),
        ):
            scoring = Scoring(
                world.summaries,
                FakeModels({"v1": model}, "v1"),
                FakeWork(),
                FixedClock(NOW),
                SequentialIds(),
            )
            odd, good = await scoring.score(
                [call(guarantor("sub_odd")), call(guarantor(), request_id="r2")]
            )
            assert isinstance(odd, ZeroDivisionError)
            assert isinstance(good, Decision)

    async def test_the_decision_says_what_must_be_known_of_their_data(self, world: World) -> None:
        mark = DisputeMark("dis_1", "vat_invoice", "par_tax", 202404, "", "OPEN", "not ours")
        world.summaries.disputes["sub_worse"] = (mark,)
        world.summaries.answers |= {
            "sub_worse": sales(4000, withheld=True),
            "sub_guarantor": sales(2000, simulated=True),
        }
        made = await world.decided(guarantor(), guarantor("sub_worse"))
        assert made.notices == (NoticeCode.MODEL_SIMULATED,)
        assert made.all_notices == (
            NoticeCode.MODEL_SIMULATED,
            NoticeCode.DATA_SIMULATED,
            NoticeCode.DATA_WITHHELD,
            NoticeCode.DISPUTED_DATA,
        )
        assert [entered.disputes for entered in made.linked] == [(), (mark,)]

    async def test_it_reproduces_from_what_is_stored(self, world: World) -> None:
        made = await world.decided(guarantor())
        world.summaries.answers["sub_guarantor"] = sales(9000)
        reading = await world.scoring.read(made.decision_id, Use.EXPLANATION, BANK)
        assert reading.remark == ""


class Told(World):
    """A decision about the firm beside a guarantor whose data is in dispute."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        firm, other = (dataclasses.replace(each, linked={}) for each in trained.firms[1:3])
        mark = DisputeMark("dis_1", "vat_invoice", "par_tax", 202404, "", "OPEN", "not ours")
        self.summaries.answers |= {
            "sub_firm": firm,
            "sub_guarantor": dataclasses.replace(other, simulated=True),
        }
        self.summaries.disputes["sub_guarantor"] = (mark,)
        self.scoring = Scoring(
            self.summaries,
            FakeModels({"depending": ServedModel(trained.scorer)}, "depending"),
            self.work,
            FixedClock(NOW),
            SequentialIds(),
        )
        kept = FakeReevaluationWork(self.work.decisions)
        self.servicer = DecisionServicer(self.scoring, ListReevaluations(kept), DisputedSince(kept))


@pytest.fixture(scope="module")
def depending(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A real model, of firms whose default shows in their guarantor's PD; some named none."""
    chance = random.Random(7)
    firms, labels = [], []
    for at, (summary, _) in enumerate(city(300, 202405)):
        pd = chance.random()
        label = int(chance.random() < 0.9 * pd)
        named: dict[Relation, Shown] = {} if at % 5 == 0 else {GUARANTOR: pd}
        firms.append(dataclasses.replace(summary, linked=named))
        labels.append(label)
    matrix = np.array([encode(compute(firm, AS_OF)) for firm in firms])
    made = np.array(labels, dtype=np.int64)
    folder = tmp_path_factory.mktemp("models") / "depending"
    manifest = train(made_up(matrix, made), SETTINGS, folder, trained_at=TRAINED_AT, key=KEY)
    return Trained(folder, manifest, Scorer.load(folder), firms, matrix, made)


class TestWhoSeesIt:
    async def test_the_firm_sees_the_relation_and_the_points_and_nothing_else(
        self, depending: Trained
    ) -> None:
        told = Told(depending)
        made = await told.decided(guarantor())
        to_bank, to_firm = await told.read(made, BANK), await told.read(made, FIRM)

        [whole] = to_bank.decision.linked
        assert (whole.subject_id, whole.consent_id) == ("sub_guarantor", "con_sub_guarantor")
        assert whole.access_id
        assert whole.HasField("pd")
        assert whole.coverage
        assert [mark.dispute_id for mark in whole.disputes] == ["dis_1"]

        [shown] = to_firm.decision.linked
        assert shown == scoring_pb2.LinkedAccess(relation=scoring_pb2.SUBJECT_RELATION_GUARANTOR)
        codes = [notice.code for notice in to_firm.decision.notices]
        assert "DATA_SIMULATED" not in codes
        assert "DISPUTED_DATA" not in codes
        points = {group.group: group.points for group in to_firm.groups}
        assert points == {group.group: group.points for group in to_bank.groups}
        assert points["related_parties"]
        # Nowhere, in whatever field: the guarantor's id, its consent and access, its PD.
        secrets = ["sub_guarantor", whole.access_id, "dis_1", "not ours"]
        secrets += [repr(whole.pd), f"{whole.pd:.1%}", f"{whole.pd:.2%}"]
        for secret in secrets:
            assert secret not in str(to_firm)
        features = [*to_firm.features]
        features += [each for reason in to_firm.decision.reasons for each in reason.features]
        for feature in features:
            assert feature.hidden == (feature.name == "guarantor_pd")
            if feature.hidden:
                assert not feature.HasField("value")
                assert not feature.missing
        seen = {each.name: each for each in to_bank.features}
        assert seen["guarantor_pd"].value == whole.pd

    async def test_nor_does_it_learn_whether_they_have_data(self, depending: Trained) -> None:
        told = Told(depending)
        thin = await told.decided(guarantor("sub_thin"))
        closed = await told.decided(guarantor("sub_closed"), request_id="r2")
        answers = []
        for made in (thin, closed):
            answer = await told.read(made, FIRM)
            answer.decision.ClearField("decision_id")
            answer.decision.ClearField("access_id")
            answers.append(answer)
        assert answers[0] == answers[1]

    async def test_its_list_of_decisions_says_no_more(self, depending: Trained) -> None:
        told = Told(depending)
        await told.decided(guarantor())
        set_caller(FIRM)
        listed = await told.servicer.ListDecisions(decisions_pb2.ListDecisionsRequest(), None)
        assert "sub_guarantor" not in str(listed)
        set_caller(BANK)
        listed = await told.servicer.ListDecisions(decisions_pb2.ListDecisionsRequest(), None)
        assert "sub_guarantor" in str(listed)

    def test_words_have_no_value_in_them(self, depending: Trained) -> None:
        model = ServedModel(depending.scorer)
        vectors = [model.features(firm, NOW) for firm in depending.firms]
        texts = {
            reason.text_en
            for outcome in model.score(vectors)
            for reason in outcome.reasons
            if reason.code.startswith("RELATED_PARTIES")
        }
        assert len(texts) == 3  # for, against, nothing shown: however different the PDs
        assert not any(char.isdigit() for text in texts for char in text)


class TestRealModel:
    """The whole way in scoring, by trees that were trained on guarantors' PDs."""

    async def test_under_consent_it_enters_and_without_it_is_missing(
        self, depending: Trained
    ) -> None:
        told = Told(depending)
        at = NAMES.index("guarantor_pd")
        beside, alone = await told.decided(guarantor()), await told.decided(request_id="r2")
        assert beside.features.values[at] == beside.linked[0].pd
        assert math.isnan(alone.features.values[at])
        assert alone.features.missing[at] is Coverage.NOT_CONSENTED
        assert beside.outcome.score > alone.outcome.score
        by_itself = await told.scoring.score(
            [dataclasses.replace(call(request_id="r3"), order=_of("sub_guarantor"))]
        )
        assert isinstance(by_itself[0], Decision)
        assert by_itself[0].outcome.pd == beside.linked[0].pd

    def test_it_moves_the_score_one_way_only(self, depending: Trained) -> None:
        model = ServedModel(depending.scorer)
        moved = 0
        for firm in depending.firms[:40]:
            pds: list[Shown] = [*(step / 40 for step in range(41)), Coverage.NOT_CONSENTED]
            vectors = [
                model.features(dataclasses.replace(firm, linked={GUARANTOR: pd}), NOW) for pd in pds
            ]
            outcomes = [outcome.pd for outcome in model.score(vectors) if outcome.pd is not None]
            assert len(outcomes) == len(pds)
            assert outcomes == sorted(outcomes)
            moved += outcomes[0] < outcomes[-2]
        assert moved == 40

    async def test_after_the_withdrawal_the_next_score_is_refused(self, depending: Trained) -> None:
        told = Told(depending)
        made = await told.decided(guarantor())
        withdrawn = FailedPreconditionError("CONSENT_WITHDRAWN", "withdrawn")
        told.summaries.answers["sub_guarantor"] = withdrawn
        for request_id in ("r1", "r2"):
            error = await told.refused(guarantor(), request_id=request_id)
            assert error.reason == "CONSENT_WITHDRAWN"
        reading = await told.scoring.read(made.decision_id, Use.EXPLANATION, FIRM)
        assert reading.decision == made
        assert reading.remark == ""


def _of(subject_id: str) -> Order:
    return Order("r3", subject_id, "con_own", "credit_application")


@pytest.fixture(scope="module")
def before(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder from before there were features of linked subjects."""
    kept = [at for at, name in enumerate(NAMES) if name not in RELATION_OF]
    features = tuple(PLATFORM.features[at] for at in kept)
    folder = tmp_path_factory.mktemp("models") / "before"
    matrix = trained.matrix[:, kept]
    table = made_up(matrix, trained.labels, features)
    train(table, SETTINGS, folder, trained_at=TRAINED_AT, key=KEY, reason_version=2)
    return folder


def test_a_model_of_before_is_served_as_it_was(before: Path, trained: Trained) -> None:
    model, now = ServedModel.load(before), ServedModel(trained.scorer)
    assert model.relations == frozenset()
    assert now.relations == set(Relation)
    assert "guarantor_pd" not in model.inputs.names
    firms = [*trained.firms[:30], withholding(trained.firms[1], "tax_filing")]
    named = [dataclasses.replace(firm, linked={GUARANTOR: 0.9}) for firm in firms]
    outcomes = model.score([model.features(firm, NOW) for firm in firms])
    assert model.score([model.features(firm, NOW) for firm in named]) == outcomes
    # What never varied in training moves nothing: both were fitted to the same firms.
    again = now.score([now.features(firm, NOW) for firm in firms])
    assert [outcome.score for outcome in outcomes] == [outcome.score for outcome in again]
    assert [outcome.reasons for outcome in outcomes] == [outcome.reasons for outcome in again]
