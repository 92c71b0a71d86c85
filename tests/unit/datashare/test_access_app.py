"""Fetching: what is released, what is recorded, what a replay gets."""

import base64
import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from puhui_client.signing import PublicKey
from services.datashare.access.app import Item, TellSupply
from services.datashare.access.domain import Access, CoverageState, Outcome, Released, content
from services.datashare.access.servicer import access_messages
from services.datashare.catalogue.domain import ContentLevel, SharingMode
from services.datashare.catalogue.loader import load
from services.datashare.china import china_date
from services.datashare.consent.domain import Action, Consent, Period
from services.datashare.log.domain import LeafKind, canonical, leaf_hash
from services.datashare.participants.domain import Participant, Standing
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.kit.errors import PermissionDeniedError, PuhuiError, ResourceExhaustedError
from services.kit.identity import Caller
from tests.fakes.datashare_world import (
    BANK,
    FIRM,
    NOW,
    OTHER,
    RIVAL,
    TAX,
    TERMS,
    World,
    caller,
)
from tests.fakes.signing import SIGNER


@pytest.fixture
def world() -> World:
    return World()


OPEN = {name for name, kind in load().types.items() if kind.sharing_mode is SharingMode.OPEN}


def reasons(results: list[Released | PuhuiError]) -> list[str]:
    return ["RELEASED" if isinstance(result, Released) else result.reason for result in results]


async def released(world: World, item: Item) -> Released:
    (result,) = await world.fetched(item)
    assert isinstance(result, Released)
    return result


class TestEnquiries:
    async def test_the_platform_itself_tells_who_asked_before(self, world: World) -> None:
        consent = await world.granted(record_types=(*TERMS.record_types, "enquiry"))
        first = await released(world, world.item(consent))
        assert dict(first.coverage)["enquiry"] is CoverageState.NONE_EXISTS
        world.clock.advance(timedelta(days=1))
        later = await released(world, world.item(consent))
        assert dict(later.coverage)["enquiry"] is CoverageState.SUPPLIED
        assert ("enquiry", "platform") in {(it.record_type, it.provider_id) for it in later.series}
        assert ("enquiry", "platform") in {
            (it.record_type, it.provider_id) for it in later.manifest
        }

    async def test_without_its_consent_nobody_learns_of_them(self, world: World) -> None:
        consent = await world.granted()
        await released(world, world.item(consent))
        world.clock.advance(timedelta(days=1))
        later = await released(world, world.item(consent))
        assert dict(later.coverage)["enquiry"] is CoverageState.NOT_CONSENTED
        assert "enquiry" not in {series.record_type for series in later.series}


