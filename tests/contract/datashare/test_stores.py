"""One suite for the stores of participants, consents, accesses, changes and request ids."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from puhui.datashare.v1.summaries_pb2 import Series
from services.datashare.access.domain import Access, Channel, Earlier, Outcome
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.china import china_day
from services.datashare.consent.document import request
from services.datashare.consent.domain import (
    Action,
    Consent,
    Core,
    Period,
    Signature,
    State,
    Terms,
    advance,
)
from services.datashare.idempotency.domain import RequestKey, StoredRequest
from services.datashare.log.domain import Leaf, LeafKind
from services.datashare.participants.domain import ApiKey, Participant, Role, SigningKey, Standing
from services.datashare.summaries.domain import SummaryQuery
from tests.contract.datashare.conftest import Stored
from tests.fakes.standing import set_standing

NOW = datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=UTC)
BANK = Participant("par_2", Role.BANK, "银行 A", "", None, False, Standing.ACTIVE, NOW)
FIRM = Participant("par_3", Role.FIRM, "A firm", "", "sub_1", False, Standing.ACTIVE, NOW)
TAX = Participant("par_1", Role.PROVIDER, "Tax", "tax", None, True, Standing.ACTIVE, NOW)
PEOPLE = (BANK, FIRM, TAX)


def consent(number: int, subject_id: str = "sub_1", recipient_id: str = "par_2") -> Consent:
    terms = Terms(
        purpose="credit_application",
        provider_ids=("par_1",),
        record_types=("vat_invoice",),
        content_level=ContentLevel.SUMMARY,
        data_period=Period(date(2023, 1, 1), date(2026, 12, 31)),
        not_before=None,
        expires_at=NOW + timedelta(days=number),
    )
    return request(Core(f"con_{number}", subject_id, recipient_id, terms), NOW)


def access(number: int, **changes: Any) -> tuple[Access, Leaf]:
    made = Access(
        access_id=f"acc_{number:02}",
        subject_id="sub_1",
        recipient_id="par_2",
        request_id=f"r{number}",
        fingerprint=bytes([number]) * 32,
        accessed_at=NOW,
        as_of=NOW - timedelta(hours=1),
        purpose="credit_application",
        record_types=("registration", "vat_invoice"),
        content_level=ContentLevel.SUMMARY,
        first_month=202301,
        last_month=202604,
        consent_id="con_1",
        consent_revision=2,
        outcome=Outcome.RELEASED,
        refusal_reason="",
        channel=Channel.SCORING,
        officer="王",
        file_reference="F-1",
        score=bool(number % 2),
        automated_decision=False,
        for_subject_id="sub_9" if number % 3 else "",
        product="loan" if number % 2 else "",
    )
    leaf = Leaf(f"leaf_{number:02}", NOW, LeafKind.ACCESS, b"s" * 16, bytes([number]) * 32)
    return replace(made, **changes), leaf


async def add_people(stored: Stored) -> None:
    async with stored.begin() as work:
        for person in PEOPLE:
            assert await work.participants.add(person)


class TestQuotas:
    async def test_uses_add_up_by_consent_and_period(self, stored: Stored) -> None:
        first, second, other = ("sub_1", "con_1", 20_000), ("sub_1", "con_1", 20_001), ("s", "c", 0)
        async with stored.begin() as work:
            assert await work.quotas.add([(other, 1), (first, 2)]) == {other: 1, first: 2}
            assert await work.quotas.add([]) == {}
        async with stored.begin() as work:
            assert await work.quotas.add([(first, 3), (second, 1)]) == {first: 5, second: 1}
            assert await work.quotas.add([(first, -1)]) == {first: 4}
        async with stored.read() as work:
            used = await work.quotas.used([first, second, ("sub_1", "con_1", 0)])
            assert used == {first: 4, second: 1}


class TestEnquiries:
    async def test_applications_count_once_per_bank_and_product_in_thirty_days(
        self, stored: Stored
    ) -> None:
        def at(number: int, days: int, **changes: Any) -> tuple[Access, Leaf]:
            return access(number, accessed_at=NOW - timedelta(days=days), **changes)

        loan, card = {"product": "loan"}, {"product": "card"}
        made = [
            at(1, 70, **loan),
            at(2, 41, **loan),  # within 30 days of the first
            at(3, 40, **loan),  # 30 days after it
            at(4, 40, **card),
            at(5, 40, recipient_id="par_3", **loan),
            at(6, 40, purpose="portfolio_review", **loan),
            at(7, 40, outcome=Outcome.REFUSED, **loan),
            at(8, 40, subject_id="sub_2", **loan),
            at(9, 0, **card),  # at the time of reading itself
            at(10, 5, content_level=ContentLevel.PROFILE, **card),  # a check of what is there
        ]
        query = SummaryQuery("sub_1", ("enquiry",), None, 200001, 209912, NOW, today=20_574)
        async with stored.begin() as work:
            await work.accesses.append(made)
        async with stored.read() as work:
            [found, none] = await work.enquiries.read([query, replace(query, last_month=200001)])
        assert none is None
        assert found is not None
        assert (found.record_type, found.provider_id) == ("enquiry", "platform")
        series = Series.FromString(found.content)
        columns = {column.name: sum(column.values) for column in series.columns}
        assert columns == {"enquiries": 5, "credit_applications": 4}

    async def test_one_is_told_for_as_long_as_its_type_is_kept(self, stored: Stored) -> None:
        today = china_day(NOW)
        ages = (730, 729, 705, 10)  # the third is within 30 days of one that is told no more
        made = [
            access(number, accessed_at=NOW - timedelta(days=days), product="loan")
            for number, days in enumerate(ages, 1)
        ]
        query = SummaryQuery("sub_1", ("enquiry",), None, 200001, 209912, NOW, today=today)
        async with stored.begin() as work:
            await work.accesses.append(made)
        async with stored.read() as work:
            [found] = await work.enquiries.read([query])
        assert found is not None
        series = Series.FromString(found.content)
        columns = {column.name: sum(column.values) for column in series.columns}
        assert columns == {"enquiries": 3, "credit_applications": 1}


class TestTransactions:
    async def test_what_raises_leaves_nothing(self, stored: Stored) -> None:
        async def fail() -> None:
            async with stored.begin() as work:
                await work.participants.add(BANK)
                await work.changes.append([Change(ChangeKind.KEY_REVOKED, NOW)])
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            await fail()
        async with stored.read() as work:
            assert await work.participants.get("par_2") is None
            assert not await work.changes.after(0, 10)


class TestParticipants:
    async def test_they_come_back_as_they_were(self, stored: Stored) -> None:
        await add_people(stored)
        async with stored.read() as work:
            assert [await work.participants.get(p.participant_id) for p in PEOPLE] == list(PEOPLE)
            assert await work.participants.get("par_9") is None

    async def test_a_subject_is_one_firm(self, stored: Stored) -> None:
        await add_people(stored)
        async with stored.begin() as work:
            assert not await work.participants.add(replace(FIRM, participant_id="par_4"))
            assert await work.participants.get("par_4") is None

    async def test_standing_changes(self, stored: Stored) -> None:
        await add_people(stored)
        async with stored.begin() as work:
            assert await work.participants.lock("par_2") == BANK
            await set_standing(work, "par_2", Standing.SUSPENDED)
        async with stored.begin() as work:
            assert await work.participants.hold_standings(["par_1", "par_2", "par_9"]) == {
                "par_1": Standing.ACTIVE,
                "par_2": Standing.SUSPENDED,
            }

    async def test_providers_are_told_from_others(self, stored: Stored) -> None:
        await add_people(stored)
        async with stored.read() as work:
            among = await work.participants.among(("par_1", "par_2", "x"))
            assert among == {"par_1": TAX, "par_2": BANK}

    async def test_pages_are_by_id(self, stored: Stored) -> None:
        await add_people(stored)
        async with stored.read() as work:
            both = await work.participants.page({Role.BANK, Role.PROVIDER}, "", 5)
            assert both == [TAX, BANK]
            assert await work.participants.page(set(Role), "par_1", 1) == [BANK]
            assert await work.participants.page(set(Role), "par_3", 1) == []

    async def test_keys_are_kept_and_revoked(self, stored: Stored) -> None:
        await add_people(stored)
        key = ApiKey("key_1", "par_2", b"h" * 32, NOW)
        async with stored.begin() as work:
            await work.participants.add_key(key)
        async with stored.begin() as work:
            assert await work.participants.lock_key("key_1") == key
            await work.participants.revoke_key("key_1", NOW)
        async with stored.read() as work:
            assert await work.participants.get_key("key_1") == replace(key, revoked_at=NOW)
            assert await work.participants.get_key("key_2") is None

    async def test_signing_keys_are_kept_and_revoked(self, stored: Stored) -> None:
        await add_people(stored)
        one, two, other = (
            SigningKey(name, who, "{}", NOW)
            for name, who in (("k1", "par_1"), ("k2", "par_1"), ("k3", "par_2"))
        )
        async with stored.begin() as work:
            for key in (two, one, other):
                assert await work.participants.add_signing_key(key)
        async with stored.begin() as work:
            assert not await work.participants.add_signing_key(replace(one, participant_id="par_3"))
            await work.participants.revoke_signing_key("k2", NOW)
        async with stored.read() as work:
            revoked = replace(two, revoked_at=NOW)
            assert await work.participants.signing_keys("par_1", "", 5) == [one, revoked]
            assert await work.participants.signing_keys("par_1", "k1", 5) == [revoked]
            assert await work.participants.signing_keys("par_1", "", 1) == [one]
            assert await work.participants.signing_key("par_1", "k2") == revoked
            assert await work.participants.signing_key("par_2", "k2") is None
            signers = [await work.participants.get(f"par_{number}") for number in (1, 2, 3)]
            assert [each.signs for each in signers if each] == [True, True, False]


class TestConsents:
    async def add(self, stored: Stored, *consents: Consent) -> None:
        async with stored.begin() as work:
            for added in consents:
                await work.consents.add(added)

    async def test_a_consent_comes_back_to_the_last_byte(self, stored: Stored) -> None:
        added = consent(1)
        await self.add(stored, added)
        async with stored.begin() as work:
            assert await work.consents.get("con_1", NOW) == added
            assert await work.consents.lock("con_1", NOW) == added
            assert await work.consents.get("con_9", NOW) is None

    async def test_a_change_of_state_is_kept(self, stored: Stored) -> None:
        await self.add(stored, consent(1))
        signature = Signature("par_3", "e30..c2ln")
        granted = advance(consent(1), Action.GRANT, NOW, signatures=(signature,))
        ended = advance(granted, Action.WITHDRAW, NOW + timedelta(hours=1), note="不再需要")
        for changed in (granted, ended):
            async with stored.begin() as work:
                await work.consents.update(changed)
            async with stored.read() as work:
                found = await work.consents.get("con_1", NOW)
            # An act tells of the end that it makes.
            assert found == replace(changed, end_told=changed is ended)

    async def test_those_wanted_are_held_by_subject_and_id(self, stored: Stored) -> None:
        mine, other = consent(1), consent(2, subject_id="sub_2")
        await self.add(stored, mine, other)
        signature = Signature("par_3", "e30..c2ln")
        granted = advance(mine, Action.GRANT, NOW, signatures=(signature,), note="n")
        async with stored.begin() as work:
            await work.consents.update(granted)
            keys = [("sub_1", "con_1"), ("sub_1", "con_2"), ("sub_2", "con_2"), ("x", "con_9")]
            assert await work.consents.hold(keys) == {
                # Without what a fetch does not need.
                ("sub_1", "con_1"): replace(granted, signatures=(), note=""),
                ("sub_2", "con_2"): other,
            }
            assert await work.consents.hold([]) == {}

    async def test_lists_are_newest_first_by_party_and_state(self, stored: Stored) -> None:
        rows = [consent(number) for number in range(1, 5)]
        rows[1] = advance(rows[1], Action.GRANT, NOW)
        rows[2] = advance(rows[2], Action.REJECT, NOW)
        rows.append(consent(5, subject_id="sub_2", recipient_id="par_8"))
        await self.add(stored, *rows)

        async def ids(
            subject_id: str | None = None,
            recipient_id: str | None = None,
            state: State | None = None,
            now: datetime = NOW,
            before: str = "",
            limit: int = 9,
        ) -> str:
            async with stored.read() as work:
                found = await work.consents.page(
                    subject_id=subject_id,
                    recipient_id=recipient_id,
                    state=state,
                    now=now,
                    before=before,
                    limit=limit,
                )
            return "".join(row.core.consent_id[-1] for row in found)

        assert await ids(subject_id="sub_1") == "4321"
        assert await ids(recipient_id="par_8") == "5"
        assert await ids(subject_id="sub_1", recipient_id="par_8") == ""
        assert await ids(subject_id="sub_1", before="con_4", limit=2) == "32"
        assert await ids(state=State.ACTIVE) == "2"
        assert await ids(state=State.REQUESTED) == "541"
        later = NOW + timedelta(days=3)
        assert await ids(state=State.EXPIRED, now=later) == "21"
        assert await ids(state=State.ACTIVE, now=later) == ""
        assert await ids(state=State.REQUESTED, now=later) == "54"
        assert await ids(state=State.REJECTED, now=later) == "3"


class TestAccesses:
    async def test_they_come_back_newest_first(self, stored: Stored) -> None:
        await add_people(stored)
        rows = [
            access(1),
            access(2, outcome=Outcome.REFUSED, refusal_reason="CONSENT_EXPIRED", first_month=0),
            access(3, subject_id="sub_2"),
            access(4, recipient_id="par_9", score=None, automated_decision=None),
        ]
        async with stored.begin() as work:
            await work.accesses.append(rows)

        async def page(
            subject_id: str = "", recipient_id: str = "", before: str = "", limit: int = 9
        ) -> list[tuple[Access, bytes, str]]:
            async with stored.read() as work:
                found = await work.accesses.page(
                    subject_id=subject_id, recipient_id=recipient_id, before=before, limit=limit
                )
            return [(one.access, one.leaf_hash, one.recipient_name) for one in found]

        expected = [(made, leaf.hash, "银行 A") for made, leaf in rows]
        expected[3] = (*expected[3][:2], "")
        assert await page() == expected[::-1]
        assert await page(subject_id="sub_1") == [expected[3], expected[1], expected[0]]
        assert await page(recipient_id="par_2") == [expected[2], expected[1], expected[0]]
        assert await page(subject_id="sub_2", recipient_id="par_2") == [expected[2]]
        assert await page(before="acc_03", limit=1) == [expected[1]]

    async def test_only_releases_are_found_by_request(self, stored: Stored) -> None:
        released, _ = pair = access(1)
        refused = access(2, outcome=Outcome.REFUSED)
        async with stored.begin() as work:
            await work.accesses.append([pair, refused])
        async with stored.begin() as work:
            keys = [("par_2", "r1"), ("par_2", "r2"), ("par_9", "r1")]
            assert await work.accesses.released(keys) == {
                ("par_2", "r1"): Earlier("acc_01", released.fingerprint, released.as_of)
            }

    async def test_refusals_of_a_request_may_be_many(self, stored: Stored) -> None:
        refusals = [access(n, request_id="r", outcome=Outcome.REFUSED) for n in (1, 2)]
        async with stored.begin() as work:
            await work.accesses.append(refusals)
            await work.accesses.append([access(3, request_id="r")])
        async with stored.read() as work:
            assert (
                len(await work.accesses.page(subject_id="", recipient_id="", before="", limit=9))
                == 3
            )

    async def test_nothing_is_added_for_nothing(self, stored: Stored) -> None:
        async with stored.begin() as work:
            await work.accesses.append([])
            await work.leaves.append([])


class TestChanges:
    async def test_they_are_read_behind_a_position_in_order(self, stored: Stored) -> None:
        changes = [
            Change(ChangeKind.CONSENT_GRANTED, NOW, subject_id="sub_1", consent_id="con_1"),
            Change(ChangeKind.KEY_REVOKED, NOW, participant_id="par_2", key_id="key_1"),
            Change(ChangeKind.RECORD_CORRECTED, NOW, record_type="vat_invoice"),
        ]
        async with stored.begin() as work:
            await work.changes.append(changes[:2])
        async with stored.begin() as work:
            await work.changes.append(changes[2:])
            await work.changes.append([])
        async with stored.read() as work:
            entries = await work.changes.after(0, 10)
            assert [entry.change for entry in entries] == changes
            behind_first = await work.changes.after(entries[0].position, 1)
            assert [entry.change for entry in behind_first] == changes[1:2]
            assert not await work.changes.after(entries[-1].position, 10)


class TestRequests:
    async def test_an_id_is_taken_once_per_caller(self, stored: Stored) -> None:
        key = RequestKey("par_2", "r1", b"f" * 32)
        async with stored.begin() as work:
            assert await work.requests.claim(key, NOW) is None
            await work.requests.complete(key, b"answer")
        async with stored.begin() as work:
            again = await work.requests.claim(replace(key, fingerprint=b"g" * 32), NOW)
            assert again == StoredRequest(b"f" * 32, b"answer")
            assert await work.requests.claim(replace(key, caller_id="par_3"), NOW) is None
