"""Fakes of datashare's ports: its tables in memory, with transactions that roll back."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from services.datashare.access.domain import Access, Earlier, Outcome, Recorded, Sealed
from services.datashare.access.enquiries import ENQUIRY, PLATFORM, PURPOSE, Enquiry, by_month
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.changes.domain import Change, Entry
from services.datashare.china import month_of_day
from services.datashare.consent.domain import (
    OPEN_STATES,
    Attestation,
    Consent,
    Duty,
    Receipt,
    State,
    due_by,
    state_at,
)
from services.datashare.credentials.domain import Credential, Kind
from services.datashare.idempotency.domain import RequestKey, StoredRequest
from services.datashare.log.domain import Leaf
from services.datashare.mandates.domain import Mandate, SigningRule
from services.datashare.notices.domain import Entry as NoticeEntry
from services.datashare.notices.domain import Notice
from services.datashare.participants.domain import (
    ApiKey,
    Held,
    Participant,
    Role,
    SigningKey,
    Standing,
)
from services.datashare.participants.life_cycle import Event
from services.datashare.quota.domain import Key
from services.datashare.receipts.domain import PlatformKey
from services.datashare.summaries.codec import encode
from services.datashare.summaries.domain import (
    Found,
    SeriesKey,
    StoredSeries,
    SummaryQuery,
    Table,
    layouts_of,
)
from services.datashare.uses.app import Place
from services.datashare.uses.domain import Counted, Use
from services.datashare.wanted.domain import Entry as WantedEntry
from services.datashare.wanted.domain import Item, WantedState
from services.kit.db import EPOCH
from tests.fakes.incidents import FakeIncidents, FakeWatched, IncidentMemory
from tests.fakes.mandates import FakeMandates
from tests.fakes.metering import FakeMetering, MeteringMemory


@dataclass
class Memory:
    """The tables."""

    participants: dict[str, Participant] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    signing_keys: dict[str, SigningKey] = field(default_factory=dict)
    steps: dict[tuple[str, int], Event] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    consents: dict[str, Consent] = field(default_factory=dict)
    accesses: dict[str, tuple[Access, Leaf]] = field(default_factory=dict)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    changes: dict[int, Change] = field(default_factory=dict)
    requests: dict[tuple[str, str], StoredRequest] = field(default_factory=dict)
    series: dict[str, tuple[StoredSeries, ...]] = field(default_factory=dict)
    # Since when a record type is supplied, where it is not since ever.
    supplied: dict[str, datetime] = field(default_factory=dict)
    erased: dict[str, datetime] = field(default_factory=dict)
    # Subjects of which something is withheld.
    withheld: dict[str, bool] = field(default_factory=dict)
    # By provider, day, type and purpose.
    uses: dict[tuple[str, int, str, str], int] = field(default_factory=dict)
    # By provider, type, month and recipient.
    use_recipients: dict[tuple[str, str, int, str], None] = field(default_factory=dict)
    metering: MeteringMemory = field(default_factory=MeteringMemory)
    incidents: IncidentMemory = field(default_factory=IncidentMemory)
    quotas: dict[Key, int] = field(default_factory=dict)
    wanted: dict[int, Item] = field(default_factory=dict)
    mandates: dict[str, Mandate] = field(default_factory=dict)
    signing_rules: dict[str, SigningRule] = field(default_factory=dict)
    proofs: dict[str, datetime] = field(default_factory=dict)
    notices: dict[int, Notice] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    platform_keys: dict[str, PlatformKey] = field(default_factory=dict)
    duties: dict[str, Duty] = field(default_factory=dict)
    consumptions: dict[str, Receipt] = field(default_factory=dict)

    def copy(self) -> "Memory":
        return Memory(*(copy(getattr(self, table.name)) for table in fields(self)))


class FakeTransactions:
    """Transactions one at a time on tables in memory."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.begun = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator["FakeWork"]:
        async with self._turn:
            self.begun += 1
            changed = self.memory.copy()
            yield FakeWork(changed)
            self.memory = changed

    @asynccontextmanager
    async def read(self) -> AsyncIterator["FakeWork"]:
        yield FakeWork(self.memory.copy())