class TestRelease:
    async def test_the_summary_comes_with_its_access(self, world: World) -> None:
        consent = await world.granted()
        result = await released(world, world.item(consent, officer="王", file_reference="F-1"))
        assert [series.content for series in result.series] == [b"vat_invoice par_tax"]
        (access,) = world.recorded()
        assert access == Access(
            access_id=result.access_id,
            subject_id="sub_0001",
            recipient_id="par_bank",
            request_id=access.request_id,
            fingerprint=b"f" * 32,
            accessed_at=NOW,
            as_of=NOW,
            purpose="credit_application",
            record_types=tuple(sorted({"tax_filing", "vat_invoice"} | OPEN)),
            content_level=access.content_level,
            first_month=202301,
            last_month=202612,
            consent_id=consent.core.consent_id,
            consent_revision=2,
            outcome=Outcome.RELEASED,
            refusal_reason="",
            channel=access.channel,
            officer="王",
            file_reference="F-1",
            score=False,
            automated_decision=False,
        )

    async def test_what_is_made_of_it_is_recorded_and_told(self, world: World) -> None:
        consent = await world.granted(automated_decision=True)
        result = await released(world, world.item(consent, score=True, automated_decision=True))
        attested = json.loads(result.receipt.content)
        assert (attested["score"], attested["automated_decision"]) == (True, True)
        listed, _ = await world.accesses(caller(FIRM), "", "", 10)
        (told,) = access_messages(listed)
        assert (told.derived_use.score, told.derived_use.automated_decision) == (True, True)
        assert (told.first_month, told.last_month) == (202301, 202612)
        (of_before,) = access_messages(
            [replace(listed[0], access=replace(listed[0].access, score=None))]
        )
        assert not of_before.HasField("derived_use")

    async def test_without_an_officer_it_is_refused_and_the_refusal_recorded(
        self, world: World
    ) -> None:
        item = world.item(await world.granted(), officer="", file_reference="F-1")
        assert reasons(await world.fetched(item)) == ["OFFICER_REQUIRED"]
        (access,) = world.recorded()
        assert (access.outcome, access.refusal_reason) == (Outcome.REFUSED, "OFFICER_REQUIRED")
        (listed,), _ = await world.accesses(caller(FIRM), "", "", 10)
        assert listed.access.file_reference == "F-1"

    async def test_its_leaf_can_be_checked_from_what_is_listed(self, world: World) -> None:
        await released(world, world.item(await world.granted()))
        (access,) = world.recorded()
        listed, _ = await world.accesses(caller(FIRM), "", "", 10)
        (leaf,) = (
            leaf
            for leaf in world.transactions.memory.leaves.values()
            if leaf.kind is LeafKind.ACCESS
        )
        assert leaf.hash == leaf_hash(leaf.salt, canonical(content(access)))
        assert [one.leaf_hash for one in listed] == [leaf.hash]

    async def test_only_consented_providers_are_read_but_for_what_is_open(
        self, world: World
    ) -> None:
        world.supply("sub_0001", "vat_invoice", "par_elsewhere")
        world.supply("sub_0001", "court_case", "par_court")
        result = await released(world, world.item(await world.granted()))
        assert [(series.record_type, series.provider_id) for series in result.series] == [
            ("vat_invoice", "par_tax"),
            ("court_case", "par_court"),
        ]
        assert not any(b"elsewhere" in series.content for series in result.series)
        coverage = dict(result.coverage)
        assert coverage["vat_invoice"] is CoverageState.NOT_CONSENTED
        assert coverage["court_case"] is CoverageState.SUPPLIED

    async def test_a_register_is_complete_only_since_it_is_supplied(self, world: World) -> None:
        consent = await world.granted()
        world.transactions.memory.supplied["court_case"] = NOW
        now = await released(world, world.item(consent, as_of=NOW))
        before = await released(world, world.item(consent, as_of=NOW - timedelta(days=1)))
        assert dict(now.coverage)["court_case"] is CoverageState.NONE_EXISTS
        assert dict(before.coverage)["court_case"] is CoverageState.NOT_SUPPLIED

    async def test_it_says_which_period_was_open(self, world: World) -> None:
        consent = await world.granted()
        narrower = Period(date(2024, 1, 1), date(2024, 12, 31))
        whole = await released(world, world.item(consent))
        part = await released(world, world.item(consent, period=narrower))
        assert (whole.period, part.period) == (TERMS.data_period, narrower)

    async def test_it_says_whether_something_of_it_is_simulated(self, world: World) -> None:
        consent = await world.granted()
        assert not (await released(world, world.item(consent))).simulated
        world.supply("sub_0001", "tax_filing", "par_elsewhere", simulated=True)
        assert not (await released(world, world.item(consent))).simulated
        world.supply("sub_0001", "court_case", "par_court", simulated=True)
        assert (await released(world, world.item(consent))).simulated

    async def test_it_says_whether_something_is_withheld(self, world: World) -> None:
        consent = await world.granted()
        assert not (await released(world, world.item(consent))).withheld
        world.transactions.memory.withheld["sub_0001"] = True
        assert (await released(world, world.item(consent))).withheld

    async def test_its_access_says_from_when_open_types_were_read(self, world: World) -> None:
        world.supply("sub_0001", "registration", "par_court", first_month=201503)
        await released(world, world.item(await world.granted()))
        (access,) = world.recorded()
        assert (access.first_month, access.last_month) == (201503, 202612)


