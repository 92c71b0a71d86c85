"""One suite for decisions on the fake, SQLite and PostgreSQL."""

import asyncio
import dataclasses
import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
import rfc8785
import sqlalchemy as sa

from services.kit import transactions
from services.kit.db import Database, Transactions
from services.kit.migrations import differences, downgrade, upgrade
from services.scoring.decisions.app import Decisions
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Entered,
    Inputs,
    Interval,
    Linked,
    NoticeCode,
    Order,
    Outcome,
    Read,
    Reason,
    Use,
)
from services.scoring.decisions.store import DecisionStore, decision_read
from services.scoring.decisions.store import decision as decision_table
from services.scoring.features.domain import Coverage, FeatureVector, Relation
from services.scoring.products.domain import Declared
from tests.fakes.decisions import FakeDecisions, FakeWork

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
Work: TypeAlias = transactions.Transactions[Decisions]
TREE = Path(__file__).parents[3] / "services" / "scoring" / "migrations"


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def work(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Work]:
    if request.param == "fake":
        yield FakeWork()
        return
    url = (
        f"sqlite:///{tmp_path}/scoring.db"
        if request.param == "sqlite"
        else request.getfixturevalue("migrated_copy")(TREE)
    )
    upgrade(url, TREE)
    database = Database.open(url)
    yield Transactions(database, DecisionStore)
    await database.close()


def decision(number: int, **changes: Any) -> Decision:
    request_id = changes.pop("request_id", f"r{number}")
    subject_id = changes.pop("subject_id", "sub_1")
    made: dict[str, Any] = {
        "decision_id": f"dec_{number:04}",
        "caller_id": "par_bank",
        "order": Order(
            request_id, subject_id, "con_1", "credit_application", NOW, "v1", "王", "F-1"
        ),
        "access_id": "acc_1",
        "as_of": NOW,
        "decided_at": NOW,
        "model_version": "v1",
        "model_class": "SIMULATED",
        "inputs": Inputs(2, ("sold", "headcount"), ("log_cny", "count")),
        "features": FeatureVector((0.1 + 0.2, 5.0), (None, None)),
        "coverage": {"vat_invoice": Coverage.SUPPLIED, "tax_filing": Coverage.NOT_CONSENTED},
        "notices": (NoticeCode.MODEL_SIMULATED, NoticeCode.DATA_SIMULATED),
        "outcome": Outcome(
            1 / 3, 612, "BB", 600.5, {"sales": 11.1}, (Reason("C", -1.5, "销售", "x", ("s",)),)
        ),
    }
    return Decision(**(made | changes))


async def add(work: Work, *made: Decision) -> None:
    async with work.begin() as decisions:
        await decisions.add(made)


async def test_what_was_stored_comes_back_to_the_last_bit(work: Work) -> None:
    await add(work, decision(1))
    async with work.read() as decisions:
        assert await decisions.get("dec_0001") == decision(1)


async def test_what_a_decision_says_beside_its_score_comes_back(work: Work) -> None:
    plain = decision(1)
    outcome = Outcome(
        None,
        612,
        "BB",
        600.0,
        {"tax": -(2.0**-20), "sales": 12.0},
        (Reason("C", -1.5, "销售", "x", ("s",), "按月开票", "Invoice monthly"),),
        Interval(1e-6, 1.0, "of bins"),
        True,
        7,
    )
    made = dataclasses.replace(
        plain,
        outcome=outcome,
        said=outcome.said(),
        order=dataclasses.replace(
            plain.order,
            product="tech_credit",
            declared=(Declared("amount", 500_000.5), Declared("security", "pledge")),
        ),
        inputs=dataclasses.replace(
            plain.inputs, titles=(("tax", "税", "Tax"), ("sales", "销售", "Sales"))
        ),
    )
    await add(work, made)
    async with work.read() as decisions:
        found = await decisions.get("dec_0001")
        assert found == made
        assert found.answered.whole == outcome.said().whole
        assert list(found.outcome.group_points) == ["tax", "sales"]  # as the model has them
        if not isinstance(decisions, DecisionStore):
            return
        row = await stored(decisions)
    assert rfc8785.dumps(json.loads(row.outcome)) == row.outcome
    # What the version before reads of it, and no more: it refuses what it does not know.
    assert set(json.loads(row.outcome)) == {
        *("pd", "score", "grade", "base_points", "group_points", "reasons")
    }
    assert set(json.loads(row.outcome)["reasons"][0]) == {
        *("code", "points", "text_zh", "text_en", "features")
    }


async def test_a_decision_of_the_version_before_is_read(work: Work) -> None:
    made = decision(1)
    await add(work, made)
    async with work.begin() as decisions:
        if not isinstance(decisions, DecisionStore):
            return
        # As it was written then.
        before = orjson.dumps(
            {
                "pd": made.outcome.pd,
                "score": 612,
                "grade": "BB",
                "base_points": 600.5,
                "group_points": {"sales": 11.1},
                "reasons": [
                    {
                        "code": "C",
                        "points": -1.5,
                        "text_zh": "销售",
                        "text_en": "x",
                        "features": ["s"],
                    }
                ],
            }
        )
        await decisions._conn.execute(sa.update(decision_table).values(outcome=before))
        assert (await stored(decisions)).detail is None
        found = await decisions.get("dec_0001")
    assert found == made
    assert found.answered == made.answered


async def stored(decisions: DecisionStore) -> Any:
    return (await decisions._conn.execute(sa.select(decision_table))).one()


