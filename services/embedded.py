"""All services in one process, on one event loop, with keys and databases in one folder.

For a laptop, the demo and tests. What a deployment is given as Secrets is made here at the first
start and kept: identity keys, the keys of counterparties, subjects and data keys, the platform's
signing key, the operator's API key. Whatever the environment or the file configures (a PostgreSQL
database, a port) wins over what is implied here.

The gateway is at 127.0.0.1:7443 and, over HTTP, 127.0.0.1:7480, both without TLS, for this machine
alone. With TLS it is at 7444 for institutions, which show a certificate, at 7445 for people, and
over HTTP at 7481. Certificates come from a development authority, `keys/authority.crt`, and are
issued anew at each start; the services speak to each other by them, too. The rest takes any free
port. Once everything serves, `endpoints.json` in the folder names the addresses. Only the owner of
the process can read what it writes.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from joserfc.jwk import OKPKey

from services.datashare import main as datashare
from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import new_key
from services.gateway import main as gateway
from services.gateway.issuers import PERSONS
from services.gateway.sign_in.provider import ALGORITHM, PATH
from services.kit import config as configuration
from services.kit.authority import Authority
from services.kit.clock import SystemClock
from services.kit.files import write_secret
from services.kit.identity import new_key_pair
from services.kit.ids import RandomIds
from services.kit.ports import free_port
from services.kit.secrets import References
from services.kit.service import Runnable, run_until_signal
from services.kit.workloads import TRUST_DOMAIN, spiffe_id
from services.scoring import main as scoring
from services.scoring.models.signing import PUBLIC, key_at, platform_key

ENDPOINTS = "endpoints.json"
OPERATOR_KEY = "operator.key"
RUNNING = ".running"
"""Locked, shared, while a platform runs in the folder; a reset wants it alone."""
ACCOUNTS = "accounts.json"
_HOST = "127.0.0.1"
_LISTEN = {
    "plain_listen": f"{_HOST}:7443",
    "plain_http_listen": f"{_HOST}:7480",
    "server_listen": f"{_HOST}:7444",
    "people_listen": f"{_HOST}:7445",
    "http_listen": f"{_HOST}:7481",
}
_HOSTS = (_HOST, "localhost")

_log = structlog.get_logger()


@dataclass(frozen=True)
class Folder:
    """The folder of an embedded platform.

    Args:
        path: made if it is missing; only its owner may enter.
    """

    path: Path

    def prepare(self) -> None:
        """Make what is missing, folders and keys, and keep others out.

        Raises:
            ConfigError: the folder belongs to somebody else, or is also used for something else.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keep_others_out()
        for name in ("keys", "models"):
            (self.path / name).mkdir(exist_ok=True, mode=0o700)
        for name in ("gateway", "scoring"):
            if not self.key(f"{name}.pub").exists():
                private, public = new_key_pair()
                write_secret(self.key(f"{name}.pem"), private)
                write_secret(self.key(f"{name}.pub"), public)
        if not self.key("counterparty.key").exists():
            write_secret(self.key("counterparty.key"), secrets.token_hex(32))
        if not self.key("subject-token.key").exists():
            write_secret(self.key("subject-token.key"), secrets.token_hex(32))
        if not self.key("sandbox-proof.key").exists():
            write_secret(self.key("sandbox-proof.key"), secrets.token_hex(32))
        if not self.key("keks.toml").exists():
            ring = f'current = "1"\n\n[keys]\n1 = "{secrets.token_hex(32)}"\n'
            write_secret(self.key("keks.toml"), ring)
        for name in ("token.pem", "sign-in.pem"):
            if not self.key(name).exists():
                write_secret(self.key(name), new_key_pair()[0])
        if not self.key("signing.pem").exists():
            write_secret(self.key("signing.pem"), new_key(Suite.EDDSA))
        self._certify()
        key_at(platform_key(self.path))
        key_at(self.key("reports.pem"))
        if not (self.path / OPERATOR_KEY).exists():
            api_key = f"key_operator.{secrets.token_urlsafe(32)}"
            write_secret(self.path / OPERATOR_KEY, api_key)

    def _keep_others_out(self) -> None:
        found = self.path.stat()
        if not found.st_mode & 0o077:
            return
        # A folder such as /tmp or a home must not be closed to those who use it.
        ours = (self.path / "keys").is_dir() or not any(self.path.iterdir())
        if found.st_uid != os.geteuid() or not ours:
            problem = "others can enter it: give a new folder, or one of yours with mode 0700"
            raise configuration.ConfigError([f"--data-dir {self.path}: {problem}"])
        self.path.chmod(0o700)

    def _certify(self) -> None:
        """Issue the certificates of every service, by an authority that stays the same."""
        clock = SystemClock()
        certificate, key = self.key("authority.crt"), self.key("authority.pem")
        if certificate.exists():
            authority = Authority.load(certificate.read_text(), key.read_text(), clock=clock)
        else:
            authority = Authority.create("Puhui on this machine", clock=clock, days=3650)
            write_secret(key, authority.key)
            write_secret(certificate, authority.certificate)
        for name in ("entrance", "gateway", "scoring", "datashare"):
            names = () if name == "entrance" else (spiffe_id(TRUST_DOMAIN, name),)
            issued = authority.issue(name, names=names, hosts=_HOSTS, days=3650)
            write_secret(self.key(f"{name}-tls.pem"), issued.key)
            write_secret(self.key(f"{name}.crt"), issued.certificate)

    def sign_in(self, issuer: str, audience: str) -> dict[str, Any]:
        """Return what is implied of the OpenID provider, whose tokens the gateway takes.

        Args:
            issuer: its URL.
            audience: for whom its tokens are: the gateway's own issuer.
        """
        key = OKPKey.import_key(self.key("sign-in.pem").read_text())
        public = {**key.as_dict(private=False), "kid": key.thumbprint()}
        write_secret(self.key("sign-in.jwks"), json.dumps({"keys": [public]}))
        entry = {
            "issuer": issuer,
            "kind": PERSONS,
            "audience": audience,
            "jwks_file": "sign-in.jwks",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in entry.items()]
        lines = ["[[issuers]]", *lines, f'algorithms = ["{ALGORITHM}"]', ""]
        write_secret(self.key("issuers.toml"), "\n".join(lines))
        return {
            "issuers": self.key("issuers.toml"),
            "sign_in_issuer": issuer,
            "sign_in_key": self.key("sign-in.pem"),
            "sign_in_accounts": self.path / ACCOUNTS,
        }

    def tls(self, setting: str, name: str) -> dict[str, Path]:
        """Return what is implied of a `TlsConfig`.

        Args:
            setting: the field that has it.
            name: whose certificate it is.
        """
        return {
            f"{setting}_certificate": self.key(f"{name}.crt"),
            f"{setting}_key": self.key(f"{name}-tls.pem"),
            f"{setting}_ca": self.key("authority.crt"),
        }

    def key(self, name: str) -> Path:
        """Return where a key is."""
        return self.path / "keys" / name

    def database(self, name: str) -> str:
        """Return the URL of a service's SQLite database."""
        return f"sqlite:///{(self.path / f'{name}.db').absolute()}"

    def operator_key(self) -> tuple[str, str]:
        """Return the operator's key id and the SHA-256 of its secret, in hexadecimal."""
        key_id, _, secret = (self.path / OPERATOR_KEY).read_text().strip().partition(".")
        return key_id, hashlib.sha256(secret.encode()).hexdigest()


