"""Features of linked subjects: what the same model says of a firm's owners, guarantors and buyers.

Invariants: of a relation the worst counts, so that naming one more never improves a score: one that
keeps its data to itself outweighs every PD, the highest PD all lower ones, and one of which nobody
supplies anything adds nothing to what the others show.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from services.scoring.features.arithmetic import NAN
from services.scoring.features.domain import Coverage, Relation
from services.scoring.features.firm import Firm

Shown = float | Coverage
"""A linked subject's PD, or why there is none."""


def worst(linked: Iterable[tuple[Relation, Shown]]) -> Mapping[Relation, Shown]:
    """Return what counts of each relation that is named."""
    found: dict[Relation, Shown] = {}
    for relation, shown in linked:
        if relation not in found or _badness(shown) > _badness(found[relation]):
            found[relation] = shown
    return found


def _badness(shown: Shown) -> float:
    if isinstance(shown, Coverage):
        return math.inf if shown is Coverage.NOT_CONSENTED else -math.inf
    return shown


RELATION_OF: Final[Mapping[str, Relation]] = {
    "owner_pd": Relation.OWNER,
    "guarantor_pd": Relation.GUARANTOR,
    "buyer_pd": Relation.BUYER,
}
"""Every feature that there ever was about linked subjects, as stored decisions name them."""


def _pd(relation: Relation) -> Callable[[Firm], float]:
    def compute(firm: Firm) -> float:
        shown = firm.summary.linked.get(relation, Coverage.NOT_CONSENTED)
        return NAN if isinstance(shown, Coverage) else shown

    return compute


COMPUTE: Final[Mapping[str, Callable[[Firm], float]]] = {
    name: _pd(relation) for name, relation in RELATION_OF.items()
}