async def test_what_of_linked_subjects_entered_comes_back(work: Work) -> None:
    guarantor = Linked(Relation.GUARANTOR, "sub_2", "con_2")
    mark = DisputeMark("dis_1", "vat_invoice", "par_tax", 202404, "net", "OPEN", "不是我们的")
    entered = Entered(
        guarantor,
        "acc_2",
        NOW,
        1 / 3,
        {"vat_invoice": Coverage.SUPPLIED},
        (NoticeCode.DATA_SIMULATED, NoticeCode.DISPUTED_DATA),
        (mark,),
        frozenset({("vat_invoice", "par_tax"), ("grant", "par_science")}),
    )
    thin = dataclasses.replace(entered, linked=Linked(Relation.BUYER, "sub_3", "con_3"), pd=None)
    ignored = Entered(Linked(Relation.OWNER, "sub_4", "con_4"))
    made = decision(1, linked=(entered, thin, ignored))
    order = dataclasses.replace(made.order, linked=tuple(each.linked for each in made.linked))
    made = dataclasses.replace(made, order=order)
    await add(work, made, decision(2))
    async with work.read() as decisions:
        assert await decisions.get("dec_0001") == made
        assert await decisions.get("dec_0002") == decision(2)
        found = await decisions.by_request([("par_bank", "r1")])
    assert found["par_bank", "r1"].order.fingerprint() == order.fingerprint()


async def test_missing_features_come_back_missing(work: Work) -> None:
    vector = FeatureVector((math.nan, 1.0), (Coverage.NOT_SUPPLIED, None))
    await add(work, decision(1, features=vector))
    async with work.read() as decisions:
        found = await decisions.get("dec_0001")
    assert found is not None
    assert math.isnan(found.features.values[0])
    assert found.features.missing == vector.missing


async def test_the_first_decision_of_a_request_stands(work: Work) -> None:
    await add(work, decision(1, request_id="same"))
    async with work.begin() as decisions:
        standing = await decisions.add([decision(2, request_id="same"), decision(3)])
    async with work.read() as decisions:
        found = await decisions.by_request([("par_bank", "same"), ("par_bank", "r3")])
        assert await decisions.get("dec_0002") is None
    assert {key[1]: made.decision_id for key, made in found.items()} == {
        "same": "dec_0001",
        "r3": "dec_0003",
    }
    assert standing == found


async def test_requests_are_looked_up_by_caller_and_id_together(work: Work) -> None:
    await add(work, decision(1, caller_id="par_a", request_id="x"))
    await add(work, decision(2, caller_id="par_b", request_id="y"))
    async with work.read() as decisions:
        assert await decisions.by_request([("par_a", "y"), ("par_b", "x")]) == {}


async def test_pages_are_newest_first_and_go_on_after_a_decision(work: Work) -> None:
    await add(
        work,
        *(decision(n) for n in (1, 2, 3)),
        decision(4, caller_id="par_other"),
        decision(5, subject_id="sub_2"),
    )
    async with work.read() as decisions:
        own = await decisions.page(caller_id="par_bank", subject_id=None, before=None, limit=2)
        rest = await decisions.page(
            caller_id="par_bank", subject_id=None, before=own[-1].decision_id, limit=9
        )
        firm = await decisions.page(caller_id=None, subject_id="sub_2", before=None, limit=9)
    assert [made.decision_id for made in own] == ["dec_0005", "dec_0003"]
    assert [made.decision_id for made in rest] == ["dec_0002", "dec_0001"]
    assert [made.decision_id for made in firm] == ["dec_0005"]


async def test_readings_add_up(work: Work) -> None:
    read = Read("read_1", "dec_0001", "sub_1", "par_bank", "BANK", Use.DISPUTE, NOW)
    again = dataclasses.replace(read, read_id="read_2", use=Use.EXPLANATION)
    async with work.begin() as decisions:
        await decisions.add_read(read)
    async with work.begin() as decisions:
        await decisions.add_read(again)
    async with work.read() as decisions:
        assert await readings(decisions) == [read, again]


async def readings(decisions: Decisions) -> list[Read]:
    if isinstance(decisions, FakeDecisions):
        return decisions.reads
    assert isinstance(decisions, DecisionStore)
    query = sa.select(decision_read).order_by(decision_read.c.read_id)
    found = await decisions._conn.execute(query)
    return [Read(**row) for row in found.mappings()]


def test_the_migrated_schema_is_the_tables(tmp_path: Path, fresh_postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path}/scoring.db", fresh_postgres_url):
        upgrade(url, TREE)
        assert differences(url, TREE) == []


async def test_a_downgrade_keeps_what_the_version_before_reads(
    tmp_path: Path, fresh_postgres_url: str
) -> None:
    plain = decision(1)
    outcome = dataclasses.replace(plain.outcome, words=7)
    order = dataclasses.replace(plain.order, product="p", declared=(Declared("amount", 1.0),))
    made = dataclasses.replace(plain, outcome=outcome, said=outcome.said(), order=order)
    for url in (f"sqlite:///{tmp_path}/scoring.db", fresh_postgres_url):
        await asyncio.to_thread(upgrade, url, TREE)
        database = Database.open(url)
        await add(Transactions(database, DecisionStore), made)
        await database.close()
        await asyncio.to_thread(downgrade, url, TREE, "a93c1e60d7b2")
        await asyncio.to_thread(upgrade, url, TREE)
        database = Database.open(url)
        async with Transactions(database, DecisionStore).read() as decisions:
            assert await decisions.get("dec_0001") == plain
        await database.close()
