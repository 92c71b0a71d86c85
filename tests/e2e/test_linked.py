"""Owners, guarantors and buyers over the whole way, each under its own consent for one firm."""

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from puhui.datashare.v1 import accesses_pb2, accesses_pb2_grpc
from puhui.datashare.v1.consents_pb2 import Consent
from puhui.scoring.v1 import scoring_pb2
from puhui_client import Client, ConsentError, InvalidArgumentError, NotFoundError
from puhui_client.bank import Relation as RelationName
from services.datashare.subjects import uscc
from services.kit.calls import Call
from services.kit.client import Channel
from services.kit.clock import SystemClock
from services.kit.errors import FailedPreconditionError, PuhuiError, UnavailableError
from services.kit.identity import Caller
from services.kit.server import Server, ServerConfig
from services.kit.status import status_of
from services.kit.telemetry import Telemetry
from services.scoring.decisions.app import OrderCall, Released
from services.scoring.decisions.datashare import MOST_ITEMS, DatashareSummaries, linked_request_id
from services.scoring.decisions.domain import Linked, Order
from services.scoring.features.domain import Relation
from tests.e2e.town import ASKED, FIRST, LAST, OTHER_USCC, Town, a_model, invoices, running_town

THIRD_USCC = uscc.make("91", "110105", "MA03TE5T")


@pytest.fixture(scope="module")
def guaranteed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town whose model goes by the guarantor's PD, with a second firm that has records."""
    folder = tmp_path_factory.mktemp("guaranteed")
    with running_town(folder, functools.partial(a_model, by="guarantor_pd")) as town:
        asyncio.run(supply(town))
        yield town


async def supply(town: Town) -> None:
    async with town.client("tax") as tax:
        report = await tax.push(invoices(12, OTHER_USCC), historical=True)
        assert report.accepted == report.sent, report


async def related(town: Town, for_subject_id: str, **changes: Any) -> Consent:
    """The guarantor's consent to the bank for the score of a firm."""
    terms: dict[str, Any] = {
        "subject_id": town.people["other_firm"].subject_id,
        "purpose": "related_party",
        "providers": [town.people["tax"].participant_id],
        "record_types": ["vat_invoice"],
        "data_from": FIRST,
        "data_to": LAST,
        "expires_at": datetime.now(UTC) + timedelta(days=30),
        "officer": "Wang 王",
        "file_reference": "A-17",
        "for_subject_id": for_subject_id,
        **ASKED,
    }
    async with town.client("bank") as bank, town.client("other_firm") as guarantor:
        asked = await bank.request_consent(**(terms | changes))
        return await guarantor.grant_consent(asked)


def beside(town: Town, consent: Consent) -> list[tuple[RelationName, str, str]]:
    return [("GUARANTOR", town.people["other_firm"].subject_id, consent.consent_id)]


