"""A datashare with a firm that disputes, for tests of disputes over a database."""

import hashlib
import secrets

from services.datashare.access.app import FetchSummaries, Item
from services.datashare.access.domain import Channel, Fetch, Released, Rules
from services.datashare.access.manifest import Manifests
from services.datashare.disputes.app import Disputes, Remind
from services.datashare.disputes.domain import PROFILES, Dispute, DisputeReason, Target
from services.datashare.disputes.working_days import ChinaCalendar
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.records.payloads import payload_fields
from services.datashare.summaries.narrowing import narrowed
from services.kit.db import Database, retry_on_conflict
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.fakes.datashare_records import NOW, USCC, Datashare, provider
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS

COURT = Caller("par_court", "PROVIDER")
BANK = Caller("par_bank", "BANK")
FIRM_ID = "par_firm"
CASE = Target("par_court", "court_case", "case", "amount")


class Disputing(Datashare):
    """A datashare with a court, a bank, a firm and its disputes.

    Args:
        database: where it keeps everything.
        profile: how much time providers have.
    """

    def __init__(self, database: Database, profile: str = "standard") -> None:
        super().__init__(database)
        ids, sealer = RandomIds(self.clock), Sealer(RandomIds(self.clock), secrets.token_bytes)
        self.disputes = Disputes(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            profile=PROFILES[profile],
            calendar=ChinaCalendar(),
            fields=payload_fields(),
        )
        self.remind = Remind(self.transactions, self.clock, PROFILES[profile], ChinaCalendar())
        self.fetch = FetchSummaries(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            rules=Rules(self.catalogue),
            manifests=Manifests(self.catalogue),
            signer=SIGNER,
            narrowed=narrowed,
        )
        self.firm = Caller(FIRM_ID, "FIRM")
        self._requests = 0

    async def populate(self) -> "Disputing":
        """Register everybody, and a firm that may do everything."""
        async with self.transactions.begin() as work:
            subject_id = (await work.subjects.resolve_or_create_many([USCC]))[USCC]
        self.firm = Caller(FIRM_ID, "FIRM", subject_id)
        await self.register(
            provider("court", historical=True),
            provider("court", suffix="2"),
            Participant(
                "par_bank",
                Role.BANK,
                "A bank",
                "",
                None,
                False,
                Standing.ACTIVE,
                NOW,
                products=PRODUCTS,
            ),
            Participant(FIRM_ID, Role.FIRM, "A firm", "", subject_id, False, Standing.ACTIVE, NOW),
        )
        return self

    def key(self, who: Caller, request_id: str = "", body: str = "") -> RequestKey:
        """Return the key of a new write, or of a certain one."""
        self._requests += 1
        fingerprint = hashlib.sha256(body.encode()).digest()
        return RequestKey(who.participant_id, request_id or f"r{self._requests}", fingerprint)

    async def opened(self, target: Target = CASE, statement: str = "We won it.") -> Dispute:
        """Dispute something."""
        return await self.disputes.open(
            self.firm, self.key(self.firm), target, DisputeReason.WRONG_VALUE, statement
        )

    async def fetched(self, *record_types: str, by: Caller = BANK) -> Released | PuhuiError:
        """Fetch what is open by law."""
        self._requests += 1
        assert self.firm.subject_id
        fetch = Fetch(
            request_id=f"f{self._requests}",
            fingerprint=b"f" * 32,
            subject_id=self.firm.subject_id,
            consent_id="",
            purpose="credit_application",
            record_types=record_types or ("court_case",),
            officer="王",
            file_reference="F-1",
        )
        (result,) = await self.fetch([Item(by, fetch)], Channel.SCORING)
        return result
