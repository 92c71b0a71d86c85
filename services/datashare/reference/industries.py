"""Industries by their codes of GB/T 4754-2017 国民经济行业分类: a letter, up to four digits.

The letter is the section 门类; the first two digits are the division 大类, three the group 中类,
four the class 小类. Divisions are numbered through the sections, so that a division belongs to one.
"""

import re
from typing import Final, NamedTuple

_CODE: Final = re.compile(r"([A-T])([0-9]{2,4})?")


class Section(NamedTuple):
    """A section.

    Args:
        letter: A to T.
        zh: its name in the standard.
        en: a translation.
        divisions: its two-digit divisions.
    """

    letter: str
    zh: str
    en: str
    divisions: range


SECTIONS: Final = {
    letter: Section(letter, zh, en, range(first, last + 1))
    for letter, zh, en, first, last in (
        ("A", "农、林、牧、渔业", "Agriculture, forestry, animal husbandry and fishery", 1, 5),
        ("B", "采矿业", "Mining", 6, 12),
        ("C", "制造业", "Manufacturing", 13, 43),
        (
            "D",
            "电力、热力、燃气及水生产和供应业",
            "Electricity, heat, gas and water supply",
            44,
            46,
        ),
        ("E", "建筑业", "Construction", 47, 50),
        ("F", "批发和零售业", "Wholesale and retail trade", 51, 52),
        ("G", "交通运输、仓储和邮政业", "Transport, storage and post", 53, 60),
        ("H", "住宿和餐饮业", "Accommodation and catering", 61, 62),
        (
            "I",
            "信息传输、软件和信息技术服务业",
            "Information transmission, software and IT",
            63,
            65,
        ),
        ("J", "金融业", "Finance", 66, 69),
        ("K", "房地产业", "Real estate", 70, 70),
        ("L", "租赁和商务服务业", "Leasing and business services", 71, 72),
        ("M", "科学研究和技术服务业", "Scientific research and technical services", 73, 75),
        ("N", "水利、环境和公共设施管理业", "Water, environment and public facilities", 76, 79),
        ("O", "居民服务、修理和其他服务业", "Household services, repair and others", 80, 82),
        ("P", "教育", "Education", 83, 83),
        ("Q", "卫生和社会工作", "Health and social work", 84, 85),
        ("R", "文化、体育和娱乐业", "Culture, sports and entertainment", 86, 90),
        ("S", "公共管理、社会保障和社会组织", "Public management and organisations", 91, 96),
        ("T", "国际组织", "International organisations", 97, 97),
    )
}
"""Sections by letter (GB/T 4754-2017, table 1)."""


def section(code: str) -> Section | None:
    """Return the section of a code; None where letter and division do not belong together.

    >>> section("I65").zh
    '信息传输、软件和信息技术服务业'
    >>> section("C").divisions
    range(13, 44)
    >>> section("C65") is None
    True
    """
    match = _CODE.fullmatch(code)
    if match is None:
        return None
    found = SECTIONS[match[1]]
    if match[2] is not None and int(match[2][:2]) not in found.divisions:
        return None
    return found


def division(code: str) -> int | None:
    """Return the two-digit division of a code; None where it names none, or a wrong one.

    >>> division("I6513"), division("I"), division("A99")
    (65, None, None)
    """
    found = section(code)
    return int(code[1:3]) if found is not None and len(code) > 1 else None