async def test_a_guarantor_s_data_enters_the_score_of_the_one_firm_it_consented_for(
    guaranteed: Town,
) -> None:
    town = guaranteed
    firm_id, guarantor_id = town.subject_id, town.people["other_firm"].subject_id
    own, theirs = await town.consent(), await related(town, firm_id)
    assert f"firm {firm_id}" in theirs.notice or f"企业{firm_id}" in theirs.notice
    async with town.client("bank") as bank, town.client("other_firm") as guarantor:
        alone = await bank.score(firm_id, own.consent_id, **ASKED)
        made = await bank.score(
            firm_id, own.consent_id, linked=beside(town, theirs), request_id="beside", **ASKED
        )
        assert made.score > alone.score
        [entered] = made.linked
        assert entered.relation == scoring_pb2.SUBJECT_RELATION_GUARANTOR
        assert (entered.subject_id, entered.consent_id) == (guarantor_id, theirs.consent_id)
        assert entered.HasField("pd")
        answer = await bank.get_decision(made.decision_id)
        assert answer.reproduced, answer.remark
        features = {feature.name: feature for feature in answer.features}
        assert features["guarantor_pd"].value == entered.pd
        assert not features["buyer_pd"].HasField("value")

        # A replay makes no new access; the guarantor is told of one, and of which firm it was for.
        again = await bank.score(
            firm_id, own.consent_id, linked=beside(town, theirs), request_id="beside", **ASKED
        )
        assert again == made
        facts = await guarantor.facts()
        seen = [access for access in facts.accesses if access.consent_id == theirs.consent_id]
        assert [(access.access_id, access.purpose, access.for_subject_id) for access in seen] == [
            (entered.access_id, "related_party", firm_id)
        ]
        assert seen[0].channel == "scoring"
        assert seen[0].derived_use.score
        assert firm_id not in [access.subject_id for access in facts.accesses]
        [standing] = [
            each for each in facts.consents if each.consent.consent_id == theirs.consent_id
        ]
        assert f"no later score of firm {firm_id} counts" in standing.effect_en
        assert f"企业{firm_id}此后的信用评分不再计入" in standing.effect_zh

        await guarantor.withdraw_consent(theirs.consent_id)
        for request_id in ("beside", "another"):
            with pytest.raises(ConsentError) as refused:
                await bank.score(
                    firm_id,
                    own.consent_id,
                    linked=beside(town, theirs),
                    request_id=request_id,
                    **ASKED,
                )
            assert refused.value.reason == "CONSENT_WITHDRAWN"
            assert [field.field for field in refused.value.fields] == ["order.linked[0].consent_id"]
        decisions = [each.decision_id async for each in bank.decisions(subject_id=firm_id)]
        assert decisions[0] == made.decision_id


async def test_the_firm_is_told_that_there_is_a_guarantor_and_nothing_of_it(
    guaranteed: Town,
) -> None:
    town = guaranteed
    own, theirs = await town.consent(), await related(town, town.subject_id)
    async with town.client("bank") as bank, town.client("firm") as firm:
        made = await bank.score(
            town.subject_id, own.consent_id, linked=beside(town, theirs), **ASKED
        )
        told = await firm.get_decision(made.decision_id)
        [entered] = made.linked
        assert told.decision.score == made.score
        assert list(told.decision.linked) == [
            scoring_pb2.LinkedAccess(relation=scoring_pb2.SUBJECT_RELATION_GUARANTOR)
        ]
        assert [each.name for each in told.features if each.hidden] == ["guarantor_pd"]
        assert {group.group: group.points for group in told.groups}["related_parties"]
        accesses = [access async for access in firm.accesses()]
        listed = [each async for each in firm.decisions()]
        for secret in (
            entered.subject_id,
            entered.access_id,
            entered.consent_id,
            repr(entered.pd),
            f"{entered.pd:.1%}",
        ):
            assert secret not in f"{told}{accesses}{listed}"
    async with town.client("other_firm") as guarantor:
        listed = [each async for each in guarantor.decisions()]
    assert made.decision_id not in [each.decision_id for each in listed]


async def test_for_another_firm_or_for_none_it_is_refused(guaranteed: Town) -> None:
    town = guaranteed
    guarantor_id = town.people["other_firm"].subject_id
    async with Client(town.platform.gateway, town.platform.operator_key, timeout=20) as operator:
        third = await operator.register_participant("FIRM", "test third", uscc=THIRD_USCC)
    own, theirs = await town.consent(), await related(town, third.subject_id)
    asked: dict[str, Any] = {"purpose": "related_party", **ASKED}
    async with town.client("bank") as bank:
        with pytest.raises(ConsentError) as refused:
            await bank.score(town.subject_id, own.consent_id, linked=beside(town, theirs), **ASKED)
        assert refused.value.reason == "SUBJECT_NOT_CONSENTED"
        assert [field.field for field in refused.value.fields] == ["order.linked[0].consent_id"]
        with pytest.raises(NotFoundError) as plain:
            linked = beside(town, own)
            await bank.score(town.subject_id, own.consent_id, linked=linked, **ASKED)
        assert plain.value.reason == "CONSENT_NOT_FOUND"
        with pytest.raises(InvalidArgumentError) as unnamed:
            await bank.fetch_summary(guarantor_id, theirs.consent_id, **asked)
        assert [field.field for field in unnamed.value.fields] == ["fetch.for_subject_id"]
        with pytest.raises(ConsentError) as wrong:
            await bank.fetch_summary(
                guarantor_id, theirs.consent_id, for_subject_id=town.subject_id, **asked
            )
        assert wrong.value.reason == "SUBJECT_NOT_CONSENTED"
        fetched = await bank.fetch_summary(
            guarantor_id, theirs.consent_id, for_subject_id=third.subject_id, **asked
        )
        assert fetched.summary.series
        with pytest.raises(InvalidArgumentError) as twice:
            linked = beside(town, theirs) * 2
            await bank.score(town.subject_id, own.consent_id, linked=linked, **ASKED)
        assert [field.field for field in twice.value.fields] == ["order.linked[1].subject_id"]
        with pytest.raises(InvalidArgumentError) as purpose:
            await bank.score(guarantor_id, theirs.consent_id, **asked)
        assert [field.field for field in purpose.value.fields] == ["order.purpose"]


