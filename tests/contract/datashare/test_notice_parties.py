"""Every act that somebody has to be told of, done once, against the table of who is told what."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from services.datashare.access.app import Item
from services.datashare.access.domain import Channel, Fetch, Released
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.app import Consents
from services.datashare.consent.domain import (
    Action,
    Attestation,
    Consent,
    Mode,
    Officer,
    Period,
    Terms,
)
from services.datashare.consent.ending import TellEnds
from services.datashare.consent.erasing import ErasureDuties
from services.datashare.consent.servicer import ConsentCodec, DutyCodec
from services.datashare.disputes.domain import DisputeReason, DisputeState
from services.datashare.idempotency.domain import RequestKey
from services.datashare.incidents.app import Register
from services.datashare.incidents.domain import Severity, Step
from services.datashare.incidents.domain import State as IncidentState
from services.datashare.incidents.servicer import IncidentCodec
from services.datashare.log.domain import Sealer
from services.datashare.mandates.app import Mandates
from services.datashare.mandates.domain import Power, SigningRule
from services.datashare.mandates.servicer import MandateCodec, RuleCodec
from services.datashare.notices.domain import TOLD, NoticeKind, Party
from services.datashare.notices.store import notice
from services.datashare.participants.domain import Participant, Role, Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME
from services.kit.db import Database, retry_on_conflict
from services.kit.identity import Caller
from services.kit.ids import RandomIds
from tests.contract.datashare.test_disputes import answered, case
from tests.contract.datashare.test_mandates import ByWord
from tests.contract.datashare.test_retention import penalty
from tests.fakes.datashare_disputes import BANK, CASE, Disputing
from tests.fakes.datashare_records import NOW, USCC, invoice, provider, retraction
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS

READER = Caller("par_reader", "BANK")
CLERK = Caller("par_clerk", "FIRM")
OPERATOR = Caller("par_operator", "OPERATOR")
OFFICER = Officer("王", "F-1")


class Office(Disputing):
    """A datashare in which everything happens that is told."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        ids, sealer = RandomIds(self.clock), Sealer(RandomIds(self.clock), bytes)
        shared: dict[str, Any] = {
            "transactions": self.transactions,
            "retry": retry_on_conflict,
            "clock": self.clock,
            "sealer": sealer,
        }
        self.consents = Consents(
            **shared, ids=ids, signer=SIGNER, codec=ConsentCodec(), catalogue=self.catalogue
        )
        self.duties = ErasureDuties(**shared, codec=DutyCodec())
        self.mandates = Mandates(
            **shared,
            ids=ids,
            proof=ByWord(),
            mandate_codec=MandateCodec(),
            rule_codec=RuleCodec(),
        )
        self.incidents = Register(**shared, ids=ids, codec=IncidentCodec())

    async def open(self) -> None:
        await self.populate()
        await self.register(provider("tax"), provider("department"))
        async with self.transactions.begin() as work:
            for who in (READER, Caller("par_other", "BANK"), CLERK, OPERATOR):
                person = who.participant_id, Role(who.role), "x", "", None, False
                await work.participants.add(
                    Participant(*person, Standing.ACTIVE, NOW, products=PRODUCTS)
                )
        await self.submit("par_court", case(), case("other"), case("third"))
        await self.submit("par_department", penalty())
        await self.submit("par_tax", invoice("a"))

    async def asked(self, **changes: Any) -> Consent:
        terms = Terms(
            purpose="credit_application",
            provider_ids=("par_tax",),
            record_types=("vat_invoice",),
            content_level=ContentLevel.SUMMARY,
            data_period=Period(date(2023, 1, 1), date(2024, 12, 31)),
            not_before=None,
            expires_at=self.clock.now() + timedelta(days=30),
        )
        supersedes = changes.pop("supersedes", "")
        return await self.consents.request(
            BANK,
            self.key(BANK),
            SubjectName(uscc=USCC),
            replace(terms, **changes),
            OFFICER,
            supersedes=supersedes,
        )

    async def granted(self, **changes: Any) -> Consent:
        asked = await self.asked(**changes)
        return await self.agreed(asked, self.firm)

    async def agreed(self, asked: Consent, who: Caller) -> Consent:
        id_ = asked.core.consent_id
        return await self.consents.grant(who, self.key(who), id_, asked.sha256, ())

    async def end(self, consent: Consent, who: Caller, action: Action) -> None:
        await self.consents.end(who, self.key(who), consent.core.consent_id, action, "")

    async def read(self, who: Caller, channel: Channel, *types: str, consent_id: str = "") -> None:  # type: ignore[override]  # another reading
        assert self.firm.subject_id
        self._requests += 1
        fetch = Fetch(
            request_id=f"f{self._requests}",
            fingerprint=b"f" * 32,
            subject_id=self.firm.subject_id,
            consent_id=consent_id,
            purpose="credit_application",
            record_types=types,
            officer=OFFICER.name,
            file_reference=OFFICER.file_reference,
        )
        (result,) = await self.fetch([Item(who, fetch)], channel)
        assert isinstance(result, Released), result

    async def told(self) -> dict[NoticeKind, set[str]]:
        async with self.database.read() as conn:
            rows = await conn.execute(sa.select(notice.c.kind, notice.c.party_id))
        found: dict[NoticeKind, set[str]] = {}
        for kind, party_id in rows:
            found.setdefault(NoticeKind(kind), set()).add(party_id)
        return found


