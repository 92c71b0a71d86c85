"""ModelService on the wire: which models there are and what each is made of."""

import contextlib
from datetime import datetime
from typing import Any, Protocol

from puhui.scoring.v1 import models_pb2, models_pb2_grpc, registry_pb2, scoring_pb2
from services.kit.errors import NotFoundError
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.scoring.models.domain import Manifest, ModelClass
from services.scoring.registry.domain import Registry


class Described(Protocol):
    """A loaded model, as far as it is told about."""

    @property
    def manifest(self) -> Manifest:
        """What it is made of."""
        ...

    @property
    def model_class(self) -> str:
        """How much its PD may be believed, as the registry has it."""
        ...

    @property
    def card(self) -> str:
        """Its card, Markdown."""
        ...


class Models(Protocol):
    """The models there are."""

    @property
    def registry(self) -> Registry:
        """What stands."""
        ...

    def versions(self) -> list[str]:
        """Return their versions."""
        ...

    async def recall(self, version: str) -> Described:
        """Return one, whatever its state.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Tells about models.

    Args:
        models: the models there are.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: Any
    ) -> models_pb2.ListModelsResponse:
        limit, bound = page_size(request.page_size), ("models",)
        after = decode_page_token(request.page_token, bound, (str,))
        names = [name for name in self._models.versions() if after is None or name > str(after[0])]
        models = []
        for name in names[:limit]:
            # One that must not be served is no model; who loads it logs why.
            with contextlib.suppress(NotFoundError):
                models.append(await self._model(name))
        return models_pb2.ListModelsResponse(
            models=models,
            next_page_token=encode_page_token((names[limit - 1],), bound)
            if len(names) > limit
            else "",
        )

    async def GetModel(
        self, request: models_pb2.GetModelRequest, context: Any
    ) -> models_pb2.GetModelResponse:
        return models_pb2.GetModelResponse(model=await self._model(request.version))

    async def _model(self, version: str) -> models_pb2.Model:
        described = await self._models.recall(version)
        manifest, registry = described.manifest, self._models.registry
        message = models_pb2.Model(
            ref=scoring_pb2.ModelRef(
                version=manifest.version,
                model_class=scoring_pb2.ModelClass.Value(f"MODEL_CLASS_{described.model_class}"),
            ),
            in_service=version == registry.champion,
            state=registry_pb2.ModelState.Value(f"MODEL_STATE_{registry.get(version).state}"),
            stopped=registry.stop_of(version) is not None,
            outcome=manifest.outcome,
            features=[
                models_pb2.ModelFeature(
                    name=feature.name,
                    group=feature.group,
                    unit=feature.unit,
                    monotone=feature.monotone,
                )
                for feature in manifest.features
            ],
            grades=[
                models_pb2.GradeCut(
                    grade=cut.grade,
                    pd_from=None if described.model_class == ModelClass.EXPERT else cut.pd_from,
                )
                for cut in manifest.grades
            ],
            metrics=[
                models_pb2.Metric(name=name, value=metric.value, deviation=metric.deviation)
                for name, metric in manifest.metrics.items()
            ],
            card=described.card,
        )
        message.trained_at.FromDatetime(datetime.fromisoformat(manifest.data.trained_at))
        return message
