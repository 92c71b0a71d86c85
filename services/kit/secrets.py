"""Secrets that a configuration names instead of holding them.

A setting that is a path may say `kms:NAME` instead: what the key management service keeps under
that name. A setting that is itself secret, such as the URL of a database with its password, may say
`kms:NAME`, or `file:PATH`. No secret has to stand in an option or in the environment.

Invariants:

- What comes from the service is kept in memory alone: a path that was resolved names an anonymous
  file of this process (memfd), which no other user can open, and which ends with the process.
- The file behind a resolved path is replaced whole, never written in place: who reads it finds the
  old secret or the new one. So keys change without a restart where files are read anew.
- A secret that was read once stays while the service cannot be reached. It is never in a message.
- The service is talked to over HTTPS alone, with the token in a file that is read at every request,
  as agents renew it there.
"""

import asyncio
import http.client
import json
import os
import re
import ssl
import stat
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Protocol

import structlog

from services.kit.config import KMS, ConfigError, SecretError, load

FILE: Final = "file:"
SECTION: Final = "secrets"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_FIELD: Final = "value"
_TIMEOUT_S: Final = 10.0
_LONGEST: Final = 1024 * 1024

_log = structlog.get_logger()


class SecretSource(Protocol):
    """Keeps secrets by name."""

    def read(self, name: str) -> bytes:
        """Return a secret as it is now.

        Args:
            name: parts of letters, digits, `_`, `-` and `.`, with `/` between them.

        Raises:
            SecretError: there is none of this name, or it cannot be had.
        """
        ...