async def test_a_consent_for_it_names_another_firm_and_no_other_purpose_does(
    guaranteed: Town,
) -> None:
    town = guaranteed
    own_id = town.people["other_firm"].subject_id
    for changes in (
        {"for_subject_id": ""},
        {"for_subject_id": own_id},
        {"for_subject_id": "sub_nobody"},
        {"purpose": "credit_application"},
    ):
        with pytest.raises(InvalidArgumentError) as refused:
            await related(town, **({"for_subject_id": town.subject_id} | changes))
        assert [field.field for field in refused.value.fields] == ["terms.for_subject_id"]


BANK = Caller("par_bank", "BANK")


class Datashare(accesses_pb2_grpc.AccessServiceServicer):
    """Releases everything but what is asked of `refused`, and keeps what was asked."""

    def __init__(self, **refused: PuhuiError) -> None:
        self.refused = refused
        self.asked: list[list[accesses_pb2.SummaryFetch]] = []

    async def BatchFetchSummaries(
        self, request: accesses_pb2.BatchFetchSummariesRequest, context: Any
    ) -> accesses_pb2.BatchFetchSummariesResponse:
        self.asked.append([item.fetch for item in request.items])
        answer = accesses_pb2.BatchFetchSummariesResponse()
        for item in request.items:
            result = answer.results.add()
            error = self.refused.get(item.fetch.subject_id)
            if error is not None:
                result.refused.CopyFrom(status_of(error))
            else:
                result.released.access_id = f"acc_{item.fetch.subject_id}"
        return answer


@asynccontextmanager
async def reading(datashare: Datashare) -> AsyncIterator[DatashareSummaries]:
    async def as_scoring(_call: Call) -> Caller:
        return Caller("scoring", "SCORING")

    config = ServerConfig("127.0.0.1:0", grace=0.1)
    server = Server(config, as_scoring, Telemetry("test"), SystemClock())
    server.add(accesses_pb2_grpc.add_AccessServiceServicer_to_server, datashare)
    await server.start()
    channel = Channel(f"127.0.0.1:{server.port}", lambda: "token")
    try:
        yield DatashareSummaries(channel, SystemClock())
    finally:
        await channel.close()
        await server.stop()


def ordered(number: int, *linked: str, relations: frozenset[Relation]) -> OrderCall:
    order = Order(
        f"r{number}",
        f"sub_{number}",
        "con_1",
        "credit_application",
        officer="王",
        file_reference="F-1",
        linked=tuple(
            Linked(Relation.OWNER if at % 2 else Relation.GUARANTOR, subject_id, f"con_{at}")
            for at, subject_id in enumerate(linked)
        ),
    )
    deadline = asyncio.get_running_loop().time() + 5
    return OrderCall(order, BANK, "a", deadline, "", automated_decision=True, relations=relations)


