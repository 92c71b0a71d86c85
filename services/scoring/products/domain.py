"""Score products: the types that a score needs, the model that gives it, what a bank may declare.

Invariants: an order that names a product is of its purpose and its model, and declares what the
product names and nothing else. What a required type must be is the same in a check and in a score.
What is declared never appears in a message: messages are logged.
"""

import datetime as dt
import enum
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.kit.errors import FieldProblem, InvalidArgumentError, NotFoundError
from services.scoring.features.domain import Coverage, FirmSummary
from services.scoring.features.firm import OPTIONAL, WINDOW, last_whole_month
from services.scoring.features.registry import REQUIRED

MOST_MONTHS: Final = 60
"""The longest history that a product may need: what the ceilings of purposes leave room for."""


@dataclass(frozen=True, slots=True)
class Need:
    """A record type of a product.

    Args:
        record_type: its name.
        months: its records must reach back so many whole months; 0: any will do.
    """

    record_type: str
    months: int = 0

    @property
    def period(self) -> int:
        """Whole months before the score that a consent has to open of the type."""
        return max(self.months, WINDOW) if self.record_type in OPTIONAL else self.months


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """Something that a bank may say of a firm.

    Args:
        name: its name.
        zh: title in Chinese.
        en: title in English.
        unit: how to read it.
        required: an order without it is refused.
        least: of a number, the smallest allowed.
        most: the largest.
        categories: of a category, those there are; empty is a number.
    """

    name: str
    zh: str
    en: str
    unit: str
    required: bool = False
    least: float = -math.inf
    most: float = math.inf
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Declared:
    """What a bank says of a firm.

    Args:
        name: of the product's input.
        value: a number, or a category.
    """

    name: str
    value: float | str


@dataclass(frozen=True, slots=True)
class Product:
    """What a bank asks for when it asks for a score.

    Args:
        code: its name.
        zh: title in Chinese.
        en: title in English.
        description_zh: what it is for, in Chinese.
        description_en: likewise in English.
        purpose: code of the table of purposes.
        required: types without which there is no score.
        optional: types that are used when they are there.
        model: the version that answers; empty is the one in service.
        declared: what the bank may say of the firm.
    """

    code: str
    zh: str
    en: str
    description_zh: str
    description_en: str
    purpose: str
    required: tuple[Need, ...]
    optional: tuple[Need, ...] = ()
    model: str = ""
    declared: tuple[DeclaredInput, ...] = ()

    @property
    def needs(self) -> tuple[Need, ...]:
        """All of its types, required ones first."""
        return (*self.required, *self.optional)


NO_PRODUCT: Final = tuple(Need(record_type) for record_type in REQUIRED)
"""What is required of an order that names no product."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model asks of a declared input of its.

    Args:
        unit: in which it reads it.
        categories: those that it knows; empty is a number.
    """

    unit: str
    categories: tuple[str, ...] = ()


class State(enum.StrEnum):
    """Whether a type is there for a product: names of the .proto without the prefix."""

    SUPPLIED = "SUPPLIED"
    OPEN = "OPEN"
    NOT_CONSENTED = "NOT_CONSENTED"
    NOT_SUPPLIED = "NOT_SUPPLIED"
    NONE_EXISTS = "NONE_EXISTS"
    PERIOD_TOO_SHORT = "PERIOD_TOO_SHORT"
    HISTORY_TOO_SHORT = "HISTORY_TOO_SHORT"


GOOD: Final = frozenset({State.SUPPLIED, State.OPEN, State.NONE_EXISTS})
"""With these a required type is there: that a complete register has nothing is an answer, too."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a type for a firm.

    Args:
        coverage: whether it is there.
        first_month: of its records, yyyymm; 0 where there are none.
    """

    coverage: Coverage
    first_month: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """How a type stands for a product.

    Args:
        need: what the product asks of it.
        state: how it stands.
        needed_from: yyyymm that it has to reach back to; 0: any will do.
        first_month: that it reaches back to; 0 where there is nothing, or nobody may know.
    """

    need: Need
    state: State
    needed_from: int = 0
    first_month: int = 0


def month_before(day: dt.date, months: int) -> int:
    """Return the first, yyyymm, of so many whole months that are over at the end of a day."""
    return _yyyymm(last_whole_month(day) + 1 - months)


