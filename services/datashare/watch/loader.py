"""Reads the rules of the watch: `watch.toml`, which is package data, or a file of the operator's.

The file is checked as a whole, so that a typo stops the service and does not blind the watch.
"""

from collections.abc import Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Any, Final

from services.datashare.incidents.domain import Severity
from services.datashare.packaged import read_toml
from services.datashare.watch.domain import Name, Rule

_ALWAYS: Final = {"severity", "zh", "en", "threshold", "window"}
_BULK: Final = {"except_purposes"}
_MORE: Final[Mapping[Name, set[str]]] = {
    Name.VOLUME_PAST: {"days", "least"},
    Name.OUTSIDE_HOURS: {"begins", "ends"} | _BULK,
    Name.NO_FILE: {"dummies"},
    Name.ONE_FILE: _BULK,
    Name.OFFICER_SWEEP: _BULK,
    Name.PROBING: {"reasons", "calls"},
}
_MOST_DAYS: Final = 366


class WatchError(ValueError):
    """The file of rules is wrong; the message names the key."""


def load(path: Path | None = None, text: str | None = None) -> Mapping[Name, Rule]:
    """Return the rules by name.

    Args:
        path: of the operator's file; None is the package's own.
        text: TOML, in the place of both.

    Raises:
        WatchError: it cannot be read, or something in it is missing, unknown or wrong.
    """
    if path is not None and text is None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WatchError(f"{path}: {error}") from None
    said = read_toml("services.datashare.watch", "watch.toml", text, WatchError)
    if unknown := sorted(said.keys() - set(Name)):
        raise WatchError(f"`{unknown[0]}` is no rule: there are {', '.join(Name)}")
    return {name: _rule(name, said[name]) for name in Name if name in said}


def _rule(name: Name, said: object) -> Rule:
    keys = _ALWAYS | _MORE.get(name, set())
    if not isinstance(said, dict) or said.keys() != keys:
        raise WatchError(f"`{name}` should have the keys {', '.join(sorted(keys))}")
    for key, value in said.items():
        if not _is_right(key, value):
            raise WatchError(f"`{name}.{key}` is wrong: see the package's own file")
    if name is Name.PROBING and set(said["reasons"]) & set(said["calls"]):
        raise WatchError("`probing.calls` has one of `probing.reasons`: it would count twice")
    more: dict[str, Any] = {key: said[key] for key in ("days", "least") if key in said}
    more |= {key: time.fromisoformat(said[key]) for key in ("begins", "ends") if key in said}
    lists = ("except_purposes", "reasons", "calls", "dummies")
    more |= {
        key: frozenset(map(str.casefold, said[key]))
        for key in lists
        if key == "dummies" and key in said
    }
    more |= {key: frozenset(said[key]) for key in lists if key != "dummies" and key in said}
    return Rule(
        name=name,
        severity=Severity(said["severity"]),
        zh=said["zh"],
        en=said["en"],
        threshold=float(said["threshold"]),
        window=timedelta(seconds=said["window"]),
        **more,
    )


def _is_right(key: str, value: object) -> bool:
    match key:
        case "severity":
            return value in list(Severity)
        case "zh" | "en":
            return isinstance(value, str) and bool(value.strip())
        case "threshold":
            return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
        case "window":
            # Days have whole windows, or windows whole days, so that they begin at midnight.
            return _is_whole(value, 60) and (86_400 % int(str(value)) == 0)
        case "days":
            return _is_whole(value, 1) and int(str(value)) <= _MOST_DAYS
        case "least":
            return _is_whole(value, 0)
        case "begins" | "ends":
            return _is_time(value)
        case _:
            return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_time(value: object) -> bool:
    try:
        return time.fromisoformat(str(value)).tzinfo is None
    except ValueError:
        return False
