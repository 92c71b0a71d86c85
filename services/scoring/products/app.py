"""What score products there are, and what is missing for a score of one.

Invariants: a check opens no data. Of a type that is not open by law and not consented to it says
what the platform supplies at all, and nothing of the firm. The terms that it drafts are those of
one consent that would do alone, because an order names one.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from services.kit.clock import Clock
from services.kit.errors import PuhuiError
from services.scoring.features.domain import Coverage
from services.scoring.features.firm import china_day
from services.scoring.products.domain import (
    GOOD,
    Asked,
    Found,
    Judged,
    Need,
    Product,
    State,
    Words,
    check_model,
    found_product,
    judge,
    month_before,
    suffices,
)
from services.scoring.registry.domain import Stop

DAYS: Final = 90
"""How long a consent runs that is drafted here."""

MOST_PROVIDERS: Final = 64
"""Of one consent, as its message says."""

# What only another consent changes: a check without this one tells the rest.
_CURED: Final = frozenset({State.NOT_CONSENTED, State.PERIOD_TOO_SHORT})


@dataclass(frozen=True, slots=True)
class Supply:
    """How a record type comes to the platform.

    Args:
        is_open: it is open by law.
        kinds: of provider that may supply it.
        provider_ids: participants that may.
        supplied: somebody has, about whomever.
        zh: title in Chinese.
        en: title in English.
    """

    is_open: bool
    kinds: tuple[str, ...]
    provider_ids: tuple[str, ...]
    supplied: bool
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Check:
    """A question of a bank about a firm.

    Args:
        subject_id: the firm.
        product: code.
        consent_id: empty when only what is open by law is to be looked for.
        as_of: data known by then; None is now.
        officer: who asks, within the bank.
        file_reference: the bank's file.
        automated_decision: a machine alone will decide on the credit.
        identity: the assertion that proves which bank asks.
        deadline: by the event loop's clock, seconds.
        traceparent: W3C trace context.
    """

    subject_id: str
    product: str
    consent_id: str
    as_of: dt.datetime | None
    officer: str
    file_reference: str
    automated_decision: bool
    identity: str
    deadline: float
    traceparent: str


@dataclass(frozen=True, slots=True)
class Look:
    """What datashare says there is for a firm.

    Args:
        access_id: the access that records it.
        as_of: known by then.
        opens: first day of the period that is open.
        types: by record type.
    """

    access_id: str
    as_of: dt.datetime
    opens: dt.date
    types: Mapping[str, Found]


@dataclass(frozen=True, slots=True)
class Terms:
    """The consent to ask a firm for.

    Args:
        purpose: code of the table of purposes.
        provider_ids: whose records.
        record_types: which.
        first_day: of the records.
        last_day: of the records: that on which the consent ends, so that it covers whatever a score
            looks at until then.
        expires_at: end of the consent.
        automated_decision: a machine alone will decide on the credit.
    """

    purpose: str
    provider_ids: tuple[str, ...]
    record_types: tuple[str, ...]
    first_day: dt.date
    last_day: dt.date
    expires_at: dt.datetime
    automated_decision: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """How a type stands, in words.

    Args:
        judged: how.
        required: without it there is no score.
        kinds: of provider that may supply it.
        words: what would suffice.
    """

    judged: Judged
    required: bool
    kinds: tuple[str, ...]
    words: Words


@dataclass(frozen=True, slots=True)
class Answer:
    """What is missing for a score.

    Args:
        ready: a score would be given now.
        types: required ones first.
        refused: why the consent that was named allows no score.
        terms: of the consent that would do; None where none would add anything.
        access_id: the access that records the check.
        model: version and class of the one that would answer; None while scoring is stopped.
        stopped_since: set while scoring is stopped.
    """

    ready: bool
    types: tuple[Told, ...]
    refused: PuhuiError | None
    terms: Terms | None
    access_id: str
    model: tuple[str, str] | None
    stopped_since: dt.datetime | None


class Model(Protocol):
    """A loaded model."""

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def model_class(self) -> str:
        """How much its PD may be believed."""
        ...

    @property
    def asks(self) -> Mapping[str, Asked]:
        """Its declared inputs, by name."""
        ...


class Models(Protocol):
    """The models that can answer."""

    async def get(self, version: str | None) -> Model | Stop:
        """Return a model, None is the one in service; or the stop that makes orders referrals.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...


class Platform(Protocol):
    """Datashare, as far as products need it."""

    async def supply(self) -> Mapping[str, Supply]:
        """Return how each record type comes to the platform."""
        ...

    async def look(self, check: Check, purpose: str) -> Look | PuhuiError:
        """Return what there is for a firm, or why the consent that is named does not allow it."""
        ...


