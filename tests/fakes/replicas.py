"""Replicas of datashare in one process, each with connections of its own to the same database."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.app import FetchSummaries, Item
from services.datashare.access.domain import Channel, Fetch, Released, Rules
from services.datashare.access.manifest import Manifests
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.consent.app import Consents
from services.datashare.consent.domain import Consent, Officer, Period, Terms
from services.datashare.consent.erasing import ErasureDuties
from services.datashare.consent.servicer import ConsentCodec, DutyCodec
from services.datashare.consent.store import ConsentStore
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.main import Stores, Work
from services.datashare.mandates.domain import registered
from services.datashare.participants.app import ParticipantDirectory
from services.datashare.participants.domain import (
    Participant,
    Role,
    Standing,
    SubjectName,
    bootstrap_operator,
)
from services.datashare.participants.servicer import (
    ParticipantCodec,
    SigningKeyCodec,
    TimeCodec,
)
from services.datashare.quota.domain import Limit
from services.datashare.summaries.narrowing import narrowed
from services.kit.clock import Clock, SystemClock
from services.kit.db import Database, Transactions, retry_on_conflict
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.fakes.sealing import vault
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS

BANK = Caller("par_bank", "BANK", None, "A bank")
OPERATOR = Caller("operator", "OPERATOR", None, "operator")
OFFICER = Officer("王", "F-1")
NOW = datetime.now(UTC)
T = TypeVar("T")


class Replica:
    """The use cases over one database, as one replica of datashare has them.

    Args:
        database: shared with the other replicas; each has connections of its own.
        clock: the time.
        consents: the store of consents that fetches see; None is the real one.

    Attributes:
        conflicts: the races that fetches lost.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        consents: Callable[[AsyncConnection], ConsentStore] | None = None,
    ) -> None:
        self.conflicts: list[Exception] = []
        clock, catalogue = clock or SystemClock(), load()
        ids = RandomIds(clock)
        stores = Stores(catalogue, ids, vault(catalogue, clock))
        self.transactions = Transactions(database, stores)
        sealer = Sealer(ids, bytes)
        self.consents = Consents(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=clock,
            ids=ids,
            sealer=sealer,
            signer=SIGNER,
            codec=ConsentCodec(),
            catalogue=catalogue,
        )
        self.duties = ErasureDuties(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=clock,
            sealer=sealer,
            codec=DutyCodec(),
        )
        self.directory = ParticipantDirectory(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=clock,
            ids=ids,
            sealer=sealer,
            random_bytes=bytes,
            participant_codec=ParticipantCodec(),
            time_codec=TimeCodec(),
            signing_key_codec=SigningKeyCodec(),
            provider_kinds=catalogue.provider_kinds,
            bootstrap=None,
            operator=bootstrap_operator(NOW, catalogue.products),
            products=catalogue.products,
            sandbox=True,
        )

        def seen_by_fetches(conn: AsyncConnection) -> Work:
            work = stores(conn)
            if consents is not None:
                work.consents = consents(conn)
            return work

        self.fetch = FetchSummaries(
            transactions=Transactions(database, seen_by_fetches),
            retry=self._retry,
            clock=clock,
            ids=ids,
            sealer=sealer,
            rules=Rules(catalogue),
            manifests=Manifests(catalogue),
            signer=SIGNER,
            narrowed=narrowed,
        )
        self._ids = ids

    async def _retry(self, work: Callable[[], Awaitable[T]]) -> T:
        async def watched() -> T:
            try:
                return await work()
            except Exception as error:
                self.conflicts.append(error)
                raise

        return await retry_on_conflict(watched)

    async def set_standing(self, participant_id: str, standing: Standing) -> None:
        await self.directory.set_standing(
            OPERATOR, self.key(OPERATOR), participant_id, standing, ""
        )

    def key(self, who: Caller, request_id: str = "") -> RequestKey:
        request_id = request_id or self._ids.new("req")
        return RequestKey(who.participant_id, request_id, b"f" * 32)

    async def populate(self) -> Caller:
        """Register a bank, a provider and a firm; return the firm."""
        subject = SubjectName(uscc="91110108MA01234537")
        async with self.transactions.begin() as work:
            subject_id = (await work.subjects.resolve_or_create_many([subject.uscc]))[subject.uscc]
            for participant_id, role in (("par_bank", Role.BANK), ("par_tax", Role.PROVIDER)):
                kind = "tax" if role is Role.PROVIDER else ""
                person = Participant(
                    participant_id,
                    role,
                    "n",
                    kind,
                    None,
                    False,
                    Standing.ACTIVE,
                    NOW,
                    products=PRODUCTS,
                )
                await work.participants.add(person)
            await work.mandates.add(registered("man_firm", subject_id, "par_firm", NOW))
        return Caller("par_firm", "FIRM", subject_id, "A firm")

    async def granted(self, firm: Caller, limit: Limit | None = None) -> Consent:
        consent = await self.asked(firm, limit)
        return await self.granted_as_asked(firm, consent)

    async def granted_as_asked(self, firm: Caller, consent: Consent) -> Consent:
        return await self.consents.grant(
            firm, self.key(firm), consent.core.consent_id, consent.sha256, ()
        )

    async def asked(
        self, firm: Caller, limit: Limit | None = None, *, supersedes: str = ""
    ) -> Consent:
        terms = Terms(
            purpose="credit_application",
            provider_ids=("par_tax",),
            record_types=("vat_invoice",),
            content_level=ContentLevel.SUMMARY,
            data_period=Period(date(2023, 1, 1), date(2026, 12, 31)),
            not_before=None,
            expires_at=datetime.now(UTC) + timedelta(days=30),
            fetch_limit=limit,
        )
        assert firm.subject_id
        named = SubjectName(subject_id=firm.subject_id)
        return await self.consents.request(
            BANK, self.key(BANK), named, terms, OFFICER, supersedes=supersedes
        )

    def item(self, consent: Consent, request_id: str = "") -> Item:
        fetch = Fetch(
            request_id=request_id or self._ids.new("req"),
            fingerprint=hashlib.sha256(consent.core.consent_id.encode()).digest(),
            subject_id=consent.core.subject_id,
            consent_id=consent.core.consent_id,
            purpose="credit_application",
            officer="王",
            file_reference="F-1",
        )
        return Item(BANK, fetch)

    async def fetched(self, *items: Item) -> list[Released | PuhuiError]:
        return await self.fetch(items, Channel.SCORING)
