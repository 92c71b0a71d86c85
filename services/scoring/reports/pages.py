"""Reports as files: the page of each format, from one view."""

import datetime as dt

from services.scoring.reports import html
from services.scoring.reports.domain import Format, Json, Language, Proof
from services.scoring.reports.pdf import Typesetter
from services.scoring.reports.view import view


class FilePages:
    """Writes pages.

    Args:
        typesetter: of PDFs.
    """

    def __init__(self, typesetter: Typesetter) -> None:
        self._typesetter = typesetter

    def check(self, format_: Format) -> None:
        """Refuse what cannot be written here.

        Raises:
            FailedPreconditionError: REPORT_FONT_MISSING.
        """
        if format_ is Format.PDF:
            self._typesetter.check()

    def write(
        self,
        format_: Format,
        language: Language,
        document: Json,
        canonical: bytes,
        proof: Proof,
        made_at: dt.datetime,
    ) -> bytes:
        """Return a page; safe to call from any thread."""
        shown = view(document, language, proof)
        if format_ is Format.PDF:
            return self._typesetter.render(shown, canonical, made_at)
        return html.render(shown, canonical)
