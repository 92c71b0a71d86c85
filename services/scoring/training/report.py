"""The report of a model: one HTML page, in Chinese or English, from its folder alone.

Invariants: the same folder and language give the same bytes; nothing is loaded and nothing runs;
whatever a bank wrote in its data is text, never markup; what was not measured is said to be
missing. Slices of few rows are not shown.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from services.scoring.features.registry import BY_NAME as FEATURES
from services.scoring.models import reasons
from services.scoring.models.domain import (
    SCORE,
    InputSource,
    Manifest,
    ModelClass,
    ModelFeature,
)
from services.scoring.models.scorer import Scorer
from services.scoring.training import plots
from services.scoring.training.card import floors
from services.scoring.training.evidence import (
    Axis,
    Evidence,
    Figure,
    PairedTest,
    Slice,
    without_small,
)
from services.scoring.training.fairness import FOUR_FIFTHS, Comparison, compare, kind_of
from services.scoring.training.headings import BY_NAME
from services.scoring.training.plots import Row
from services.scoring.training.rendering import environment, measure, signed

if TYPE_CHECKING:
    from markupsafe import Markup

FEW_EVENTS: Final = 100
SLOPE: Final = (0.9, 1.1)
"""Calibration slopes that are taken for 1."""
AXES: Final = 12
"""Inputs whose axis is drawn: constrained ones first, then those that move scores most."""
_COMPARED: Final = ("auc", "ks", "brier", "log_loss", "calibration_slope", "ece")
_TILES: Final = ("auc", "ks", "brier", "calibration_slope")


class Language(enum.StrEnum):
    """In which a report is written."""

    ZH = "zh"
    EN = "en"


Say = Callable[[str, str], str]
"""Picks the text in the report's language from the Chinese and the English one."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a reader should look at first.

    Args:
        level: "stop", "look" or "note".
        text: in the report's language.
        heading: where more of it stands.
    """

    level: str
    text: str
    heading: str


def report(scorer: Scorer, evidence: Evidence, key_id: str, language: Language) -> str:
    """Return the report, HTML.

    Args:
        scorer: of the folder.
        evidence: its training.json.
        key_id: thumbprint of the key that signed the folder.
        language: of the report's own words; those of the data stay as they are.
    """

    def say(zh: str, en: str) -> str:
        return zh if language is Language.ZH else en

    manifest, evidence = scorer.manifest, without_small(evidence)
    comparisons = compare(evidence)
    others = {
        column: slices for column, slices in evidence.segments.items() if kind_of(column) is None
    }
    constrained = [feature for feature in manifest.features if feature.monotone]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            w=say,
            lang="zh-CN" if language is Language.ZH else "en",
            chinese=language is Language.ZH,
            manifest=manifest,
            expert=manifest.model_class is ModelClass.EXPERT,
            floors=dict(floors(manifest)),
            evidence=evidence,
            key_id=key_id,
            headings=BY_NAME,
            points=points(manifest, evidence, comparisons, say),
            tiles=[name for name in _TILES if name in evidence.metrics],
            compared=[name for name in _COMPARED if name in evidence.metrics],
            drawn=_drawn(scorer, evidence, comparisons, others, say),
            comparisons=comparisons,
            others=others,
            constrained=constrained,
            platform=all(f.source is InputSource.PLATFORM for f in manifest.features),
            wrong=sum(axis.wrong for axis in evidence.axes),
            graded={row.grade: row for row in evidence.grades},
            titles={feature.name: _titled(feature, say) for feature in manifest.features},
            groups={group: _group(manifest, group, say) for group in manifest.groups},
            score_bins=manifest.bins.get(SCORE),
        )
    )


def points(
    manifest: Manifest, evidence: Evidence, comparisons: Sequence[Comparison], say: Say
) -> list[Point]:
    """Return what a reader should look at first, the gravest first."""
    found = [*_of_class(manifest, say), *_of_figures(evidence, say)]
    found += _of_slices(evidence, comparisons, say)
    refused = sum(finding.refused for finding in evidence.findings)
    if refused:
        text = say(f"数据检查拒绝了 {refused} 列", f"the inspection refused {refused} columns")
        found.append(Point("note", text, "findings"))
    outcome = evidence.outcome
    if not outcome.definition or not outcome.performance:
        text = say("结果定义或表现期未说明", "the outcome or its performance window is not stated")
        found.append(Point("look", text, "outcome"))
    if evidence.metrics and evidence.protocol.kind != "out_of_time" and not evidence.periods:
        text = say("没有跨时期的检验", "it was not measured over time")
        found.append(Point("look", text, "stability"))
    if not comparisons:
        text = say(
            "未检验地区、行业与规模的公平性", "fairness by region, industry, size is untested"
        )
        found.append(Point("look", text, "fairness"))
    order = ("stop", "look", "note")
    return sorted(found, key=lambda point: order.index(point.level))


def _of_class(manifest: Manifest, say: Say) -> list[Point]:
    if manifest.model_class is ModelClass.SIMULATED:
        text = say("以模拟数据训练，只供试用", "trained on simulated data: for trying out only")
        return [Point("stop", text, "limits")]
    if manifest.model_class is ModelClass.EXPERT:
        text = say(
            "专家评分卡，不声称违约概率已校准", "built by judgement: no claim of a calibrated PD"
        )
        return [Point("look", text, "limits")]
    if manifest.model_class is ModelClass.UNVALIDATED:
        text = say("尚未经独立验证", "nobody independent has validated it")
        return [Point("look", text, "limits")]
    return []


def _of_figures(evidence: Evidence, say: Say) -> list[Point]:
    found = []
    events = evidence.sampling.events
    if evidence.metrics and events < FEW_EVENTS:
        text = say(
            f"只有 {events} 个违约样本，各指标都不确定", f"{events} events: figures are uncertain"
        )
        found.append(Point("look", text, "sampling"))
    slope = evidence.metrics.get("calibration_slope")
    if slope is not None and not SLOPE[0] <= slope.value <= SLOPE[1]:
        text = say(f"校准斜率 {slope.value:.2f}", f"calibration slope {slope.value:.2f}")
        found.append(Point("look", text, "calibration"))
    for test in _first(evidence.paired):
        better = -1 if test.metric in {"brier", "log_loss", "ece"} else 1
        name = f"{say(measure(test.metric, True), measure(test.metric))} {signed(test.difference)}"
        if test.low <= 0 <= test.high:
            text = say(
                f"与 {test.against} 无显著差异（{name}）",
                f"no different from {test.against} ({name})",
            )
            found.append(Point("note", text, "performance"))
        elif test.difference * better < 0:
            text = say(f"不如 {test.against}（{name}）", f"worse than {test.against} ({name})")
            found.append(Point("stop", text, "performance"))
    return found


def _of_slices(evidence: Evidence, comparisons: Sequence[Comparison], say: Say) -> list[Point]:
    found = []
    for comparison in comparisons:
        for group in comparison.groups:
            name = f"{comparison.column}: {group.slice.value}"
            if group.below and group.ratio is not None:
                ratio = f"{group.ratio.value:.2f}"
                text = say(
                    f"{name} 的通过率之比 {ratio}，低于 4/5", f"{name}: ratio {ratio}, below 4/5"
                )
                found.append(Point("look", text, "fairness"))
            if _off(group.calibration, 1.0):
                text = say(f"{name} 的违约概率有偏差", f"{name}: its PD is off")
                found.append(Point("look", text, "fairness"))
    whole = evidence.metrics.get("auc")
    for each in evidence.coverage:
        if whole and each.auc and each.auc.high is not None and each.auc.high < whole.value:
            text = say(
                f"数据来源只有「{each.value}」时区分较弱",
                f"where only {each.value} is there it ranks worse",
            )
            found.append(Point("look", text, "coverage"))
    if evidence.periods and _off(evidence.periods[-1].observed, evidence.periods[-1].pd):
        last = evidence.periods[-1].value
        text = say(f"最近一期（{last}）违约率偏离预测", f"the last period ({last}) is off its PD")
        found.append(Point("look", text, "stability"))
    return found


def _first(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The first test of each model and measure: others of them are the same question again."""
    found: dict[tuple[str, str], PairedTest] = {}
    for test in tests:
        found.setdefault((test.against, test.metric), test)
    return list(found.values())