class Embedded:
    """The three services; each starts when the addresses it needs are known.

    Args:
        folder: where everything is.
        environ: environment variables, which win.
        file: a TOML file, or None.
    """

    def __init__(self, folder: Folder, environ: Mapping[str, str], file: Path | None) -> None:
        self._folder = folder
        self._environ = environ
        self._file = file
        self._references = References.configured(environ, file)
        self._running: list[Runnable] = []
        self._lock: int | None = None
        self.endpoints: dict[str, Any] = {}

    async def start(self) -> None:
        """Migrate, then start datashare, scoring and the gateway; all of them, or none.

        Raises:
            ConfigError: something is not configured right, or an address of the gateway's is taken.
        """
        try:
            await self._start_all()
        except BaseException:
            await self.stop()
            raise

    async def _start_all(self) -> None:
        folder, clock = self._folder, SystemClock()
        folder.prepare()
        self._lock = _lock(folder.path / RUNNING)
        ids = RandomIds(clock)
        entrance = {
            "identity_private_key": folder.key("gateway.pem"),
            "issuer": f"https://{_HOST}",
            "token_key": folder.key("token.pem"),
            **folder.tls("server_tls", "entrance"),
            **folder.tls("workload", "gateway"),
            **_LISTEN,
        }
        # Before anything is touched that another platform in this folder may be using.
        planned: gateway.GatewayConfig = self._load(
            gateway.GatewayConfig, "gateway", entrance | {"datashare": _HOST, "scoring": _HOST}
        )
        check_free(planned)
        entrance["issuer"] = f"https://{self._fixed('http_listen', planned.http_listen)}"
        if planned.plain_http_listen:
            at = self._fixed("plain_http_listen", planned.plain_http_listen)
            entrance |= folder.sign_in(f"http://{at}{PATH}", str(entrance["issuer"]))
        data_config = self._data_config()
        datashare.migrate(data_config)
        data = await self._start(lambda: datashare.build(data_config, clock, ids))
        score_config = self._score_config(f"{_HOST}:{data.port}")
        scoring.migrate(score_config)
        score = await self._start(lambda: scoring.build(score_config, clock, ids))
        gate_config = self._load(
            gateway.GatewayConfig,
            "gateway",
            entrance | {"datashare": f"{_HOST}:{data.port}", "scoring": f"{_HOST}:{score.port}"},
        )
        gate = await self._start(lambda: gateway.build(gate_config, clock))
        await self._references.start()
        self._running.append(self._references)
        self.endpoints = {
            **self._entrances(gate),
            "datashare": f"{_HOST}:{data.port}",
            "scoring": f"{_HOST}:{score.port}",
            "health": {
                "gateway": f"{_HOST}:{gate.health_port}",
                "datashare": f"{_HOST}:{data.health_port}",
                "scoring": f"{_HOST}:{score.health_port}",
            },
        }

    def _fixed(self, setting: str, listen: str) -> str:
        """Return the address that a setting will have, known before it is listened on."""
        host, _, port = listen.rpartition(":")
        if port == "0":
            port = str(free_port(host.strip("[]")))
            variable = f"{configuration.PREFIX}_GATEWAY_{setting}".upper()
            self._environ = {**self._environ, variable: f"{host}:{port}"}
        return f"{_HOST if host == '0.0.0.0' else host}:{port}"  # noqa: S104 - no address to call

    def _entrances(self, gate: gateway.Gateway) -> dict[str, str]:
        """Return where the gateway is; without TLS where that is all that is configured."""
        ports = {
            "gateway": gate.plain_port or gate.port,
            "http": gate.plain_http_port or gate.http_port,
            "institutions": gate.port,
            "people": gate.people_port,
            "https": gate.http_port,
        }
        return {name: f"{_HOST}:{port}" for name, port in ports.items() if port}

    async def maintain(self, action: str, tell: Callable[[str], None], *, apply: bool) -> None:
        """Do an operator's work on the keys of this folder; see `datashare.main.maintain`.

        Raises:
            ConfigError: something is not configured right, or there is no platform here.
        """
        if not (self._folder.path / "keys").is_dir():
            problem = "no platform has been started here: name the folder of one"
            raise configuration.ConfigError([f"--data-dir {self._folder.path}: {problem}"])
        config = self._data_config()
        await datashare.maintain(config, action, SystemClock(), tell, apply=apply)

    def databases(self) -> tuple[str, str]:
        """Return the URLs of datashare's and of scoring's database.

        Raises:
            ConfigError: something is not configured right.
        """
        return self._data_config().database_url, self._score_config(_HOST).database_url

    def _score_config(self, datashare_address: str) -> scoring.ScoringConfig:
        folder = self._folder
        implied = {
            "identity_private_key": folder.key("scoring.pem"),
            "identity_gateway_public_key": folder.key("gateway.pub"),
            "datashare": datashare_address,
            "database_url": folder.database("scoring"),
            "models_dir": folder.path / "models",
            "trusted_model_keys": f"{platform_key(folder.path)}{PUBLIC}",
            "report_key": folder.key("reports.pem"),
            **folder.tls("server_tls", "scoring"),
        }
        config: scoring.ScoringConfig = self._load(scoring.ScoringConfig, "scoring", implied)
        return config

    def _data_config(self) -> datashare.DatashareConfig:
        folder = self._folder
        key_id, key_sha256 = folder.operator_key()
        implied = {
            "identity_gateway_public_key": folder.key("gateway.pub"),
            "identity_scoring_public_key": folder.key("scoring.pub"),
            "database_url": folder.database("datashare"),
            "counterparty_key": folder.key("counterparty.key"),
            "kek_file": folder.key("keks.toml"),
            "subject_token_key": folder.key("subject-token.key"),
            "sandbox": "true",
            "sandbox_proof_key": folder.key("sandbox-proof.key"),
            "signing_key": folder.key("signing.pem"),
            "notices_private_receivers": "true",
            "notices_message_folder": folder.path / "messages",
            "bootstrap_operator_key_id": key_id,
            "bootstrap_operator_key_sha256": key_sha256,
            **folder.tls("server_tls", "datashare"),
        }
        config: datashare.DatashareConfig = self._load(
            datashare.DatashareConfig, "datashare", implied
        )
        return config

    async def stop(self) -> None:
        """Stop the gateway first, datashare last."""
        if self.endpoints:  # else they are those of another platform in this folder
            (self._folder.path / ENDPOINTS).unlink(missing_ok=True)
        for part in reversed(self._running):
            await part.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _start(self, build: Callable[[], Any]) -> Any:
        async def begin() -> Any:
            part = build()
            await part.start()
            return part

        # In a task of its own, whose log lines name this service and no other.
        part = await asyncio.create_task(begin())
        self._running.append(part)
        return part

    def _load(self, cls: type[Any], section: str, implied: Mapping[str, object]) -> Any:
        variables = {
            f"{configuration.PREFIX}_{section}_{name}".upper(): str(value)
            for name, value in implied.items()
        }
        return configuration.load(
            cls,
            section,
            self._environ,
            self._file,
            implied=variables,
            secrets=self._references,
        )


