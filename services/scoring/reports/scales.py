"""The scale of a loaded model."""

from typing import Protocol

from services.kit.errors import NotFoundError
from services.scoring.models.domain import Manifest
from services.scoring.reports.domain import GradeBand, Scale
from services.scoring.reports.view import points_of


class Manifested(Protocol):
    """A loaded model."""

    @property
    def manifest(self) -> Manifest:
        """What it is made of."""
        ...


class Recalls(Protocol):
    """Models by their versions, in any state."""

    async def recall(self, version: str) -> Manifested:
        """Return a model.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...


class ModelScales:
    """`app.Scales` from the models.

    Args:
        models: those that can answer, and those that could.
    """

    def __init__(self, models: Recalls) -> None:
        self._models = models

    async def of(self, version: str) -> Scale | None:
        """Return a model's scale; None when its folder is gone."""
        try:
            model = await self._models.recall(version)
        except NotFoundError:
            return None
        return scale_of(model.manifest)


def scale_of(manifest: Manifest) -> Scale:
    """Return what the scores of a model mean."""
    scaling = manifest.scaling
    named = {"base": scaling.base, "odds": scaling.odds, "pdo": scaling.pdo}
    cuts = manifest.grades
    worse = [points_of(cut.pd_from, named) for cut in cuts[1:]]
    return Scale(
        manifest.outcome,
        tuple(
            GradeBand(cut.grade, cut.pd_from, score)
            for cut, score in zip(cuts, [*worse, None], strict=True)
        ),
        **named,
    )
