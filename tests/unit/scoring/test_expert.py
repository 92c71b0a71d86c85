"""The EXPERT scorecard: whole points that LightGBM reads, monotone, no PD, fair to research."""

import dataclasses
import datetime as dt
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.features.domain import (
    Coverage,
    FeatureVector,
    FirmSummary,
    SubjectSeries,
)
from services.scoring.features.firm import OPTIONAL
from services.scoring.features.registry import NAMES, WITHHELD, compute, encode
from services.scoring.models import expert
from services.scoring.models.domain import ModelClass, Scaling
from services.scoring.models.improvements import Improver
from services.scoring.models.points import whole
from services.scoring.models.reasons import Reasoner, features_of
from services.scoring.models.scorer import Floats, ScoreBatch, Scorer
from services.scoring.training import evidence
from services.scoring.training.expert import write
from services.scoring.training.metrics import auc
from services.scoring.training.report import Language, report
from services.scoring.trees import lightgbm
from tests.unit.scoring.conftest import AS_OF, KEY, TRAINED_AT, Trained
from tests.unit.scoring.firms import series, withholding

EVERY = expert.chosen(OPTIONAL)
USUAL = expert.chosen(expert.SOURCES)


def values_of(each: expert.Points) -> list[float]:
    """One value in each of its bins, at its cuts, without a value, and withheld."""
    at = [value for cut in each.thresholds for value in (cut, cut + 1e-11)]
    return [*at, math.nan, each.feature.monotone * WITHHELD]


def counted(each: expert.Points, value: float) -> int:
    """Its points, by the table."""
    if math.isnan(value):
        return each.absent_points
    return each.points[sum(value > threshold for threshold in each.thresholds)]


def rows_of(card: tuple[expert.Points, ...], count: int = 200) -> Floats:
    chance = np.random.default_rng(3)
    return np.stack([chance.choice(values_of(each), count) for each in card], axis=1)


def test_the_score_is_the_base_and_the_points_of_the_table() -> None:
    for card in (USUAL, EVERY, expert.chosen(())):
        manifest = expert.draft("expert", card, "")
        rows = rows_of(card)
        batch = Scorer(manifest, expert.trees(card)).score(rows)
        base = round(expert.BASE - sum(each.mean for each in card))
        for at, row in enumerate(rows.tolist()):
            points = [counted(each, value) for each, value in zip(card, row, strict=True)]
            assert batch.totals[at] == batch.scores[at] == base + sum(points)


def test_lightgbm_says_the_same() -> None:
    trees = expert.trees(EVERY)
    booster = lightgbm.Booster(model_str=trees)
    rows = rows_of(EVERY)
    batch = Scorer(expert.draft("expert", EVERY, ""), trees).score(rows)
    said = booster.predict(rows, pred_contrib=True)
    assert np.abs(said - batch.contributions).max() < 1e-12
    assert np.abs(booster.predict(rows, raw_score=True) - batch.margins).max() < 1e-9
    again = lightgbm.Booster(model_str=booster.model_to_string())
    assert np.array_equal(again.predict(rows), booster.predict(rows))


def test_contributions_are_points_less_their_mean_in_the_stated_population() -> None:
    rows = rows_of(EVERY, 20)
    batch = Scorer(expert.draft("expert", EVERY, ""), expert.trees(EVERY)).score(rows)
    for at, each in enumerate(EVERY):
        expected = [counted(each, value) - each.mean for value in rows[:, at].tolist()]
        assert batch.feature_points[:, at] == pytest.approx(expected, abs=0.02)


@given(st.sampled_from(EVERY), st.data())
def test_each_feature_goes_the_way_that_the_registry_says(
    each: expert.Points, data: st.DataObject
) -> None:
    low, high = sorted(data.draw(st.tuples(*[st.floats(-1e6, 1e6)] * 2)))
    assert (counted(each, low) - counted(each, high)) * each.feature.monotone >= 0
    worst = counted(each, each.feature.monotone * WITHHELD)
    assert worst == min(each.points)
    assert worst <= min(counted(each, low), counted(each, math.nan))


def test_cuts_are_in_the_units_of_words() -> None:
    amount = next(each for each in EVERY if each.name == "sales_amount_12m")
    below, reached = math.log1p(299_999.99), math.log1p(300_000.0)
    assert counted(amount, below) == amount.points[0]
    assert counted(amount, reached) == amount.points[1]
    staff = next(each for each in EVERY if each.name == "headcount")
    assert counted(staff, math.log1p(4)) == staff.points[1]
    assert counted(staff, math.log1p(5)) == staff.points[2]
    late = next(each for each in EVERY if each.name == "credit_days_past_due")
    assert [counted(late, days) for days in (0.0, 1.0, 30.0, 31.0, 91.0)] == [
        late.points[at] for at in (0, 1, 1, 2, 4)
    ]


def test_every_feature_of_the_card_says_why_and_where_it_comes_from() -> None:
    assert expert.problems(expert.CARD) == []
    for each in expert.CARD:
        assert each.zh
        assert each.en
        assert each.source
        assert each.shares_from