class TestErased:
    async def test_a_subject_that_was_erased_is_refused_with_and_without_consent(
        self, world: World
    ) -> None:
        consent = await world.granted()
        before = world.item(consent)
        await released(world, before)
        memory = world.transactions.memory
        del memory.series["sub_0001"]
        memory.subjects = {code: id_ for code, id_ in memory.subjects.items() if id_ != "sub_0001"}
        memory.erased["sub_0001"] = NOW
        found = await world.fetched(
            world.item(consent), before, world.item(None), world.item(None, subject_id="sub_0009")
        )
        assert [getattr(each, "reason", None) for each in found] == [
            *["SUBJECT_ERASED"] * 3,
            "NOT_FOUND",
        ]
        assert [access.subject_id for access in world.recorded()][-2:] == ["sub_0001", ""]

    async def test_a_consent_that_no_longer_holds_is_the_reason_first(self, world: World) -> None:
        consent = await world.granted()
        await world.end(caller(FIRM), consent, Action.WITHDRAW)
        world.transactions.memory.erased["sub_0001"] = NOW
        (found,) = await world.fetched(world.item(consent))
        assert getattr(found, "reason", None) == "CONSENT_WITHDRAWN"


class TestRefusal:
    async def test_it_is_recorded_with_its_reason_and_touches_nobody_else(
        self, world: World
    ) -> None:
        good, ended = await world.granted(), await world.granted()
        await world.end(caller(FIRM), ended, Action.WITHDRAW)
        results = await world.fetched(world.item(good), world.item(ended), world.item(good))
        assert reasons(results) == ["RELEASED", "CONSENT_WITHDRAWN", "RELEASED"]
        assert [
            (access.outcome, access.refusal_reason, access.consent_revision)
            for access in world.recorded()
        ] == [
            (Outcome.RELEASED, "", 2),
            (Outcome.REFUSED, "CONSENT_WITHDRAWN", 3),
            (Outcome.RELEASED, "", 2),
        ]

    async def test_it_records_which_types_were_wanted(self, world: World) -> None:
        consent = await world.granted()
        all_of_it = world.item(consent, purpose="model_training")
        one = world.item(consent, purpose="model_training", record_types=("vat_invoice",))
        theirs = replace(world.item(consent), caller=caller(OTHER))
        await world.fetched(all_of_it, one, theirs)
        assert [(access.record_types, access.consent_revision) for access in world.recorded()] == [
            (("tax_filing", "vat_invoice"), 2),
            (("vat_invoice",), 2),
            # Another bank learns nothing of the consent from its own list.
            ((), 0),
        ]

    async def test_it_records_only_types_that_there_are(self, world: World) -> None:
        item = world.item(None, record_types=("vat_invoice", "x" * 64))
        nothing = world.item(None, record_types=("anything",))
        assert reasons(await world.fetched(item, nothing)) == ["TYPE_UNKNOWN", "TYPE_UNKNOWN"]
        assert [access.record_types for access in world.recorded()] == [("vat_invoice",), ()]

    async def test_what_names_no_subject_is_not_kept(self, world: World) -> None:
        sent = "91110108MA01234537"
        consent = await world.granted()
        await world.fetched(
            world.item(None, subject_id=sent),
            world.item(consent, subject_id=sent),
            world.item(None, subject_id=sent, record_types=("vat_invoice",)),
            world.item(consent, consent_id="con_none"),
        )
        assert [(access.subject_id, access.refusal_reason) for access in world.recorded()] == [
            ("", "NOT_FOUND"),
            ("", "CONSENT_NOT_FOUND"),
            ("", "CONSENT_REQUIRED"),
            ("sub_0001", "CONSENT_NOT_FOUND"),
        ]

    async def test_another_banks_consent_is_as_if_there_were_none(self, world: World) -> None:
        consent = await world.granted()
        theirs = replace(world.item(consent), caller=caller(OTHER))
        none = world.item(consent, consent_id="con_none")
        first, second = await world.fetched(theirs, none)
        assert isinstance(first, PuhuiError)
        assert isinstance(second, PuhuiError)
        assert (first.code, first.reason, first.message) == (
            second.code,
            second.reason,
            second.message,
        )

    async def test_a_suspended_bank_gets_nothing_at_once(self, world: World) -> None:
        item = world.item(await world.granted())
        people = world.transactions.memory.participants
        people["par_bank"] = replace(BANK, standing=Standing.SUSPENDED)
        assert reasons(await world.fetched(item)) == ["PARTICIPANT_SUSPENDED"]
        assert [access.refusal_reason for access in world.recorded()] == ["PARTICIPANT_SUSPENDED"]

    @pytest.mark.parametrize("standing", [Standing.APPLIED, Standing.APPROVED, Standing.EXITED])
    async def test_who_is_not_active_gets_nothing(self, world: World, standing: Standing) -> None:
        item = world.item(await world.granted())
        people = world.transactions.memory.participants
        people["par_bank"] = replace(BANK, standing=standing)
        assert reasons(await world.fetched(item)) == ["PARTICIPANT_NOT_ACTIVE"]

    async def test_a_purpose_needs_a_licence_for_its_product_that_lasts(self, world: World) -> None:
        item = world.item(await world.granted())
        day = china_date(NOW)
        for licence, answer in (
            ({"products": ()}, "PRODUCT_NOT_LICENSED"),
            ({"products": ("data_service",)}, "PRODUCT_NOT_LICENSED"),
            ({"licence_ends": day - timedelta(days=1)}, "PRODUCT_NOT_LICENSED"),
            ({"licence_ends": day, "products": ("credit_reporting",)}, "RELEASED"),
        ):
            world.transactions.memory.participants["par_bank"] = replace(BANK, **licence)
            assert reasons(await world.fetched(item)) == [answer]
        assert world.recorded()[0].refusal_reason == "PRODUCT_NOT_LICENSED"

    async def test_nobody_knows_about_a_subject_that_is_none(self, world: World) -> None:
        unknown = world.item(None, subject_id="sub_9999")
        assert reasons(await world.fetched(unknown, world.item(None))) == ["NOT_FOUND", "RELEASED"]

    async def test_who_is_late_costs_nothing(self, world: World) -> None:
        consent = await world.granted()
        late = replace(world.item(consent), deadline=NOW)
        in_time = replace(world.item(consent), deadline=NOW + timedelta(seconds=1))
        results = await world.fetched(late, in_time)
        assert reasons(results) == ["DEADLINE_EXCEEDED", "RELEASED"]
        assert len(world.recorded()) == 1

    async def test_a_batch_of_only_late_ones_opens_no_transaction(self, world: World) -> None:
        before = world.transactions.memory
        late = replace(world.item(None), deadline=NOW - timedelta(seconds=1))
        assert reasons(await world.fetched(late)) == ["DEADLINE_EXCEEDED"]
        assert world.transactions.memory is before


