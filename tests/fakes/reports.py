"""A release and a decision to write reports of: a small technology firm, everything made up."""

import datetime as dt
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.scoring.decisions.papers import Entry, Papers, Receipt
from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.reports.domain import Basis, GradeBand, Scale

NAMES: Final = {
    "par_01K70BANK0001": "示例科技银行",
    "par_market": "市场监督管理局",
    "par_tax": "税务局",
    "par_hr": "人力资源和社会保障局",
    "par_housing": "住房公积金管理中心",
    "par_grid": "供电公司",
    "par_bank1": "第一城市银行",
    "par_bank2": "第二城市银行",
    "par_ip": "知识产权局",
    "par_science": "科学技术委员会",
    "par_court": "人民法院",
    "par_registry": "动产融资登记系统",
}
AS_OF: Final = dt.datetime(2026, 10, 14, 3, 0, tzinfo=dt.UTC)
LAST: Final = (2026, 9)
FEN: Final = 100
SCALE: Final = Scale(
    outcome="90 days past due within 12 months",
    grades=tuple(
        GradeBand(grade, pd_from, None if pd_from == 0.64 else score_from)
        for grade, pd_from, score_from in (
            ("AAA", 0.0, 765.7),
            ("AA", 0.005, 715.3),
            ("A", 0.01, 664.6),
            ("BBB", 0.02, 613.1),
            ("BB", 0.04, 560.1),
            ("B", 0.08, 503.5),
            ("CCC", 0.16, 438.3),
            ("CC", 0.32, 342.4),
            ("C", 0.64, 342.4),
        )
    ),
    base=600.0,
    odds=20.0,
    pdo=50.0,
)


