"""A simulated city is what it says it is.

scikit-learn is imported where it is used: else every worker would take a second for it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from functools import cache

import numpy as np
import pytest

from puhui.datashare.v1.payloads_pb2 import INVOICE_SIDE_OUTPUT, INVOICE_STATUS_VOID
from puhui.datashare.v1.records_pb2 import Record
from services.datashare.catalogue.loader import load
from services.datashare.records.intake import Intake
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.subjects import uscc
from services.sandbox.city import PROVIDERS, City, CityPlan
from services.sandbox.months import day_number, end_of_day, last_day, month_of

LAST = month_of(date(2026, 10, 1))
YEAR_AGO = last_day(LAST - 12)


@cache
def city(firms: int, seed: int = 1) -> City:
    return City(CityPlan(seed=seed, last_month=LAST, firms=firms))


def records(of: City, *types: str) -> Iterator[Record]:
    for delivery in of.deliveries():
        if not types or delivery.record_type in types:
            yield from delivery


def occurred(record: Record) -> int:
    day = record.period.to if record.HasField("period") else record.date
    return int(day.year) * 12 + int(day.month) - 1


def test_the_same_seed_gives_the_same_city_and_another_gives_another() -> None:
    def content(seed: int) -> list[bytes]:
        one = City(CityPlan(seed=seed, last_month=LAST, firms=8))
        return [r.SerializeToString(deterministic=True) for r in records(one)]

    assert content(3) == content(3)
    assert content(3) != content(4)


def test_a_delivery_counts_its_records_and_can_be_read_again() -> None:
    for delivery in city(30).deliveries():
        first = [r.provider_record_id for r in delivery]
        assert len(first) == len(delivery) > 0
        assert first == [r.provider_record_id for r in delivery]


def test_ids_are_unique_within_a_provider_and_hold_no_registration_number() -> None:
    for provider in PROVIDERS:
        ids = [
            (d.record_type, r.provider_record_id)
            for d in city(60).deliveries()
            if d.provider == provider
            for r in d
        ]
        assert len(ids) == len(set(ids)) > 0
        assert not any(re.search(r"91\d{6}", text) for _, text in ids)


def test_registration_numbers_pass_the_check_and_differ() -> None:
    numbers = [firm.uscc for firm in city(300).firms]
    assert len(set(numbers)) == 300
    for number in numbers:
        assert uscc.check(number) == number
    assert all(
        uscc.check(r.vat_invoice.counterparty)
        for delivery in city(30).deliveries()
        for r in delivery
        if delivery.record_type == "vat_invoice"
    )


def test_everything_says_that_it_is_simulated() -> None:
    assert all("模拟" in firm.name for firm in city(60).firms)
    assert all("模拟" in p.name and "Simulated" in p.name for p in PROVIDERS)


def test_nothing_is_handed_over_before_it_happened_or_after_the_end() -> None:
    end = last_day(LAST)
    for record in records(city(60)):
        assert occurred(record) <= LAST
        assert record.obtained_at.seconds // 86_400 <= day_number(end)


def test_the_platform_takes_every_record() -> None:
    intake = Intake(load(), CounterpartyTokens(bytes(32)))
    now = end_of_day(last_day(LAST))
    for delivery in city(60).deliveries():
        incoming, rejections = intake.read(delivery, 0, delivery.provider.kind, now)
        assert rejections == []
        assert len(incoming) == len(delivery)


def test_invoice_amounts_add_up_to_the_fen() -> None:
    for record in records(city(30), "vat_invoice"):
        invoice = record.vat_invoice
        fen = [
            m.units * 100 + m.nanos // 10_000_000 for m in (invoice.net, invoice.tax, invoice.gross)
        ]
        assert fen[0] + fen[1] == fen[2]


def test_300_firms_make_a_demo_sized_city() -> None:
    deliveries = city(300).deliveries()
    assert 60_000 <= sum(len(d) for d in deliveries) <= 100_000
    assert {d.provider for d in deliveries} == set(PROVIDERS)
    invoices = sum(len(d) for d in deliveries if d.record_type == "vat_invoice")
    double = City(CityPlan(seed=1, last_month=LAST, firms=300, activity=2.0))
    doubled = sum(len(d) for d in double.deliveries() if d.record_type == "vat_invoice")
    assert doubled == pytest.approx(2 * invoices, rel=0.03)


def test_some_firms_lack_a_source_and_none_lacks_registration() -> None:
    seen = defaultdict(set)
    for record in records(city(300)):
        seen[record.record_type].add(record.subject.uscc)
    assert len(seen["registration"]) == 300
    for kind in ("vat_invoice", "tax_filing", "social_insurance"):
        assert 250 < len(seen[kind]) < 300
    assert 150 < len(seen["credit_facility"]) < 240


@pytest.mark.parametrize("rate", [0.05, 0.10, 0.20])
def test_the_default_rate_is_what_the_plan_says(rate: float) -> None:
    big = City(CityPlan(seed=5, last_month=LAST, firms=8_000, default_rate=rate))
    outcomes = [big.defaults_after(firm, YEAR_AGO) for firm in big.firms]
    assert None not in outcomes
    # Three standard errors of a binomial share.
    assert abs(np.mean([bool(o) for o in outcomes]) - rate) < 3 * np.sqrt(rate / 8_000)


def test_a_firm_that_has_defaulted_has_no_outcome_any_more() -> None:
    now = last_day(LAST)
    for firm in city(300).firms:
        if city(300).defaults_after(firm, YEAR_AGO):
            assert city(300).defaults_after(firm, now) is None
        else:
            assert city(300).defaults_after(firm, now) is not None
    with pytest.raises(ValueError, match="last twelve months"):
        city(300).defaults_after(city(300).firms[0], last_day(LAST - 13))
    with pytest.raises(ValueError, match="last twelve months"):
        city(300).health(city(300).firms[0], last_day(LAST + 1))


def test_health_predicts_default_well_but_not_perfectly() -> None:
    from sklearn.metrics import roc_auc_score

    big = city(4_000)
    outcome = [bool(big.defaults_after(firm, YEAR_AGO)) for firm in big.firms]
    health = [big.health(firm, YEAR_AGO) for firm in big.firms]
    assert 0.86 < roc_auc_score(outcome, -np.array(health)) < 0.95


def test_a_model_can_learn_default_from_what_providers_see() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    town = city(1_200)
    place = {firm.uscc: firm.index for firm in town.firms}
    columns = {"staff_then": 0, "staff_now": 1, "missed": 2, "late": 3, "arrears": 4, "sued": 5}
    seen = np.zeros((1_200, len(columns)))
    start = month_of(YEAR_AGO) - 11
    for record in records(town, "social_insurance", "tax_filing", "court_case"):
        month = occurred(record)
        if not start <= month <= start + 11:
            continue
        row = seen[place[record.subject.uscc]]
        if record.record_type == "social_insurance":
            row[columns["missed"]] += record.social_insurance.overdue.units > 0
            if month in (start, start + 11):
                name = "staff_then" if month == start else "staff_now"
                row[columns[name]] = np.log1p(record.social_insurance.headcount)
        elif record.record_type == "tax_filing":
            row[columns["late"]] += record.tax_filing.days_late > 0
            row[columns["arrears"]] += record.tax_filing.arrears.units > 0
        else:
            row[columns["sued"]] += record.court_case.role == "defendant"
    outcome = np.array([bool(town.defaults_after(firm, YEAR_AGO)) for firm in town.firms])
    guess = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression()),
        seen,
        outcome,
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        method="predict_proba",
    )[:, 1]
    assert 0.78 < roc_auc_score(outcome, guess) < 0.90


def test_shares_of_customers_have_a_heavy_tail() -> None:
    town = city(300)
    shares = defaultdict(list)
    sales: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records(town, "vat_invoice"):
        if record.vat_invoice.side == INVOICE_SIDE_OUTPUT:
            sales[record.subject.uscc][record.vat_invoice.counterparty] += 1
    for counts in sales.values():
        if sum(counts.values()) >= 80:
            top = [n / sum(counts.values()) for _, n in counts.most_common(5)]
            shares["top1"].append(top[0])
            shares["top5"].append(sum(top))
            shares["parties"].append(len(counts))
    assert len(shares["top1"]) > 100
    assert 0.10 < np.median(shares["top1"]) < 0.45
    assert np.median(shares["top5"]) > 2.5 * 5 / np.median(shares["parties"])


def test_sales_have_seasons() -> None:
    net: Counter[int] = Counter()
    for record in records(city(300), "vat_invoice"):
        if record.vat_invoice.side == INVOICE_SIDE_OUTPUT:
            net[occurred(record) % 12] += record.vat_invoice.net.units
    mean = sum(net.values()) / 12
    assert net[1] < 0.85 * mean  # February
    assert net[11] > 1.2 * mean  # December


def test_distress_shows_in_void_and_red_letter_invoices() -> None:
    town = city(300)
    ranked = sorted(town.firms, key=lambda firm: town.health(firm, YEAR_AGO))
    poor, sound = ({f.uscc for f in part} for part in (ranked[:60], ranked[-60:]))
    counts: Counter[tuple[str, str]] = Counter()
    for record in records(town, "vat_invoice"):
        group = "poor" if record.subject.uscc in poor else "sound"
        if group == "sound" and record.subject.uscc not in sound:
            continue
        counts[group, "all"] += 1
        counts[group, "void"] += record.vat_invoice.status == INVOICE_STATUS_VOID
        counts[group, "red"] += record.vat_invoice.gross.units < 0
    for sign in ("void", "red"):
        poor_share = counts["poor", sign] / counts["poor", "all"]
        sound_share = counts["sound", sign] / counts["sound", "all"]
        assert 0 < sound_share < poor_share / 2
        assert poor_share < 0.2


@pytest.mark.parametrize(
    "wrong",
    [{"firms": 0}, {"months": 12}, {"activity": 0}, {"default_rate": 0.9}],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"city|history|activity|rate"):
        CityPlan(**{"seed": 1, "last_month": LAST, **wrong})