def test_what_contradicts_the_registry_or_itself_is_named() -> None:
    amount, *_ = expert.CARD
    bad = [
        dataclasses.replace(amount, points=amount.points[::-1]),
        dataclasses.replace(amount, cuts=amount.cuts[::-1]),
        dataclasses.replace(amount, shares=(1, *amount.shares[1:])),
        dataclasses.replace(amount, absent_points=-99),
        dataclasses.replace(amount, name="ip_class2"),
    ]
    words = ("go the way", "do not ascend", "100 per cent", "withholding", "no constrained feature")
    for each, word in zip(bad, words, strict=True):
        assert word in " ".join(expert.problems([each]))


def test_sources_choose_the_features() -> None:
    none = expert.chosen(())
    assert {"sales_amount_12m", "firm_age", "dishonest_judgments"} <= {each.name for each in none}
    assert not any(set(each.feature.needs) & set(OPTIONAL) for each in none)
    names = {each.name for each in expert.chosen(["utility_bill"])}
    assert "utility_days_overdue_24m" in names
    with pytest.raises(ValueError, match="horoscope: the sources are"):
        expert.chosen(["horoscope"])


def test_grades_go_by_whole_scores() -> None:
    manifest, scaling = expert.draft("expert", USUAL, ""), Scaling()
    for score, grade in ((720, "AAA"), (719, "AA"), (600, "BB"), (599, "B"), (450, "CC"), (1, "C")):
        pd = 1 / (1 + math.exp((score - scaling.offset) / scaling.factor))
        assert manifest.grade(pd) == grade


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "expert-1"
    write(folder, expert.SOURCES, made_at=TRAINED_AT, key=KEY)
    return folder


def test_the_folder_loads_and_its_card_claims_no_pd(folder: Path) -> None:
    scorer = Scorer.load(folder)
    assert scorer.manifest.model_class is ModelClass.EXPERT
    assert scorer.manifest.interval is None
    text = (folder / "card.md").read_text("utf-8")
    assert "It makes no claim of a calibrated PD" in text
    assert "PD from" not in text
    assert "| AAA | 720 |" in text
    assert "Platt" not in text
    for each in USUAL:
        assert f"[features.{each.name}]" in text
        assert each.en in text
        assert each.zh in text
    for check in expert.CHECKS:
        assert f"{check.auc:.4f}" in text
    assert "utility_days_overdue_24m" not in text
    measured = evidence.load((folder / "training.json").read_text("utf-8"))
    for language in Language:
        page = report(scorer, measured, "key", language)
        assert "Platt" not in page
        assert ">720<" in page


