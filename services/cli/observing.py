"""Cohorts from the platform: what was known of firms on a day, what lenders say of the year after.

Every firm's consent of the purpose model_training is asked at each fetch; one that is refused
leaves its firm out and is counted.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from puhui_client import Client, PuhuiError
from services.cli.inputs import CHINA
from services.cli.training import PURPOSE
from services.scoring.features.domain import FirmSummary
from services.scoring.reader import read_summary
from services.scoring.training.cohorts import CREDIT, Observation, OutcomeRule

COHORTS = 4
"""Observed when none are named: a year, by quarter."""
_AT_ONCE = 16
_OF_THE_FIRM = frozenset({"FAILED_PRECONDITION", "PERMISSION_DENIED", "NOT_FOUND"})


@dataclass(frozen=True)
class Member:
    """A firm whose records may train a model.

    Args:
        subject_id: the firm.
        consent_id: its consent to training.
    """

    subject_id: str
    consent_id: str


async def consenting(client: Client) -> list[Member]:
    """Return the firms whose consent to training stands, by their ids; the newest consent counts.

    Raises:
        PuhuiError: the platform does not answer.
    """
    members: dict[str, Member] = {}
    async for consent in client.list_consents(state="ACTIVE"):
        if consent.terms.purpose == PURPOSE:
            member = Member(consent.subject_id, consent.consent_id)
            members.setdefault(member.subject_id, member)
    return [members[subject_id] for subject_id in sorted(members)]


def cohorts_before(day: dt.date, rule: OutcomeRule, count: int = COHORTS) -> list[dt.date]:
    """Return the last ends of quarters whose performance window is over on a day, oldest first."""
    month = day.year * 12 + day.month - 1
    found: list[dt.date] = []
    while len(found) < count:
        month -= 1
        end = dt.date((month + 1) // 12, (month + 1) % 12 + 1, 1) - dt.timedelta(days=1)
        if end.month % 3 == 0 and rule.ripe_on(end) <= day:
            found.append(end)
    return found[::-1]


@dataclass(frozen=True)
class Observed:
    """What was fetched.

    Args:
        observations: every firm in every cohort, by cohort and firm.
        refused: fetches that were refused, by reason.
    """

    observations: list[Observation]
    refused: dict[str, int]


async def observe(
    client: Client,
    members: Sequence[Member],
    cohorts: Sequence[dt.date],
    rule: OutcomeRule,
    advance: Callable[[int], None],
    *,
    officer: str,
    file_reference: str,
) -> Observed:
    """Fetch what was known of every firm on each day, and what lenders say today.

    Args:
        client: of the bank.
        members: the firms.
        cohorts: days whose performance window is over.
        rule: of the outcome.
        advance: told of fetches that are done: one per firm, and one per firm and cohort.
        officer: who at the bank trains; each firm sees it.
        file_reference: the bank's file of the training; likewise.

    Raises:
        PuhuiError: the platform as a whole does not answer.
    """
    refused: Counter[str] = Counter()
    limit = asyncio.Semaphore(_AT_ONCE)

    async def fetch(
        member: Member, as_of: dt.datetime | None, record_types: Sequence[str]
    ) -> FirmSummary | None:
        async with limit:
            try:
                answer = await client.fetch_summary(
                    member.subject_id,
                    member.consent_id,
                    officer=officer,
                    file_reference=file_reference,
                    purpose=PURPOSE,
                    as_of=as_of,
                    record_types=record_types,
                )
            except PuhuiError as error:
                if error.code not in _OF_THE_FIRM:
                    raise
                refused[error.reason] += 1
                return None
            finally:
                advance(1)
        return read_summary(answer.summary)

    async def member_of(member: Member) -> list[Observation]:
        today = await fetch(member, None, (CREDIT,))
        found = []
        for cohort in cohorts:
            then = await fetch(member, _end_of(cohort), ())
            outcome = None if today is None else rule.outcome(today, cohort)
            found.append(Observation(member.subject_id, cohort, then, outcome))
        return found

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(member_of(member)) for member in members]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    rows = [each for task in tasks for each in task.result()]
    rows.sort(key=lambda each: (each.cohort, each.subject_id))
    return Observed(rows, dict(refused))


def _end_of(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(23, 59, 59), CHINA)
