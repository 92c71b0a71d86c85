"""One suite for what is counted, on the fake, SQLite and PostgreSQL."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.datashare.china import day_number
from services.datashare.metering.app import RecordUsage, TellFigures, supplied_in
from services.datashare.metering.domain import (
    Contribution,
    Counts,
    Refused,
    Supply,
    Usage,
    UsageKey,
    month_with,
)
from services.datashare.uses.domain import Counted, Use
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import PermissionDeniedError
from services.kit.identity import Caller
from tests.contract.datashare.conftest import Stored

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
NOVEMBER = date(2026, 11, 23)
DAY = day_number(NOVEMBER)
SCORE = UsageKey("par_bank", "credit_reporting", "puhui.scoring.v1.ScoringService/Score")
LIST = UsageKey("par_bank", "", "puhui.datashare.v1.AccessService/ListAccesses")
PUSH = UsageKey("par_tax", "data_service", "puhui.datashare.v1.RecordService/SubmitRecords")
OPERATOR = Caller("par_op", "OPERATOR")
BANK = Caller("par_bank", "BANK")


def recorder(stored: Stored) -> RecordUsage:
    return RecordUsage(stored, retry_on_conflict, FixedClock(NOW))


async def test_a_report_counts_once_through_whichever_replica(stored: Stored) -> None:
    record, tell = recorder(stored), TellFigures(stored)
    usages = [Usage(SCORE, DAY, Counts(3, 1, 0, 300, 900)), Usage(LIST, DAY, Counts(1))]
    await asyncio.gather(*(record("use_1", usages, []) for _ in range(4)))
    await record("use_2", [Usage(SCORE, DAY - 1, Counts(2)), Usage(SCORE, DAY, Counts(1))], [])
    found, behind = await tell.usage(OPERATOR, NOVEMBER, "", None, 10)
    first = month_with(NOVEMBER).first
    assert found == [
        Usage(LIST, first, Counts(1)),
        Usage(SCORE, first, Counts(6, 1, 0, 300, 900)),
    ]
    assert behind is None


async def test_a_month_ends_where_it_ends_in_china(stored: Stored) -> None:
    record, tell = recorder(stored), TellFigures(stored)
    last, first = day_number(date(2026, 11, 30)), day_number(date(2026, 12, 1))
    await record("use_1", [Usage(SCORE, last, Counts(1)), Usage(SCORE, first, Counts(5))], [])
    found, _ = await tell.usage(OPERATOR, date(2026, 12, 31), "", None, 10)
    assert [usage.counts.served for usage in found] == [5]
    # 2026-11-30T16:00Z is the first of December there.
    arrived = [("sub_1", "grant", "par_a", datetime(2026, 11, 30, 16, tzinfo=UTC), 2)]
    assert [each.month for each in supplied_in(arrived)] == [202612]


async def test_a_participant_sees_its_own_by_pages(stored: Stored) -> None:
    record, tell = recorder(stored), TellFigures(stored)
    await record("use_1", [Usage(key, DAY, Counts(1)) for key in (SCORE, LIST, PUSH)], [])
    found, behind = await tell.usage(BANK, NOVEMBER, "", None, 1)
    assert [usage.key for usage in found] == [LIST]
    rest, end = await tell.usage(BANK, NOVEMBER, "par_bank", behind, 1)
    assert [usage.key for usage in rest] == [SCORE]
    assert end is None
    with pytest.raises(PermissionDeniedError) as refused:
        await tell.usage(BANK, NOVEMBER, "par_tax", None, 1)
    assert refused.value.reason == "NOT_YOURS"
    with pytest.raises(PermissionDeniedError):
        await tell.contributions(BANK, NOVEMBER, "par_tax", None, 1)
    everything, _ = await tell.usage(Caller("par_reg", "REGULATOR"), NOVEMBER, "", None, 10)
    assert [usage.key for usage in everything] == [LIST, SCORE, PUSH]


async def test_contributions_of_a_month(stored: Stored) -> None:
    tell = TellFigures(stored)
    arrivals = [
        ("sub_1", "grant", "par_a", NOW, 3),
        ("sub_2", "grant", "par_a", NOW, 1),
        ("sub_1", "ip_right", "par_a", NOW, 1),
        ("sub_1", "grant", "par_b", datetime(2026, 10, 3, tzinfo=UTC), 9),
    ]
    for _ in range(2):
        async with stored.begin() as work:
            await work.metering.supplied(supplied_in(arrivals))
    async with stored.begin() as work:
        await work.uses.append(
            [
                Counted("par_a", Use(DAY, "grant", "credit_application", 2), "par_bank"),
                Counted("par_a", Use(DAY, "grant", "portfolio_review", 1), "par_bank"),
                Counted("par_a", Use(DAY, "grant", "credit_application", 1), "par_other"),
                Counted("par_b", Use(DAY, "grant", "credit_application", 4), "par_bank"),
                Counted("par_b", Use(DAY - 60, "grant", "credit_application", 4), "par_other"),
            ]
        )
    found, behind = await tell.contributions(OPERATOR, NOVEMBER, "", None, 10)
    grant_a, right_a, grant_b = (
        Supply("par_a", "grant"),
        Supply("par_a", "ip_right"),
        Supply("par_b", "grant"),
    )
    assert found == [
        Contribution(grant_a, accepted=8, subjects=2, uses=4, recipients=2),
        Contribution(right_a, accepted=2, subjects=1),
        Contribution(grant_b, uses=4, recipients=1),
    ]
    assert behind is None
    mine, behind = await tell.contributions(Caller("par_a", "PROVIDER"), NOVEMBER, "", None, 1)
    assert (mine, behind) == ([found[0]], grant_a)
    rest, behind = await tell.contributions(Caller("par_a", "PROVIDER"), NOVEMBER, "", behind, 1)
    assert (rest, behind) == ([found[1]], None)
    october, _ = await tell.contributions(OPERATOR, date(2026, 10, 1), "", None, 10)
    assert [each.supply for each in october] == [grant_b]
    async with stored.begin() as work:
        await work.metering.forget("sub_1")
    found, _ = await tell.contributions(OPERATOR, NOVEMBER, "par_a", None, 10)
    assert [(each.accepted, each.subjects) for each in found] == [(8, 1), (2, 0)]


async def test_refusals_wait_for_the_watch_in_order(stored: Stored) -> None:
    record = recorder(stored)
    first = Refused("par_bank", "NOT_YOURS", 4, 4, NOW)
    second = Refused("", "CREDENTIALS_INVALID", 9, 0, NOW)
    await record("use_1", [], [first])
    await record("use_1", [], [first])
    await record("use_2", [], [second])
    async with stored.begin() as work:
        found = await work.metering.refused_after(0, 10)
        assert [each for _, each in found] == [first, second]
        await work.metering.forget_refused(found[0][0])
        await work.metering.forget_reports(NOW)
    async with stored.read() as work:
        assert [each for _, each in await work.metering.refused_after(0, 10)] == [second]
        assert await work.metering.refused_after(found[1][0], 10) == []


_REPORTS = st.lists(
    st.tuples(
        st.sampled_from(["use_1", "use_2", "use_3", "use_4"]),
        st.lists(
            st.tuples(st.sampled_from([SCORE, LIST, PUSH]), st.integers(0, 3), st.integers(0, 9)),
            max_size=5,
        ),
    ),
    max_size=8,
)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_sums_are_of_each_report_once(stored: Stored, data: st.DataObject) -> None:
    reports = data.draw(_REPORTS)
    run = str(data.draw(st.uuids()))
    record, tell = recorder(stored), TellFigures(stored)
    expected: Counter[UsageKey] = Counter()
    seen = set()
    for report_id, calls in reports:
        named = [(key._replace(participant_id=run), offset, n) for key, offset, n in calls]
        usages = [Usage(key, DAY - offset, Counts(served)) for key, offset, served in named]
        await record(f"{run}{report_id[-1]}", usages, [])
        if report_id not in seen:
            seen.add(report_id)
            for key, _, served in named:
                expected[key] += served
    found, _ = await tell.usage(OPERATOR, NOVEMBER, run, None, 10)
    assert {usage.key: usage.counts.served for usage in found} == dict(expected)
