"""Consents of before are read as they were granted; those of now keep the version before away."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from services.datashare.consent.document import request
from services.datashare.consent.domain import Action, State, advance, state_at
from services.datashare.consent.store import ConsentStore
from services.datashare.consent.store import consent as table
from services.datashare.main import MIGRATIONS
from services.kit.db import Database
from services.kit.migrations import current, differences, downgrade, head, upgrade
from tests.contract.datashare.test_stores import NOW, consent

BEFORE = "5d0c6f1e92b7"


async def test_one_of_version_1_goes_on_as_it_was_granted(url: str) -> None:
    upgrade(url, MIGRATIONS, BEFORE)
    old = replace(consent(9).core, schema_version=1)
    granted = advance(request(old, NOW), Action.GRANT, NOW)
    lasting = replace(consent(100_000).core, schema_version=1)
    lasts = advance(request(lasting, NOW), Action.GRANT, NOW)
    database = Database.open(url)
    async with database.begin() as conn:
        for core, each in ((old, granted), (lasting, lasts)):
            row = {
                "subject_id": core.subject_id,
                "consent_id": core.consent_id,
                "recipient_id": core.recipient_id,
                "state": "ACTIVE",
                "revision": 2,
                "expires_at": core.terms.expires_at,
                "canonical": each.canonical,
                "sha256": each.sha256,
                "signatures": b"[]",
                "requested_at": NOW,
                "changed_at": NOW,
                "note": "",
            }
            # Columns that are not named are left to the database, as the version before did.
            await conn.execute(sa.insert(table).values(row))
    await database.close()
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    async with database.read() as conn:
        store = ConsentStore(conn)
        # It was over before the end of one was told, the other one is not.
        assert await store.get("con_9", NOW) == replace(granted, end_told=True)
        assert await store.get("con_100000", NOW) == lasts
        listed = await store.page(
            subject_id=None,
            recipient_id=None,
            state=State.EXPIRED,
            now=old.terms.expires_at,
            before="",
            limit=10,
        )
        assert [each.core.consent_id for each in listed] == ["con_9"]
        assert state_at(granted, old.terms.expires_at) is State.EXPIRED
    await database.close()
    downgrade(url, MIGRATIONS, BEFORE)


async def test_what_the_version_before_cannot_read_keeps_it_away(url: str) -> None:
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    async with database.begin() as conn:
        await ConsentStore(conn).add(request(consent(9).core, NOW, notice="a notice"))
    await database.close()
    with pytest.raises(RuntimeError, match="schema version 2"):
        downgrade(url, MIGRATIONS, BEFORE)
    # Before anything else was taken away.
    assert current(url) == head(MIGRATIONS)
    assert differences(url, MIGRATIONS) == []
