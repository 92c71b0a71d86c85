"""What a service imports is in the lock of its image."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

OURS = {"services", "puhui", "buf"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that a module imports when it runs; of `from a import b`, also a.b."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for branch in node.orelse:
                    yield from imports(branch)
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case _:
                yield from imports(node)


def file_of(checkout: Path, module: str) -> Path | None:
    base = checkout.joinpath(*module.split("."))
    return next(
        (path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None
    )


def foreign_imports(checkout: Path, entry: str) -> dict[str, str]:
    """Return every package from elsewhere that a module reaches, with who imports it."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        path = file_of(checkout, module)
        if module in seen or path is None:
            continue
        seen.add(module)
        for name in imports(ast.parse(path.read_text())):
            top = name.partition(".")[0]
            if top == "services":
                waiting += [name, *(str(parent) for parent in parents(name))]
            elif top not in OURS | sys.stdlib_module_names:
                found.setdefault(top, module)
    return found


def parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


@pytest.mark.parametrize("service", ["datashare", "scoring", "gateway"])
def test_an_image_has_every_package_that_its_service_imports(checkout: Path, service: str) -> None:
    lock = (checkout / "requirements" / f"{service}.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE))
    distributions = importlib.metadata.packages_distributions()
    absent = {
        package: module
        for package, module in foreign_imports(checkout, f"services.{service}.main").items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in distributions[package]} & locked
    }
    assert absent == {}
