"""How long notices are kept, from `keeping.toml`, which is package data."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from services.datashare.china import CHINA, date_of_day
from services.datashare.packaged import read_toml


class KeepingError(ValueError):
    """`keeping.toml` is wrong; the message names the key."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long notices are kept.

    Args:
        dealt_with: days, of those that their party acknowledged or its webhook took.
        longest: days, of all others.
    """

    dealt_with: int
    longest: int

    def ends(self, day: int) -> tuple[datetime, datetime]:
        """Return before when those that were dealt with, and all others, are kept no longer.

        Args:
            day: days since 1970-01-01 in China.
        """
        midnight = datetime.combine(date_of_day(day), time(), CHINA)
        return midnight - timedelta(days=self.dealt_with), midnight - timedelta(days=self.longest)


def load(text: str | None = None) -> Keeping:
    """Load the rule.

    Args:
        text: TOML; the package's own by default.

    Raises:
        KeepingError: it is not TOML, or a number is missing, unknown or out of order.
    """
    content = read_toml("services.datashare.notices", "keeping.toml", text, KeepingError)
    if wrong := sorted({"dealt_with", "longest"} ^ content.keys()):
        raise KeepingError(f"keeping.toml: `{wrong[0]}` is missing or unknown")
    for name, days in content.items():
        if type(days) is not int or days < 1:
            raise KeepingError(f"keeping.toml: `{name}` should be a number of days, 1 or more")
    made = Keeping(**content)
    if made.dealt_with > made.longest:
        raise KeepingError("keeping.toml: `dealt_with` should not be longer than `longest`")
    return made
