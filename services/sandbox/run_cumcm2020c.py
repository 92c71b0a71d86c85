"""The whole path on real invoices: `puhui sandbox run cumcm2020c DIR --json OUT`.

One embedded platform in a temporary folder. All 1,099,441 invoices go through the gateway's stream
as the tax provider's history; the 123 labelled firms consent to training and a model is trained on
what the platform releases; all 425 firms consent to a score and are scored as of the end of the
data. Nothing is read from the platform's databases.

In the report, `records` counts rows as the platform acked them: accepted + duplicate + rejected =
sent. `consents` are those for credit, one of each firm; those for training are 123 more.
`decisions` are the scores given. `peak_memory_mb` is the largest resident set of the platform's
process plus that of this one, in MiB.
"""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from puhui_client import score_order
from services.cli.training import Label
from services.sandbox import cumcm2020c
from services.sandbox.delivery import Delivery
from services.sandbox.embedded import Embedded, embedded, end_on_sigterm, peak_memory_mb
from services.sandbox.learning import OFFICER, learn
from services.sandbox.members import Ask, Member, Members, Pushed
from services.sandbox.months import end_of_day
from services.sandbox.stages import Stages
from services.scoring.training.domain import Settings

FIRST_DAY = date(2016, 10, 1)
VERSION = "cumcm2020c"


def run(folder: Path, report_to: Path) -> None:
    """Runs it and writes the report.

    Args:
        folder: holds the data set.
        report_to: the JSON file to write.

    Raises:
        DataSetError: the folder does not hold the set.
        OSError: the report cannot be written; known before anything runs.
        EmbeddedError: the platform did not start, or did not end cleanly.
        TrainingError: there must not be a model of these firms.
        PuhuiError: the platform refused, or did not answer.
    """
    end_on_sigterm()
    _check_writable(report_to)
    enterprises = cumcm2020c.enterprises(folder)
    deliveries = cumcm2020c.deliveries(folder)
    with Stages(Console(stderr=True)) as stages, ExitStack() as running:
        data_dir = running.enter_context(tempfile.TemporaryDirectory(prefix="puhui-run-"))
        with stages.stage("start", "Starting the platform"):
            platform = running.enter_context(embedded(Path(data_dir)))
        report = asyncio.run(_play(platform, enterprises, deliveries, stages))
    report["seconds"] = stages.seconds
    report["peak_memory_mb"] = round(peak_memory_mb(), 1)
    report_to.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _check_writable(path: Path) -> None:
    there = path.exists()
    path.open("ab").close()
    if not there:
        path.unlink()


async def _play(
    platform: Embedded,
    enterprises: Sequence[cumcm2020c.Enterprise],
    deliveries: Sequence[Delivery],
    stages: Stages,
) -> dict[str, Any]:
    members = Members(platform.gateway, platform.operator_key)
    with stages.stage("register", "Registering firms", len(enterprises)) as advance:
        tax = (await members.join_providers([cumcm2020c.TAX]))[cumcm2020c.TAX.key]
        bank = await members.join_bank("CUMCM 2020 C bank 数模2020C题银行")
        firms = await members.join_firms([(e.uscc, e.name) for e in enterprises], advance)

    pushed = Pushed()
    with stages.stage("push", "Pushing invoices", sum(map(len, deliveries))) as advance:
        await members.push(tax, chain.from_iterable(deliveries), advance, pushed)

    labelled = [
        (member, enterprise.defaulted)
        for member, enterprise in zip(firms, enterprises, strict=True)
        if enterprise.defaulted is not None
    ]
    training = [member for member, _ in labelled]
    with stages.stage("train_consents", "Consents for training", len(training)) as advance:
        agreed = await members.consents(bank, training, _ask(tax, "model_training"), advance)
    as_of = end_of_day(cumcm2020c.LAST_DAY)
    labels = [
        Label(consent.subject_id, consent.consent_id, as_of, int(defaulted))
        for consent, (_, defaulted) in zip(agreed, labelled, strict=True)
    ]
    settings = Settings(
        outcome="default 是否违约 as labelled in CUMCM 2020 C, which does not say within what time",
        population=f"the {len(labels)} labelled firms",
        repeats=10,
        baselines=False,
    )
    async with members.client(bank.api_key) as client:
        table, model = await learn(
            client,
            labels,
            settings,
            platform,
            VERSION,
            stages,
            source="CUMCM 2020 problem C, VAT invoices",
            as_of=cumcm2020c.LAST_DAY.isoformat(),
        )
    auc = model.metrics["auc"]

    with stages.stage("consents", "Consents for scoring", len(firms)) as advance:
        consents = await members.consents(bank, firms, _ask(tax, "credit_application"), advance)
    orders = [
        score_order(
            consent.subject_id,
            consent.consent_id,
            officer=OFFICER,
            file_reference=VERSION,
            purpose=consent.terms.purpose,
            as_of=as_of,
        )
        for consent in consents
    ]
    with stages.stage("score", "Scoring", len(orders)) as advance:
        results = await members.scores(bank, orders, advance)

    return {
        "records": asdict(pushed),
        "firms": len(firms),
        "consents": len(consents),
        "model": {
            "features": table.matrix.shape[1],
            "cv_auc_mean": round(auc.value, 4),
            "cv_auc_std": round(auc.deviation or 0.0, 4),
            "cv": f"{model.parameters['repeats']} repeats of stratified "
            f"{model.parameters['folds']}-fold on "
            f"{len(table.labels)} firms, folds made before anything is fitted",
        },
        "decisions": sum(result.decision is not None for result in results),
    }


def _ask(tax: Member, purpose: str) -> Ask:
    return Ask(
        purpose=purpose,
        providers=[tax.participant_id],
        record_types=["vat_invoice"],
        data_from=FIRST_DAY,
        data_to=cumcm2020c.LAST_DAY,
    )
