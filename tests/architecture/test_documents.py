"""The documents say what is there: made pages are fresh, links lead somewhere, commands exist."""

import importlib.util
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer.main

from puhui.common.v1.errors_pb2 import ErrorReason
from services.cli.main import app
from services.datashare.catalogue.loader import load
from services.datashare.quality.domain import Rule
from services.datashare.quality.loader import load as load_rules

CHECKOUT = Path(__file__).parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
GUIDES = [CHECKOUT / "docs" / f"{name}.md" for name in ("bank", "firm", "provider")]
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHELL = re.compile(r"^```(?:bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"\{[^}]*\}")
PATH = re.compile(
    r"`((?:kit|datashare|scoring|gateway|unit|e2e|contract|architecture|puhui_client)"
    r"/[\w./*]*)`"
)


def named(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("made", CHECKOUT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_errors_is_fresh() -> None:
    made = script("docs/errors.py").page()
    assert (CHECKOUT / "docs/errors.md").read_text("utf-8") == made, "run `make docs`"
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - an EnumTypeWrapper is no mapping
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", made, re.MULTILINE)) == reasons - {"UNSPECIFIED"}


def test_the_catalogue_pages_are_fresh() -> None:
    made = script("docs/catalogue.py")
    catalogue = load()
    assert (CHECKOUT / "docs/catalogue.md").read_text("utf-8") == made.page(catalogue), "make docs"
    page = (CHECKOUT / "docs/provider.md").read_text("utf-8")
    assert made.inserted(page, made.suppliers(catalogue)) == page, "run `make docs`"
    with pytest.raises(ValueError, match="one part from"):
        made.inserted("nothing is made here", "")


def test_the_tables_of_states_and_notices_are_fresh() -> None:
    made = script("docs/tables.py")
    for name, table in made.TABLES.items():
        page = (CHECKOUT / "docs" / name).read_text("utf-8")
        assert made.page(page, table()) == page, "run `make docs`"
    with pytest.raises(ValueError, match="one part from"):
        made.page("nothing is made here", "")


def test_the_page_of_findings_is_fresh() -> None:
    made = script("docs/findings.py").page(load_rules())
    assert (CHECKOUT / "docs/findings.md").read_text("utf-8") == made, "run `make docs`"
    # Every threshold says why it is what it is.
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ?(.*?) ?\|$", made, re.MULTILINE)
    limits = load_rules()
    thresholds = {
        name: getattr(section, name)
        for rule in Rule
        for section in [getattr(limits, rule)]
        for name in vars(section)
        if name != "measures"
    }
    assert {name: int(value.replace(",", "")) for name, value, _ in rows} == thresholds
    assert all(why for _, _, why in rows)


def test_the_page_of_negative_cases_is_fresh_and_names_tests_that_exist() -> None:
    made = script("docs/negative_cases.py")
    tables = made.tables()
    page = (CHECKOUT / "docs/negative-cases.md").read_text("utf-8")
    assert made.page(tables) == page, "run `make docs`"
    for group in (group for table in tables for group in table.groups):
        file, _, function = group.test.partition("::")
        text = (CHECKOUT / file).read_text("utf-8")
        assert re.search(rf'"{group.id}"\)\n(?:@.*\n)*(?:async )?def {function}\(', text), (
            group.test
        )


def test_the_page_of_consents_names_every_field() -> None:
    page = (CHECKOUT / "docs/consent.md").read_text("utf-8")
    core = json.loads((CHECKOUT / "tests/golden/consent_core_2.json").read_bytes())
    rows = page.partition("## The object, field by field")[2].partition("\n## ")[0]
    fields = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
    assert sorted(fields) == sorted(core)


def test_the_pictures_are_fresh() -> None:
    made = script("docs/pictures/flow.py").draw()
    assert (CHECKOUT / "docs/pictures/flow.svg").read_text("utf-8") == made, "run `make pictures`"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def calls(text: str) -> list[str]:
    """What stands after `puhui` in blocks of shell."""
    blocks = "".join(SHELL.findall(text)).replace("\\\n", " ")
    return re.findall(r"(?:^|\$\(|bin/)puhui ([^|<>)\n]+)", blocks, re.MULTILINE)


def mentions(text: str) -> list[str]:
    """What stands after `puhui` within sentences, where much may be left out."""
    return [" ".join(call.split()) for call in re.findall(r"`puhui\s([^`]+)`", text)]


@cache
def made_commands() -> Any:
    """All commands; to make them takes longer than to look one up."""
    return typer.main.get_command(app)


def taken_apart(call: str) -> tuple[Any, list[str]]:
    """The command that is called, and the words after its name."""
    words = shlex.split(call, comments=True)
    command: Any = made_commands()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, call
        command = command.commands[words.pop(0)]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist_with_their_options(page: Path) -> None:
    for call in mentions(page.read_text("utf-8")):
        command, words = taken_apart(call)
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, call


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_in_blocks_are_whole(page: Path) -> None:
    for call in calls(page.read_text("utf-8")):
        command, words = taken_apart(call)
        try:
            command.make_context(call, words)
        except typer.BadParameter as error:
            # The reader's own files are not here.
            if "does not exist" not in error.message:
                pytest.fail(f"{call}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_calls_over_http_exist(page: Path) -> None:
    document = json.loads((CHECKOUT / "services/gateway/http/openapi.json").read_bytes())
    known = {
        f"{method.upper()} {PLACE.sub('{}', path)}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    named_here = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /v1[^`?]*)", page.read_text("utf-8"))
    assert {PLACE.sub("{}", call) for call in named_here} <= known


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_the_reasons_of_the_guides_exist(page: Path) -> None:
    rows = re.findall(r"^\| (`[A-Z][^|]+) \|", page.read_text("utf-8"), re.MULTILINE)
    reasons = {reason for row in rows for reason in re.findall(r"`([A-Z_]+)`", row)}
    assert len(reasons) > 5
    assert {f"ERROR_REASON_{reason}" for reason in reasons} <= set(ErrorReason.keys())


def test_the_readme_lists_every_target() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| `make ([a-z-]+)", readme, re.MULTILINE)
    assert set(listed) == set(targets) - {"help"}


def test_what_the_readme_shows_of_the_client_is_in_the_example() -> None:
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert shown in (CHECKOUT / "examples/bank.py").read_text("utf-8")


def test_the_files_that_the_architecture_names_are_there() -> None:
    page = (CHECKOUT / "docs/architecture.md").read_text("utf-8")
    paths = PATH.findall(page)
    assert len(paths) > 20
    for path in paths:
        roots = (CHECKOUT / "services", CHECKOUT / "tests", CHECKOUT)
        pattern = path.rstrip("/")
        assert any(next(root.glob(pattern), None) for root in roots), path
