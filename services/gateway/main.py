"""The gateway's wiring: the only place where its parts meet."""

import asyncio
import contextlib
import functools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from services.gateway import issuers
from services.gateway.api_keys import ApiKeys
from services.gateway.clients import ClientAssertions
from services.gateway.directory import Clients, Directory, Persons, Revocations
from services.gateway.gate import Admission, current_product
from services.gateway.http.asgi import application
from services.gateway.http.marks import Marked
from services.gateway.http.server import HttpServer
from services.gateway.issuers import Issuers
from services.gateway.metering import CountedRefusals, Meter, MeteredGate, to_datashare
from services.gateway.oauth import TokenEndpoint
from services.gateway.policy.file import DEFAULT, Policies
from services.gateway.proof import Proof
from services.gateway.refusals import Refusals
from services.gateway.routes import (
    DATASHARE,
    GATEWAY,
    SCORING,
    Backend,
    access,
    answering,
    forwarding,
)
from services.gateway.servicer import GatewayServicer
from services.gateway.sign_in.provider import PATH, Provider
from services.gateway.state.buckets import Buckets, FallingBack, MemoryBuckets, RedisBuckets
from services.gateway.state.redis import Redis
from services.gateway.state.replays import MemoryReplays, RedisReplays
from services.gateway.tokens import AccessTokens
from services.gateway.turns import Turns, TurnsConfig
from services.kit import identity
from services.kit.calls import Timeouts
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.config import check_listen, is_loopback
from services.kit.health import HealthConfig, HealthServer
from services.kit.identity import Caller, IdentitySigner, read_private_key, read_public_key
from services.kit.ids import Ids, RandomIds
from services.kit.relay import Relayer
from services.kit.server import Listener, Server, ServerConfig
from services.kit.service import for_ever
from services.kit.telemetry import Telemetry, TelemetryConfig
from services.kit.tenant import PRODUCTION, SANDBOX, check_tenant
from services.kit.tls import TlsConfig, open_certificates

ITSELF = Caller("gateway", "GATEWAY")
ISSUER = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")


@dataclass(frozen=True)
class SignInConfig:
    """The sandbox's own OpenID provider; all of it, or none.

    Args:
        issuer: its URL, that of the gateway's HTTP followed by /sign-in.
        key: PEM file, Ed25519; signs its tokens.
        accounts: file of who may sign in, as `puhui sandbox person` writes it.
    """

    issuer: str | None = field(
        default=None, metadata={"help": "URL of the sandbox's own OpenID provider"}
    )
    key: Path | None = field(
        default=None, metadata={"help": "PEM file, Ed25519 private key that signs its tokens"}
    )
    accounts: Path | None = field(default=None, metadata={"help": "file of who may sign in there"})

    def __post_init__(self) -> None:
        given = [self.issuer, self.key, self.accounts]
        if any(given) and not all(given):
            raise ValueError("give issuer, key and accounts, or none of them")
        if self.issuer is not None and not self.issuer.endswith(PATH):
            raise ValueError(f"issuer must end in {PATH}")

    @property
    def on(self) -> bool:
        """Whether there is one."""
        return self.issuer is not None


