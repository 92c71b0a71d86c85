"""Names of firms as they are compared."""

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.reviews import names
from services.datashare.reviews.names import MOST_SIGNS, blocks, number, plain, read

HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=3, max_size=12)
ANY = st.text(max_size=60)


def test_the_examples_hold() -> None:
    assert doctest.testmod(names).failed == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("北京小桔科技有限公司", "北京小桔科技有限责任公司"),
        ("北京小桔（中国）科技有限公司", "北京小桔(中国)科技有限公司"),
        ("北京小桔科技有限公司", " 北京 小桔　科技有限公司 "),
        ("ＡＢＣ科技股份有限公司", "abc科技股份公司"),
        ("Xiaoju Tech Co., Ltd.", "XIAOJU TECH CO LTD"),
        ("小桔·网络有限公司", "小桔网络有限公司"),
        ("小桔投资合伙企业（有限合伙）", "小桔投资合伙企业"),
    ],
)
def test_what_is_one_name_to_the_register(one: str, other: str) -> None:
    assert read(one).key == read(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("北京小桔科技有限公司", "上海小桔科技有限公司"),
        ("北京小桔科技有限公司", "北京小桔科技股份有限公司"),
        ("北京小桔科技有限公司", "北京小桔科技有限公司上海分公司"),
        ("小桔（上海）科技有限公司", "小桔科技有限公司"),
        ("小桔科技有限公司", "小桔科技"),
    ],
)
def test_what_are_two(one: str, other: str) -> None:
    assert read(one).key != read(other).key


@pytest.mark.parametrize(
    ("name", "place", "core"),
    [
        ("北京市海淀区小桔科技有限公司", "海淀区", "小桔科技"),
        ("浙江省杭州市小桔科技有限公司", "杭州", "小桔科技"),
        ("杭州小桔科技有限公司", "杭州", "小桔科技"),
        ("内蒙古自治区小桔乳业有限公司", "内蒙古", "小桔乳业"),
        ("朝阳轴承有限公司", "", "朝阳轴承"),
        ("北京银行", "北京", "银行"),
        ("北京有限公司", "", "北京"),
    ],
)
def test_a_district_is_set_aside_where_that_is_safe(name: str, place: str, core: str) -> None:
    found = read(name)
    assert (found.place, found.core) == (place, core)


@given(ANY)
def test_any_text_is_read_and_reading_it_again_changes_nothing(text: str) -> None:
    found = read(text)
    assert len(found.key) <= MOST_SIGNS + 20
    assert plain(plain(text)) == plain(text)
    assert found.core in found.key
    assert all(unicodedata.category(sign)[0] in "LN" for sign in found.core)
    assert all(len(pair) == 2 for pair in blocks(found.core))


@given(HAN, st.sampled_from(["有限公司", "股份有限公司", ""]), st.data())
def test_marks_and_width_say_nothing(stem: str, form: str, data: st.DataObject) -> None:
    name = f"{stem}AB1{form}"
    at = data.draw(st.integers(0, len(name)))
    marked = (
        name[:at] + data.draw(st.sampled_from([" ", "　", "（", ")", "·", "-", "，"])) + name[at:]
    )
    wide = marked.replace("AB1", "ＡＢ１").replace("A B", "Ａ Ｂ")
    assert read(name).key == read(marked).key == read(wide).key


@given(HAN, st.integers(0, 2), st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5))
def test_one_wrong_character_among_the_first_leaves_a_pair(core: str, at: int, wrong: str) -> None:
    mistaken = core[:at] + wrong + core[at + 1 :]
    pairs = list(zip(blocks(core), blocks(mistaken), strict=True))
    assert any(one == other for one, other in pairs)


def test_numbers_have_one_spelling() -> None:
    assert number(" 70000000-x ") == number("７0000000Ｘ") == "70000000X"