def _off(figure: Figure | None, target: float) -> bool:
    """Whether a target is outside the interval of a figure."""
    if figure is None or figure.low is None or figure.high is None:
        return False
    return not figure.low <= target <= figure.high


def sketch(scorer: Scorer, features: Sequence[ModelFeature]) -> tuple[Axis, ...]:
    """Move the golden rows along inputs: what the trees say where training kept no axis.

    Args:
        scorer: of the model.
        features: of its manifest, with frozen edges.
    """
    manifest = scorer.manifest
    names = [feature.name for feature in manifest.features]
    rows = np.array([[np.nan if x is None else x for x in row.inputs] for row in manifest.golden])
    found = []
    for feature in features:
        bins = manifest.bins.get(feature.name)
        if bins is None or len(bins.edges) < 2:
            continue
        places = [bins.edges[0] - (bins.edges[1] - bins.edges[0]), *bins.edges]
        moved = np.repeat(rows[None], len(places), axis=0)
        moved[:, :, names.index(feature.name)] = np.array(places)[:, None]
        margins = scorer.score(moved.reshape(-1, rows.shape[1])).margins.reshape(len(places), -1)
        log_odds = manifest.calibration.a * margins.mean(axis=1) + manifest.calibration.b
        found.append(Axis(feature.name, feature.monotone, tuple(places), tuple(log_odds.tolist())))
    return tuple(found)


