"""A model's card and report: everything that was measured, and nothing that was not."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from services.scoring.models.domain import Band, Interval, Manifest, ModelClass
from services.scoring.models.folder import read_folder
from services.scoring.models.scorer import Scorer
from services.scoring.training import evidence as measured
from services.scoring.training.card import card
from services.scoring.training.evidence import SMALL, Evidence, Figure, Slice, without_small
from services.scoring.training.fairness import Kind, compare, kind_of
from services.scoring.training.headings import HEADINGS
from services.scoring.training.report import Language, points, report, sketch
from tests.fakes.evidence import a_slice, whole
from tests.unit.scoring.conftest import Trained

VOID = {"meta", "br", "link", "img", "line", "path", "rect", "circle"}
EVIL = "</script><img src=x onerror=alert(1)>|`<b>&\"'"


class Page(HTMLParser):
    """What is on a page; it must be well nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def full(trained: Trained) -> Evidence:
    return whole(trained.manifest)


@pytest.fixture(scope="module", params=list(Language))
def page(request: pytest.FixtureRequest, trained: Trained, full: Evidence) -> str:
    return report(trained.scorer, full, "the-key", request.param)


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    found = Page(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    for name, value in found.attributes:
        assert name not in {"src", "onclick", "onload", "onerror"}
        assert name != "href" or value.startswith("#"), value
    assert "url(" not in page
    assert set(re.findall(r"https?://[^\s\"<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert len(found.ids) == len(set(found.ids))
    assert len(page) < 250_000


def test_every_heading_is_there_once_and_every_link_leads_somewhere(page: str) -> None:
    found = Page(page)
    assert found.ids == [heading.name for heading in HEADINGS]
    linked = {value[1:] for name, value in found.attributes if name == "href"}
    assert linked == set(found.ids)


def test_every_plot_is_drawn_and_says_what_it_shows(page: str, full: Evidence) -> None:
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    # roc, scores, ks, gains, folds, baselines, paired, reliability, periods twice, bins,
    # importance, coverage, one other segment, 12 axes; two for each of three kinds of groups.
    assert len(plots) == 14 + 12 + 6
    for plot in plots:
        assert re.search(r'role="img" aria-label="[^"]+"', plot)
        for number in re.findall(r' (?:x|y|cx|cy|x1|y1|x2|y2|width|height)="([^"]+)"', plot):
            assert -5 <= float(number) <= 900, plot


def test_the_same_folder_gives_the_same_page(trained: Trained, full: Evidence) -> None:
    again = measured.load(measured.dump(full))
    for language in Language:
        first = report(trained.scorer, full, "k", language)
        assert first == report(trained.scorer, again, "k", language)
    assert card(trained.manifest, full) == card(trained.manifest, again)


def test_figures_and_groups_are_stated(page: str) -> None:
    for text in ("0.8620", "0.846–0.877", "北京市", "0.641", "leak_auc", "DeLong", "the-key"):
        assert text in page
    assert "境外" not in page  # fewer than 30 rows


def test_words_are_of_the_language(trained: Trained, full: Evidence) -> None:
    zh, en = (
        report(trained.scorer, full, "k", language) for language in (Language.ZH, Language.EN)
    )
    assert '<html lang="zh-CN">' in zh
    assert "首先应看" in zh
    assert "近12个月销售额" in zh
    assert "Look here first" not in zh
    assert '<html lang="en">' in en
    assert "sales in 12 months" in en
    assert "首先应看" not in en


def test_what_a_bank_wrote_is_text(trained: Trained, full: Evidence) -> None:
    hostile = dataclasses.replace(
        full,
        outcome=measured.OutcomeStatement(EVIL, EVIL, EVIL, EVIL, EVIL),
        findings=tuple(
            dataclasses.replace(each, column=EVIL, detail=EVIL) for each in full.findings
        ),
        segments={EVIL: full.segments["channel"], f"地区{EVIL}": full.segments["size"]},
        periods=tuple(dataclasses.replace(each, value=EVIL) for each in full.periods),
        coverage=tuple(dataclasses.replace(each, value=EVIL) for each in full.coverage),
        baselines=tuple(dataclasses.replace(each, name=EVIL) for each in full.baselines),
        paired=tuple(dataclasses.replace(each, against=EVIL) for each in full.paired),
        environment={EVIL: EVIL},
        spec=EVIL,
    )
    text = report(trained.scorer, hostile, "k", Language.EN)
    found = Page(text)
    assert not {"img", "script"} & set(found.tags)
    assert "<img" not in text
    assert "onerror=alert(1)>" not in text
    written = card(trained.manifest, hostile)
    outside = re.sub(r"(?s)```toml.*?```", "", written)
    assert "<img" not in outside
    rows = [line for line in outside.splitlines() if line.startswith("|") and "alert" in line]
    assert rows
    assert all(re.search(r"(?<!\\)\|`", line) is None for line in rows)


def test_what_was_not_measured_is_said(trained: Trained) -> None:
    stored = read_folder(trained.folder)
    sparse = measured.load(stored.training)
    bare = dataclasses.replace(
        sparse, metrics={}, segments={}, periods=(), coverage=(), findings=(), roc=()
    )
    for text in (report(trained.scorer, bare, "k", Language.EN), card(trained.manifest, bare)):
        for words in (
            "was not trained on outcomes",
            "Not tested: the data named no region, industry or size",
            "No periods were told apart",
            "Nothing was found",
        ):
            assert words in text
    Page(report(trained.scorer, bare, "k", Language.ZH))


def test_the_card_has_every_heading_and_what_guidance_it_serves(
    trained: Trained, full: Evidence
) -> None:
    text = card(trained.manifest, full)
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles == [f"{heading.en} {heading.zh}" for heading in HEADINGS]
    for heading in HEADINGS:
        assert f"| {heading.en} | {heading.sr} | {heading.jrt} | {heading.iccr} |" in text
    for words in (
        "90 days past due",
        "0.8460 to 0.8770",
        "WoE-logistic",
        "recovery_rate",
        "王 Wang",
    ):
        assert words in text
    assert "**below 4/5**" in text
    assert "境外" not in text
    assert not re.search(r"\n\n\n", text)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_the_card_states_the_interval(trained: Trained, full: Evidence) -> None:
    interval = Interval("Conformal.", (Band(1.0, (0.0,), (0.1,), (0.2,)),), 1.5)
    manifest = dataclasses.replace(trained.manifest, interval=interval)
    assert "Conformal. A file whose interval is wider than 1.5000 in log-odds" in card(
        manifest, full
    )


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("region", Kind.REGION),
        ("Province_code", Kind.REGION),
        ("所在省份", Kind.REGION),
        ("地区", Kind.REGION),
        ("BankState", Kind.REGION),
        ("NAICS", Kind.INDUSTRY),
        ("industry_section", Kind.INDUSTRY),
        ("行业门类", Kind.INDUSTRY),
        ("firmSize", Kind.SIZE),
        ("NoEmp", Kind.SIZE),
        ("employees", Kind.SIZE),
        ("企业规模", Kind.SIZE),
        ("statement_date", None),
        ("capacity", None),
        ("oversize_items2", None),
        ("channel", None),
    ],
)
def test_columns_of_fairness_are_known_by_name(column: str, kind: Kind | None) -> None:
    assert kind_of(column) is kind


def test_groups_are_compared_with_the_best_of_those_shown(full: Evidence) -> None:
    region, industry, size = compare(without_small(full))
    assert (region.kind, industry.kind, size.kind) == tuple(Kind)
    assert region.hidden == 2
    by_value = {group.slice.value: group for group in region.groups}
    assert list(by_value) == ["北京市", "河北省", "天津市", "山西省"]
    best, worst = by_value["北京市"], by_value["山西省"]
    assert best.ratio == Figure(1.0)
    assert worst.ratio is not None
    assert worst.ratio.low is not None
    assert worst.ratio.high is not None
    assert worst.ratio.low < worst.ratio.value < worst.ratio.high < 1
    assert worst.below
    assert not best.below
    assert worst.calibration is not None
    assert worst.calibration.value == pytest.approx(worst.slice.observed.value / worst.slice.pd)


def test_rows_that_weights_leave_little_of_do_not_make_a_ratio_certain(full: Evidence) -> None:
    """Their shares' intervals know it, their number does not."""
    many = a_slice("many", 400, 0.05, 0.05, 0.8)
    few = dataclasses.replace(many, value="few", approved=Figure(0.55, 0.22, 0.84))
    made = dataclasses.replace(
        full,
        segments={
            "region": (dataclasses.replace(many, approved=Figure(0.8, 0.76, 0.84)), few),
        },
    )
    [region] = compare(made)
    [ratio] = [group.ratio for group in region.groups if group.slice.value == "few"]
    assert ratio is not None
    assert ratio.value == pytest.approx(0.55 / 0.8)
    assert ratio.high is not None
    assert ratio.high > 1
    assert not any(group.below for group in region.groups)


def test_a_small_slice_cannot_be_told_from_the_others() -> None:
    def kept(*rows: int) -> list[int]:
        slices = tuple(a_slice(str(at), each, 0.05, 0.05, 0.8) for at, each in enumerate(rows))
        made = without_small(
            Evidence(
                measured.OutcomeStatement(),
                measured.Sampling(0, 0),
                measured.Protocol("grouped", 5, 1),
                {},
                segments={"x": slices},
            )
        )
        assert without_small(made) == made
        assert made.hidden.get("x", 0) == len(rows) - len(made.segments["x"])
        return [each.rows for each in made.segments["x"]]

    assert kept(100, 200, SMALL) == [100, 200, SMALL]
    assert kept(100, 200, 300, SMALL - 1) == [200, 300]
    assert kept(100, 200, 5, 7) == [100, 200]
    assert kept(100, 5) == []
    assert kept(5) == []


def test_training_json_holds_no_small_slice(full: Evidence) -> None:
    text = measured.dump(full)
    assert "北京市" in text
    assert "境外" not in text
    assert measured.load(text).hidden == {"地区 region": 2}


def found(manifest: Manifest, evidence: Evidence) -> dict[str, str]:
    """What to look at first, by text."""
    seen = without_small(evidence)
    return {
        each.text: each.level for each in points(manifest, seen, compare(seen), lambda zh, en: en)
    }


def test_what_stands_out_is_told_first(trained: Trained, full: Evidence) -> None:
    manifest = dataclasses.replace(trained.manifest, model_class=ModelClass.VALIDATED)
    calm = dataclasses.replace(full, segments={"industry": full.segments["industry"]}, findings=())
    calm = dataclasses.replace(calm, coverage=(), paired=())
    assert found(manifest, calm) == {}
    assert "stop" in found(trained.manifest, calm).values()  # SIMULATED
    few = dataclasses.replace(calm, sampling=dataclasses.replace(calm.sampling, events=40))
    assert found(manifest, few) == {"40 events: figures are uncertain": "look"}
    steep = dataclasses.replace(calm, metrics={**calm.metrics, "calibration_slope": Figure(1.31)})
    assert found(manifest, steep) == {"calibration slope 1.31": "look"}
    worse = measured.PairedTest("x", "brier", 0.01, 0.005, 0.015, 0.01, "bootstrap")
    assert found(manifest, dataclasses.replace(calm, paired=(worse,))) == {
        "worse than x (Brier score +0.0100)": "stop"
    }
    off = dataclasses.replace(calm.periods[-1], observed=Figure(0.2, 0.15, 0.25))
    late = dataclasses.replace(calm, periods=(*calm.periods[:-1], off))
    assert found(manifest, late) == {"the last period (2023Q4) is off its PD": "look"}
    bare = dataclasses.replace(calm, segments={}, outcome=measured.OutcomeStatement())
    assert list(found(manifest, bare).values()) == ["look", "look"]
    all_of_it = list(found(trained.manifest, full).values())
    assert all_of_it == sorted(all_of_it, key=["stop", "look", "note"].index)


def test_axes_are_read_off_the_trees_where_training_kept_none(trained: Trained) -> None:
    constrained = [feature for feature in trained.manifest.features if feature.monotone]
    axes = sketch(trained.scorer, constrained)
    assert len(axes) > 20
    assert any(max(axis.log_odds) > min(axis.log_odds) for axis in axes)
    for axis in axes:
        assert list(axis.points) == sorted(axis.points)
        steps = [b - a for a, b in zip(axis.log_odds, axis.log_odds[1:], strict=False)]
        assert all(step * axis.direction >= -1e-9 for step in steps), axis.feature


def test_a_slice_without_both_outcomes_has_no_auc(trained: Trained, full: Evidence) -> None:
    def without(each: Slice) -> Slice:
        return dataclasses.replace(each, auc=None, approved=None)

    bare = dataclasses.replace(
        full,
        segments={name: tuple(map(without, each)) for name, each in full.segments.items()},
        periods=tuple(map(without, full.periods)),
        coverage=tuple(map(without, full.coverage)),
        approval=None,
    )
    Page(report(trained.scorer, bare, "k", Language.EN))
    assert "## Fairness" in card(trained.manifest, bare)


def test_a_folder_loads_what_the_report_needs(trained: Trained, tmp_path: Path) -> None:
    stored = read_folder(trained.folder)
    text = report(
        Scorer.load(trained.folder), measured.load(stored.training), stored.key_id, Language.ZH
    )
    Page(text)
    assert stored.key_id in text