class TestReplay:
    async def test_it_is_the_same_access_and_the_same_data(self, world: World) -> None:
        item = world.item(await world.granted())
        first = await released(world, item)
        world.clock.advance(timedelta(days=3))
        assert await released(world, item) == first
        assert len(world.recorded()) == 1

    async def test_another_body_is_refused_and_not_recorded(self, world: World) -> None:
        item = world.item(await world.granted())
        await released(world, item)
        other = replace(item, fetch=replace(item.fetch, fingerprint=b"g" * 32))
        assert reasons(await world.fetched(other)) == ["REQUEST_ID_REUSED"]
        assert len(world.recorded()) == 1

    async def test_it_is_refused_after_withdrawal(self, world: World) -> None:
        consent = await world.granted()
        item = world.item(consent)
        first = await released(world, item)
        await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert reasons(await world.fetched(item)) == ["CONSENT_WITHDRAWN"]
        assert [access.refusal_reason for access in world.recorded()] == ["", "CONSENT_WITHDRAWN"]
        assert len({access.access_id for access in world.recorded()}) == 2
        assert world.recorded()[0].access_id == first.access_id

    async def test_a_refused_request_may_be_sent_again(self, world: World) -> None:
        consent = await world.requested()
        item = world.item(consent)
        assert reasons(await world.fetched(item)) == ["CONSENT_NOT_ACTIVE"]
        await world.consents.grant(
            caller(FIRM), world.key(caller(FIRM)), consent.core.consent_id, consent.sha256, ()
        )
        assert reasons(await world.fetched(item)) == ["RELEASED"]

    async def test_within_a_batch_too(self, world: World) -> None:
        item = world.item(await world.granted())
        other = replace(item, fetch=replace(item.fetch, fingerprint=b"g" * 32))
        results = await world.fetched(item, other, item)
        assert reasons(results) == ["RELEASED", "REQUEST_ID_REUSED", "RELEASED"]
        assert results[0] == results[2]
        assert len(world.recorded()) == 1

    async def test_however_often_it_is_in_a_batch_it_costs_two_transactions(
        self, world: World
    ) -> None:
        item = world.item(await world.granted())
        begun = world.transactions.begun
        results = await world.fetched(*[item] * 256)
        assert set(reasons(results)) == {"RELEASED"}
        assert world.transactions.begun == begun + 1
        await world.fetched(*[item] * 256)
        assert world.transactions.begun == begun + 3
        assert len(world.recorded()) == 1

    async def test_reads_of_a_past_have_transactions_of_their_own(self, world: World) -> None:
        consent = await world.granted()
        pasts = [
            world.item(consent, as_of=NOW - timedelta(days=1 + n % 20), request_id=f"past_{n}")
            for n in range(40)
        ]
        begun = world.transactions.begun
        results = await world.fetched(*pasts, world.item(consent))
        assert set(reasons(results)) == {"RELEASED"}
        # The present, then 8, 8 and 4 pasts.
        assert world.transactions.begun == begun + 4
        assert [result.as_of for result in results if isinstance(result, Released)] == [
            *(item.fetch.as_of for item in pasts),
            NOW,
        ]

    async def test_a_request_id_belongs_to_its_caller(self, world: World) -> None:
        item = world.item(None)
        results = await world.fetched(item, replace(item, caller=caller(OTHER)))
        assert reasons(results) == ["RELEASED", "RELEASED"]
        assert len(world.recorded()) == 2


