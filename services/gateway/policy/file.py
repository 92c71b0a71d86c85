"""The policy as a TOML file, and how a running gateway follows its changes.

Nothing in a file is guessed or ignored: unknown keys, methods, roles and products, rules that reach
nothing, bounds that are missing or out of range are all reported, each with the nearest that is
known. A file whose own cases do not come out is refused as well. A running gateway keeps the last
good policy whatever becomes of the file.
"""

import asyncio
import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from opentelemetry.metrics import Meter

from services.gateway.policy.domain import (
    Bounds,
    Case,
    Limits,
    Policy,
    Product,
    Question,
    Roles,
    Rule,
    expand,
    reach,
)
from services.kit.client import MAX_MESSAGE_BYTES
from services.kit.config import ConfigError

DEFAULT = Path(__file__).with_name("default.toml")

_TOP: Final = ("version", "products", "rules", "limits", "case")
_PRODUCT: Final = ("zh", "en", "licensed")
_RULE: Final = ("product", "roles", "methods")
_CASE: Final = ("role", "method", "products", "asked", "expect")
_LIMITS: Final = ("default", "roles", "participants")
_REFUSALS: Final = ("ROLE_NOT_ALLOWED", "POLICY_DENIED", "PRODUCT_NOT_LICENSED")
# Least and most of each bound, and its type.
_BOUNDS: Final[Mapping[str, tuple[type[int] | type[float], float, float]]] = {
    "rate": (float, 0.01, 1e6),
    "burst": (int, 1, 1e6),
    "daily": (int, 1, 1e12),
    "concurrent": (int, 1, 1e6),
    "streams": (int, 1, 1e6),
    "share": (float, 0.01, 1e3),
    "message_bytes": (int, 1, MAX_MESSAGE_BYTES),
    "deadline": (float, 0.001, 86_400),
    "stream_deadline": (float, 0.001, 86_400),
}

_log = structlog.get_logger()


def load(path: Path, access: Roles) -> Policy:
    """Return the policy in a file.

    Args:
        path: of the file.
        access: who may call what by the .proto.

    Raises:
        ConfigError: it cannot be read or used; every problem is named.
    """
    policy = read(path, access)
    wrong = [
        f"case {outcome.case.number} of {path}: expects {outcome.case.expect} and gets "
        f"{outcome.found}: correct the rules or the case"
        for outcome in policy.outcomes()
        if not outcome.passed
    ]
    if wrong:
        raise ConfigError(wrong)
    return policy


