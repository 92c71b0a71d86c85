"""From firms that consented to training to a model in service, as `puhui model train` does it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from puhui_client import Client
from services.cli.training import Label, Table, fetch_table, fit, training_table
from services.sandbox.governance import serve
from services.sandbox.stages import Stages
from services.scoring.models.domain import Manifest
from services.scoring.models.signing import key_at, platform_key
from services.scoring.training.app import models_to_train
from services.scoring.training.domain import Settings

OFFICER = "modeller-1"


class Platform(Protocol):
    """A platform that runs, as far as a model is put in service on it."""

    @property
    def gateway(self) -> str:
        """Address of the gRPC entrance, "host:port"."""
        ...

    @property
    def operator_key(self) -> str:
        """API key of the operator."""
        ...

    @property
    def models_dir(self) -> Path:
        """Where scoring looks for models."""
        ...


async def learn(
    bank: Client,
    labels: Sequence[Label],
    settings: Settings,
    platform: Platform,
    version: str,
    stages: Stages,
    *,
    source: str,
    as_of: str,
) -> tuple[Table, Manifest]:
    """Fetches summaries, trains, and has two operators put the model in service.

    Args:
        bank: fetches under the consents that the labels name.
        labels: the firms and their outcomes.
        settings: how to train.
        platform: that serves.
        version: of the model.
        stages: shows the progress.
        source: where the outcomes come from, in words.
        as_of: date or dates of the features, in words.
    """
    folder = platform.models_dir / version
    with stages.stage("fetch", "Fetching monthly summaries", len(labels)) as advance:
        table = await fetch_table(bank, labels, advance, officer=OFFICER, file_reference=version)
    made = training_table(table, source=source, as_of=as_of)
    with stages.stage("train", "Training", models_to_train(made, settings)) as advance:
        key = key_at(platform_key(platform.models_dir.parent))
        manifest = await asyncio.to_thread(
            fit, made, settings, folder, key, lambda done, of: advance(1)
        )
        await serve(platform.gateway, platform.operator_key, version)
    return table, manifest
