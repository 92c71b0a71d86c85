"""A report as one HTML page: nothing runs in it, nothing is loaded, it prints on A4.

Invariants: every word of the document is escaped; the page carries the signed document, so that it
can be checked without the platform.
"""

from importlib.resources import files
from typing import Final

import jinja2
from markupsafe import Markup

from services.scoring.reports.domain import Json

_TEMPLATES: Final = files(__package__) / "templates"
_STYLE: Final = (_TEMPLATES / "report.css").read_text("utf-8")
_ENVIRONMENT: Final = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
_PAGE: Final = _ENVIRONMENT.from_string((_TEMPLATES / "report.html").read_text("utf-8"))
# What would end the element that holds JSON, or begin another.
_HIDDEN: Final = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
OPENS: Final = '<script type="application/json" id="puhui-document">'
"""Before the document in a page."""
CLOSES: Final = "</script>"
"""Behind it."""


def render(view: Json, document: bytes) -> bytes:
    """Return the page.

    Args:
        view: of the document.
        document: canonical JSON.
    """
    held = document.decode().translate(_HIDDEN)
    # Both are ours: the style is a file of this package, and in JSON nothing is left to escape.
    page = _PAGE.render(view=view, style=Markup(_STYLE), document=Markup(held))  # noqa: S704 - see above
    return page.encode()
