"""How figures are written in a card and in a report, and the templates of both."""

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from services.scoring.training.evidence import Figure

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> "Environment":
    """Return the templates, with the filters that write figures.

    HTML is escaped by itself; Markdown is by the filter `cell`.
    """
    from jinja2 import (  # noqa: PLC0415 - of training alone
        Environment,
        PackageLoader,
        StrictUndefined,
        select_autoescape,
    )

    made = Environment(
        loader=PackageLoader("services.scoring.training"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "number": number,
        "measure": measure,
        "sentence": sentence,
        "signed": signed,
        "percent": percent,
        "figure": figure,
        "share": share,
        "short": short,
        "cell": cell,
    }
    return made


MEASURES: Final = {
    "auc": ("AUC", "AUC"),
    "gini": ("基尼系数", "Gini"),
    "ks": ("KS", "KS"),
    "brier": ("布里尔分数", "Brier score"),
    "log_loss": ("对数损失", "Log-loss"),
    "calibration_slope": ("校准斜率", "Calibration slope"),
    "calibration_intercept": ("校准截距", "Calibration intercept"),
    "ece": ("期望校准误差 ECE", "ECE"),
}
"""Names of measures in Chinese and in English."""


def measure(name: str, chinese: bool = False) -> str:
    """The name of a measure as a reader knows it."""
    zh, en = MEASURES.get(name, (name, name.replace("_", " ")))
    return zh if chinese else en


def sentence(text: str) -> str:
    """Words as a sentence of their own."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def number(value: float) -> str:
    """A figure to four digits after the point."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """The same with its sign."""
    return f"{value:+.4f}"


def percent(value: float) -> str:
    """A share."""
    return f"{value:.2%}"


def figure(value: Figure) -> str:
    """A figure to three digits, with its interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f}-{value.high:.3f})"


def share(value: Figure) -> str:
    """A share with its interval."""
    if value.low is None or value.high is None:
        return f"{value.value:.1%}"
    return f"{value.value:.1%} ({value.low:.1%}-{value.high:.1%})"


def short(value: float) -> str:
    """A number as a person would write it."""
    return f"{value:g}"


def cell(value: object) -> str:
    """A text that stays on its line, in its cell of a Markdown table, and is no HTML."""
    text = re.sub(r"\s+", " ", str(value)).strip()
    return re.sub(r"([\\|`])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