class FakeWork:
    """The stores of one transaction."""

    def __init__(self, memory: Memory) -> None:
        self.participants = FakeParticipants(memory)
        self.credentials = FakeCredentials(memory)
        self.subjects = FakeSubjects(memory)
        self.consents = FakeConsents(memory)
        self.accesses = FakeAccesses(memory)
        self.enquiries = FakeEnquiries(memory)
        self.leaves = FakeLeaves(memory)
        self.changes = FakeChanges(memory)
        self.requests = FakeRequests(memory)
        self.summaries = FakeSummaries(memory)
        self.erasures = FakeErasures(memory)
        self.uses = FakeUses(memory)
        self.metering = FakeMetering(memory.metering, memory.uses, memory.use_recipients)
        self.incidents = FakeIncidents(memory.incidents)
        self.watch = FakeWatched(memory.incidents, memory.accesses)
        self.quotas = FakeQuotas(memory)
        self.wanted = FakeWanted(memory)
        self.mandates = FakeMandates(memory.mandates, memory.signing_rules, memory.proofs)
        self.notices = FakeNotices(memory)
        self.platform_keys = FakePlatformKeys(memory)
        self.signers = FakeSigners(memory)
        self.duties = FakeDuties(memory)


class FakeParticipants:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.participants
        self._keys = memory.keys
        self._steps = memory.steps
        self._signing_keys = memory.signing_keys

    async def add(self, participant: Participant) -> bool:
        firms = {row.subject_id for row in self._rows.values()} - {None}
        if participant.subject_id in firms:
            return False
        self._rows[participant.participant_id] = participant
        return True

    async def get(self, participant_id: str) -> Participant | None:
        return self._rows.get(participant_id)

    lock = hold = get

    async def change(self, changed: Participant) -> None:
        self._rows[changed.participant_id] = changed

    async def add_steps(self, participant_id: str, first: int, events: Sequence[Event]) -> None:
        for number, event in enumerate(events, first):
            self._steps[participant_id, number] = event

    async def steps(self, participant_id: str) -> Sequence[Event]:
        return [event for (id_, _), event in sorted(self._steps.items()) if id_ == participant_id]

    async def revoke_keys(self, participant_id: str, at: datetime) -> Sequence[str]:
        for key_id, signing in self._signing_keys.items():
            if signing.participant_id == participant_id and signing.revoked_at is None:
                self._signing_keys[key_id] = replace(signing, revoked_at=at)
        revoked = [
            key.key_id
            for key in self._keys.values()
            if key.participant_id == participant_id and key.revoked_at is None
        ]
        for key_id in revoked:
            self._keys[key_id] = replace(self._keys[key_id], revoked_at=at)
        return sorted(revoked)

    async def hold_many(self, participant_ids: Sequence[str]) -> Mapping[str, Held]:
        found = [self._rows[id_] for id_ in participant_ids if id_ in self._rows]
        return {
            each.participant_id: Held(each.standing, each.products, each.licence_ends)
            for each in found
        }

    async def hold_standings(self, participant_ids: Sequence[str]) -> Mapping[str, Standing]:
        return {id_: self._rows[id_].standing for id_ in participant_ids if id_ in self._rows}

    async def among(self, participant_ids: Collection[str]) -> dict[str, Participant]:
        return {id_: self._rows[id_] for id_ in participant_ids if id_ in self._rows}

    async def page(self, roles: Collection[Role], after: str, limit: int) -> Sequence[Participant]:
        found = [row for id_, row in sorted(self._rows.items()) if id_ > after]
        return [row for row in found if row.role in roles][:limit]

    async def add_key(self, key: ApiKey) -> None:
        self._keys[key.key_id] = key

    async def get_key(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    lock_key = get_key

    async def revoke_key(self, key_id: str, at: datetime) -> None:
        self._keys[key_id] = replace(self._keys[key_id], revoked_at=at)

    async def add_signing_key(self, key: SigningKey) -> bool:
        if key.key_id in self._signing_keys:
            return False
        self._signing_keys[key.key_id] = key
        self._rows[key.participant_id] = replace(self._rows[key.participant_id], signs=True)
        return True

    async def signing_key(self, participant_id: str, key_id: str) -> SigningKey | None:
        found = self._signing_keys.get(key_id)
        return found if found and found.participant_id == participant_id else None

    async def revoke_signing_key(self, key_id: str, at: datetime) -> None:
        self._signing_keys[key_id] = replace(self._signing_keys[key_id], revoked_at=at)

    async def signing_keys(
        self, participant_id: str, after: str, limit: int
    ) -> Sequence[SigningKey]:
        return [
            key
            for key_id, key in sorted(self._signing_keys.items())
            if key.participant_id == participant_id and key_id > after
        ][:limit]


class FakeCredentials:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.credentials

    async def add(self, added: Credential) -> bool:
        kind, identity = added.claim.kind, added.claim.identity
        for row in self._rows.values():
            free = kind is Kind.PERSON and row.revoked_at is not None
            if not free and (row.claim.kind, row.claim.identity) == (kind, identity):
                return False
        self._rows[added.credential_id] = added
        return True

    async def get(self, participant_id: str, credential_id: str) -> Credential | None:
        found = self._rows.get(credential_id)
        return found if found and found.participant_id == participant_id else None

    async def person(self, person_id: str) -> Credential | None:
        for row in self._rows.values():
            current = row.claim.kind is Kind.PERSON and row.revoked_at is None
            if current and row.claim.identity == person_id:
                return row
        return None

    async def unrevoked(self, participant_id: str) -> Sequence[Credential]:
        rows = await self.page(participant_id, "", len(self._rows))
        return [row for row in rows if row.revoked_at is None]

    async def revoke(self, revoked: Credential, at: datetime) -> None:
        self._rows[revoked.credential_id] = replace(revoked, revoked_at=at)

    async def page(self, participant_id: str, after: str, limit: int) -> Sequence[Credential]:
        rows = [row for id_, row in sorted(self._rows.items()) if id_ > after]
        return [row for row in rows if row.participant_id == participant_id][:limit]


class FakeSubjects:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.subjects

    async def resolve(self, uscc: str) -> str | None:
        return self._rows.get(uscc)

    async def usccs(self, subject_ids: Iterable[str]) -> dict[str, str]:
        return {id_: uscc for uscc, id_ in self._rows.items() if id_ in set(subject_ids)}

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        return set(subject_ids) & set(self._rows.values())

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        return {
            uscc: self._rows.setdefault(uscc, f"sub_{len(self._rows) + 1:04}") for uscc in usccs
        }


class FakeConsents:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.consents
        self._people = memory.participants
        self._used = memory.quotas
        self._consumptions = memory.consumptions

    async def consume(self, consent: Consent, receipt: Receipt) -> None:
        self._consumptions[consent.core.consent_id] = receipt

    async def add(self, consent: Consent) -> None:
        self._rows[consent.core.consent_id] = consent

    async def get(self, consent_id: str, now: datetime) -> Consent | None:
        found = self._rows.get(consent_id)
        return None if found is None else self._with_use(found, now)

    lock = get

    def _with_use(self, row: Consent, now: datetime) -> Consent:
        limit, core = row.core.terms.fetch_limit, row.core
        period = 0 if limit is None else limit.period(now)
        recipient = self._people.get(core.recipient_id)
        return replace(
            row,
            used=self._used.get((core.subject_id, core.consent_id, period), 0),
            suspended=recipient is not None and recipient.standing is Standing.SUSPENDED,
            termination=row.termination or self._consumptions.get(core.consent_id),
        )

    async def hold(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Consent]:
        found = {
            (row.core.subject_id, id_): replace(
                row, signatures=(), note="", used=0, suspended=False
            )
            for id_, row in self._rows.items()
        }
        return {key: found[key] for key in keys if key in found}

    async def given_to(
        self, recipient_id: str, now: datetime, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        return [
            (row.core.subject_id, id_)
            for id_, row in sorted(self._rows.items())
            if row.core.recipient_id == recipient_id
            and id_ > after
            and state_at(replace(self._with_use(row, now), suspended=False), now) is State.ACTIVE
        ][:limit]

    async def is_over(self, now: datetime) -> bool:
        return bool(await self.over(now, 1))

    async def over(self, now: datetime, limit: int) -> Sequence[Consent]:
        found = (self._with_use(row, now) for row in self._rows.values() if not row.end_told)
        return [
            row
            for row in found
            if row.core.terms.expires_at <= now or state_at(row, now) is State.LAPSED
        ][:limit]

    async def update(self, consent: Consent) -> None:
        told = consent.end_told or consent.state not in OPEN_STATES
        self._rows[consent.core.consent_id] = replace(consent, end_told=told)

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        state: State | None,
        now: datetime,
        before: str,
        limit: int,
    ) -> Sequence[Consent]:
        return [
            row
            for id_, stored in sorted(self._rows.items(), reverse=True)
            for row in [self._with_use(stored, now)]
            if subject_id in (None, row.core.subject_id)
            and recipient_id in (None, row.core.recipient_id)
            and state in (None, state_at(row, now))
            and (not before or id_ < before)
        ][:limit]


class FakeSigners:
    def __init__(self, memory: Memory) -> None:
        self._rules = memory.signing_rules

    async def of(self, subject_id: str) -> SigningRule:
        return self._rules.get(subject_id, SigningRule())


class FakeDuties:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.duties

    async def begin(self, consent: Consent) -> None:
        core = consent.core
        ended_at = core.terms.expires_at
        self._rows.setdefault(
            core.consent_id,
            Duty(
                core.consent_id,
                core.subject_id,
                core.recipient_id,
                ended_at,
                due_by(consent, ended_at),
            ),
        )

    async def end(self, consent: Consent, at: datetime) -> None:
        found = self._rows.get(consent.core.consent_id)
        if found is not None and found.ended_at > at:
            changed = replace(found, ended_at=at, due_at=due_by(consent, at))
            self._rows[found.consent_id] = changed

    async def lock(self, consent_id: str, recipient_id: str) -> Duty | None:
        found = self._rows.get(consent_id)
        return found if found is not None and found.recipient_id == recipient_id else None

    async def attest(self, duty: Duty, attestation: Attestation) -> None:
        self._rows[duty.consent_id] = replace(duty, attestation=attestation)

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        overdue: bool,
        now: datetime,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Duty]:
        return [
            duty
            for duty in sorted(self._rows.values(), key=lambda each: (each.due_at, each.consent_id))
            if duty.ended_at <= now
            and subject_id in (None, duty.subject_id)
            and recipient_id in (None, duty.recipient_id)
            and (not overdue or (duty.due_at <= now and duty.attestation is None))
            and (after is None or (duty.due_at, duty.consent_id) > after)
        ][:limit]


