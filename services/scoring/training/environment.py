"""What a training ran on: as far as its results may depend on it, and who answers for it."""

import platform
from importlib.metadata import version
from typing import Final

_PACKAGES: Final = ("puhui", "lightgbm", "numpy")


def environment() -> dict[str, str]:
    """Return the versions and the kind of machine, by name."""
    versions = {name: version(name) for name in _PACKAGES}
    system = f"{platform.system()} {platform.machine()}"
    return versions | {"python": platform.python_version(), "system": system}
