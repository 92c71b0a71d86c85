"""What options and arguments mean: days, times, limits, names of the protocol's enums."""

import re
from collections.abc import AsyncIterable
from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from services.cli.command import usage

if TYPE_CHECKING:
    from puhui_client import Client
    from services.cli.output import Output

T = TypeVar("T")

CHINA = timezone(timedelta(hours=8), "CST")
"""China Standard Time: the zone of a day or time that names none."""

NOT_UTF8 = "is not UTF-8: convert it, from GB18030 by `iconv -f GB18030 -t UTF-8`"
"""What is said of a file that a spreadsheet saved in another encoding."""

# The alphabet and length of GB 32100-2015; a subject id is never like that.
_USCC = re.compile(r"[0-9A-HJ-NP-RT-UW-Y]{18}")


def is_uscc(subject: str) -> bool:
    """Tell a registration number from a subject id, by its form.

    Raises:
        typer.BadParameter: it has the form of neither.
    """
    if _USCC.fullmatch(subject):
        return True
    if subject.startswith("sub_"):
        return False
    raise usage(
        "the firm is named by its registration number, 18 digits and capital letters, or by its "
        "subject id, sub_...: this is neither"
    )


async def subject_id_of(client: "Client", subject: str) -> str:
    """Return the subject id of a firm that is named by it or by its registration number.

    Raises:
        typer.BadParameter: it has the form of neither.
    """
    return await client.resolve_subject(subject) if is_uscc(subject) else subject


def parse_day(text: str) -> date:
    """Return a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("not a day: write it as 2024-05-31") from None


def whole_months_before(day: date, count: int) -> date:
    """Return the first day of the month that is `count` months before the day's own."""
    month = day.year * 12 + day.month - 1 - count
    return date(month // 12, month % 12 + 1, 1)


def parse_moment(text: str) -> datetime:
    """Return an aware time; a day is its end, and without a zone it is China Standard Time."""
    try:
        if len(text) == len("2024-05-31"):
            return datetime.combine(date.fromisoformat(text), time.max, CHINA)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("not a time: write 2024-05-31 or 2024-05-31T18:00+08:00") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=CHINA)


Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]


async def take(found: AsyncIterable[T], limit: int, out: "Output") -> list[T]:
    """Return the first of what a list of the platform has; whether that is all is told.

    Args:
        found: in the platform's order.
        limit: most, from 1.
        out: tells people that there are more.
    """
    some: list[T] = []
    async for each in found:
        if len(some) == limit:
            out.note(f"there are more than {limit}: see more of them by --limit")
            break
        some.append(each)
    return some


def lower(name: str, prefix: str) -> str:
    """Return an enum's name for people: `ROLE_BANK` is bank."""
    return name.removeprefix(prefix).lower()


Level = Literal["profile", "summary", "transactions"]
State = Literal[
    "requested",
    "partially_approved",
    "active",
    "paused",
    "rejected",
    "lapsed",
    "withdrawn",
    "revoked",
    "expired",
    "consumed",
    "superseded",
]
Role = Literal["provider", "firm", "bank", "regulator", "operator"]
Use = Literal["explanation", "dispute", "supervision"]
