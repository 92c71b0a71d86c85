"""The headings of a model's card and report, and which guidance each of them serves.

What is cited, and how far it was checked: SR 26-2, the revised guidance on model risk management of
the Federal Reserve, FDIC and OCC (OCC Bulletin 2026-13, 17 April 2026, in place of SR 11-7), by the
areas that published summaries of it name; JR/T 0221-2021 by clause, from its table of contents (5
to 7.3 seen; 8 by the order of its four parts); the Credit Scoring Approaches Guidelines of the ICCR
(World Bank, 2019) by chapter (1 to 3 seen) or by theme. The table says where an officer finds what,
not that a model complies: that is the officer's to say.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading.

    Args:
        name: as code calls it, and as links to it go.
        zh: in Chinese.
        en: in English.
        sr: area of SR 26-2.
        jrt: clauses of JR/T 0221-2021.
        iccr: chapters or themes of the ICCR's guidelines.
    """

    name: str
    zh: str
    en: str
    sr: str
    jrt: str
    iccr: str


_DEVELOPMENT: Final = "Model development and use"
_TESTING: Final = "Model development and use: testing"
_VALIDATION: Final = "Model validation and monitoring"
_OUTCOMES: Final = "Model validation and monitoring: outcomes analysis"
_GOVERNANCE: Final = "Governance and controls"

HEADINGS: Final = tuple(
    Heading(*each)
    for each in (
        (
            "purpose",
            "用途",
            "Purpose",
            f"{_DEVELOPMENT}: purpose and design",
            "6.1 目标函数",
            "1 Background: credit scoring use cases",
        ),
        (
            "outcome",
            "结果定义",
            "Outcome",
            f"{_DEVELOPMENT}: purpose and design",
            "6.1 目标函数; 7.2 建模准备",
            "3 Credit scoring methodologies",
        ),
        (
            "data",
            "数据",
            "Data",
            f"{_DEVELOPMENT}: data",
            "6.4 算法可追溯性 (训练数据: 获取时间, 来源, 数据量, 校验码)",
            "2 Data: accuracy, sources, privacy",
        ),
        (
            "sampling",
            "抽样与权重",
            "Sampling and weights",
            f"{_DEVELOPMENT}: data",
            "6.4 算法可追溯性 (采样方法); 7.2 建模准备",
            "2 Data: representativeness",
        ),
        (
            "findings",
            "数据检查",
            "Findings of the inspection",
            f"{_DEVELOPMENT}: data",
            "7.2 建模准备",
            "2 Data: quality",
        ),
        (
            "protocol",
            "评估方案",
            "Protocol of the evaluation",
            _TESTING,
            "5.2 评价方法; 7.3 建模过程",
            "3 Credit scoring methodologies: validation",
        ),
        (
            "performance",
            "区分能力",
            "Performance",
            f"{_TESTING}; {_OUTCOMES}",
            "8 精准性评价",
            "3 Credit scoring methodologies: performance",
        ),
        (
            "calibration",
            "校准",
            "Calibration",
            _OUTCOMES,
            "8 精准性评价",
            "3 Credit scoring methodologies: performance",
        ),
        (
            "coverage",
            "数据覆盖与缺失",
            "Coverage and missing data",
            f"{_TESTING}: inputs and limitations",
            "7.2 建模准备",
            "2 Data: alternative data and thin files",
        ),
        (
            "stability",
            "时期与分群稳定性",
            "Stability over periods and segments",
            f"{_VALIDATION}: ongoing monitoring",
            "6.5 算法内控 (监测); 8 精准性评价",
            "3 Credit scoring methodologies: stability",
        ),
        (
            "method",
            "方法与单调约束",
            "Method and constraints",
            f"{_DEVELOPMENT}: conceptual soundness",
            "6.1 目标函数; 7.3 建模过程",
            "3 Understanding and interpreting credit scoring models",
        ),
        (
            "reasons",
            "理由与解释",
            "Reasons",
            f"{_VALIDATION}: conceptual soundness, explainability",
            "7 可解释性评价",
            "3 Understanding and interpreting; interpretability, the right to an explanation",
        ),
        (
            "uncertainty",
            "不确定性",
            "Uncertainty",
            f"{_DEVELOPMENT}: uncertainty and limitations",
            "8 精准性评价",
            "3 Understanding and interpreting credit scoring models",
        ),
        (
            "fairness",
            "公平性",
            "Fairness by region, industry and size",
            f"{_VALIDATION}: outcomes analysis by segment",
            "6.1 目标函数 (不应存在偏见歧视)",
            "Fairness and discrimination",
        ),
        (
            "limits",
            "使用限制",
            "Limits of use",
            f"{_DEVELOPMENT}: uncertainty and limitations",
            "5.1 评价框架",
            "Human oversight of automated decisions",
        ),
        (
            "environment",
            "环境与可追溯",
            "Environment and traceability",
            f"{_GOVERNANCE}: documentation; vendor and third-party products",
            "6.3 算法依赖库; 6.4 算法可追溯性 (建模脚本, 环境, 操作者)",
            "Model governance and accountability",
        ),
        (
            "lifecycle",
            "部署、复核、监测与退出",
            "Deployment, review, monitoring, exit",
            f"{_GOVERNANCE}: roles, inventory; {_VALIDATION}: ongoing monitoring",
            "6.4 算法可追溯性 (部署); 6.5 算法内控 (评审, 监测, 退出)",
            "Model governance and accountability",
        ),
        (
            "mapping",
            "监管要求对照",
            "Where guidance is served",
            f"{_GOVERNANCE}: documentation",
            "5.2 评价方法 (查阅材料)",
            "Policy recommendations",
        ),
    )
)

BY_NAME: Final = {heading.name: heading for heading in HEADINGS}
