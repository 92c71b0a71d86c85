"""A folder of keys that `puhui keys` made, and what it knows of each.

Invariants:

- A private key is in a file that only its owner can read, written whole or not at all, and never
  over another. It is in no message and in no index.
- A key that was rotated stays, under the name of its turn, until it is told to go: what it signed
  is still checked by its public half.
- The index says of each key what it is, whose, since when and until when, and in which state.
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from services.cli.locks import locked
from services.kit.files import write_secret

INDEX: Final = "index.json"
_RSA_BITS: Final = 3072
_RSA_EXPONENT: Final = 65537


class KeyFolderError(Exception):
    """It cannot be done; the message says why and what to do."""


class Algorithm(StrEnum):
    """What a key is."""

    ED25519 = "ed25519"
    P256 = "p256"
    RSA = "rsa"


class State(StrEnum):
    """Whether a key is in use."""

    CURRENT = "current"
    FORMER = "former"
    REVOKED = "revoked"
    ENDED = "ended"


@dataclass(frozen=True)
class Entry:
    """A key.

    Args:
        name: under which it is asked for; a former one shares it with that which followed.
        turn: 1, and one more at each rotation.
        kind: what it is for.
        algorithm: name of an `Algorithm`.
        key_id: RFC 7638 thumbprint, of a certificate its `x5t#S256`.
        file: of the private key, in the folder.
        public_file: of the certificate or the public key, in the folder.
        made_at: ISO 8601.
        expires_at: ISO 8601, of a certificate; else empty.
        state: name of a `State`.
        names: URIs, hosts and uses of a certificate, to make its successor alike.
    """

    name: str
    turn: int
    kind: str
    algorithm: str
    key_id: str
    file: str
    public_file: str
    made_at: str
    expires_at: str = ""
    state: str = State.CURRENT
    names: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Made:
    """A new key, not written yet.

    Args:
        key: PEM, PKCS 8.
        public: text of the public file.
        key_id: see `Entry`.
        expires_at: see `Entry`.
    """

    key: str
    public: str
    key_id: str
    expires_at: str = ""


def new_key(algorithm: Algorithm, *, jwk: bool) -> Made:
    """Return a new key pair.

    Args:
        algorithm: of the key.
        jwk: the public half is written as JWK, with `kid`, `alg` and `use`; else as PEM.
    """
    private: Any
    library: Any
    if algorithm is Algorithm.ED25519:
        private, library, named = ed25519.Ed25519PrivateKey.generate(), OKPKey, "EdDSA"
    elif algorithm is Algorithm.P256:
        private, library, named = ec.generate_private_key(ec.SECP256R1()), ECKey, "ES256"
    else:
        private = rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        library, named = RSAKey, "PS256"
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    loaded: Any = library.import_key(pem)
    key_id = loaded.thumbprint()
    if jwk:
        members = loaded.as_dict(private=False) | {"kid": key_id, "alg": named, "use": "sig"}
        public = json.dumps(members, indent=1, sort_keys=True) + "\n"
    else:
        public = (
            private.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
    return Made(pem, public, key_id)


class KeyFolder:
    """The folder.

    Args:
        path: made when a key is; only its owner may enter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """Return every key, in the order in which they were made.

        Raises:
            KeyFolderError: the index cannot be read.
        """
        index = self.path / INDEX
        try:
            return [Entry(**item) for item in json.loads(index.read_text("utf-8"))]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise KeyFolderError(f"{index} cannot be used ({error}): restore it") from None

    def current(self, name: str) -> Entry:
        """Return the key of a name that is in use.

        Raises:
            KeyFolderError: there is none.
        """
        for entry in self.entries():
            if entry.name == name and entry.state == State.CURRENT:
                return entry
        raise KeyFolderError(
            f"there is no key {name} in use in {self.path}: `puhui keys list` names all"
        )

    def add(
        self, name: str, kind: str, algorithm: str, made: Made, now: datetime, **more: Any
    ) -> Entry:
        """Write a new key.

        Args:
            name: of the key.
            kind: what it is for.
            algorithm: of the key.
            made: the key.
            now: the time.
            more: further fields of `Entry`.

        Raises:
            KeyFolderError: there is one of this name.
            OSError: it cannot be written.
            BusyError: another process is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.path / INDEX):
            entries = self.entries()
            if any(entry.name == name for entry in entries):
                raise KeyFolderError(
                    f"there is a key {name} in {self.path}: rotate it by `puhui keys rotate "
                    f"{name}`, or choose another name"
                )
            entry = self._write(name, 1, kind, algorithm, made, now, more)
            self._keep([*entries, entry])
        return entry

    def rotate(self, name: str, made: Made, now: datetime) -> Entry:
        """Write the successor of a key, which stays as the former one.

        Raises:
            KeyFolderError: there is none in use.
            OSError: it cannot be written.
            BusyError: another process is at it.
        """
        with locked(self.path / INDEX):
            before = self.current(name)
            entries = self.entries()
            turn = max(entry.turn for entry in entries if entry.name == name) + 1
            more = {"names": before.names}
            entry = self._write(name, turn, before.kind, before.algorithm, made, now, more)
            former = replace(before, state=State.FORMER)
            self._keep([*(former if e == before else e for e in entries), entry])
        return entry

    def mark(self, entry: Entry, **changes: Any) -> Entry:
        """Change what the index says of a key.

        Raises:
            OSError: it cannot be written.
            BusyError: another process is at it.
        """
        changed = replace(entry, **changes)
        with locked(self.path / INDEX):
            self._keep([changed if found == entry else found for found in self.entries()])
        return changed

    def destroy(self, entry: Entry) -> None:
        """Delete a private key; the public half stays."""
        (self.path / entry.file).unlink(missing_ok=True)

    def _write(
        self,
        name: str,
        turn: int,
        kind: str,
        algorithm: str,
        made: Made,
        now: datetime,
        more: Mapping[str, Any],
    ) -> Entry:
        stem = name if turn == 1 else f"{name}.{turn}"
        public = f"{stem}.{'jwk' if made.public.startswith('{') else 'pem'}"
        entry = Entry(
            name=name,
            turn=turn,
            kind=kind,
            algorithm=algorithm,
            key_id=made.key_id,
            file=f"{stem}.key",
            public_file=public,
            made_at=now.isoformat(timespec="seconds"),
            expires_at=made.expires_at,
            **more,
        )
        _create(self.path / entry.file, made.key)
        try:
            _create(self.path / entry.public_file, made.public)
        except BaseException:
            self.destroy(entry)
            raise
        return entry

    def _keep(self, entries: list[Entry]) -> None:
        listed = json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"
        write_secret(self.path / INDEX, listed)


def _create(path: Path, content: str) -> None:
    """Write a file that is not there yet, whole or not at all, for its owner alone."""
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(pending)
        except FileExistsError:
            raise KeyFolderError(
                f"{path} is there already, and is not overwritten: move it"
            ) from None
    finally:
        pending.unlink(missing_ok=True)