def judge(
    need: Need, found: Found, day: dt.date, opens: dt.date | None, *, is_open: bool
) -> Judged:
    """Return how a type stands.

    Args:
        need: what is asked of it.
        found: what was found of it.
        day: that of the score.
        opens: first day that the consent opens; None is without limit.
        is_open: it is open by law, so that a consent does not limit it.
    """
    begins = month_before(day, need.period)
    late = (
        not is_open
        and need.period > 0
        and opens is not None
        and opens > dt.date(begins // 100, begins % 100, 1)
    )
    needed = begins if late else month_before(day, need.months) if need.months else 0
    state = _STATES[found.coverage]
    if found.coverage is Coverage.SUPPLIED:
        if is_open:
            state = State.OPEN
        # Also where what is there would reach back far enough: features count as withheld then.
        if late:
            state = State.PERIOD_TOO_SHORT
        elif need.months and found.first_month > needed:
            state = State.HISTORY_TOO_SHORT
    elif found.coverage is Coverage.NONE_EXISTS and need.months:
        state = State.NOT_SUPPLIED
    return Judged(need, state, needed, found.first_month)


_STATES: Final = {
    Coverage.SUPPLIED: State.SUPPLIED,
    Coverage.NOT_CONSENTED: State.NOT_CONSENTED,
    Coverage.NOT_SUPPLIED: State.NOT_SUPPLIED,
    Coverage.NONE_EXISTS: State.NONE_EXISTS,
}


def lacking(needs: Sequence[Need], summary: FirmSummary, day: dt.date) -> list[Judged]:
    """Return the required types that do not suffice for a score.

    Args:
        needs: what is required.
        summary: what was released.
        day: that of the score.
    """
    opens = summary.period[0] if summary.period else None
    found = []
    for need in needs:
        name = need.record_type
        begins = (s.months[0] for s in summary.series if s.record_type == name and s.months)
        judged = judge(
            need,
            Found(summary.coverage_of(name), min(begins, default=0) if need.months else 0),
            day,
            opens,
            is_open=name not in REQUIRED and name not in OPTIONAL,
        )
        if judged.state not in GOOD:
            found.append(judged)
    return found


def suffices(judged: Judged, kinds: Collection[str] = (), zh: str = "", en: str = "") -> "Words":
    """Return what would do for a type; empty where nothing is missing.

    Args:
        judged: how it stands.
        kinds: of provider that may supply it.
        zh: its title in Chinese; empty is its name.
        en: its title in English; likewise.
    """
    name = judged.need.record_type
    zh, en = zh or name, en or name
    of_kinds_zh = f"（{'、'.join(sorted(kinds))}）" if kinds else ""
    of_kinds_en = f" of the kind {' or '.join(sorted(kinds))}" if kinds else ""
    since = _words(judged.needed_from)
    match judged.state:
        case State.NOT_CONSENTED:
            return Words(
                f"请企业授权“{zh}”" + (f"，数据自 {since} 起" if since else ""),
                f"ask the firm for a consent that opens {en}"
                + (f" from {since} on" if since else "")
                + ", and names every provider that has some",
            )
        case State.PERIOD_TOO_SHORT:
            return Words(
                f"请企业重新授权“{zh}”，数据自 {since} 起",
                f"ask the firm for a consent that opens {en} from {since} on",
            )
        case State.NOT_SUPPLIED:
            return Words(
                f"等待数据提供方{of_kinds_zh}报送该企业的“{zh}”",
                f"wait until a provider{of_kinds_en} has supplied {en} about this firm",
            )
        case State.HISTORY_TOO_SHORT:
            first = judged.first_month
            later = _yyyymm(first // 100 * 12 + first % 100 - 1 + judged.need.months)
            return Words(
                f"“{zh}”记录自 {_words(first)} 起，需自 {since} 起：等到 {_words(later)}，"
                "或由数据提供方补报",
                f"records of {en} begin in {_words(first)} and have to in {since}: wait until "
                f"{_words(later)}, or for a provider{of_kinds_en} to supply earlier ones",
            )
        case _:
            return Words("", "")


@dataclass(frozen=True, slots=True)
class Words:
    """Words in both languages."""

    zh: str
    en: str


def _words(month: int) -> str:
    return f"{month // 100}-{month % 100:02}" if month else ""


def _yyyymm(months: int) -> int:
    year, month = divmod(months, 12)
    return year * 100 + month + 1


def product_of(products: Mapping[str, Product], code: str, field: str) -> Product:
    """Return the product of an order.

    Raises:
        InvalidArgumentError: FIELD_INVALID, there is none of this code.
    """
    product = products.get(code)
    if product is None:
        problem = (
            "is no score product: `puhui product list` (ListScoreProducts) names those there are"
        )
        raise InvalidArgumentError(
            "FIELD_INVALID", f"{field} {problem}", fields=(FieldProblem(field, problem),)
        )
    return product


def found_product(products: Mapping[str, Product], code: str) -> Product:
    """Return a product that is asked about.

    Raises:
        NotFoundError: NOT_FOUND.
    """
    if code not in products:
        raise NotFoundError(
            "NOT_FOUND", "there is no such score product: ListScoreProducts names those there are"
        )
    return products[code]


def check_order(
    product: Product | None, purpose: str, version: str, serves: str, declared: Sequence[Declared]
) -> None:
    """Refuse an order that is not as its product says.

    Args:
        product: of the order; None names none.
        purpose: of the order.
        version: of the model that it asks for; empty is the product's.
        serves: the version that the product's orders get.
        declared: what it says of the firm.

    Raises:
        InvalidArgumentError: FIELD_INVALID, naming each field.
    """
    problems = _problems(product, purpose, version, serves, declared)
    if problems:
        message = "; ".join(f"{found.field} {found.problem}" for found in problems)
        raise InvalidArgumentError("FIELD_INVALID", message, fields=tuple(problems))


def _problems(
    product: Product | None, purpose: str, version: str, serves: str, declared: Sequence[Declared]
) -> list[FieldProblem]:
    if product is None:
        if not declared:
            return []
        problem = "needs a score product that names it: name the product, or leave it out"
        return [FieldProblem("order.declared", problem)]
    problems = []
    if purpose != product.purpose:
        problem = f"is not the product's: it is of the purpose {product.purpose}"
        problems.append(FieldProblem("order.purpose", problem))
    if version and version != serves:
        problem = "is not the product's model: leave it out"
        problems.append(FieldProblem("order.model_version", problem))
    known = {each.name: each for each in product.declared}
    seen: set[str] = set()
    for at, each in enumerate(declared):
        where = f"order.declared[{at}]"
        stated = known.get(each.name)
        if stated is None:
            problem = "is not of this product: GetScoreProduct names what it takes"
            problems.append(FieldProblem(f"{where}.name", problem))
        elif each.name in seen:
            problems.append(FieldProblem(f"{where}.name", "was said before: say it once"))
        elif problem := _value_problem(stated, each.value):
            kind = "category" if isinstance(each.value, str) else "number"
            problems.append(FieldProblem(f"{where}.{kind}", problem))
        seen.add(each.name)
    for name, stated in known.items():
        if stated.required and name not in seen:
            problem = f"lacks {name}, which the product requires: add it"
            problems.append(FieldProblem("order.declared", problem))
    return problems


def _value_problem(stated: DeclaredInput, value: float | str) -> str:
    """Return what is wrong with a value; empty when nothing is."""
    if stated.categories:
        if not isinstance(value, str):
            return f"is a number: {stated.name} is one of {', '.join(stated.categories)}"
        if value not in stated.categories:
            return f"is none of {stated.name}: {', '.join(stated.categories)}"
        return ""
    if isinstance(value, str):
        return f"is a category: {stated.name} is a number in {stated.unit}"
    if not (math.isfinite(value) and stated.least <= value <= stated.most):
        return f"is out of range: {stated.name} is from {stated.least:g} to {stated.most:g}"
    return ""


def check_model(product: Product, asks: Mapping[str, Asked]) -> None:
    """Refuse a model that reads a declared input otherwise than its product states it.

    Args:
        product: which.
        asks: the model's declared inputs, by name.

    Raises:
        NotFoundError: MODEL_NOT_FOUND, no model of this product answers.
    """
    for stated in product.declared:
        asked = asks.get(stated.name)
        if asked is not None and (
            asked.unit != stated.unit or bool(asked.categories) != bool(stated.categories)
        ):
            raise NotFoundError(
                "MODEL_NOT_FOUND",
                f"the product's model reads {stated.name} in another unit or kind than the product "
                "states: ask the operator",
            )
