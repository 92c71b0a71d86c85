"""Datashare's wiring: the only place where its parts meet."""

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import (
    accesses_pb2_grpc,
    catalogue_pb2_grpc,
    changes_pb2_grpc,
    consents_pb2_grpc,
    credentials_pb2_grpc,
    deliveries_pb2_grpc,
    disputes_pb2_grpc,
    facts_pb2_grpc,
    incidents_pb2_grpc,
    log_pb2_grpc,
    mandates_pb2_grpc,
    metering_pb2_grpc,
    notices_pb2_grpc,
    participants_pb2_grpc,
    quality_pb2_grpc,
    receipts_pb2_grpc,
    records_pb2_grpc,
    retention_pb2_grpc,
    reviews_pb2_grpc,
    subjects_pb2_grpc,
    wanted_pb2_grpc,
)
from services.datashare import schema
from services.datashare.access.app import FetchSummaries, ListAccesses, TellSupply
from services.datashare.access.domain import Rules
from services.datashare.access.enquiries import ENQUIRY
from services.datashare.access.manifest import Manifests
from services.datashare.access.servicer import AccessServicer
from services.datashare.access.store import AccessStore, EnquiryStore
from services.datashare.caps.app import Capped, CappedFetch, CappedTakeIn
from services.datashare.caps.domain import SandboxCaps
from services.datashare.caps.servicer import CapGate
from services.datashare.caps.store import CountStore
from services.datashare.catalogue.domain import Catalogue
from services.datashare.catalogue.loader import load
from services.datashare.catalogue.servicer import CatalogueServicer
from services.datashare.changes.app import Feed
from services.datashare.changes.servicer import ChangeServicer
from services.datashare.changes.store import ChangeStore
from services.datashare.consent.app import Consents
from services.datashare.consent.duties import DutyStore
from services.datashare.consent.ending import TellEnds
from services.datashare.consent.erasing import ErasureDuties
from services.datashare.consent.servicer import ConsentCodec, ConsentServicer, DutyCodec
from services.datashare.consent.store import ConsentStore
from services.datashare.counterparties.check import COMMAND as ROTATE_COUNTERPARTY_KEY
from services.datashare.counterparties.check import check as check_counterparty_keys
from services.datashare.counterparties.commands import rotate_counterparty_key
from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.rotation import Rotation
from services.datashare.credentials.app import CredentialDesk
from services.datashare.credentials.domain import PersonAccount, PersonIds, bootstrap_account
from services.datashare.credentials.servicer import CredentialCodec, CredentialServicer
from services.datashare.credentials.store import CredentialStore
from services.datashare.deliveries.app import CloseDelivery, Reconciliations
from services.datashare.deliveries.servicer import DeliveryServicer
from services.datashare.deliveries.store import DeliveryStore
from services.datashare.deliveries.wire import Reader, control_fields
from services.datashare.disputes.app import Disputes, Remind
from services.datashare.disputes.domain import PROFILES
from services.datashare.disputes.servicer import DisputeServicer
from services.datashare.disputes.store import DisputeStore
from services.datashare.disputes.working_days import ChinaCalendar
from services.datashare.facts.app import TellFacts
from services.datashare.facts.servicer import FactServicer
from services.datashare.facts.store import HeldStore, ViewStore
from services.datashare.idempotency.store import RequestStore
from services.datashare.incidents.app import Register
from services.datashare.incidents.servicer import IncidentCodec, IncidentServicer
from services.datashare.incidents.store import IncidentStore
from services.datashare.log.app import AttestEvents
from services.datashare.log.domain import Sealer
from services.datashare.log.servicer import LeafCodec, LogServicer
from services.datashare.log.store import LeafStore
from services.datashare.mandates.app import Mandates
from services.datashare.mandates.proofs import proofs_taken
from services.datashare.mandates.register import RegisterReader
from services.datashare.mandates.registry import RegisterWatch
from services.datashare.mandates.servicer import MandateCodec, MandateServicer, RuleCodec
from services.datashare.mandates.store import MandateStore, Signers
from services.datashare.mandates.submissions import LogSubmission
from services.datashare.metering.app import RecordUsage, TellFigures
from services.datashare.metering.servicer import MeteringServicer
from services.datashare.metering.store import MeteringStore
from services.datashare.notices.app import TellNotices
from services.datashare.notices.delivery import Deliver
from services.datashare.notices.endpoints import ContactStore, WebhookStore
from services.datashare.notices.keeping import load as load_keeping
from services.datashare.notices.late import LOOK_EVERY, TellLate
from services.datashare.notices.messaging import SEND_EVERY, SendMessages
from services.datashare.notices.messengers import MeteredReport, NoticesConfig, messenger_of
from services.datashare.notices.old import OldNotices
from services.datashare.notices.parked import REPORT_EVERY, CountParked
from services.datashare.notices.post import HttpPost
from services.datashare.notices.recipients import RecipientStore
from services.datashare.notices.servicer import NoticeServicer
from services.datashare.notices.setting import SettleContacts, SettleWebhooks
from services.datashare.notices.store import NoticeStore
from services.datashare.notices.texts import load as load_texts
from services.datashare.participants.app import BootstrapKey, ParticipantDirectory
from services.datashare.participants.domain import bootstrap_operator
from services.datashare.participants.servicer import (
    ParticipantCodec,
    ParticipantServicer,
    SigningKeyCodec,
    TimeCodec,
)
from services.datashare.participants.store import ParticipantStore
from services.datashare.quality.app import Inspect
from services.datashare.quality.examine import PayloadExaminer
from services.datashare.quality.loader import load as load_rules
from services.datashare.quality.report import ListFindings, ReportQuality
from services.datashare.quality.servicer import QualityServicer
from services.datashare.quality.store import QualityStore
from services.datashare.quota.store import QuotaStore
from services.datashare.receipts.app import PlatformKeys
from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import read_signer
from services.datashare.receipts.servicer import ReceiptServicer
from services.datashare.receipts.store import PlatformKeyStore
from services.datashare.records.app import TakeIn
from services.datashare.records.hiding import hidings
from services.datashare.records.intake import Intake
from services.datashare.records.payloads import payload_fields, readers
from services.datashare.records.servicer import AT_ONCE, RecordServicer
from services.datashare.records.store import RecordStore
from services.datashare.retention.app import EraseSubject, Rebuild, Retention
from services.datashare.retention.commands import rebuild_summaries
from services.datashare.retention.files import Files
from services.datashare.retention.servicer import RetentionServicer
from services.datashare.retention.store import ErasingStore, HiddenStore, RunStore, WithheldStore
from services.datashare.reviews.app import (
    NAME_EVERY,
    DecideReview,
    Hints,
    ListReviews,
    NameEarlier,
)
from services.datashare.reviews.loader import load as load_weights
from services.datashare.reviews.servicer import AckCodec, ReviewServicer
from services.datashare.reviews.store import NameStore, ReviewStore
from services.datashare.sealing.app import Vault
from services.datashare.sealing.commands import Bar, Commands
from services.datashare.sealing.domain import (
    SEALED_FROM,
    MissingKekError,
    SealBrokenError,
    SubjectTokens,
)
from services.datashare.sealing.keyring import FileKeyRing, read_key
from services.datashare.sealing.maintenance import Maintenance, WrongTokenKeyError
from services.datashare.sealing.shred import shred
from services.datashare.sealing.store import Seals
from services.datashare.subjects.app import ResolveSubject
from services.datashare.subjects.servicer import SubjectServicer
from services.datashare.subjects.store import SubjectStore
from services.datashare.summaries.domain import layouts_of
from services.datashare.summaries.narrowing import narrowed
from services.datashare.summaries.reader import Cuts, SummaryReader
from services.datashare.summaries.store import SeriesStore
from services.datashare.uses.app import ListUses
from services.datashare.uses.store import UseStore
from services.datashare.wanted.app import TellWanted
from services.datashare.wanted.servicer import WantedServicer
from services.datashare.wanted.store import WantedStore
from services.datashare.watch.app import Watch
from services.datashare.watch.domain import Name
from services.datashare.watch.domain import Rule as WatchRule
from services.datashare.watch.loader import WatchError
from services.datashare.watch.loader import load as load_watch
from services.datashare.watch.report import MeteredIncidents
from services.datashare.watch.store import WatchStore
from services.kit import migrations
from services.kit.clock import Clock
from services.kit.config import ConfigError, check_least
from services.kit.db import Database, Transactions, check_settings, retry_on_conflict
from services.kit.errors import UnavailableError
from services.kit.health import HealthConfig, HealthServer
from services.kit.identity import DATASHARE, GATEWAY, SCORING, IdentityVerifier, read_public_key
from services.kit.ids import Ids, RandomIds
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.service import Service, again_and_again
from services.kit.telemetry import Telemetry, TelemetryConfig
from services.kit.tenant import PRODUCTION, SANDBOX
from services.kit.tenant_store import claim_database
from services.kit.tls import open_certificates
from services.kit.workloads import TRUST_DOMAIN, Workloads, check_internal