class TestList:
    async def test_a_firm_sees_all_to_its_data_a_bank_its_own(self, world: World) -> None:
        item = world.item(await world.granted())
        open_one = replace(world.item(None), caller=caller(OTHER))
        rivals = world.item(None, subject_id="sub_0002")
        await world.fetched(item, open_one, rivals)

        async def listed(who: Participant, subject_id: str = "") -> list[tuple[str, str]]:
            found, _ = await world.accesses(caller(who), subject_id, "", 10)
            return [(one.access.subject_id, one.recipient_name) for one in found]

        assert await listed(FIRM) == [("sub_0001", "B bank"), ("sub_0001", "A bank")]
        assert await listed(RIVAL) == [("sub_0002", "A bank")]
        assert await listed(BANK) == [("sub_0002", "A bank"), ("sub_0001", "A bank")]
        assert await listed(BANK, "sub_0001") == [("sub_0001", "A bank")]
        with pytest.raises(PermissionDeniedError) as caught:
            await listed(FIRM, "sub_0002")
        assert caught.value.reason == "NOT_YOURS"

    async def test_an_account_sees_what_its_mandate_says_whatever_came_with_the_call(
        self, world: World
    ) -> None:
        await world.fetched(world.item(None))
        stale = Caller("par_firm", "FIRM", "sub_0002")
        found, _ = await world.accesses(stale, "", "", 10)
        assert [one.access.subject_id for one in found] == ["sub_0001"]
        world.transactions.memory.mandates.clear()
        with pytest.raises(PermissionDeniedError) as caught:
            await world.accesses(caller(FIRM), "", "", 10)
        assert caught.value.reason == "MANDATE_REQUIRED"

    async def test_pages_meet(self, world: World) -> None:
        await world.fetched(*(world.item(None) for _ in range(5)))
        seen, before = [], ""
        for size in (2, 2, 2):
            page, before = await world.accesses(caller(BANK), "", before, size)
            seen += [one.access.access_id for one in page]
        assert before == ""
        assert seen == sorted((access.access_id for access in world.recorded()), reverse=True)


