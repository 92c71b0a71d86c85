"""Each service, as a process of its own, is killed or asked to end while providers and a bank work.

What was acknowledged is there afterwards; calls fail only from the end of a service until it is
there again, and everybody goes on by the connection that they have.
"""

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from puhui_client import Client
from puhui_client.errors import UnavailableError
from services.sandbox.embedded import Embedded
from tests.bench.rig.stack import stack
from tests.e2e.town import ASKED, MODEL, Town, a_model, invoices, settle

PATIENCE = 60.0


@dataclass
class Load:
    """A provider that pushes and a bank that scores, one call after the other.

    Args:
        town: who they are.
        consent_id: by which the bank scores.
    """

    town: Town
    consent_id: str
    pushed: int = 0
    decisions: list[str] = field(default_factory=list)
    failed: int = 0
    ended: bool = False

    async def push(self, tax: Client) -> None:
        """Push records of which each is acknowledged alone."""
        for record in invoices(2000)[40:]:
            if self.ended:
                return
            report = await tax.push([record], historical=True, patience=PATIENCE)
            assert report.accepted + report.duplicate == 1, report
            self.pushed += 1

    async def score(self, bank: Client) -> None:
        """Ask for scores."""
        while not self.ended:
            try:
                scored = await bank.score(self.town.subject_id, self.consent_id, **ASKED)
                self.decisions.append(scored.decision_id)
            except UnavailableError:
                self.failed += 1
            await asyncio.sleep(0.1)  # within the bank's allowance

    async def goes_on(self) -> None:
        """Wait until both have been served again, and often."""
        pushed, scored = self.pushed + 5, len(self.decisions) + 5
        async with asyncio.timeout(PATIENCE):
            while self.pushed < pushed or len(self.decisions) < scored:  # noqa: ASYNC110 - of two counters
                await asyncio.sleep(0.05)


@pytest.mark.heavy
async def test_a_restart_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    a_model(tmp_path / "models" / MODEL)
    with stack(tmp_path) as running:
        platform = Embedded(tmp_path, running.gateway, "", running.operator_key, 0)
        town = await settle(platform)
        load = Load(town, (await town.consent()).consent_id)
        async with town.client("tax") as tax, town.client("bank") as bank:
            working = [asyncio.create_task(load.push(tax)), asyncio.create_task(load.score(bank))]
            try:
                await load.goes_on()
                for name in ("gateway", "scoring", "datashare"):
                    for number in (signal.SIGKILL, signal.SIGTERM):
                        code = await asyncio.to_thread(running.again, name, number)
                        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
                        await load.goes_on()
                        before = load.failed
                        await load.goes_on()
                        assert load.failed == before, f"{name} fails after {number.name}"
                load.ended = True
                await asyncio.gather(*working)
            finally:
                for task in working:
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(*working)
            for decision_id in load.decisions:
                assert (await bank.get_decision(decision_id)).decision.decision_id == decision_id
            records = invoices(2000)[40 : 40 + load.pushed]
            report = await tax.push(records, historical=True)
            assert report.duplicate == load.pushed
