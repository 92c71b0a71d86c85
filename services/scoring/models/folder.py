"""Model folders on disk, never a pickle.

model.txt has the trees, manifest.json all else that a score needs, card.md what a reader must know,
training.json what was measured, manifest.jws the signature over the bytes of manifest.json.

Invariants: what is read has the hashes that its manifest states, a manifest that is signed and does
not contradict itself. A folder appears whole or not at all, and never changes.
"""

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path
from typing import Final

from services.scoring.models import document
from services.scoring.models.domain import FORMAT, Manifest, ModelFolderError, problems
from services.scoring.models.signing import ModelKey, SignatureError, verify

MODEL: Final = "model.txt"
MANIFEST: Final = "manifest.json"
CARD: Final = "card.md"
TRAINING: Final = "training.json"
SIGNATURE: Final = "manifest.jws"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder holds.

    Args:
        manifest: parsed.
        model: LightGBM's text.
        card: Markdown.
        training: what was measured; see `training.evidence`.
        key_id: thumbprint of the key that signed it.
        sha256: of the bytes of manifest.json, which has the hashes of the other files.
    """

    manifest: Manifest
    model: str
    card: str
    training: str
    key_id: str
    sha256: str


def sha256(text: str) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_folder(
    path: Path, manifest: Manifest, *, model: str, card: str, training: str, key: ModelKey
) -> Manifest:
    """Write and sign a model folder; its name is the model's version.

    Args:
        path: of the folder.
        manifest: complete but for `files`.
        model: LightGBM's text.
        card: Markdown.
        training: what was measured; see `training.evidence`.
        key: that signs it.

    Returns:
        The manifest with the hashes of the files.

    Raises:
        FileExistsError: there is one already; a version never changes.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: a model's version never changes, take another name")
    texts = {MODEL: model, CARD: card, TRAINING: training}
    files = {name: sha256(text) for name, text in texts.items()}
    manifest = dataclasses.replace(manifest, files=files)
    stated = document.dump(manifest)
    texts |= {MANIFEST: stated, SIGNATURE: key.sign(stated.encode())}
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.parent / f".{path.name}.pending"
    shutil.rmtree(pending, ignore_errors=True)
    pending.mkdir()
    for name, text in texts.items():
        (pending / name).write_bytes(text.encode())
    pending.rename(path)
    return manifest


def read_folder(path: Path, trusted: frozenset[str] | None = None) -> ModelFolder:
    """Read a model folder; verify its signature and its hashes.

    Args:
        path: of the folder.
        trusted: thumbprints of the keys whose models are taken; None takes everybody's.

    Raises:
        ModelFolderError: a file is absent, was changed, or contradicts itself; or the model is
            signed by a key that is not trusted.
    """
    stated = _text(path / MANIFEST)
    written = re.search(r'"format":\s*(\d+)', stated)
    if written and int(written[1]) < FORMAT:
        raise ModelFolderError(
            f"{path} is of format {written[1]}, of an earlier release; this one reads {FORMAT}: "
            "train the model again under another name"
        )
    try:
        key_id = verify(_text(path / SIGNATURE), stated.encode())
    except SignatureError as error:
        raise ModelFolderError(
            f"{path / SIGNATURE} does not sign {MANIFEST} ({error}): restore the folder"
        ) from None
    if trusted is not None and key_id not in trusted:
        raise ModelFolderError(
            f"{path} is signed by the key {key_id}, which is not trusted here: sign it by another, "
            "or add the file with its public key to scoring.trusted_model_keys"
        )
    manifest = _manifest(path, stated)
    texts = {name: _text(path / name) for name in (MODEL, CARD, TRAINING)}
    for name, text in texts.items():
        if manifest.files.get(name) != sha256(text):
            raise ModelFolderError(
                f"{path / name} is not what its manifest was written for: restore the folder"
            )
    return ModelFolder(manifest, texts[MODEL], texts[CARD], texts[TRAINING], key_id, sha256(stated))


def _manifest(path: Path, stated: str) -> Manifest:
    try:
        manifest = document.load(Manifest, stated)
    except (ValueError, TypeError, KeyError) as error:
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
        raise ModelFolderError(f"{path} cannot be read: restore the folder") from error
