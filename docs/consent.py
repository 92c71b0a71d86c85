"""Writes the states and transitions of a consent into consent.md from the code: `make docs`."""

import re
from pathlib import Path

from services.datashare.consent.domain import DOERS, OPEN_STATES, TRANSITIONS, State

PAGE = Path(__file__).with_name("consent.md")
BEGIN = "<!-- Made from the code by `make docs`: change it there. -->\n"
END = "<!-- End of what is made. -->\n"


def table() -> str:
    """Return every transition there is, and which states are never left."""
    rows = "".join(
        f"| `{state}` | {action} | `{target}` | {DOERS[action]} |\n"
        for (state, action), target in TRANSITIONS.items()
    )
    terminal = ", ".join(f"`{state}`" for state in State if state not in OPEN_STATES)
    return (
        f"| from | what happens | to | by whom |\n|---|---|---|---|\n{rows}\n"
        f"Never left again: {terminal}.\n"
    )


def page(text: str) -> str:
    """Return the page with today's table.

    Raises:
        ValueError: the page has no place for it.
    """
    made = f"{BEGIN}\n{table()}\n{END}"
    found, places = re.subn(f"{BEGIN}.*?{END}", lambda _: made, text, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"the page needs one part from {BEGIN!r} to {END!r}")
    return found


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