class TestQuota:
    async def test_one_time_is_once_and_a_replay_uses_none(self, world: World) -> None:
        consent = await world.granted(fetch_limit=ONE_TIME)
        item = world.item(consent)
        first = await released(world, item)
        assert (await released(world, item)).access_id == first.access_id
        assert reasons(await world.fetched(world.item(consent))) == ["CONSENT_CONSUMED"]
        assert (await released(world, item)).access_id == first.access_id
        assert list(world.transactions.memory.quotas.values()) == [1]
        assert [access.refusal_reason for access in world.recorded()] == ["", "CONSENT_CONSUMED"]

    async def test_a_limit_holds_until_the_next_period_begins(self, world: World) -> None:
        consent = await world.granted(fetch_limit=Limit(2, Unit.DAY))
        for _ in range(2):
            await released(world, world.item(consent))
        (refused,) = await world.fetched(world.item(consent))
        assert isinstance(refused, ResourceExhaustedError)
        # 16:30 in China: the day ends in seven and a half hours.
        assert refused.reason == "QUOTA_EXHAUSTED"
        assert refused.retry_after == timedelta(hours=7, minutes=30)
        assert "2026-05-02T00:00:00+08:00" in refused.message
        world.clock.advance(refused.retry_after)
        await released(world, world.item(consent))
        world.clock.advance(-timedelta(hours=1))
        assert reasons(await world.fetched(world.item(consent))) == ["QUOTA_EXHAUSTED"]

    async def test_of_a_batch_the_first_are_within(self, world: World) -> None:
        narrow = await world.granted(fetch_limit=Limit(2, Unit.MONTH))
        wide = await world.granted(fetch_limit=Limit(9, Unit.MONTH))
        items = [world.item(consent) for consent in (narrow, wide, narrow, narrow, wide)]
        twice = items[0]
        assert reasons(await world.fetched(*items, twice)) == [
            *("RELEASED", "RELEASED", "RELEASED", "QUOTA_EXHAUSTED", "RELEASED", "RELEASED")
        ]
        assert sorted(world.transactions.memory.quotas.values()) == [2, 2]

    async def test_refusals_use_none(self, world: World) -> None:
        consent = await world.granted(fetch_limit=ONE_TIME)
        wrong = world.item(consent, record_types=("credit_facility",))
        unnamed = world.item(consent, officer="")
        assert reasons(await world.fetched(wrong, unnamed)) == [
            "TYPE_NOT_CONSENTED",
            "OFFICER_REQUIRED",
        ]
        await released(world, world.item(consent))

    async def test_without_a_limit_of_its_own_the_purpose_has_one(self, world: World) -> None:
        consent = await world.granted()
        most = world.catalogue.purposes["credit_application"].max_fetches
        key = ("sub_0001", consent.core.consent_id, most.period(NOW))
        world.transactions.memory.quotas[key] = most.times - 1
        outcomes = await world.fetched(world.item(consent), world.item(consent))
        assert reasons(outcomes) == ["RELEASED", "QUOTA_EXHAUSTED"]


class TestCheck:
    """A check is what a fetch would be, and opens nothing."""

    async def test_it_is_an_access_of_the_level_profile_that_uses_nothing(
        self, world: World
    ) -> None:
        consent = await world.granted(fetch_limit=ONE_TIME)
        found = await released(world, world.item(consent, check=True))
        (access,) = world.recorded()
        assert access.content_level is ContentLevel.PROFILE
        assert access.outcome is Outcome.RELEASED
        assert list(world.transactions.memory.quotas.values()) == [0]
        assert world.transactions.memory.uses == {}
        fetched = await released(world, world.item(consent))
        assert found.coverage == fetched.coverage

    async def test_what_is_used_up_is_told(self, world: World) -> None:
        consent = await world.granted(fetch_limit=ONE_TIME)
        await released(world, world.item(consent))
        outcome = await world.fetched(world.item(consent, check=True))
        assert reasons(outcome) == ["CONSENT_CONSUMED"]
        assert list(world.transactions.memory.quotas.values()) == [1]

    async def test_it_is_refused_as_a_fetch_is(self, world: World) -> None:
        consent = await world.granted(score=False)
        for changes in ({"score": True}, {"officer": ""}, {"purpose": "portfolio_review"}):
            checked = await world.fetched(world.item(consent, **changes, check=True))
            assert reasons(checked) == reasons(await world.fetched(world.item(consent, **changes)))

    async def test_it_is_no_enquiry(self, world: World) -> None:
        consent = await world.granted(record_types=(*TERMS.record_types, "enquiry"))
        await released(world, world.item(consent, check=True))
        world.clock.advance(timedelta(days=1))
        later = await released(world, world.item(consent))
        assert dict(later.coverage)["enquiry"] is CoverageState.NONE_EXISTS


