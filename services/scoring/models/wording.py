"""Values and lists of facts as people write them in Chinese and in English."""

import math
from collections.abc import Sequence
from typing import Final

from services.scoring.features.arithmetic import MAX_RATIO

_COUNTERS_ZH: Final = {"months": "个月", "days": "天"}


def value_zh(value: float, unit: str) -> str:
    """A value in Chinese; NaN is none."""
    if math.isnan(value):
        return "无"
    match unit:
        case "log_cny":
            yuan = math.expm1(value)
            if yuan >= 1e8:
                return f"{yuan / 1e8:.2f}亿元"
            return f"{yuan / 1e4:.1f}万元" if yuan >= 1e4 else f"{yuan:.0f}元"
        case "log_count":
            return f"{math.expm1(value):.0f}"
        case "ratio":
            return f"{value:.0%}以上" if value >= MAX_RATIO else f"{value:.1%}"
        case "probability":
            return f"{value:.1%}"
        case "years":
            return f"{value:.1f}年"
        case _:
            return f"{value:.0f}{_COUNTERS_ZH.get(unit, '')}"


def value_en(value: float, unit: str) -> str:
    """A value in English; NaN is none."""
    if math.isnan(value):
        return "none"
    match unit:
        case "log_cny":
            yuan = math.expm1(value)
            if yuan >= 1e9:
                return f"CNY {yuan / 1e9:.2f} billion"
            return f"CNY {yuan / 1e6:.2f} million" if yuan >= 1e6 else f"CNY {yuan:,.0f}"
        case "log_count":
            return f"{math.expm1(value):,.0f}"
        case "ratio":
            return f"{value:.0%} or more" if value >= MAX_RATIO else f"{value:.1%}"
        case "probability":
            return f"{value:.1%}"
        case "years":
            return f"{value:.1f} years"
        case "months" | "days":
            return f"{value:.0f} {unit[:-1] if value == 1 else unit}"
        case _:
            return f"{value:.0f}"


def facts_zh(facts: Sequence[tuple[str, str]]) -> str:
    """Titles with values, in Chinese."""
    return "，".join(f"{title} {value}" for title, value in facts)


def facts_en(facts: Sequence[tuple[str, str]]) -> str:
    """Titles with values, in English."""
    return "; ".join(f"{title}: {value}" for title, value in facts)


def sentence_zh(parts: Sequence[str]) -> str:
    """Advice put together, each part once."""
    return "；".join(dict.fromkeys(parts))


def sentence_en(parts: Sequence[str]) -> str:
    """Advice put together, each part once; starts with a capital."""
    joined = "; ".join(dict.fromkeys(parts))
    return joined[:1].upper() + joined[1:]
