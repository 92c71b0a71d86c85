"""Files of rules and words that come with a package, as TOML."""

import tomllib
from importlib import resources
from typing import Any


def read_toml(package: str, name: str, text: str | None, wrong: type[ValueError]) -> dict[str, Any]:
    """Return what a file says.

    Args:
        package: whose data it is.
        name: of the file.
        text: what it says; None is what is in it.
        wrong: the error of this file, which is raised when it is not TOML.

    Raises:
        ValueError: of the kind `wrong`.
    """
    if text is None:
        text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise wrong(f"{name}: {error}") from error