MIGRATIONS = Path(__file__).parent / "migrations"

_SHA256_HEX = 64


@dataclass(frozen=True)
class DatashareConfig:
    """Configuration of datashare, section `datashare`.

    Args:
        identity_gateway_public_key: PEM file; proves who calls through the gateway.
        identity_scoring_public_key: PEM file; proves that scoring calls.
        counterparty_key: file with keys of at least 16 bytes in hexadecimal
            (`counterparties.keyfile`); names of counterparties are kept as HMACs under them.
        kek_file: a key ring (`sealing.keyring`): key-encryption keys, one of which wraps.
        subject_token_key: file with 32 bytes in hexadecimal or base64url; registration numbers are
            found by HMACs under it.
        signing_key: PEM file with the private key by which it signs consents and receipts.
        signing_suite: what that key signs by, a name of `Suite`.
        database_url: its own database.
        database_pool: most connections to it.
        inspection_interval: how often quality is looked at, when nothing is waiting.
        dispute_profile: how much time providers have to answer disputes, a name of `PROFILES`.
        dispute_interval: how often it is looked for disputes that nobody answered.
        consent_interval: how often it is looked for consents whose time is over.
        watch_interval: how often accesses are looked at for what is abnormal.
        watch_rules: file (`watch.loader`) of the rules by which they are; None is the package's.
        proof_issuers: file (`mandates.proofs`) of those who verify firms' representatives, such as
            by electronic business licence; None is nobody.
        sandbox: this deployment is a sandbox: firms may be claimed by simulated codes.
        sandbox_proof_key: of a sandbox, file with 32 bytes in hexadecimal or base64url, from which
            those codes are made.
        bootstrap_operator_key_id: the public part of the first operator's API key; empty is none.
        bootstrap_operator_key_sha256: SHA-256 of its secret part's characters, in hexadecimal.
        bootstrap_operators: accounts of the first operators at an OpenID provider, each as
            "issuer subject".
        caps: how much a sandbox holds.
        notices: how parties are told.
        trust_domain: of the SPIFFE ids by which services know each other.
        server: where it listens; with TLS it is called by workloads of ours alone.
        health: where probes and metrics are.
        telemetry: where traces go.
    """

    identity_gateway_public_key: Path = field(metadata={"help": "PEM file of the gateway's key"})
    identity_scoring_public_key: Path = field(metadata={"help": "PEM file of scoring's key"})
    counterparty_key: Path = field(
        metadata={"help": "file with 16 or more bytes in hexadecimal, for names of counterparties"}
    )
    kek_file: Path = field(
        metadata={"help": "key ring in TOML, of the keys that protect every subject's data key"}
    )
    subject_token_key: Path = field(
        metadata={"help": "file with 32 bytes in hexadecimal, by which subjects are found"}
    )
    signing_key: Path = field(
        metadata={"help": "PEM file with the private key that signs consents and receipts"}
    )
    signing_suite: str = field(
        default=Suite.EDDSA,
        metadata={"help": "by what that key signs: EdDSA (Ed25519) or ES256 (P-256)"},
    )
    database_url: str = field(
        default="sqlite:///.puhui/datashare.db",
        metadata={"help": "sqlite:///path or postgresql://user:password@host/name", "secret": True},
    )
    database_pool: int = field(default=8, metadata={"help": "most database connections"})
    inspection_interval: timedelta = field(
        default=timedelta(seconds=5),
        metadata={"help": "how often records that came in are looked at for their quality"},
    )
    proof_issuers: Path | None = field(
        default=None,
        metadata={"help": "TOML file of those who verify firms' representatives; none: nobody"},
    )
    sandbox: bool = field(
        default=False, metadata={"help": "whether firms may be claimed by simulated codes"}
    )
    sandbox_proof_key: Path | None = field(
        default=None,
        metadata={"help": "file with 32 bytes in hexadecimal, of a sandbox, for those codes"},
    )
    dispute_profile: str = field(
        default="standard",
        metadata={"help": "time to answer a dispute: standard (20 days) or strict (working days)"},
    )
    dispute_interval: timedelta = field(
        default=timedelta(seconds=30),
        metadata={"help": "how often providers are reminded of disputes that are due"},
    )
    consent_interval: timedelta = field(
        default=timedelta(seconds=15),
        metadata={"help": "how often parties are told of consents whose time is over"},
    )
    watch_interval: timedelta = field(
        default=timedelta(seconds=5),
        metadata={"help": "how often accesses are looked at for what is abnormal"},
    )
    watch_rules: Path | None = field(
        default=None,
        metadata={"help": "TOML file of the rules of the watch; none: those of the package"},
    )
    bootstrap_operator_key_id: str = field(
        default="", metadata={"help": "public part of the first operator's API key; empty: none"}
    )
    bootstrap_operator_key_sha256: str = field(
        default="", metadata={"help": "SHA-256 of that key's secret part, in hexadecimal"}
    )
    bootstrap_operators: tuple[str, ...] = field(
        default=(), metadata={"help": 'the first operators, each as "issuer subject" of OpenID'}
    )
    caps: SandboxCaps = field(default_factory=SandboxCaps)
    notices: NoticesConfig = field(default_factory=NoticesConfig)
    trust_domain: str = field(
        default=TRUST_DOMAIN,
        metadata={"help": "of the SPIFFE ids in the certificates of Puhui's services"},
    )
    server: ServerConfig = field(default_factory=ServerConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)

    def __post_init__(self) -> None:
        check_settings(self.database_url, self.database_pool)
        check_internal(self.server, self.trust_domain, production=not self.sandbox)
        check_least(2, database_pool=self.database_pool)  # inspection writes while it reads
        if self.signing_suite not in list(Suite):
            raise ValueError(f"signing_suite must be one of {', '.join(Suite)}")
        if self.inspection_interval <= timedelta():
            raise ValueError("inspection_interval must be longer than nothing")
        if self.dispute_profile not in PROFILES:
            raise ValueError(f"dispute_profile must be one of {', '.join(PROFILES)}")
        if self.dispute_interval <= timedelta():
            raise ValueError("dispute_interval must be longer than nothing")
        if self.consent_interval <= timedelta():
            raise ValueError("consent_interval must be longer than nothing")
        if self.watch_interval <= timedelta():
            raise ValueError("watch_interval must be longer than nothing")
        if self.sandbox and self.sandbox_proof_key is None:
            raise ValueError("sandbox needs sandbox_proof_key: name its file, or unset sandbox")
        if self.bootstrap_operator_key_id:
            digits = self.bootstrap_operator_key_sha256
            if len(digits) != _SHA256_HEX or not set(digits) <= set("0123456789abcdef"):
                raise ValueError(
                    "bootstrap_operator_key_sha256 must be 64 hexadecimal digits in lower case"
                )
        for account in self.bootstrap_operators:
            bootstrap_account(account)

    @property
    def tenant(self) -> str:
        """Which of the two tenants it is."""
        return SANDBOX if self.sandbox else PRODUCTION

    @property
    def first_operators(self) -> tuple[PersonAccount, ...]:
        """Accounts of the first operators."""
        return tuple(map(bootstrap_account, self.bootstrap_operators))

    @property
    def bootstrap(self) -> BootstrapKey | None:
        """The first operator's key."""
        if not self.bootstrap_operator_key_id:
            return None
        sha256 = bytes.fromhex(self.bootstrap_operator_key_sha256)
        return BootstrapKey(self.bootstrap_operator_key_id, sha256)


