"""The rules behind findings."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from services.datashare.china import month_of_day
from services.datashare.quality.domain import (
    Contradiction,
    Edge,
    Filing,
    Finding,
    Jump,
    Registered,
    Report,
    Rule,
    Shared,
    Summary,
    View,
    Watched,
    circles,
    components,
    judge,
    median_of,
    reconcile,
    shared_invoices,
)
from services.datashare.quality.loader import RuleError, load
from services.datashare.quality.tally import LATENESS_BOUNDS, lateness_bucket, percentile

RULES = load()
NOW = datetime(2024, 6, 15, tzinfo=UTC)
THIS_MONTH = 202406
YUAN = 100
EPOCH = date(1970, 1, 1).toordinal()


def day(value: str) -> int:
    return date.fromisoformat(value).toordinal() - EPOCH


def invoices(nets: Mapping[int, int], provider: str = "par_tax", **more: Any) -> Summary:
    columns = {
        "output_net": dict(nets),
        "output_valid": dict.fromkeys(nets, 3),
        "output_red": dict.fromkeys(nets, 0),
        "output_positive_net": dict(nets),
    }
    return Summary("vat_invoice", provider, columns | more)


def found(rule: Rule, **view: Any) -> list[Contradiction]:
    held = judge(View("sub_1", **view), RULES, THIS_MONTH)
    return [contradiction for contradiction in held if contradiction.rule is rule]


class TestSalesGap:
    def gap(self, sales: int, declared: int | None) -> list[Contradiction]:
        return found(
            Rule.SALES_GAP,
            summaries=[invoices({202401: sales})],
            filings=[Filing("par_tax", 202401, 202401, declared)],
        )

    def test_what_is_invoiced_beyond_what_is_declared_is_found(self) -> None:
        (gap,) = self.gap(100_000 * YUAN, 80_000 * YUAN)
        assert gap.figures == {
            "invoiced_fen": 100_000 * YUAN,
            "declared_fen": 80_000 * YUAN,
            "gap_fen": 20_000 * YUAN,
            "gap_ppm": 200_000,
        }
        assert (gap.first_month, gap.last_month) == (202401, 202401)
        assert gap.provider_ids == ("par_tax",)
        assert gap.record_types == ("tax_filing", "vat_invoice")

    @pytest.mark.parametrize(
        ("sales", "declared"),
        [
            (100_000, 100_000),
            (100_000, 99_000),  # one per cent above
            (100_000, 200_000),  # sales without invoices
            (900, 0),  # too little to report
            (100_000, None),  # the filing states no sales
        ],
    )
    def test_within_the_tolerance_is_nothing(self, sales: int, declared: int | None) -> None:
        declared = None if declared is None else declared * YUAN
        assert self.gap(sales * YUAN, declared) == []

    def test_more_than_half_without_invoice_is_found(self) -> None:
        (gap,) = self.gap(40_000 * YUAN, 100_000 * YUAN)
        assert gap.figures["gap_fen"] == -60_000 * YUAN

    def test_a_quarter_is_compared_with_its_three_months(self) -> None:
        summaries = [
            invoices(dict.fromkeys((202401, 202402, 202403, 202404), 10_000 * YUAN)),
            invoices({202403: 5_000 * YUAN}, "par_tax2"),
        ]
        quarter = Filing("par_tax", 202401, 202403, 35_000 * YUAN)
        assert found(Rule.SALES_GAP, summaries=summaries, filings=[quarter]) == []
        (gap,) = found(
            Rule.SALES_GAP,
            summaries=summaries,
            filings=[quarter._replace(sales=20_000 * YUAN)],
        )
        assert gap.figures["invoiced_fen"] == 35_000 * YUAN
        assert gap.provider_ids == ("par_tax", "par_tax2")

    def test_filings_of_one_period_add_up(self) -> None:
        filings = [Filing("par_tax", 202401, 202401, 50_000 * YUAN)] * 2
        summaries = [invoices({202401: 100_000 * YUAN})]
        assert found(Rule.SALES_GAP, summaries=summaries, filings=filings) == []

    @pytest.mark.parametrize("month", [202312, 202402])
    def test_a_period_without_invoices_before_or_behind_it_says_nothing(self, month: int) -> None:
        filings = [Filing("par_tax", month, month, 100_000 * YUAN)]
        summaries = [invoices({202401: 100_000 * YUAN})]
        assert found(Rule.SALES_GAP, summaries=summaries, filings=filings) == []

    def test_a_month_without_invoices_between_others_counts_as_none(self) -> None:
        filings = [Filing("par_tax", 202402, 202402, 100_000 * YUAN)]
        summaries = [invoices({202401: 100_000 * YUAN, 202403: 1})]
        (gap,) = found(Rule.SALES_GAP, summaries=summaries, filings=filings)
        assert gap.figures["invoiced_fen"] == 0

    @given(
        sales=st.integers(-(10**12), 10**12),
        declared=st.integers(-(10**12), 10**12),
    )
    def test_it_is_found_if_and_only_if_it_is_beyond_all_thresholds(
        self, sales: int, declared: int
    ) -> None:
        limits = RULES.sales_gap
        gap = sales - declared
        share = limits.over_ppm if gap > 0 else limits.under_ppm
        beyond = abs(gap) > limits.floor_fen and abs(gap) / max(
            abs(sales), abs(declared)
        ) > share / 1e6 * (1 + 1e-12)
        assert bool(self.gap(sales, declared)) == beyond


class TestHeadcountGap:
    def gap(self, insured: int, reported: int | None, month: int = 202312) -> list[Contradiction]:
        return found(
            Rule.HEADCOUNT_GAP,
            summaries=[Summary("social_insurance", "par_hr", {"headcount": {month: insured}})],
            reports=[Report("par_market", 2023, reported)],
        )

    def test_more_reported_than_insured_is_found(self) -> None:
        (gap,) = self.gap(20, 30)
        assert gap.figures == {"insured": 20, "reported": 30, "gap": -10, "gap_ppm": 333_333}
        assert gap.provider_ids == ("par_hr", "par_market")
        assert gap.first_month == gap.last_month == 202312

    @pytest.mark.parametrize(
        ("insured", "reported", "month"),
        [
            (8, 10, 202312),  # 20 %
            (1, 4, 202312),  # three persons
            (20, None, 202312),
            (20, 30, 202311),  # another month
        ],
    )
    def test_otherwise_nothing(self, insured: int, reported: int | None, month: int) -> None:
        assert self.gap(insured, reported, month) == []

    def test_the_insured_of_two_cities_add_up_and_the_latest_report_counts(self) -> None:
        held = found(
            Rule.HEADCOUNT_GAP,
            summaries=[
                Summary("social_insurance", name, {"headcount": {202312: 15}})
                for name in ("par_hr", "par_hr2")
            ],
            reports=[Report("par_market", 2023, 90), Report("par_market", 2023, 30)],
        )
        assert held == []


class TestCancelledButInvoicing:
    def held(self, *statuses: tuple[str, bool]) -> list[Contradiction]:
        return found(
            Rule.CANCELLED_BUT_INVOICING,
            summaries=[invoices(dict.fromkeys((202401, 202402, 202403), 7 * YUAN))],
            registrations=[Registered("par_market", day(on), ended) for on, ended in statuses],
        )

    def test_invoices_of_the_months_after_are_counted(self) -> None:
        (held,) = self.held(("2020-01-01", False), ("2024-01-20", True), ("2024-03-01", True))
        assert held.figures == {"invoices": 6, "net_fen": 14 * YUAN, "ended_month": 202401}
        assert (held.first_month, held.last_month) == (202402, 202403)
        assert held.provider_ids == ("par_market", "par_tax")

    def test_a_firm_that_is_active_again_may_invoice(self) -> None:
        assert self.held(("2024-01-20", True), ("2024-02-01", False)) == []

    def test_it_ended_after_the_last_invoice(self) -> None:
        assert self.held(("2024-03-31", True)) == []

    def test_red_letter_invoices_are_let_pass(self) -> None:
        red = invoices({202402: -5}, output_red={202402: 3})
        ended = [Registered("par_market", day("2024-01-20"), True)]
        rule = Rule.CANCELLED_BUT_INVOICING
        assert found(rule, summaries=[red], registrations=ended) == []


class TestJump:
    LIMITS = Jump(12, 6, 3_500_000, 8, (Watched("vat_invoice", "output_net", 1_000),))
    MONTHS = tuple(202301 + number for number in range(12)) + tuple(range(202401, 202407))

    def jumps(self, values: Mapping[int, int]) -> list[tuple[int, int, int]]:
        rules = replace(RULES, jump=self.LIMITS)
        view = View("sub_1", summaries=[invoices(values)])
        return [
            (held.first_month, held.last_month, held.figures["output_net"])
            for held in judge(view, rules, THIS_MONTH)
        ]

    def level(self, **changes: int) -> dict[int, int]:
        values = {month: 1_000 + month % 7 for month in self.MONTHS[:-1]}
        return values | {int(month[1:]): value for month, value in changes.items()}

    def test_an_even_series_has_none(self) -> None:
        assert self.jumps(self.level()) == []

    def test_a_month_in_another_unit_is_found_and_the_next_ones_are_not(self) -> None:
        assert self.jumps(self.level(m202310=10_000_000)) == [(202310, 202310, 10_000_000)]

    def test_a_new_level_is_one_finding_until_it_is_the_median(self) -> None:
        high = {f"m{month}": 100_000 + month for month in self.MONTHS[9:]}
        ((first, last, _),) = self.jumps(self.level(**high))
        assert first == 202310
        assert last == 202403  # of the twelve before April, six are high

    def test_up_and_down_are_two(self) -> None:
        big = {month: value * 1_000 for month, value in self.level().items()}
        jumped = big | {202310: 10**9, 202311: 0}
        assert [first for first, _, _ in self.jumps(jumped)] == [202310, 202311]

    def test_the_running_month_is_not_complete(self) -> None:
        assert self.jumps(self.level(m202406=10_000_000)) == []

    def test_too_few_months_before_say_nothing(self) -> None:
        values = dict(list(self.level(m202306=10_000_000).items())[:6])
        assert self.jumps(values) == []
        assert self.jumps(dict(list(self.level(m202307=10_000_000).items())[:7])) != []

    def test_below_the_floor_is_nothing(self) -> None:
        values = {month: value // 100 for month, value in self.level(m202310=90_000).items()}
        assert self.jumps(values) == []

    @given(st.lists(st.integers(-(10**14), 10**14), min_size=1))
    def test_the_median_is_numpys(self, values: list[int]) -> None:
        exact = np.median(np.array(values, dtype=np.longdouble))
        assert median_of(values) == int(np.floor(exact))


class TestCircles:
    @given(
        st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40),
        st.randoms(use_true_random=False),
    )
    def test_components_are_those_of_scipy(
        self, pairs: list[tuple[int, int]], shuffled: random.Random
    ) -> None:
        order = list(range(12))
        shuffled.shuffle(order)
        graph: dict[str, list[str]] = {str(node): [] for node in order}
        for tail, head in pairs:
            graph[str(tail)].append(str(head))
        matrix = csr_array(
            (np.ones(len(pairs)), ([t for t, _ in pairs], [h for _, h in pairs])), shape=(12, 12)
        )
        _, labels = connected_components(matrix, directed=True, connection="strong")
        expected = {frozenset(str(n) for n in np.flatnonzero(labels == x)) for x in set(labels)}
        ours = components(graph)
        assert {frozenset(component) for component in ours} == expected
        assert sum(map(len, ours)) == 12

    def test_a_long_chain_needs_no_deep_stack(self) -> None:
        ring = {str(node): [str((node + 1) % 50_000)] for node in range(50_000)}
        assert [len(component) for component in components(ring)] == [50_000]

    def test_a_circle_names_its_members_and_its_guarantees(self) -> None:
        edges = [
            Edge("b", "c", "par_bank2", 20, 202402),
            Edge("c", "a", "par_bank1", 30, 202403),
            Edge("a", "b", "par_bank1", 10, 202401),
            Edge("a", "b", "par_bank1", 5, 202401),
            Edge("a", "outside", "par_bank9", 1, 202301),
            Edge("self", "self", "par_bank9", 1, 202301),
        ]
        (circle,) = circles(edges, RULES.guarantee_circle)
        assert (circle.subject_id, circle.others) == ("a", ("b", "c"))
        assert circle.provider_ids == ("par_bank1", "par_bank2")
        assert circle.figures == {"members": 3, "guarantees": 3, "amount_fen": 65}
        assert (circle.first_month, circle.last_month) == (202401, 202403)
        assert circles(edges[:2], RULES.guarantee_circle) == []


def test_shared_invoices_are_of_two_firms() -> None:
    pair = Shared(("sub_1", "sub_2"), {"par_b", "par_a"}, 3, 202401, 202402)
    (held,) = shared_invoices([pair], RULES.invoice_under_two_firms)
    assert (held.subject_id, held.others) == ("sub_1", ("sub_2",))
    assert held.provider_ids == ("par_a", "par_b")
    assert held.figures == {"invoices": 3}


class TestReconcile:
    HELD = Contradiction(
        Rule.SALES_GAP, ("1",), "sub_1", (), ("par_tax",), ("vat_invoice",), 1, 1, {"gap_fen": 5}
    )

    def test_looking_again_finds_the_same_one(self) -> None:
        first = reconcile([], [self.HELD])
        assert first.added == (self.HELD,)
        opened = [Finding("fnd_1", self.HELD, NOW)]
        again = reconcile(opened, [self.HELD])
        assert (again.added, again.changed, again.cleared, again.same) == ((), {}, (), ("fnd_1",))

    def test_other_figures_change_it_and_nothing_clears_it(self) -> None:
        opened = [Finding("fnd_1", self.HELD, NOW)]
        larger = replace(self.HELD, figures={"gap_fen": 9})
        assert reconcile(opened, [larger]).changed == {"fnd_1": larger}
        assert reconcile(opened, []).cleared == ("fnd_1",)

    @pytest.mark.parametrize(
        "change",
        [{"key": ("2",)}, {"subject_id": "sub_2"}, {"others": ("1",)}, {"rule": Rule.JUMP}],
    )
    def test_another_key_is_another_one(self, change: dict[str, Any]) -> None:
        other = replace(self.HELD, **change)
        again = reconcile([Finding("fnd_1", self.HELD, NOW)], [other])
        assert (again.added, again.cleared) == ((other,), ("fnd_1",))


class TestLateness:
    @given(st.integers(-1_000, 36_500))
    def test_a_bucket_is_exact_for_a_month_and_within_a_fifth_after(self, days: int) -> None:
        bound = LATENESS_BOUNDS[lateness_bucket(days)]
        assert bound >= max(days, 0)
        assert bound == max(days, 0) if days <= 31 else bound < days * 1.2

    @given(st.lists(st.integers(0, 31), min_size=1), st.integers(1, 100))
    def test_percentiles_are_of_the_ranks(self, days: list[int], percent: int) -> None:
        histogram: dict[int, int] = {}
        for value in days:
            bucket = lateness_bucket(value)
            histogram[bucket] = histogram.get(bucket, 0) + 1
        rank = -(-len(days) * percent // 100)
        assert percentile(histogram, percent) == sorted(days)[rank - 1]

    def test_of_nothing_there_is_none(self) -> None:
        assert percentile({}, 50) is None


@given(st.dates(date(1900, 1, 1)))
def test_months_of_days(on: date) -> None:
    assert month_of_day(on.toordinal() - EPOCH) == on.year * 100 + on.month


class TestLoader:
    def test_words_are_there_for_every_rule(self) -> None:
        assert set(RULES.words) == set(Rule)

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            (
                "floor = 3 ",
                "floor = true ",
                "headcount_gap.thresholds: `floor` should be an integer",
            ),
            ("floor = 3 ", "flor = 3 ", "`floor` is missing"),
            ("under_ppm = 500_000", "under_ppm = -1", "from 0 on"),
            ("version = 1", "version = 0", "`version`"),
            ('measure = "paid"', "measure = 7", "jump.measures[4]"),
            ("[jump.thresholds]", "[jump.limits]", "jump.thresholds: should be a table"),
            ("[guarantee_circle]", "[circle]", "unknown key `circle`"),
            ('zh = "担保圈"', 'zh = ""', "guarantee_circle: `zh`"),
            ("version = 1", "version =", "rules.toml:"),
            ("look_back_months = 36", "look_back_months = '36'", "`look_back_months`"),
        ],
    )
    def test_a_typo_stops(self, old: str, new: str, problem: str) -> None:
        from importlib import resources

        file = resources.files("services.datashare.quality").joinpath("rules.toml")
        text = file.read_text(encoding="utf-8")
        assert old in text
        with pytest.raises(RuleError) as caught:
            load(text.replace(old, new, 1))
        assert problem in str(caught.value)
