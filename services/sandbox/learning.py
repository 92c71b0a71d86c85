"""From firms that consented to training to a model in service, as `puhui model train` does it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from puhui_client import Client
from services.cli.training import Label, Table, fetch_table, fit
from services.sandbox.stages import Stages
from services.scoring.models.domain import Manifest
from services.scoring.models.served import put_in_service
from services.scoring.models.signing import key_at, platform_key
from services.scoring.training.domain import Spec

NOTICE_SECONDS = 10.0
OFFICER = "modeller-1"
_POLL_SECONDS = 0.1


async def learn(
    bank: Client, labels: Sequence[Label], spec: Spec, folder: Path, stages: Stages
) -> tuple[Table, Manifest]:
    """Fetches summaries, trains, and waits until the model answers.

    Args:
        bank: fetches under the consents that the labels name.
        labels: the firms and their outcomes.
        spec: how to train.
        folder: of the model, in the folder that scoring serves from.
        stages: shows the progress.

    Raises:
        TimeoutError: scoring does not take the model.
    """
    with stages.stage("fetch", "Fetching monthly summaries", len(labels)) as advance:
        table = await fetch_table(
            bank, labels, advance, officer=OFFICER, file_reference=folder.name
        )
    with stages.stage("train", "Training", spec.repeats * spec.folds) as advance:
        key = key_at(platform_key(folder.parent.parent))
        manifest = await asyncio.to_thread(
            fit, table, spec, folder, key, lambda done, of: advance(1)
        )
        put_in_service(folder.parent, folder.name)
        await _answers(bank, folder.name)
    return table, manifest


async def _answers(bank: Client, version: str) -> None:
    async with asyncio.timeout(NOTICE_SECONDS):
        while True:
            if version in [m.ref.version async for m in bank.models() if m.in_service]:
                return
            await asyncio.sleep(_POLL_SECONDS)
