"""Tables of negative cases: what is refused, with what, and the test that covers it.

A table is a TOML file in this folder; `docs/negative_cases.py` makes docs/negative-cases.md of all:

    title = "Identity 身份"

    [[groups]]
    id = "token-endpoint"
    title = "Asking for a token"
    test = "tests/e2e/test_fapi.py::test_no_token_is_given"
    through = ["https"]              # and "grpc": each case is tested by each
    expect = "invalid_client"        # of cases that say nothing else: the reason, or OAuth's error
    http = 401                       # likewise, the status
    grpc = "UNAUTHENTICATED"         # likewise, the code

    [[groups.cases]]
    id = "expired"
    what = "An assertion that has expired"
    source = "FAPI2SPFinalEnsureClientAssertionWithExpIs5MinutesInPastFails"
    make = { claims = { exp = -300 } }    # for the test alone, which knows what it means

Tests take their cases from here, so that none is in the table alone: `@parameters("identity",
"token-endpoint")` over a test with the arguments `case` and `protocol`; its name in pytest ends in
`[<id>-<protocol>]`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One thing that is refused.

    Args:
        id: ends the test's name.
        what: comes in.
        expect: the reason (ErrorReason), or OAuth's error.
        says: what the message has to contain, where the reason alone would not tell that it was
            refused for this and nothing else.
        http: the status.
        grpc: the code's name.
        source: where the case is from, e.g. a module of a conformance suite.
        make: what the test makes of it.
    """

    id: str
    what: str
    expect: str
    says: str = ""
    http: int = 0
    grpc: str = ""
    source: str = ""
    make: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Cases of one test.

    Args:
        id: its name in the table.
        title: of its chapter.
        test: "file::function".
        through: protocols that each case is tested by: "grpc", "https".
        cases: what is refused.
    """

    id: str
    title: str
    test: str
    through: tuple[str, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Table:
    """A file.

    Args:
        title: of its part.
        groups: its chapters.
    """

    title: str
    groups: tuple[Group, ...]


def load(file: Path) -> Table:
    """Return the table in a file.

    Raises:
        ValueError: a case has no answer, or an id comes twice in a group.
    """
    content = tomllib.loads(file.read_text("utf-8"))
    return Table(content["title"], tuple(_group(group) for group in content["groups"]))


def _group(group: Mapping[str, Any]) -> Group:
    implied = {name: group[name] for name in ("expect", "http", "grpc") if name in group}
    cases = tuple(Case(**implied | case) for case in group["cases"])
    through = tuple(group["through"])
    if len({case.id for case in cases}) != len(cases):
        raise ValueError(f"{group['id']}: an id comes twice")
    for case in cases:
        if ("https" in through and not case.http) or ("grpc" in through and not case.grpc):
            raise ValueError(f"{group['id']}, {case.id}: no answer for a protocol")
    return Group(group["id"], group["title"], group["test"], through, cases)


def parameters(name: str, group: str) -> pytest.MarkDecorator:
    """Return what makes a test of each case of a group, by each of its protocols."""
    table = load(FOLDER / f"{name}.toml")
    found = next(each for each in table.groups if each.id == group)
    return pytest.mark.parametrize(
        ("case", "protocol"),
        [
            pytest.param(case, protocol, id=f"{case.id}-{protocol}")
            for case in found.cases
            for protocol in found.through
        ],
    )
