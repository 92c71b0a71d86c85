"""What may come in on consent."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.document import request
from services.datashare.consent.domain import Action, Consent, Core, Period, State, Terms, advance
from services.datashare.consent.supply import why_not
from services.datashare.consent.terms import check_terms, nameable
from services.datashare.participants.domain import Participant, Role, Standing
from services.kit.errors import InvalidArgumentError
from tests.fakes.datashare_world import World

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
CATALOGUE = World().catalogue
TERMS = Terms(
    purpose="credit_application",
    provider_ids=("par_fund", "par_grid"),
    record_types=("housing_fund", "utility_bill"),
    content_level=ContentLevel.SUMMARY,
    data_period=Period(date(2024, 1, 1), date(2026, 12, 31)),
    not_before=None,
    expires_at=NOW + timedelta(days=90),
)
MARCH = Period(date(2026, 3, 1), date(2026, 3, 31))


def consent(*actions: Action, **terms: Any) -> Consent:
    asked = request(Core("con_1", "sub_1", "par_bank", replace(TERMS, **terms)), NOW)
    for action in actions:
        asked = advance(asked, action, NOW)
    return asked


STANDS = consent(Action.GRANT)


def reason(*consents: Consent, now: datetime = NOW, **row: Any) -> str:
    asked: dict[str, Any] = {
        "provider_id": "par_grid",
        "record_type": "utility_bill",
        "occurred": MARCH,
    }
    found = why_not(consents, **(asked | row), now=now)
    if found is None:
        return ""
    assert found[2]
    return found[0]


class TestCover:
    def test_an_active_consent_lets_its_rows_in(self) -> None:
        assert reason(STANDS) == ""
        assert reason(STANDS, occurred=TERMS.data_period) == ""
        assert reason(STANDS, now=TERMS.expires_at - timedelta(microseconds=1)) == ""

    @pytest.mark.parametrize(
        ("consents", "row", "expected"),
        [
            ((), {}, "CONSENT_REQUIRED"),
            ((consent(),), {}, "CONSENT_REQUIRED"),
            ((consent(Action.REJECT),), {}, "CONSENT_REQUIRED"),
            ((STANDS,), {"provider_id": "par_water"}, "CONSENT_REQUIRED"),
            ((STANDS,), {"record_type": "bank_flow"}, "TYPE_NOT_CONSENTED"),
            ((consent(Action.GRANT, Action.WITHDRAW),), {}, "CONSENT_WITHDRAWN"),
            ((consent(Action.GRANT, Action.REVOKE),), {}, "CONSENT_REVOKED"),
            ((STANDS,), {"now": TERMS.expires_at}, "CONSENT_EXPIRED"),
            (
                (consent(Action.GRANT, not_before=NOW + timedelta(days=1)),),
                {},
                "CONSENT_NOT_YET_VALID",
            ),
            (
                (STANDS,),
                {"occurred": Period(date(2023, 12, 31), date(2024, 1, 31))},
                "PERIOD_NOT_CONSENTED",
            ),
            (
                (STANDS,),
                {"occurred": Period(date(2026, 12, 1), date(2027, 1, 1))},
                "PERIOD_NOT_CONSENTED",
            ),
        ],
    )
    def test_what_is_missing_is_said(
        self, consents: tuple[Consent, ...], row: dict[str, Any], expected: str
    ) -> None:
        assert reason(*consents, **row) == expected

    def test_one_that_covers_is_enough_and_else_the_closest_speaks(self) -> None:
        withdrawn = consent(Action.GRANT, Action.WITHDRAW)
        other_period = consent(
            Action.GRANT, data_period=Period(date(2025, 1, 1), date(2025, 12, 31))
        )
        assert reason(withdrawn, STANDS) == ""
        assert reason(withdrawn, other_period) == "PERIOD_NOT_CONSENTED"
        assert reason(consent(), withdrawn) == "CONSENT_WITHDRAWN"

    @given(
        actions=st.sampled_from(
            [
                (),
                (Action.GRANT,),
                (Action.REJECT,),
                (Action.GRANT, Action.WITHDRAW),
                (Action.GRANT, Action.REVOKE),
            ]
        ),
        provider_id=st.sampled_from(["par_grid", "par_water"]),
        record_type=st.sampled_from(["utility_bill", "bank_flow"]),
        first=st.dates(date(2023, 6, 1), date(2027, 6, 1)),
        days=st.integers(0, 800),
        at=st.timedeltas(timedelta(0), timedelta(days=120)),
    )
    def test_a_row_comes_in_exactly_when_everything_fits(
        self,
        actions: tuple[Action, ...],
        provider_id: str,
        record_type: str,
        first: date,
        days: int,
        at: timedelta,
    ) -> None:
        occurred = Period(first, first + timedelta(days=days))
        one = consent(*actions)
        fits = (
            one.state is State.ACTIVE
            and provider_id == "par_grid"
            and record_type == "utility_bill"
            and date(2024, 1, 1) <= occurred.first
            and occurred.last <= date(2026, 12, 31)
            and at < timedelta(days=90)
        )
        found = why_not([one], provider_id, record_type, occurred, NOW + at)
        assert (found is None) == fits


def person(participant_id: str, role: Role, subject_id: str | None = None) -> Participant:
    kind = "utility" if role is Role.PROVIDER else ""
    return Participant(participant_id, role, "n", kind, subject_id, False, Standing.ACTIVE, NOW)


PEOPLE = (
    person("par_grid", Role.PROVIDER),
    person("par_firm", Role.FIRM, "sub_1"),
    person("par_rival", Role.FIRM, "sub_2"),
    person("par_bank", Role.BANK),
    person("par_other", Role.BANK),
    person("par_ops", Role.OPERATOR),
)


class TestTerms:
    @pytest.mark.parametrize(
        ("record_types", "expected"),
        [
            (("utility_bill",), {"par_grid"}),
            (("declaration",), {"par_grid", "par_firm"}),
            (("field_visit",), {"par_grid", "par_bank"}),
            (("financial_statement", "field_visit"), {"par_grid", "par_firm", "par_bank"}),
            (("horoscope",), {"par_grid"}),
        ],
    )
    def test_they_name_providers_the_firm_itself_and_the_visiting_bank(
        self, record_types: tuple[str, ...], expected: set[str]
    ) -> None:
        found = nameable(
            PEOPLE, record_types, CATALOGUE, subject_id="sub_1", recipient_id="par_bank"
        )
        assert found == expected

    def test_what_is_kept_to_its_provider_is_asked_for_by_nobody_else(self) -> None:
        visits = replace(TERMS, provider_ids=("par_grid",), record_types=("field_visit",))
        with pytest.raises(InvalidArgumentError) as caught:
            check_terms(visits, NOW, CATALOGUE, {"par_grid"}, "par_bank")
        assert [problem.field for problem in caught.value.fields] == ["terms.record_types[0]"]
        own = replace(visits, provider_ids=("par_bank",))
        check_terms(own, NOW, CATALOGUE, {"par_bank"}, "par_bank")
