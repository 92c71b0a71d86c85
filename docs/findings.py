"""Writes findings.md from the rules of findings: `make docs`."""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from services.datashare.quality.domain import Rule, Rules
from services.datashare.quality.loader import load

HERE = Path(__file__).parent

HEAD = """\
# Findings 数据质量提示

<!-- Made from services/datashare/quality/rules.toml by `make docs`: change it there. -->

Where sources contradict each other, or the records of two firms do, the platform keeps a finding.
It rejects nothing and changes no score. Findings are made within seconds after records came in, by
rules that look at what counts now: corrected, retracted and hidden records are left out. A finding
clears by itself once its contradiction no longer holds, and is looked at again every day.

`puhui quality findings` lists them: to the operator and the regulator all, to a provider those in
which its records take part, to banks and firms none. `puhui quality report` counts them by rule.

Amounts are fen (1/100 CNY), shares parts per million (ppm). Sums are compared in the last
{look_back_months} months, the running one left out where it would be incomplete. The thresholds are
version {version}; with another version everything is looked at anew.

| rule | | |
|---|---|---|
{rows}
"""

_THRESHOLD = re.compile(r"^(\w+) = ([\d_]+)(?: # (.+))?$", re.MULTILINE)


def page(rules: Rules) -> str:
    """Return the page."""
    text = resources.files("services.datashare.quality").joinpath("rules.toml").read_text("utf-8")
    rows = "\n".join(
        f"| [`{rule}`](#{rule}) | {rules.words[rule].zh} | {rules.words[rule].en} |"
        for rule in Rule
    )
    head = HEAD.format(look_back_months=rules.look_back_months, version=rules.version, rows=rows)
    return head + "".join(_section(rules, rule, text) for rule in Rule)


def _section(rules: Rules, rule: Rule, text: str) -> str:
    words = rules.words[rule]
    lines = [
        f"\n## {rule}\n",
        f"**{words.zh}** {words.means_zh}\n",
        f"**{words.en}.** {words.means_en}\n",
        f"**处理** {words.do_zh}\n",
        f"**What to do.** {words.do_en}\n",
        f"Why: {words.source}.\n",
        "| threshold | value | |\n|---|---|---|",
        *(f"| `{name}` | {value} | {why} |" for name, value, why in _thresholds(rule, text)),
    ]
    if rule is Rule.JUMP:
        lines += ["\n| watched | measure | at least |\n|---|---|---|"]
        lines += [
            f"| `{each.record_type}` | `{each.measure}` | {each.floor:,} |"
            for each in rules.jump.measures
        ]
    return "\n".join(lines) + "\n"


def _thresholds(rule: Rule, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the name, value and comment of each threshold of a rule."""
    body = text.partition(f"[{rule}.thresholds]\n")[2].partition("\n[")[0]
    for name, value, why in _THRESHOLD.findall(body):
        yield name, f"{int(value):,}", why


if __name__ == "__main__":
    (HERE / "findings.md").write_text(page(load()), encoding="utf-8")
