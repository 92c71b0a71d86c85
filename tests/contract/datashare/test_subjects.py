"""Registration numbers and opaque ids, on SQLite and PostgreSQL alike."""

import asyncio

import pytest

from puhui.datashare.v1 import subjects_pb2
from services.datashare.subjects.app import ResolveSubject
from services.datashare.subjects.servicer import SubjectServicer
from services.datashare.subjects.uscc import make
from services.kit.db import Database
from services.kit.errors import InvalidArgumentError, NotFoundError
from tests.fakes.datashare_records import USCC, Datashare


@pytest.fixture(params=["sqlite", "postgres"])
def datashare(request: pytest.FixtureRequest) -> Datashare:
    database: Database = request.getfixturevalue(request.param)
    return Datashare(database)


def codes(first: int, last: int) -> list[str]:
    return [make("91", "110108", f"MA{number:06}") for number in range(first, last)]


async def test_ids_are_made_once_and_tell_nothing(datashare: Datashare) -> None:
    async with datashare.transactions.begin() as work:
        assert await work.subjects.resolve(USCC) is None
        made = await work.subjects.resolve_or_create_many([USCC, *codes(0, 3), USCC])
        assert await work.subjects.resolve_or_create_many([]) == {}
    async with datashare.transactions.begin() as work:
        assert await work.subjects.resolve_or_create_many([USCC, *codes(0, 3)]) == made
        assert await work.subjects.resolve(USCC) == made[USCC]
        assert await work.subjects.existing([made[USCC], "sub_x"]) == {made[USCC]}
        assert await work.subjects.existing([]) == set()
    assert len(set(made.values())) == 4
    assert not any(code in subject_id for code, subject_id in made.items())


async def test_two_at_once_get_the_same_ids(datashare: Datashare) -> None:
    async def resolve(wanted: list[str]) -> dict[str, str]:
        async with datashare.transactions.begin() as work:
            return await work.subjects.resolve_or_create_many(wanted)

    results = await asyncio.gather(
        *(resolve(codes(start, start + 50)) for start in (0, 25, 0, 10)),
        *(resolve(codes(0, 60)[::-1]) for _ in range(3)),
    )
    merged: dict[str, str] = {}
    for result in results:
        for code, subject_id in result.items():
            assert merged.setdefault(code, subject_id) == subject_id
    assert len(set(merged.values())) == len(merged) == 75


async def test_resolving_over_the_wire(datashare: Datashare) -> None:
    servicer = SubjectServicer(ResolveSubject(datashare.transactions))

    async def resolve(uscc: str) -> str:
        request = subjects_pb2.ResolveSubjectRequest(uscc=uscc)
        return (await servicer.ResolveSubject(request, None)).subject_id  # type: ignore[arg-type]  # the servicer does not use the context

    with pytest.raises(NotFoundError) as unknown:
        await resolve(USCC)
    assert unknown.value.reason == "NOT_FOUND"
    with pytest.raises(InvalidArgumentError) as malformed:
        await resolve(USCC[:-1])
    assert malformed.value.reason == "USCC_MALFORMED"
    assert malformed.value.fields[0].field == "uscc"
    assert USCC[:-1] not in malformed.value.message
    async with datashare.transactions.begin() as work:
        made = await work.subjects.resolve_or_create_many([USCC])
    assert await resolve(f" {USCC.lower()} ") == made[USCC]
