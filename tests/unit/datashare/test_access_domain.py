"""Which months a fetch reads, what it may read, and how it says what is missing."""

from calendar import monthrange
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.access.domain import (
    Access,
    Channel,
    CoverageState,
    Fetch,
    Outcome,
    Rules,
    Scope,
    content,
    last_months,
    shown,
    whole_months,
)
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.catalogue.loader import load
from services.datashare.consent.document import request
from services.datashare.consent.domain import Action, Consent, Core, Period, Selection, advance
from services.datashare.disputes.domain import DisputeState, Mark
from services.kit.errors import PuhuiError
from tests.fakes.datashare_world import NOW, TERMS

RULES = Rules(load())
OPEN = {
    "abnormal_operation",
    "court_case",
    "enforcement",
    "grant",
    "ip_right",
    "officer_change",
    "penalty",
    "pledge",
    "registration",
    "shareholding",
    "tech_status",
}
NEEDING_CONSENT = set(load().types) - OPEN
CONSENT = advance(request(Core("con_1", "sub_1", "par_bank", TERMS), NOW), Action.GRANT, NOW)
FETCH = Fetch(
    "r1",
    b"f" * 32,
    "sub_1",
    "con_1",
    "credit_application",
    officer="王",
    file_reference="F-1",
)
ALL_MONTHS = [year * 100 + month for year in range(2022, 2026) for month in range(1, 13)]
BARE = replace(FETCH, consent_id="")


def decide(fetch: Fetch, consent: Consent | None = CONSENT) -> Scope | PuhuiError:
    return RULES.decide(fetch, "par_bank", consent, NOW, NOW)


def scope(fetch: Fetch, consent: Consent | None = CONSENT) -> Scope:
    decided = decide(fetch, consent)
    assert isinstance(decided, Scope)
    return decided


def refusal(fetch: Fetch, consent: Consent | None = CONSENT) -> str:
    decided = decide(fetch, consent)
    assert isinstance(decided, PuhuiError)
    return decided.reason


