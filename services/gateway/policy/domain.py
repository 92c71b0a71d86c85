"""Which role may call which method, for which product, and how much of it.

Invariants:

- What no rule allows is denied. A rule adds nothing to what the .proto allows: a role that the
  method's access option does not name is refused, whatever the policy says.
- A product that needs a licence is open to those alone who hold it. What a caller names is only
  chosen among what it may use anyway.
- A bound of a participant goes before its role's, that before the default, value by value.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Refusal = Literal["ROLE_NOT_ALLOWED", "POLICY_DENIED", "PRODUCT_NOT_LICENSED"]

Roles = Mapping[str, frozenset[str]]
"""Who may call a method by its .proto: roles by full name, "package.Service/Method"."""


@dataclass(frozen=True)
class Product:
    """What a call can be part of.

    Args:
        code: e.g. "credit_reporting".
        zh: its name in Chinese.
        en: its name in English.
        licensed: a participant needs a licence for it.
    """

    code: str
    zh: str
    en: str
    licensed: bool


@dataclass(frozen=True)
class Rule:
    """Lets roles call methods for a product.

    Args:
        number: its place in the file, from 1.
        product: code.
        roles: who.
        methods: full names, or "package.Service/*".
    """

    number: int
    product: str
    roles: tuple[str, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """How much a participant may ask; None is not said here.

    Args:
        rate: calls a second in the long run.
        burst: calls at once after a pause.
        daily: calls in a day of China Standard Time.
        concurrent: unary calls that run or wait at once.
        streams: streams that are open at once.
        share: weight among the participants when not all can be served at once.
        message_bytes: of one message that it sends.
        deadline: seconds that a call may take.
        stream_deadline: seconds that a stream may last.
    """

    rate: float | None = None
    burst: int | None = None
    daily: int | None = None
    concurrent: int | None = None
    streams: int | None = None
    share: float | None = None
    message_bytes: int | None = None
    deadline: float | None = None
    stream_deadline: float | None = None

    def over(self, other: "Limits") -> "Limits":
        """Return these, and the other's where nothing is said here."""
        said = {
            name: value for name, value in dataclasses.asdict(self).items() if value is not None
        }
        return dataclasses.replace(other, **said)


@dataclass(frozen=True)
class Bounds:
    """How much a participant may ask, every value said; see `Limits`."""

    rate: float
    burst: int
    daily: int
    concurrent: int
    streams: int
    share: float
    message_bytes: int
    deadline: float
    stream_deadline: float


@dataclass(frozen=True)
class Question:
    """May this role call this?

    Args:
        role: of the caller.
        method: full name, without a slash before it.
        held: the products that the participant holds a licence for.
        asked: the product that the call names; "" leaves the choice to the policy.
    """

    role: str
    method: str
    held: tuple[str, ...] = ()
    asked: str = ""


@dataclass(frozen=True)
class Case:
    """What a policy is expected to decide.

    Args:
        number: its place in the file, from 1.
        question: what is asked.
        expect: the code of the product, or the reason of the refusal.
    """

    number: int
    question: Question
    expect: str


@dataclass(frozen=True)
class Granted:
    """The call may go on.

    Args:
        product: what it is part of.
        rule: number of the rule.
    """

    product: str
    rule: int


