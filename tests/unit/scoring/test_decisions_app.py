import asyncio
import dataclasses
from datetime import UTC, date, datetime

import pytest

from services.kit.clock import FixedClock
from services.kit.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from services.scoring.decisions.app import OrderCall, Scoring
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Inputs,
    NoticeCode,
    Order,
    Referred,
    Use,
)
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from tests.fakes.decisions import AddingModel, FakeModels, FakeSummaries, FakeWork

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BANK, OTHER_BANK = Caller("par_bank", "BANK"), Caller("par_other", "BANK")
FIRM = Caller("par_firm", "FIRM", "sub_good")
REGULATOR = Caller("par_regulator", "REGULATOR")


def sales(fen: int) -> FirmSummary:
    series = SubjectSeries("vat_invoice", "par_tax", (202604,), {"output_net": (fen,)})
    return FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED})


class World:
    def __init__(self) -> None:
        self.summaries = FakeSummaries(
            {
                "sub_good": sales(1000),
                "sub_bad": sales(9000),
                "sub_thin": FirmSummary((), {"vat_invoice": Coverage.NOT_CONSENTED}),
                "sub_withdrawn": FailedPreconditionError("CONSENT_WITHDRAWN", "withdrawn"),
            },
            NOW,
        )
        self.models = FakeModels({"v1": AddingModel("v1"), "v2": AddingModel("v2")}, "v1")
        self.work = FakeWork()
        self.scoring = Scoring(
            self.summaries, self.models, self.work, FixedClock(NOW), SequentialIds()
        )

    async def score(self, *calls: OrderCall) -> list[Decision | Exception]:
        results = await self.scoring.score(calls)
        return [each for each in results if not isinstance(each, Referred)]


@pytest.fixture
def world() -> World:
    return World()


def call(
    subject_id: str, request_id: str, *, caller: Caller = BANK, version: str | None = None
) -> OrderCall:
    order = Order(request_id, subject_id, "con_1", "credit_application", model_version=version)
    return OrderCall(order, caller, "assertion", asyncio.get_running_loop().time() + 5, "")


def reason(result: Decision | Exception) -> str:
    assert isinstance(result, PuhuiError)
    return result.reason


def decided(result: Decision | Exception) -> Decision:
    assert isinstance(result, Decision)
    return result


async def test_orders_get_their_own_results_in_their_order(world: World) -> None:
    results = await world.score(
        call("sub_good", "r1"),
        call("sub_withdrawn", "r2"),
        call("sub_thin", "r3"),
        call("sub_bad", "r4", version="v9"),
        call("sub_bad", "r5", version="v2"),
    )
    assert decided(results[0]).outcome.pd == pytest.approx(0.1)
    assert [reason(result) for result in results[1:4]] == [
        "CONSENT_WITHDRAWN",
        "DATA_INSUFFICIENT",
        "MODEL_NOT_FOUND",
    ]
    assert decided(results[4]).outcome.pd == pytest.approx(0.9)
    assert decided(results[4]).model_version == "v2"


async def test_orders_that_come_together_are_fetched_together(world: World) -> None:
    await world.score(call("sub_good", "r1"), call("sub_bad", "r2"))
    assert [len(batch) for batch in world.summaries.fetched] == [2]


async def test_no_data_is_fetched_for_a_model_that_is_not_there(world: World) -> None:
    await world.score(call("sub_good", "r1", version="v9"))
    assert world.summaries.fetched == [[]]


async def test_a_decision_names_its_access_and_is_stored_before_it_is_answered(
    world: World,
) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    made = decided(result)
    assert made.access_id == "acc_r1"
    assert world.work.decisions.made[made.decision_id] == made


async def test_a_refused_order_leaves_no_decision(world: World) -> None:
    await world.score(call("sub_withdrawn", "r1"), call("sub_thin", "r2"))
    assert world.work.decisions.made == {}


async def test_a_replay_gets_the_stored_decision(world: World) -> None:
    [first] = await world.score(call("sub_good", "r1"))
    world.summaries.answers["sub_good"] = sales(5000)
    [again] = await world.score(call("sub_good", "r1"))
    assert again == first
    assert len(world.work.decisions.made) == 1


async def test_a_replay_gets_the_stored_decision_when_there_is_too_little_data_now(
    world: World,
) -> None:
    [first] = await world.score(call("sub_good", "r1"))
    world.summaries.answers["sub_good"] = world.summaries.answers["sub_thin"]
    [again] = await world.score(call("sub_good", "r1"))
    assert again == first