def _titled(feature: ModelFeature, say: Say) -> str:
    known = FEATURES.get(feature.name) if feature.source is InputSource.PLATFORM else None
    zh, en = (known.zh, known.en) if known is not None else (feature.zh, feature.en)
    return say(zh, en) or feature.name


def _group(manifest: Manifest, group: str, say: Say) -> str:
    words = manifest.words.get(group)
    if words is None and all(f.source is InputSource.PLATFORM for f in manifest.features):
        words = reasons.title(group)
    return say(words.zh, words.en) or group if words is not None else group


def _drawn(
    scorer: Scorer,
    evidence: Evidence,
    comparisons: Sequence[Comparison],
    others: dict[str, tuple[Slice, ...]],
    say: Say,
) -> dict[str, "Markup"]:
    """Every plot that there is evidence for, by name."""
    from markupsafe import Markup  # noqa: PLC0415 - of training alone

    found: dict[str, str] = {}
    found |= _of_ranking(evidence, say)
    found |= _of_calibration(evidence, say)
    found |= _of_models(evidence, say)
    found |= _of_inputs(scorer, evidence, say)
    for name, slices in (("coverage", evidence.coverage), *others.items()):
        found |= _auc_forest(f"auc:{name}", slices, evidence.metrics.get("auc"), say)
    for comparison in comparisons:
        found |= _of_fairness(comparison, say)
    return {name: Markup(svg) for name, svg in found.items()}  # noqa: S704 - drawn here, texts escaped


def _of_ranking(evidence: Evidence, say: Say) -> dict[str, str]:
    found = {}
    bad, good = say("违约", "defaults"), say("正常", "good ones")
    caught = say("识别的违约占比", "defaults caught")
    if evidence.roc:
        found["roc"] = plots.roc(
            evidence.roc,
            (say("误报占比", "false alarms"), caught),
            say("ROC 曲线及 95% 区间", "ROC curve with its 95 % interval"),
            say("本模型", "this model"),
        )
    if evidence.scores:
        x = say("评分", "score")
        found["scores"] = plots.scores(
            evidence.scores,
            (good, bad),
            (x, say("占比", "share")),
            say("按结果的评分分布", "scores by outcome"),
        )
        found["ks"] = plots.ks(
            evidence.scores,
            (good, bad),
            (x, say("累计占比", "share up to it")),
            say("累计分布与最大距离 KS", "distributions summed up, and KS"),
            evidence.metrics.get("ks"),
        )
    if evidence.gains:
        found["gains"] = plots.gains(
            evidence.gains,
            (say("按评分由差到好的占比", "rows, the worst first"), caught),
            say("增益曲线", "gains"),
        )
    if evidence.folds and "auc" in evidence.folds[0].figures:
        found["folds"] = plots.folds(
            evidence.folds,
            "auc",
            (say("重复", "repeat"), "AUC"),
            say("各折的 AUC", "AUC of every fold"),
        )
    return found


