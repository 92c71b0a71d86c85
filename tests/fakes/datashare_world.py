"""A small datashare in memory, with everybody registered, for the tests of use cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.datashare.access.app import FetchSummaries, Item, ListAccesses
from services.datashare.access.domain import Access, Channel, Fetch, Released, Rules
from services.datashare.access.manifest import Manifests
from services.datashare.catalogue.domain import Catalogue, ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.changes.domain import ChangeKind
from services.datashare.consent.app import Consents
from services.datashare.consent.domain import Action, Consent, Officer, Period, Terms
from services.datashare.consent.erasing import ErasureDuties
from services.datashare.consent.servicer import ConsentCodec, DutyCodec
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.participants.domain import Participant, Role, Standing, SubjectName
from services.datashare.summaries.domain import StoredSeries
from services.datashare.summaries.narrowing import narrowed
from services.datashare.uses.app import ListUses
from services.kit.clock import FixedClock
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.fakes.datashare import FakeTransactions
from tests.fakes.mandates import representative
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
USCC = "91110108MA01234537"

TAX = Participant("par_tax", Role.PROVIDER, "Tax", "tax", None, False, Standing.ACTIVE, NOW)
COURT = Participant("par_court", Role.PROVIDER, "Court", "court", None, False, Standing.ACTIVE, NOW)
BANK = replace(
    Participant("par_bank", Role.BANK, "A bank", "", None, False, Standing.ACTIVE, NOW),
    products=PRODUCTS,
)
OTHER = replace(
    Participant("par_other", Role.BANK, "B bank", "", None, False, Standing.ACTIVE, NOW),
    products=PRODUCTS,
)
FIRM = Participant("par_firm", Role.FIRM, "A firm", "", "sub_0001", False, Standing.ACTIVE, NOW)
RIVAL = Participant("par_rival", Role.FIRM, "B firm", "", "sub_0002", False, Standing.ACTIVE, NOW)

TERMS = Terms(
    purpose="credit_application",
    provider_ids=("par_tax",),
    record_types=("vat_invoice", "tax_filing"),
    content_level=ContentLevel.SUMMARY,
    data_period=Period(date(2023, 1, 1), date(2026, 12, 31)),
    not_before=None,
    expires_at=NOW + timedelta(days=90),
)


def caller(participant: Participant) -> Caller:
    return Caller(
        participant.participant_id, participant.role, participant.subject_id, participant.name
    )


OPERATOR = Caller("operator", "OPERATOR")
OFFICER = Officer("王", "F-1")


@dataclass
class World:
    """Use cases over tables in memory, with everybody registered."""

    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    transactions: FakeTransactions = field(default_factory=FakeTransactions)
    catalogue: Catalogue = field(default_factory=load)

    def __post_init__(self) -> None:
        ids = SequentialIds()
        sealer = Sealer(ids, lambda size: b"s" * size)
        self.consents = Consents(
            transactions=self.transactions,
            retry=lambda work: work(),
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            signer=SIGNER,
            codec=ConsentCodec(),
            catalogue=self.catalogue,
        )
        self.duties = ErasureDuties(
            transactions=self.transactions,
            retry=lambda work: work(),
            clock=self.clock,
            sealer=sealer,
            codec=DutyCodec(),
        )
        self.fetch = FetchSummaries(
            transactions=self.transactions,
            retry=lambda work: work(),
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            rules=Rules(self.catalogue),
            manifests=Manifests(self.catalogue),
            signer=SIGNER,
            narrowed=narrowed,
        )
        self.accesses = ListAccesses(self.transactions, self.clock)
        self.uses = ListUses(self.transactions)
        memory = self.transactions.memory
        for person in (TAX, COURT, BANK, OTHER, FIRM, RIVAL):
            memory.participants[person.participant_id] = person
        for firm in (FIRM, RIVAL):
            memory.mandates[f"man_{firm.participant_id}"] = representative(firm)
        memory.subjects.update({USCC: "sub_0001", "other": "sub_0002"})
        self.supply("sub_0001", "vat_invoice", "par_tax")
        self.supply("sub_0002", "court_case", "par_court")
        self._requests = 0

    def supply(
        self,
        subject_id: str,
        record_type: str,
        provider_id: str,
        *,
        first_month: int = 202401,
        simulated: bool = False,
    ) -> StoredSeries:
        content = f"{record_type} {provider_id}".encode()
        series = StoredSeries(record_type, provider_id, content, first_month, simulated)
        rows = self.transactions.memory.series
        rows[subject_id] = (*rows.get(subject_id, ()), series)
        return series

    def key(self, who: Caller, request_id: str = "", fingerprint: bytes = b"f" * 32) -> RequestKey:
        self._requests += 1
        return RequestKey(who.participant_id, request_id or f"auto_{self._requests}", fingerprint)

    async def requested(self, **terms: Any) -> Consent:
        return await self.consents.request(
            caller(BANK),
            self.key(caller(BANK)),
            SubjectName(uscc=USCC),
            replace(TERMS, **terms),
            OFFICER,
        )

    async def granted(self, **terms: Any) -> Consent:
        consent = await self.requested(**terms)
        return await self.consents.grant(
            caller(FIRM), self.key(caller(FIRM)), consent.core.consent_id, consent.sha256, ()
        )

    async def end(self, who: Caller, consent: Consent, action: Action) -> Consent:
        return await self.consents.end(
            who, self.key(who), consent.core.consent_id, action, "because"
        )

    def item(self, consent: Consent | None, **changes: Any) -> Item:
        self._requests += 1
        fetch = Fetch(
            request_id=f"fetch_{self._requests}",
            fingerprint=b"f" * 32,
            subject_id="sub_0001",
            consent_id=consent.core.consent_id if consent else "",
            purpose="credit_application",
            officer="王",
            file_reference="F-1",
        )
        return Item(caller(BANK), replace(fetch, **changes))

    async def fetched(self, *items: Item) -> list[Released | PuhuiError]:
        return await self.fetch(items, Channel.SCORING)

    def recorded(self) -> Sequence[Access]:
        return [access for access, _ in self.transactions.memory.accesses.values()]

    def change_kinds(self) -> list[ChangeKind]:
        return [change.kind for change in self.transactions.memory.changes.values()]