class FakeAccesses:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.accesses
        self._participants = memory.participants

    async def released(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Earlier]:
        found = {
            (row.recipient_id, row.request_id): Earlier(row.access_id, row.fingerprint, row.as_of)
            for row, _ in self._rows.values()
            if row.outcome is Outcome.RELEASED
        }
        return {key: found[key] for key in keys if key in found}

    async def sealed(self, keys: Sequence[tuple[str, str]]) -> Mapping[str, Sealed]:
        found = {id_: self._rows[id_] for _, id_ in keys}
        return {id_: Sealed(row, leaf.salt, leaf.hash) for id_, (row, leaf) in found.items()}

    async def append(self, accesses: Sequence[tuple[Access, Leaf]]) -> None:
        self._rows |= {access.access_id: (access, leaf) for access, leaf in accesses}

    async def page(
        self, *, subject_id: str, recipient_id: str, before: str, limit: int
    ) -> Sequence[Recorded]:
        return [
            Recorded(access, self._name(access.recipient_id), leaf.hash)
            for id_, (access, leaf) in sorted(self._rows.items(), reverse=True)
            if subject_id in ("", access.subject_id)
            and recipient_id in ("", access.recipient_id)
            and (not before or id_ < before)
        ][:limit]

    def _name(self, participant_id: str) -> str:
        found = self._participants.get(participant_id)
        return found.name if found else ""