@dataclass(frozen=True)
class GatewayConfig:
    """Configuration of the gateway, section `gateway`.

    Args:
        datashare: address of datashare, "host:port" or "dns:///host:port".
        scoring: address of scoring, likewise.
        identity_private_key: PEM file, Ed25519; signs who is calling.
        http_listen: where it listens for HTTP, with TLS if `server.tls` is set: a client may show
            a certificate. "host:port"; port 0 lets the system choose.
        people_listen: where it listens for gRPC with TLS that asks for no client's certificate, for
            firms and staff; empty is nowhere.
        plain_listen: of a sandbox, where it listens for gRPC without TLS, an address of this
            machine alone; empty is nowhere.
        plain_http_listen: likewise for HTTP.
        key_cache: how long datashare's answers about credentials count without asking again.
        changes_every: how often to ask for revocations.
        policy: TOML file that says which role may call what, for which product, and how much; it is
            read anew when it changes. The packaged one without it.
        policy_every: how often to look whether it changed.
        turns: how many calls run at once.
        server: where it listens for gRPC, institutions' if `server.tls` is set: a client must show
            a certificate.
        workload: the gateway's own certificate, which it shows to datashare and scoring.
        timeouts: how long calls may take.
        health: where probes and metrics are.
        telemetry: where traces go.
        tenant: "sandbox" or "production", which takes no API keys.
        issuer: the URL under which the gateway issues tokens, as clients reach it; without it, it
            issues none.
        token_key: PEM file, Ed25519; signs tokens.
        token_public_keys: PEM files of further keys whose tokens count, while keys change over.
        issuers: TOML file of others whose tokens count.
        redis: URL of what replicas share; without it each remembers for itself.
        sign_in: the sandbox's own OpenID provider.
    """

    datashare: str = field(metadata={"help": "address of datashare, host:port or dns:///host:port"})
    scoring: str = field(metadata={"help": "address of scoring, host:port or dns:///host:port"})
    identity_private_key: Path = field(metadata={"help": "PEM file, Ed25519 private key"})
    http_listen: str = field(default="127.0.0.1:0", metadata={"help": "host:port; port 0: any"})
    people_listen: str = field(
        default="", metadata={"help": "host:port of gRPC with TLS without client certificates"}
    )
    plain_listen: str = field(
        default="", metadata={"help": "loopback host:port of gRPC without TLS, of a sandbox"}
    )
    plain_http_listen: str = field(
        default="", metadata={"help": "loopback host:port of HTTP without TLS, of a sandbox"}
    )
    key_cache: timedelta = field(
        default=timedelta(seconds=5), metadata={"help": "how long credentials are remembered"}
    )
    changes_every: timedelta = field(
        default=timedelta(seconds=1), metadata={"help": "how often to ask for revocations"}
    )
    policy: Path = field(
        default=DEFAULT,
        metadata={"help": "TOML file: who may call what, and how much"},
    )
    policy_every: timedelta = field(
        default=timedelta(seconds=1), metadata={"help": "how often to look at the policy file"}
    )
    turns: TurnsConfig = field(default_factory=TurnsConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    workload: TlsConfig = field(default_factory=TlsConfig)
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: HealthConfig = field(default_factory=HealthConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    tenant: str = field(default=SANDBOX, metadata={"help": "sandbox or production"})
    issuer: str | None = field(
        default=None, metadata={"help": "https URL of the gateway as issuer of tokens"}
    )
    token_key: Path | None = field(
        default=None, metadata={"help": "PEM file, Ed25519 private key that signs tokens"}
    )
    token_public_keys: tuple[str, ...] = field(
        default=(), metadata={"help": "PEM files, Ed25519 public keys whose tokens count too"}
    )
    issuers: Path | None = field(
        default=None, metadata={"help": "TOML file of other issuers whose tokens count"}
    )
    redis: str | None = field(
        default=None, metadata={"help": "URL of what replicas share", "secret": True}
    )

    sign_in: SignInConfig = field(default_factory=SignInConfig)

    def __post_init__(self) -> None:
        check_listen("http_listen", self.http_listen)
        check_tenant(self.tenant)
        if self.tenant == PRODUCTION and self.sign_in.on:
            raise ValueError("sign_in is for a sandbox: list an OpenID provider in issuers")
        if self.issuer is not None and not ISSUER.fullmatch(self.issuer):
            raise ValueError(
                "issuer must be an https URL of a host alone, such as https://api.puhui.example"
            )
        if (self.issuer is None) != (self.token_key is None):
            raise ValueError("issuer and token_key must be set together, or neither")
        if self.tenant == PRODUCTION and self.issuer is None:
            raise ValueError("issuer must be set in production: institutions get tokens there")
        if not self.changes_every or not self.policy_every:
            raise ValueError("changes_every and policy_every must be longer than nothing")
        self._check_listeners()

    def _check_listeners(self) -> None:
        plain = {"plain_listen": self.plain_listen, "plain_http_listen": self.plain_http_listen}
        for name, address in {**plain, "people_listen": self.people_listen}.items():
            if address:
                check_listen(name, address)
        if self.tenant == PRODUCTION:
            if not self.server.tls.on or not self.workload.on:
                raise ValueError("server.tls and workload must be set in production")
            if any(plain.values()):
                raise ValueError("plain_listen and plain_http_listen are for a sandbox: unset them")
            if self.server.reflection:
                raise ValueError("server.reflection must be false in production")
        if not self.server.tls.on:
            if self.people_listen:
                raise ValueError("people_listen needs server.tls: set it")
            plain |= {"server.listen": self.server.listen, "http_listen": self.http_listen}
        for name, address in plain.items():
            if address and not is_loopback(address):
                raise ValueError(
                    f"{name} is without TLS and must be an address of this machine alone, such as "
                    "127.0.0.1:7443: set server.tls to be reached from others"
                )


class Gateway:
    """The entrance, over gRPC and HTTP; ready while datashare can be reached.

    Args:
        server: its gRPC side.
        http: its HTTP side.
        people: its gRPC side for people, where it has one.
        plain: its gRPC side without TLS, where it has one.
        plain_http: its HTTP side without TLS, where it has one.
        health: its probes and metrics.
        revocations: ends what is remembered of keys, and notices whether datashare answers.
        policies: who may call what, and how much.
        policy_every: how often to look whether that changed.
        meter: counts calls, and reports them.
        close: what is closed at the end, in this order.
    """

    def __init__(
        self,
        server: Server,
        http: HttpServer,
        people: Listener | None,
        plain: Listener | None,
        plain_http: HttpServer | None,
        health: HealthServer,
        revocations: Revocations,
        policies: Policies,
        policy_every: timedelta,
        meter: Meter,
        close: Sequence[Callable[[], Awaitable[None]]],
    ) -> None:
        self._server = server
        self._http = http
        self._people = people
        self._plain = plain
        self._plain_http = plain_http
        self._health = health
        self._revocations = revocations
        self._policies = policies
        self._policy_every = policy_every.total_seconds()
        self._meter = meter
        self._close = close
        self._following: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def port(self) -> int:
        """Where it serves gRPC; known once it started."""
        return self._server.port

    @property
    def http_port(self) -> int:
        """Where it serves HTTP; known once it started."""
        return self._http.port

    @property
    def people_port(self) -> int | None:
        """Where it serves gRPC to people, if anywhere; known once it started."""
        return self._people.port if self._people else None

    @property
    def plain_port(self) -> int | None:
        """Where it serves gRPC without TLS, if anywhere; known once it started."""
        return self._plain.port if self._plain else None

    @property
    def plain_http_port(self) -> int | None:
        """Where it serves HTTP without TLS, if anywhere; known once it started."""
        return self._plain_http.port if self._plain_http else None

    @property
    def health_port(self) -> int:
        """Where it serves probes and metrics; known once it started."""
        return self._health.port

    @property
    def ready(self) -> bool:
        """Whether datashare answered when it was last asked."""
        return self._health.ready

    async def start(self) -> None:
        """Listen, and begin to follow datashare.

        Raises:
            RuntimeError: the gRPC address is taken.
            OSError: another address is taken.
        """
        await self._health.start()
        await self._server.start(ready=False)
        await self._http.start()
        if self._plain_http:
            await self._plain_http.start()
        self._following = [
            asyncio.create_task(for_ever(work))
            for work in (
                lambda: self._revocations.follow(self._set_ready),
                lambda: self._policies.follow(self._policy_every),
                self._meter.run,
            )
        ]

    async def stop(self) -> None:
        """Stop being ready, finish what runs, end; once."""
        if self._stopping:
            return
        self._stopping = True
        self._health.ready = False
        served = [self._http, *([self._plain_http] if self._plain_http else [])]
        await asyncio.gather(self._server.stop(), *(http.stop() for http in served))
        # Revocations count to the last call.
        for following in self._following:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
        await self._meter.close()
        for close in self._close:
            await close()
        await self._health.stop()

    async def _set_ready(self, ready: bool) -> None:
        if ready != self.ready and not self._stopping:
            self._health.ready = ready
            await self._server.set_ready(ready=ready)


def build(config: GatewayConfig, clock: Clock, ids: Ids | None = None) -> Gateway:
    """Return the gateway, ready to start.

    Raises:
        ConfigError: a file that the configuration names cannot be used.
    """
    telemetry = Telemetry.setup("gateway", config.telemetry)
    key = read_private_key("gateway.identity_private_key", config.identity_private_key)
    signer = IdentitySigner(key, identity.GATEWAY, clock, config.tenant)
    certificates = open_certificates("gateway.server.tls", config.server.tls, telemetry.meter)
    workload = open_certificates("gateway.workload", config.workload, telemetry.meter)
    datashare = Channel(
        config.datashare,
        lambda: signer.sign(ITSELF, identity.DATASHARE),
        certificates=workload,
    )
    scoring = Channel(
        config.scoring, lambda: signer.sign(ITSELF, identity.SCORING), certificates=workload
    )
    directory = Directory(datashare)
    keys = ApiKeys(directory.verify, clock, config.key_cache)
    clients = Clients(directory, clock, config.key_cache)
    persons = Persons(directory, clock, config.key_cache)
    others = Issuers(issuers.load(config.issuers) if config.issuers else (), clock)
    tokens = _tokens(config, clock)
    taken = None if config.tenant == PRODUCTION else keys
    proof = Proof(tokens, others, clients, persons, taken, clock)
    refused = Refusals(telemetry.meter)
    meter = Meter(to_datashare(datashare), clock, ids or RandomIds(clock), telemetry.meter)
    counted = CountedRefusals(refused, meter)
    shared = Redis(config.redis, config.tenant) if config.redis else None
    policies = Policies(config.policy, access(), telemetry.meter)
    buckets = _buckets(shared, telemetry)
    gate = Admission(
        policies,
        buckets,
        Turns(config.turns),
        clock,
        telemetry.meter,
        refused,
        sandbox=config.tenant == SANDBOX,
    )
    server = Server(
        config.server,
        proof.authenticate,
        telemetry,
        clock,
        internal=False,
        timeouts=config.timeouts,
        refused=counted,
        gate=MeteredGate(gate, meter, current_product),
        certificates=certificates,
        tenant=config.tenant,
    )
    people = plain = plain_http = None
    if config.people_listen:
        people = server.listen(Listener(config.people_listen, certificates))
    if config.plain_listen:
        plain = server.listen(Listener(config.plain_listen))
    routes = answering(GATEWAY, GatewayServicer(gate, config.tenant))
    for package, channel, audience in (
        (DATASHARE, datashare, identity.DATASHARE),
        (SCORING, scoring, identity.SCORING),
    ):
        backend = Backend(channel, Relayer(channel, clock))
        sign = functools.partial(signer.sign, audience=audience)
        routes += forwarding(package, backend, sign, proof.again)
    for route in routes:
        server.add_endpoint(route.endpoint)
    entrance = None
    if tokens is not None:
        replays = RedisReplays(shared, clock) if shared else MemoryReplays(clock)
        assertions = ClientAssertions(clients.find, replays, tokens.issuer, clock)
        entrance = TokenEndpoint(tokens, assertions, buckets, counted, clock)
    served = Marked(
        application(
            server.pipeline,
            routes,
            more=[
                *(entrance.routes() if entrance else ()),
                *(provider.routes() if (provider := _provider(config, clock)) else ()),
            ],
        ),
        config.tenant,
    )
    ending = (config.server.grace, config.server.drain, clock)
    http = HttpServer(served, config.http_listen, *ending, certificates)
    if config.plain_http_listen:
        plain_http = HttpServer(served, config.plain_http_listen, *ending)
    return Gateway(
        server,
        http,
        people,
        plain,
        plain_http,
        HealthServer(config.health, telemetry.render_metrics),
        Revocations(directory, keys, [clients, persons], config.changes_every),
        policies,
        config.policy_every,
        meter,
        close=[
            datashare.close,
            scoring.close,
            others.close,
            *([shared.close] if shared else []),
            telemetry.close,
        ],
    )


def _buckets(shared: Redis | None, telemetry: Telemetry) -> Buckets:
    own = MemoryBuckets()
    return FallingBack(RedisBuckets(shared), own, telemetry.meter) if shared else own


def _provider(config: GatewayConfig, clock: Clock) -> Provider | None:
    own = config.sign_in
    if own.issuer is None or own.key is None or own.accounts is None:
        return None
    key = read_private_key("gateway.sign_in.key", own.key)
    return Provider(own.issuer, config.issuer or own.issuer, key, own.accounts, clock)


def _tokens(config: GatewayConfig, clock: Clock) -> AccessTokens | None:
    if config.issuer is None or config.token_key is None:
        return None
    private = read_private_key("gateway.token_key", config.token_key)
    public = [
        read_public_key("gateway.token_public_keys", Path(path))
        for path in config.token_public_keys
    ]
    return AccessTokens(private, public, config.issuer, clock)
