from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.forms import Form, FormError

FIRST = datetime.fromisoformat("1900-01-01")
DAYS = st.dates(date(1900, 1, 1), date(2199, 12, 31))
DAY_FORMS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%Y%m%d",
    "%Y年%m月%d日",
    "第%Y年 %d/%m",
    "%d%m%Y%%",
)


@given(DAYS, st.sampled_from(DAY_FORMS))
def test_a_day_is_read_as_it_was_written(day: date, form: str) -> None:
    assert Form(form, "ymd").day(day.strftime(form)) == day


@given(DAYS)
def test_a_day_may_have_one_digit_where_that_is_clear(day: date) -> None:
    text = f"{day.year}年{day.month}月{day.day}日"
    assert Form("%Y年%m月%d日", "ymd").day(text) == day


@given(st.text(alphabet="0123456789", min_size=1, max_size=10))
def test_digits_in_a_row_are_never_guessed_apart(text: str) -> None:
    try:
        day = Form("%Y%m%d", "ymd").day(text)
    except ValueError:
        return
    assert f"{day:%Y%m%d}" == text


@given(st.datetimes(FIRST, FIRST + timedelta(days=100_000)))
def test_times(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    form = Form("%Y/%m/%d %H:%M:%S", "ymdHMS")
    assert form.moment(moment.strftime("%Y/%m/%d %H:%M:%S")) == moment
    assert form.moment(f"{moment.year}/{moment.month}/{moment.day} {moment:%H:%M:%S}") == moment


@given(st.integers(1900, 2199), st.integers(1, 12))
def test_months(year: int, month: int) -> None:
    first, last = Form("%Y%m", "ymq").period(f"{year}{month:02}")
    assert (first, last.month, (last + timedelta(days=1)).day) == (date(year, month, 1), month, 1)
    assert Form("%Y年%m月", "ymq").period(f"{year}年{month}月") == (first, last)


def test_quarters_and_years() -> None:
    assert Form("%YQ%q", "ymq").period("2024Q3") == (date(2024, 7, 1), date(2024, 9, 30))
    assert Form("%Y年度", "ymq").period("2024年度") == (date(2024, 1, 1), date(2024, 12, 31))


@pytest.mark.parametrize(
    ("form", "wanted", "text"),
    [
        ("%Y-%m-%d", "ymd", "2024-02-30"),
        ("%Y-%m-%d", "ymd", "2024-05-31 "),
        ("%Y-%m-%d", "ymd", "2024-05-31T00:00"),
        ("%Y-%m-%d", "ymd", "24-05-31"),
        ("%Y-%m-%d", "ymd", "２０２４-05-31"),
        ("%Y-%m-%d", "ymd", "0000-05-31"),
        ("%Y.%m.%d", "ymd", "2024x05x31"),
        ("%Y%m%d", "ymd", "2024111"),
        ("%Y%m", "ymq", "202413"),
        ("%Y%m", "ymq", "20245"),
        ("%YQ%q", "ymq", "2024Q5"),
        ("%Y", "ymq", "0000"),
        ("%Y-%m-%d %H:%M", "ymdHMS", "2024-05-31 24:00"),
    ],
)
def test_what_has_another_form_is_no_day(form: str, wanted: str, text: str) -> None:
    read = Form(form, wanted)
    with pytest.raises(ValueError, match=r"not of the form|no such") as caught:
        read.period(text) if wanted == "ymq" else read.moment(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("%Y-%m", "ymd"),
        ("%m-%d", "ymd"),
        ("%Y-%m-%d-%Y", "ymd"),
        ("%y-%m-%d", "ymd"),
        ("%Y-%m-%d %H", "ymd"),
        ("%m", "ymq"),
        ("%Y%m%q", "ymq"),
        ("%Y-%m-%d", "ymq"),
        ("%Y-%m-%d %p", "ymdHMS"),
        ("%H:%M", "ymdHMS"),
        ("day", "ymd"),
        ("", "ymd"),
        ("%", "ymd"),
    ],
)
def test_forms_that_cannot_be_read_in_one_way(form: str, wanted: Any) -> None:
    with pytest.raises(FormError, match="is no form of"):
        Form(form, wanted)
