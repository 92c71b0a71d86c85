"""China's working days, with public holidays and the Saturdays and Sundays worked for them 调休.

From `chinese_calendar`, which has what the State Council published, year by year.
"""

from datetime import date
from typing import Final

import chinese_calendar

_SATURDAY: Final = 5


class ChinaCalendar:
    """The calendar that ships with this release."""

    def is_working(self, day: date) -> tuple[bool, bool]:
        """Tell whether people work on a day, and whether that is as published.

        Of a year that is not published yet every Monday to Friday counts as worked.
        """
        try:
            return chinese_calendar.is_workday(day), True
        except NotImplementedError:
            return day.weekday() < _SATURDAY, False
