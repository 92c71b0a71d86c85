"""Disputes over SQLite and PostgreSQL: steps, what readers and parties are told, and when."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from puhui.datashare.v1 import disputes_pb2, payloads_pb2, records_pb2
from services.datashare.access.domain import Released
from services.datashare.china import china_day
from services.datashare.disputes import domain
from services.datashare.disputes.app import Disputes, Remind
from services.datashare.disputes.domain import (
    LATE_AFTER,
    PROFILES,
    Dispute,
    DisputeReason,
    DisputeState,
    Mark,
    Target,
)
from services.datashare.disputes.servicer import DisputeServicer
from services.datashare.disputes.store import dispute as dispute_table
from services.datashare.log.domain import Sealer
from services.datashare.log.store import leaf
from services.datashare.mandates.domain import MandateKind
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.records.payloads import payload_fields
from services.datashare.records.store import record as record_table
from services.datashare.summaries.domain import SummaryQuery
from services.kit.db import Database, retry_on_conflict
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller, set_caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_disputes import BANK, CASE, COURT, FIRM_ID, Disputing
from tests.fakes.datashare_records import (
    NOW,
    day,
    invoice,
    money,
    provider,
    record,
    retraction,
)
from tests.fakes.mandates import representative
from tests.fakes.standing import PRODUCTS, set_standing

OPERATOR = Caller("operator", "OPERATOR")


def case(
    record_id: str = "case", amount: int = 500_00, *, on: str = "2024-01-15", **fields: Any
) -> records_pb2.Record:
    return record(
        record_id,
        on,
        record_type="court_case",
        court_case=payloads_pb2.CourtCase(
            case_number="(2024)京01民初1号",
            role="defendant",
            cause="买卖合同纠纷",
            stage="filed",
            filed=day(on),
            amount=money(amount),
        ),
        **fields,
    )


@pytest.fixture
async def datashare(database: Database) -> Disputing:
    made = await Disputing(database).populate()
    ack = await made.submit("par_court", case())
    assert len(ack.accepted) == 1
    return made


async def marks(made: Disputing) -> tuple[Mark, ...]:
    released = await made.fetched()
    assert isinstance(released, Released)
    return released.disputes


def _all_of(made: Disputing, record_type: str) -> SummaryQuery:
    now = made.clock.now()
    subject_id = made.firm.subject_id or ""
    return SummaryQuery(subject_id, (record_type,), None, 190001, 209912, now, china_day(now))


async def told(made: Disputing, party_id: str) -> Sequence[Notice]:
    async with made.transactions.read() as work:
        return [entry.notice for entry in await work.notices.after(party_id, 0, 100)]


def wait_until(made: Disputing, at: datetime) -> None:
    made.clock.advance(at - made.clock.now())


async def kinds(made: Disputing, party_id: str) -> list[str]:
    return [str(notice.kind) for notice in await told(made, party_id)]


async def answered(
    made: Disputing, dispute: Dispute, state: DisputeState, evidence: str = ""
) -> Dispute:
    return await made.disputes.answer(
        COURT, made.key(COURT), dispute.dispute_id, state, "We looked.", evidence
    )


async def test_what_is_disputed_is_marked_from_the_opening_on(datashare: Disputing) -> None:
    assert await marks(datashare) == ()
    dispute = await datashare.opened()
    (mark,) = await marks(datashare)
    assert mark == Mark(
        dispute.dispute_id,
        "court_case",
        "par_court",
        202401,
        "amount",
        DisputeState.OPEN,
        "We won it.",
    )


async def test_a_read_of_the_past_says_what_is_doubted_today(datashare: Disputing) -> None:
    datashare.clock.advance(timedelta(days=10))
    await datashare.opened()
    assert datashare.firm.subject_id

    async def found(as_of: datetime, first: int = 202401, last: int = 202412) -> int:
        today = china_day(datashare.clock.now())
        query = SummaryQuery(
            datashare.firm.subject_id or "", ("court_case",), None, first, last, as_of, today
        )
        return len((await datashare.find(query)).disputes)

    assert await found(NOW + timedelta(seconds=1)) == 1
    assert await found(NOW - timedelta(seconds=1)) == 0  # not known then
    assert await found(datashare.clock.now(), first=202402) == 1  # open by law: a state that lasts
    assert await found(datashare.clock.now(), last=202312) == 0  # it does not count in these months


async def test_only_readers_of_that_provider_and_type_are_told(datashare: Disputing) -> None:
    await datashare.submit("par_court2", case("other"))
    await datashare.opened()
    today = china_day(datashare.clock.now())
    query = SummaryQuery(
        datashare.firm.subject_id or "",
        ("court_case",),
        frozenset({"par_court2"}),
        190001,
        209912,
        datashare.clock.now(),
        today,
    )
    found = await datashare.find(query)
    assert len(found.series) == 1
    assert found.disputes == ()
    assert (await datashare.find(replace(query, record_types=("registration",)))).disputes == ()
    assert len((await datashare.find(replace(query, provider_ids=None))).disputes) == 1


async def test_a_record_that_was_taken_back_counts_in_no_read_of_now(datashare: Disputing) -> None:
    await datashare.opened()
    datashare.clock.advance(timedelta(hours=1))
    await datashare.submit("par_court", retraction(case(), 2))
    assert await marks(datashare) == ()


async def test_corrected_says_that_a_correction_came_in(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    with pytest.raises(FailedPreconditionError) as refused:
        await answered(datashare, dispute, DisputeState.CORRECTED)
    assert refused.value.reason == "DISPUTE_STATE"
    assert "push the corrected version" in refused.value.message
    await datashare.submit("par_court", case(amount=5_00, version=2))
    assert len(await marks(datashare)) == 1  # until the provider says so
    corrected = await answered(datashare, dispute, DisputeState.CORRECTED)
    assert corrected.state is DisputeState.CORRECTED
    assert corrected.closed_at == datashare.clock.now()
    assert await marks(datashare) == ()


async def test_a_version_that_repeats_the_wrong_value_corrects_nothing(
    datashare: Disputing,
) -> None:
    dispute = await datashare.opened()
    await datashare.submit("par_court", case(on="2024-02-15", version=2))
    with pytest.raises(FailedPreconditionError) as refused:
        await answered(datashare, dispute, DisputeState.CORRECTED)
    assert refused.value.message.startswith("version 2 says the same in amount")
    assert [mark.state for mark in await marks(datashare)] == [DisputeState.OPEN]
    await datashare.submit("par_court", case(amount=5_00, on="2024-02-15", version=3))
    await datashare.submit("par_court", case(on="2024-02-15", version=4))  # back to what it was
    with pytest.raises(FailedPreconditionError):
        await answered(datashare, dispute, DisputeState.CORRECTED)
    whole = await datashare.opened(CASE._replace(field=""))
    await datashare.submit("par_court", case(amount=5_00, on="2024-02-15", version=5))
    for each in (dispute, whole):
        corrected = await answered(datashare, each, DisputeState.CORRECTED)
        assert corrected.state is DisputeState.CORRECTED


async def answered_by(made: Disputing, provider_id: str, dispute: Dispute) -> Dispute:
    who = Caller(provider_id, "PROVIDER")
    return await made.disputes.answer(
        who, made.key(who), dispute.dispute_id, DisputeState.CORRECTED, "Done.", ""
    )


async def test_sealed_values_and_names_of_others_are_compared_too(datashare: Disputing) -> None:
    await datashare.register(provider("tax"))
    await datashare.submit("par_tax", invoice("i"))
    dispute = await datashare.opened(Target("par_tax", "vat_invoice", "i", "counterparty"))
    await datashare.submit("par_tax", invoice("i", 7_00, version=2))
    with pytest.raises(FailedPreconditionError, match="says the same in counterparty"):
        await answered_by(datashare, "par_tax", dispute)
    await datashare.submit("par_tax", invoice("i", 7_00, counterparty="Other", version=3))
    assert (await answered_by(datashare, "par_tax", dispute)).state is DisputeState.CORRECTED


async def test_what_was_repaired_or_ran_out_needs_no_correction(datashare: Disputing) -> None:
    """Of one version nothing is left then, of several their numbers; both can be answered."""
    await datashare.register(provider("department"))

    def penalty(record_id: str, version: int = 1, repaired: str = "") -> records_pb2.Record:
        payload = payloads_pb2.Penalty(
            document_number=record_id, kind="fine", severity="general", decided=day("2024-05-01")
        )
        if repaired:
            payload.repaired_at.CopyFrom(day(repaired))
        return record(
            record_id, "2024-05-01", record_type="penalty", penalty=payload, version=version
        )

    names = ("repaired", "one", "several")
    await datashare.submit("par_department", *map(penalty, names))
    await datashare.submit("par_department", penalty("several", 2, "2025-06-01"))
    disputes = [
        await datashare.opened(Target("par_department", "penalty", name, "kind")) for name in names
    ]
    await datashare.submit("par_department", penalty("repaired", 2, "2024-06-15"))
    assert len((await datashare.find(_all_of(datashare, "penalty"))).disputes) == 2
    ended = await answered_by(datashare, "par_department", disputes[0])
    assert ended.state is DisputeState.CORRECTED

    datashare.clock.advance(timedelta(days=365))
    assert (await datashare.find(_all_of(datashare, "penalty"))).disputes == ()
    plan = await datashare.retention.plan()
    await datashare.retention.run(datashare.key(OPERATOR), plan.plan_id)
    for dispute in disputes[1:]:
        ended = await answered_by(datashare, "par_department", dispute)
        assert ended.state is DisputeState.CORRECTED


async def test_a_visit_whose_content_the_law_keeps_can_be_disputed(datashare: Disputing) -> None:
    """Its bank alone reads it, and is told; so nobody else is."""
    await datashare.fetched()
    async with datashare.database.begin() as conn:  # as if it had come in under a consent
        await conn.execute(
            sa.update(record_table).values(record_type="field_visit", provider_id="par_bank2")
        )
    await datashare.opened(Target("par_bank2", "field_visit", "case", "conclusion"))
    assert await kinds(datashare, "par_bank2") == ["DISPUTE_OPENED"]
    assert await kinds(datashare, "par_bank") == []


async def test_what_the_firm_supplied_itself_it_corrects(datashare: Disputing) -> None:
    """Also what another account of the firm supplied, as long as it can correct it."""
    firm = await _participant(datashare)
    delegate = replace(firm, participant_id="par_delegate", subject_id=None)
    mandate = replace(
        representative(firm),
        mandate_id="man_delegate",
        participant_id="par_delegate",
        kind=MandateKind.DELEGATE,
    )
    async with datashare.transactions.begin() as work:
        assert await work.participants.add(delegate)
        await work.mandates.add(mandate)
    declaration = payloads_pb2.Declaration(
        fields=[payloads_pb2.DeclaredField(name="orders", value="30")],
        pledge="真实。",
        pledged_at=day("2024-01-15"),
    )
    for account in (FIRM_ID, "par_delegate"):
        own = record("d", record_type="declaration", declaration=declaration)
        assert len((await datashare.submit(account, own)).accepted) == 1
        with pytest.raises(FailedPreconditionError, match=account) as refused:
            await datashare.opened(Target(account, "declaration", "d", ""))
        assert refused.value.reason == "DISPUTE_STATE"
    async with datashare.transactions.begin() as work:
        await work.mandates.suspend([mandate], datashare.clock.now())
    dispute = await datashare.opened(Target("par_delegate", "declaration", "d", ""))
    assert dispute.state is DisputeState.OPEN


async def test_readers_are_told_of_so_many_disputes_of_a_firm_at_most(
    datashare: Disputing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are in every answer about it, and as large as the firm makes them."""
    monkeypatch.setattr(domain, "MOST_STANDING", 2)
    first = await datashare.opened()
    await answered(datashare, first, DisputeState.UPHELD, "判决书")

    async def state(statement: str) -> None:
        key = datashare.key(datashare.firm)
        await datashare.disputes.set_statement(datashare.firm, key, first.dispute_id, statement)

    await datashare.opened()
    with pytest.raises(FailedPreconditionError) as refused:
        await datashare.opened(CASE._replace(field="stage"))
    assert refused.value.reason == "DISPUTE_STATE"
    await state("Still wrong.")  # a standing one may be changed
    await state("")
    second = await datashare.opened(CASE._replace(field="stage"))
    with pytest.raises(FailedPreconditionError):
        await state("It is back.")
    key = datashare.key(datashare.firm)
    await datashare.disputes.close(datashare.firm, key, second.dispute_id)
    await state("It is back.")
    assert len(await marks(datashare)) == 2