async def test_each_linked_subject_is_an_item_of_its_own_beside_its_firm_s() -> None:
    datashare = Datashare()  # type: ignore[abstract]  # methods that no test calls are left out
    both, guarantors = frozenset(Relation), frozenset({Relation.GUARANTOR})
    calls = [
        ordered(1, "sub_a", "sub_b", relations=both),
        ordered(2, relations=both),
        ordered(3, "sub_c", "sub_d", "sub_e", relations=guarantors),
    ]
    async with reading(datashare) as summaries:
        answers = await summaries.fetch(calls)
    released = [answer for answer in answers if isinstance(answer, Released)]
    assert [answer.access_id for answer in released] == ["acc_sub_1", "acc_sub_2", "acc_sub_3"]
    assert [
        {at: other.access_id for at, other in answer.linked.items()} for answer in released
    ] == [{0: "acc_sub_a", 1: "acc_sub_b"}, {}, {0: "acc_sub_c", 2: "acc_sub_e"}]
    [asked] = datashare.asked
    assert [(fetch.subject_id, fetch.purpose, fetch.for_subject_id) for fetch in asked] == [
        ("sub_1", "credit_application", ""),
        ("sub_a", "related_party", "sub_1"),
        ("sub_b", "related_party", "sub_1"),
        ("sub_2", "credit_application", ""),
        ("sub_3", "credit_application", ""),
        ("sub_c", "related_party", "sub_3"),
        ("sub_e", "related_party", "sub_3"),
    ]
    assert {fetch.officer.file_reference for fetch in asked} == {"F-1"}
    assert all(fetch.derived_use.score and fetch.derived_use.automated_decision for fetch in asked)
    assert [fetch.consent_id for fetch in asked][5:] == ["con_0", "con_2"]
    ids = [fetch.request_id for fetch in asked]
    assert len(set(ids)) == len(ids)
    assert ids[1] == linked_request_id("r1", "sub_a")
    assert len(ids[1]) == hashlib.sha256().digest_size * 2 == 64


async def test_an_order_s_items_stay_in_one_call() -> None:
    datashare = Datashare()  # type: ignore[abstract]  # methods that no test calls are left out
    eight = [f"sub_of_{number}" for number in range(8)]
    calls = [ordered(number, *eight, relations=frozenset(Relation)) for number in range(64)]
    async with reading(datashare) as summaries:
        answers = await summaries.fetch(calls)
    assert [answer.access_id for answer in answers if isinstance(answer, Released)] == [
        f"acc_sub_{number}" for number in range(64)
    ]
    assert all(len(asked) <= MOST_ITEMS for asked in datashare.asked)
    for asked in datashare.asked:
        assert len(asked) % 9 == 0
        assert asked[0].purpose == "credit_application"


@pytest.mark.parametrize(
    ("refused", "reason", "fields"),
    [
        ({"sub_b": "CONSENT_EXPIRED"}, "CONSENT_EXPIRED", ["order.linked[1].consent_id"]),
        ({"sub_a": "SUBJECT_ERASED"}, "SUBJECT_ERASED", ["order.linked[0].subject_id"]),
        # The firm's own goes before those of others.
        ({"sub_b": "CONSENT_EXPIRED", "sub_1": "CONSENT_PAUSED"}, "CONSENT_PAUSED", []),
        ({"sub_b": "", "sub_a": ""}, "UNAVAILABLE", []),
    ],
)
async def test_whose_consent_it_was_is_named(
    refused: dict[str, str], reason: str, fields: list[str]
) -> None:
    errors: dict[str, PuhuiError] = {
        subject_id: FailedPreconditionError(why, "ask for a new one")
        if why
        else UnavailableError("UNAVAILABLE", "try again")
        for subject_id, why in refused.items()
    }
    call = ordered(1, "sub_a", "sub_b", relations=frozenset(Relation))
    async with reading(Datashare(**errors)) as summaries:  # type: ignore[abstract]  # others are left out
        [error] = await summaries.fetch([call])
    assert isinstance(error, PuhuiError)
    assert (error.reason, [field.field for field in error.fields]) == (reason, fields)
