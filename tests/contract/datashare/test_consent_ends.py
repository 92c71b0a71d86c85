"""What nobody acts out is told: ends that time makes, rests that a suspension makes."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from puhui_client.signing import PublicKey
from services.datashare.access.domain import Released
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent import ending
from services.datashare.consent.domain import Action, Consent, Mode, Period, State, Terms, state_at
from services.datashare.consent.ending import TellEnds
from services.datashare.consent.servicer import consent_message
from services.datashare.notices import writing
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.participants.domain import Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME
from services.kit.clock import FixedClock
from services.kit.db import Database
from services.kit.identity import Caller
from tests.fakes.replicas import BANK, OFFICER, Replica
from tests.fakes.signing import SIGNER
from tests.fakes.standing import set_standing

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
END = NOW + timedelta(days=90)
EXPIRED, LAPSED, ERASURE = (
    NoticeKind.CONSENT_EXPIRED,
    NoticeKind.CONSENT_LAPSED,
    NoticeKind.ERASURE_DUE,
)


class Office:
    """A bank and a firm."""

    def __init__(self, database: Database) -> None:
        self.clock = FixedClock(NOW)
        self.replica = Replica(database, self.clock)
        self.tell = self.teller(self.replica)

    def teller(self, replica: Replica) -> TellEnds:
        return TellEnds(replica.transactions, self.clock, SIGNER)

    async def open(self) -> None:
        self.firm = await self.replica.populate()

    async def asked(self, **changes: Any) -> Consent:
        values: dict[str, Any] = {
            "purpose": "credit_application",
            "provider_ids": ("par_tax",),
            "record_types": ("vat_invoice",),
            "content_level": ContentLevel.SUMMARY,
            "data_period": Period(date(2023, 1, 1), date(2026, 12, 31)),
            "not_before": None,
            "expires_at": END,
        }
        assert self.firm.subject_id
        named = SubjectName(subject_id=self.firm.subject_id)
        return await self.replica.consents.request(
            BANK, self.replica.key(BANK), named, Terms(**(values | changes)), OFFICER
        )

    async def granted(self, **changes: Any) -> Consent:
        return await self.replica.granted_as_asked(self.firm, await self.asked(**changes))

    async def found(self, consent: Consent) -> tuple[Consent, datetime]:
        return await self.replica.consents.get(self.firm, consent.core.consent_id)

    async def told(self, who: Caller) -> list[Notice]:
        party_id = who.subject_id or who.participant_id
        async with self.replica.transactions.read() as work:
            entries = await work.notices.after(party_id, 0, 10_000)
        return [entry.notice for entry in entries]

    async def told_of(self, consent: Consent, who: Caller) -> list[NoticeKind]:
        """Return what a party was told of a consent, but for what it did or was asked for."""
        acts = {NoticeKind.CONSENT_REQUESTED, NoticeKind.CONSENT_GRANTED}
        return [
            notice.kind
            for notice in await self.told(who)
            if notice.consent_id == consent.core.consent_id and notice.kind not in acts
        ]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two databases."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def office(database: Database) -> Office:
    """A bank and a firm."""
    office = Office(database)
    await office.open()
    return office


class TestEnds:
    async def test_what_expires_or_lapses_is_told_once_to_both(self, office: Office) -> None:
        lapses, expires = await office.asked(), await office.granted()
        stored = await office.granted(mode=Mode.STORE, data_life_days=7)
        office.clock.at = NOW + timedelta(days=30, microseconds=-1)
        assert await office.tell() == 0
        office.clock.at = NOW + timedelta(days=30)
        assert await office.tell() == 1
        office.clock.at = END - timedelta(microseconds=1)
        assert await office.tell() == 0
        # However late it is told: what counts is when it ended.
        office.clock.at = END + timedelta(days=2)
        assert await office.tell() == 2
        assert await office.tell() == 0
        for who in (office.firm, BANK):
            assert await office.told_of(lapses, who) == [LAPSED]
            assert await office.told_of(expires, who) == [EXPIRED]
            assert await office.told_of(stored, who) == [EXPIRED, ERASURE]
            ends = [
                (notice.kind, notice.occurred_at, notice.due_at, notice.participant_id)
                for notice in await office.told(who)
                if notice.kind in (LAPSED, EXPIRED, ERASURE)
            ]
            assert sorted(ends, key=str) == sorted(
                [
                    (LAPSED, NOW + timedelta(days=30), None, "par_bank"),
                    (EXPIRED, END, None, "par_bank"),
                    (EXPIRED, END, None, "par_bank"),
                    (ERASURE, END, END + timedelta(days=7), "par_bank"),
                ],
                key=str,
            )

    async def test_its_receipt_is_signed_and_says_when_and_that_nobody_did_it(
        self, office: Office
    ) -> None:
        consent = await office.granted(mode=Mode.STORE, data_life_days=7)
        office.clock.at = END
        await office.tell()
        found, now = await office.found(consent)
        assert (found.state, state_at(found, now)) == (State.ACTIVE, State.EXPIRED)
        assert found.revision == consent.revision
        assert found.termination is not None
        PublicKey.parse(SIGNER.key.public_jwk).verify(
            found.termination.jws, found.termination.canonical
        )
        stated = json.loads(found.termination.canonical)
        assert (stated["state"], stated["ended_by"]) == ("EXPIRED", "")
        assert stated["canonical_sha256"] == consent.sha256.hex()
        assert stated["ended_at"] == "2026-07-30T08:30:00.000000Z"
        assert stated["erase_by"] == "2026-08-06T08:30:00.000000Z"
        assert consent_message(found, now).HasField("termination")

    async def test_what_ended_otherwise_is_not_told_again(self, office: Office) -> None:
        withdrawn, rejected = await office.granted(), await office.asked()
        used = await office.granted(fetch_limit=ONE_TIME)
        for consent, action in ((withdrawn, Action.WITHDRAW), (rejected, Action.REJECT)):
            key = office.replica.key(office.firm)
            await office.replica.consents.end(office.firm, key, consent.core.consent_id, action, "")
        (released,) = await office.replica.fetched(office.replica.item(used))
        assert isinstance(released, Released)
        office.clock.at = END
        # Told with its use, and with a receipt.
        found, now = await office.found(used)
        stated = json.loads(consent_message(found, now).termination.canonical)
        assert (stated["state"], stated["ended_by"]) == ("CONSUMED", "par_bank")
        assert await office.tell() == 1  # the used one, silently
        assert await office.tell() == 0
        assert await office.told_of(withdrawn, BANK) == [NoticeKind.CONSENT_WITHDRAWN]
        assert await office.told_of(rejected, BANK) == [NoticeKind.CONSENT_REJECTED]
        assert await office.told_of(used, BANK) == [NoticeKind.CONSENT_CONSUMED]

    async def test_what_rests_ends_all_the_same(self, office: Office) -> None:
        consent, paused = await office.granted(), await office.granted()
        key = office.replica.key(office.firm)
        await office.replica.consents.pause(office.firm, key, paused.core.consent_id, "")
        await office.replica.set_standing("par_bank", Standing.SUSPENDED)
        office.clock.at = END
        assert await office.tell() == 2
        await office.replica.set_standing("par_bank", Standing.ACTIVE)
        for each in (consent, paused):
            assert await office.told_of(each, office.firm) == [NoticeKind.CONSENT_PAUSED, EXPIRED]

    async def test_a_clock_that_is_set_back_untells_nothing(self, office: Office) -> None:
        consent = await office.granted()
        office.clock.at = END
        await office.tell()
        office.clock.at = NOW
        found, now = await office.found(consent)
        assert state_at(found, now) is State.ACTIVE
        assert not consent_message(found, now).HasField("termination")
        assert await office.tell() == 0
        office.clock.at = END
        assert await office.tell() == 0
        assert await office.told_of(consent, BANK) == [EXPIRED]

    async def test_what_goes_on_after_its_end_was_told_ends_again(self, office: Office) -> None:
        consent = await office.asked()
        office.clock.at = NOW + timedelta(days=30)
        await office.tell()
        office.clock.at = NOW
        granted = await office.replica.granted_as_asked(office.firm, consent)
        assert granted.termination is None
        office.clock.at = END
        assert await office.tell() == 1
        assert await office.told_of(consent, BANK) == [LAPSED, EXPIRED]

    async def test_replicas_share_the_work(
        self, office: Office, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ending, "AT_ONCE", 4)
        consents = [await office.asked() for _ in range(30)]
        other = office.teller(Replica(database, office.clock))
        office.clock.at = END
        counts = await asyncio.gather(office.tell(), other(), office.tell(), other())
        assert sum(counts) + await office.tell() == len(consents)
        told = [notice.consent_id for notice in await office.told(BANK) if notice.kind is LAPSED]
        assert sorted(told) == sorted(consent.core.consent_id for consent in consents)

    @pytest.mark.parametrize("database", ["postgres"], indirect=True)  # SQLite has one writer
    async def test_one_that_somebody_holds_comes_last_and_is_not_left_out(
        self, office: Office
    ) -> None:
        held, free = await office.asked(), await office.asked()
        office.clock.at = END
        core = held.core
        async with office.replica.transactions.begin() as work:
            await work.consents.hold([(core.subject_id, core.consent_id)])
            telling = asyncio.create_task(office.tell())
            async with asyncio.timeout(20):
                while await office.told_of(free, BANK) != [LAPSED]:  # noqa: ASYNC110 - a row, no event
                    await asyncio.sleep(0.02)
            assert await office.told_of(held, BANK) == []
            assert not telling.done()
        assert await telling == 2
        assert await office.told_of(held, BANK) == [LAPSED]

    async def test_its_end_is_told_though_it_is_asked_for_without_pause(
        self, office: Office
    ) -> None:
        consent = await office.granted()
        office.clock.at = END
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                await office.replica.fetched(office.replica.item(consent))

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(ask())
            await asyncio.sleep(0.1)
            assert await office.tell() == 1
            done.set()
        assert await office.told_of(consent, office.firm) == [EXPIRED]


class TestStanding:
    async def test_each_firm_is_told_of_what_rests_and_goes_on(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "TOLD_AT_ONCE", 2)
        standing = [await office.granted() for _ in range(5)]
        paused, waiting = await office.granted(), await office.asked()
        used = await office.granted(fetch_limit=ONE_TIME)
        await office.replica.fetched(office.replica.item(used))
        key = office.replica.key(office.firm)
        await office.replica.consents.pause(office.firm, key, paused.core.consent_id, "")
        for standing_of, kind in (
            (Standing.SUSPENDED, NoticeKind.CONSENT_PAUSED),
            (Standing.ACTIVE, NoticeKind.CONSENT_RESUMED),
        ):
            before = len(await office.told(office.firm)), len(await office.told(BANK))
            await office.replica.set_standing("par_bank", standing_of)
            await office.replica.set_standing("par_bank", standing_of)  # nothing new
            told = (await office.told(office.firm))[before[0] :]
            assert [notice.consent_id for notice in told] == sorted(
                consent.core.consent_id for consent in standing
            )
            assert {(notice.kind, notice.participant_id) for notice in told} == {(kind, "par_bank")}
            assert [notice.kind for notice in (await office.told(BANK))[before[1] :]] == [kind]
        assert await office.told_of(waiting, office.firm) == []

    async def test_what_fails_midway_tells_nobody(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "TOLD_AT_ONCE", 2)
        for _ in range(4):
            await office.granted()
        before = await office.told(office.firm)

        async def suspend() -> None:
            async with office.replica.transactions.begin() as work:
                kind = NoticeKind.CONSENT_PAUSED
                await writing.tell_of_standing(work, "par_bank", kind, NOW)
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            await suspend()
        assert await office.told(office.firm) == before

    async def test_a_grant_in_the_same_moment_is_told_to_rest(self, office: Office) -> None:
        asked = await office.asked()
        async with office.replica.transactions.begin() as work:
            await work.participants.lock("par_bank")
            await set_standing(work, "par_bank", Standing.SUSPENDED)
            kind = NoticeKind.CONSENT_PAUSED
            await writing.tell_of_standing(work, "par_bank", kind, NOW)
            grant = asyncio.create_task(office.replica.granted_as_asked(office.firm, asked))
            await asyncio.sleep(0.2)
            assert not grant.done()
        await grant
        assert await office.told_of(asked, office.firm) == [NoticeKind.CONSENT_PAUSED]
