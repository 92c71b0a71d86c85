"""Reads the rules of findings from `rules.toml`, which is package data.

Every key is checked against the thresholds' own fields, so that a typo stops the service instead of
loosening a rule.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar

from services.datashare.packaged import read_toml
from services.datashare.quality.domain import (
    CancelledButInvoicing,
    GuaranteeCircle,
    HeadcountGap,
    InvoiceUnderTwoFirms,
    Jump,
    Rule,
    Rules,
    SalesGap,
    Watched,
    Words,
)

_T = TypeVar("_T")

_MEASURES = "measures"


class RuleError(ValueError):
    """`rules.toml` is wrong; the message names the key."""


def load(text: str | None = None) -> Rules:
    """Load the rules.

    Args:
        text: TOML; the package's own by default.

    Raises:
        RuleError: it is not TOML, or a key is missing, unknown or has a wrong value.
    """
    content = read_toml("services.datashare.quality", "rules.toml", text, RuleError)
    version = content.pop("version", None)
    if not _whole(version) or version < 1:
        raise RuleError("rules.toml: `version` should be an integer from 1 on")
    look_back_months = content.pop("look_back_months", None)
    if not _whole(look_back_months) or look_back_months < 1:
        raise RuleError("rules.toml: `look_back_months` should be an integer from 1 on")
    _same_keys("rules.toml", content, {rule.value for rule in Rule})
    limits: dict[str, dict[str, Any]] = {}
    words = {}
    for rule in Rule:
        section = _table(rule, content[rule])
        limits[rule] = _table(f"{rule}.thresholds", section.pop("thresholds", None))
        if rule is Rule.JUMP:
            limits[rule][_MEASURES] = _watched(section.pop(_MEASURES, None))
        words[rule] = _made(Words, rule, section, str)
    return Rules(
        version=version,
        look_back_months=look_back_months,
        sales_gap=_limits(SalesGap, Rule.SALES_GAP, limits),
        headcount_gap=_limits(HeadcountGap, Rule.HEADCOUNT_GAP, limits),
        cancelled_but_invoicing=_limits(
            CancelledButInvoicing, Rule.CANCELLED_BUT_INVOICING, limits
        ),
        invoice_under_two_firms=_limits(InvoiceUnderTwoFirms, Rule.INVOICE_UNDER_TWO_FIRMS, limits),
        jump=_limits(Jump, Rule.JUMP, limits),
        guarantee_circle=_limits(GuaranteeCircle, Rule.GUARANTEE_CIRCLE, limits),
        words=MappingProxyType(words),
    )


def _limits(kind: type[_T], rule: Rule, limits: Mapping[str, dict[str, Any]]) -> _T:
    return _made(kind, f"{rule}.thresholds", limits[rule], int)


def _watched(content: object) -> tuple[Watched, ...]:
    if not isinstance(content, list):
        raise RuleError(f"{Rule.JUMP}.{_MEASURES}: should be a list of tables")
    watched = []
    for index, item in enumerate(content):
        where = f"{Rule.JUMP}.{_MEASURES}[{index}]"
        values = _table(where, item)
        _same_keys(where, values, set(Watched._fields))
        names = values["record_type"], values["measure"]
        if not all(isinstance(name, str) for name in names) or not _whole(values["floor"]):
            raise RuleError(f"{where}: names a record type, a measure and an integer `floor`")
        watched.append(Watched(**values))
    return tuple(watched)


def _made(kind: type[_T], where: str, values: dict[str, Any], value_type: type) -> _T:
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # each is a dataclass
    _same_keys(where, values, names)
    for name, value in values.items():
        if name == _MEASURES:
            continue
        if value_type is int and (not _whole(value) or value < 0):
            raise RuleError(f"{where}: `{name}` should be an integer from 0 on")
        if not isinstance(value, value_type) or value == "":
            raise RuleError(f"{where}: `{name}` should be of type {value_type.__name__}")
    return kind(**values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _table(where: str, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise RuleError(f"{where}: should be a table")
    return dict(content)


def _same_keys(where: str, content: Mapping[str, object], names: set[str]) -> None:
    if missing := names - content.keys():
        raise RuleError(f"{where}: `{min(missing)}` is missing")
    if unknown := content.keys() - names:
        raise RuleError(f"{where}: unknown key `{min(unknown)}`")
