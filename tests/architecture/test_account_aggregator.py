"""The page of Account Aggregator scenarios: each stands in one row, each named test exists."""

import ast
import re
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/account-aggregator.md").read_text("utf-8")
NAMED = re.compile(r"`((?:unit|contract|e2e)/[\w/]+\.py)((?:::\w+)*)`")
ROW = re.compile(r"^\| (\d{4}(?:, \d{4})*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PARTS = dict(re.findall(r"^## (\w+): [^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))

# The scenarios of the three pages, as ranges of their numbers.
SCENARIOS = {
    "AA": "1001-1043 2001-2011 2014-2033 2037-2039 2041-2047 2051-2052 3001-3007 3010-3034 4001 "
    "5001-5005 5007-5008",
    "FIP": "1001-1036 1038 1040-1060 2001-2024 2026-2027 2029-2031 3001-3008 3010-3027 4001 "
    "5001-5008",
    "FIU": "1001-1026 1028-1043 2001-2012 2015-2029",
}


def numbers(ranges: str) -> list[int]:
    found: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def functions_of(path: Path) -> set[str]:
    """Tests of a file, as `name` or `Class::name`."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return {name for name in names if name.rpartition("::")[2].startswith("test_")}


def test_every_scenario_stands_in_exactly_one_row() -> None:
    for name, ranges in SCENARIOS.items():
        listed = [int(one) for ids, _, _ in ROW.findall(PARTS[name]) for one in ids.split(", ")]
        assert [one for one, times in Counter(listed).items() if times > 1] == []
        assert sorted(listed) == numbers(ranges), name


def test_a_row_names_tests_or_says_why_it_does_not_apply() -> None:
    for part in PARTS.values():
        for ids, _, covered in ROW.findall(part):
            assert NAMED.search(covered) or " not apply" in covered, ids


def test_the_tests_that_are_named_exist() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 60
    missing = []
    for file, test in named:
        path = CHECKOUT / "tests" / file
        name = test.removeprefix("::")
        if not path.is_file() or (name and name not in functions_of(path)):
            missing.append(f"{file}{test}")
    assert missing == []
