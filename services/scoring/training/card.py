"""The model card: what a reader must know before trusting a score. Markdown from the manifest."""

from typing import Final

from services.scoring.models.domain import Manifest, ModelClass
from services.scoring.training.evidence import Evidence

_CLAIM: Final = {
    ModelClass.SIMULATED: (
        "**Trained on simulated data: for trying out only.** Its figures say nothing about real "
        "firms."
    ),
    ModelClass.EXPERT: "Built by judgement. It makes no claim of a calibrated PD.",
    ModelClass.UNVALIDATED: (
        "Trained on real outcomes and **not validated independently**. Do not decide by it alone."
    ),
    ModelClass.VALIDATED: "Trained on real outcomes and validated independently.",
}

_DIRECTION: Final = {1: "raises PD", -1: "lowers PD", 0: "free"}


def card(manifest: Manifest, evidence: Evidence) -> str:
    """The card of a model.

    Args:
        manifest: complete but for the hashes of files.
        evidence: what was measured.
    """
    data, reference = manifest.data, manifest.reference
    calibration, scaling = manifest.calibration, manifest.scaling
    figures = "\n".join(
        f"| {name} | {metric.value:.4f} | "
        f"{'' if metric.deviation is None else f'{metric.deviation:.4f}'} |"
        for name, metric in manifest.metrics.items()
    )
    inputs = "\n".join(
        f"| {f.name} | {f.group} | {f.unit} | {_DIRECTION[f.monotone]} |" for f in manifest.features
    )
    grades = "\n".join(f"| {cut.grade} | {cut.pd_from:.2%} |" for cut in manifest.grades)
    settings = ", ".join(f"{name} {value}" for name, value in manifest.parameters.items())
    return f"""# Model {manifest.version}

{manifest.model_class}. {_CLAIM[manifest.model_class]}

## Outcome

{evidence.outcome.definition or "Not stated."}

## Data

{data.source or "Not stated."}

- as of: {data.as_of or "not stated"}
- {data.rows} firms, {data.events} with the outcome ({data.events / data.rows:.1%})
- SHA-256 of matrix and labels: `{data.sha256}`
- trained at {data.trained_at}

## Performance

Out of fold: folds were made before anything was fitted, the calibrator included.

| measure | value | standard deviation |
|---|---|---|
{figures}

With {data.events} events the uncertainty of these figures is large; a fold's spread is shown, not
a confidence interval.

## How it computes

LightGBM ({settings}), seed {manifest.seed}. The trainer's defaults and its method of keeping
constraints were chosen by their results on the 123 firms of CUMCM 2020 C: figures that are measured
on those firms are therefore optimistic.

- log-odds of default are {calibration.a:.4f} x margin {calibration.b:+.4f} (Platt,
  on margins out of fold)
- {scaling.base:g} points are odds of {scaling.odds:g} to 1, and {scaling.pdo:g} more double them

| grade | PD from |
|---|---|
{grades}

## Reasons

Exact TreeSHAP contributions, summed by group, less the group's mean over
{reference.population} ({reference.rows} rows).

## What is missing

What is not supplied stays missing. What the firm did not consent to counts as its most adverse
value, so that withholding never improves a score. Where training saw no missing value, a missing
one is read as the median: {", ".join(sorted(manifest.fills)) or "no feature"}.

## Inputs

| feature | group | unit | as it grows it |
|---|---|---|---|
{inputs}

Industry and district are not inputs.

## Limits

- It ranks firms like those it was trained on. Others deserve a second look.
- It was not tested for fairness by region, industry and size.
"""