class TestMonths:
    @given(
        st.lists(st.dates(date(2022, 11, 1), date(2025, 3, 31)), min_size=2, max_size=2).map(sorted)
    )
    def test_they_are_those_that_lie_wholly_in_the_period(self, days: list[date]) -> None:
        first, last = whole_months(Period(*days))
        read = {month for month in ALL_MONTHS if first <= month <= last}
        assert read == {
            month
            for month in ALL_MONTHS
            if date(month // 100, month % 100, 1) >= days[0]
            and date(month // 100, month % 100, monthrange(month // 100, month % 100)[1]) <= days[1]
        }

    def test_examples(self) -> None:
        assert whole_months(Period(date(2024, 1, 1), date(2024, 2, 29))) == (202401, 202402)
        assert whole_months(Period(date(2024, 1, 2), date(2024, 12, 30))) == (202402, 202411)
        assert whole_months(Period(date(2023, 12, 2), date(2024, 1, 31))) == (202401, 202401)
        first, last = whole_months(Period(date(2024, 1, 2), date(2024, 1, 30)))
        assert first > last
        assert whole_months(Period(date.min, date.max)) == (101, 999912)

    def test_the_last_sixty_end_with_this_month_in_china(self) -> None:
        new_year_in_china = datetime(2025, 12, 31, 16, 0, tzinfo=UTC)
        assert last_months(new_year_in_china, 60) == Period(date(2021, 2, 1), date(2026, 1, 31))
        december = Period(date(2025, 12, 1), date(2025, 12, 31))
        assert last_months(new_year_in_china - timedelta(seconds=1), 1) == december
        assert last_months(datetime(2024, 2, 29, tzinfo=UTC), 14) == Period(
            date(2023, 1, 1), date(2024, 2, 29)
        )
        assert last_months(datetime.min.replace(tzinfo=UTC), 60) == Period(
            date(1, 1, 1), date(1, 1, 31)
        )


class TestOfficer:
    @pytest.mark.parametrize(
        ("officer", "file_reference", "fields"),
        [
            ("", "", ["fetch.officer.name", "fetch.officer.file_reference"]),
            (" \t", "F-1", ["fetch.officer.name"]),
            ("王", "", ["fetch.officer.file_reference"]),
        ],
    )
    def test_a_fetch_that_does_not_name_both_is_refused(
        self, officer: str, file_reference: str, fields: list[str]
    ) -> None:
        unnamed = replace(FETCH, officer=officer, file_reference=file_reference)
        for asked in (unnamed, replace(unnamed, consent_id="", record_types=("registration",))):
            refused = decide(asked)
            assert isinstance(refused, PuhuiError)
            assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "OFFICER_REQUIRED")
            assert [problem.field for problem in refused.fields] == fields
            assert all(name in refused.message for name in ("officer.name", "file_reference"))


class TestFields:
    PAID = Selection("tax_filing", ("paid", "filings"))

    def consent(self, *fields: Selection) -> Consent:
        core = Core("con_1", "sub_1", "par_bank", replace(TERMS, fields=fields))
        return advance(request(core, NOW), Action.GRANT, NOW)

    def test_nothing_named_is_what_the_consent_opens(self) -> None:
        found = scope(FETCH, self.consent(self.PAID))
        assert found.opened == {"tax_filing": {"paid", "filings"}}
        assert found.narrowed == {"tax_filing"}
        assert not scope(FETCH).opened

    def test_what_is_not_opened_whole_counts_as_not_consented(self) -> None:
        found = scope(FETCH, self.consent(self.PAID))
        states = dict(RULES.coverage(found, {"vat_invoice", "tax_filing"}, (), ()))
        assert states["tax_filing"] is CoverageState.NOT_CONSENTED
        assert states["vat_invoice"] is CoverageState.SUPPLIED

    def test_all_that_there_is_of_a_type_is_the_whole_type(self) -> None:
        kind = load().types["tax_filing"]
        names = (*kind.attributes, *(measure.name for measure in kind.measures))
        found = scope(FETCH, self.consent(Selection("tax_filing", names)))
        assert not found.narrowed

    def test_a_dispute_about_what_is_not_opened_does_not_say_what_it_is_about(self) -> None:
        mark = Mark("dis_1", "tax_filing", "par_tax", 202401, "arrears", DisputeState.OPEN, "不对")
        found = scope(FETCH, self.consent(self.PAID))
        assert shown(mark, found) == replace(mark, field="")
        for opened in (replace(mark, field="paid"), replace(mark, record_type="vat_invoice")):
            assert shown(opened, found) == opened
        assert shown(mark, scope(FETCH)) == mark

    def test_less_may_be_asked_for_and_more_is_refused(self) -> None:
        consent = self.consent(self.PAID)
        less = replace(FETCH, fields=(Selection("tax_filing", ("paid",)),))
        assert scope(less, consent).opened == {"tax_filing": {"paid"}}
        more = replace(FETCH, fields=(Selection("tax_filing", ("paid", "arrears")),))
        assert refusal(more, consent) == "FIELD_NOT_CONSENTED"
        other = replace(FETCH, fields=(Selection("social_insurance", ("paid",)),))
        assert refusal(other, consent) == "TYPE_NOT_CONSENTED"

    @pytest.mark.parametrize(
        ("part", "reason", "field"),
        [
            (Selection("horoscope", ("x",)), "TYPE_UNKNOWN", "fetch.fields[0].record_type"),
            (Selection("tax_filing", ("paid", "x")), "FIELD_INVALID", "fetch.fields[0].names[1]"),
            (
                Selection("vat_invoice", ("input_net",)),
                "FIELD_INVALID",
                "fetch.fields[0].record_type",
            ),
        ],
    )
    def test_what_is_not_there_is_named(self, part: Selection, reason: str, field: str) -> None:
        decided = decide(replace(FETCH, record_types=("tax_filing",), fields=(part,)))
        assert isinstance(decided, PuhuiError)
        assert (decided.reason, [problem.field for problem in decided.fields]) == (reason, [field])

    def test_a_type_is_named_once(self) -> None:
        twice = (Selection("tax_filing", ("paid",)), Selection("tax_filing", ("filings",)))
        decided = decide(replace(FETCH, fields=twice))
        assert isinstance(decided, PuhuiError)
        assert [problem.field for problem in decided.fields] == ["fetch.fields[1].record_type"]


class TestDecide:
    def test_nothing_named_is_all_of_the_consent_and_all_that_is_open(self) -> None:
        found = scope(FETCH)
        assert found.record_types == {"vat_invoice", "tax_filing"} | OPEN
        assert (found.first_month, found.last_month) == (202301, 202612)
        assert found.period == TERMS.data_period
        consented, free = found.queries
        assert set(consented.record_types) == {"vat_invoice", "tax_filing"}
        assert consented.provider_ids == frozenset({"par_tax"})
        assert set(free.record_types) == OPEN
        assert free.provider_ids is None

    def test_what_is_kept_to_its_supplier_is_read_by_the_supplier_alone(self) -> None:
        terms = replace(
            TERMS,
            record_types=("field_visit", "tax_filing"),
            provider_ids=("par_bank", "par_other_bank", "par_tax"),
        )
        consent = replace(CONSENT, core=replace(CONSENT.core, terms=terms))
        found = scope(replace(FETCH, record_types=terms.record_types), consent)
        assert [(query.record_types, query.provider_ids) for query in found.queries] == [
            (("tax_filing",), frozenset(terms.provider_ids)),
            (("field_visit",), frozenset({"par_bank"})),
        ]
        # That another bank visited the firm is that bank's alone to know.
        told = RULES.coverage(found, set(), {"field_visit", "tax_filing"}, {"field_visit"})
        assert dict(told)["field_visit"] == CoverageState.NOT_SUPPLIED
        assert dict(told)["tax_filing"] == CoverageState.NOT_CONSENTED

    def test_only_what_is_named_is_read(self) -> None:
        found = scope(replace(FETCH, record_types=("vat_invoice",)))
        assert [query.record_types for query in found.queries] == [("vat_invoice",)]

    def test_a_period_within_the_consents_is_taken_as_it_is(self) -> None:
        period = Period(date(2024, 1, 1), date(2024, 7, 30))
        found = scope(replace(FETCH, period=period))
        assert (found.first_month, found.last_month, found.period) == (202401, 202406, period)

    def test_without_a_consent_what_is_open_is_read_for_sixty_months(self) -> None:
        found = scope(BARE, None)
        assert found.record_types == OPEN
        assert (found.first_month, found.last_month) == (202106, 202605)
        assert found.period == Period(date(2021, 6, 1), date(2026, 5, 31))
        assert [query.provider_ids for query in found.queries] == [None]

    @pytest.mark.parametrize(
        ("fetch", "reason"),
        [
            (replace(FETCH, purpose="curiosity"), "PURPOSE_UNKNOWN"),
            (replace(BARE, purpose=""), "PURPOSE_UNKNOWN"),
            (replace(FETCH, record_types=("horoscope",)), "TYPE_UNKNOWN"),
            (replace(FETCH, as_of=NOW + timedelta(seconds=1)), "DATE_IN_FUTURE"),
            (replace(BARE, record_types=("vat_invoice",)), "CONSENT_REQUIRED"),
            (replace(BARE, record_types=("court_case", "tax_filing")), "CONSENT_REQUIRED"),
            (replace(FETCH, record_types=("credit_facility",)), "TYPE_NOT_CONSENTED"),
            (replace(FETCH, purpose="model_training"), "PURPOSE_NOT_CONSENTED"),
            (
                replace(FETCH, period=Period(date(2022, 12, 31), date(2024, 1, 1))),
                "PERIOD_NOT_CONSENTED",
            ),
            (replace(FETCH, subject_id="sub_2"), "CONSENT_NOT_FOUND"),
        ],
    )
    def test_refusals(self, fetch: Fetch, reason: str) -> None:
        assert refusal(fetch) == reason if fetch.consent_id else refusal(fetch, None) == reason

    def test_a_consent_that_is_named_must_be_there(self) -> None:
        assert refusal(replace(FETCH, record_types=("court_case",)), None) == "CONSENT_NOT_FOUND"

    def test_a_consent_that_is_named_must_hold_even_for_what_is_open(self) -> None:
        withdrawn = advance(CONSENT, Action.WITHDRAW, NOW)
        fetch = replace(FETCH, record_types=("court_case",))
        assert refusal(fetch, withdrawn) == "CONSENT_WITHDRAWN"

    def test_a_profile_opens_no_summary(self) -> None:
        core = replace(CONSENT.core, terms=replace(TERMS, content_level=ContentLevel.PROFILE))
        assert refusal(FETCH, replace(CONSENT, core=core)) == "CONTENT_NOT_CONSENTED"


class TestCoverage:
    def test_each_kind_of_missing_is_told(self) -> None:
        states = dict(
            RULES.coverage(
                scope(FETCH),
                present={"vat_invoice", "registration"},
                left_out=set(),
                supplied={"vat_invoice", "tax_filing", "registration", "court_case"},
            )
        )
        assert states == {
            **dict.fromkeys(OPEN, CoverageState.NOT_SUPPLIED),
            **dict.fromkeys(NEEDING_CONSENT, CoverageState.NOT_CONSENTED),
            "vat_invoice": CoverageState.SUPPLIED,
            "registration": CoverageState.SUPPLIED,
            "tax_filing": CoverageState.NOT_SUPPLIED,
            "court_case": CoverageState.NONE_EXISTS,
        }

    def test_what_was_not_asked_for_is_told_only_if_the_consent_leaves_it_out(self) -> None:
        found = RULES.coverage(
            scope(replace(FETCH, record_types=("vat_invoice",))), set(), set(), set()
        )
        assert dict(found) == {
            **dict.fromkeys(NEEDING_CONSENT - set(TERMS.record_types), CoverageState.NOT_CONSENTED),
            "vat_invoice": CoverageState.NOT_SUPPLIED,
        }

    @pytest.mark.parametrize("present", [set(), {"vat_invoice"}])
    def test_a_provider_that_is_left_out_is_not_consented(self, present: set[str]) -> None:
        found = RULES.coverage(
            scope(replace(FETCH, record_types=("vat_invoice", "tax_filing"))),
            present=present,
            left_out={"vat_invoice"},
            supplied={"vat_invoice"},
        )
        assert dict(found)["vat_invoice"] is CoverageState.NOT_CONSENTED
        assert dict(found)["tax_filing"] is CoverageState.NOT_SUPPLIED


def test_a_leaf_attests_every_field_of_an_access() -> None:
    access = Access(
        access_id="acc_1",
        subject_id="sub_1",
        recipient_id="par_bank",
        request_id="r1",
        fingerprint=b"\x0f" * 32,
        accessed_at=NOW,
        as_of=NOW,
        purpose="credit_application",
        record_types=("vat_invoice",),
        content_level=ContentLevel.SUMMARY,
        first_month=202301,
        last_month=202612,
        consent_id="con_1",
        consent_revision=2,
        outcome=Outcome.RELEASED,
        refusal_reason="",
        channel=Channel.SCORING,
        officer="",
        file_reference="",
        score=True,
        automated_decision=False,
        for_subject_id="sub_9",
        product="loan",
    )
    stated = content(access)
    assert set(stated) == set(Access.__slots__)
    assert (stated["score"], stated["automated_decision"]) == (True, False)
    # The leaves of before are as they were.
    before = replace(access, score=None, automated_decision=None, for_subject_id="")
    since = ("score", "automated_decision", "for_subject_id")
    assert content(before) == {name: stated[name] for name in stated if name not in since}
    assert stated["fingerprint"] == "0f" * 32
    assert stated["accessed_at"] == "2026-05-01T08:30:00.000000Z"
