"""Making a report: one score, what its access released, a document, a signature, a page.

Invariants: a report costs one access, which the score and the document share; whatever would stop
the page from being made is asked before anything is read; pages are made in threads of their own,
no more at once than is allowed, also where callers go away meanwhile; a replay of the order gives
the same document, as long as its model is there and nothing of it came to be disputed.
"""

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from services.kit.errors import InternalError
from services.scoring.decisions.app import OrderCall, Released
from services.scoring.decisions.domain import Decision, Referred
from services.scoring.reports.domain import (
    Basis,
    Content,
    Format,
    Json,
    Language,
    Proof,
    Scale,
    document,
)


class Scored(Protocol):
    """Decisions with what they were made of."""

    async def score_and_show(self, call: OrderCall) -> tuple[Decision, Released] | Referred:
        """Decide one order and return what the same access released for it.

        Raises:
            PuhuiError: there is no decision.
        """
        ...


class Scales(Protocol):
    """What models' scores mean."""

    async def of(self, version: str) -> Scale | None:
        """Return a model's scale; None when its folder is gone."""
        ...


class Names(Protocol):
    """The directory of participants."""

    async def of(self, participant_ids: Collection[str]) -> Mapping[str, str]:
        """Return names by id; those that the directory does not list are left out.

        Raises:
            PuhuiError: it does not answer.
        """
        ...


class Signer(Protocol):
    """The key that signs reports."""

    @property
    def key_id(self) -> str:
        """The thumbprint that signatures name."""
        ...

    @property
    def jwk(self) -> str:
        """The public half, as JSON."""
        ...

    def sign(self, content: bytes) -> str:
        """Return a detached JWS over the content."""
        ...


class Pages(Protocol):
    """Writes documents as pages."""

    def check(self, format_: Format) -> None:
        """Refuse what cannot be written here.

        Raises:
            FailedPreconditionError: REPORT_FONT_MISSING.
        """
        ...

    def write(
        self,
        format_: Format,
        language: Language,
        document: Json,
        canonical: bytes,
        proof: Proof,
        made_at: dt.datetime,
    ) -> bytes:
        """Return a page; safe to call from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """A report as it is handed over.

    Args:
        decision_id: of the score.
        access_id: under which the data was read.
        content: the file.
        content_jws: detached, over the file.
        document_sha256: of the document that the file shows.
        document_jws: detached, over it.
    """

    decision_id: str
    access_id: str
    content: bytes
    content_jws: str
    document_sha256: bytes
    document_jws: str


class MakeReport:
    """Makes reports.

    Args:
        scoring: decides.
        scales: of models.
        names: of participants.
        told: a decision as it is answered, by the names of the .proto.
        content: what reports say.
        canonical: RFC 8785 JSON of a document.
        signer: signs.
        pages: writes pages.
        at_once: most pages that are written at a time.
    """

    def __init__(
        self,
        *,
        scoring: Scored,
        scales: Scales,
        names: Names,
        told: Callable[[Decision], Json],
        content: Content,
        canonical: Callable[[Json], bytes],
        signer: Signer,
        pages: Pages,
        at_once: int,
    ) -> None:
        self._scoring = scoring
        self._scales = scales
        self._names = names
        self._told = told
        self._content = content
        self._canonical = canonical
        self._signer = signer
        self._pages = pages
        # A page that has begun is made to its end: who goes away makes no room for another.
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="reports")

    async def __call__(
        self, call: OrderCall, format_: Format, language: Language
    ) -> Report | Referred:
        """Score, and write a report of it.

        Raises:
            PuhuiError: as a score does, or REPORT_FONT_MISSING.
        """
        self._pages.check(format_)
        shown = await self._scoring.score_and_show(replace(call, with_papers=True))
        if isinstance(shown, Referred):
            return shown
        decision, released = shown
        scale = await self._scales.of(decision.model_version)
        providers = {series.provider_id for series in released.summary.series}
        names = await self._names.of({decision.caller_id, *providers})
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._made, decision, released, scale, names, format_, language
        )

    def _made(
        self,
        decision: Decision,
        released: Released,
        scale: Scale | None,
        names: Mapping[str, str],
        format_: Format,
        language: Language,
    ) -> Report:
        made = document(self._basis(decision, released, scale, names), self._content)
        canonical = self._canonical(made)
        digest, jws = hashlib.sha256(canonical), self._signer.sign(canonical)
        content, content_jws = canonical, jws
        if format_ is not Format.JSON:
            proof = Proof(digest.hexdigest(), jws, self._signer.key_id)
            content = self._pages.write(
                format_, language, made, canonical, proof, decision.decided_at
            )
            content_jws = self._signer.sign(content)
        return Report(
            decision.decision_id, decision.access_id, content, content_jws, digest.digest(), jws
        )

    def _basis(
        self,
        decision: Decision,
        released: Released,
        scale: Scale | None,
        names: Mapping[str, str],
    ) -> Basis:
        if released.papers is None:
            raise InternalError("INTERNAL", "a release came without its papers: a fault of ours")
        order = decision.order
        return Basis(
            decision=self._told(decision),
            bank_id=decision.caller_id,
            names=names,
            officer=order.officer,
            file_reference=order.file_reference,
            as_of=decision.as_of,
            summary=released.summary,
            papers=released.papers,
            linked_papers={
                each.access_id: each.papers
                for each in released.linked.values()
                if each.papers is not None
            },
            scale=scale,
        )