def _lock(path: Path) -> int:
    """Return what says, until it is closed, that a platform runs here.

    Raises:
        ConfigError: it is being reset.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        problem = "it is being reset: wait until that is done"
        raise configuration.ConfigError([f"--data-dir {path.parent}: {problem}"]) from None
    return handle


def check_free(config: gateway.GatewayConfig) -> None:
    """Refuse addresses that the gateway cannot listen on.

    Raises:
        ConfigError: naming each and its key.
    """
    listens = {
        "server.listen": config.server.listen,
        "people_listen": config.people_listen,
        "http_listen": config.http_listen,
        "plain_listen": config.plain_listen,
        "plain_http_listen": config.plain_http_listen,
    }
    problems = []
    for key, address in listens.items():
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            socket.create_server((host.strip("[]"), int(port)), family=family).close()
        except OSError as error:
            variable = f"PUHUI_GATEWAY_{key.replace('.', '_').upper()}"
            problems.append(
                f"gateway.{key}: {address} cannot be listened on ({error.strerror}): stop what "
                f"listens there, or set {variable} to another address; port 0 is any free one"
            )
    if problems:
        raise configuration.ConfigError(problems)


async def serve(data_dir: Path, environ: Mapping[str, str], file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT, and say where."""
    os.umask(0o077)
    folder = Folder(data_dir)
    platform = Embedded(folder, environ, file)
    parts: Sequence[Runnable] = [platform]

    def announce() -> None:
        pending = data_dir / f".{ENDPOINTS}"
        pending.write_text(json.dumps(platform.endpoints, indent=1))
        pending.replace(data_dir / ENDPOINTS)
        at, http = platform.endpoints["gateway"], f"http://{platform.endpoints['http']}"
        if sys.stderr.isatty():
            told = f"Puhui serves: gateway {at}, HTTP {http} ({http}/docs). Ctrl-C stops it."
            print(told, file=sys.stderr)  # noqa: T201 - for who sits before it
        else:
            _log.info("serving", gateway=at, http=http, stop="SIGTERM or SIGINT")

    await run_until_signal(parts, announce)
