import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from services.scoring.training import columns


def texts(*values: str) -> pa.Array:
    return pa.array(values, pa.large_string())


def day(number: float) -> str:
    return "" if np.isnan(number) else str(np.datetime64(int(number), "D"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1), ("-2.5e3", -2500), (".5", 0.5), ("+7", 7), ("$1,234.00", 1234),
        ("($60,000.00)", -60000), ("-$5", -5), ("$-5", -5), ("12%", 12), ("12.5％", 12.5),
        ("1.2万", 12000), ("3亿元", 3e8), ("￥100元", 100), ("CNY 7", 7), ("1,5", 1.5),
        ("0,123", 0.123), ("1.234,56", 1234.56), ("5K", 5000),
    ],
)  # fmt: skip  # a table, line by line
def test_amounts_as_people_write_them(text: str, number: float) -> None:
    assert columns.numbers(texts(text))[0] == pytest.approx(number)


@pytest.mark.parametrize(
    "text", ["abc", "", "1,23,4", "$", "+", "10+ years", "36 months", "1976A", "5 000", "1e999"]
)
def test_what_is_no_number_is_missing(text: str) -> None:
    assert np.isnan(columns.numbers(texts(text))[0])


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2015-12-01", "2015-12-01"), ("2015/1/2", "2015-01-02"), ("20150228", "2015-02-28"),
        ("28-Feb-97", "1997-02-28"), ("1-Mar-62", "1962-03-01"), ("Dec-2015", "2015-12-01"),
        ("Dec-15", "2015-12-01"), ("Mar 3, 2020", "2020-03-03"), ("2/28/1997", "1997-02-28"),
        ("2015年3月1日", "2015-03-01"), ("2015-12", "2015-12-01"), ("2015Q3", "2015-07-01"),
        ("2020-01-01 10:00:00", "2020-01-01"), ("2020-01-01T10:00:00Z", "2020-01-01"),
        ("2015-02-30", ""), ("13/13/2000", ""), ("soon", ""), ("1500-01-01", ""),
    ],
)  # fmt: skip  # a table, line by line
def test_dates_as_people_write_them(text: str, date: str) -> None:
    assert day(columns.days(texts(text), day_first=False)[0]) == date


def test_the_order_of_day_and_month_is_the_files() -> None:
    assert columns.order_of_days([texts("28/2/1997"), texts("1/2/1999")]) is True
    assert columns.order_of_days([texts("2/28/1997")]) is False
    assert columns.order_of_days([texts("1/2/1999")]) is None
    assert day(columns.days(texts("3/4/2020"), day_first=True)[0]) == "2020-04-03"


def test_years_months_and_days_as_numbers() -> None:
    found = columns.periods(np.array([2015.0, 201503.0, 20150328.0, 17.0, 2015.5, np.nan]))
    assert [day(value) for value in found] == ["2015-12-31", "2015-03-01", "2015-03-28", "", "", ""]


def test_marks_of_missing_values_and_blanks_go() -> None:
    raw = pa.chunked_array([[" a", "a", "NA", None, "?", "null"], ["无", "-", "N/A", "", "b "]])
    found = columns.texts(raw)
    assert found.values.to_pylist() == ["a", "b"]
    assert found.codes.tolist() == [0, 0, *[-1] * 8, 1]
    assert found.counts.tolist() == [2, 1]


def test_a_whole_number_is_the_same_text_whatever_its_type() -> None:
    for raw in (pa.array([238210.0, None]), pa.array([238210]), pa.array(["238210.0"])):
        assert columns.texts(raw).values.to_pylist() == ["238210"]
    assert columns.texts(pa.array(["00501"])).values.to_pylist() == ["00501"]
    coded = columns.plain(pa.array(["x", "x"]).dictionary_encode())
    assert columns.texts(coded).codes.tolist() == [0, 0]


def test_typed_columns() -> None:
    assert columns.typed_numbers(pa.array([True, None, False]))[[0, 2]].tolist() == [1, 0]
    assert columns.typed_numbers(pa.array([Decimal("1.50")])).tolist() == [1.5]
    assert np.isnan(columns.typed_numbers(pa.array([float("inf"), None]))).all()
    moments = pa.array([dt.datetime(2020, 1, 1, 5, tzinfo=dt.UTC), None])
    assert day(columns.typed_days(moments)[0]) == "2020-01-01"
    assert not columns.is_readable(pa.list_(pa.int8()))


def test_words_for_yes_and_no_go_in_pairs() -> None:
    assert columns.is_pair(texts("Y", "n"))
    assert columns.is_pair(texts("是"))
    assert not columns.is_pair(texts("Y", "0"))
    assert not columns.is_pair(texts())
    assert columns.flags(texts("是", "No", "maybe"))[:2].tolist() == [1, 0]


def test_some_rows_of_a_column_of_text() -> None:
    whole = columns.texts(pa.array(["a", "b", None, "c", "b"]))
    some = columns.kept(whole, np.array([1, 2, 4]))
    assert some.values.to_pylist() == ["b"]
    assert some.codes.tolist() == [0, -1, 0]
