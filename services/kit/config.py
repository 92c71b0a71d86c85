"""Configuration: from the environment and one TOML file into frozen dataclasses.

The environment wins over the file, the file over a field's default. In the section `datashare`, the
field `pool_size` is `PUHUI_DATASHARE_POOL_SIZE` or `pool_size` in `[datashare]`; a field that is
itself a dataclass is a sub-table, `[datashare.server]` and `PUHUI_DATASHARE_SERVER_LISTEN`.

Nothing is guessed or ignored: unknown keys, missing ones and bad values are all reported, in one
`ConfigError` that names each with its remedy. The value of a field whose metadata says `secret` is
never in a message; it, and a path, may name a secret that is kept elsewhere
(`services.kit.secrets`). A field's metadata says `help` in a few words.

Types: str, int, float, bool, Path, timedelta ("500ms", "5s", "1h30m", "7d"), tuple[str, ...] (an
array, in the environment with commas), each perhaps `| None` (absent or empty), and dataclasses.
"""

import dataclasses
import difflib
import ipaddress
import math
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    C = TypeVar("C", bound=DataclassInstance)
else:
    C = TypeVar("C")

PREFIX: Final = "PUHUI"
KMS: Final = "kms:"
"""What a setting begins with that names a secret of the key management service."""
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_LAST_PORT: Final = 65_535
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ConfigError(Exception):
    """The configuration cannot be used.

    Args:
        problems: one line each: the key, what is wrong with it and the remedy.
    """

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class SecretError(Exception):
    """A secret cannot be had; the message says why and what to do, and holds nothing of it."""


class Secrets(Protocol):
    """Resolves settings that name a secret which is kept elsewhere; see `services.kit.secrets`."""

    def path(self, path: Path) -> Path:
        """Return a path that can be read: the same, or that of the secret which it names.

        Raises:
            SecretError: the secret cannot be had.
        """
        ...

    def text(self, value: str) -> str:
        """Return a secret value: the same, or what is kept where it says.

        Raises:
            SecretError: it cannot be had.
        """
        ...


def check_listen(name: str, address: str) -> None:
    """Check that one can listen on an address, as far as its form tells.

    Args:
        name: of the field.
        address: what it holds.

    Raises:
        ValueError: it is no "host:port".
    """
    host, _, port = address.rpartition(":")
    if not host or not _PORT.fullmatch(port) or int(port) > _LAST_PORT:
        raise ValueError(f"{name} must be host:port, such as 0.0.0.0:9090, port 0 to {_LAST_PORT}")


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address, "host:port"."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_least(least: float, **values: float) -> None:
    """Check that no number is too small.

    Args:
        least: what each must be at least.
        values: by field.

    Raises:
        ValueError: one is.
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least:g}")


@dataclass(frozen=True)
class Key:
    """One setting, for help and documents.

    Args:
        name: `section.field`, as in the file.
        variable: its name in the environment.
        kind: what values it takes.
        default: as it would be written; None when it must be given.
        help: what it is for.
        secret: its value is never shown.
    """

    name: str
    variable: str
    kind: str
    default: str | None
    help: str
    secret: bool


@dataclass(frozen=True)
class _Leaf:
    """A field that holds a value, somewhere in a tree of dataclasses."""

    path: tuple[str, ...]
    field: "dataclasses.Field[Any]"
    type: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return "_".join((PREFIX, *self.path)).upper()

    @property
    def secret(self) -> bool:
        return bool(self.field.metadata.get("secret"))

    @property
    def required(self) -> bool:
        absent = dataclasses.MISSING
        return self.field.default is absent and self.field.default_factory is absent


def load(
    cls: type[C],
    section: str,
    environ: Mapping[str, str],
    file: Path | None = None,
    *,
    implied: Mapping[str, str] = MappingProxyType({}),
    secrets: "Secrets | None" = None,
) -> C:
    """Return the configuration of one section.

    Args:
        cls: a dataclass.
        section: the TOML table, and the second word of the variables.
        environ: environment variables; those of other sections are not looked at.
        file: a TOML file, which may hold other sections too.
        implied: instead of the fields' defaults, by the names of variables.
        secrets: resolves paths and secret values that name a secret elsewhere; None: they stay.

    Raises:
        ConfigError: a key is unknown or missing, a value is bad, the file cannot be read, or a
            secret cannot be had.
    """
    leaves = {leaf.path: leaf for leaf in _leaves(cls, (section,))}
    table = _read(file).get(section, {}) if file else {}
    problems: list[str] = []
    values: dict[tuple[str, ...], Any] = {}
    for leaf in leaves.values():
        if leaf.variable in implied:
            raw = _from_text(leaf.type, implied[leaf.variable])
            _parse(leaf, raw, leaf.variable, values, problems)
    for path, raw in _flatten(table, (section,), leaves):
        named = leaves.get(path)
        where = f"{'.'.join(path)} in {file}"
        if named is None:
            problems.append(_unknown(where, path[-1], [p[-1] for p in leaves]))
        else:
            _parse(named, raw, where, values, problems)
    variables = {leaf.variable: leaf for leaf in leaves.values()}
    start = f"{PREFIX}_{section}_".upper()
    for variable in sorted(name for name in environ if name.startswith(start)):
        found = variables.get(variable)
        if found is None:
            problems.append(_unknown(variable, variable, list(variables)))
        else:
            _parse(found, _from_text(found.type, environ[variable]), variable, values, problems)
    if not problems:
        problems.extend(
            f"{leaf.name} is not set: set {leaf.variable}, or {leaf.path[-1]} in "
            f"[{'.'.join(leaf.path[:-1])}] of the configuration file"
            for leaf in leaves.values()
            if leaf.required and leaf.path not in values
        )
    if secrets is not None and not problems:
        for leaf in leaves.values():
            if leaf.path in values:
                _resolve(leaf, secrets, values, problems)
    if problems:
        raise ConfigError(problems)
    return _build(cls, (section,), values)


def check_sections(file: Path, known: Collection[str]) -> None:
    """Check that a file has no section but the known ones.

    Raises:
        ConfigError: it has, or it cannot be read.
    """
    problems = [
        _unknown(f"[{section}] in {file}", section, list(known))
        for section in _read(file)
        if section not in known
    ]
    if problems:
        raise ConfigError(problems)


def describe(cls: "type[DataclassInstance]", section: str) -> list[Key]:
    """Return every setting of a section, in the order of its fields."""
    return [
        Key(
            name=leaf.name,
            variable=leaf.variable,
            kind=_kind(leaf.type),
            default=None if leaf.required else _default(leaf),
            help=str(leaf.field.metadata.get("help", "")),
            secret=leaf.secret,
        )
        for leaf in _leaves(cls, (section,))
    ]


def _leaves(cls: "type[DataclassInstance]", path: tuple[str, ...]) -> Iterator[_Leaf]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _leaves(typing.cast("type[DataclassInstance]", kind), (*path, field.name))
        else:
            yield _Leaf((*path, field.name), field, kind)


def _build(cls: type[C], path: tuple[str, ...], values: Mapping[tuple[str, ...], Any]) -> C:
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        inner = (*path, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            kind = typing.cast("type[DataclassInstance]", hints[field.name])
            given[field.name] = _build(kind, inner, values)
        elif inner in values:
            given[field.name] = values[inner]
    try:
        return cls(**given)
    except ValueError as error:
        raise ConfigError([f"{'.'.join(path)}: {error}"]) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file} cannot be read ({error.strerror}): check the path"]) from None
    except ValueError as error:
        raise ConfigError([f"{file} is not TOML, correct it: {error}"]) from None


def _flatten(
    table: Any, path: tuple[str, ...], leaves: Collection[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what stands in a table, going into a sub-table only where a dataclass is expected."""
    expected = any(len(leaf) > len(path) and leaf[: len(path)] == path for leaf in leaves)
    if isinstance(table, dict) and expected:
        for key, value in table.items():
            yield from _flatten(value, (*path, key), leaves)
    else:
        yield path, table


