"""Writes the table of a dispute's steps into disputes.md from the code: `make docs`."""

import re
from pathlib import Path

from services.datashare.disputes.domain import transitions_table

PAGE = Path(__file__).with_name("disputes.md")
BEGIN = "<!-- Made from the code by `make docs`: change it there. -->\n"
END = "<!-- End of what is made. -->\n"


def page(text: str) -> str:
    """Return the page with today's table.

    Raises:
        ValueError: the page has no place for it.
    """
    made = f"{BEGIN}{transitions_table()}\n{END}"
    found, places = re.subn(f"{BEGIN}.*?{END}", lambda _: made, text, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"the page needs one part from {BEGIN!r} to {END!r}")
    return found


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
