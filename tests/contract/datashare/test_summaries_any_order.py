"""However records arrive, are corrected and taken back: the summary is that of what is left."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.document import request
from services.datashare.consent.domain import Action, Core, Period, Terms, advance
from services.datashare.subjects.uscc import make
from services.datashare.wanted.domain import due
from tests.contract.datashare.engines import Open, opener
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    day,
    filing,
    from_json,
    invoice,
    money,
    provider,
    record,
    retraction,
)

DAYS = ["2022-01-10", "2022-06-10", "2023-02-10", "2023-02-20", "2024-03-10"]
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "summaries.json").read_text("utf-8"))
RECORDS = {case["type"]: case["records"] for case in GOLDEN}
KINDS = {case["type"]: case["provider_kind"] for case in GOLDEN}
BY_TYPE = {record_type: f"par_{kind}" for record_type, kind in KINDS.items()}
SUPPLIERS = {f"par_{kind}": kind for kind in KINDS.values()}
TYPES = sorted(BY_TYPE)
# Few types in each, so that their records are corrected and taken back often.
GROUPS = [("social_insurance", "tax_filing", "vat_invoice"), *(TYPES[n::7] for n in range(7))]


class Statement(NamedTuple):
    """What a provider says about a record, or, without an amount, that it takes it back."""

    record_type: str
    number: int
    day: str
    amount: int | None
    detail: int


def statements(types: Sequence[str]) -> st.SearchStrategy[list[Statement]]:
    statement = st.builds(
        Statement,
        record_type=st.sampled_from(types),
        number=st.integers(0, 4),
        day=st.sampled_from(DAYS),
        amount=st.one_of(st.none(), st.integers(-300, 1000)),
        detail=st.integers(0, 3),
    )
    return st.lists(statement, min_size=1, max_size=40)


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
    elif said.record_type == "social_insurance":
        payload = payloads_pb2.SocialInsurance(headcount=abs(amount), paid=money(abs(amount)))
        made = record(name, said.day, record_type=said.record_type, social_insurance=payload)
    else:
        examples = RECORDS[said.record_type]
        made = from_json(examples[(said.number + said.detail) % len(examples)])
        made.provider_record_id = name
        made.date.CopyFrom(day(said.day))
    made.version = version
    return made if said.amount is not None else retraction(made, version)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Open:
    folder: Path = tmp_path_factory.mktemp("any-order")
    opened = opener(f"sqlite:///{shutil.copy(migrated_sqlite, folder)}")
    asyncio.run(_register(opened))
    return opened


async def _register(opened: Open) -> None:
    database = opened()
    await Datashare(database).register(*map(provider, sorted(set(KINDS.values()))))
    await database.close()


async def _submit(
    datashare: Datashare, uscc: str, rows: list[records_pb2.Record], batch: int
) -> None:
    for row in rows:
        row.subject.uscc = uscc
    for provider_id in sorted(set(BY_TYPE.values())):
        mine = [row for row in rows if BY_TYPE[row.record_type] == provider_id]
        for start in range(0, len(mine), batch):
            ack = await datashare.submit(provider_id, *mine[start : start + batch])
            assert not ack.rejections


async def _consent(datashare: Datashare, *usccs: str) -> None:
    """What needs a consent to come in has one."""
    async with datashare.transactions.begin() as work:
        for uscc, subject_id in (await work.subjects.resolve_or_create_many(usccs)).items():
            terms = Terms(
                purpose="credit_application",
                provider_ids=tuple(sorted(set(BY_TYPE.values()))),
                record_types=tuple(TYPES),
                content_level=ContentLevel.SUMMARY,
                data_period=Period(date(2020, 1, 1), date(2024, 12, 31)),
                not_before=None,
                expires_at=NOW + timedelta(days=90),
            )
            asked = request(Core(f"con_{uscc}", subject_id, "par_bank", terms), NOW)
            granted = advance(asked, Action.GRANT, NOW)
            await work.consents.add(granted)
            await work.wanted.append(due(granted, SUPPLIERS, datashare.catalogue))


async def _compare(
    opened: Open, said: list[Statement], batch: int, reads: bool, shuffled: list[int]
) -> None:
    types = sorted({statement.record_type for statement in said})
    database = opened()
    datashare = Datashare(database)
    async with database.read() as conn:
        firms = len((await conn.exec_driver_sql("SELECT 1 FROM subject")).all())
    lived, plain = (make("91", "110108", f"MA{firms + n:06}") for n in range(2))
    await _consent(datashare, lived, plain)
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
        await datashare.read(*types, uscc=lived, as_of=NOW)
    await _submit(datashare, lived, rows[half:], batch)
    remaining = [message(what, 1) for what in left.values() if what.amount is not None]
    order = sorted(range(len(remaining)), key=lambda index: shuffled[index % len(shuffled)])
    await _submit(datashare, plain, [remaining[index] for index in order], 1000)
    got = await datashare.read(*types, uscc=lived)
    expected = await datashare.read(*types, uscc=plain)
    await database.close()
    assert got == expected


@pytest.mark.parametrize("types", GROUPS, ids=lambda types: types[0])
@settings(max_examples=8)
@given(data=st.data())
def test_any_order_of_arrival(opened: Open, types: Sequence[str], data: st.DataObject) -> None:
    said = data.draw(statements(types))
    batch = data.draw(st.integers(1, 12))
    reads = data.draw(st.booleans())
    shuffled = data.draw(st.permutations(range(20)))
    asyncio.run(_compare(opened, said, batch, reads, shuffled))
