"""The keys of reports, from their files."""

from collections.abc import Iterable
from pathlib import Path

from services.kit.config import ConfigError
from services.scoring.models.signing import ModelKey, SignatureError, read_public


def read_report_keys(path: Path, retired: Iterable[str]) -> tuple[ModelKey, list[tuple[str, str]]]:
    """Return the key that signs, and thumbprint and JWK of those that did.

    Raises:
        ConfigError: a file cannot be used.
    """
    try:
        key = ModelKey.read(path)
    except SignatureError as error:
        raise ConfigError([f"scoring.report_key: {error}"]) from None
    former = []
    for name in retired:
        try:
            key_id = read_public(Path(name))
        except SignatureError as error:
            raise ConfigError([f"scoring.retired_report_keys: {error}"]) from None
        stated = Path(name).read_text("utf-8").strip()
        if not stated.startswith("{"):
            problem = f"{name} is PEM: name the public key as JWK, the file that ends in .pub.jwk"
            raise ConfigError([f"scoring.retired_report_keys: {problem}"])
        former.append((key_id, stated))
    return key, former
