"""A gateway with real TLS at every listener and to the services behind it.

The certificates come from a development authority, which tests may use for more; `stranger` is
another one, that nobody trusts.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2

from services.gateway.main import Gateway, GatewayConfig, build
from services.kit.authority import Authority, Issued
from services.kit.clock import Clock, SystemClock
from services.kit.identity import new_key_pair
from services.kit.server import ServerConfig
from services.kit.tls import TlsConfig
from services.kit.workloads import TRUST_DOMAIN, spiffe_id
from tests.fakes.backend import Backend, start_backend

HOSTS = ("127.0.0.1", "localhost")
# What a gRPC client that was given only a certificate and a channel needs.
_OPTIONS = [("grpc.max_send_message_length", -1)]


@dataclass
class Shifted:
    """A clock that is ahead or behind."""

    by: timedelta

    def now(self) -> Any:
        """Return the time, shifted."""
        return SystemClock().now() + self.by


@dataclass
class Certified:
    """An authority and a folder for what it issues."""

    folder: Path
    authority: Authority = field(
        default_factory=lambda: Authority.create("tests", clock=SystemClock())
    )
    stranger: Authority = field(
        default_factory=lambda: Authority.create("stranger", clock=SystemClock())
    )

    def at(self, clock: Clock) -> Authority:
        """Return the same authority at another time."""
        return Authority.load(self.authority.certificate, self.authority.key, clock=clock)

    def write(self, name: str, issued: Issued, ca: str | None = None) -> TlsConfig:
        """Write a certificate's files, those of the same name over each other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = {part: self.folder / f"{name}.{part}" for part in ("crt", "key", "ca")}
        texts = (issued.certificate, issued.key, ca or self.authority.certificate)
        for path, text in zip(paths.values(), texts, strict=True):
            pending = path.with_suffix(".new")
            pending.write_text(text)
            pending.replace(path)
        return TlsConfig(*paths.values())

    def workload(self, service: str, trust_domain: str = TRUST_DOMAIN) -> TlsConfig:
        """Return the files of a service of ours with its SPIFFE id."""
        return self.write(service, self.service(service, trust_domain))

    def service(self, service: str, trust_domain: str = TRUST_DOMAIN) -> Issued:
        """Issue a certificate of a service of ours."""
        names = (spiffe_id(trust_domain, service),)
        return self.authority.issue(service, names=names, hosts=HOSTS)

    def participant(self, participant_id: str = "par_1") -> Issued:
        """Issue a certificate of an institution."""
        return self.authority.issue(participant_id, server=False)

    def credentials(self, issued: Issued | None = None) -> grpc.ChannelCredentials:
        """Return credentials of a gRPC client, with a certificate or none."""
        own = (issued.key.encode(), issued.certificate.encode()) if issued else (None, None)
        return grpc.ssl_channel_credentials(self.authority.certificate.encode(), *own)

    def context(self, issued: Issued | None = None) -> ssl.SSLContext:
        """Return the context of an HTTP client, with a certificate or none."""
        context = ssl.create_default_context(cadata=self.authority.certificate)
        if issued:
            paths = self.write(f"client-{issued.thumbprint}", issued)
            assert paths.certificate is not None
            context.load_cert_chain(paths.certificate, paths.key)
        return context


@dataclass
class Secured:
    """The gateway, what is behind it, and ways to call it.

    Args:
        gateway: with TLS.
        backend: what is behind it, with TLS too.
        certified: issues certificates.
        tls: the files of the gateway's certificate.
    """

    gateway: Gateway
    backend: Backend
    certified: Certified
    tls: TlsConfig

    def key(self, role: str, participant_id: str = "par_1", subject_id: str = "") -> str:
        """Return the API key of a new participant."""
        return self.backend.participants.issue(role, participant_id, subject_id)

    def channel(self, issued: Issued | None, port: int | None = None) -> grpc.aio.Channel:
        """Return a channel to the institutions' listener, or another one, with TLS."""
        target = f"127.0.0.1:{port or self.gateway.port}"
        credentials = self.certified.credentials(issued)
        return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)

    def http(self, issued: Issued | None = None) -> httpx2.AsyncClient:
        """Return a client of the HTTP listener with TLS."""
        url = f"https://127.0.0.1:{self.gateway.http_port}"
        return httpx2.AsyncClient(base_url=url, verify=self.certified.context(issued))


@asynccontextmanager
async def secured(folder: Path, **config: Any) -> AsyncIterator[Secured]:
    """Run a gateway and what is behind it, all with TLS.

    Args:
        folder: takes keys and certificates.
        config: of the gateway, beside what it needs.
    """
    certified = Certified(folder)
    private, public = new_key_pair()
    (folder / "identity.pem").write_text(private)
    backend = await start_backend(public, tls=certified.workload("datashare"))
    tls = certified.workload("entrance")
    settings = {
        "changes_every": timedelta(seconds=0.05),
        "scoring": f"127.0.0.1:{backend.scoring.port}",
        "datashare": f"127.0.0.1:{backend.datashare.port}",
        "people_listen": "127.0.0.1:0",
        "workload": certified.workload("gateway"),
        **config,
    }
    server = replace(settings.pop("server", ServerConfig(grace=0.1)), tls=tls)
    gateway = build(
        GatewayConfig(identity_private_key=folder / "identity.pem", server=server, **settings),
        SystemClock(),
    )
    await gateway.start()
    try:
        yield Secured(gateway, backend, certified, tls)
    finally:
        await gateway.stop()
        await asyncio.gather(backend.datashare.stop(), backend.scoring.stop())
