"""Lists look into indexes that hold little else than what is asked for, however long the history.

The tables are filled with what ended long ago; the plans are those of the statements as the stores
send them.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.catalogue.loader import load
from services.datashare.consent.domain import State
from services.datashare.disputes.domain import DisputeState
from services.datashare.main import Stores, Work
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.webhooks import Webhook
from services.kit.clock import SystemClock
from services.kit.db import Database
from services.kit.ids import SequentialIds
from tests.fakes.sealing import vault

NOW = datetime.now(UTC)
CONSENTS = """
    INSERT INTO consent (subject_id, consent_id, recipient_id, state, revision, expires_at,
        canonical, sha256, signatures, requested_at, changed_at, note, one_time)
    SELECT 'sub_' || n, 'con_' || n, 'par_bank', 'WITHDRAWN', 2, now(), '', '', '[]', now(), now(),
        '', true
    FROM generate_series(1, 3000) AS n
"""
USES = "INSERT INTO consent_use SELECT subject_id, consent_id, 0, 1 FROM consent"
DISPUTES = """
    INSERT INTO dispute
    SELECT 'sub_' || n, 'dis_' || n, 'par_tax', 'vat_invoice', 'rec' || n, '', 1, 'WRONG',
        'CORRECTED', now(), now(), now(), NULL, false, NULL, NULL, NULL, '[]', false, ''
    FROM generate_series(1, 3000) AS n
"""
WEBHOOKS = """
    INSERT INTO webhook
    SELECT 'sub_' || n, 'par_' || n, '', now(), 0, 'ACTIVE', 0, NULL, '', now(), false
    FROM generate_series(1, 3000) AS n
"""
CONTACTS = """
    INSERT INTO contact (subject_id, participant_id, content, position, mailed, window_at, messages,
        failures, next_attempt_at, waits)
    SELECT 'sub_' || n, 'par_' || n, '', 0, 0, now(), 0, 0, now(), false
    FROM generate_series(1, 3000) AS n
"""


@pytest.fixture
async def filled(postgres: Database) -> Database:
    async with postgres.begin() as conn:
        for statement in (CONSENTS, USES, DISPUTES, WEBHOOKS, CONTACTS):
            await conn.exec_driver_sql(statement)
    async with postgres.begin() as conn:
        await conn.exec_driver_sql("ANALYZE consent, consent_use, dispute, webhook, contact")
    return postgres


@contextmanager
def sent_on(conn: AsyncConnection) -> Iterator[list[tuple[str, Any]]]:
    """Give the statements that are sent."""
    sent: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    sa.event.listen(conn.sync_connection, "before_cursor_execute", note)
    yield sent
    sa.event.remove(conn.sync_connection, "before_cursor_execute", note)


async def plan(
    database: Database, ask: Callable[[Work], Awaitable[object]], number: int = 0
) -> str:
    """Return the plan of a statement that a store sends, by default the first."""
    catalogue = load()
    stores = Stores(catalogue, SequentialIds(), vault(catalogue, SystemClock()))
    async with database.begin() as conn:
        await conn.execute(sa.select(1))
        with sent_on(conn) as sent:
            await ask(stores(conn))
        statement, parameters = sent[number]
        explained = await conn.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        return "\n".join(explained.scalars())


@pytest.mark.parametrize("state", [State.REQUESTED, State.ACTIVE, State.CONSUMED])
async def test_consents_of_a_bank_by_state(filled: Database, state: State) -> None:
    def ask(work: Work) -> Awaitable[object]:
        return work.consents.page(
            subject_id=None, recipient_id="par_bank", state=state, now=NOW, before="", limit=101
        )

    found = await plan(filled, ask)
    assert "ix_consent_recipient_id_state_consent_id" in found
    # Uses one by one, and not all that there are.
    assert found.count("using pk_consent_use on consent_use") == found.count(" on consent_use") > 0


@pytest.mark.parametrize("provider_id", ["", "par_tax"])
async def test_disputes_that_are_open(filled: Database, provider_id: str) -> None:
    def ask(work: Work) -> Awaitable[object]:
        return work.disputes.page(
            subject_id="",
            provider_id=provider_id,
            state=DisputeState.OPEN,
            due_by=NOW,
            after=None,
            limit=101,
        )

    assert "_open" in await plan(filled, ask)


async def test_webhooks_for_which_something_waits(filled: Database) -> None:
    found = await plan(filled, lambda work: work.webhooks.due(NOW, 32))
    assert "ix_webhook_next_attempt_at_waits" in found
    assert "notice" not in found


async def test_contacts_for_which_something_waits(filled: Database) -> None:
    found = await plan(filled, lambda work: work.contacts.due(NOW, 8))
    assert "ix_contact_next_attempt_at_waits" in found
    assert "notice" not in found


async def test_who_is_told_something_is_looked_up_by_its_id(filled: Database) -> None:
    async def tell(work: Work) -> None:
        await work.notices.append([Notice("sub_1", NoticeKind.CONSENT_WITHDRAWN, NOW)])
        await work.notices.finish()

    for number, key in ((2, "pk_webhook"), (3, "pk_contact")):
        assert key in await plan(filled, tell, number)


async def test_a_page_of_webhooks_takes_as_many_statements_as_one(postgres: Database) -> None:
    catalogue = load()
    stores = Stores(catalogue, SequentialIds(), vault(catalogue, SystemClock()))
    async with postgres.begin() as conn:
        work = stores(conn)
        for number in range(5):
            party_id = f"par_{number}"
            url = "https://party.example.cn/"
            await work.webhooks.set(Webhook(party_id, party_id, url, b"s" * 32, NOW, 0, NOW))
        with sent_on(conn) as sent:
            assert len(await work.webhooks.page(None, None, 10)) == 5
    # Webhooks, and the keys of all of them.
    assert len(sent) == 2
