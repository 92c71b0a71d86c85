"""One suite for the store of erasure duties, and of what consents hold beside their core."""

from dataclasses import replace
from datetime import timedelta

from services.datashare.consent.document import request
from services.datashare.consent.domain import (
    Action,
    Attestation,
    Consent,
    Core,
    Duty,
    Mode,
    Officer,
    Receipt,
    advance,
)
from tests.contract.datashare.conftest import Stored
from tests.contract.datashare.test_stores import NOW, add_people, consent

LIFE = timedelta(days=30)


def stored_for(number: int) -> Consent:
    """A STORE consent that is active for so many days."""
    core = consent(number).core
    terms = replace(core.terms, mode=Mode.STORE, data_life_days=LIFE.days)
    return advance(request(replace(core, terms=terms), NOW), Action.GRANT, NOW)


def duty(one: Consent, days: int, attestation: Attestation | None = None) -> Duty:
    core, ended_at = one.core, NOW + timedelta(days=days)
    ids = core.consent_id, core.subject_id, core.recipient_id
    return Duty(*ids, ended_at, ended_at + LIFE, attestation)


async def listed(stored: Stored, days: int, **narrowed: object) -> list[Duty]:
    asked = {"subject_id": None, "recipient_id": None, "overdue": False, "after": None, "limit": 10}
    async with stored.read() as work:
        found = await work.duties.page(
            now=NOW + timedelta(days=days),
            **(asked | narrowed),  # type: ignore[arg-type]  # names and types as the port has them
        )
    return list(found)


async def test_a_duty_is_one_from_the_end_on(stored: Stored) -> None:
    first, second = stored_for(1), stored_for(2)
    async with stored.begin() as work:
        await work.duties.begin(second)
        await work.duties.begin(first)
        await work.duties.begin(first)
    assert await listed(stored, 0) == []
    assert await listed(stored, 1) == [duty(first, 1)]
    assert await listed(stored, 2) == [duty(first, 1), duty(second, 2)]
    assert await listed(stored, 2, limit=1) == [duty(first, 1)]
    after = (duty(first, 1).due_at, "con_1")
    assert await listed(stored, 2, after=after) == [duty(second, 2)]
    assert await listed(stored, 2, recipient_id="par_9") == []
    assert await listed(stored, 2, subject_id="sub_9") == []
    assert await listed(stored, 2, subject_id="sub_1", recipient_id="par_2", limit=1)


async def test_an_end_brings_it_forward_and_never_back(stored: Stored) -> None:
    one = stored_for(5)
    async with stored.begin() as work:
        await work.duties.begin(one)
        await work.duties.end(one, NOW + timedelta(days=3))
        await work.duties.end(one, NOW + timedelta(days=4))
    assert await listed(stored, 3) == [duty(one, 3)]


async def test_what_is_attested_is_overdue_no_more(stored: Stored) -> None:
    one, said = stored_for(1), Attestation(NOW, Officer("王", "F-1"), "deleted 已删除")
    async with stored.begin() as work:
        await work.duties.begin(one)
        assert await work.duties.lock("con_1", "par_9") is None
        found = await work.duties.lock("con_1", "par_2")
        assert found == duty(one, 1)
    assert await listed(stored, 30, overdue=True) == []
    assert await listed(stored, 31, overdue=True) == [found]
    async with stored.begin() as work:
        await work.duties.attest(found, said)
    assert await listed(stored, 31, overdue=True) == []
    assert await listed(stored, 31) == [duty(one, 1, said)]


async def test_a_consent_keeps_what_it_undergoes(stored: Stored) -> None:
    await add_people(stored)
    core: Core = replace(consent(9).core, answer_by=NOW + LIFE)
    made = request(core, NOW, notice="告知书\n", platform_jws="e30..c2ln")
    ended = replace(
        advance(advance(made, Action.GRANT, NOW), Action.SUPERSEDE, NOW),
        superseded_by="con_10",
        termination=Receipt(b'{"a":1}', "e30..c2ln"),
        end_told=True,
    )
    async with stored.begin() as work:
        await work.consents.add(made)
    for state in (made, ended):
        async with stored.begin() as work:
            await work.consents.update(state)
        async with stored.read() as work:
            assert await work.consents.get("con_9", NOW) == state