class ScoreProducts:
    """The use cases.

    Args:
        products: by code.
        platform: datashare.
        models: the models.
        clock: the time.
    """

    def __init__(
        self,
        products: Mapping[str, Product],
        platform: Platform,
        models: Models,
        clock: Clock,
    ) -> None:
        self._products = products
        self._platform = platform
        self._models = models
        self._clock = clock

    def page(self, after: str, limit: int) -> list[Product]:
        """Return products behind a code, in the order of their codes."""
        return [self._products[code] for code in sorted(self._products) if code > after][:limit]

    async def get(self, code: str) -> tuple[Product, Terms | None]:
        """Return a product and the terms to ask a firm for; None where nobody could supply it.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        product = found_product(self._products, code)
        supply = await self._platform.supply()
        return product, self._terms(product, supply, automated_decision=False)

    async def check(self, check: Check) -> Answer:
        """Return what is missing for a score.

        Raises:
            NotFoundError: NOT_FOUND of the product or the subject; MODEL_NOT_FOUND.
            PuhuiError: what else datashare refuses, e.g. OFFICER_REQUIRED.
        """
        product = found_product(self._products, check.product)
        model = await self._models.get(product.model or None)
        stop = model if isinstance(model, Stop) else None
        if not isinstance(model, Stop):
            check_model(product, model.asks)
        supply = await self._platform.supply()
        refused: PuhuiError | None = None
        found = await self._platform.look(check, product.purpose)
        if isinstance(found, PuhuiError):
            if not check.consent_id or not _is_of_consent(found):
                raise found
            refused = found
            found = await self._platform.look(replace(check, consent_id=""), product.purpose)
            if isinstance(found, PuhuiError):
                raise found
        day = china_day(found.as_of)
        types = [
            _told(need, found, supply, day, required=required)
            for required, needs in ((True, product.required), (False, product.optional))
            for need in needs
        ]
        lacks = [told for told in types if told.judged.state in _CURED]
        terms = None
        if refused is not None or lacks:
            terms = self._terms(product, supply, automated_decision=check.automated_decision)
        good = all(told.judged.state in GOOD for told in types if told.required)
        return Answer(
            ready=good and refused is None and stop is None,
            types=tuple(types),
            refused=refused,
            terms=terms,
            access_id=found.access_id,
            model=None if isinstance(model, Stop) else (model.version, model.model_class),
            stopped_since=None if stop is None else stop.since,
        )

    def _terms(
        self, product: Product, supply: Mapping[str, Supply], *, automated_decision: bool
    ) -> Terms | None:
        """Return the terms of a consent that would do; None where nobody could supply it.

        An optional type is asked for when somebody supplies it at all: more is nobody's business.
        """
        bound = [need for need in product.needs if not _is_open(need, supply)]
        asked = [need for need in bound if need in product.required or _supplied(need, supply)]
        providers = sorted({id_ for need in asked for id_ in supply[need.record_type].provider_ids})
        if not asked or not providers:
            return None
        now = self._clock.now()
        expires = now + dt.timedelta(days=DAYS)
        first = month_before(china_day(now), max(need.period for need in asked))
        return Terms(
            purpose=product.purpose,
            provider_ids=tuple(providers[:MOST_PROVIDERS]),
            record_types=tuple(need.record_type for need in asked),
            first_day=dt.date(first // 100, first % 100, 1),
            last_day=china_day(expires),
            expires_at=expires,
            automated_decision=automated_decision,
        )


def _is_of_consent(error: PuhuiError) -> bool:
    return "CONSENT" in error.reason or error.reason == "QUOTA_EXHAUSTED"


def _is_open(need: Need, supply: Mapping[str, Supply]) -> bool:
    return need.record_type in supply and supply[need.record_type].is_open


def _supplied(need: Need, supply: Mapping[str, Supply]) -> bool:
    return need.record_type in supply and supply[need.record_type].supplied


_UNKNOWN: Final = Supply(is_open=False, kinds=(), provider_ids=(), supplied=False, zh="", en="")


def _told(
    need: Need, look: Look, supply: Mapping[str, Supply], day: dt.date, *, required: bool
) -> Told:
    known = supply.get(need.record_type, _UNKNOWN)
    found = look.types.get(need.record_type)
    if found is None:
        coverage = Coverage.NOT_SUPPLIED if known.is_open else Coverage.NOT_CONSENTED
        found = Found(coverage)
    judged = judge(need, found, day, look.opens, is_open=known.is_open)
    if judged.state is State.NOT_CONSENTED:
        # No consent helps where nobody supplies it at all.
        state = judged.state if known.supplied else State.NOT_SUPPLIED
        begins = month_before(day, need.period) if need.period else 0
        judged = replace(judged, state=state, needed_from=begins)
    return Told(judged, required, known.kinds, suffices(judged, known.kinds, known.zh, known.en))
