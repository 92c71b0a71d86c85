"""Reads the weights of evidence from `weights.toml`, which is package data.

Every key is checked, so that a typo stops the service instead of making it guess.
"""

from dataclasses import fields

from services.datashare.packaged import read_toml
from services.datashare.reviews.domain import Weights


class WeightsError(ValueError):
    """`weights.toml` is wrong; the message names the key."""


def load(text: str | None = None) -> Weights:
    """Load the weights.

    Args:
        text: TOML; the package's own by default.

    Raises:
        WeightsError: it is not TOML, or a key is missing, unknown or has a wrong value.
    """
    content = read_toml("services.datashare.reviews", "weights.toml", text, WeightsError)
    version = content.pop("version", None)
    if version != 1:
        raise WeightsError("weights.toml: `version` should be 1")
    names = {each.name for each in fields(Weights)}
    if wrong := sorted(names ^ content.keys()):
        what = "is missing" if wrong[0] in names else "is unknown"
        raise WeightsError(f"weights.toml: `{wrong[0]}` {what}")
    for name, value in content.items():
        kind = int if name == "most_candidates" else float
        if isinstance(value, bool) or not isinstance(value, int | kind):
            raise WeightsError(f"weights.toml: `{name}` should be a number")
    try:
        return Weights(**content)
    except ValueError as error:
        raise WeightsError(f"weights.toml: {error}") from error