class FakeEnquiries:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.accesses

    async def read(self, queries: Sequence[SummaryQuery]) -> Sequence[StoredSeries | None]:
        return [self._series(query) for query in queries]

    def _series(self, query: SummaryQuery) -> StoredSeries | None:
        asked = [
            Enquiry(row.recipient_id, row.product, row.accessed_at)
            for row, _ in self._rows.values()
            if row.subject_id == query.subject_id
            and row.purpose == PURPOSE
            and row.outcome is Outcome.RELEASED
            and row.content_level > ContentLevel.PROFILE
            and row.accessed_at < query.as_of
        ]
        catalogue = load()
        since = query.today - catalogue.types[ENQUIRY].retention.days + 1
        months = by_month(asked, query.first_month, query.last_month, since)
        if not months:
            return None
        layout = layouts_of(catalogue)[ENQUIRY]
        table = Table(
            {month: [it.enquiries, it.enquiries, it.applications] for month, it in months.items()}
        )
        content = encode(SeriesKey(query.subject_id, ENQUIRY, PLATFORM), layout, table, {})
        return StoredSeries(ENQUIRY, PLATFORM, content, first_month=min(months))


class FakeLeaves:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.leaves

    async def append(self, leaves: Sequence[Leaf]) -> None:
        self._rows |= {leaf.leaf_id: leaf for leaf in leaves}


