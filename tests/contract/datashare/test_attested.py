"""Leaves of events of another service, on the fake, SQLite and PostgreSQL."""

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest

from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.app import Attested, AttestEvents
from services.datashare.log.domain import Leaf, LeafKind, Sealer, leaf_hash
from services.datashare.log.servicer import LeafCodec
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import PuhuiError
from services.kit.ids import SequentialIds
from tests.contract.datashare.conftest import Stored

NOW = datetime(2026, 11, 23, 9, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def attest(stored: Stored) -> AttestEvents:
    salts = iter(range(1_000))
    sealer = Sealer(SequentialIds(), lambda count: bytes([next(salts)]) * count)
    return AttestEvents(stored, retry_on_conflict, FixedClock(NOW), sealer, LeafCodec())


def event(number: int, content: str = "") -> Attested:
    said = (content or f'{{"event_id":"mev_{number}","reason":"新"}}').encode()
    return Attested(RequestKey("scoring", f"mev_{number}", hashlib.sha256(said).digest()), said)


async def test_an_event_has_the_salted_hash_of_its_content(attest: AttestEvents) -> None:
    first, second = await attest([event(1), event(2)])
    for leaf, attested in ((first, event(1)), (second, event(2))):
        assert (leaf.kind, leaf.created_at) == (LeafKind.MODEL, NOW)
        assert leaf.hash == leaf_hash(leaf.salt, attested.content)
    assert first.salt != second.salt


async def test_an_event_that_is_sent_again_has_its_first_leaf(attest: AttestEvents) -> None:
    [first] = await attest([event(1)])
    assert await attest([event(2), event(1), event(1)]) == [
        *(await attest([event(2)])),
        first,
        first,
    ]


async def test_of_replicas_that_send_the_same_at_once_each_gets_the_same_leaf(
    attest: AttestEvents,
) -> None:
    found = await asyncio.gather(*(attest([event(1), event(2)]) for _ in range(4)))
    assert all(leaves == found[0] for leaves in found)


async def test_another_content_of_an_event_is_refused_and_nothing_is_added(
    attest: AttestEvents,
) -> None:
    [first] = await attest([event(1)])
    with pytest.raises(PuhuiError) as refused:
        await attest([event(2), event(1, '{"event_id":"mev_1"}')])
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert await attest([event(1)]) == [first]
    [second] = await attest([event(2, '{"event_id":"two"}')])  # which was not added before
    assert isinstance(second, Leaf)


@pytest.mark.parametrize("content", ["nothing", "[1]", '{"b":1,"a":2}', '{"a": 1}'])
async def test_what_is_not_the_canonical_json_of_an_object_is_refused(
    attest: AttestEvents, content: str
) -> None:
    with pytest.raises(PuhuiError) as refused:
        await attest([event(1, content)])
    assert [field.field for field in refused.value.fields] == ["events[0].content"]
