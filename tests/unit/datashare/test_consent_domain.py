"""Consents: canonical terms, transitions, and what a fetch may do under one."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.consent.domain import (
    Action,
    Consent,
    Core,
    Period,
    Signature,
    State,
    Terms,
    Wanted,
    advance,
    canonical,
    check,
    check_grant,
    check_terms,
    core_of,
    request,
    state_at,
)
from services.kit.errors import FailedPreconditionError, InvalidArgumentError

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
CATALOGUE = load()
TERMS = Terms(
    purpose="credit_application",
    provider_ids=("par_tax", "par_hr"),
    record_types=("vat_invoice", "tax_filing"),
    content_level=ContentLevel.SUMMARY,
    data_period=Period(date(2023, 1, 1), date(2026, 12, 31)),
    not_before=None,
    expires_at=NOW + timedelta(days=90),
)
CORE = Core("con_1", "sub_1", "par_bank", TERMS)
WANTED = Wanted(
    recipient_id="par_bank",
    subject_id="sub_1",
    purpose="credit_application",
    record_types=frozenset({"vat_invoice"}),
    content_level=ContentLevel.SUMMARY,
)


def active(**changes: Any) -> Consent:
    consent = request(replace(CORE, terms=replace(TERMS, **changes)), NOW)
    return advance(consent, Action.GRANT, NOW)


def in_state(state: State) -> Consent:
    consent = request(CORE, NOW)
    path = {
        State.REQUESTED: [],
        State.ACTIVE: [Action.GRANT],
        State.REJECTED: [Action.REJECT],
        State.WITHDRAWN: [Action.GRANT, Action.WITHDRAW],
        State.REVOKED: [Action.GRANT, Action.REVOKE],
    }
    for action in path[state]:
        consent = advance(consent, action, NOW)
    return consent


class TestCanonicalTerms:
    def test_the_bytes_are_these(self) -> None:
        assert canonical(CORE) == (
            b'{"consent_id":"con_1","content_level":"SUMMARY",'
            b'"data_period":{"from":"2023-01-01","to":"2026-12-31"},'
            b'"expires_at":"2026-07-30T08:30:00.000000Z",'
            b'"provider_ids":["par_hr","par_tax"],"purpose":"credit_application",'
            b'"recipient_id":"par_bank","record_types":["tax_filing","vat_invoice"],'
            b'"schema_version":1,"subject_id":"sub_1"}'
        )

    def test_the_hash_is_of_the_bytes(self) -> None:
        consent = request(CORE, NOW)
        assert consent.sha256 == hashlib.sha256(consent.canonical).digest()

    ids = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=20)
    times = st.datetimes(timezones=st.just(UTC))

    @given(
        consent_id=ids,
        subject_id=ids,
        providers=st.sets(ids, min_size=1, max_size=5),
        types=st.sets(ids, min_size=1, max_size=5),
        level=st.sampled_from(ContentLevel),
        days=st.lists(st.dates(), min_size=2, max_size=2).map(sorted),
        not_before=st.none() | times,
        expires_at=times,
        data=st.data(),
    )
    def test_they_say_the_same_in_any_order_and_can_be_read_back(
        self,
        consent_id: str,
        subject_id: str,
        providers: set[str],
        types: set[str],
        level: ContentLevel,
        days: list[date],
        not_before: datetime | None,
        expires_at: datetime,
        data: st.DataObject,
    ) -> None:
        def core(provider_ids: list[str], record_types: list[str]) -> Core:
            terms = Terms(
                "p",
                tuple(provider_ids),
                tuple(record_types),
                level,
                Period(*days),
                not_before,
                expires_at,
            )
            return Core(consent_id, subject_id, "par_bank", terms)

        ordered = core(sorted(providers), sorted(types))
        shuffled = core(
            data.draw(st.permutations(sorted(providers))), data.draw(st.permutations(sorted(types)))
        )
        document = canonical(shuffled)
        assert document == canonical(ordered)
        assert core_of(document) == ordered
        assert rfc8785.dumps(json.loads(document)) == document


class TestTransitions:
    allowed: ClassVar = {
        ("REQUESTED", "grant"): "ACTIVE",
        ("REQUESTED", "reject"): "REJECTED",
        ("REQUESTED", "withdraw"): "WITHDRAWN",
        ("REQUESTED", "revoke"): "REVOKED",
        ("ACTIVE", "withdraw"): "WITHDRAWN",
        ("ACTIVE", "revoke"): "REVOKED",
    }

    @pytest.mark.parametrize(
        ("state", "action"),
        [(state, action) for state in State if state is not State.EXPIRED for action in Action],
    )
    def test_only_those_of_the_table_exist(self, state: State, action: Action) -> None:
        consent, later = in_state(state), NOW + timedelta(minutes=1)
        target = self.allowed.get((str(state), str(action)))
        if target is None:
            with pytest.raises(FailedPreconditionError) as caught:
                advance(consent, action, later)
            assert caught.value.reason == "CONSENT_STATE"
            told = f"nothing is left to {action}, the consent is {state.lower()} already: "
            assert str(caught.value).partition(": ")[0] + ": " == told
            return
        changed = advance(consent, action, later, note="because")
        assert changed.state == target
        assert changed.revision == consent.revision + 1
        assert (changed.changed_at, changed.note) == (later, "because")
        assert (changed.core, changed.canonical) == (consent.core, consent.canonical)

    @pytest.mark.parametrize("state", [State.REQUESTED, State.ACTIVE])
    @pytest.mark.parametrize("action", Action)
    def test_nothing_follows_expiry(self, state: State, action: Action) -> None:
        with pytest.raises(FailedPreconditionError) as caught:
            advance(in_state(state), action, TERMS.expires_at)
        assert caught.value.reason == "CONSENT_STATE"

    def test_expiry_is_computed_at_the_instant(self) -> None:
        consent = in_state(State.ACTIVE)
        just_before = TERMS.expires_at - timedelta(microseconds=1)
        assert state_at(consent, just_before) is State.ACTIVE
        assert state_at(consent, TERMS.expires_at) is State.EXPIRED
        assert consent.state is State.ACTIVE

    @pytest.mark.parametrize("state", [State.REJECTED, State.WITHDRAWN, State.REVOKED])
    def test_what_has_ended_does_not_expire(self, state: State) -> None:
        assert state_at(in_state(state), TERMS.expires_at) is state

    def test_a_grant_brings_signatures_and_names_the_hash(self) -> None:
        consent, signature = request(CORE, NOW), Signature("par_firm", "e30..c2ln")
        check_grant(consent, consent.sha256)
        assert advance(consent, Action.GRANT, NOW, signatures=(signature,)).signatures == (
            signature,
        )
        with pytest.raises(InvalidArgumentError) as caught:
            check_grant(consent, bytes(32))
        assert [problem.field for problem in caught.value.fields] == ["canonical_sha256"]


class TestCheck:
    def test_a_consent_allows_what_it_names(self) -> None:
        wanted = replace(
            WANTED,
            record_types=frozenset(TERMS.record_types),
            provider_ids=frozenset(TERMS.provider_ids),
            period=TERMS.data_period,
        )
        assert check(active(), wanted, NOW) is None

    @given(
        faults=st.sets(
            st.sampled_from(
                ["party", "state", "early", "purpose", "type", "provider", "period", "level"]
            )
        ),
        state=st.sampled_from(
            [
                (State.REQUESTED, "CONSENT_NOT_ACTIVE"),
                (State.REJECTED, "CONSENT_NOT_ACTIVE"),
                (State.WITHDRAWN, "CONSENT_WITHDRAWN"),
                (State.REVOKED, "CONSENT_REVOKED"),
            ]
        ),
        by_subject=st.booleans(),
        days_outside=st.sampled_from([(-1, 0), (0, 1), (-1, 1), (-800, -700)]),
    )
    def test_the_first_reason_that_applies_is_given(
        self,
        faults: set[str],
        state: tuple[State, str],
        by_subject: bool,
        days_outside: tuple[int, int],
    ) -> None:
        consent = active(
            not_before=NOW + timedelta(days=1) if "early" in faults else None,
            content_level=ContentLevel.PROFILE if "level" in faults else ContentLevel.SUMMARY,
        )
        if "state" in faults:
            consent = replace(consent, state=state[0])
        wanted = WANTED
        if "party" in faults:
            other: dict[str, Any] = {"subject_id" if by_subject else "recipient_id": "other"}
            wanted = replace(wanted, **other)
        if "purpose" in faults:
            wanted = replace(wanted, purpose="portfolio_review")
        if "type" in faults:
            wanted = replace(wanted, record_types=frozenset({"vat_invoice", "credit_facility"}))
        if "provider" in faults:
            wanted = replace(wanted, provider_ids=frozenset({"par_tax", "par_other"}))
        if "period" in faults:
            first = TERMS.data_period.first + timedelta(days=days_outside[0])
            last = TERMS.data_period.last + timedelta(days=days_outside[1])
            wanted = replace(wanted, period=Period(first, last))
        order = {
            "party": "CONSENT_NOT_FOUND",
            "state": state[1],
            "early": "CONSENT_NOT_YET_VALID",
            "purpose": "PURPOSE_NOT_CONSENTED",
            "type": "TYPE_NOT_CONSENTED",
            "provider": "PROVIDER_NOT_CONSENTED",
            "period": "PERIOD_NOT_CONSENTED",
            "level": "CONTENT_NOT_CONSENTED",
        }
        expected = next((reason for fault, reason in order.items() if fault in faults), None)
        refusal = check(consent, wanted, NOW)
        assert (refusal.reason if refusal else None) == expected

    @given(seconds=st.integers(-10_000_000, 10_000_000))
    def test_it_holds_exactly_between_its_times(self, seconds: int) -> None:
        begins = NOW + timedelta(days=10)
        at = NOW + timedelta(seconds=seconds)
        refusal = check(active(not_before=begins), WANTED, at)
        if at >= TERMS.expires_at:
            assert refusal is not None
            assert refusal.reason == "CONSENT_EXPIRED"
        elif at < begins:
            assert refusal is not None
            assert refusal.reason == "CONSENT_NOT_YET_VALID"
        else:
            assert refusal is None

    @given(
        days=st.lists(
            st.dates(date(2022, 1, 1), date(2027, 12, 31)), min_size=2, max_size=2, unique=True
        ).map(sorted)
    )
    def test_a_period_is_inside_or_refused(self, days: list[date]) -> None:
        period = Period(*days)
        refusal = check(active(), replace(WANTED, period=period), NOW)
        inside = TERMS.data_period.first <= days[0] and days[1] <= TERMS.data_period.last
        assert (refusal is None) == inside


class TestTerms:
    def refusal(self, terms: Terms) -> tuple[str, list[str]]:
        with pytest.raises(InvalidArgumentError) as caught:
            check_terms(terms, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        return caught.value.reason, [problem.field for problem in caught.value.fields]

    def test_good_terms_pass(self) -> None:
        check_terms(TERMS, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")

    def test_what_is_unknown_is_named(self) -> None:
        assert self.refusal(replace(TERMS, purpose="curiosity")) == (
            "PURPOSE_UNKNOWN",
            ["terms.purpose"],
        )
        assert self.refusal(replace(TERMS, record_types=("vat_invoice", "horoscope"))) == (
            "TYPE_UNKNOWN",
            ["terms.record_types[1]"],
        )
        assert self.refusal(replace(TERMS, provider_ids=("par_x", "par_tax", "par_y"))) == (
            "FIELD_INVALID",
            ["terms.provider_ids[0]", "terms.provider_ids[2]"],
        )

    def test_a_consent_must_end_after_it_begins_and_after_now(self) -> None:
        assert self.refusal(replace(TERMS, expires_at=NOW)) == (
            "FIELD_INVALID",
            ["terms.expires_at"],
        )
        late = replace(TERMS, not_before=TERMS.expires_at)
        assert self.refusal(late) == ("FIELD_INVALID", ["terms.expires_at"])

    @pytest.mark.parametrize(
        ("purpose", "days", "level"),
        [
            ("credit_application", 365, ContentLevel.TRANSACTIONS),
            ("portfolio_review", 365, ContentLevel.SUMMARY),
            ("model_training", 1095, ContentLevel.SUMMARY),
        ],
    )
    def test_ceilings_by_purpose(self, purpose: str, days: int, level: ContentLevel) -> None:
        most = replace(
            TERMS,
            purpose=purpose,
            not_before=NOW + timedelta(days=30),
            expires_at=NOW + timedelta(days=30 + days),
            content_level=level,
        )
        check_terms(most, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        longer = replace(most, expires_at=most.expires_at + timedelta(microseconds=1))
        assert self.refusal(longer) == ("CONSENT_OVER_CEILING", ["terms.expires_at"])
        if level < ContentLevel.TRANSACTIONS:
            deeper = replace(most, content_level=ContentLevel(level + 1))
            assert self.refusal(deeper) == ("CONSENT_OVER_CEILING", ["terms.content_level"])


@given(first=st.dates(), last=st.dates())
def test_a_period_ends_after_it_begins(first: date, last: date) -> None:
    assume(last < first)
    with pytest.raises(ValueError, match="before it begins"):
        Period(first, last)