class FakeChanges:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.changes

    async def append(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._rows[len(self._rows) + 1] = change

    async def after(self, position: int, limit: int) -> Sequence[Entry]:
        return [Entry(at, change) for at, change in self._rows.items() if at > position][:limit]


class FakeRequests:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.requests

    async def claim(self, key: RequestKey, at: datetime) -> StoredRequest | None:
        found = self._rows.get((key.caller_id, key.request_id))
        if found is None:
            self._rows[key.caller_id, key.request_id] = StoredRequest(key.fingerprint, b"")
        return found

    async def complete(self, key: RequestKey, response: bytes) -> None:
        self._rows[key.caller_id, key.request_id] = StoredRequest(key.fingerprint, response)


class FakeUses:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.uses
        self._recipients = memory.use_recipients

    async def append(self, counts: Sequence[Counted]) -> None:
        for provider_id, use, recipient_id in counts:
            key = (provider_id, *use[:3])
            self._rows[key] = self._rows.get(key, 0) + use.releases
            month = month_of_day(use.day)
            self._recipients[provider_id, use.record_type, month, recipient_id] = None

    async def page(
        self,
        provider_id: str,
        *,
        first: int | None,
        last: int | None,
        after: Place | None,
        limit: int,
    ) -> Sequence[Use]:
        def order(place: Place) -> Place:
            return (-place[0], *place[1:])

        mine = (Use(*key[1:], n) for key, n in self._rows.items() if key[0] == provider_id)
        return sorted(
            (
                use
                for use in mine
                if (first is None or use.day >= first)
                and (last is None or use.day <= last)
                and (after is None or order(use[:3]) > order(after))
            ),
            key=lambda use: order(use[:3]),
        )[:limit]


class FakeQuotas:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.quotas

    async def add(self, counts: Sequence[tuple[Key, int]]) -> Mapping[Key, int]:
        for key, count in counts:
            self._rows[key] = self._rows.get(key, 0) + count
        return {key: self._rows[key] for key, _ in counts}

    async def used(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        return {key: self._rows[key] for key in keys if key in self._rows}


class FakeWanted:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.wanted

    async def append(self, items: Sequence[Item]) -> None:
        for item in items:
            self._rows[len(self._rows) + 1] = item

    async def due_under(self, subject_id: str, consent_id: str) -> Sequence[Item]:
        return [
            item
            for item in self._rows.values()
            if (item.subject_id, item.consent_id) == (subject_id, consent_id)
            and item.state is WantedState.DUE
        ]

    async def after(self, provider_id: str, position: int, limit: int) -> Sequence[WantedEntry]:
        ended = {_due(item) for item in self._rows.values() if item.state is WantedState.ENDED}
        return [
            WantedEntry(at, item, item.state is WantedState.DUE and _due(item) in ended)
            for at, item in self._rows.items()
            if at > position and item.provider_id == provider_id
        ][:limit]


class FakeNotices:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.notices
        self._acknowledged = memory.acknowledged
        self._added: set[Notice] = set()

    async def append(self, notices: Sequence[Notice]) -> None:
        for notice in dict.fromkeys(notices):
            if notice not in self._added:
                self._added.add(notice)
                self._rows[len(self._rows) + 1] = notice

    async def spill(self) -> None:
        self._added.clear()

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[NoticeEntry]:
        return [
            NoticeEntry(at, f"ntc_{at:04}", notice)
            for at, notice in self._rows.items()
            if at > position and notice.party_id == party_id
        ][:limit]

    async def last(self, party_id: str) -> int:
        mine = (at for at, notice in self._rows.items() if notice.party_id == party_id)
        return max(mine, default=0)

    async def pruned(self, party_id: str) -> int:
        return 0

    async def acknowledged(self, party_id: str) -> int:
        return self._acknowledged.get(party_id, 0)

    async def acknowledge(self, party_id: str, position: int) -> None:
        self._acknowledged[party_id] = max(position, self._acknowledged.get(party_id, 0))


class FakePlatformKeys:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.platform_keys

    async def add(self, key: PlatformKey) -> bool:
        return self._rows.setdefault(key.key.key_id, key) is key

    async def all(self) -> Sequence[PlatformKey]:
        return sorted(self._rows.values(), key=lambda key: (key.since, key.key.key_id))


def _due(item: Item) -> tuple[str, str, str, str]:
    return item.subject_id, item.provider_id, item.record_type, item.consent_id


class FakeErasures:
    def __init__(self, memory: Memory) -> None:
        self._rows = memory.erased

    async def erased(self, subject_ids: Iterable[str]) -> set[str]:
        return set(subject_ids) & set(self._rows)


class FakeSummaries:
    """Every series of a subject; providers and types are respected, months are not clipped."""

    def __init__(self, memory: Memory) -> None:
        self._rows = memory.series
        self._since = memory.supplied
        self._withheld = memory.withheld

    async def read(self, queries: Sequence[SummaryQuery]) -> Sequence[Found]:
        return [self._found(query) for query in queries]

    def _found(self, query: SummaryQuery) -> Found:
        rows = [
            series
            for series in self._rows.get(query.subject_id, ())
            if series.record_type in query.record_types
        ]
        mine = [
            series
            for series in rows
            if query.provider_ids is None or series.provider_id in query.provider_ids
        ]
        left_out = frozenset(series.record_type for series in rows if series not in mine)
        withheld_of = {(row.record_type, row.provider_id) for row in mine}
        hidden = query.subject_id in self._withheld
        return Found(tuple(mine), left_out, frozenset(withheld_of) if hidden else frozenset())

    async def supplied_types(self) -> Mapping[str, datetime]:
        types = {series.record_type for rows in self._rows.values() for series in rows}
        return {name: self._since.get(name, EPOCH) for name in types}
