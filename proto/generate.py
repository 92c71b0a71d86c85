"""Generate Python from the .proto files, or check that the committed code is fresh.

Written beside each .proto file of `puhui` and `buf`: messages (`_pb2.py`), services
(`_pb2_grpc.py`), their types (`.pyi`), and an empty `__init__.py` per package. Nothing is generated
for `google`: the installed packages bring that code; only the imported .proto files are copied to
`vendor/`, so that buf needs no network.

Usage: python proto/generate.py [--check]
"""

import filecmp
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import files
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parent.resolve()
ROOTS = ("puhui", "buf")
GENERATED = ("*_pb2*.py", "*_pb2*.pyi", "__init__.py", "py.typed", "vendor/**/*.proto")
MYPY = ("mypy", "mypy_grpc")
SERVICE = re.compile(r"^service \w", re.MULTILINE)
GOOGLE_IMPORT = re.compile(r'^import (?:public )?"(google/(?!protobuf/)[^"]+)";', re.MULTILINE)


def sources() -> list[Path]:
    """The .proto files that code is generated for, relative to this folder."""
    return sorted(
        path.relative_to(PROTO) for root in ROOTS for path in (PROTO / root).rglob("*.proto")
    )


def vendor(out: Path) -> None:
    """Copy the .proto files of googleapis that ours import, directly or not, to `out`/vendor."""
    wheel = {str(path): path for path in files("googleapis-common-protos") or []}
    texts = [(PROTO / path).read_text(encoding="utf-8") for path in sources()]
    while texts:
        for name in GOOGLE_IMPORT.findall(texts.pop()):
            target = out / "vendor" / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                text = wheel[name].read_text(encoding="utf-8")
                target.write_text(text, encoding="utf-8")
                texts.append(text)


def protoc_run(out: Path, kinds: Iterable[str], files: Iterable[Path]) -> None:
    """Run protoc over `files` with a plugin per kind, writing under `out`."""
    scripts = Path(sys.executable).parent
    with as_file(resources("grpc_tools") / "_proto") as well_known_types:
        code = protoc.main(
            [
                "protoc",
                *(f"--plugin=protoc-gen-{name}={scripts}/protoc-gen-{name}" for name in MYPY),
                *(f"--{name}_opt=quiet" for name in MYPY if name in kinds),
                *(f"--{kind}_out={out}" for kind in kinds),
                *(f"--proto_path={path}" for path in (PROTO, out / "vendor", well_known_types)),
                *map(str, files),
            ]
        )
    if code:
        raise SystemExit(code)


def generate(out: Path) -> None:
    """Write everything that is generated under `out`.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    vendor(out)
    everything = sources()
    serving = [path for path in everything if SERVICE.search((PROTO / path).read_text("utf-8"))]
    protoc_run(out, ("python", "mypy"), everything)
    protoc_run(out, ("grpc_python", "mypy_grpc"), serving)
    for path in everything:
        for folder in path.parents[:-1]:
            (out / folder / "__init__.py").touch()
    for root in ROOTS:
        (out / root / "py.typed").touch()


def listing(folder: Path) -> set[Path]:
    """What is generated under `folder`, relative to it."""
    return {path.relative_to(folder) for pattern in GENERATED for path in folder.rglob(pattern)}


def main() -> None:
    """Generate in a temporary folder; then compare with, or move over, what is in this one."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        generate(out)
        fresh, present = listing(out), listing(PROTO)
        changed = {
            path
            for path in fresh
            if path not in present or not filecmp.cmp(out / path, PROTO / path, shallow=False)
        }
        gone = present - fresh
        if "--check" in sys.argv[1:]:
            for path in sorted(changed | gone):
                print(f"proto/{path} is stale: run `make proto`", file=sys.stderr)
            raise SystemExit(bool(changed | gone))
        for path in changed:
            (PROTO / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / path, PROTO / path)
        for path in gone:
            (PROTO / path).unlink()


if __name__ == "__main__":
    main()
