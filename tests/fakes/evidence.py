"""Evidence of a training in which everything was measured, of firms made up by a formula."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from services.scoring.models.domain import Manifest
from services.scoring.training.domain import Finding
from services.scoring.training.evidence import (
    Approval,
    Axis,
    Baseline,
    Evidence,
    Figure,
    Fold,
    Gain,
    GradeRow,
    OutcomeStatement,
    PairedTest,
    Protocol,
    ReliabilityPoint,
    RocPoint,
    Sampling,
    ScoreBin,
    Slice,
    Trial,
)

ROWS: Final = 4800
EVENTS: Final = 384


def wilson(share: float, rows: int) -> Figure:
    """A share with its interval."""
    z = 1.96
    middle = (share + z * z / 2 / rows) / (1 + z * z / rows)
    width = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / 4 / rows**2)
    return Figure(share, max(0.0, middle - width), min(1.0, middle + width))


def a_slice(value: str, rows: int, pd: float, observed: float, auc: float) -> Slice:
    """Rows of one kind."""
    events = round(rows * observed)
    approved = max(0.02, min(0.98, 0.95 - 2.4 * pd))
    return Slice(
        value=value,
        rows=rows,
        events=events,
        pd=pd,
        observed=wilson(events / rows, rows),
        score=600 - 72 * math.log(pd / (1 - pd) * 20),
        approved=wilson(approved, rows),
        auc=Figure(auc, auc - 1.2 / math.sqrt(rows), min(1.0, auc + 1.2 / math.sqrt(rows))),
    )


def whole(manifest: Manifest) -> Evidence:
    """Evidence for a model, with every part."""
    x = np.linspace(0, 1, 41)
    roc = tuple(
        RocPoint(
            float(at),
            float(at**0.16),
            float(max(0, at**0.16 - 0.05 * math.sin(math.pi * at))),
            float(min(1, at**0.16 + 0.05 * math.sin(math.pi * at))),
        )
        for at in x
    )
    edges = np.linspace(380, 780, 21)
    middles = (edges[1:] + edges[:-1]) / 2
    goods = _shares(np.exp(-(((middles - 640) / 60) ** 2) / 2))
    bads = _shares(np.exp(-(((middles - 520) / 62) ** 2) / 2))
    groups = list(manifest.groups)
    return Evidence(
        outcome=OutcomeStatement(
            "90 days past due or written off within 12 months 逾期九十天或核销",
            "24 months before the application 申请前二十四个月",
            "12 months after it 申请后十二个月",
            "61 firms of 30 to 89 days: left out",
            "412 applicants: inferred by their bureau outcome elsewhere",
        ),
        sampling=Sampling(
            ROWS,
            EVENTS,
            groups=4310,
            weighted=True,
            prior=0.031,
            left_out={"label is undecided": 61, "as_of after the outcome": 3},
            words="All applications of 2021-2023; goods sampled one in three.",
        ),
        protocol=Protocol(
            "grouped",
            5,
            4,
            tuning="40 trials by log-loss within 3 inner folds, 90 s",
            calibration="Platt on margins of inner folds",
            intervals="percentile bootstrap over firms",
            resamples=1000,
            seed=20,
        ),
        metrics={
            "auc": Figure(0.862, 0.846, 0.877, 0.012),
            "gini": Figure(0.724, 0.692, 0.754, 0.024),
            "ks": Figure(0.581, 0.549, 0.612, 0.021),
            "brier": Figure(0.0251, 0.0232, 0.0271, 0.0011),
            "log_loss": Figure(0.1012, 0.0954, 0.1071, 0.0034),
            "calibration_slope": Figure(0.97, 0.90, 1.05, 0.05),
            "calibration_intercept": Figure(-0.03, -0.14, 0.08, 0.06),
            "ece": Figure(0.0061, 0.0040, 0.0093, 0.0012),
        },
        folds=tuple(
            Fold(
                repeat,
                fold,
                ROWS // 5,
                EVENTS // 5,
                {"auc": 0.862 + 0.01 * math.sin(repeat * fold)},
            )
            for repeat in range(1, 5)
            for fold in range(1, 6)
        ),
        roc=roc,
        reliability=tuple(
            ReliabilityPoint(480, round(480 * pd), pd, wilson(round(480 * pd * 1.05) / 480, 480))
            for pd in (0.001, 0.003, 0.006, 0.01, 0.017, 0.028, 0.045, 0.075, 0.13, 0.29)
        ),
        scores=tuple(
            ScoreBin(float(low), float(high), good, bad)
            for low, high, good, bad in zip(edges, edges[1:], goods, bads, strict=False)
        ),
        gains=tuple(
            Gain(
                share / 10,
                1 - (1 - share / 10) ** 4,
                0.2 * 0.6**share,
                0.21 * 0.6**share,
                500 + 28 * share,
            )
            for share in range(1, 11)
        ),
        grades=tuple(
            GradeRow(cut.grade, rows, round(rows * pd), pd, wilson(round(rows * pd) / rows, rows))
            if rows
            else GradeRow(cut.grade, 0, 0)
            for cut, rows, pd in zip(
                manifest.grades,
                (610, 900, 1100, 920, 640, 360, 190, 80, 0),
                (0.002, 0.007, 0.014, 0.029, 0.058, 0.115, 0.22, 0.45, 0.0),
                strict=False,
            )
        ),
        approval=Approval(0.08, "the cut between BB and B, where the bank declines 请见信贷政策"),
        segments={
            "地区 region": (
                a_slice("北京市", 2100, 0.028, 0.027, 0.868),
                a_slice("天津市", 900, 0.035, 0.034, 0.851),
                a_slice("河北省", 1400, 0.041, 0.045, 0.847),
                a_slice("山西省", 360, 0.16, 0.14, 0.82),
                a_slice("其他", 22, 0.05, 0.05, 0.8),
                a_slice("境外", 18, 0.05, 0.06, 0.8),
            ),
            "industry": (
                a_slice("C 制造业 Manufacturing", 1700, 0.037, 0.036, 0.861),
                a_slice("I 信息软件 Information", 1500, 0.022, 0.024, 0.858),
                a_slice("F 批发零售 Wholesale & retail", 1600, 0.038, 0.036, 0.85),
            ),
            "size": (
                a_slice("小型 small", 1900, 0.024, 0.022, 0.86),
                a_slice("微型 micro", 2900, 0.038, 0.039, 0.855),
            ),
            "channel": (
                a_slice("branch", 3000, 0.03, 0.031, 0.861),
                a_slice("online", 1800, 0.036, 0.034, 0.864),
            ),
        },
        periods=tuple(
            a_slice(
                f"20{year}Q{quarter}", 400, 0.03 + 0.001 * at, 0.03 + 0.0015 * at, 0.87 - 0.003 * at
            )
            for at, (year, quarter) in enumerate((y, q) for y in (21, 22, 23) for q in (1, 2, 3, 4))
        ),
        coverage=(
            a_slice("invoices + tax + people", 2600, 0.028, 0.027, 0.88),
            a_slice("invoices + tax", 1500, 0.034, 0.035, 0.85),
            a_slice("invoices", 700, 0.048, 0.05, 0.80),
        ),
        baselines=(
            Baseline(
                "LightGBM, plain",
                {
                    "auc": Figure(0.859, 0.842, 0.875),
                    "ks": Figure(0.573, 0.54, 0.606),
                    "brier": Figure(0.0254, 0.0235, 0.0274),
                    "log_loss": Figure(0.104, 0.098, 0.11),
                    "calibration_slope": Figure(0.78, 0.71, 0.86),
                },
                words="its defaults, early stopping within the training part | no constraints",
            ),
            Baseline(
                "WoE-logistic (optbinning)",
                {
                    "auc": Figure(0.838, 0.82, 0.856),
                    "ks": Figure(0.541, 0.508, 0.573),
                    "brier": Figure(0.0262, 0.0243, 0.0283),
                    "log_loss": Figure(0.108, 0.102, 0.114),
                    "calibration_slope": Figure(1.02, 0.94, 1.11),
                },
            ),
        ),
        paired=(
            PairedTest("LightGBM, plain", "auc", 0.003, -0.002, 0.008, 0.21, "DeLong"),
            PairedTest("WoE-logistic (optbinning)", "auc", 0.024, 0.015, 0.033, 0.0001, "DeLong"),
        ),
        populations=(
            Baseline(
                "accepted applicants",
                {"auc": Figure(0.862, 0.846, 0.877), "brier": Figure(0.0251)},
                4800,
            ),
            Baseline(
                "all applicants",
                {"auc": Figure(0.884, 0.871, 0.897), "brier": Figure(0.0342)},
                5212,
            ),
        ),
        findings=(
            Finding(
                "recovery_rate",
                "leak_auc",
                "alone it tells the outcome (AUC 0.993): name it if it was known then",
                True,
            ),
            Finding("chg_off_date", "leak_date", "212 dates are after the outcome", True),
            Finding("branch_id", "id_like", "4,103 values in 4,800 rows", True),
            Finding("fax", "constant", "one value | in all rows", False),
        ),
        importance={f.name: 1 + 40 / (2 + at) for at, f in enumerate(manifest.features)},
        group_importance={group: 42 / (1.4 + at) for at, group in enumerate(groups)},
        axes=tuple(
            Axis(
                f.name,
                f.monotone,
                tuple(float(v) for v in np.linspace(0, 1, 12)),
                tuple(
                    float(-3 + f.monotone * 1.4 * math.tanh(2.5 * v)) for v in np.linspace(0, 1, 12)
                ),
                moves=11 * 400 if f.monotone else 0,
            )
            for f in manifest.features
            if f.monotone
        ),
        sweep_rows=400,
        trials=tuple(
            Trial(
                at,
                {"depth": 2 + at % 3, "learning_rate": 0.05 * (1 + at % 2)},
                0.101 + 0.001 * at,
                chosen=at == 1,
            )
            for at in range(1, 5)
        ),
        spec='label = "default"\npositive = "yes"\n\n[monotone]\nsales = -1\n',
        environment={
            "python": "3.11.2",
            "lightgbm": "4.7.0",
            "platform": "Linux x86_64",
            "operator": "王 Wang",
            "command": "puhui model train loans.csv --spec loans.toml",
        },
    )


def _shares(
    weights: "Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> list[float]:
    values = np.asarray(weights)
    return [float(value) for value in values / values.sum()]