class FileSecrets:
    """Secrets in a folder, one file each: mounted by an orchestrator or written by an agent.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        """Return a secret; see `SecretSource`."""
        _check(name)
        path = self._folder / name
        try:
            mode, content = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise SecretError(
                f"{name} is not in {self._folder} ({error.strerror}): put it there"
            ) from None
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise SecretError(f"others can read or change {path}: chmod 600 {path}")
        return content


class VaultSecrets:
    """Secrets of a Vault-compatible service, its key-value engine of version 2.

    The secret `datashare/kek` is the field `value` of the entry at that path.

    Args:
        address: "https://host:port".
        token_file: holds the token that it is shown.
        ca_file: PEM certificates that sign the service's; None: those that the system trusts.
        mount: of the engine.

    Raises:
        ConfigError: the address or the certificates cannot be used.
    """

    def __init__(
        self, address: str, token_file: Path, ca_file: Path | None = None, mount: str = "secret"
    ) -> None:
        try:
            parts = urllib.parse.urlsplit(address)
            self._host, self._port = parts.hostname or "", parts.port or 443
        except ValueError:
            raise _wrong("address", "it is no URL, such as https://kms.internal:8200") from None
        if parts.scheme != "https" or not self._host or parts.path not in ("", "/") or parts.query:
            raise _wrong("address", "must be https and a host, such as https://kms.internal:8200")
        self._mount = mount
        self._token_file = token_file
        try:
            self._context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _wrong("ca_file", f"{ca_file} holds no certificates ({error})") from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def read(self, name: str) -> bytes:
        """Return a secret; see `SecretSource`."""
        _check(name)
        status, body = self._get(f"/v1/{self._mount}/data/{name}", name)
        if status == http.HTTPStatus.NOT_FOUND:
            raise SecretError(f"the KMS has no {name}: write it there, its field {_FIELD!r}")
        if status in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.UNAUTHORIZED):
            raise SecretError(
                f"the KMS refuses {name} to the token in {self._token_file}: renew it, or let its "
                "policy read that path"
            )
        if status != http.HTTPStatus.OK:
            raise SecretError(f"the KMS answers {status} for {name}: is it sealed?")
        try:
            value = json.loads(body)["data"]["data"][_FIELD]
        except (ValueError, KeyError, TypeError):
            value = None
        if not isinstance(value, str):
            raise SecretError(f"{name} has no text in its field {_FIELD!r} in the KMS: write it so")
        return value.encode()

    def _get(self, path: str, name: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT_S, context=self._context
        )
        try:
            # No redirects, no proxies: the token is for this host alone.
            connection.request("GET", path, headers={"X-Vault-Token": self._token()})
            response = connection.getresponse()
            return response.status, response.read(_LONGEST)
        except (OSError, http.client.HTTPException) as error:
            raise SecretError(
                f"the KMS did not answer for {name} ({type(error).__name__}: "
                f"{getattr(error, 'strerror', None) or 'no HTTP'})"
            ) from None
        finally:
            connection.close()

    def _token(self) -> str:
        try:
            token = FileSecrets(self._token_file.parent).read(self._token_file.name)
        except SecretError as error:
            raise SecretError(f"no token for the KMS: {error}") from None
        text = token.decode("ascii", "replace").strip()
        if not text.isprintable() or not text:
            raise SecretError(f"there is no token in {self._token_file}: write it there")
        return text


@dataclass(frozen=True)
class SecretsConfig:
    """Where secrets are that other settings name, section `secrets`.

    Args:
        address: of a Vault-compatible service.
        token_file: holds the token that it is shown.
        ca_file: PEM certificates that sign the service's.
        mount: of its key-value engine, version 2.
        folder: instead of a service, a folder with a file per secret.
        refresh: how often secrets are read anew.
    """

    address: str = field(default="", metadata={"help": "https://host:port of the KMS"})
    token_file: Path | None = field(default=None, metadata={"help": "file with the KMS' token"})
    ca_file: Path | None = field(default=None, metadata={"help": "certificates that sign the KMS'"})
    mount: str = field(default="secret", metadata={"help": "of the KMS' key-value engine"})
    folder: Path | None = field(
        default=None, metadata={"help": "instead of a KMS: a folder with a file per secret"}
    )
    refresh: timedelta = field(
        default=timedelta(minutes=1), metadata={"help": "how often secrets are read anew"}
    )

    def __post_init__(self) -> None:
        if self.address and self.folder:
            raise ValueError("address and folder are two places: set one of them")
        if self.address and self.token_file is None:
            raise ValueError("token_file must be set where address is")
        if not _NAME.fullmatch(self.mount):
            raise ValueError("mount must be a path of the KMS, such as secret")
        if self.refresh <= timedelta():
            raise ValueError("refresh must be longer than nothing")

    def source(self) -> SecretSource | None:
        """Return where secrets are; None: nowhere.

        Raises:
            ConfigError: the address or the certificates cannot be used.
        """
        if self.folder:
            return FileSecrets(self.folder)
        if self.address and self.token_file:
            return VaultSecrets(self.address, self.token_file, self.ca_file, self.mount)
        return None


class References:
    """Resolves what settings name; while it runs, reads again what may have changed.

    Args:
        source: where secrets are; None: nowhere.
        refresh: how often they are read anew.
    """

    def __init__(
        self, source: SecretSource | None, refresh: timedelta = timedelta(minutes=1)
    ) -> None:
        self._source = source
        self._refresh_s = refresh.total_seconds()
        self._held: dict[str, tuple[int, bytes]] = {}
        self._running: asyncio.Task[None] | None = None

    @classmethod
    def configured(cls, environ: Mapping[str, str], file: Path | None) -> "References":
        """Return what the environment and a file configure.

        Raises:
            ConfigError: they do it wrongly.
        """
        config = load(SecretsConfig, SECTION, environ, file)
        return cls(config.source(), config.refresh)

    def path(self, path: Path) -> Path:
        """Return a path that can be read: the same, or that of the secret which it names.

        Raises:
            SecretError: the secret cannot be had.
        """
        text = str(path)
        if not text.startswith(KMS):
            return path
        name = text.removeprefix(KMS)
        if name not in self._held:
            content = self._read(name)
            self._held[name] = (_anonymous(content), content)
        return Path(f"/proc/self/fd/{self._held[name][0]}")

    def text(self, value: str) -> str:
        """Return a secret setting: the same, or what the secret or the file holds which it names.

        Raises:
            SecretError: it cannot be had.
        """
        if value.startswith(KMS):
            content = self._read(value.removeprefix(KMS))
        elif value.startswith(FILE):
            path = Path(value.removeprefix(FILE))
            content = FileSecrets(path.parent).read(path.name)
        else:
            return value
        try:
            return content.decode().strip()
        except UnicodeDecodeError:
            raise SecretError("what it names is not text in UTF-8: write it as text") from None

    def refresh(self) -> list[str]:
        """Read every secret behind a path again.

        Returns:
            The names of those that changed.
        """
        changed = []
        for name, (descriptor, before) in list(self._held.items()):
            try:
                content = self._read(name)
            except SecretError as error:
                _log.warning(
                    "a secret could not be read anew, the former stays", problem=str(error)
                )
                continue
            if content == before:
                continue
            fresh = _anonymous(content)
            # In one step: who opens the path gets the whole of one or of the other.
            os.dup2(fresh, descriptor, inheritable=False)
            os.close(fresh)
            self._held[name] = (descriptor, content)
            changed.append(name)
        return changed

    async def start(self) -> None:
        """Begin to read secrets anew, where any is held."""
        if self._held:
            self._running = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End it."""
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            for name in await asyncio.to_thread(self.refresh):
                _log.info("a secret changed", name=name)

    def _read(self, name: str) -> bytes:
        if self._source is None:
            raise SecretError(
                f"no KMS is configured for {name}: set PUHUI_SECRETS_ADDRESS and "
                "PUHUI_SECRETS_TOKEN_FILE, or PUHUI_SECRETS_FOLDER"
            )
        return self._source.read(name)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SecretError(f"{name!r} names no secret: give words, with / between them")


def _anonymous(content: bytes) -> int:
    descriptor = os.memfd_create("puhui-secret", os.MFD_CLOEXEC)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    return descriptor


def _wrong(name: str, problem: str) -> ConfigError:
    return ConfigError([f"{SECTION}.{name}: {problem}"])