async def test_a_replay_says_what_was_disputed_since(world: World) -> None:
    def mark(dispute_id: str, state: str) -> DisputeMark:
        return DisputeMark(dispute_id, "vat_invoice", "par_tax", 202604, "", state, "Wrong.")

    upheld, opened = mark("dis_1", "UPHELD"), mark("dis_2", "OPEN")
    world.summaries.disputes["sub_good"] = (upheld,)
    [result] = await world.score(call("sub_good", "r1"))
    first = decided(result)
    assert first.disputes == (upheld,)
    assert NoticeCode.DISPUTED_DATA not in first.notices  # it was proved; the words are told
    world.summaries.disputes["sub_good"] = (dataclasses.replace(upheld, statement="New."), opened)
    [result] = await world.score(call("sub_good", "r1"))
    again = decided(result)
    assert again.disputes == (upheld, opened)
    assert again.notices == (*first.notices, NoticeCode.DISPUTED_DATA)
    before = dataclasses.replace(again, disputes=first.disputes, notices=first.notices)
    assert before == first
    assert world.work.decisions.made == {first.decision_id: first}


async def test_a_replay_after_withdrawal_is_refused(world: World) -> None:
    await world.score(call("sub_good", "r1"))
    world.summaries.answers["sub_good"] = FailedPreconditionError("CONSENT_WITHDRAWN", "over")
    [again] = await world.score(call("sub_good", "r1"))
    assert reason(again) == "CONSENT_WITHDRAWN"


async def test_a_request_id_with_another_order_is_refused(world: World) -> None:
    await world.score(call("sub_good", "r1"))
    [again] = await world.score(call("sub_bad", "r1"))
    assert reason(again) == "REQUEST_ID_REUSED"


async def test_two_replays_in_one_batch_make_one_decision(world: World) -> None:
    first, second = await world.score(call("sub_good", "r1"), call("sub_good", "r1"))
    assert decided(first) == decided(second)
    assert len(world.work.decisions.made) == 1


async def test_request_ids_are_each_caller_s_own(world: World) -> None:
    first, second = await world.score(
        call("sub_good", "r1"), call("sub_bad", "r1", caller=OTHER_BANK)
    )
    assert decided(first).decision_id != decided(second).decision_id


@pytest.mark.parametrize("reader", [BANK, FIRM])
async def test_a_decision_reproduces_for_who_may_read_it(world: World, reader: Caller) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    reading = await world.scoring.read(decided(result).decision_id, Use.DISPUTE, reader)
    assert reading.decision == result
    assert reading.remark == ""
    [read] = world.work.decisions.reads
    assert (read.decision_id, read.subject_id) == (decided(result).decision_id, "sub_good")
    assert (read.reader_id, read.role) == (reader.participant_id, reader.role)
    assert (read.use, read.read_at) == (Use.DISPUTE, NOW)


@pytest.mark.parametrize("reader", [OTHER_BANK, Caller("par_x", "FIRM", "sub_bad")])
async def test_nobody_else_learns_that_a_decision_exists(world: World, reader: Caller) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    with pytest.raises(NotFoundError) as refusal:
        await world.scoring.read(decided(result).decision_id, Use.EXPLANATION, reader)
    assert refusal.value.reason == "NOT_FOUND"
    assert world.work.decisions.reads == []


async def test_a_regulator_reads_any_decision_for_supervision_alone(world: World) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    decision_id = decided(result).decision_id
    reading = await world.scoring.read(decision_id, Use.SUPERVISION, REGULATOR)
    assert reading.decision == result
    assert [read.use for read in world.work.decisions.reads] == [Use.SUPERVISION]


@pytest.mark.parametrize(
    ("reader", "use"),
    [
        (BANK, Use.SUPERVISION),
        (FIRM, Use.SUPERVISION),
        (REGULATOR, Use.EXPLANATION),
        (REGULATOR, Use.DISPUTE),
    ],
)
async def test_a_use_that_is_not_the_role_s_is_refused(
    world: World, reader: Caller, use: Use
) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    with pytest.raises(PermissionDeniedError) as refusal:
        await world.scoring.read(decided(result).decision_id, use, reader)
    assert refusal.value.reason == "ROLE_NOT_ALLOWED"
    assert world.work.decisions.reads == []


