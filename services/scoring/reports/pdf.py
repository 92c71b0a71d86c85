"""A report as PDF, typeset by Typst from the same view as the HTML page.

Invariants: the bytes follow from the view, the document and the font alone; a font that has Chinese
is there, or nothing is made; the signed document and its signature are attached. Nothing is
loaded from elsewhere: no packages, no files but fonts. Whatever others wrote, there is a PDF: one
with a character that no font has, such as an emoji, shows a box for it and is not PDF/A.
"""

import datetime as dt
import importlib.util
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

import typst

from services.kit.errors import FailedPreconditionError
from services.scoring.reports.domain import Json

FONT_PACKAGE: Final = "manimgx-fonts-cjk"
_FONT_MODULE: Final = "manimgx_fonts_cjk"
FAMILIES: Final = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
)
"""Fonts that have Chinese, best first."""
_TEMPLATE: Final = (files(__package__) / "templates" / "report.typ").read_bytes()
STANDARD: Final = "a-3a"
"""For archives, with its structure told to those who cannot see it; attachments are allowed."""


class Typesetter:
    """Makes PDFs; safe to use from several threads, one at a time in each.

    Args:
        folders: with fonts; None: that of the font's package, else those of the system.

    """

    def __init__(self, folders: Sequence[Path] | None = None) -> None:
        found = _packaged() if folders is None else list(folders)
        self._fonts = typst.Fonts(
            include_system_fonts=folders is None and not found,
            include_embedded_fonts=True,
            font_paths=[str(folder) for folder in found],
        )
        known = set(self._fonts.families())
        self._families = [name for name in FAMILIES if name in known]

    def check(self) -> None:
        """Refuse to typeset without a font.

        Raises:
            FailedPreconditionError: REPORT_FONT_MISSING.
        """
        if not self._families:
            raise FailedPreconditionError(
                "REPORT_FONT_MISSING",
                "a PDF needs a font that has Chinese, and the service has none: install "
                f"{FONT_PACKAGE} by pip or fonts-noto-cjk by apt there, or ask for HTML",
            )

    def render(self, view: Json, document: bytes, made_at: dt.datetime) -> bytes:
        """Return the PDF.

        Args:
            view: of the document.
            document: canonical JSON.
            made_at: that the file says it was made at.

        Raises:
            FailedPreconditionError: REPORT_FONT_MISSING.
        """
        compiler = self._compiler(view, document)
        stamp = int(made_at.timestamp())
        try:
            made = compiler.compile(
                _TEMPLATE, format="pdf", pdf_standards=[STANDARD], timestamp=stamp
            )
        except typst.TypstError:  # what others wrote has a character that no font has
            made = compiler.compile(_TEMPLATE, format="pdf", timestamp=stamp)
        assert isinstance(made, bytes)  # noqa: S101 - one file, as a PDF always is
        return made

    def pictures(self, view: Json, document: bytes) -> list[bytes]:
        """Return the pages as SVG.

        Args:
            view: of the document.
            document: canonical JSON.

        Raises:
            FailedPreconditionError: REPORT_FONT_MISSING.
        """
        made = self._compiler(view, document).compile(input=_TEMPLATE, format="svg")
        assert isinstance(made, list)  # noqa: S101 - one picture per page
        return made

    def _compiler(self, view: Json, document: bytes) -> typst.Compiler:
        """Return a compiler with what is shown; one of its own, as it holds what it compiled."""
        self.check()
        inputs = {
            "view": json.dumps(view | {"fonts": self._families[:1]}, ensure_ascii=False),
            "document": document.decode(),
        }
        return typst.Compiler(font_paths=self._fonts, sys_inputs=inputs)


def _packaged() -> list[Path]:
    """Return the folder of the font's package, where it is installed."""
    spec = importlib.util.find_spec(_FONT_MODULE)
    return [] if spec is None or spec.origin is None else [Path(spec.origin).parent]
