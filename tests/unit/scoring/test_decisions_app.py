import asyncio
from datetime import UTC, datetime

import pytest

from services.kit.clock import FixedClock
from services.kit.errors import FailedPreconditionError, NotFoundError, PuhuiError
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from services.scoring.decisions.app import OrderCall, Scoring
from services.scoring.decisions.domain import Decision, Order
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from tests.fakes.decisions import AddingModel, FakeModels, FakeSummaries, FakeWork

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BANK, OTHER_BANK = Caller("par_bank", "BANK"), Caller("par_other", "BANK")
FIRM = Caller("par_firm", "FIRM", "sub_good")


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
        return await self.scoring.score(calls)


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
    decision, reproduced = await world.scoring.reproduce(decided(result).decision_id, reader)
    assert decision == result
    assert reproduced


@pytest.mark.parametrize("reader", [OTHER_BANK, Caller("par_x", "FIRM", "sub_bad")])
async def test_nobody_else_learns_that_a_decision_exists(world: World, reader: Caller) -> None:
    [result] = await world.score(call("sub_good", "r1"))
    with pytest.raises(NotFoundError) as refusal:
        await world.scoring.reproduce(decided(result).decision_id, reader)
    assert refusal.value.reason == "NOT_FOUND"


async def test_lists_show_a_bank_its_own_and_a_firm_those_about_it(world: World) -> None:
    await world.score(
        call("sub_good", "r1"), call("sub_bad", "r2"), call("sub_good", "r1", caller=OTHER_BANK)
    )
    banks = await world.scoring.page(BANK, None, None, 10)
    assert [made.order.request_id for made in banks] == ["r2", "r1"]
    firms = await world.scoring.page(FIRM, None, None, 10)
    assert {made.caller_id for made in firms} == {"par_bank", "par_other"}
    assert {made.order.subject_id for made in firms} == {"sub_good"}