@pytest.mark.parametrize(
    ("now", "remark"),
    [
        (None, "folder is gone"),
        (AddingModel("v1", inputs=Inputs(2, ("sold", "headcount"), ("log_cny", "count"))), "feat"),
        (AddingModel("v1", inputs=Inputs(1, ("sold",), ("log_cny",))), "features have changed"),
        (AddingModel("v1", cannot_score=0.1), "cannot compute"),
        (AddingModel("v1", shift=0.01), "another result now: PD, score, points of groups"),
        (AddingModel("v1", words="small sales"), ""),
    ],
)
async def test_a_stored_decision_is_told_whatever_became_of_its_model(
    world: World, now: AddingModel | None, remark: str
) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    world.models.loaded = {"v1": now} if now else {}
    reading = await world.scoring.read(decided(result).decision_id, Use.EXPLANATION, BANK)
    assert reading.decision == result
    assert remark in reading.remark
    assert bool(reading.remark) == bool(remark)


async def test_what_the_model_fails_on_fails_alone(world: World) -> None:
    world.models.loaded["v1"] = AddingModel("v1", chokes_on=0.1, cannot_score=0.9)
    world.summaries.answers["sub_other"] = sales(5000)
    results = await world.score(
        call("sub_good", "r1"), call("sub_other", "r2"), call("sub_bad", "r3")
    )
    assert [type(result) for result in results] == [ZeroDivisionError, Decision, ZeroDivisionError]
    assert len(world.work.decisions.made) == 1


async def test_a_decision_says_that_its_model_or_data_are_simulated_or_unvalidated(
    world: World,
) -> None:
    world.summaries.answers["sub_made_up"] = dataclasses.replace(sales(1000), simulated=True)
    world.models.loaded |= {
        "real": AddingModel("real", model_class="UNVALIDATED"),
        "good": AddingModel("good", model_class="VALIDATED"),
    }
    results = await world.score(
        call("sub_good", "r1"),
        call("sub_made_up", "r2", version="real"),
        call("sub_made_up", "r3", version="good"),
        call("sub_good", "r4", version="good"),
    )
    assert [decided(result).notices for result in results] == [
        (NoticeCode.MODEL_SIMULATED,),
        (NoticeCode.MODEL_UNVALIDATED, NoticeCode.DATA_SIMULATED),
        (NoticeCode.DATA_SIMULATED,),
        (),
    ]


async def test_a_decision_says_that_something_is_hidden_and_counts_nothing_for_it(
    world: World,
) -> None:
    world.summaries.answers["sub_hidden"] = dataclasses.replace(sales(1000), withheld=True)
    world.summaries.answers["sub_plain"] = sales(1000)
    hidden, plain = await world.score(call("sub_hidden", "r1"), call("sub_plain", "r2"))
    assert NoticeCode.DATA_WITHHELD in decided(hidden).notices
    assert NoticeCode.DATA_WITHHELD not in decided(plain).notices
    assert decided(hidden).outcome == decided(plain).outcome


async def test_a_decision_says_what_a_short_period_withheld(world: World) -> None:
    whole = dataclasses.replace(
        sales(1000), coverage={"vat_invoice": Coverage.SUPPLIED, "tax_filing": Coverage.SUPPLIED}
    )
    world.summaries.answers["sub_short"] = dataclasses.replace(
        whole, period=(date(2024, 1, 1), date(2026, 4, 30))
    )
    [result] = await world.score(call("sub_short", "r1"))
    assert decided(result).coverage["tax_filing"] is Coverage.NOT_CONSENTED
    assert decided(result).coverage["vat_invoice"] is Coverage.SUPPLIED


async def test_lists_show_a_bank_its_own_and_a_firm_those_about_it(world: World) -> None:
    await world.score(
        call("sub_good", "r1"), call("sub_bad", "r2"), call("sub_good", "r1", caller=OTHER_BANK)
    )
    banks = await world.scoring.page(BANK, None, None, 10)
    assert [made.order.request_id for made in banks] == ["r2", "r1"]
    firms = await world.scoring.page(FIRM, None, None, 10)
    assert {made.caller_id for made in firms} == {"par_bank", "par_other"}
    assert {made.order.subject_id for made in firms} == {"sub_good"}


async def test_a_firm_without_a_subject_sees_no_list(world: World) -> None:
    await world.score(call("sub_good", "r1"))
    with pytest.raises(PermissionDeniedError) as refusal:
        await world.scoring.page(Caller("par_firm", "FIRM"), None, None, 10)
    assert refusal.value.reason == "NOT_YOURS"
