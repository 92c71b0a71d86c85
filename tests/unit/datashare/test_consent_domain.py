"""Consents: canonical terms, transitions, and what a fetch may do under one."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.consent.document import canonical, core_of, request
from services.datashare.consent.domain import (
    DOERS,
    OPEN_STATES,
    TRANSITIONS,
    Action,
    Consent,
    Core,
    Mode,
    Period,
    Selection,
    Signature,
    State,
    Terms,
    Version,
    Wanted,
    advance,
    approve,
    check,
    check_grant,
    state_at,
)
from services.datashare.consent.terms import ceiling_lowered, check_terms, over_ceiling
from services.datashare.mandates.domain import SigningRule
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.kit.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    PuhuiError,
)

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
RICH = Core(
    "con_2",
    "sub_1",
    "par_bank",
    Terms(
        purpose="related_party",
        provider_ids=("par_hr", "par_tax"),
        record_types=("tax_filing", "vat_invoice"),
        content_level=ContentLevel.SUMMARY,
        data_period=TERMS.data_period,
        not_before=NOW + timedelta(days=1),
        expires_at=TERMS.expires_at,
        fields=(Selection("vat_invoice", ("output_net", "output_valid")),),
        mode=Mode.STORE,
        fetch_limit=Limit(4, Unit.MONTH),
        data_life_days=180,
        score=True,
        automated_decision=True,
        onward_recipient_ids=("par_guarantor",),
        notice_language="en",
        for_subject_id="sub_9",
    ),
    suite="EdDSA",
    signers=SigningRule(("par_cfo", "par_firm"), 2),
    purposes_version=2,
    notice_sha256=bytes(range(32)),
    answer_by=NOW + timedelta(days=30),
    supersedes=Version("con_1", bytes(32)),
)
GOLDEN = Path(__file__).parents[2] / "golden"
WANTED = Wanted(
    recipient_id="par_bank",
    subject_id="sub_1",
    purpose="credit_application",
    record_types=frozenset({"vat_invoice"}),
    content_level=ContentLevel.SUMMARY,
)


COMPUTED = (State.EXPIRED, State.LAPSED, State.CONSUMED)


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
        State.PARTIALLY_APPROVED: [Action.APPROVE],
        State.PAUSED: [Action.GRANT, Action.PAUSE],
        State.SUPERSEDED: [Action.GRANT, Action.SUPERSEDE],
    }
    for action in path[state]:
        consent = advance(consent, action, NOW)
    return consent


class TestCanonicalTerms:
    def test_the_bytes_are_these(self) -> None:
        old = replace(CORE, schema_version=1)
        assert canonical(old) == (
            b'{"consent_id":"con_1","content_level":"SUMMARY",'
            b'"data_period":{"from":"2023-01-01","to":"2026-12-31"},'
            b'"expires_at":"2026-07-30T08:30:00.000000Z",'
            b'"provider_ids":["par_hr","par_tax"],"purpose":"credit_application",'
            b'"recipient_id":"par_bank","record_types":["tax_filing","vat_invoice"],'
            b'"schema_version":1,"subject_id":"sub_1"}'
        )
        golden = GOLDEN / "consent_core_1.json"
        assert golden.read_bytes() == canonical(old)

    def test_version_1_means_what_it_meant(self) -> None:
        core = core_of((GOLDEN / "consent_core_1.json").read_bytes())
        terms = core.terms
        assert (core.schema_version, core.answer_by, core.signers.required) == (1, None, 1)
        assert (terms.mode, terms.fetch_limit, terms.data_life_days) == (Mode.VIEW, None, 0)
        assert (terms.score, terms.automated_decision) == (True, False)
        assert terms.opened("vat_invoice") is None
        assert not terms.onward_recipient_ids

    def test_version_2_is_these_bytes(self) -> None:
        golden = (GOLDEN / "consent_core_2.json").read_bytes()
        assert canonical(RICH) == golden
        assert core_of(golden) == RICH
        assert rfc8785.dumps(json.loads(golden)) == golden

    def test_another_version_is_not_guessed_at(self) -> None:
        golden = (GOLDEN / "consent_core_2.json").read_bytes()
        with pytest.raises(ValueError, match="schema version"):
            core_of(golden.replace(b'"schema_version":2', b'"schema_version":3'))

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
        ("REQUESTED", "approve"): "PARTIALLY_APPROVED",
        ("PARTIALLY_APPROVED", "approve"): "PARTIALLY_APPROVED",
        ("PARTIALLY_APPROVED", "grant"): "ACTIVE",
        ("PARTIALLY_APPROVED", "reject"): "REJECTED",
        ("PARTIALLY_APPROVED", "withdraw"): "WITHDRAWN",
        ("PARTIALLY_APPROVED", "revoke"): "REVOKED",
        ("ACTIVE", "pause"): "PAUSED",
        ("ACTIVE", "withdraw"): "WITHDRAWN",
        ("ACTIVE", "revoke"): "REVOKED",
        ("ACTIVE", "supersede"): "SUPERSEDED",
        ("PAUSED", "resume"): "ACTIVE",
        ("PAUSED", "withdraw"): "WITHDRAWN",
        ("PAUSED", "revoke"): "REVOKED",
        ("PAUSED", "supersede"): "SUPERSEDED",
    }

    @pytest.mark.parametrize(
        ("state", "action"),
        [(state, action) for state in State if state not in COMPUTED for action in Action],
    )
    def test_only_those_of_the_table_exist(self, state: State, action: Action) -> None:
        consent, later = in_state(state), NOW + timedelta(minutes=1)
        target = self.allowed.get((str(state), str(action)))
        if target is None:
            with pytest.raises(FailedPreconditionError) as caught:
                advance(consent, action, later)
            assert caught.value.reason == "CONSENT_STATE"
            assert f"to {action}, the consent is {state.lower().replace('_', ' ')}" in str(
                caught.value
            )
            return
        changed = advance(consent, action, later, note="because")
        assert changed.state == target
        assert changed.revision == consent.revision + 1
        assert (changed.changed_at, changed.note) == (later, "because")
        assert (changed.core, changed.canonical) == (consent.core, consent.canonical)

    def test_a_terminal_state_is_never_left(self) -> None:
        terminal = {state for state in State if state not in OPEN_STATES}
        assert terminal == {
            State.REJECTED,
            State.LAPSED,
            State.WITHDRAWN,
            State.REVOKED,
            State.EXPIRED,
            State.CONSUMED,
            State.SUPERSEDED,
        }
        assert set(DOERS) == {action for _, action in TRANSITIONS} == set(Action)

    @pytest.mark.parametrize("state", [State.REQUESTED, State.PARTIALLY_APPROVED])
    def test_a_request_lapses_at_the_instant(self, state: State) -> None:
        answer_by = NOW + timedelta(days=30)
        core = replace(CORE, answer_by=answer_by)
        consent = replace(request(core, NOW), state=state)
        just_before = answer_by - timedelta(microseconds=1)
        assert state_at(consent, just_before) is state
        assert state_at(consent, answer_by) is State.LAPSED
        assert state_at(consent, TERMS.expires_at) is State.LAPSED
        with pytest.raises(FailedPreconditionError, match="lapsed already"):
            advance(consent, Action.GRANT, answer_by)
        active = advance(consent, Action.GRANT, just_before)
        assert state_at(active, answer_by) is State.ACTIVE

    def test_one_time_is_consumed_by_its_use(self) -> None:
        consent = active(fetch_limit=ONE_TIME)
        used = replace(consent, used=1)
        assert state_at(consent, NOW) is State.ACTIVE
        assert state_at(used, NOW) is State.CONSUMED
        assert state_at(used, TERMS.expires_at) is State.CONSUMED
        assert state_at(replace(active(fetch_limit=Limit(1, Unit.DAY)), used=1), NOW) is (
            State.ACTIVE
        )
        for action in Action:
            with pytest.raises(FailedPreconditionError, match="consumed already"):
                advance(used, action, NOW)

    def test_a_suspended_recipient_pauses_what_is_active(self) -> None:
        for state in (State.REQUESTED, State.WITHDRAWN, State.PAUSED):
            consent = in_state(state)
            assert state_at(replace(consent, suspended=True), NOW) is state
        suspended = replace(in_state(State.ACTIVE), suspended=True)
        assert state_at(suspended, NOW) is State.PAUSED
        assert state_at(suspended, TERMS.expires_at) is State.EXPIRED
        # The firm's own acts go on: what it pauses stays so when the recipient is reinstated.
        paused = advance(suspended, Action.PAUSE, NOW)
        assert state_at(replace(paused, suspended=False), NOW) is State.PAUSED
        assert advance(suspended, Action.WITHDRAW, NOW).state is State.WITHDRAWN

    @pytest.mark.parametrize("state", [State.REQUESTED, State.PARTIALLY_APPROVED, State.ACTIVE])
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


class TestSigners:
    def of(self, *signer_ids: str, required: int) -> Consent:
        return request(replace(CORE, signers=SigningRule(signer_ids, required)), NOW)

    def test_it_is_active_once_all_required_ones_agreed(self) -> None:
        consent = self.of("a", "b", "c", required=2)
        once = approve(consent, Signature("c", ""), NOW)
        assert (once.state, once.revision) == (State.PARTIALLY_APPROVED, 2)
        twice = approve(once, Signature("a", "e30..c2ln"), NOW)
        assert (twice.state, twice.revision) == (State.ACTIVE, 3)
        assert twice.signatures == (Signature("c", ""), Signature("a", "e30..c2ln"))

    def refusal(self, consent: Consent, signer_id: str) -> PuhuiError:
        with pytest.raises(PuhuiError) as caught:
            approve(consent, Signature(signer_id, ""), NOW)
        return caught.value

    def test_nobody_agrees_twice_nor_for_others(self) -> None:
        once = approve(self.of("a", "b", required=2), Signature("a", ""), NOW)
        again, stranger = self.refusal(once, "a"), self.refusal(once, "d")
        assert isinstance(again, FailedPreconditionError)
        assert isinstance(stranger, PermissionDeniedError)
        assert again.reason == stranger.reason == "NOT_A_SIGNER"
        active = approve(once, Signature("b", ""), NOW)
        assert self.refusal(active, "a").reason == "CONSENT_STATE"

    def test_without_names_whoever_may_grant_does(self) -> None:
        assert approve(request(CORE, NOW), Signature("any", ""), NOW).state is State.ACTIVE


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
                [
                    "party",
                    "state",
                    "early",
                    "purpose",
                    "firm",
                    "type",
                    "field",
                    "provider",
                    "period",
                    "level",
                    "score",
                    "decision",
                ]
            )
        ),
        state=st.sampled_from(
            [
                (State.REQUESTED, "CONSENT_NOT_ACTIVE"),
                (State.REJECTED, "CONSENT_NOT_ACTIVE"),
                (State.WITHDRAWN, "CONSENT_WITHDRAWN"),
                (State.REVOKED, "CONSENT_REVOKED"),
                (State.PARTIALLY_APPROVED, "CONSENT_NOT_ACTIVE"),
                (State.PAUSED, "CONSENT_PAUSED"),
                (State.SUPERSEDED, "CONSENT_SUPERSEDED"),
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
            fields=(Selection("vat_invoice", ("output_net",)),),
            score="score" not in faults,
            automated_decision="decision" not in faults,
        )
        if "state" in faults:
            consent = replace(consent, state=state[0])
        wanted = replace(
            WANTED,
            score=True,
            automated_decision=True,
            fields={"vat_invoice": frozenset({"output_net"}), "tax_filing": frozenset({"paid"})},
        )
        if "field" in faults:
            names = frozenset({"output_net", "output_hhi"})
            wanted = replace(wanted, fields={"vat_invoice": names})
        if "party" in faults:
            other: dict[str, Any] = {"subject_id" if by_subject else "recipient_id": "other"}
            wanted = replace(wanted, **other)
        if "purpose" in faults:
            wanted = replace(wanted, purpose="portfolio_review")
        if "type" in faults:
            wanted = replace(wanted, record_types=frozenset({"vat_invoice", "credit_facility"}))
        if "firm" in faults:
            wanted = replace(wanted, for_subject_id="sub_9")
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
            "firm": "SUBJECT_NOT_CONSENTED",
            "type": "TYPE_NOT_CONSENTED",
            "field": "FIELD_NOT_CONSENTED",
            "provider": "PROVIDER_NOT_CONSENTED",
            "period": "PERIOD_NOT_CONSENTED",
            "level": "CONTENT_NOT_CONSENTED",
            "score": "USE_NOT_CONSENTED",
            "decision": "USE_NOT_CONSENTED",
        }
        expected = next((reason for fault, reason in order.items() if fault in faults), None)
        refusal = check(consent, wanted, NOW)
        assert (refusal.reason if refusal else None) == expected

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            ({"purpose": "portfolio_review"}, "this purpose"),
            ({"for_subject_id": "sub_9"}, "the score of this firm"),
            (
                {"record_types": WANTED.record_types | {"pledge", "credit_facility"}},
                "credit_facility, pledge",
            ),
            ({"provider_ids": frozenset({"par_other"})}, "par_other"),
            ({"period": Period(date(1999, 1, 1), date(1999, 1, 31))}, "this period"),
            ({"content_level": ContentLevel.TRANSACTIONS}, "the level TRANSACTIONS"),
            ({"automated_decision": True}, "a decision by machine alone"),
        ],
    )
    def test_a_refusal_names_what_is_beyond(self, more: dict[str, Any], named: str) -> None:
        refusal = check(active(), replace(WANTED, **more), NOW)
        assert refusal is not None
        assert refusal.message.startswith(f"the consent does not cover {named}: ask for ")

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
        known = {"par_tax", "par_hr"}
        with pytest.raises(InvalidArgumentError) as caught:
            check_terms(terms, NOW, CATALOGUE, known, "par_bank", {"par_bank", "par_other"})
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

    @pytest.mark.parametrize(
        ("purpose", "other", "good"),
        [
            ("related_party", "sub_9", True),
            ("related_party", "", False),
            ("related_party", "sub_1", False),
            ("related_party", "sub_unknown", False),
            ("credit_application", "", True),
            ("credit_application", "sub_9", False),
            ("model_training", "sub_9", False),
        ],
    )
    def test_another_firm_is_named_for_the_purpose_that_is_about_one(
        self, purpose: str, other: str, good: bool
    ) -> None:
        terms = replace(TERMS, purpose=purpose, for_subject_id=other)
        known = {"par_tax", "par_hr"}

        def check_them() -> None:
            check_terms(
                terms,
                NOW,
                CATALOGUE,
                known,
                "par_bank",
                subject_id="sub_1",
                known_subjects={"sub_1", "sub_9"} & {other},
            )

        if good:
            check_them()
        else:
            with pytest.raises(InvalidArgumentError) as caught:
                check_them()
            assert caught.value.reason == "FIELD_INVALID"
            assert [problem.field for problem in caught.value.fields] == ["terms.for_subject_id"]

    def test_every_field_at_fault_is_named_at_once(self) -> None:
        reason, fields = self.refusal(
            replace(
                TERMS,
                purpose="model_training",
                provider_ids=("par_tax", "par_x"),
                content_level=ContentLevel.TRANSACTIONS,
                record_types=("vat_invoice", "horoscope"),
                fields=(
                    Selection("vat_invoice", ("amount", "shoe_size")),
                    Selection("vat_invoice", ("amount",)),
                    Selection("tax_filing", ("paid",)),
                ),
                data_life_days=1,
                onward_recipient_ids=("par_other", "par_bank", "par_y"),
                fetch_limit=Limit(51, Unit.DAY),
            )
        )
        assert reason == "TYPE_UNKNOWN"
        assert set(fields) == {
            "terms.provider_ids[1]",
            "terms.content_level",
            "terms.record_types[1]",
            "terms.fields[0].names[0]",
            "terms.fields[0].names[1]",
            "terms.fields[1].record_type",
            "terms.fields[2].record_type",
            "terms.data_life_days",
            "terms.onward_recipient_ids[1]",
            "terms.onward_recipient_ids[2]",
            "terms.fetch_limit",
        }

    @pytest.mark.parametrize(
        ("level", "name", "known"),
        [
            (ContentLevel.SUMMARY, "output_net", True),
            (ContentLevel.SUMMARY, "number", False),
            (ContentLevel.TRANSACTIONS, "number", True),
            (ContentLevel.PROFILE, "output_net", False),
        ],
    )
    def test_what_can_be_selected_depends_on_the_level(
        self, level: ContentLevel, name: str, known: bool
    ) -> None:
        terms = replace(TERMS, content_level=level, fields=(Selection("vat_invoice", (name,)),))
        if known:
            check_terms(terms, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        else:
            assert self.refusal(terms) == ("FIELD_INVALID", ["terms.fields[0].names[0]"])

    def test_data_may_be_kept_only_where_it_is_stored(self) -> None:
        assert self.refusal(replace(TERMS, data_life_days=30)) == (
            "FIELD_INVALID",
            ["terms.data_life_days"],
        )
        stored = replace(TERMS, mode=Mode.STORE, data_life_days=30)
        check_terms(stored, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")

    @pytest.mark.parametrize(
        ("limit", "within"),
        [
            (ONE_TIME, True),
            (Limit(200, Unit.DAY), True),
            (Limit(201, Unit.DAY), False),
            # All of a month's may be used in one day.
            (Limit(200, Unit.MONTH), True),
            (Limit(201, Unit.YEAR), False),
        ],
    )
    def test_the_ceiling_of_frequency(self, limit: Limit, within: bool) -> None:
        terms = replace(TERMS, fetch_limit=limit)
        if within:
            check_terms(terms, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        else:
            assert self.refusal(terms) == ("CONSENT_OVER_CEILING", ["terms.fetch_limit"])

    @given(
        limit=st.builds(Limit, st.integers(1, 400), st.sampled_from(Unit)),
        ceiling=st.builds(Limit, st.integers(1, 400), st.sampled_from(Unit)),
        first=st.dates(date(2023, 1, 1), date(2028, 12, 31)),
    )
    def test_what_is_within_it_never_allows_more(
        self, limit: Limit, ceiling: Limit, first: date
    ) -> None:
        credit = replace(CATALOGUE.purpose("credit_application"), max_fetches=ceiling)
        if over_ceiling(replace(TERMS, fetch_limit=limit), NOW, credit):
            return
        start = datetime(first.year, first.month, first.day, 4, tzinfo=UTC)
        day, periods = start, set()
        while ceiling.period(day) == ceiling.period(start):
            periods.add(limit.period(day))
            day += timedelta(days=1)
        assert limit.times * len(periods) <= ceiling.times

    def test_the_ceiling_of_the_range_of_data(self) -> None:
        last = TERMS.data_period.last
        most = replace(TERMS, data_period=Period(last - timedelta(days=2191), last))
        check_terms(most, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        longer = replace(TERMS, data_period=Period(last - timedelta(days=2192), last))
        assert self.refusal(longer) == ("CONSENT_OVER_CEILING", ["terms.data_period"])

    def test_a_ceiling_that_was_lowered_holds_at_once(self) -> None:
        consent, credit = active(), CATALOGUE.purpose("credit_application")
        assert ceiling_lowered(consent, credit) is None
        for lower in (
            replace(credit, max_days=89),
            replace(credit, max_data_days=365),
            replace(credit, max_content_level=ContentLevel.PROFILE),
        ):
            refused = ceiling_lowered(consent, lower)
            assert refused is not None
            assert refused.reason == "CONSENT_OVER_CEILING"
        few = active(fetch_limit=Limit(9, Unit.DAY))
        fewer = replace(credit, max_fetches=Limit(8, Unit.DAY))
        assert ceiling_lowered(few, credit) is None
        assert ceiling_lowered(few, fewer) is not None
        old = request(replace(CORE, schema_version=1), NOW)
        assert ceiling_lowered(old, replace(credit, max_days=1)) is None

    def test_a_consent_must_end_after_it_begins_and_after_now(self) -> None:
        assert self.refusal(replace(TERMS, expires_at=NOW)) == (
            "FIELD_INVALID",
            ["terms.expires_at"],
        )
        late = replace(TERMS, not_before=TERMS.expires_at)
        assert self.refusal(late) == ("FIELD_INVALID", ["terms.expires_at"])

    def test_it_begins_no_later_than_one_may_run(self) -> None:
        begin = NOW + timedelta(days=365)
        latest = replace(TERMS, not_before=begin, expires_at=begin + timedelta(days=9))
        check_terms(latest, NOW, CATALOGUE, {"par_tax", "par_hr"}, "par_bank")
        for later in (
            replace(latest, not_before=begin + timedelta(microseconds=1)),
            # Past which no erasure could be due.
            replace(
                TERMS,
                not_before=datetime(9999, 6, 1, tzinfo=UTC),
                expires_at=datetime.max.replace(tzinfo=UTC),
                mode=Mode.STORE,
                data_life_days=36500,
            ),
        ):
            assert self.refusal(later) == ("FIELD_INVALID", ["terms.not_before"])

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
