"""The keys of reports, from their files."""

import json
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc.jwk import ECKey, OKPKey

from services.kit.config import ConfigError
from services.scoring.models.signing import ModelKey, SignatureError, read_public


def read_report_keys(path: Path, retired: Iterable[str]) -> tuple[ModelKey, list[tuple[str, str]]]:
    """Return the key that signs, and thumbprint and JWK of those that did.

    Raises:
        ConfigError: a file cannot be used.
    """
    key = _read(path)
    former = []
    for name in retired:
        try:
            key_id = read_public(Path(name))
        except SignatureError as error:
            raise ConfigError([f"scoring.retired_report_keys: {error}"]) from None
        former.append((key_id, _jwk(Path(name).read_bytes())))
    return key, former


def _jwk(content: bytes) -> str:
    """Return a public key that is known to be one, PEM or JWK, as JWK."""
    if content.lstrip().startswith(b"{"):
        return content.decode().strip()
    edwards = isinstance(load_pem_public_key(content), Ed25519PublicKey)
    members = (OKPKey if edwards else ECKey).import_key(content).as_dict(private=False)
    return json.dumps({name: members[name] for name in sorted(members) if name != "kid"})


def _read(path: Path) -> ModelKey:
    try:
        mode, pem = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}), check it"
        raise ConfigError([f"scoring.report_key: {problem}"]) from None
    # The group may read: a Secret is mounted in Kubernetes as root's, with the pod's group.
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        problem = "can be read or changed by others: chmod 600, or 440 with a group of its own"
        raise ConfigError([f"scoring.report_key: {path} {problem}"])
    try:
        return ModelKey(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = (
            f"there is no Ed25519 or P-256 private key in {path}: make one by "
            "`openssl genpkey -algorithm ed25519`"
        )
        raise ConfigError([f"scoring.report_key: {problem}"]) from None
