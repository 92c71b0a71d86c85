"""Draws pages of a credit report: `make pictures`, or `python docs/pictures/report.py`.

The firm is made up: it is the one that the tests write reports of.
"""

import hashlib
from pathlib import Path

from rfc8785 import dumps as canonical

from services.scoring.models.signing import ModelKey
from services.scoring.reports.content import CONTENT
from services.scoring.reports.domain import Language, Proof, document
from services.scoring.reports.pdf import Typesetter
from services.scoring.reports.view import view
from tests.fakes.reports import basis

PAGES = {Language.ZH: ("report-zh-1.svg", "report-zh-2.svg"), Language.EN: ("report-en-1.svg",)}


def draw() -> dict[str, bytes]:
    """Return the first pages by the names of their files."""
    stated, key, typesetter = document(basis(), CONTENT), ModelKey.new(), Typesetter()
    raw = canonical(stated)
    proof = Proof(hashlib.sha256(raw).hexdigest(), key.sign(raw), key.key_id)
    drawn: dict[str, bytes] = {}
    for language, names in PAGES.items():
        pages = typesetter.pictures(view(stated, language, proof), raw)
        drawn |= dict(zip(names, pages, strict=False))  # the first ones
    return drawn


if __name__ == "__main__":
    for name, picture in draw().items():
        (Path(__file__).parent / name).write_bytes(picture)