async def consents(office: Office) -> None:
    await office.end(await office.asked(), office.firm, Action.REJECT)
    await office.end(await office.granted(), BANK, Action.REVOKE)
    stored = await office.granted(mode=Mode.STORE, data_life_days=30)
    id_, firm = stored.core.consent_id, office.firm
    await office.consents.pause(firm, office.key(firm), id_, "")
    await office.consents.resume(firm, office.key(firm), id_)
    await office.end(stored, firm, Action.WITHDRAW)
    attestation = Attestation(NOW, OFFICER, "deleted 已删除")
    await office.duties.attest(BANK, office.key(BANK), id_, attestation)
    before = await office.granted()
    await office.granted(supersedes=before.core.consent_id)
    once = await office.granted(fetch_limit=ONE_TIME)
    await office.read(BANK, Channel.SCORING, "vat_invoice", consent_id=once.core.consent_id)


async def mandates(office: Office) -> None:
    firm, powers = office.firm, frozenset({Power.GRANT})
    await office.mandates.appoint(firm, office.key(firm), CLERK.participant_id, powers, None)
    both = SigningRule((firm.participant_id, CLERK.participant_id), 2)
    await office.mandates.set_rule(firm, office.key(firm), both)
    asked = await office.asked()
    await office.agreed(asked, firm)
    await office.agreed(asked, CLERK)


async def disputes(office: Office) -> None:
    first = await office.opened()
    firm = office.firm
    await office.disputes.set_statement(firm, office.key(firm), first.dispute_id, "")
    await answered(office, first, DisputeState.UPHELD, "F-1")
    other = CASE._replace(provider_record_id="other")
    second = await office.opened(other)
    await office.disputes.close(firm, office.key(firm), second.dispute_id)
    third = CASE._replace(provider_record_id="third")
    key = office.key(firm)
    await office.disputes.open(firm, key, third, DisputeReason.OUTDATED, "")
    office.clock.advance(timedelta(days=16))
    await office.remind()
    office.clock.advance(timedelta(days=6))
    await office.remind()


async def ends(office: Office) -> None:
    await office.asked()
    office.clock.advance(timedelta(days=31))
    await TellEnds(office.transactions, office.clock, SIGNER)()


async def records(office: Office) -> None:
    await office.submit("par_court", case(amount=1_00, version=2))
    await office.submit("par_court", retraction(case("other"), 2))
    await office.submit("par_department", penalty(repaired="2024-06-15", version=2))
    key = RequestKey("operator", "erase-1", b"f" * 32)
    await office.erase(key, office.firm.subject_id or "", "asked for")


async def incidents(office: Office) -> None:
    opened = await office.incidents.open(
        office.key(OPERATOR),
        severity=Severity.NOTICE,
        participant_id="par_bank",
        summary_zh="",
        summary_en="Something was seen.",
        access_ids=[],
    )
    step = Step(NOW, "", "", IncidentState.OPEN, "Told them.")
    key = office.key(OPERATOR)
    await office.incidents.handle(key, OPERATOR, opened.incident_id, step, share=True)


async def test_who_is_told_what_is_as_the_table_says(sqlite: Database) -> None:
    office = Office(sqlite)
    await office.open()
    await office.read(READER, Channel.DATASHARE, "court_case", "penalty")
    await office.read(BANK, Channel.SCORING, "court_case", "penalty")
    for act in (consents, mandates, disputes, ends, records, incidents):
        await act(office)
    assert office.firm.subject_id
    ids = {
        Party.FIRM: {office.firm.subject_id},
        Party.RECIPIENT: {"par_bank"},
        Party.PROVIDER: {"par_court"},
        Party.READERS: {"par_bank", "par_reader"},
        Party.SCORERS: {"par_bank"},
        Party.OPERATOR: {OPERATOR.participant_id},
        Party.CONCERNED: {"par_bank"},
    }
    expected = {
        kind: {party_id for party in told for party_id in ids[party]} for kind, told in TOLD.items()
    }
    assert await office.told() == expected


def test_every_kind_is_in_the_table() -> None:
    assert TOLD.keys() == set(NoticeKind)
