"""However records arrive, are corrected and taken back: the summary is that of what is left."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.main import MIGRATIONS
from services.datashare.subjects.uscc import make
from services.kit.db import Database
from services.kit.migrations import upgrade
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    filing,
    invoice,
    money,
    provider,
    record,
    retraction,
)

DAYS = ["2022-01-10", "2022-06-10", "2023-02-10", "2023-02-20", "2024-03-10"]
TYPES = ("vat_invoice", "tax_filing", "social_insurance")
BY_TYPE = {
    "vat_invoice": "par_tax",
    "tax_filing": "par_tax",
    "social_insurance": "par_social_insurance",
}


class Statement(NamedTuple):
    """What a provider says about a record, or, without an amount, that it takes it back."""

    record_type: str
    number: int
    day: str
    amount: int | None
    detail: int


statements = st.lists(
    st.builds(
        Statement,
        record_type=st.sampled_from(TYPES),
        number=st.integers(0, 4),
        day=st.sampled_from(DAYS),
        amount=st.one_of(st.none(), st.integers(-300, 1000)),
        detail=st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


def message(said: Statement, version: int) -> records_pb2.Record:
    name = str(said.number)
    amount = said.amount or 0
    if said.record_type == "vat_invoice":
        made = invoice(
            name,
            amount,
            on=said.day,
            side=1 + said.number % 2,
            counterparty=str(said.detail),
            void=said.detail == 3,
        )
    elif said.record_type == "tax_filing":
        made = filing(name, "ABCD"[said.detail], on=said.day)
    else:
        payload = payloads_pb2.SocialInsurance(headcount=abs(amount), paid=money(abs(amount)))
        made = record(name, said.day, record_type=said.record_type, social_insurance=payload)
    made.version = version
    return made if said.amount is not None else retraction(made, version)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("any-order")
    made = f"sqlite:///{folder / 'datashare.db'}"
    upgrade(made, MIGRATIONS)
    asyncio.run(_register(made))
    return made


async def _register(url: str) -> None:
    database = Database.open(url)
    await Datashare(database).register(provider("tax"), provider("social_insurance"))
    await database.close()


async def _submit(
    datashare: Datashare, uscc: str, rows: list[records_pb2.Record], batch: int
) -> None:
    for row in rows:
        row.subject.uscc = uscc
    for provider_id in ("par_tax", "par_social_insurance"):
        mine = [row for row in rows if BY_TYPE[row.record_type] == provider_id]
        for start in range(0, len(mine), batch):
            await datashare.submit(provider_id, *mine[start : start + batch])


async def _compare(
    url: str, said: list[Statement], batch: int, reads: bool, shuffled: list[int]
) -> None:
    database = Database.open(url)
    datashare = Datashare(database)
    async with database.read() as conn:
        firms = len((await conn.exec_driver_sql("SELECT 1 FROM subject")).all())
    lived, plain = (make("91", "110108", f"MA{firms + n:06}") for n in range(2))
    versions: dict[tuple[str, int], int] = {}
    left: dict[tuple[str, int], Statement] = {}
    rows = []
    for statement in said:
        key = statement[:2]
        if statement.amount is None and key not in versions:
            continue
        if key not in left or message(left[key], 1) != message(statement, 1):
            versions[key] = versions.get(key, 0) + 1
        rows.append(message(statement, versions[key]))
        left[key] = statement
    half = len(rows) // 2 if reads else 0
    await _submit(datashare, lived, rows[:half], batch)
    if half:
        await datashare.read(*TYPES, uscc=lived, as_of=NOW)
    await _submit(datashare, lived, rows[half:], batch)
    remaining = [message(what, 1) for what in left.values() if what.amount is not None]
    order = sorted(range(len(remaining)), key=lambda index: shuffled[index % len(shuffled)])
    await _submit(datashare, plain, [remaining[index] for index in order], 1000)
    got = await datashare.read(*TYPES, uscc=lived) if rows else []
    expected = await datashare.read(*TYPES, uscc=plain) if remaining else []
    await database.close()
    assert got == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    said=statements,
    batch=st.integers(1, 12),
    reads=st.booleans(),
    shuffled=st.permutations(range(15)),
)
def test_any_order_of_arrival(
    url: str, said: list[Statement], batch: int, reads: bool, shuffled: list[int]
) -> None:
    asyncio.run(_compare(url, said, batch, reads, shuffled))