class Stores:
    """Every store of datashare, and what they know of the catalogue.

    Args:
        catalogue: types and purposes.
        ids: makes subject ids.
        vault: data keys.
    """

    def __init__(self, catalogue: Catalogue, ids: Ids, vault: Vault) -> None:
        self.ids = ids
        self.vault = vault
        self.layouts = layouts_of(catalogue)
        self.readers = readers(catalogue)
        self.hidings = hidings(catalogue)
        self.enquiry_days = catalogue.types[ENQUIRY].retention.days
        self.kept = frozenset(
            name for name, policy in catalogue.types.items() if policy.kept_to_provider
        )
        self.keeping = load_keeping()
        self.cuts = Cuts()

    def __call__(self, conn: AsyncConnection) -> "Work":
        """Return the stores in one transaction."""
        return Work(conn, self)


class Work:
    """Every store in one transaction.

    Args:
        conn: the transaction.
        stores: what they know.
    """

    def __init__(self, conn: AsyncConnection, stores: Stores) -> None:
        self.participants = ParticipantStore(conn)
        self.counts = CountStore(conn)
        self.credentials = CredentialStore(conn)
        self.platform_keys = PlatformKeyStore(conn)
        self.seals = Seals(conn, stores.vault)
        self.subjects = SubjectStore(conn, stores.ids, self.seals)
        self.consents = ConsentStore(conn)
        self.accesses = AccessStore(conn)
        self.enquiries = EnquiryStore(conn, stores.layouts[ENQUIRY], stores.enquiry_days)
        self.quotas = QuotaStore(conn)
        self.names = NameStore(conn, self.seals)
        self.reviews = ReviewStore(conn, self.seals, stores.readers)
        self.uses = UseStore(conn, stores.ids)
        self.metering = MeteringStore(conn)
        self.incidents = IncidentStore(conn)
        self.watch = WatchStore(conn)
        self.leaves = LeafStore(conn)
        self.changes = ChangeStore(conn)
        self.mandates = MandateStore(conn)
        self.signers = Signers(self.mandates)
        self.duties = DutyStore(conn)
        self.wanted = WantedStore(conn)
        self.notices = NoticeStore(conn, stores.ids)
        self.old_notices = OldNotices(conn, stores.keeping)
        self.recipients = RecipientStore(conn, stores.kept)
        self.webhooks = WebhookStore(conn, self.seals)
        self.contacts = ContactStore(conn, self.seals)
        self.requests = RequestStore(conn)
        self.deliveries = DeliveryStore(conn, self.seals)
        self.records = RecordStore(conn, stores.readers, self.seals, stores.hidings)
        self.register = RegisterReader(conn, self.seals)
        self.held = HeldStore(conn, self.seals)
        self.views = ViewStore(conn)
        self.series = SeriesStore(conn, stores.layouts, self.seals)
        self.quality = QualityStore(conn, self.records, stores.layouts, self.seals)
        self.withheld = WithheldStore(conn)
        self.runs = self.erasures = RunStore(conn)
        self.hidden = HiddenStore(conn, self.records, stores.hidings)
        self.erasing = ErasingStore(conn)
        self.disputes = DisputeStore(conn, self.seals)
        self.summaries = SummaryReader(
            conn,
            self.records,
            self.withheld,
            self.disputes,
            stores.layouts,
            stores.cuts,
            self.seals,
        )

    async def finish(self) -> None:
        """Write what has to be written last."""
        await self.notices.finish()
        await self.erasing.finish()


