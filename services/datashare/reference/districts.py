"""Districts 行政区划 by their codes of GB/T 2260, as of a year.

The table is python-stdnum's (`cn/loc`), which keeps abolished districts with the years in which
their code stood: a firm registered in 崇文区 in 2005 was registered in a district that there was.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from stdnum import numdb

_CODE: Final = re.compile(r"[0-9]{6}")
_NAMED: Final = re.compile(r"(?:\[(?P<first>\d*)-(?P<last>\d*)\])?(?P<name>[^,\[]+)")


class District(NamedTuple):
    """A district.

    Args:
        code: six digits: province, prefecture, county.
        province: name of the province, region or municipality.
        name: its own.
    """

    code: str
    province: str
    name: str


@lru_cache(1 << 13)
def district(code: str, year: int) -> District | None:
    """Return the district that a code stood for in a year; None where it stood for none.

    Args:
        code: six digits.
        year: of the statement in which the code stands.

    >>> district("110108", 2026)
    District(code='110108', province='北京市', name='海淀区')
    >>> district("110103", 2009).name, district("110103", 2026)
    ('崇文区', None)
    >>> district("999999", 2026) is None
    True
    """
    if not _CODE.fullmatch(code):
        return None
    known = {
        key: text for _, found in numdb.get("cn/loc").info(code) for key, text in found.items()
    }
    for match in _NAMED.finditer(known.get("county", "")):
        first, last = int(match["first"] or 0), int(match["last"] or year)
        if first <= year <= last:
            return District(code, known["province"], match["name"])
    return None
