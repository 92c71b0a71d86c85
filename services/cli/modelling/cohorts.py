"""Training on cohorts: firms that consented to it, and what lenders reported of them afterwards."""

import dataclasses
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, require_officer, usage
from services.cli.inputs import CHINA
from services.cli.model_key import signer
from services.cli.modelling.table import results
from services.cli.progress import bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from services.scoring.training.cohorts import OutcomeRule, Vintage


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Args:
        out: folder to write.
        cohorts: days; none is the last ends of quarters whose performance window is over.
        months: of the performance window.
        folds: of the evaluation.
        repeats: of the folds.
        seed: of all randomness.
        budget: seconds that tuning may take.
        officer: who at the bank trains.
        file_reference: the bank's file of the training.
    """

    out: Path
    cohorts: Sequence[dt.date]
    months: int
    folds: int | None
    repeats: int | None
    seed: int
    budget: float | None
    officer: str
    file_reference: str


async def train(session: Session, request: Request, key: Path | None) -> None:
    """Observe the cohorts, train, write and show a model.

    Raises:
        typer.BadParameter: the command was called wrongly.
        typer.Exit: the training was refused.
    """
    from services.cli.observing import consenting, observe
    from services.scoring.models.folder import read_folder
    from services.scoring.training import evidence
    from services.scoring.training.app import Statement, models_to_train
    from services.scoring.training.app import train as trained
    from services.scoring.training.cohorts import OutcomeRule, table, vintages
    from services.scoring.training.domain import Settings, TrainingError
    from services.scoring.training.evidence import OutcomeStatement

    out = request.out
    require_officer(request.officer, request.file_reference)
    if out.exists():
        raise usage(f"{out} exists: a model's version never changes, take another name")
    signs = signer(key, out, os.environ)
    now = dt.datetime.now(dt.UTC)
    try:
        rule = OutcomeRule(months=request.months)
        cohorts = _ripe(request.cohorts, rule, now.astimezone(CHINA).date())
    except TrainingError as error:
        raise usage(str(error)) from None
    async with session.client() as client:
        members = await consenting(client)
        if not members:
            raise usage(
                "no firm consents to training: ask firms by `puhui consent request --purpose "
                "model_training`, or train on a TABLE"
            )
        with bar("Fetching summaries", len(members) * (len(cohorts) + 1)) as advance:
            observed = await observe(
                client,
                members,
                cohorts,
                rule,
                advance,
                officer=request.officer,
                file_reference=request.file_reference,
            )
    seen = vintages(observed.observations)
    if not session.out.as_json:
        session.out.stdout().print(_vintages(seen))
    try:
        made = table(observed.observations, rule)
        settings = Settings(
            outcome=rule.definition,
            population=f"the {len(made.labels)} rows of the training",
            folds=request.folds,
            repeats=request.repeats,
            seed=request.seed,
        )
        if request.budget is not None:
            settings = dataclasses.replace(settings, budget=request.budget)
        statement = Statement(
            outcome=OutcomeStatement(
                definition=rule.definition,
                observation=f"up to the end of the month before, {made.as_of}",
                performance=f"{rule.months} months",
                indeterminates=(
                    f"{rule.grey_days} to {rule.bad_days - 1} days past due at worst: left out"
                ),
                rejects="none: firms without a loan in the performance window are left out",
            ),
            left_out=_left_out(seen),
            sampling="every firm that consents to training, in every cohort",
            environment={"operator": request.officer, "file": request.file_reference},
        )
        with bar("Training", models_to_train(made, settings), unit="models") as advance:
            manifest = trained(
                made,
                settings,
                out,
                trained_at=now,
                key=signs.key,
                statement=statement,
                progress=lambda done, total: advance(1),
            )
    except TrainingError as error:
        session.out.failed("TRAINING_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    measured = evidence.load(read_folder(out.resolve()).training)
    session.out.show(
        {
            "version": manifest.version,
            "folder": str(out),
            "model_class": str(manifest.model_class),
            "signed_by": signs.key.key_id,
            "key_file": str(signs.path),
            "firms": len(members),
            "rows": len(made.labels),
            "events": int(made.labels.sum()),
            "refused": observed.refused,
            "vintages": [
                {**dataclasses.asdict(each), "cohort": each.cohort.isoformat(), "rate": each.rate}
                for each in seen
            ],
            "metrics": {name: dataclasses.asdict(each) for name, each in measured.metrics.items()},
        },
        *results(manifest, measured, out, signs),
    )


def _ripe(cohorts: Sequence[dt.date], rule: "OutcomeRule", today: dt.date) -> list[dt.date]:
    from services.cli.observing import cohorts_before
    from services.scoring.training.domain import TrainingError

    if not cohorts:
        return cohorts_before(today, rule)
    unripe = [day for day in cohorts if rule.ripe_on(day) > today]
    if unripe:
        raise TrainingError(
            f"what becomes of the cohort of {unripe[0]} is known from {rule.ripe_on(unripe[0])} "
            "on: take earlier cohorts, or fewer --performance-months"
        )
    return sorted(set(cohorts))


def _left_out(seen: "Sequence[Vintage]") -> dict[str, int]:
    from services.scoring.training.cohorts import Outcome

    words = {
        Outcome.INDETERMINATE: "neither good nor bad",
        Outcome.NO_LOAN: "no loan in the performance window",
        Outcome.ALREADY_BAD: "in default already",
        Outcome.NOT_OPENED: "performance window not opened by the consent",
    }
    counts = {text: sum(it.outcomes.get(kind, 0) for it in seen) for kind, text in words.items()}
    counts["data not released"] = sum(it.refused for it in seen)
    counts["too little data"] = sum(it.insufficient for it in seen)
    return {text: count for text, count in counts.items() if count}


def _vintages(seen: "Sequence[Vintage]") -> "RenderableType":
    from services.scoring.training.cohorts import Outcome

    kinds = (
        Outcome.GOOD, Outcome.BAD, Outcome.INDETERMINATE, Outcome.NO_LOAN, Outcome.ALREADY_BAD,
        Outcome.NOT_OPENED,
    )  # fmt: skip  # a table, line by line
    return output.table(
        "Vintages",
        ["cohort", "good>", "bad>", "rate>", "grey>", "no loan>", "bad before>", "not opened>",
         "refused>", "too little>"],
        [
            [
                each.cohort.isoformat(),
                *(str(each.outcomes.get(kind, 0)) for kind in kinds[:2]),
                "" if each.rate is None else f"{each.rate:.1%}",
                *(str(each.outcomes.get(kind, 0)) for kind in kinds[2:]),
                str(each.refused),
                str(each.insufficient),
            ]
            for each in seen
        ],
    )  # fmt: skip  # a table, line by line