def test_the_same_points_give_the_same_trees(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "expert-1", expert.SOURCES, made_at=TRAINED_AT, key=KEY)
    for name in ("model.txt", "card.md", "training.json", "manifest.json"):
        assert (tmp_path / "expert-1" / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(FileExistsError):
        write(folder, expert.SOURCES, made_at=TRAINED_AT, key=KEY)


def vector_of(scorer: Scorer, summary: FirmSummary) -> FeatureVector:
    """The model's features of a firm."""
    vector = compute(summary, AS_OF)
    places = [NAMES.index(feature.name) for feature in scorer.manifest.features]
    return FeatureVector(
        tuple(vector.values[at] for at in places), tuple(vector.missing[at] for at in places)
    )


def scored(scorer: Scorer, summary: FirmSummary) -> ScoreBatch:
    features = features_of(scorer.manifest)
    return scorer.score([encode(vector_of(scorer, summary), features)])


def having(summary: FirmSummary, *parts: SubjectSeries) -> FirmSummary:
    """The same firm with other records of these types."""
    types = {part.record_type for part in parts}
    kept = [part for part in summary.series if part.record_type not in types]
    coverage = {**summary.coverage, **dict.fromkeys(types, Coverage.SUPPLIED)}
    return FirmSummary((*kept, *parts), coverage)


@pytest.mark.parametrize("sources", [expert.SOURCES, OPTIONAL])
def test_withholding_a_source_never_improves(trained: Trained, sources: tuple[str, ...]) -> None:
    card = expert.chosen(sources)
    scorer = Scorer(expert.draft("expert", card, ""), expert.trees(card))
    for summary, record_type in itertools.product(trained.firms[:25], OPTIONAL):
        shown = scored(scorer, summary).totals[0]
        assert scored(scorer, withholding(summary, record_type)).totals[0] <= shown


def test_it_ranks_firms_whose_risk_shows_in_their_records(folder: Path, trained: Trained) -> None:
    scorer = Scorer.load(folder)
    margins = [scored(scorer, summary).margins[0] for summary in trained.firms]
    assert auc(trained.labels, np.array(margins)) > 0.75


def burning(trained: Trained) -> FirmSummary:
    """A firm whose sales fell by two thirds and whose purchases exceed them, else in order."""
    sales = [10_000_000] * 12 + [3_000_000] * 12
    columns = {
        f"{side}_{name}": [value] * 24
        for side in ("output", "input")
        for name, value in (
            ("valid", 4), ("void", 0), ("red", 0), ("tax", 0), ("red_net", 0),
            ("counterparties", 4), ("top1", 500_000), ("top5", 1_000_000), ("hhi", 300_000),
            ("churn", 400_000),
        )
    }  # fmt: skip  # a table, line by line
    for side, factor in (("output", 1), ("input", 2)):
        columns[f"{side}_net"] = columns[f"{side}_positive_net"] = [at * factor for at in sales]
    nothing = [0] * 24
    return having(
        trained.firms[0],
        series("vat_invoice", 202405, **columns),
        series(
            "tax_filing", 202405, vat_declared_sales=sales, arrears=nothing, late=nothing,
            filings=[1] * 24, days_late=nothing, grade=[3] * 24,
        ),
        series("social_insurance", 202405, headcount=[20] * 24, missed=nothing),
        series("court_case", 202405, defendant=[0], defendant_amount=[0]),
        series(
            "credit_facility", 202405, limit=[10**9] * 24, balance=[5 * 10**8] * 24,
            days_past_due=nothing, five_class=[1] * 24,
        ),
        series("ip_right", 202405, class1=[0], class2=[0], pledged=[0]),
        series(
            "tech_status", 202405, high_tech_valid_to=[0], tech_sme_valid_to=[0],
            specialised_valid_to=[0], rd_spend=[0], rd_staff=[0],
        ),
        series("grant", 202405, grants=[0], amount=[0]),
        series("technology_contract", 202405, sold=[0], sold_amount=[0]),
        series("equity_financing", 202405, investments=[0], amount=[0]),
    )  # fmt: skip  # a table, line by line


def researching(summary: FirmSummary) -> FirmSummary:
    """The same firm with what it has for the money that it burns."""
    valid = (AS_OF - dt.date(1970, 1, 1)).days + 300
    return having(
        summary,
        series("ip_right", 202405, class1=[6], class2=[3], pledged=[0]),
        series(
            "tech_status", 202405, high_tech_valid_to=[valid], tech_sme_valid_to=[valid],
            specialised_valid_to=[0], rd_spend=[10**9], rd_staff=[12],
        ),
        series("grant", 202405, grants=[2], amount=[10**8]),
        series("technology_contract", 202405, sold=[3], sold_amount=[2 * 10**7]),
        series("equity_financing", 202405, investments=[1], amount=[2 * 10**9]),
    )  # fmt: skip  # a table, line by line


def test_losses_alone_do_not_sink_a_firm_that_has_research_for_them(
    folder: Path, trained: Trained
) -> None:
    scorer = Scorer.load(folder)
    plain = burning(trained)
    research = researching(plain)
    assert scored(scorer, plain).grades[0] in {"B", "CCC"}
    assert scored(scorer, research).grades[0] in {"AA", "A", "BBB"}
    # Research makes up for weak sales, not for what was not repaid.
    past_due = series(
        "credit_facility", 202405, limit=[10**9] * 24, balance=[5 * 10**8] * 24,
        days_past_due=[0] * 23 + [120], five_class=[1] * 23 + [4],
    )  # fmt: skip  # a table, line by line
    listed = series("enforcement", 202405, open=[1], outstanding=[10**9], dishonest=[1])
    assert scored(scorer, having(research, past_due)).grades[0] in {"CCC", "CC", "C"}
    assert scored(scorer, having(research, listed)).grades[0] in {"CCC", "CC", "C"}


def test_reasons_points_and_improvements_work_as_with_any_model(
    folder: Path, trained: Trained
) -> None:
    scorer = Scorer.load(folder)
    manifest = scorer.manifest
    reasoner, improver = Reasoner(manifest), Improver(scorer)
    changes = 0
    for summary in trained.firms[:40]:
        vector, batch = vector_of(scorer, summary), scored(scorer, summary)
        groups = dict(zip(manifest.groups, batch.group_points[0].tolist(), strict=True))
        base, points = whole(batch.base_points, groups, int(batch.scores[0]))
        assert base == expert.BASE
        assert base + sum(points.values()) == batch.scores[0]
        assert reasoner.reasons(batch, 0, vector)
        for found in improver.of_firm(vector).counterfactuals:
            changes += len(found.changes)
            assert found.score > batch.scores[0]
    assert changes > 10


def test_it_ranks_real_firms_as_its_card_says(shared_data: Path) -> None:
    """CUMCM 2020 C, invoices alone; nothing of the card was fitted to it."""
    from tests.bench.cumcm_auc import labelled

    matrix, labels = labelled(shared_data / "cumcm2020c")
    places = [NAMES.index(each.name) for each in USUAL]
    scorer = Scorer(expert.draft("expert", USUAL, ""), expert.trees(USUAL))
    [check] = [each for each in expert.CHECKS if each.population.startswith("CUMCM")]
    assert (len(labels), labels.sum()) == (check.rows, check.events)
    assert auc(labels, scorer.margins(matrix[:, places])) == pytest.approx(check.auc, abs=6e-4)