class TestSupply:
    async def test_types_are_told_with_who_may_supply_them(self, world: World) -> None:
        tell = TellSupply(world.transactions, world.catalogue)
        told = {each.policy.name: each for each in await tell()}
        assert set(told) == set(world.catalogue.types)
        providers = world.transactions.memory.participants.values()
        tax = sorted(each.participant_id for each in providers if each.provider_kind == "tax")
        assert told["vat_invoice"].provider_ids == tuple(tax)
        assert tax
        assert told["vat_invoice"].supplied
        assert told["field_visit"].provider_ids == ()  # a bank's own
        suspended = replace(
            world.transactions.memory.participants[tax[0]], standing=Standing.SUSPENDED
        )
        world.transactions.memory.participants[tax[0]] = suspended
        (again,) = (each for each in await tell() if each.policy.name == "vat_invoice")
        assert tax[0] not in again.provider_ids


RELATED: dict[str, Any] = {"purpose": "related_party", "for_subject_id": "sub_0002"}


class TestForAnotherFirm:
    """What a firm consents to for the score of another one is open for that one's alone."""

    async def related(self, world: World) -> Consent:
        return await world.granted(**RELATED, content_level=ContentLevel.SUMMARY)

    async def test_the_firm_is_in_the_access_its_leaf_and_what_the_subject_is_told(
        self, world: World
    ) -> None:
        result = await released(world, world.item(await self.related(world), **RELATED, score=True))
        (access,) = world.recorded()
        assert (access.subject_id, access.for_subject_id) == ("sub_0001", "sub_0002")
        assert json.loads(result.receipt.content)["for_subject_id"] == "sub_0002"
        listed, _ = await world.accesses(caller(FIRM), "", "", 10)
        assert [told.for_subject_id for told in access_messages(listed)] == ["sub_0002"]

    async def test_another_firm_is_refused_and_so_is_none(self, world: World) -> None:
        world.transactions.memory.subjects["third"] = "sub_0003"
        related, plain = await self.related(world), await world.granted()
        items = [
            world.item(related, **{**RELATED, "for_subject_id": "sub_0003"}),
            world.item(related, purpose="related_party"),
            world.item(related, **{**RELATED, "for_subject_id": "sub_0001"}),
            world.item(related),
            world.item(plain, **RELATED),
            world.item(plain, for_subject_id="sub_0002"),
        ]
        results = await world.fetched(*items)
        assert reasons(results) == [
            "SUBJECT_NOT_CONSENTED",
            "FIELD_INVALID",
            "FIELD_INVALID",
            "PURPOSE_NOT_CONSENTED",
            "PURPOSE_NOT_CONSENTED",
            "FIELD_INVALID",
        ]
        for result in results:
            if isinstance(result, PuhuiError) and result.reason == "FIELD_INVALID":
                assert [field.field for field in result.fields] == ["fetch.for_subject_id"]
        # The subject is told who tried, and for which firm.
        assert [access.for_subject_id for access in world.recorded()][:2] == ["sub_0003", ""]

    async def test_what_is_no_subject_is_not_recorded(self, world: World) -> None:
        number = "91110108MA0123456X"
        named = {**RELATED, "for_subject_id": number}
        items = [
            world.item(await self.related(world), **named),
            world.item(None, **named, record_types=("court_case",)),
        ]
        assert reasons(await world.fetched(*items)) == ["SUBJECT_NOT_CONSENTED", "NOT_FOUND"]
        assert [access.for_subject_id for access in world.recorded()] == ["", ""]

    async def test_its_quota_is_counted_by_its_own_consent(self, world: World) -> None:
        related = await world.granted(
            **RELATED, content_level=ContentLevel.SUMMARY, fetch_limit=ONE_TIME
        )
        items = [world.item(related, **RELATED) for _ in range(2)]
        assert reasons(await world.fetched(*items)) == ["RELEASED", "CONSENT_CONSUMED"]
        assert reasons(await world.fetched(items[0])) == ["RELEASED"]

    async def test_after_its_withdrawal_nothing_is_released(self, world: World) -> None:
        related = await self.related(world)
        await world.end(caller(FIRM), related, Action.WITHDRAW)
        assert reasons(await world.fetched(world.item(related, **RELATED))) == ["CONSENT_WITHDRAWN"]


