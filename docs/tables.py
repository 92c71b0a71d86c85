"""Writes the tables of guides that follow from the code: `make docs`."""

import re
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from services.datashare.consent.domain import DOERS, OPEN_STATES, TRANSITIONS, State
from services.datashare.disputes.domain import ACTORS
from services.datashare.disputes.domain import TRANSITIONS as STEPS
from services.datashare.notices.domain import TOLD, NoticeKind, Party
from services.datashare.watch.domain import Name, Rule
from services.datashare.watch.loader import load as load_watch
from services.scoring.registry.domain import WAYS

BEGIN = "<!-- Made from the code by `make docs`: change it there. -->\n"
END = "<!-- End of what is made. -->\n"


def consents() -> str:
    """Return every transition of a consent, and which states are never left."""
    rows = "".join(
        f"| `{state}` | {action} | `{target}` | {DOERS[action]} |\n"
        for (state, action), target in TRANSITIONS.items()
    )
    terminal = ", ".join(f"`{state}`" for state in State if state not in OPEN_STATES)
    return (
        f"| from | what happens | to | by whom |\n|---|---|---|---|\n{rows}\n"
        f"Never left again: {terminal}.\n"
    )


def disputes() -> str:
    """Return every step of a dispute."""
    rows = "".join(
        f"| {state} | {step} | {ACTORS[step]} | {after} |\n"
        for (state, step), after in STEPS.items()
    )
    return f"| state | step | by | becomes |\n|---|---|---|---|\n{rows}"


def notices() -> str:
    """Return every kind with its sentence and who is told."""
    text = resources.files("services.datashare.notices").joinpath("texts.toml").read_text("utf-8")
    sentences = tomllib.loads(text)
    heads = " | ".join(Party)
    rows = (
        f"| `{kind}` | {re.sub('{(.*?)}', '*…*', sentences[kind]['en'])} | "
        + " | ".join("x" if party in TOLD[kind] else "" for party in Party)
        + " |\n"
        for kind in NoticeKind
    )
    return f"| kind | what is said | {heads} |\n|---|---|{'---|' * len(Party)}\n{''.join(rows)}"


def models() -> str:
    """Return every way of a version between its states."""
    people = {0: "by itself", 1: "one person", 2: "two people"}
    rows = "".join(
        f"| {(way.source or '').lower()} | {way.act.lower().replace('_', ' ')} | "
        f"{way.target.lower()} | {people[way.people]} | {way.needs} | "
        f"{'in a sandbox, where nobody validated it' if way.trial else ''} |\n"
        for way in WAYS
    )
    return f"| from | what happens | to | by | needs | only |\n|---|---|---|---|---|---|\n{rows}"


def watch() -> str:
    """Return every rule of the watch with its threshold."""
    rows = "".join(
        f"| `{rule.name}` | {rule.severity.lower()} | {rule.zh}; {rule.en} | "
        f"{rule.threshold:g} | {rule.window.total_seconds() / 3600:g} h | {_more(rule)} |\n"
        for rule in load_watch().values()
    )
    return (
        "| rule | severity | what it finds | from | within | besides |\n|---|---|---|---|---|---|\n"
        f"{rows}"
    )


def _more(rule: Rule) -> str:
    said = {
        Name.VOLUME_PAST: f"times the usual of {rule.days} days; at least {rule.least} accesses",
        Name.OUTSIDE_HOURS: f"working hours are {rule.begins:%H:%M} to {rule.ends:%H:%M}",
        Name.ONE_FILE: "different firms",
        Name.OFFICER_SWEEP: "different firms",
    }.get(rule.name, "")
    bulk = ", ".join(f"`{purpose}`" for purpose in sorted(rule.except_purposes))
    return "; ".join(part for part in (said, f"not for {bulk}" if bulk else "") if part)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "consent.md": consents,
    "disputes.md": disputes,
    "model-risk.md": models,
    "notices.md": notices,
    "operators.md": watch,
}


def page(text: str, table: str) -> str:
    """Return a page with a table in the place of the one before.

    Raises:
        ValueError: the page has no place for it.
    """
    made = f"{BEGIN}\n{table}\n{END}"
    found, places = re.subn(f"{BEGIN}.*?{END}", lambda _: made, text, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"the page needs one part from {BEGIN!r} to {END!r}")
    return found


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = Path(__file__).with_name(name)
        path.write_text(page(path.read_text("utf-8"), table()), "utf-8")
