"""The model card, card.md: what a reader must know before trusting a score.

Invariant: the same manifest and evidence give the same card, byte by byte; no text of theirs can
break out of its table.
"""

import math
from typing import Final

from services.scoring.models.domain import Manifest, ModelClass
from services.scoring.training.evidence import Evidence, without_small
from services.scoring.training.fairness import compare, kind_of
from services.scoring.training.headings import BY_NAME
from services.scoring.training.rendering import environment

_CLAIM: Final = {
    ModelClass.SIMULATED: (
        "Trained on simulated data: for trying out only. Its figures say nothing about real firms."
    ),
    ModelClass.EXPERT: "Built by judgement. It makes no claim of a calibrated PD.",
    ModelClass.UNVALIDATED: (
        "Trained on real outcomes and not validated independently. Do not decide by it alone."
    ),
    ModelClass.VALIDATED: "Trained on real outcomes and validated independently.",
}
_DIRECTION: Final = {1: "raises PD", -1: "lowers PD", 0: "free"}
_COMPARED: Final = ("auc", "ks", "brier", "log_loss", "calibration_slope")


def card(manifest: Manifest, evidence: Evidence) -> str:
    """The card of a model.

    Args:
        manifest: complete but for the hashes of files.
        evidence: what was measured.
    """
    evidence = without_small(evidence)
    compared = [name for name in _COMPARED if name in evidence.metrics]
    axes = [axis for axis in evidence.axes if axis.direction]
    text = (
        environment()
        .get_template("card.md.j2")
        .render(
            manifest=manifest,
            evidence=evidence,
            outcome=evidence.outcome,
            sampling=evidence.sampling,
            protocol=evidence.protocol,
            approval=evidence.approval,
            headings=BY_NAME,
            expert=manifest.model_class is ModelClass.EXPERT,
            floors=floors(manifest),
            claim=_CLAIM[manifest.model_class],
            direction=_DIRECTION,
            compared=compared,
            constrained=[feature for feature in manifest.features if feature.monotone],
            platform=all(feature.source == "PLATFORM" for feature in manifest.features),
            swept={
                "moves": sum(axis.moves for axis in axes),
                "wrong": sum(axis.wrong for axis in axes),
            },
            graded={row.grade: row for row in evidence.grades},
            important=sorted(evidence.group_importance.items(), key=lambda each: -each[1]),
            segments=[
                (column, rows)
                for column, rows in evidence.segments.items()
                if kind_of(column) is None
            ],
            fairness=compare(evidence),
        )
    )
    return text.rstrip("\n") + "\n"


def floors(manifest: Manifest) -> list[tuple[str, int | None]]:
    """The lowest score of each grade; None is the last one's."""
    scaling = manifest.scaling
    worse = [cut.pd_from for cut in manifest.grades[1:]]
    floors = [math.ceil(scaling.points(math.log(pd / (1 - pd)))) for pd in worse]
    return list(zip([cut.grade for cut in manifest.grades], [*floors, None], strict=True))
