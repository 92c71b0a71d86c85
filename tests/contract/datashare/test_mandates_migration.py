"""The migration lets every registered firm speak for itself; going back gives nobody power."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.datashare.main import MIGRATIONS
from services.datashare.mandates.domain import registered
from services.datashare.mandates.store import MandateStore
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.participants.store import ParticipantStore, participant
from services.datashare.subjects.store import subject
from services.kit.db import Database
from services.kit.migrations import current, downgrade, upgrade
from tests.fakes.datashare_world import NOW

BEFORE = "72d8b1ea5f32"
FIRM = Participant("par_01FIRM", Role.FIRM, "A", "", "sub_1", False, Standing.ACTIVE, NOW)
BANK = Participant("par_01BANK", Role.BANK, "B", "", None, False, Standing.ACTIVE, NOW)


async def registered_before(url: str) -> None:
    upgrade(url, MIGRATIONS, BEFORE)
    database = Database.open(url)
    async with database.begin() as conn:
        for person in (FIRM, BANK):
            await conn.execute(
                sa.insert(participant).values(
                    participant_id=person.participant_id,
                    role=person.role,
                    name=person.name,
                    provider_kind=person.provider_kind,
                    subject_id=person.subject_id,
                    historical_source=False,
                    standing=person.standing,
                    registered_at=NOW,
                    simulated_source=False,
                )
            )
    await database.close()


async def test_registered_firms_speak_for_themselves(url: str) -> None:
    await registered_before(url)
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    async with database.begin() as conn:
        mandates = MandateStore(conn)
        assert await mandates.hold(FIRM.participant_id) == registered(
            "man_0001FIRM", "sub_1", FIRM.participant_id, NOW
        )
        assert await mandates.hold(BANK.participant_id) is None
    await database.close()
    downgrade(url, MIGRATIONS, BEFORE)
    assert current(url) == BEFORE
    upgrade(url, MIGRATIONS)


async def test_nobody_gets_power_back_by_going_back(url: str) -> None:
    await registered_before(url)
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    async with database.begin() as conn:
        mandates = MandateStore(conn)
        await mandates.suspend(await mandates.lock_subject("sub_1"), NOW)
    with pytest.raises(RuntimeError, match="suspend those participants"):
        downgrade(url, MIGRATIONS, BEFORE)
    async with database.begin() as conn:
        await conn.execute(sa.update(participant).values(standing=Standing.SUSPENDED))
    await database.close()
    downgrade(url, MIGRATIONS, BEFORE)
    assert current(url) == BEFORE


async def test_a_firm_that_the_version_before_registers_meanwhile_speaks_at_the_next_start(
    url: str,
) -> None:
    await registered_before(url)
    upgrade(url, MIGRATIONS)
    later = replace(FIRM, participant_id="par_02FIRM", subject_id="sub_2")
    database = Database.open(url)
    async with database.begin() as conn:
        await ParticipantStore(conn).add(later)
        mandates = MandateStore(conn)
        await mandates.fill()
        await mandates.fill()
        assert await mandates.hold(later.participant_id) == registered(
            "man_0002FIRM", "sub_2", later.participant_id, NOW
        )
        first = await mandates.hold(FIRM.participant_id)
        assert first is not None
        # Who was erased stays erased.
        gone = replace(FIRM, participant_id="par_03FIRM", subject_id="sub_3")
        await ParticipantStore(conn).add(gone)
        await conn.execute(sa.insert(subject).values(subject_id="sub_3"))
        await mandates.fill()
        assert await mandates.hold(gone.participant_id) is None
        # What was ended stays ended.
        await mandates.end([replace(first, ended_at=NOW)])
        await mandates.fill()
        assert await mandates.hold(FIRM.participant_id) is None
    await database.close()