def read(path: Path, access: Roles) -> Policy:
    """Return the policy in a file, whatever its own cases say; see `load`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path} cannot be read ({error.strerror}): check the path"]) from None
    except ValueError as error:
        raise ConfigError([f"{path} is not TOML, correct it: {error}"]) from None
    return _Reader(str(path), access).policy(document)


class _Reader:
    """Reads one document; collects what is wrong with it."""

    def __init__(self, source: str, access: Roles) -> None:
        self._source = source
        self._access = access
        self._roles = sorted(frozenset().union(*access.values()))
        self._problems: list[str] = []

    def policy(self, document: Mapping[str, Any]) -> Policy:
        self._keys("the file", document, _TOP)
        if document.get("version") != 1:
            self._problem("version", "must be 1")
        products = {
            code: self._product(code, table)
            for code, table in self._table("products", document.get("products", {})).items()
        }
        rules = [
            self._rule(number, table, products)
            for number, table in enumerate(self._tables("rules", document.get("rules", [])), 1)
        ]
        self._unreachable(rules)
        self._unused(products, rules)
        cases = [
            self._case(number, table, products)
            for number, table in enumerate(self._tables("case", document.get("case", [])), 1)
        ]
        default, roles, participants = self._limits(document.get("limits", {}))
        if self._problems:
            raise ConfigError(self._problems)
        return Policy(
            products=products,
            rules=tuple(rules),
            default=Bounds(**default),
            roles={role: Limits(**said) for role, said in roles.items()},
            participants={name: Limits(**said) for name, said in participants.items()},
            cases=tuple(cases),
            access=self._access,
        )

    def _product(self, code: str, raw: object) -> Product:
        where = f"products.{code}"
        table = self._table(where, raw)
        self._keys(where, table, _PRODUCT)
        licensed = table.get("licensed")
        if not isinstance(licensed, bool):
            self._problem(where, "must say `licensed = true` or `false`")
        zh, en = (self._text(f"{where}.{key}", table.get(key)) for key in ("zh", "en"))
        return Product(code, zh, en, licensed is True)

    def _rule(self, number: int, table: Mapping[str, Any], products: Collection[str]) -> Rule:
        where = f"rule {number}"
        self._keys(where, table, _RULE)
        product = self._text(f"{where}: product", table.get("product"))
        self._known(f"{where}: product", product, products)
        roles = self._texts(f"{where}: roles", table.get("roles"))
        for role in roles:
            self._known(f"{where}: role", role, self._roles)
        methods = self._texts(f"{where}: methods", table.get("methods"))
        services = {name.rpartition("/")[0] + "/*" for name in self._access}
        for method in methods:
            if not expand(method, self._access):
                known = services if method.endswith("/*") else self._access
                self._known(f"{where}: method", method, known)
        return Rule(number, product, roles, methods)

    def _unreachable(self, rules: list[Rule]) -> None:
        """Name what changes nothing: the .proto forbids it, or a rule before says it already."""
        said: set[tuple[str, str, str]] = set()
        for rule in rules:
            where = f"rule {rule.number}"
            reached = reach(rule, self._access)
            for role in rule.roles:
                if role in self._roles and all(who != role for who, _ in reached):
                    self._problem(where, f"{role} may call none of its methods: take it out")
            for pattern in rule.methods:
                methods = expand(pattern, self._access)
                if methods and not any(method in methods for _, method in reached):
                    self._problem(where, f"none of its roles may call {pattern}: take it out")
            added = {(rule.product, *place) for place in reached}
            if added and added <= said:
                self._problem(where, "is unreachable, rules before it say it all: take it out")
            said |= added

    def _unused(self, products: Collection[str], rules: list[Rule]) -> None:
        used = {rule.product for rule in rules}
        for code in products:
            if code not in used:
                self._problem(f"products.{code}", "has no rule: take it out or let somebody use it")

    def _case(self, number: int, table: Mapping[str, Any], products: Collection[str]) -> Case:
        where = f"case {number}"
        self._keys(where, table, _CASE)
        role = self._text(f"{where}: role", table.get("role"))
        self._known(f"{where}: role", role, self._roles)
        method = self._text(f"{where}: method", table.get("method"))
        self._known(f"{where}: method", method, self._access)
        held = self._texts(f"{where}: products", table.get("products", []))
        for product in held:
            self._known(f"{where}: product", product, products)
        asked = self._text(f"{where}: asked", table.get("asked", ""))
        expect = self._text(f"{where}: expect", table.get("expect"))
        self._known(f"{where}: expect", expect, (*products, *_REFUSALS))
        return Case(number, Question(role, method, held, asked), expect)

    def _limits(
        self, raw: object
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        table = self._table("limits", raw)
        self._keys("limits", table, _LIMITS)
        default = self._bounds("limits.default", table.get("default", {}))
        missing = [name for name in _BOUNDS if name not in default]
        if missing:
            self._problem("limits.default", f"must say all: {', '.join(missing)} missing")
        roles, participants = (
            {
                name: self._bounds(f"limits.{kind}.{name}", said)
                for name, said in self._table(f"limits.{kind}", table.get(kind, {})).items()
            }
            for kind in ("roles", "participants")
        )
        for role in roles:
            self._known("limits.roles", role, self._roles)
        return default, roles, participants

    def _bounds(self, where: str, raw: object) -> dict[str, Any]:
        table = self._table(where, raw)
        self._keys(where, table, tuple(_BOUNDS))
        said: dict[str, Any] = {}
        for name, (kind, least, most) in _BOUNDS.items():
            if name not in table:
                continue
            value = table[name]
            number = type(value) is int or (kind is float and type(value) is float)
            if number and least <= value <= most:
                said[name] = kind(value)
            else:
                called = "a number" if kind is float else "a whole number"
                problem = f"must be {called} from {least:g} to {most:g}"
                self._problem(f"{where}.{name}", problem)
                said[name] = kind(least)
        return said

    def _table(self, where: str, raw: object) -> dict[str, Any]:
        if isinstance(raw, dict):
            return raw
        self._problem(where, "must be a table")
        return {}

    def _tables(self, where: str, raw: object) -> list[dict[str, Any]]:
        if isinstance(raw, list) and all(isinstance(each, dict) for each in raw):
            return raw
        self._problem(where, f"must be tables: write [[{where}]] before each")
        return []

    def _text(self, where: str, raw: object) -> str:
        if isinstance(raw, str):
            return raw
        self._problem(where, "must be a text")
        return ""

    def _texts(self, where: str, raw: object) -> tuple[str, ...]:
        if isinstance(raw, list) and all(isinstance(each, str) for each in raw):
            return tuple(raw)
        self._problem(where, "must be an array of texts")
        return ()

    def _keys(self, where: str, table: Mapping[str, Any], known: Collection[str]) -> None:
        for key in table:
            self._known(f"{where}: key", key, known)

    def _known(self, where: str, name: str, known: Collection[str]) -> None:
        if name and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            self._problem(where, f"{name} is unknown: {remedy}")

    def _problem(self, where: str, problem: str) -> None:
        self._problems.append(f"{where} of {self._source}: {problem}")


@dataclass(frozen=True)
class _Stamp:
    """What tells one state of a file from another; a mounted ConfigMap changes the inode."""

    changed: int
    size: int
    inode: int


class Policies:
    """The policy in force: the last good one of its file.

    Args:
        path: of the file.
        access: who may call what by the .proto.
        meter: makes the counter `puhui.gateway.policy.loads`.

    Raises:
        ConfigError: the file cannot be used; at the start there is nothing to keep.
    """

    def __init__(self, path: Path, access: Roles, meter: Meter) -> None:
        self._path = path
        self._access = access
        self._loads = meter.create_counter(
            "puhui.gateway.policy.loads", description="policy files read, by outcome"
        )
        self._stamp = self._look()
        self._current = load(path, access)
        self._loads.add(1, {"outcome": "loaded"})

    @property
    def current(self) -> Policy:
        """The last good one."""
        return self._current

    async def follow(self, every: float) -> None:
        """Take over what changes in the file, until cancelled.

        Args:
            every: seconds between looks at it.
        """
        while True:
            await asyncio.sleep(every)
            self.refresh()

    def refresh(self) -> None:
        """Look at the file once; a broken one is refused, logged and counted."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = load(self._path, self._access)
        except ConfigError as error:
            self._loads.add(1, {"outcome": "refused"})
            _log.error("policy_refused", file=str(self._path), problems=list(error.problems))
        else:
            self._loads.add(1, {"outcome": "loaded"})
            _log.info("policy_loaded", file=str(self._path))

    def _look(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
