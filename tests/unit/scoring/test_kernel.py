"""kernel.c and the Python around it say the same; what is loaded was compiled from it."""

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest

from services.scoring.models import contributions, intervals, kernel

SOURCE = kernel.LIBRARY.with_name("kernel.c")


def test_the_library_is_that_of_its_source(checkout: Path, tmp_path: Path) -> None:
    """Fails after kernel.c was changed and not compiled: run `make setup`."""
    spec = importlib.util.spec_from_file_location("hatch_build", checkout / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.compile_library(checkout, tmp_path / "made.so")
    assert (tmp_path / "made.so").read_bytes() == kernel.LIBRARY.read_bytes()


def test_both_name_the_same_parts_in_the_same_order() -> None:
    body = re.search(r"typedef struct \{(.*?)\} model;", SOURCE.read_text(), re.DOTALL)
    assert body is not None
    stated = re.sub(r"/\*.*?\*/|\(double\)", "", body[1], flags=re.DOTALL)
    said = re.findall(r"[\w*)]+(?=[,;])", stated)
    assert [name.strip("*)") for name in said] == [name for name, _ in kernel.FIELDS]


def test_both_have_the_same_numbers() -> None:
    stated = dict(re.findall(r"#define (\w+) (\S+)", SOURCE.read_text()))
    assert {name: float(value) for name, value in stated.items()} == {
        "CHUNK": kernel.CHUNK,
        "REASONS": kernel.REASONS,
        "FIGURES": len(kernel.FIGURES),
        "WITHHELD": intervals.WITHHELD,
    }
    kinds = re.findall(r"^    ([A-Z_]+),", SOURCE.read_text(), re.MULTILINE)
    assert [getattr(contributions, f"_{kind}") for kind in kinds] == list(range(6))


def test_a_library_that_is_not_there_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", tmp_path / "libkernel.so")
    with pytest.raises(ImportError, match="run 'make setup'"):
        kernel.Kernel({})


def test_a_library_of_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(ctypes.Structure):
        _fields_ = kernel.FIELDS[:-1]

    monkeypatch.setattr(kernel, "_Model", Other)
    with pytest.raises(ImportError, match="not of this release: run 'make setup'"):
        kernel.Kernel({})