def months(count: int, last: tuple[int, int] = LAST) -> tuple[int, ...]:
    """The last months, as yyyymm."""
    end = last[0] * 12 + last[1] - 1
    return tuple(at // 12 * 100 + at % 12 + 1 for at in range(end - count + 1, end + 1))


def series(
    record_type: str,
    provider_id: str,
    count: int,
    attributes: Mapping[str, str] | None = None,
    **columns: Callable[[int], float],
) -> SubjectSeries:
    """A provider's series over the last months; each column is a function of the month's place."""
    return SubjectSeries(
        record_type,
        provider_id,
        months(count),
        {name: [round(value(at)) for at in range(count)] for name, value in columns.items()},
        attributes or {},
    )


def at(record_type: str, provider_id: str, when: Sequence[int], **columns: int) -> SubjectSeries:
    """A provider's series with the same values in each of some months."""
    values = {name: [value] * len(when) for name, value in columns.items()}
    return SubjectSeries(record_type, provider_id, tuple(when), values)


def _sales(at: int) -> float:
    return (820_000 + 9_500 * at + 150_000 * math.sin(at * 0.9) + 90_000 * math.sin(at * 2.3)) * FEN


def summary() -> FirmSummary:
    """Most of what a firm can have; bank flows withheld, statements not supplied."""
    day = (dt.date(2027, 11, 30) - dt.date(1970, 1, 1)).days
    past = (dt.date(2026, 3, 31) - dt.date(1970, 1, 1)).days
    founded = (dt.date(2017, 5, 18) - dt.date(1970, 1, 1)).days
    found = (
        SubjectSeries(
            "registration",
            "par_market",
            (201705,),
            {"founded": [founded], "capital": [5_000_000 * FEN]},
            {"firm_kind": "limited", "industry": "I6513", "district": "110108", "status": "active",
             "name": "模拟海淀信息000013号有限公司"},
        ),
        at("shareholding", "par_market", (201705,), holdings=2, exits=0, largest_share=620_000,
           state_share=0, subscribed=5_000_000 * FEN, paid_in=3_200_000 * FEN),
        at("shareholding", "par_market2", (202203,), holdings=1, exits=1, largest_share=180_000,
           state_share=0, subscribed=900_000 * FEN, paid_in=900_000 * FEN),
        at("officer_change", "par_market", (202511,), changes=1, legal_representative=0, finance=1),
        series("vat_invoice", "par_tax", 36,
               output_net=_sales,
               input_net=lambda n: 0.62 * _sales(n + 1) + 60_000 * FEN * math.cos(n),
               output_counterparties=lambda n: 18 + n // 3,
               output_top1=lambda n: 310_000 - 2_000 * n,
               output_top5=lambda n: 690_000 - 2_500 * n,
               output_churn=lambda n: 84_000 + 0 * n,
               input_counterparties=lambda n: 12 + n // 6,
               input_top1=lambda n: 240_000 + 0 * n),
        series("tax_filing", "par_tax", 36,
               declared_tax=lambda n: 0.055 * _sales(n),
               paid=lambda n: 0.055 * _sales(n) * (0.82 if n == 20 else 1),
               arrears=lambda n: 31_000 * FEN if n == 20 else 0,
               late=lambda n: 1 if n == 20 else 0,
               filings=lambda n: 1 + 0 * n,
               grade=lambda n: 4 + 0 * n),
        series("social_insurance", "par_hr", 36,
               headcount=lambda n: 31 + n // 4 - (2 if n in (14, 15) else 0),
               missed=lambda n: 0 * n),
        series("housing_fund", "par_housing", 24, headcount=lambda n: 30 + n // 5),
        series("utility_bill", "par_grid", 30,
               electricity=lambda n: 14_200 + 90 * n + 2_600 * math.cos(n * math.pi / 6),
               days_overdue=lambda n: 4 if n == 18 else 0),
        series("credit_facility", "par_bank1", 30,
               facilities=lambda n: 2 + 0 * n,
               limit=lambda n: (4_000_000 if n < 12 else 6_000_000) * FEN,
               balance=lambda n: (1_400_000 + 95_000 * n) * FEN,
               days_past_due=lambda n: 6 if n == 11 else 0,
               five_class=lambda n: 1 + 0 * n),
        series("credit_facility", "par_bank2", 10,
               facilities=lambda n: 1 + 0 * n,
               limit=lambda n: 1_000_000 * FEN + 0 * n,
               balance=lambda n: (900_000 - 60_000 * n) * FEN,
               days_past_due=lambda n: 0 * n,
               five_class=lambda n: 1 + 0 * n),
        at("ip_right", "par_ip", (201906, 202103, 202408), class1=1, class2=4, pledged=0),
        SubjectSeries("tech_status", "par_science", (202312, 202411), {
            "high_tech_valid_to": [0, day], "tech_sme_valid_to": [past, past],
            "specialised_valid_to": [0, 0], "rd_spend": [1_900_000 * FEN, 2_450_000 * FEN],
            "rd_staff": [14, 17]}),
        at("grant", "par_science", (202505, 202606), grants=1, amount=300_000 * FEN),
        at("technology_contract", "par_science", (202409, 202512), sold_amount=680_000 * FEN,
           bought_amount=0),
        at("court_case", "par_court", (202602,), defendant=1, defendant_amount=186_500 * FEN,
           plaintiff=0),
        at("pledge", "par_registry", (202507,), open=1, open_amount=800_000 * FEN),
        at("enquiry", "platform", (202603, 202608), credit_applications=1),
    )  # fmt: skip  # a table, line by line
    coverage = {each.record_type: Coverage.SUPPLIED for each in found}
    coverage |= dict.fromkeys(
        ("enforcement", "penalty", "abnormal_operation"), Coverage.NONE_EXISTS
    )
    coverage |= dict.fromkeys(("bank_flow", "receivable"), Coverage.NOT_CONSENTED)
    coverage |= dict.fromkeys(
        ("annual_report", "financial_statement", "equity_financing", "guarantee"),
        Coverage.NOT_SUPPLIED,
    )
    return FirmSummary(
        found,
        coverage,
        (dt.date(2023, 10, 1), dt.date(2026, 10, 14)),
        simulated=True,
    )


def papers(found: FirmSummary) -> Papers:
    """Of the release of a summary."""
    entries = [
        Entry(
            each.provider_id,
            each.record_type,
            "PARTIAL" if each.record_type == "court_case" else "COMPLETE",
        )
        for each in found.series
    ]
    entries += [
        Entry("", name, "NOT_CONSENTED" if state is Coverage.NOT_CONSENTED else "ABSENT")
        for name, state in found.coverage.items()
        if state is not Coverage.SUPPLIED
    ]
    content = b'{"access_id":"acc_01K7GZ4M6Q9T","subject_id":"sub_01K7A2V0XWQ8"}'
    salt = bytes(range(16))
    leaf = hashlib.sha256(b"\x00" + salt + content).digest()
    return Papers(Receipt(leaf, salt, content, "eyJh.eyJs.c2ln"), tuple(entries))


def _reason(code: str, points: float, zh: str, en: str, improve: tuple[str, str]) -> dict[str, Any]:
    return {
        "code": code,
        "points": points,
        "text_zh": zh,
        "text_en": en,
        "direction": f"REASON_DIRECTION_{'RAISES' if points > 0 else 'LOWERS'}_SCORE",
        "improve_zh": improve[0],
        "improve_en": improve[1],
    }


def decision(found: FirmSummary) -> dict[str, Any]:
    """A decision on a summary, as it is answered."""
    groups = (
        ("sales_scale", 41, "销售规模", "sales volume"),
        ("sales_trend", 22, "销售趋势", "sales trend"),
        ("customers", 14, "客户", "customers"),
        ("technology", 17, "科技属性", "technology"),
        ("people", 9, "用工", "staff"),
        ("tax", -6, "纳税", "tax"),
        ("credit", -19, "信贷", "loans"),
        ("legal", -11, "涉诉", "court cases"),
        ("basics", 4, "企业基本情况", "the firm's basics"),
    )
    return {
        "decision_id": "dec_01K7GZ4M7C2R",
        "subject_id": "sub_01K7A2V0XWQ8",
        "decided_at": "2026-10-14T03:00:01.250Z",
        "access_id": "acc_01K7GZ4M6Q9T",
        "consent_id": "con_01K7GXJ3H5NB",
        "purpose": "credit_application",
        "as_of": "2026-10-14T03:00:00Z",
        "model": {"version": "demo-2026a", "model_class": "MODEL_CLASS_SIMULATED"},
        "pd": 0.0142,
        "score": 690,
        "grade": "A",
        "interval": {
            "low": 0.0085,
            "high": 0.0236,
            "method": "inductive Venn-Abers over out-of-fold predictions",
        },
        "base": 619,
        "points": [
            {"group": name, "points": points, "title_zh": zh, "title_en": en}
            for name, points, zh, en in groups
        ],
        "reasons": [
            _reason(
                "SALES_SCALE_UP", 38.4,
                "销售规模较大：近12个月销售额 1,285.09 万元",
                "Sales are large (sales in 12 months 12,850,909 CNY)", ("", ""),
            ),
            _reason(
                "SALES_TREND_UP", 21.7, "销售增长：近12个月同比增长 8.0%",
                "Sales grow (growth, 12 months on 12: 8.0 %)", ("", ""),
            ),
            _reason(
                "CREDIT_DOWN", -18.9, "信贷负担较重：授信使用率 64.5%, 近24个月最长逾期 6 天",
                "Debt is heavy (use of credit limits 64.5 %, worst days past due 6)",
                ("按期还款, 并降低授信使用率", "Pay on time and use less of the limits"),
            ),
            _reason(
                "TECHNOLOGY_UP", 16.2, "科技属性较强：I类知识产权 3 件, 有效科技资质 1 项",
                "Technology is strong (class I rights 3, valid titles 1)", ("", ""),
            ),
            _reason(
                "LEGAL_DOWN", -10.6, "被诉情况较多：近24个月被诉 1 件",
                "Claims in court weigh on the firm (cases as defendant 1)",
                ("了结未决诉讼", "Settle open cases"),
            ),
            _reason(
                "TAX_DOWN", -5.8, "纳税记录有瑕疵：近24个月逾期申报 1 次",
                "The tax record has flaws (late filings 1)",
                ("按期申报并结清欠税", "File on time and clear arrears"),
            ),
        ],
        "coverage": [
            {"record_type": name, "state": f"COVERAGE_STATE_{state}"}
            for name, state in found.coverage.items()
        ],
        "notices": [
            {
                "code": "MODEL_SIMULATED",
                "text_zh": "本模型以模拟数据训练, 仅供试用, 不得用于授信决定。",
                "text_en": "Trained on simulated data: for trying out only, not for credit "
                "decisions.",
            },
            {
                "code": "DISPUTED_DATA",
                "text_zh": "本次评分所用的部分记录存在异议; 请结合企业的说明人工判断。",
                "text_en": "Some of the records in this score are in dispute: read the firm's "
                "statement and judge by hand.",
            },
        ],
        "disputes": [
            {
                "dispute_id": "dis_01K7F0AA81",
                "record_type": "court_case",
                "provider_id": "par_court",
                "month": 202602,
                "field": "amount",
                "state": "DISPUTE_STATE_OPEN",
                "statement": "该案已于2026年9月和解, 标的金额应为 8 万元。",
            }
        ],
        "linked": [
            {
                "relation": "SUBJECT_RELATION_GUARANTOR",
                "subject_id": "sub_01K6ZZ1Q2W3E",
                "access_id": "acc_01K7GZ4M6QBB",
                "consent_id": "con_01K7GY8888AA",
                "pd": 0.0061,
                "coverage": [],
                "disputes": [],
            }
        ],
    }  # fmt: skip  # a table, line by line


def basis(**changes: Any) -> Basis:
    """What a report is made from; some of it changed."""
    found = changes.pop("summary", None) or summary()
    named: dict[str, Any] = {
        "decision": decision(found),
        "bank_id": "par_01K70BANK0001",
        "names": NAMES,
        "officer": "王敏",
        "file_reference": "A-2026-0417",
        "as_of": AS_OF,
        "summary": found,
        "papers": papers(found),
        "linked_papers": {},
        "scale": SCALE,
    }
    return Basis(**(named | changes))
