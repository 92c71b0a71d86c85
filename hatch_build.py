"""Compiles services/scoring/models/kernel.c, the one part of the package that is not Python.

Zig's compiler comes as a wheel, so a build needs nothing that the lock does not name, and makes the
same bytes on every machine of a kind. For the least processor of that kind: what a newer one would
gain is within a tenth.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("services/scoring/models/kernel.c")
LIBRARY = SOURCE.with_name("libkernel.so")


class KernelHook(BuildHookInterface[Any]):
    """Puts the library into the wheel, or beside its source in an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say that the wheel is of this platform."""
        compile_library(Path(self.root), Path(self.root) / LIBRARY)
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compile_library(root: Path, library: Path) -> None:
    """Compile the library.

    Args:
        root: of the project.
        library: to write.
    """
    options = (
        "-std=c11 -O3 -mcpu=baseline -shared -fPIC -s -nostdlib -fno-builtin -ffp-contract=off "
        "-Wall -Wextra -Werror"
    )
    pending = library.with_suffix(f".{os.getpid()}")
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *options.split(), "-o", pending, root / SOURCE],
            check=True,
            env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
        )
    # At once: a service that runs keeps the library that it opened.
    pending.replace(library)


if __name__ == "__main__":
    HERE = Path(__file__).parent
    compile_library(HERE, HERE / LIBRARY)
