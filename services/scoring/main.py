"""Scoring's wiring: the only place where its parts meet."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rfc8785 import dumps as canonical

from puhui.scoring.v1 import (
    decisions_pb2_grpc,
    models_pb2_grpc,
    products_pb2_grpc,
    registry_pb2_grpc,
    reports_pb2_grpc,
    scoring_pb2_grpc,
)
from services.kit import migrations
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.config import ConfigError, check_least
from services.kit.db import Database, Transactions, check_settings
from services.kit.health import HealthConfig, HealthServer
from services.kit.identity import (
    DATASHARE,
    GATEWAY,
    SCORING,
    Caller,
    IdentitySigner,
    IdentityVerifier,
    read_private_key,
    read_public_key,
)
from services.kit.ids import Ids
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.service import Service, again_and_again
from services.kit.telemetry import Telemetry, TelemetryConfig
from services.kit.tenant import PRODUCTION, SANDBOX, check_tenant
from services.kit.tenant_store import claim_database
from services.kit.tls import open_certificates
from services.kit.workloads import TRUST_DOMAIN, Workloads, check_internal
from services.scoring import schema
from services.scoring.decisions.app import Scoring
from services.scoring.decisions.datashare import DatashareSummaries
from services.scoring.decisions.model import ServedModel
from services.scoring.decisions.servicer import DecisionServicer, ScoringServicer
from services.scoring.decisions.store import DecisionStore
from services.scoring.models.folder import read_folder
from services.scoring.models.served import ServedModels, found
from services.scoring.models.servicer import ModelServicer
from services.scoring.models.signing import trusted_keys
from services.scoring.products.app import ScoreProducts
from services.scoring.products.datashare import DatasharePlatform
from services.scoring.products.domain import Product
from services.scoring.products.loader import ProductError, load
from services.scoring.products.servicer import ProductServicer
from services.scoring.reevaluations.app import DisputedSince, Follow, ListReevaluations
from services.scoring.reevaluations.feed import DatashareFeed
from services.scoring.reevaluations.store import ReevaluationStore
from services.scoring.registry.app import SEND_EVERY, ChangeRegistry, SendLeaves, TellRegistry
from services.scoring.registry.log import DatashareLog
from services.scoring.registry.metrics import RegistryMetrics
from services.scoring.registry.servicer import RegistryServicer
from services.scoring.registry.store import EventStore
from services.scoring.reports.app import MakeReport
from services.scoring.reports.content import CONTENT
from services.scoring.reports.directory import DatashareNames
from services.scoring.reports.keys import read_report_keys
from services.scoring.reports.pages import FilePages
from services.scoring.reports.pdf import Typesetter
from services.scoring.reports.scales import ModelScales
from services.scoring.reports.servicer import ReportServicer, told
from services.scoring.shadow.app import FORGET_EVERY, PATIENCE_S, Shadow, TellShadow
from services.scoring.shadow.store import DifferenceStore

MIGRATIONS = Path(__file__).parent / "migrations"
ITSELF = Caller("scoring", "SCORING")


@dataclass(frozen=True)
class ScoringConfig:
    """Configuration of scoring, section `scoring`.

    Args:
        identity_private_key: PEM file, Ed25519; proves that scoring is scoring.
        identity_gateway_public_key: PEM file; proves who calls.
        datashare: address of datashare, "host:port" or "dns:///host:port".
        database_url: its own database.
        database_pool: most connections to it.
        models_dir: a folder per model version.
        trusted_model_keys: files with public keys; models signed by others are refused.
        tenant: `production` serves models that were validated, are not simulated and are signed by
            a trusted key; `sandbox` also lets others be tried.
        proposal_lasts: how long what is proposed to the registry of models can be approved.
        shadow_queue: most decisions that wait to be scored in the shadow.
        shadow_kept: how long it is kept what challengers said.
        products_file: score products beside those that are shipped.
        report_key: PEM file with the private key by which credit reports are signed.
        retired_report_keys: files with public keys that signed reports before.
        report_pages: most reports that are written at a time.
        feed_interval: how often datashare is asked what was corrected.
        trust_domain: of the SPIFFE ids by which services know each other.
        server: where it listens; with TLS it is called by workloads of ours alone.
        health: where probes and metrics are.
        telemetry: where traces go.
    """

    identity_private_key: Path = field(metadata={"help": "PEM file, Ed25519 private key"})
    identity_gateway_public_key: Path = field(metadata={"help": "PEM file of the gateway's key"})
    report_key: Path = field(
        metadata={"help": "PEM file, Ed25519 or P-256 private key that signs credit reports"}
    )
    datashare: str = field(metadata={"help": "address of datashare, host:port or dns:///host:port"})
    database_url: str = field(
        default="sqlite:///.puhui/scoring.db",
        metadata={"help": "sqlite:///path or postgresql://user:password@host/name", "secret": True},
    )
    database_pool: int = field(default=8, metadata={"help": "most database connections"})
    models_dir: Path = field(
        default=Path(".puhui/models"), metadata={"help": "a folder per model version"}
    )
    trusted_model_keys: tuple[str, ...] = field(
        default=(),
        metadata={"help": "files with the public keys of those whose models are served; none: all"},
    )
    tenant: str = field(
        default=SANDBOX, metadata={"help": "production or sandbox: which models may serve"}
    )
    proposal_lasts: timedelta = field(
        default=timedelta(days=7),
        metadata={"help": "how long a proposal about a model can be approved"},
    )
    shadow_queue: int = field(
        default=1_000, metadata={"help": "most decisions that wait for challengers"}
    )
    shadow_kept: timedelta = field(
        default=timedelta(days=365), metadata={"help": "how long challengers' scores are kept"}
    )
    products_file: Path | None = field(
        default=None, metadata={"help": "TOML file with the operator's own score products"}
    )
    retired_report_keys: tuple[str, ...] = field(
        default=(), metadata={"help": "files with public keys that signed reports before"}
    )
    report_pages: int = field(
        default=2, metadata={"help": "most credit reports that are written at a time"}
    )
    feed_interval: timedelta = field(
        default=timedelta(seconds=2),
        metadata={"help": "how often datashare is asked which records were corrected"},
    )
    trust_domain: str = field(
        default=TRUST_DOMAIN,
        metadata={"help": "of the SPIFFE ids in the certificates of Puhui's services"},
    )
    server: ServerConfig = field(default_factory=ServerConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)

    def __post_init__(self) -> None:
        check_settings(self.database_url, self.database_pool)
        check_internal(self.server, self.trust_domain, production=self.tenant == PRODUCTION)
        for name in ("feed_interval", "proposal_lasts", "shadow_kept"):
            if getattr(self, name) <= timedelta():
                raise ValueError(f"{name} must be longer than nothing")
        check_least(1, shadow_queue=self.shadow_queue, report_pages=self.report_pages)
        check_tenant(self.tenant)
        if self.tenant == PRODUCTION and not self.trusted_model_keys:
            raise ValueError(
                "trusted_model_keys must name whose models are served where tenant is production"
            )


def build(config: ScoringConfig, clock: Clock, ids: Ids) -> Service:
    """Return scoring, ready to start.

    Raises:
        ConfigError: a key file cannot be used.
    """
    telemetry = Telemetry.setup("scoring", config.telemetry)
    own_key = read_private_key("scoring.identity_private_key", config.identity_private_key)
    gateway_key = read_public_key(
        "scoring.identity_gateway_public_key", config.identity_gateway_public_key
    )
    report_key, retired = read_report_keys(config.report_key, config.retired_report_keys)
    products = _products(config.products_file)
    signer = IdentitySigner(own_key, SCORING, clock, config.tenant)
    verifier = IdentityVerifier({GATEWAY: gateway_key}, SCORING, clock, config.tenant)
    database = Database.open(config.database_url, pool_size=config.database_pool)
    certificates = open_certificates("scoring.server.tls", config.server.tls, telemetry.meter)
    datashare = Channel(
        config.datashare, lambda: signer.sign(ITSELF, DATASHARE), certificates=certificates
    )
    trusted = trusted_keys("scoring.trusted_model_keys", config.trusted_model_keys)
    metrics = RegistryMetrics(telemetry.meter)
    registry = Transactions(database, EventStore)
    tell = TellRegistry(registry, clock)
    models = ServedModels(
        config.models_dir,
        lambda path: found(read_folder(path, trusted), ServedModel.of),
        tell,
        metrics.stopped,
        production=config.tenant == PRODUCTION,
    )
    change = ChangeRegistry(
        registry,
        models,
        models.act_at_once,
        clock,
        ids,
        lasts=config.proposal_lasts,
        trials=models.trials,
    )
    send_leaves = SendLeaves(registry, DatashareLog(datashare), metrics.unlogged)
    differences = Transactions(database, DifferenceStore)
    shadow = Shadow(
        models.challengers,
        differences,
        metrics,
        clock,
        queue=config.shadow_queue,
        patience=PATIENCE_S,
        kept=config.shadow_kept,
    )
    scoring = Scoring(
        DatashareSummaries(datashare, clock),
        models,
        Transactions(database, DecisionStore),
        clock,
        ids,
        products,
        shadow.offer,
    )
    platform = DatasharePlatform(datashare, clock, ids)
    kept = Transactions(database, ReevaluationStore)
    follow = Follow(DatashareFeed(datashare), kept, clock)
    server = Server(
        config.server,
        by_assertion(verifier),
        telemetry,
        clock,
        certificates=certificates,
        workloads=Workloads(config.trust_domain) if certificates else None,
    )
    server.add(scoring_pb2_grpc.add_ScoringServiceServicer_to_server, ScoringServicer(scoring))
    server.add(
        decisions_pb2_grpc.add_DecisionServiceServicer_to_server,
        DecisionServicer(scoring, ListReevaluations(kept), DisputedSince(kept)),
    )
    server.add(
        products_pb2_grpc.add_ProductServiceServicer_to_server,
        ProductServicer(ScoreProducts(products, platform, models, clock)),
    )
    server.add(models_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer(models))
    server.add(
        reports_pb2_grpc.add_ReportServiceServicer_to_server,
        ReportServicer(
            MakeReport(
                scoring=scoring,
                scales=ModelScales(models),
                names=DatashareNames(datashare, clock),
                told=told,
                content=CONTENT,
                canonical=canonical,
                signer=report_key,
                pages=FilePages(Typesetter()),
                at_once=config.report_pages,
            ),
            [(report_key.key_id, report_key.jwk), *retired],
        ),
    )
    server.add(
        registry_pb2_grpc.add_RegistryServiceServicer_to_server,
        RegistryServicer(change, tell, models, TellShadow(differences)),
    )
    return Service(
        server,
        HealthServer(config.health, telemetry.render_metrics),
        prepare=[
            lambda: claim_database("scoring", database, schema.tenant, config.tenant),
            models.prepare,
        ],
        background=[
            models.watch,
            models.keep_ready,
            lambda: follow.run(config.feed_interval),
            again_and_again(send_leaves, SEND_EVERY),
            shadow.run,
            again_and_again(shadow.forget, FORGET_EVERY),
        ],
        close=[shadow.close, datashare.close, database.close, telemetry.close],
    )


def _products(own: Path | None) -> dict[str, Product]:
    try:
        return load(own)
    except ProductError as error:
        problems = [f"scoring.products_file: {line}" for line in str(error).splitlines()]
        raise ConfigError(problems) from error


def migrate(config: ScoringConfig) -> None:
    """Bring the database to the newest schema."""
    migrations.upgrade(config.database_url, MIGRATIONS)
