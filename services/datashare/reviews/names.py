"""Names of firms 企业名称 in a form in which they can be compared.

A name is made of district 行政区划, trade name 字号, line of business 行业 and form 组织形式
(企业名称登记管理规定, 国务院令第734号, 第六条). What is the same for the register is made the same
here, and nothing else:

- full and half width, letters of either case, blanks, brackets and other marks (Unicode NFKC, and
  marks dropped): the register knows no two firms that differ in these alone;
- 有限责任公司 and 有限公司 are one form, as are 股份有限公司 and 股份公司: a company has to call
  itself by either (公司法 2023, 第七条).

A limited company and a company limited by shares of the same trade name stay two names, as do those
of two districts. The district is only set aside for telling what is like what: the name of a
province or prefecture, short or long, and that of a county in its long form, as short ones (朝阳,
长安) are trade names as well; never where fewer than two characters would be left. Districts are
those of GB/T 2260 with the ones of before, from python-stdnum's table.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from stdnum import numdb

# The longest first, so that 股份有限公司 is not taken for 有限公司.
_FORMS: Final = (
    ("股份有限责任公司", "shares"),
    ("股份有限公司", "shares"),
    ("有限责任公司", "limited"),
    ("特殊普通合伙", "partnership"),
    ("股份公司", "shares"),
    ("有限公司", "limited"),
    ("普通合伙", "partnership"),
    ("有限合伙", "partnership"),
    ("合伙企业", "partnership"),
    ("COMPANYLIMITED", "limited"),
    ("COLIMITED", "limited"),
    ("COLTD", "limited"),
    ("LIMITED", "limited"),
    ("LTD", "limited"),
    ("分公司", "branch"),
)
_ENDINGS: Final = ("特别行政区", "维吾尔自治区", "壮族自治区", "回族自治区", "自治区", "省", "市")
_PREFECTURE_ENDINGS: Final = ("地区", "自治州", "市", "盟", "州")
_COUNTY_ENDINGS: Final = ("自治县", "自治旗", "区", "县", "旗", "市")
_LEAST_LEFT: Final = 2
_DISTRICT_SIGNS: Final = 2
MOST_SIGNS: Final = 200
"""Of a name that is compared; one sign may become many when it is folded."""


class Name(NamedTuple):
    """A name as it is compared.

    Args:
        key: two names with the same one are the same for the register.
        core: without district and form; what is like another is judged by it.
        place: the district before it, short, or empty.
        form: the legal form, or empty where it says none.
    """

    key: str
    core: str
    place: str
    form: str


@lru_cache(1 << 16)
def read(name: str) -> Name:
    """Return a name in the form in which it is compared.

    >>> read("北京市小桔（中国）科技有限责任公司")
    Name(key='北京市小桔中国科技|limited', core='小桔中国科技', place='北京', form='limited')
    >>> read("北京市小桔(中国)科技 有限公司").key == read("北京市小桔（中国）科技有限责任公司").key
    True
    >>> read("杭州光年股份有限公司").key == read("杭州光年有限公司").key
    False
    >>> read("朝阳轴承厂").core, read("朝阳区轴承厂").core
    ('朝阳轴承厂', '轴承厂')
    """
    bare = plain(name)[:MOST_SIGNS]
    stem, form = bare, ""
    for ending, kind in _FORMS:
        if bare.endswith(ending) and len(bare) > len(ending):
            stem = bare if kind == "branch" else bare.removesuffix(ending)
            form = kind
            break
    if form == "partnership":  # 合伙企业(有限合伙)
        stem = stem.removesuffix("合伙企业") or stem
    core, place = _set_aside(stem)
    return Name(f"{stem}|{form}", core, place, form)


def plain(name: str) -> str:
    """Return the letters, digits and characters of a name, all of one width and case.

    >>> plain("ＡＢＣ　（中国）·网络, Co., Ltd.")
    'ABC中国网络COLTD'
    """
    folded = unicodedata.normalize("NFKC", name).upper()
    # Again, as a capital may have a form of its own.
    folded = unicodedata.normalize("NFKC", folded)
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] in "LN")


def number(text: str) -> str:
    """Return a registration number of before in its one spelling.

    >>> number("70000000-x")
    '70000000X'
    """
    return plain(text)


def blocks(core: str) -> tuple[str, str, str]:
    """Return what names that are alike share at least one of: pairs of their first characters.

    One character of the first three may be another, or be missing from the end, and one pair is
    still the same: (1, 2), (2, 3) and (1, 3).

    >>> blocks("小桔科技")
    ('小桔', '桔科', '小科')
    >>> set(blocks("小桔科技")) & set(blocks("小吉科技"))
    {'小科'}
    """
    signs = f"{core[:3]:<3}"
    return signs[:2], signs[1:], signs[0] + signs[2]


def searched(name: Name) -> list[tuple[str, str, str]]:
    """Return the pairs by which names like one are looked for.

    Where it begins with no district, its first two signs may be one that is misspelt.

    >>> searched(read("北就小桔科技有限公司"))
    [('北就', '就小', '北小'), ('小桔', '桔科', '小科')]
    """
    found = [blocks(name.core)]
    if not name.place and len(name.core) > _DISTRICT_SIGNS + _LEAST_LEFT:
        found.append(blocks(name.core[_DISTRICT_SIGNS:]))
    return found


def _set_aside(stem: str) -> tuple[str, str]:
    core, place = stem, ""
    provinces, prefectures, counties = _places()
    for table, longest in ((provinces, 9), (prefectures, 11), (counties, 15)):
        for size in range(min(longest, len(core) - _LEAST_LEFT), 1, -1):
            short = table.get(core[:size])
            if short:
                place, core = short, core[size:]
                break
    return core, place


@lru_cache(1)
def _places() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the names of provinces, prefectures and counties, each with its short form."""
    provinces: dict[str, str] = {}
    prefectures: dict[str, str] = {}
    counties: dict[str, str] = {}
    for code, name in _divisions():
        if len(code) == 2:
            short = _short(name, _ENDINGS)
            provinces |= {name: short, short: short}
        elif code.endswith("00"):
            short = _short(name, _PREFECTURE_ENDINGS)
            if len(short) >= _LEAST_LEFT:
                prefectures |= {name: short, short: short}
        elif len(name) > _LEAST_LEFT:
            counties[name] = name
    shared = {_short(name, _COUNTY_ENDINGS) for name in counties}
    # A group of counties is no name, and a municipality is a province.
    for name in ("市辖区", *provinces, *(shared & prefectures.keys())):
        prefectures.pop(name, None)
        counties.pop(name, None)
    return provinces, prefectures, counties


def _divisions() -> Iterator[tuple[str, str]]:
    """Yield code and name of every province, and of what is below it, those of before included."""
    table: Any = numdb.get("cn/loc").prefixes
    for _, province, _, known, below in table:
        yield province, known["province"]
        for _, code, _, inner, _ in below:
            for part in inner["county"].split(","):
                yield code, part.rpartition("]")[2]


def _short(name: str, endings: tuple[str, ...]) -> str:
    for ending in endings:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name
