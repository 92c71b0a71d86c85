"""A change of representative at the register suspends the mandates of the firm."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.changes.domain import ChangeKind
from services.datashare.china import day_number
from services.datashare.log.domain import Json, LeafKind, canonical, leaf_hash, rfc3339
from services.datashare.log.store import leaf
from services.datashare.main import Work
from services.datashare.mandates.domain import (
    Mandate,
    MandateKind,
    MandateState,
    Power,
    registered,
    state_at,
)
from services.datashare.notices.domain import NoticeKind
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.records.intake import content_hash
from services.datashare.subjects.uscc import make
from services.kit.db import Database
from services.kit.errors import PermissionDeniedError
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    Datashare,
    filing,
    provider,
    record,
    retraction,
)

REGISTRY = "par_market_regulator"
BOSS, CLERK = "par_boss", "par_clerk"
CLAIMED = NOW - timedelta(days=30)
AFTER, BEFORE = CLAIMED + timedelta(days=1), CLAIMED - timedelta(days=1)


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    """A firm with a representative since `CLAIMED`, and a delegate since yesterday."""
    built = Datashare(database)
    await built.register(provider("market_regulator", historical=True), provider("tax"))
    await speak_for(built, USCC, BOSS, CLERK)
    return built


async def speak_for(datashare: Datashare, uscc: str, boss: str, clerk: str) -> None:
    async with datashare.transactions.begin() as work:
        subject_id = (await work.subjects.resolve_or_create_many([uscc]))[uscc]
        await work.mandates.add(registered("man_1", subject_id, boss, CLAIMED))
        await work.mandates.add(
            Mandate(
                "man_2",
                subject_id,
                clerk,
                MandateKind.DELEGATE,
                frozenset({Power.READ}),
                NOW - timedelta(days=1),
                appointed_by=boss,
            )
        )


def change(
    at: datetime, role: str = "legal_representative", successor: str = "李四"
) -> records_pb2.Record:
    day = f"{at:%Y-%m-%d}"
    row = record(
        f"change:{day}:{role}",
        day,
        record_type="officer_change",
        officer_change=payloads_pb2.OfficerChange(
            role=role,
            former="张三",
            successor=successor,
            changed_at={"year": at.year, "month": at.month, "day": at.day},
        ),
    )
    row.obtained_at.FromDatetime(max(at, NOW - timedelta(days=1)))
    return row


def registration(
    name: str,
    at: datetime,
    version: int = 1,
    record_id: str = "registration",
    on: str = "2015-03-01",
) -> records_pb2.Record:
    row = record(
        record_id,
        on,
        record_type="registration",
        version=version,
        registration=payloads_pb2.Registration(
            name="某某科技有限公司",
            firm_kind="limited",
            founded={"year": 2015, "month": 3, "day": 1},
            status="active",
            legal_representative=name,
        ),
    )
    row.obtained_at.FromDatetime(at)
    return row


def excerpt(name: str, on: datetime, at: datetime) -> records_pb2.Record:
    """What the register says as of a day, under an id of its own."""
    day = f"{on:%Y-%m-%d}"
    return registration(name, at, record_id=f"excerpt:{day}:{at:%m-%d}:{name}", on=day)


async def states(datashare: Datashare, uscc: str = USCC) -> list[MandateState]:
    subject_id = await datashare.subject_id(uscc)
    async with datashare.transactions.begin() as work:
        found = await work.mandates.lock_subject(subject_id)
    return [state_at(mandate, datashare.clock.now()) for mandate in found]


SUSPENDED = [MandateState.SUSPENDED] * 2
ACTIVE = [MandateState.ACTIVE] * 2


async def submitted(datashare: Datashare, *rows: records_pb2.Record, **how: Any) -> None:
    ack = await datashare.submit(REGISTRY, *rows, **how)
    assert not ack.rejections
    assert not ack.held


async def test_a_change_since_the_claim_suspends_everybody_and_tells(datashare: Datashare) -> None:
    await submitted(datashare, change(AFTER))
    assert await states(datashare) == SUSPENDED
    subject_id = await datashare.subject_id()
    async with datashare.transactions.read() as work:
        changes = [entry.change for entry in await work.changes.after(0, 100)]
        notices = [entry.notice for entry in await work.notices.after(subject_id, 0, 100)]
    told = [c.participant_id for c in changes if c.kind is ChangeKind.MANDATE_CHANGED]
    assert sorted(told) == [BOSS, CLERK]
    of_mandates = [n for n in notices if n.kind is NoticeKind.MANDATE_CHANGED]
    assert sorted(n.mandate_id for n in of_mandates) == ["man_1", "man_2"]


async def test_it_is_told_once(datashare: Datashare) -> None:
    await submitted(datashare, change(AFTER))
    await submitted(datashare, change(AFTER + timedelta(days=3)))
    async with datashare.transactions.read() as work:
        changes = [entry.change.kind for entry in await work.changes.after(0, 100)]
    assert changes.count(ChangeKind.MANDATE_CHANGED) == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([change(BEFORE)], ACTIVE),
        # Its hour is not known.
        ([change(CLAIMED)], SUSPENDED),
        # After the claim, though before the delegate was appointed.
        ([change(NOW - timedelta(days=5))], SUSPENDED),
        ([change(AFTER, "finance")], ACTIVE),
        # Who represents a partnership.
        ([change(AFTER, "partner")], SUSPENDED),
        # Appointed again; the place is vacant.
        ([change(AFTER, successor="张三")], ACTIVE),
        ([change(AFTER, successor="")], SUSPENDED),
        ([change(BEFORE), change(AFTER)], SUSPENDED),
        ([registration("张三", AFTER)], ACTIVE),
        ([registration("张三", BEFORE), registration("张三", AFTER, 2)], ACTIVE),
        ([registration("张三", BEFORE), registration("李四", AFTER, 2)], SUSPENDED),
        ([registration("张三", BEFORE), registration("", AFTER, 2)], ACTIVE),
        ([registration("", BEFORE), registration("李四", AFTER, 2)], ACTIVE),
        (
            [registration("张三", BEFORE - timedelta(days=9)), registration("李四", BEFORE, 2)],
            ACTIVE,
        ),
        # A register that gives each excerpt an id of its own.
        ([registration("张三", BEFORE), registration("李四", AFTER, 1, "other")], SUSPENDED),
        # Named, then not, then another one.
        (
            [
                registration("张三", BEFORE),
                registration("", BEFORE, 2),
                registration("李四", AFTER, 3),
            ],
            SUSPENDED,
        ),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_what_counts_as_a_change(
    datashare: Datashare,
    rows: list[records_pb2.Record],
    expected: list[MandateState],
    together: bool,
) -> None:
    for part in [rows] if together else [[row] for row in rows]:
        await submitted(datashare, *part)
    assert await states(datashare) == expected


LONG_BEFORE = CLAIMED - timedelta(days=900)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Old excerpts that were obtained, or that come in, after the claim of who came later.
        (
            [
                excerpt("张三", LONG_BEFORE, AFTER + timedelta(days=9)),
                excerpt("李四", BEFORE, AFTER),
            ],
            ACTIVE,
        ),
        (
            [
                excerpt("张三", LONG_BEFORE, LONG_BEFORE),
                excerpt("王五", LONG_BEFORE + timedelta(days=30), AFTER),
                excerpt("李四", BEFORE, BEFORE),
                change(BEFORE),
            ],
            ACTIVE,
        ),
        # By when they were obtained, where all have the day of the firm's founding.
        (
            [
                registration("张三", LONG_BEFORE, record_id="1"),
                registration("李四", BEFORE, record_id="2"),
            ],
            ACTIVE,
        ),
        # Another one since the claim, among what is old.
        (
            [
                excerpt("张三", LONG_BEFORE, AFTER),
                excerpt("李四", BEFORE, AFTER),
                excerpt("王五", AFTER, AFTER + timedelta(days=9)),
            ],
            SUSPENDED,
        ),
        # Of the same day, so that the day does not tell which was first.
        (
            [
                excerpt("张三", LONG_BEFORE, LONG_BEFORE),
                excerpt("李四", LONG_BEFORE, AFTER),
            ],
            SUSPENDED,
        ),
        ([change(BEFORE), change(AFTER), change(LONG_BEFORE)], SUSPENDED),
    ],
)
async def test_the_order_in_which_records_come_in_changes_nothing(
    datashare: Datashare, rows: list[records_pb2.Record], expected: list[MandateState]
) -> None:
    for number, order in enumerate(permutations(rows)):
        uscc = make("91", "110108", f"MA{number:06}")
        await speak_for(datashare, uscc, f"par_boss_{number}", f"par_clerk_{number}")
        for row in order:
            about = records_pb2.Record()
            about.CopyFrom(row)
            about.subject.uscc = uscc
            await submitted(datashare, about)
        told = [row.provider_record_id for row in order]
        assert (told, await states(datashare, uscc)) == (told, expected)


async def test_a_registration_that_shows_a_change_known_from_before_the_claim_changes_nothing(
    datashare: Datashare,
) -> None:
    await submitted(datashare, registration("张三", LONG_BEFORE), change(BEFORE))
    await submitted(datashare, registration("李四", AFTER, 2))
    assert await states(datashare) == ACTIVE
    await submitted(datashare, registration("王五", AFTER, 3))
    assert await states(datashare) == SUSPENDED


async def test_who_was_registered_by_mistake_does_not_count_once_that_is_taken_back(
    datashare: Datashare,
) -> None:
    mistaken = excerpt("王五", LONG_BEFORE, BEFORE)
    taken = retraction(mistaken, 2)
    taken.obtained_at.FromDatetime(AFTER)
    await submitted(datashare, mistaken, taken)
    await submitted(datashare, excerpt("李四", AFTER, AFTER))
    assert await states(datashare) == ACTIVE


@pytest.mark.parametrize("late", [BEFORE, AFTER])
async def test_an_import_of_the_past_says_nothing_against_who_claimed_since(
    datashare: Datashare, late: datetime
) -> None:
    rows = [registration("张三", late - timedelta(days=900)), registration("李四", late, 2)]
    await submitted(datashare, *rows, change(late), historical=True)
    assert await states(datashare) == (ACTIVE if late is BEFORE else SUSPENDED)


async def test_a_retraction_changes_nobody(datashare: Datashare) -> None:
    first = registration("张三", BEFORE)
    await submitted(datashare, first)
    taken = retraction(first, 2)
    taken.obtained_at.FromDatetime(AFTER)
    await submitted(datashare, taken)
    assert await states(datashare) == ACTIVE


async def test_a_refused_row_changes_nobody(datashare: Datashare) -> None:
    await submitted(datashare, registration("张三", BEFORE))
    ack = await datashare.submit(REGISTRY, registration("李四", AFTER))
    assert [rejection.row for rejection in ack.rejections] == [0]
    assert await states(datashare) == ACTIVE


async def test_a_new_claim_is_not_suspended_by_the_change_that_it_answers(
    datashare: Datashare,
) -> None:
    await submitted(datashare, change(AFTER))
    subject_id = await datashare.subject_id()
    async with datashare.transactions.begin() as work:
        before = await work.mandates.lock_subject(subject_id)
        await work.mandates.end([Mandate(**_fields(each) | {"ended_at": NOW}) for each in before])
        await work.mandates.add(registered("man_3", subject_id, "par_new", NOW))
    await submitted(datashare, change(AFTER + timedelta(days=2)))
    assert await states(datashare) == [MandateState.ACTIVE]


async def test_other_types_and_firms_without_mandates_cost_next_to_nothing(
    database: Database, datashare: Datashare
) -> None:
    asked: list[str] = []

    def counting(conn: AsyncConnection) -> Work:
        work = datashare.stores(conn)
        for name in ("spoken_for", "lock_subject"):
            setattr(work.mandates, name, _noted(asked, name, getattr(work.mandates, name)))
        work.register.shown = _noted(asked, "shown", work.register.shown)  # type: ignore[method-assign]  # to count calls
        return work

    counted = Datashare(database, counting)
    await counted.submit("par_tax", filing("f1"))
    assert asked == []
    stranger = change(AFTER)
    stranger.subject.uscc = "91110108MA01234537"
    await counted.submit(REGISTRY, stranger)
    assert asked == ["spoken_for"]


def _fields(mandate: Mandate) -> dict[str, Any]:
    return {name: getattr(mandate, name) for name in Mandate.__slots__}


def _noted(asked: list[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    async def noted(*args: Any) -> Any:
        asked.append(name)
        return await call(*args)

    return noted


async def test_who_may_submit_supplies_for_the_firm_and_nobody_else_does(
    datashare: Datashare,
) -> None:
    who = Participant("par_clerk", Role.FIRM, "A clerk", "", None, False, Standing.ACTIVE, NOW)
    async with datashare.transactions.begin() as work:
        await work.participants.add(who)
        (clerk,) = [
            each
            for each in await work.mandates.lock_subject(await datashare.subject_id())
            if each.participant_id == CLERK
        ]
    statement = record(
        "s",
        "2023-12-31",
        record_type="financial_statement",
        financial_statement=payloads_pb2.FinancialStatement(kind="annual"),
    )
    with pytest.raises(PermissionDeniedError) as caught:
        await datashare.submit(CLERK, statement)
    assert caught.value.reason == "MANDATE_REQUIRED"
    async with datashare.transactions.begin() as work:
        await work.mandates.end([replace(clerk, ended_at=NOW)])
        submit = frozenset({Power.SUBMIT})
        await work.mandates.add(replace(clerk, mandate_id="man_3", powers=submit))
    assert list((await datashare.submit(CLERK, statement)).accepted) == [0]
    async with datashare.database.read() as conn:
        leaves = (await conn.execute(sa.select(leaf.c.kind, leaf.c.salt, leaf.c.hash))).all()
    ((kind, salt, hashed),) = leaves
    assert kind == LeafKind.MANDATE
    told = statement.financial_statement.SerializeToString(deterministic=True)
    year_end = day_number(date(2023, 12, 31))
    content: dict[str, Json] = {
        "action": "submitted",
        "at": rfc3339(NOW),
        "records": [
            {
                "content_sha256": content_hash(False, year_end, year_end, told).hex(),
                "provider_record_id": "s",
                "record_type": "financial_statement",
                "version": 1,
            }
        ],
        "subject_id": await datashare.subject_id(),
        "principal_id": BOSS,
        "delegate_id": CLERK,
    }
    assert hashed == leaf_hash(salt, canonical(content))
    other = retraction(statement, 1)
    other.subject.uscc = "91110108MA01234537"
    (refused,) = (await datashare.submit(CLERK, other)).rejections
    assert refused.reason == "NOT_YOURS"
