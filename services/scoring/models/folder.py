"""Model folders on disk: model.txt, manifest.json, card.md. Never a pickle.

Invariant: what is read has the hashes that its manifest states, and a manifest that does not
contradict itself. A folder appears whole or not at all.
"""

import dataclasses
import enum
import hashlib
import json
import shutil
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from services.scoring.models.domain import Manifest, ModelFolderError, problems

MODEL: Final = "model.txt"
MANIFEST: Final = "manifest.json"
CARD: Final = "card.md"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder holds.

    Args:
        manifest: parsed.
        model: LightGBM's text.
        card: Markdown.
    """

    manifest: Manifest
    model: str
    card: str


def sha256(text: str) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_folder(path: Path, manifest: Manifest, model: str, card: str) -> None:
    """Write a model folder; its name is the model's version.

    Raises:
        FileExistsError: there is one already; a version never changes.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: a model's version never changes, take another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.parent / f".{path.name}.pending"
    shutil.rmtree(pending, ignore_errors=True)
    pending.mkdir()
    stated = json.dumps(dataclasses.asdict(manifest), ensure_ascii=False, allow_nan=False, indent=1)
    for name, text in ((MODEL, model), (CARD, card), (MANIFEST, stated + "\n")):
        (pending / name).write_bytes(text.encode())
    pending.rename(path)


def read_folder(path: Path) -> ModelFolder:
    """Read a model folder and verify its hashes.

    Raises:
        ModelFolderError: a file is absent, was changed, or contradicts itself.
    """
    manifest = read_manifest(path)
    texts = {}
    for name in (MODEL, CARD):
        text = _text(path / name)
        if manifest.files.get(name) != sha256(text):
            raise ModelFolderError(
                f"{path / name} is not what its manifest was written for: restore the folder"
            )
        texts[name] = text
    return ModelFolder(manifest, texts[MODEL], texts[CARD])


def read_manifest(path: Path) -> Manifest:
    """Read and check a folder's manifest alone.

    Raises:
        ModelFolderError: it is absent, damaged, of another folder, or contradicts itself.
    """
    try:
        manifest: Manifest = _build(Manifest, json.loads(_text(path / MANIFEST)))
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(
            f"{path / MANIFEST} is damaged ({error}): restore the folder"
        ) from error
    found = problems(manifest)
    if manifest.version != path.name:
        found.append(f"it is the manifest of {manifest.version!r}, not of its folder")
    if found:
        raise ModelFolderError(f"{path / MANIFEST} cannot be used: {'; '.join(found)}")
    return manifest


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFolderError(f"{path} cannot be read: restore the model folder") from error


def _build(kind: Any, value: Any) -> Any:
    """`value`, as json.loads gives it, as an instance of the annotation `kind`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise ValueError(f"the fields of {getattr(kind, '__name__', kind)} differ")
        return typing.cast(Any, kind)(**{name: _build(hints[name], value[name]) for name in hints})
    if origin is tuple:
        return tuple(_build(args[0], item) for item in _typed(value, list))
    if origin is Mapping or origin is typing.get_origin(Mapping[str, int]):
        return {name: _build(args[1], item) for name, item in _typed(value, dict).items()}
    if origin in (types.UnionType, typing.Union):
        return _typed(value, *args)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is float:
        return float(_typed(value, int, float))
    return _typed(value, kind)


def _typed(value: Any, *kinds: type) -> Any:
    wanted = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{str(value)[:40]!r} is not {' or '.join(k.__name__ for k in kinds)}")
    return value