class TestUse:
    async def test_a_score_needs_a_consent_to_scores(self, world: World) -> None:
        consent = await world.granted(score=False)
        scored = world.item(consent, score=True)
        assert reasons(await world.fetched(world.item(consent), scored)) == [
            "RELEASED",
            "USE_NOT_CONSENTED",
        ]

    async def test_a_decision_by_machine_alone_needs_a_consent_to_it(self, world: World) -> None:
        plain, more = await world.granted(), await world.granted(automated_decision=True)
        items = [world.item(each, score=True, automated_decision=True) for each in (plain, more)]
        assert reasons(await world.fetched(*items)) == ["USE_NOT_CONSENTED", "RELEASED"]


class TestReceipt:
    async def test_it_proves_the_leaf_and_promises_to_log_it(self, world: World) -> None:
        result = await released(world, world.item(await world.granted()))
        (access,) = world.recorded()
        receipt = result.receipt
        assert receipt.content == canonical(content(access))
        assert receipt.leaf_hash == leaf_hash(receipt.salt, receipt.content)
        assert receipt.leaf_hash in {
            leaf.hash for leaf in world.transactions.memory.leaves.values()
        }
        header, payload, signature = receipt.promise.split(".")
        promised = base64.urlsafe_b64decode(payload + "==")
        PublicKey.parse(SIGNER.key.public_jwk).verify(f"{header}..{signature}", promised)
        assert json.loads(promised) == {
            "included_by": "2026-05-02T08:30:00.000000Z",
            "leaf_hash": receipt.leaf_hash.hex(),
        }

    async def test_a_replay_gets_that_of_its_release(self, world: World) -> None:
        item = world.item(await world.granted())
        first = await released(world, item)
        world.clock.advance(timedelta(minutes=1))
        assert (await released(world, item)).receipt == first.receipt


class TestManifest:
    async def manifest(self, world: World, **terms: Any) -> dict[tuple[str, str], str]:
        result = await released(world, world.item(await world.granted(**terms)))
        assert list(result.manifest) == sorted(result.manifest)
        return {(e.record_type, e.provider_id): str(e.completeness) for e in result.manifest}

    async def test_it_says_of_each_provider_and_type_what_is_there(self, world: World) -> None:
        world.supply("sub_0001", "court_case", "par_court")
        found = await self.manifest(world)
        assert found["vat_invoice", "par_tax"] == "COMPLETE"
        assert found["tax_filing", "par_tax"] == "ABSENT"
        assert found["court_case", "par_court"] == "COMPLETE"
        assert found["ip_right", ""] == "ABSENT"
        assert found["credit_facility", ""] == "NOT_CONSENTED"
        # A court supplies no invoices, so nobody waits for any from it.
        both = await self.manifest(world, provider_ids=("par_court", "par_tax"))
        assert ("vat_invoice", "par_court") not in both

    async def test_what_is_withheld_or_left_out_is_told(self, world: World) -> None:
        world.supply("sub_0001", "vat_invoice", "par_elsewhere")
        found = await self.manifest(world)
        assert (found["vat_invoice", "par_tax"], found["vat_invoice", ""]) == (
            "COMPLETE",
            "NOT_CONSENTED",
        )
        assert not any("elsewhere" in provider_id for _, provider_id in found)
        world.transactions.memory.withheld["sub_0001"] = True
        assert (await self.manifest(world))["vat_invoice", "par_tax"] == "PARTIAL"

    async def test_what_is_due_and_has_not_come_is_partial(self, world: World) -> None:
        kept = {name for name, kind in world.catalogue.types.items() if kind.kept_to_provider}
        name = min(world.catalogue.on_consent - kept)
        kind = min(world.catalogue.types[name].provider_kinds)
        provider = replace(TAX, participant_id="par_due", provider_kind=kind)
        world.transactions.memory.participants["par_due"] = provider
        found = await self.manifest(
            world, provider_ids=("par_due", "par_tax"), record_types=(name, "vat_invoice")
        )
        assert found[name, "par_due"] == "PARTIAL"