def _of_calibration(evidence: Evidence, say: Say) -> dict[str, str]:
    found = {}
    said, came = say("预测违约概率", "PD"), say("实际违约率", "observed")
    if evidence.reliability:
        found["reliability"] = plots.reliability(
            evidence.reliability, (said, came), say("预测与实际", "what was said and what came")
        )
    if evidence.periods:
        period = say("时期", "period")
        found["periods"] = plots.calibration_by(
            evidence.periods, (said, came), (period, ""), say("各期校准", "calibration by period")
        )
        if any(each.auc is not None for each in evidence.periods):
            found["auc_periods"] = plots.auc_by(
                evidence.periods,
                evidence.metrics.get("auc"),
                (period, "AUC"),
                say("各期 AUC", "AUC by period"),
            )
    return found


def _of_models(evidence: Evidence, say: Say) -> dict[str, str]:
    found = {}
    own = evidence.metrics.get("auc")
    if own is not None and evidence.baselines:
        rows = [Row(say("本模型", "this model"), own, f"{own.value:.3f}", strong=True)]
        rows += [
            Row(each.name, each.figures["auc"], f"{each.figures['auc'].value:.3f}")
            for each in evidence.baselines
            if "auc" in each.figures
        ]
        found["baselines"] = plots.forest(
            rows, say("同一折上各模型的 AUC", "AUC under the same folds"), at=own.value
        )
    tests = [test for test in _first(evidence.paired) if test.metric == "auc"]
    if tests:
        found["paired"] = plots.forest(
            [
                Row(
                    test.against,
                    Figure(test.difference, test.low, test.high),
                    signed(test.difference),
                )
                for test in tests
            ],
            say("与基准模型的 AUC 之差", "difference of AUC from the baselines"),
            at=0.0,
        )
    return found


def _of_inputs(scorer: Scorer, evidence: Evidence, say: Say) -> dict[str, str]:
    manifest = scorer.manifest
    found = {}
    if evidence.group_importance:
        ranked = sorted(evidence.group_importance.items(), key=lambda each: (-each[1], each[0]))
        found["importance"] = plots.bars(
            [(_group(manifest, group, say), value) for group, value in ranked],
            say("各组平均绝对分值", "mean absolute points by group"),
            lambda value: f"{value:.1f}",
        )
    by_name = {feature.name: feature for feature in manifest.features}
    kept = sorted(
        (each for each in evidence.axes if len(each.points) > 1 and each.feature in by_name),
        key=lambda each: (not each.direction, -evidence.importance.get(each.feature, 0.0)),
    )
    constrained = [feature for feature in manifest.features if feature.monotone]
    for each in kept[:AXES] or sketch(scorer, constrained[:AXES]):
        name = _titled(by_name[each.feature], say)
        found[f"axis:{each.feature}"] = plots.axis(
            each, name, say(f"{name}与违约对数几率", f"log-odds of default along {name}")
        )
    bins = manifest.bins.get(SCORE)
    if bins is not None and bins.shares:
        found["bins"] = plots.shares(
            bins,
            (say("缺失", "missing"), say("未授权", "withheld")),
            (say("评分", "score"), say("占比", "share")),
            say("冻结的评分分布，用于 PSI", "frozen distribution of the score, for the PSI"),
        )
    return found


def _auc_forest(
    name: str, slices: Sequence[Slice], whole: Figure | None, say: Say
) -> dict[str, str]:
    rows = [
        Row(each.value, each.auc, f"{each.auc.value:.3f}")
        for each in slices
        if each.auc is not None
    ]
    if not rows:
        return {}
    label = say("各部分的 AUC", "AUC by part")
    return {name: plots.forest(rows, label, at=whole.value if whole is not None else None)}


def _of_fairness(comparison: Comparison, say: Say) -> dict[str, str]:
    found = {}
    ratios = [
        Row(group.slice.value, group.ratio, f"{group.ratio.value:.2f}", strong=group.below)
        for group in comparison.groups
        if group.ratio is not None
    ]
    if ratios:
        found[f"ratio:{comparison.column}"] = plots.forest(
            ratios,
            say("通过率与最高组之比", "approval rate, ratio to the best group"),
            at=1.0,
            warn=FOUR_FIFTHS,
        )
    offs = [
        Row(group.slice.value, group.calibration, f"{group.calibration.value:.2f}")
        for group in comparison.groups
        if group.calibration is not None
    ]
    if offs:
        found[f"calibration:{comparison.column}"] = plots.forest(
            offs, say("实际违约率与预测之比", "observed default rate over PD"), at=1.0
        )
    return found
