"""The unified social credit code 统一社会信用代码 (USCC, GB 32100-2015), as pure functions.

18 characters: the registering department (1), the kind of organisation (1), the district of
registration (6 digits, GB/T 2260), the organisation code of GB 11714 (8 and a check digit), and a
check digit over the first 17.

`stdnum.cn.uscc` computes the outer check digit. Around it stand two rules that it lacks or has
otherwise: it refuses letters in the first two places, which the standard allows (such as N2 or Y1),
and it does not look at the organisation code's own check digit.
"""

import re
from typing import Final

from stdnum.cn import uscc as stdnum_uscc

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015, table 2: without I, O, S, V and Z."""

_SHAPE: Final = re.compile(rf"[{ALPHABET}]{{2}}[0-9]{{6}}[{ALPHABET}]{{10}}")
_ORGANISATION_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_ORGANISATION_CHECKS: Final = "0123456789X0"


class UsccError(ValueError):
    """The code fails its check. The message says which, and never holds the code."""


def organisation_check_digit(body: str) -> str:
    """Return the check digit of an organisation code (GB 11714).

    Args:
        body: 8 digits or capitals; A counts as 10, Z as 35.
    """
    total = sum(
        int(character, 36) * weight
        for character, weight in zip(body, _ORGANISATION_WEIGHTS, strict=True)
    )
    return _ORGANISATION_CHECKS[11 - total % 11]


def make(department: str, district: str, organisation: str) -> str:
    """Return a complete code with both check digits.

    Args:
        department: the first two characters, e.g. "91" for a company registered by the market
            regulator.
        district: 6 digits of GB/T 2260.
        organisation: the first 8 characters of the organisation code, in `ALPHABET`.

    Raises:
        UsccError: a part has the wrong length or characters.
    """
    body = f"{department}{district}{organisation}"
    if len(organisation) != 8 or not _SHAPE.fullmatch(f"{body}00"):
        raise UsccError("the parts should be 2 characters, 6 digits and 8 characters")
    body += organisation_check_digit(organisation)
    return body + stdnum_uscc.calc_check_digit(body)


def check(code: str) -> str:
    """Return a code in its one spelling: without blanks and hyphens, in capitals.

    Raises:
        UsccError: it has the wrong length or characters, or a check digit is wrong.
    """
    compact = stdnum_uscc.compact(code)
    if len(compact) != 18:
        raise UsccError("a unified social credit code has 18 characters")
    if not _SHAPE.fullmatch(compact):
        raise UsccError("places 3 to 8 are digits, the others digits or capitals except I O S V Z")
    if compact[16] != organisation_check_digit(compact[8:16]):
        raise UsccError("the organisation code's check digit, place 17, is wrong")
    if compact[17] != stdnum_uscc.calc_check_digit(compact):
        raise UsccError("the check digit, place 18, is wrong")
    return compact