async def test_a_retraction_is_a_correction(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    await datashare.submit("par_court", retraction(case(), 2))
    corrected = await answered(datashare, dispute, DisputeState.CORRECTED)
    assert corrected.state is DisputeState.CORRECTED


async def test_upheld_needs_evidence_and_shows_the_statement_on(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    with pytest.raises(InvalidArgumentError) as refused:
        await answered(datashare, dispute, DisputeState.UPHELD, " ")
    assert [problem.field for problem in refused.value.fields] == ["evidence"]
    upheld = await answered(datashare, dispute, DisputeState.UPHELD, "判决书 1 号")
    assert (upheld.answer, upheld.evidence) == ("We looked.", "判决书 1 号")
    (mark,) = await marks(datashare)
    assert (mark.state, mark.statement) == (DisputeState.UPHELD, "We won it.")

    async def state(statement: str) -> None:
        key = datashare.key(datashare.firm)
        await datashare.disputes.set_statement(datashare.firm, key, dispute.dispute_id, statement)

    await state("We appeal.")
    assert [mark.statement for mark in await marks(datashare)] == ["We appeal."]
    await state("")
    assert await marks(datashare) == ()
    for party_id in ("par_court", "par_bank", dispute.subject_id):
        assert (await kinds(datashare, party_id))[-2:] == ["DISPUTE_STATED"] * 2


async def test_what_was_upheld_can_still_turn_out_to_be_wrong(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    await answered(datashare, dispute, DisputeState.UPHELD, "判决书 1 号")
    with pytest.raises(FailedPreconditionError):
        await answered(datashare, dispute, DisputeState.CORRECTED)
    await datashare.submit("par_court", case(amount=5_00, version=2))
    assert len(await marks(datashare)) == 1
    await answered(datashare, dispute, DisputeState.CORRECTED)
    assert await marks(datashare) == ()


async def test_unverifiable_stays_marked_until_it_is_corrected(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    assert [mark.state for mark in await marks(datashare)] == [DisputeState.UNVERIFIABLE]
    await datashare.submit("par_court", case(amount=5_00, version=2))
    await answered(datashare, dispute, DisputeState.CORRECTED)
    assert await marks(datashare) == ()


async def test_a_firm_takes_its_dispute_back(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    key = datashare.key(datashare.firm)
    closed = await datashare.disputes.close(datashare.firm, key, dispute.dispute_id)
    assert closed.state is DisputeState.CLOSED
    assert await marks(datashare) == ()
    with pytest.raises(FailedPreconditionError):
        await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    assert (await datashare.opened()).dispute_id != dispute.dispute_id


async def test_one_open_dispute_for_a_field_of_a_record(datashare: Disputing) -> None:
    first = await datashare.opened()
    with pytest.raises(AlreadyExistsError) as refused:
        await datashare.opened()
    assert first.dispute_id in refused.value.message
    await datashare.opened(CASE._replace(field="stage"))
    await datashare.opened(CASE._replace(field=""))
    assert len(await marks(datashare)) == 3


async def test_two_openings_at_once_are_one(datashare: Disputing) -> None:
    results = await asyncio.gather(*(datashare.opened() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, Dispute) for result in results) == 1
    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 7


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (CASE._replace(provider_record_id="none"), "NOT_FOUND"),
        (CASE._replace(provider_id="par_court2"), "NOT_FOUND"),
        (CASE._replace(record_type="grant"), "NOT_FOUND"),
        (CASE._replace(record_type="rumour"), "TYPE_UNKNOWN"),
        (CASE._replace(field="rumour"), "FIELD_INVALID"),
    ],
)
async def test_only_what_is_there_can_be_disputed(
    datashare: Disputing, target: Target, reason: str
) -> None:
    with pytest.raises((NotFoundError, InvalidArgumentError)) as refused:
        await datashare.opened(target)
    assert refused.value.reason == reason


async def test_another_firm_s_record_is_not_there(datashare: Disputing) -> None:
    await datashare.register(
        replace((await _participant(datashare)), participant_id="par_other", subject_id="sub_other")
    )
    rival = Caller("par_other", "FIRM", "sub_other")
    with pytest.raises(NotFoundError):
        await datashare.disputes.open(
            rival, datashare.key(rival), CASE, DisputeReason.NOT_OURS, "Not ours."
        )
    dispute = await datashare.opened()
    with pytest.raises(NotFoundError):
        await datashare.disputes.close(rival, datashare.key(rival), dispute.dispute_id)
    for stranger in (rival, Caller("par_court2", "PROVIDER")):
        with pytest.raises(NotFoundError):
            await datashare.disputes.get(stranger, dispute.dispute_id)


async def _participant(datashare: Disputing) -> Any:
    async with datashare.transactions.read() as work:
        return await work.participants.get(FIRM_ID)


async def test_an_account_without_the_power_disputes_nothing(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    async with datashare.transactions.begin() as work:
        mandate = await work.mandates.get(FIRM_ID)
        assert mandate
        await work.mandates.end([replace(mandate, ended_at=datashare.clock.now())])
    firm, key = datashare.firm, datashare.key
    for act in (
        datashare.opened(CASE._replace(field="")),
        datashare.disputes.close(firm, key(firm), dispute.dispute_id),
        datashare.disputes.set_statement(firm, key(firm), dispute.dispute_id, "x"),
    ):
        with pytest.raises(PermissionDeniedError) as refused:
            await act
        assert refused.value.reason == "MANDATE_REQUIRED"


async def test_only_the_record_s_provider_answers(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    other = Caller("par_court2", "PROVIDER")
    with pytest.raises(NotFoundError):
        await datashare.disputes.answer(
            other, datashare.key(other), dispute.dispute_id, DisputeState.UPHELD, "a", "e"
        )


async def test_a_step_sent_again_is_done_once(datashare: Disputing) -> None:
    firm = datashare.firm

    async def open_once(body: str) -> Dispute:
        key = datashare.key(firm, "same", body)
        return await datashare.disputes.open(firm, key, CASE, DisputeReason.OUTDATED, body)

    first = await open_once("a")
    assert await open_once("a") == first
    with pytest.raises(AlreadyExistsError) as refused:
        await open_once("b")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    async with datashare.database.read() as conn:
        query = sa.select(sa.func.count()).where(leaf.c.kind == "dispute")
        assert await conn.scalar(query) == 1


async def test_everybody_concerned_is_told_of_each_step(datashare: Disputing) -> None:
    await datashare.fetched()
    datashare.clock.advance(timedelta(days=30))
    dispute = await datashare.opened()
    subject_id = dispute.subject_id
    for party_id in ("par_court", "par_bank", subject_id):
        (notice,) = await told(datashare, party_id)
        assert notice == Notice(
            party_id,
            NoticeKind.DISPUTE_OPENED,
            datashare.clock.now(),
            subject_id=subject_id,
            dispute_id=dispute.dispute_id,
            record_type="court_case",
            participant_id="par_court",
            due_at=dispute.deadlines.answer_due_at,
        )
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    key = datashare.key(datashare.firm)
    await datashare.disputes.close(datashare.firm, key, dispute.dispute_id)
    for party_id in ("par_court", "par_bank", subject_id):
        assert await kinds(datashare, party_id) == [
            "DISPUTE_OPENED",
            "DISPUTE_ANSWERED",
            "DISPUTE_CLOSED",
        ]
    async with datashare.database.read() as conn:
        of_disputes = sa.select(sa.func.count()).where(leaf.c.kind == "dispute")
        assert await conn.scalar(of_disputes) == 3
    async with datashare.transactions.read() as work:
        changes = [entry.change for entry in await work.changes.after(0, 100)]
    assert [(str(change.kind), change.dispute_id) for change in changes] == [
        ("DISPUTE_OPENED", dispute.dispute_id),
        ("DISPUTE_CLOSED", dispute.dispute_id),
    ]


async def test_the_feed_says_from_when_on_readers_are_told_and_no_longer_are(
    datashare: Disputing,
) -> None:
    async def fed() -> list[str]:
        async with datashare.transactions.read() as work:
            return [str(entry.change.kind) for entry in await work.changes.after(0, 100)]

    async def state(statement: str) -> None:
        key = datashare.key(datashare.firm)
        await datashare.disputes.set_statement(datashare.firm, key, dispute.dispute_id, statement)

    dispute = await datashare.opened()
    await state("More of it.")
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    await answered(datashare, dispute, DisputeState.UPHELD, "判决书")
    assert await fed() == ["DISPUTE_OPENED"]
    await state("")
    assert await fed() == ["DISPUTE_OPENED", "DISPUTE_CLOSED"]
    await state("It is wrong all the same.")
    assert await fed() == ["DISPUTE_OPENED", "DISPUTE_CLOSED", "DISPUTE_OPENED"]


async def test_an_answer_tells_whether_it_is_late(datashare: Disputing) -> None:
    servicer = DisputeServicer(datashare.disputes, datashare.clock)
    dispute = await datashare.opened()
    wait_until(datashare, dispute.deadlines.answer_due_at)
    set_caller(datashare.firm)
    request = disputes_pb2.SetStatementRequest(
        request_id="late", dispute_id=dispute.dispute_id, statement="Still waiting."
    )
    answer = await servicer.SetStatement(request, None)  # type: ignore[arg-type]  # not used
    assert answer.dispute.overdue


async def test_whom_a_release_under_way_kept_from_both_is_told_later(
    datashare: Disputing,
) -> None:
    dispute = await datashare.opened()
    assert await told(datashare, "par_bank") == []
    await datashare.fetched()  # as if it had read before the opening, and committed after
    datashare.clock.advance(LATE_AFTER - timedelta(seconds=1))
    assert await datashare.remind() == 0
    datashare.clock.advance(timedelta(seconds=1))
    assert await datashare.remind() == 1
    assert await kinds(datashare, "par_bank") == ["DISPUTE_OPENED"]
    assert await kinds(datashare, "par_court") == ["DISPUTE_OPENED"]
    assert await kinds(datashare, dispute.subject_id) == ["DISPUTE_OPENED"]


async def test_an_answer_at_once_keeps_nobody_from_being_found(datashare: Disputing) -> None:
    """As of a provider whose machine answers; also before a second bank's release has ended."""
    dispute = await datashare.opened()
    await datashare.fetched()
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    other = Caller("par_bank2", "BANK")
    await datashare.register(
        Participant(
            "par_bank2", Role.BANK, "B", "", None, False, Standing.ACTIVE, NOW, products=PRODUCTS
        )
    )
    await datashare.fetched(by=other)
    datashare.clock.advance(LATE_AFTER)
    assert await datashare.remind() == 1
    assert await kinds(datashare, "par_bank") == ["DISPUTE_ANSWERED"]
    assert await kinds(datashare, "par_bank2") == ["DISPUTE_ANSWERED"]
    datashare.clock.advance(timedelta(days=40))
    assert await datashare.remind() == 0  # it is answered


async def test_of_what_is_over_nobody_is_told_late(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    key = datashare.key(datashare.firm)
    await datashare.disputes.close(datashare.firm, key, dispute.dispute_id)
    await datashare.fetched()
    datashare.clock.advance(LATE_AFTER)
    assert await datashare.remind() == 1
    assert await kinds(datashare, "par_bank") == []


async def test_what_nobody_can_read_cannot_be_disputed(datashare: Disputing) -> None:
    await datashare.submit("par_court", retraction(case(), 2))
    with pytest.raises(NotFoundError) as refused:
        await datashare.opened()
    assert refused.value.reason == "NOT_FOUND"


async def test_an_erasure_takes_disputes_along(datashare: Disputing) -> None:
    dispute = await datashare.opened()
    async with datashare.transactions.begin() as work:
        await work.erasing.erase(dispute.subject_id)
    async with datashare.database.read() as conn:
        assert await conn.scalar(sa.select(sa.func.count()).select_from(dispute_table)) == 0


async def test_who_was_released_it_more_than_a_year_ago_is_not_told(datashare: Disputing) -> None:
    await datashare.fetched()
    datashare.clock.advance(timedelta(days=367))
    await datashare.opened()
    assert await told(datashare, "par_bank") == []


@pytest.mark.parametrize(("days", "told_of"), [(366, True), (366.001, False)])
async def test_twelve_months_may_have_a_leap_day(
    datashare: Disputing, days: float, told_of: bool
) -> None:
    await datashare.fetched()
    datashare.clock.advance(timedelta(days=days))
    await datashare.opened()
    assert (await kinds(datashare, "par_bank") == ["DISPUTE_OPENED"]) == told_of


async def test_who_was_released_it_meanwhile_is_told_of_the_answer_also_when_suspended(
    datashare: Disputing,
) -> None:
    dispute = await datashare.opened()
    datashare.clock.advance(timedelta(days=3))
    assert await datashare.remind() == 1
    assert len(await marks(datashare)) == 1
    async with datashare.transactions.begin() as work:
        await set_standing(work, "par_bank", Standing.SUSPENDED)
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    assert await kinds(datashare, "par_bank") == ["DISPUTE_ANSWERED"]


async def test_who_was_released_another_type_is_not_told(datashare: Disputing) -> None:
    await datashare.fetched("registration")
    await datashare.opened()
    assert await told(datashare, "par_bank") == []


async def test_a_provider_is_reminded_once_and_both_are_told_when_it_is_late(
    datashare: Disputing,
) -> None:
    dispute = await datashare.opened()
    due = dispute.deadlines
    assert await datashare.remind() == 0
    datashare.clock.advance(LATE_AFTER)
    assert await datashare.remind() == 1
    assert await kinds(datashare, "par_court") == ["DISPUTE_OPENED"]
    wait_until(datashare, due.remind_at)
    assert await asyncio.gather(*(datashare.remind() for _ in range(3))) in (
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
    )
    assert await datashare.remind() == 0
    assert await kinds(datashare, "par_court") == ["DISPUTE_OPENED", "DISPUTE_REMINDER"]
    assert await kinds(datashare, dispute.subject_id) == ["DISPUTE_OPENED"]
    assert not (await found(datashare, overdue=True))
    wait_until(datashare, due.answer_due_at)
    assert await datashare.remind() == 1
    assert await datashare.remind() == 0
    assert (await kinds(datashare, "par_court"))[2:] == ["DISPUTE_OVERDUE"]
    assert (await kinds(datashare, dispute.subject_id))[1:] == ["DISPUTE_OVERDUE"]
    (late,) = await found(datashare, overdue=True)
    assert late.dispute_id == dispute.dispute_id
    assert late.overdue(datashare.clock.now())
    await answered(datashare, dispute, DisputeState.UNVERIFIABLE)
    assert not (await found(datashare, overdue=True))
    datashare.clock.advance(timedelta(days=100))
    assert await datashare.remind() == 0


async def test_the_strict_profile_has_a_day_for_the_correction(database: Database) -> None:
    made = await Disputing(database, "strict").populate()
    await made.submit("par_court", case())
    dispute = await made.opened()
    assert dispute.deadlines.correction_due_at
    for at, so_far in (
        (dispute.opened_at + LATE_AFTER, []),
        (dispute.deadlines.remind_at, ["DISPUTE_REMINDER"]),
        (dispute.deadlines.answer_due_at, ["DISPUTE_REMINDER", "DISPUTE_OVERDUE"]),
        (dispute.deadlines.correction_due_at, ["DISPUTE_REMINDER"] + ["DISPUTE_OVERDUE"] * 2),
    ):
        wait_until(made, at)
        assert await made.remind() == 1
        assert await made.remind() == 0
        assert (await kinds(made, "par_court"))[1:] == so_far
    assert (await told(made, "par_court"))[-1].due_at == dispute.deadlines.correction_due_at


async def test_a_guessed_deadline_is_reckoned_anew_once_holidays_are_published(
    database: Database,
) -> None:
    made = await Disputing(database, "strict").populate()
    await made.submit("par_court", case())
    wait_until(made, datetime(2026, 12, 30, 3, tzinfo=UTC))
    dispute = await made.opened()
    assert dispute.deadlines.provisional
    assert await made.remind.reckon() == 0  # nothing is published yet
    earlier = replace(
        dispute.deadlines, answer_due_at=dispute.deadlines.answer_due_at - timedelta(1)
    )
    async with made.transactions.begin() as work:
        await work.disputes.update(replace(dispute, deadlines=earlier))
    assert await made.remind.reckon() == 1
    again, _ = await made.disputes.get(made.firm, dispute.dispute_id)
    assert again == dispute


class Weekdays:
    """A calendar before, and after, a whole month of holidays was published."""

    def __init__(self) -> None:
        self.published = False

    def is_working(self, day: date) -> tuple[bool, bool]:
        return day.weekday() < 5 and not (self.published and day.month == 1), self.published


async def test_what_was_late_by_a_guess_alone_is_told_again_in_time(database: Database) -> None:
    made = await Disputing(database, "strict").populate()
    calendar = Weekdays()
    strict = PROFILES["strict"]
    disputes = Disputes(
        transactions=made.transactions,
        retry=retry_on_conflict,
        clock=made.clock,
        ids=RandomIds(made.clock),
        sealer=Sealer(RandomIds(made.clock), secrets.token_bytes),
        profile=strict,
        calendar=calendar,
        fields=payload_fields(),
    )
    await made.submit("par_court", case())
    wait_until(made, datetime(2027, 12, 30, 3, tzinfo=UTC))
    guessed = await disputes.open(
        made.firm, made.key(made.firm), CASE, DisputeReason.OUTDATED, "Old."
    )
    remind = Remind(made.transactions, made.clock, strict, calendar)
    for at in (guessed.opened_at + LATE_AFTER, guessed.deadlines.answer_due_at):
        wait_until(made, at)
        await remind()
    early = ["DISPUTE_OPENED", "DISPUTE_REMINDER", "DISPUTE_OVERDUE"]
    assert await kinds(made, "par_court") == early

    calendar.published = True
    # A profile that counts other days leaves alone what was promised.
    standard = Remind(made.transactions, made.clock, PROFILES["standard"], calendar)
    assert await standard.reckon() == 0
    assert await remind.reckon() == 1
    later, now = await made.disputes.get(made.firm, guessed.dispute_id)
    assert not later.deadlines.provisional
    assert not later.overdue(now)
    assert later.deadlines.answer_due_at > datetime(2028, 2, 1, tzinfo=UTC)
    assert await remind() == 0
    for at in (later.deadlines.remind_at, later.deadlines.answer_due_at):
        wait_until(made, at)
        assert await remind() == 1
    assert await kinds(made, "par_court") == [*early, "DISPUTE_REMINDER", "DISPUTE_OVERDUE"]


async def found(
    made: Disputing, who: Caller = OPERATOR, state: DisputeState | None = None, **more: Any
) -> Sequence[Dispute]:
    more = {"overdue": False, **more}
    page, _, _ = await made.disputes.list(who, state, None, 100, **more)
    return page


async def test_lists_are_of_whom_they_concern_soonest_due_first(datashare: Disputing) -> None:
    opened = []
    for field in ("amount", "stage", "role"):
        opened.append(await datashare.opened(CASE._replace(field=field)))
        datashare.clock.advance(timedelta(days=1))
    ids = [dispute.dispute_id for dispute in opened]
    for who in (OPERATOR, COURT, datashare.firm):
        assert [dispute.dispute_id for dispute in await found(datashare, who)] == ids
    assert await found(datashare, Caller("par_court2", "PROVIDER")) == []
    await answered(datashare, opened[0], DisputeState.UNVERIFIABLE)
    still = await found(datashare, COURT, DisputeState.OPEN)
    assert [dispute.dispute_id for dispute in still] == ids[1:]
    pages, after = [], None
    while True:
        page, after, _ = await datashare.disputes.list(COURT, None, after, 2, overdue=False)
        pages.append([dispute.dispute_id for dispute in page])
        if after is None:
            break
    assert pages == [ids[:2], ids[2:]]


async def test_words_are_sealed_and_go_with_the_subject(datashare: Disputing) -> None:
    dispute = await datashare.opened(statement="绝密陈述")
    async with datashare.database.read() as conn:
        stored = await conn.scalar(sa.select(dispute_table.c.words))
    assert stored
    assert "绝密".encode() not in stored
    async with datashare.transactions.begin() as work:
        await work.seals.destroy(dispute.subject_id, datashare.clock.now())
    with pytest.raises(NotFoundError):
        await datashare.disputes.get(OPERATOR, dispute.dispute_id)
    assert await found(datashare) == []


async def test_a_fetch_after_the_acknowledgement_always_carries_the_mark(
    postgres: Database,
) -> None:
    """Two replicas: one opens, four callers fetch all the while; who begins later is told."""
    opener = await Disputing(postgres).populate()
    reader = Disputing(postgres)
    reader.firm = opener.firm
    early = 0
    for number in range(12):
        name = f"case{number}"
        await opener.submit("par_court", case(name))
        acknowledged = asyncio.Event()

        async def fetch_until(acknowledged: asyncio.Event = acknowledged) -> list[set[str]]:
            """Return what was seen, the last time by a fetch that began after it."""
            seen = []
            last = False
            while not last:
                last = acknowledged.is_set()
                released = await reader.fetched()
                assert not isinstance(released, PuhuiError)
                seen.append({mark.dispute_id for mark in released.disputes})
            return seen

        fetches = [asyncio.create_task(fetch_until()) for _ in range(4)]
        await asyncio.sleep(0.01)
        dispute_id = (await opener.opened(CASE._replace(provider_record_id=name))).dispute_id
        acknowledged.set()
        for seen in await asyncio.gather(*fetches):
            assert dispute_id in seen[-1]
            early += dispute_id not in seen[0]
    assert early  # else they were no races


async def test_of_answers_and_a_close_at_once_one_counts(datashare: Disputing) -> None:
    """Two replicas, twice the same provider and the firm; whoever is late is told how it stands."""
    other = Disputing(datashare.database)
    for number in range(6):
        name = f"race{number}"
        await datashare.submit("par_court", case(name))
        dispute = await datashare.opened(CASE._replace(provider_record_id=name))
        await datashare.submit("par_court", case(name, 5_00, version=2))
        firm_key = other.key(datashare.firm, f"close{number}")
        results = await asyncio.gather(
            answered(datashare, dispute, DisputeState.CORRECTED),
            answered(datashare, dispute, DisputeState.CORRECTED),
            other.disputes.close(datashare.firm, firm_key, dispute.dispute_id),
            return_exceptions=True,
        )
        (won,) = [result for result in results if isinstance(result, Dispute)]
        lost = [result for result in results if isinstance(result, FailedPreconditionError)]
        assert [error.reason for error in lost] == ["DISPUTE_STATE"] * 2
        stands, _ = await datashare.disputes.get(datashare.firm, dispute.dispute_id)
        assert stands == won
        assert await marks(datashare) == ()
        steps = (await kinds(datashare, "par_court"))[-2:]
        assert steps[0] == "DISPUTE_OPENED"
    async with datashare.database.read() as conn:
        query = sa.select(sa.func.count()).where(leaf.c.kind == "dispute")
        assert await conn.scalar(query) == 12


async def test_a_read_without_disputes_asks_nothing_more(datashare: Disputing) -> None:
    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(args[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        await datashare.fetched()
        without = len(statements)
        await datashare.opened()
        statements.clear()
        assert len(await marks(datashare)) == 1
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert len(statements) <= without + 2  # the disputes, and the key of what was written


async def test_a_bank_lists_none(datashare: Disputing) -> None:
    await datashare.opened()
    assert await found(datashare, BANK) == []


async def test_who_may_not_see_a_dispute_any_more_learns_nothing_by_a_replay(
    datashare: Disputing,
) -> None:
    key = datashare.key(datashare.firm)

    async def opened() -> Dispute:
        return await datashare.disputes.open(
            datashare.firm, key, CASE, DisputeReason.WRONG_VALUE, "We won it."
        )

    dispute = await opened()
    assert await opened() == dispute
    async with datashare.transactions.begin() as work:
        standing = await work.mandates.lock_subject(dispute.subject_id)
        await work.mandates.suspend(standing, NOW)
    with pytest.raises(PermissionDeniedError) as caught:
        await opened()
    assert caught.value.reason == "MANDATE_REQUIRED"