def build(config: DatashareConfig, clock: Clock, ids: Ids) -> Service:
    """Return datashare, ready to start.

    Raises:
        ConfigError: a key file cannot be used.
    """
    telemetry = Telemetry.setup("datashare", config.telemetry)
    gateway_key = read_public_key(
        "datashare.identity_gateway_public_key", config.identity_gateway_public_key
    )
    scoring_key = read_public_key(
        "datashare.identity_scoring_public_key", config.identity_scoring_public_key
    )
    verifier = IdentityVerifier(
        {GATEWAY: gateway_key, SCORING: scoring_key}, DATASHARE, clock, config.tenant
    )
    # The banks behind a batch called scoring, which passes their assertions on.
    behind_scoring = IdentityVerifier({GATEWAY: gateway_key}, SCORING, clock, config.tenant)
    catalogue = load()
    stores = Stores(catalogue, ids, vault(config, catalogue, clock))
    database = Database.open(config.database_url, pool_size=config.database_pool)
    transactions = Transactions(database, stores)
    sealer = Sealer(ids, secrets.token_bytes)
    signer = read_signer(config.signing_key, Suite(config.signing_suite))
    platform_keys = PlatformKeys(
        transactions=transactions, clock=clock, sealer=sealer, signer=signer
    )
    operator = bootstrap_operator(clock.now(), catalogue.products)
    directory = ParticipantDirectory(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        random_bytes=secrets.token_bytes,
        participant_codec=ParticipantCodec(),
        time_codec=TimeCodec(),
        signing_key_codec=SigningKeyCodec(),
        provider_kinds=catalogue.provider_kinds,
        bootstrap=config.bootstrap,
        operator=operator,
        products=catalogue.products,
        sandbox=config.sandbox,
    )
    credentials = CredentialDesk(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        codec=CredentialCodec(),
        person_ids=PersonIds(read_key("datashare.subject_token_key", config.subject_token_key)),
        bootstrap=config.first_operators,
        operator=operator,
    )
    mandates = Mandates(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        proof=proofs_taken(config.proof_issuers, config.sandbox_proof_key, sandbox=config.sandbox),
        mandate_codec=MandateCodec(),
        rule_codec=RuleCodec(),
    )
    consents = Consents(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        signer=signer,
        codec=ConsentCodec(),
        catalogue=catalogue,
    )
    tell_ends = TellEnds(transactions, clock, signer)
    duties = ErasureDuties(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        sealer=sealer,
        codec=DutyCodec(),
    )
    fetch = FetchSummaries(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        rules=Rules(catalogue),
        manifests=Manifests(catalogue),
        signer=signer,
        narrowed=narrowed,
    )
    capped = Capped(transactions, config.caps, clock) if config.sandbox else None
    accesses = AccessServicer(
        CappedFetch(fetch, capped) if capped else fetch,
        ListAccesses(transactions, clock),
        ListUses(transactions),
        TellSupply(transactions, catalogue),
        behind_scoring,
    )
    counterparty_keys = KeyFile(config.counterparty_key)
    tokens = counterparty_keys.read()
    intake = Intake(catalogue, tokens)
    hints = Hints(load_weights(), catalogue.on_consent, clock, ids)
    take_in = TakeIn(
        transactions,
        retry_on_conflict,
        stores.layouts,
        catalogue.on_consent,
        hints,
        clock,
        RegisterWatch(sealer),
        LogSubmission(sealer),
    )
    decide = DecideReview(transactions, retry_on_conflict, take_in.row, AckCodec(), clock)
    rules = load_rules()
    number_alone = rules.invoice_under_two_firms.number_alone
    examiner = PayloadExaminer(tokens, number_alone)
    inspect = Inspect(transactions, examiner, rules, clock, ids)
    close = CloseDelivery(transactions, retry_on_conflict, clock)
    sent = Reader(control_fields(catalogue))

    retention = Retention(
        transactions=transactions,
        retry=retry_on_conflict,
        layouts=stores.layouts,
        clock=clock,
        ids=ids,
        sealer=sealer,
        clean=Files(config.database_url),
    )
    erase = EraseSubject(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        clean=Files(config.database_url),
    )

    profile, calendar = PROFILES[config.dispute_profile], ChinaCalendar()
    disputes = Disputes(
        transactions=transactions,
        retry=retry_on_conflict,
        clock=clock,
        ids=ids,
        sealer=sealer,
        profile=profile,
        calendar=calendar,
        fields=payload_fields(),
    )
    remind = Remind(transactions, clock, profile, calendar)

    texts = load_texts(catalogue)
    report = MeteredReport(telemetry.meter)
    post = HttpPost(private=config.notices.private_receivers)
    deliver = Deliver(transactions, post, report, clock, random.random)
    messenger = messenger_of(config.notices, clock)
    send = SendMessages(transactions, messenger, report, texts, clock, random.random)

    certificates = open_certificates("datashare.server.tls", config.server.tls, telemetry.meter)
    server = Server(
        config.server,
        by_assertion(verifier),
        telemetry,
        clock,
        gate=CapGate(capped) if capped else None,
        certificates=certificates,
        workloads=Workloads(config.trust_domain) if certificates else None,
    )
    server.add(
        participants_pb2_grpc.add_ParticipantServiceServicer_to_server,
        ParticipantServicer(directory),
    )
    server.add(
        credentials_pb2_grpc.add_CredentialServiceServicer_to_server,
        CredentialServicer(credentials),
    )
    server.add(
        facts_pb2_grpc.add_FactServiceServicer_to_server,
        FactServicer(TellFacts(transactions, catalogue, clock, sealer)),
    )
    server.add(
        mandates_pb2_grpc.add_MandateServiceServicer_to_server, MandateServicer(mandates, clock)
    )
    server.add(
        subjects_pb2_grpc.add_SubjectServiceServicer_to_server,
        SubjectServicer(ResolveSubject(transactions)),
    )
    server.add(
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server, CatalogueServicer(catalogue)
    )
    server.add(
        records_pb2_grpc.add_RecordServiceServicer_to_server,
        RecordServicer(
            CappedTakeIn(take_in, capped) if capped else take_in,
            close,
            sent,
            intake,
            clock,
            AT_ONCE[database.dialect],
        ),
    )
    server.add(
        deliveries_pb2_grpc.add_DeliveryServiceServicer_to_server,
        DeliveryServicer(Reconciliations(transactions, clock)),
    )
    server.add(
        quality_pb2_grpc.add_QualityServiceServicer_to_server,
        QualityServicer(ReportQuality(transactions, clock), ListFindings(transactions, clock)),
    )
    server.add(
        wanted_pb2_grpc.add_WantedServiceServicer_to_server,
        WantedServicer(TellWanted(transactions, clock, asyncio.sleep)),
    )
    server.add(
        notices_pb2_grpc.add_NoticeServiceServicer_to_server,
        NoticeServicer(
            TellNotices(transactions, texts, clock, asyncio.sleep),
            SettleWebhooks(
                transactions,
                clock,
                secrets.token_bytes,
                private=config.notices.private_receivers,
            ),
            SettleContacts(transactions, clock),
            read_key("datashare.subject_token_key", config.subject_token_key),
        ),
    )
    server.add(
        retention_pb2_grpc.add_RetentionServiceServicer_to_server,
        RetentionServicer(retention, erase),
    )
    server.add(
        reviews_pb2_grpc.add_ReviewServiceServicer_to_server,
        ReviewServicer(ListReviews(transactions), decide),
    )
    server.add(
        consents_pb2_grpc.add_ConsentServiceServicer_to_server, ConsentServicer(consents, duties)
    )
    server.add(
        receipts_pb2_grpc.add_ReceiptServiceServicer_to_server, ReceiptServicer(platform_keys)
    )
    server.add(
        disputes_pb2_grpc.add_DisputeServiceServicer_to_server, DisputeServicer(disputes, clock)
    )
    server.add(accesses_pb2_grpc.add_AccessServiceServicer_to_server, accesses)
    server.add(
        changes_pb2_grpc.add_ChangeServiceServicer_to_server, ChangeServicer(Feed(transactions))
    )
    server.add(
        metering_pb2_grpc.add_MeteringServiceServicer_to_server,
        MeteringServicer(
            RecordUsage(transactions, retry_on_conflict, clock), TellFigures(transactions)
        ),
    )
    watch_rules = _watch_rules(config)
    watch = Watch(
        transactions,
        watch_rules,
        calendar,
        clock,
        ids,
        sealer,
        MeteredIncidents(telemetry.meter),
    )
    server.add(
        incidents_pb2_grpc.add_IncidentServiceServicer_to_server,
        IncidentServicer(
            Register(
                transactions=transactions,
                retry=retry_on_conflict,
                clock=clock,
                ids=ids,
                sealer=sealer,
                codec=IncidentCodec(),
            ),
            list(watch_rules.values()),
        ),
    )
    attest = AttestEvents(transactions, retry_on_conflict, clock, sealer, LeafCodec())
    server.add(log_pb2_grpc.add_LogServiceServicer_to_server, LogServicer(attest))
    return Service(
        server,
        HealthServer(config.health, telemetry.render_metrics),
        prepare=[
            lambda: claim_database("datashare", database, schema.tenant, config.tenant),
            lambda: _prepare(config, database, stores.vault),
            lambda: _let_speak(transactions),
            lambda: check_counterparty_keys(
                database, stores.vault, counterparty_keys, tokens, clock
            ),
            lambda: _tell_key(platform_keys),
        ],
        background=[
            lambda: inspect.run(config.inspection_interval),
            lambda: remind.run(config.dispute_interval),
            again_and_again(tell_ends, config.consent_interval),
            again_and_again(watch, config.watch_interval),
            again_and_again(NameEarlier(transactions, asyncio.sleep), NAME_EVERY),
            again_and_again(TellLate(transactions, clock), LOOK_EVERY),
            deliver.run,
            again_and_again(CountParked(transactions, report), REPORT_EVERY),
            *([again_and_again(send, SEND_EVERY)] if config.notices.sends else []),
        ],
        close=[post.close, messenger.close, database.close, telemetry.close],
    )


