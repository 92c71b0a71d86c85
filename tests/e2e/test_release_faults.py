"""A release while something breaks: nothing comes without its leaf, nothing counts twice."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from puhui.datashare.v1.accesses_pb2 import FetchSummaryResponse
from puhui_client import PuhuiError
from services.kit.db import Database
from services.sandbox.embedded import Embedded
from tests.e2e.platforms import Process, started
from tests.e2e.town import ASKED, Town, settle

pytestmark = pytest.mark.heavy


@pytest.fixture(params=["sqlite", "postgresql"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], tuple[Process, str]]:
    """Makes a platform that can be killed and is not started, and its database's URL."""

    def make() -> tuple[Process, str]:
        url, environ = f"sqlite:///{tmp_path / 'datashare.db'}", {}
        if request.param == "postgresql":
            url = request.getfixturevalue("fresh_postgres_url")
            environ["PUHUI_DATASHARE_DATABASE_URL"] = url
        return Process(tmp_path, environ, "tests.e2e.crashing"), url

    return make


async def logged(url: str) -> tuple[dict[str, bytes], int]:
    """Return the leaf of each released access, by request_id, and how many uses are counted.

    An access without its leaf, or a second one of a request, fails the test.
    """
    database = Database.open(url)
    try:
        async with database.read() as conn:
            rows = await conn.execute(
                sa.text(
                    "SELECT access.request_id, access.leaf_hash, leaf.hash FROM access "
                    "LEFT JOIN leaf ON leaf.leaf_id = access.leaf_id "
                    "WHERE access.outcome = 'RELEASED'"
                )
            )
            found = rows.all()
            used = await conn.scalar(sa.text("SELECT coalesce(sum(used), 0) FROM consent_use"))
    finally:
        await database.close()
    assert all(bytes(noted) == bytes(there or b"") for _, noted, there in found)
    leaves = {request_id: bytes(leaf) for request_id, leaf, _ in found}
    assert len(leaves) == len(found)
    return leaves, int(used or 0)


def proved(response: FetchSummaryResponse) -> bytes:
    """Return the leaf that a receipt proves."""
    receipt = response.receipt
    made = hashlib.sha256(b"\x00" + receipt.salt + receipt.content).digest()
    assert made == receipt.leaf_hash
    return made


async def test_killed_before_each_step_of_a_release(
    platform: Callable[[], tuple[Process, str]], tmp_path: Path
) -> None:
    process, url = platform()
    armed = tmp_path / "armed"
    crashed = True
    # Of each crash, whether the release had been committed.
    crashes: list[bool] = []
    with started(process, CRASH_AT="0"):
        key = (tmp_path / "operator.key").read_text().strip()
        town = await settle(Embedded(tmp_path, process.gateway, "", key, 0), scores=False)
        consent = await town.consent()
        while crashed:
            request_id = f"r-{len(crashes)}"
            armed.touch()
            fetching = asyncio.create_task(fetched(town, consent.consent_id, request_id))
            crashed = await asyncio.to_thread(process.ended_before, fetching)
            armed.unlink()
            answered = None
            if crashed:
                fetching.cancel()
                with suppress(asyncio.CancelledError, PuhuiError):
                    answered = await fetching
                leaves, _ = await logged(url)
                crashes.append(request_id in leaves)
                await asyncio.to_thread(process.start, CRASH_AT=str(len(crashes)))
            else:
                answered = fetching.result()
            leaves, used = await logged(url)
            assert used == len(leaves)
            if answered is not None:
                assert leaves[request_id] == proved(answered)
            # Whoever had no answer asks again: it is the same release, if it was one.
            again = await fetched(town, consent.consent_id, request_id)
            assert leaves.get(request_id, proved(again)) == proved(again)
            leaves, used = await logged(url)
            assert leaves[request_id] == proved(again)
            assert used == len(leaves)
    # Before each statement and the commit nothing was, between the commit and the answer it was.
    assert len(crashes) > 6
    assert crashes == sorted(crashes)
    assert crashes[-1]
    assert not crashes[-2]


async def fetched(town: Town, consent_id: str, request_id: str) -> Any:
    async with town.client("bank") as bank:
        return await bank.fetch_summary(
            town.subject_id,
            consent_id,
            **ASKED,
            purpose="credit_application",
            request_id=request_id,
        )