def _unknown(where: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{where} is unknown: {remedy}"


def _parse(
    leaf: _Leaf,
    raw: Any,
    where: str,
    values: dict[tuple[str, ...], Any],
    problems: list[str],
) -> None:
    try:
        values[leaf.path] = _value(leaf.type, raw)
    except ValueError:
        shown = "the value" if leaf.secret else repr(raw)
        problems.append(f"{where}: {shown} does not fit: give {_kind(leaf.type)}")


def _resolve(
    leaf: _Leaf, secrets: "Secrets", values: dict[tuple[str, ...], Any], problems: list[str]
) -> None:
    value = values[leaf.path]
    try:
        if isinstance(value, Path):
            values[leaf.path] = secrets.path(value)
        elif isinstance(value, str) and leaf.secret:
            values[leaf.path] = secrets.text(value)
        elif isinstance(value, tuple):
            values[leaf.path] = tuple(
                str(secrets.path(Path(item))) if item.startswith(KMS) else item for item in value
            )
    except SecretError as error:
        problems.append(f"{leaf.name}: {error}")


def _from_text(kind: Any, text: str) -> Any:
    """Return what the TOML file would have held for the text of a variable.

    A text that does not fit is returned as it is, for `_value` to refuse.
    """
    kind, optional = _inner(kind)
    if optional and not text:
        return None
    if kind is bool:
        return _BOOLEANS.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if typing.get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _value(kind: Any, raw: Any) -> Any:
    kind, optional = _inner(kind)
    if optional and (raw is None or raw == ""):
        return None
    if kind is float and type(raw) in (int, float) and math.isfinite(raw):
        return float(raw)
    if kind in (str, int, bool) and type(raw) is kind:
        return raw
    if kind is Path and type(raw) is str and raw:
        return Path(raw)
    if kind is timedelta and type(raw) is str:
        return _duration(raw)
    texts = typing.get_origin(kind) is tuple and type(raw) is list
    if texts and all(type(item) is str for item in raw):
        return tuple(raw)
    raise ValueError


def _inner(kind: Any) -> tuple[Any, bool]:
    """Return the type without `| None`, and whether it had it."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner,) = (arm for arm in typing.get_args(kind) if arm is not types.NoneType)
        return inner, True
    return kind, False


def _duration(text: str) -> timedelta:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


_KINDS: Final = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    timedelta: "a duration such as 500ms, 5s, 1h30m or 7d",
}


def _kind(kind: Any) -> str:
    kind, optional = _inner(kind)
    name = _KINDS.get(kind)
    if name is None:
        if typing.get_args(kind) != (str, Ellipsis):
            raise TypeError(f"kit.config does not know the type {kind}")
        name = "texts, in the environment with commas between them"
    return f"{name}, or nothing" if optional else name


def _default(leaf: _Leaf) -> str:
    field = leaf.field
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = field.default
    if value is None or (leaf.secret and value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return _duration_text(value)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def _duration_text(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms"