def vault(config: DatashareConfig, catalogue: Catalogue, clock: Clock) -> Vault:
    """Return the data keys that the configured key files protect.

    Raises:
        ConfigError: a key file cannot be used.
    """
    return Vault(
        FileKeyRing("datashare.kek_file", config.kek_file, secrets.token_bytes),
        SubjectTokens(read_key("datashare.subject_token_key", config.subject_token_key)),
        frozenset(
            name for name, kind in catalogue.types.items() if kind.sensitivity >= SEALED_FROM
        ),
        clock,
        secrets.token_bytes,
    )


async def maintain(
    config: DatashareConfig, action: str, clock: Clock, tell: Callable[[str], None], *, apply: bool
) -> None:
    """Do an operator's work on the keys and what they protect, or fold summaries anew.

    Args:
        config: the service's.
        action: one of `MAINTENANCE`, `rebuild-summaries` or `rotate-counterparty-key`.
        clock: the time.
        tell: takes lines of text.
        apply: do it; else only say what would be done.

    Raises:
        ConfigError: a key file cannot be used.
        UnavailableError: a key or the database cannot be had now; the next run goes on.
        SealBrokenError: something was altered, or is sealed under another key.
    """
    database = Database.open(config.database_url, pool_size=2)
    bar = Bar(tell)
    try:
        await claim_database("datashare", database, schema.tenant, config.tenant)
        catalogue = load()
        keys = vault(config, catalogue, clock)
        work = Maintenance(database, keys, bar)
        if action != "shred":
            await _check_keys(work)
        if action == "rebuild-summaries":
            transactions = Transactions(database, Stores(catalogue, RandomIds(clock), keys))
            rebuild = Rebuild(transactions, retry_on_conflict, layouts_of(catalogue), clock)
            await rebuild_summaries(rebuild, tell, bar, apply=apply)
            return
        if action == ROTATE_COUNTERPARTY_KEY:
            files = KeyFile(config.counterparty_key)
            rotation = Rotation(
                database=database,
                url=config.database_url,
                vault=keys,
                catalogue=catalogue,
                files=files,
                clock=clock,
                random_bytes=secrets.token_bytes,
                progress=bar,
            )
            await rotate_counterparty_key(rotation, files, tell, bar.end, apply=apply)
            return
        commands = Commands(work, config.database_url, tell, bar.end)
        await MAINTENANCE[action](commands, apply=apply)
    finally:
        await database.close()


