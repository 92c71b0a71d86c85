"""Writes into notices.md who is told what, from the code: `make docs`."""

import re
import tomllib
from importlib import resources
from pathlib import Path

from services.datashare.notices.domain import TOLD, NoticeKind, Party

PAGE = Path(__file__).with_name("notices.md")
BEGIN = "<!-- Made from the code by `make docs`: change it there. -->\n"
END = "<!-- End of what is made. -->\n"


def table() -> str:
    """Return every kind with its sentence and who is told."""
    text = resources.files("services.datashare.notices").joinpath("texts.toml").read_text("utf-8")
    sentences = tomllib.loads(text)
    heads = " | ".join(Party)
    rows = (
        f"| `{kind}` | {re.sub('{(.*?)}', '*…*', sentences[kind]['en'])} | "
        + " | ".join("x" if party in TOLD[kind] else "" for party in Party)
        + " |\n"
        for kind in NoticeKind
    )
    return f"| kind | what is said | {heads} |\n|---|---|{'---|' * len(Party)}\n{''.join(rows)}"


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
