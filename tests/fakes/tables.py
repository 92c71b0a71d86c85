"""Look-alikes of public tables of loans and of failed companies, with their traps.

Everything is simulated; what is like the originals are names, kinds of cells, shares, and which
columns tell the outcome because they came after it.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

Columns = Mapping[str, Any]
STATES = ("CA", "NY", "TX", "FL", "OH", "PA", "MN", "WA", "UT", "ID")


def sba(rows: int = 3000, seed: int = 1) -> dict[str, list[Any]]:
    """Small-business loans: money with dollar signs, dates as 28-Feb-97, charge-offs that leak."""
    chance = np.random.default_rng(seed)
    approved = np.sort(chance.integers(-1000, 14_000, rows))  # 1967 to 2008
    term = chance.choice(
        [12, 36, 60, 84, 120, 240, 300], rows, p=[0.05, 0.15, 0.2, 0.35, 0.1, 0.1, 0.05]
    )
    staff = np.floor(chance.lognormal(1.5, 1.0, rows))
    amount = np.round(chance.lognormal(11, 1.0, rows), -2)
    state = chance.integers(0, len(STATES), rows)
    naics = chance.choice([0, 236115, 445110, 541511, 722110, 811111], rows)
    new = chance.random(rows) < 0.28
    bank = chance.integers(0, 200, rows)
    log_odds = (
        -1.6 - 0.012 * (term - 84) - 0.25 * np.log1p(staff) + 0.3 * new + 0.1 * (state % 3)
        + 0.4 * (naics == 722110) + 0.5 * (approved > 12_500)
    )  # fmt: skip  # a table, line by line
    bad = chance.random(rows) < 1 / (1 + np.exp(-log_odds))
    disbursed = approved + chance.integers(10, 120, rows)
    charged = approved + chance.integers(300, 1500, rows)
    charged_off = np.where(bad, amount * chance.uniform(0.1, 0.9, rows), 0)
    guaranteed = amount * 1.1 * chance.choice([0.5, 0.75, 0.85], rows)
    status = np.where(bad, "CHGOFF", "P I F").astype(object)
    status[chance.random(rows) < 0.002] = ""
    return {
        "LoanNr_ChkDgt": [str(1_000_014_003 + 10 * at) for at in range(rows)],
        "Name": [f"FIRM {chance.integers(0, 10**9)} INC" for _ in range(rows)],
        "City": [f"CITY {at}" for at in chance.zipf(1.5, rows) % 900],
        "State": [STATES[at] if chance.random() > 0.001 else "" for at in state],
        "Zip": [str(10_000 + int(at) * 7919 % 89_999) for at in chance.integers(0, 30_000, rows)],
        "Bank": [f"BANK {at}" for at in bank],
        "BankState": [STATES[at % len(STATES)] for at in bank],
        "NAICS": [str(code) for code in naics],
        "ApprovalDate": [_sba_day(day) for day in approved],
        "ApprovalFY": [str(_day(day).year + (_day(day).month >= 10)) for day in approved],
        "Term": [str(months) for months in term],
        "NoEmp": [str(int(heads)) for heads in staff],
        "NewExist": np.where(new, "2", "1").tolist(),
        "FranchiseCode": chance.choice(["1", "0", "15100"], rows, p=[0.7, 0.25, 0.05]).tolist(),
        "UrbanRural": chance.choice(["0", "1", "2"], rows).tolist(),
        "RevLineCr": chance.choice(
            ["N", "0", "Y", "T", ""], rows, p=[0.5, 0.25, 0.2, 0.03, 0.02]
        ).tolist(),
        "LowDoc": chance.choice(["N", "Y"], rows, p=[0.9, 0.1]).tolist(),
        "ChgOffDate": [
            _sba_day(day) if is_bad else "" for day, is_bad in zip(charged, bad, strict=True)
        ],
        "DisbursementDate": [_sba_day(day) for day in disbursed],
        "DisbursementGross": [f"${value:,.2f} " for value in amount],
        "BalanceGross": ["$0.00 "] * rows,
        "MIS_Status": status.tolist(),
        "ChgOffPrinGr": [f"${value:,.2f} " for value in charged_off],
        "GrAppv": [f"${value:,.2f} " for value in amount * 1.1],
        "SBA_Appv": [f"${value:,.2f} " for value in guaranteed],
    }


def _day(days: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=int(days))


def _sba_day(days: int) -> str:
    day = _day(days)
    return f"{day.day}-{day:%b-%y}"


def company_panel(firms: int = 300, seed: int = 2) -> dict[str, list[Any]]:
    """Listed companies by year, until some fail: rows of a company are alike."""
    chance = np.random.default_rng(seed)
    found: dict[str, list[Any]] = {"company_name": [], "status_label": [], "year": []}
    found |= {f"X{at}": [] for at in range(1, 19)}
    for firm in range(firms):
        level, first = chance.normal(0, 1, 18), int(chance.integers(1999, 2012))
        fails = bool(chance.random() < 1 / (1 + np.exp(2.5 - 1.2 * level[0] + level[1])))
        for year in range(first, min(first + int(chance.integers(3, 9)), 2019)):
            found["company_name"].append(f"C_{firm}")
            found["status_label"].append("failed" if fails else "alive")
            found["year"].append(year)
            values = np.round((level + chance.normal(0, 0.3, 18)) * 100, 3)
            for at, value in enumerate(values, start=1):
                found[f"X{at}"].append(float(value))
    return found


def ratios(rows: int = 2000, seed: int = 3) -> dict[str, list[Any]]:
    """Companies by ratios with long names, blanks before them, a constant and a twin."""
    chance = np.random.default_rng(seed)
    names = [
        " ROA(C) before interest and depreciation before interest",
        " Operating Gross Margin",
        " Net Value Per Share (B)",
        " Debt ratio %",
        ' Interest-bearing debt, "long" [net]: rate {a}',
        " Cash/Total Assets",
        " Quick Ratio",
        " Total assets to GNP price",
    ]
    values = chance.normal(0, 1, (rows, len(names)))
    log_odds = -3.4 - 1.2 * values[:, 0] + 0.8 * values[:, 3] + 0.4 * values[:, 5]
    bad = chance.random(rows) < 1 / (1 + np.exp(-log_odds))
    columns = {name: values[:, at].tolist() for at, name in enumerate(names)}
    return {
        "Bankrupt?": bad.astype(int).tolist(),
        **columns,
        " Realized Sales Gross Margin": columns[" Operating Gross Margin"],
        " Liability-Assets Flag": (values[:, 3] > 2.8).astype(int).tolist(),
        " Net Income Flag": [1] * rows,
    }


def platform_loans(rows: int = 3000, seed: int = 4) -> dict[str, list[Any]]:
    """Loans of a lending platform, half of them bad, with weights and what was recovered."""
    chance = np.random.default_rng(seed)
    bad = np.arange(rows) % 2 == 0
    chance.shuffle(bad)
    shift = bad * 0.8
    rate = chance.normal(12 + 4 * shift, 3, rows).clip(5, 30)
    income = chance.lognormal(11 - 0.3 * shift, 0.5, rows)
    issued = np.sort(chance.integers(0, 60, rows))
    paid = np.where(bad, chance.uniform(0.1, 0.7, rows), chance.uniform(0.95, 1.05, rows))
    recovered = np.where(bad & (chance.random(rows) < 0.5), income * 0.02, 0)
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return {
        "id": list(range(1, rows + 1)),
        "issue_d": [f"{months[at % 12]}-{2012 + at // 12}" for at in issued],
        "loan_status": np.where(bad, "Charged Off", "Fully Paid").tolist(),
        "term": chance.choice([" 36 months", " 60 months"], rows).tolist(),
        "int_rate": [f"{value:.2f}%" for value in rate],
        "annual_inc": np.round(income, 2).tolist(),
        "emp_length": chance.choice(["< 1 year", "1 year", "10+ years", "n/a"], rows).tolist(),
        "purpose": chance.choice(
            ["small_business", "car", "wedding"], rows, p=[0.6, 0.39, 0.01]
        ).tolist(),
        "dti": np.where(
            chance.random(rows) < 0.1, np.nan, chance.normal(15 + 3 * shift, 5, rows)
        ).tolist(),
        "total_pymnt": (income * paid / 5).tolist(),
        "recoveries": recovered.tolist(),
        "hardship_flag": ["N"] * rows,
        "sample_weight": np.where(bad, 0.4, 1.6).tolist(),
    }


def chinese_firms(rows: int = 1200, seed: int = 5) -> dict[str, list[Any]]:
    """Firms of a Chinese bank: amounts in 万, days as 2019年3月5日, 是 and 否."""
    chance = np.random.default_rng(seed)
    sales = chance.lognormal(6, 1, rows)
    founded = chance.integers(9_000, 17_000, rows)
    applied = chance.integers(17_500, 18_600, rows)
    sued = chance.poisson(0.4, rows)
    log_odds = -1.4 - 0.5 * (np.log(sales) - 6) + 0.7 * sued
    bad = chance.random(rows) < 1 / (1 + np.exp(-log_odds))
    industry = ("软件和信息技术服务业", "专用设备制造业", "医药制造业", "批发业")
    return {
        "企业编号": [f"E{at:05d}" for at in range(rows)],
        "申请日期": [_chinese_day(day) for day in applied],
        "成立日期": [_chinese_day(day) for day in founded],
        "行业": [industry[at] for at in chance.integers(0, 4, rows)],
        "年销售额": [f"{value:.2f}万" if chance.random() > 0.1 else "无" for value in sales],
        "被诉次数": sued.tolist(),
        "高新技术企业": chance.choice(["是", "否"], rows).tolist(),
        "核销日期": [
            _chinese_day(day + 500) if is_bad else ""
            for day, is_bad in zip(applied, bad, strict=True)
        ],
        "是否违约": np.where(bad, "是", "否").tolist(),
    }


def _chinese_day(days: int) -> str:
    day = _day(days)
    return f"{day.year}年{day.month}月{day.day}日"


def write_csv(path: Path, columns: Columns, encoding: str = "utf-8") -> Path:
    """Write columns as CSV."""
    plain = path.with_suffix(".plain")
    pacsv.write_csv(pa.table(dict(columns)), plain)
    path.write_bytes(plain.read_text("utf-8").encode(encoding))
    plain.unlink()
    return path


TABLES: dict[str, tuple[Callable[[], dict[str, list[Any]]], str]] = {
    "sba": (sba, "MIS_Status"),
    "panel": (company_panel, "status_label"),
    "ratios": (ratios, "Bankrupt?"),
    "loans": (platform_loans, "loan_status"),
    "chinese": (chinese_firms, "是否违约"),
}
"""Tables and their labels."""