@dataclass(frozen=True)
class Denied:
    """The call is refused.

    Args:
        reason: of the error.
        message: the problem and the remedy; nothing of what the caller sent.
    """

    reason: Refusal
    message: str


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        case: the case.
        found: what the policy decides: code of the product, or reason of the refusal.
        rule: number of the rule that granted it; 0 is none.
    """

    case: Case
    found: str
    rule: int

    @property
    def passed(self) -> bool:
        """It is what was expected."""
        return self.found == self.case.expect


@dataclass(frozen=True)
class Policy:
    """What a file says.

    Args:
        products: by code.
        rules: in the order of the file; where several fit, the first counts.
        default: bounds of everybody, complete.
        roles: bounds by role.
        participants: bounds by participant.
        cases: what the file expects of itself.
        access: who may call what by the .proto.
    """

    products: Mapping[str, Product]
    rules: tuple[Rule, ...]
    default: Bounds
    roles: Mapping[str, Limits]
    participants: Mapping[str, Limits]
    cases: tuple[Case, ...]
    access: Roles
    _places: Mapping[tuple[str, str], tuple[Granted, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        places: dict[tuple[str, str], tuple[Granted, ...]] = {}
        for rule in self.rules:
            granted = Granted(rule.product, rule.number)
            for place in sorted(reach(rule, self.access)):
                before = places.get(place, ())
                if all(each.product != rule.product for each in before):
                    places[place] = (*before, granted)
        object.__setattr__(self, "_places", places)

    @functools.cached_property
    def licensed(self) -> tuple[str, ...]:
        """The products that need a licence, sorted."""
        return tuple(sorted(code for code, each in self.products.items() if each.licensed))

    def decide(self, question: Question) -> Granted | Denied:
        """Return whether a call may go on, and what it is part of."""
        if question.role not in self.access.get(question.method, ()):
            return Denied(
                "ROLE_NOT_ALLOWED", "the role may not call this method: WhoAmI lists what it may"
            )
        places = self._places.get((question.role, question.method), ())
        if question.asked:
            places = tuple(each for each in places if each.product == question.asked)
        if not places:
            return Denied(
                "POLICY_DENIED",
                "for the product that `puhui-product` names, the policy does not let the role call "
                "this method: leave the name out, or ask the operator"
                if question.asked
                else "the policy does not let the role call this method: ask the operator",
            )
        for each in places:
            if not self.products[each.product].licensed or each.product in question.held:
                return each
        needed = " or ".join(each.product for each in places)
        return Denied(
            "PRODUCT_NOT_LICENSED",
            f"the participant holds no licence for {needed}: ask the operator",
        )

    def places(self, role: str, method: str) -> tuple[Granted, ...]:
        """Return what a call of a method by a role can be part of, the preferred one first."""
        return self._places.get((role, method), ())

    def may(self, role: str, held: Collection[str]) -> list[str]:
        """Return the methods that a participant may call, sorted."""
        return sorted(
            method
            for (who, method), places in self._places.items()
            if who == role
            and any(not self.products[p.product].licensed or p.product in held for p in places)
        )

    def bounds(self, role: str, participant_id: str) -> Bounds:
        """Return how much a participant may ask."""
        limits = Limits(**dataclasses.asdict(self.default))
        limits = self.roles.get(role, Limits()).over(limits)
        limits = self.participants.get(participant_id, Limits()).over(limits)
        return Bounds(**dataclasses.asdict(limits))

    def outcomes(self) -> list[Outcome]:
        """Return what comes of the file's own cases."""
        outcomes = []
        for case in self.cases:
            decided = self.decide(case.question)
            if isinstance(decided, Granted):
                outcomes.append(Outcome(case, decided.product, decided.rule))
            else:
                outcomes.append(Outcome(case, decided.reason, 0))
        return outcomes

    def uncovered(self) -> list[Rule]:
        """Return the rules by which no case is granted."""
        used = {outcome.rule for outcome in self.outcomes()}
        return [rule for rule in self.rules if rule.number not in used]


def reach(rule: Rule, access: Roles) -> set[tuple[str, str]]:
    """Return the roles and methods that a rule joins, as far as the .proto lets them."""
    return {
        (role, method)
        for pattern in rule.methods
        for method in expand(pattern, access)
        for role in rule.roles
        if role in access[method]
    }


def expand(pattern: str, methods: Iterable[str]) -> list[str]:
    """Return the methods that a name of a rule stands for."""
    if pattern.endswith("/*"):
        return [method for method in methods if method.startswith(pattern[:-1])]
    return [method for method in methods if method == pattern]
