"""Writes negative-cases.md from the tables of tests/cases: `make docs`."""

from pathlib import Path

from tests.cases.table import FOLDER, Case, Group, Table, load

HERE = Path(__file__).parent

HEAD = """\
# What is refused 拒绝清单

<!-- Made from tests/cases/*.toml by `make docs`: change it there. -->

Every case here is a test of its own, by every protocol that stands beside it: over gRPC and over
HTTPS, both with real TLS. The test's name is the function under the heading with
`[<case>-<protocol>]` behind it. Reasons are those of [errors.md](errors.md); errors in small
letters are OAuth's (RFC 6749).
"""


def page(tables: list[Table]) -> str:
    """Return the page."""
    count = sum(len(group.cases) * len(group.through) for table in tables for group in table.groups)
    parts = [HEAD, f"\n{count} tests.\n"]
    for table in tables:
        parts.append(f"\n## {table.title}\n")
        parts.extend(_chapter(group) for group in table.groups)
    return "".join(parts)


def tables() -> list[Table]:
    """Return all tables, in the order of their files' names."""
    return [load(file) for file in sorted(FOLDER.glob("*.toml"))]


def _chapter(group: Group) -> str:
    rows = "".join(_row(case, group.through) for case in group.cases)
    return (
        f"\n### {group.title}\n\n`{group.test}`, over {' and '.join(group.through)}\n\n"
        f"| case | what comes in | refused with | source |\n|---|---|---|---|\n{rows}"
    )


def _row(case: Case, through: tuple[str, ...]) -> str:
    statuses = [
        *([f"gRPC {case.grpc}"] if "grpc" in through else []),
        *([f"HTTP {case.http}"] if "https" in through else []),
    ]
    cells = (
        f"`{case.id}`",
        case.what,
        f"`{case.expect}`, {', '.join(statuses)}",
        case.source,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    (HERE / "negative-cases.md").write_text(page(tables()), encoding="utf-8")