MAINTENANCE = {
    "seal": Commands.seal,
    "unseal": Commands.unseal,
    "rotate-keys": Commands.rotate_keys,
    "shred": Commands.shred,
}


def _watch_rules(config: DatashareConfig) -> Mapping[Name, WatchRule]:
    try:
        return load_watch(config.watch_rules)
    except WatchError as error:
        raise ConfigError([f"datashare.watch_rules: {error}"]) from None


async def _prepare(config: DatashareConfig, database: Database, data_keys: Vault) -> None:
    """Try the keys; seal what an embedded database holds from before, as nobody else writes it.

    Raises:
        ConfigError: the keys are not those of this database.
    """
    bar = Bar(structlog.get_logger().info)
    work = Maintenance(database, data_keys, bar)
    try:
        await _check_keys(work)
        if database.dialect == "sqlite" and await work.plain():
            await work.seal()
            bar.end()
            await shred(config.database_url)
    except UnavailableError as error:
        # As every call will say while it lasts; a key that is missing is told as ConfigError.
        structlog.get_logger().warning("the keys could not be tried", problem=error.message)


async def _tell_key(platform_keys: PlatformKeys) -> None:
    """Write down the key that signs now; where that cannot be, the first question for keys does."""
    try:
        await platform_keys.register()
    except UnavailableError as error:
        structlog.get_logger().warning(
            "the signing key could not be written down", problem=error.message
        )


async def _let_speak(transactions: Transactions[Work]) -> None:
    """Give registered firms their mandates that a version before registered meanwhile."""
    async with transactions.begin() as work:
        await work.mandates.fill()


async def _check_keys(work: Maintenance) -> None:
    try:
        await work.check()
    except MissingKekError as error:
        problem = f'it has no key "{error.kek_id}", which wraps data keys here: put it back'
        raise ConfigError([f"datashare.kek_file: {problem}"]) from None
    except SealBrokenError as error:
        problem = f"a key in it is not the one that had this id when data was sealed ({error})"
        raise ConfigError([f"datashare.kek_file: {problem}"]) from None
    except WrongTokenKeyError:
        problem = "it is not the key by which the subjects of this database are found"
        raise ConfigError([f"datashare.subject_token_key: {problem}"]) from None


def migrate(config: DatashareConfig) -> None:
    """Bring the database to the newest schema."""
    migrations.upgrade(config.database_url, MIGRATIONS)
