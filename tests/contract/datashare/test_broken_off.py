"""Callers that give up in the midst of what they asked for: nothing is half done, no lock is kept.

A deadline that passes cancels the call, wherever it is. What was committed by then holds, though
nobody is told; of anything else nothing is left, and the next caller does not wait for it.
"""

import asyncio
import random

import sqlalchemy as sa

from services.datashare.access.store import access
from services.datashare.changes.domain import ChangeKind
from services.datashare.changes.store import change
from services.datashare.consent.domain import Action, State
from services.datashare.consent.store import consent as consents
from services.datashare.consent.store import consent_consumption
from services.datashare.log.store import leaf
from services.datashare.notices.domain import NoticeKind
from services.datashare.notices.store import notice
from services.datashare.participants.domain import Standing
from services.datashare.quota.domain import ONE_TIME
from services.datashare.quota.store import consent_use
from services.kit.db import Database
from services.kit.errors import FailedPreconditionError
from tests.fakes.replicas import Replica

ROUNDS = 8


async def found(
    database: Database, column: sa.Column[str], *where: sa.ColumnElement[bool]
) -> list[str]:
    """Return the values of a column, in order."""
    async with database.read() as conn:
        query = sa.select(column).where(*where).order_by(column)
        return list(await conn.scalars(query))


async def test_what_is_broken_off_is_done_whole_or_not_at_all(database: Database) -> None:
    replica = Replica(database)
    firm = await replica.populate()
    moments = random.Random(20261123)
    async with asyncio.timeout(60):
        for number in range(ROUNDS):
            consent = await replica.asked(firm, ONE_TIME)
            consent_id = consent.core.consent_id
            if number % 2:
                await replica.granted_as_asked(firm, consent)
            calls = [
                replica.granted_as_asked(firm, consent),
                replica.fetched(replica.item(consent)),
                replica.consents.end(firm, replica.key(firm), consent_id, Action.WITHDRAW, ""),
                replica.set_standing("par_bank", moments.choice(list(Standing))),
            ]
            tasks = [asyncio.ensure_future(call) for call in calls]
            for task in moments.sample(tasks, len(tasks)):
                await asyncio.sleep(moments.random() * 0.02)
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    assert isinstance(error, FailedPreconditionError), error
            await replica.set_standing("par_bank", Standing.ACTIVE)
            async with asyncio.timeout(5):
                await replica.fetched(replica.item(consent))
    released = await found(database, access.c.consent_id, access.c.outcome == "RELEASED")
    consumed = change.c.kind == ChangeKind.CONSENT_CONSUMED
    assert await found(database, consent_use.c.consent_id, consent_use.c.used > 0) == released
    assert await found(database, consent_consumption.c.consent_id) == released
    assert await found(database, change.c.consent_id, consumed) == released
    told = notice.c.kind == NoticeKind.CONSENT_CONSUMED
    assert await found(database, notice.c.consent_id, told) == sorted(2 * released)
    withdrawn = await found(database, consents.c.consent_id, consents.c.state == State.WITHDRAWN)
    fed = change.c.kind == ChangeKind.CONSENT_WITHDRAWN
    assert await found(database, change.c.consent_id, fed) == withdrawn
    leaves = await found(database, leaf.c.leaf_id, leaf.c.kind == "access")
    assert await found(database, access.c.leaf_id) == leaves
