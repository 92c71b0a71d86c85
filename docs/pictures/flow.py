"""Draws the flow of Puhui as flow.svg: `make pictures`, or `python docs/pictures/flow.py`."""

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 960, 452
INK, FAINT, PAPER = "#1f2937", "#6b7280", "#ffffff"
ROLE, SERVICE, STORE = "#e8f1fb", "#dcefe3", "#f6ecd9"


def box(
    x: int, y: int, width: int, height: int, fill: str, title: str, *lines: str, frame: bool = False
) -> str:
    """Return a rounded box with a title and small lines; of a frame they are at its top."""
    middle = x + width // 2
    top = y + (height // 2 - 8 * len(lines) + 5 if not frame else 26)
    text = "".join(
        f'<text x="{middle}" y="{top + 17 * (n + 1)}" class="small">{escape(line)}</text>'
        for n, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}"/>'
        f'<text x="{middle}" y="{top}" class="title">{escape(title)}</text>{text}'
    )


def arrow(x1: int, y1: int, x2: int, y2: int, label: str = "", dx: int = 0, dy: int = -7) -> str:
    """Return an arrow with a label at its middle, moved by (dx, dy)."""
    x, y = (x1 + x2) // 2 + dx, (y1 + y2) // 2 + dy
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" marker-end="url(#head)"/>'
        f'<text x="{x}" y="{y}" class="label">{escape(label)}</text>'
    )


def draw() -> str:
    """Return the picture."""
    parts = [
        box(
            20,
            40,
            190,
            76,
            ROLE,
            "Providers 数据源",
            "tax, courts, insurance,",
            "registers, lenders",
        ),
        box(20, 188, 190, 76, ROLE, "Firm 企业", "grants, withdraws,", "sees every access"),
        box(20, 336, 190, 76, ROLE, "Bank 银行", "asks for consent,", "scores"),
        box(
            360,
            40,
            150,
            372,
            SERVICE,
            "gateway",
            "authenticates",
            "authorises by role",
            "passes bytes on",
        ),
        box(
            660,
            40,
            280,
            208,
            SERVICE,
            "datashare",
            "one transaction: check, log, release",
            frame=True,
        ),
        box(
            660, 316, 280, 96, SERVICE, "scoring", "features, LightGBM, exact", "reasons, decisions"
        ),
        box(684, 136, 108, 40, STORE, "records"),
        box(808, 136, 108, 40, STORE, "summaries"),
        box(684, 188, 108, 40, STORE, "consents"),
        box(808, 188, 108, 40, STORE, "access log"),
        arrow(210, 78, 356, 78, "1  push records"),
        arrow(210, 214, 356, 214, "2  grant"),
        arrow(210, 242, 356, 242, "4  withdraw, 5  list", 0, 18),
        arrow(210, 374, 356, 374, "3  score"),
        arrow(510, 78, 656, 78, "typed, by stream"),
        arrow(510, 214, 656, 214, "checked now"),
        arrow(510, 374, 656, 374, "one RPC"),
        arrow(800, 316, 800, 252, "monthly summary under this consent,", -132, 0),
        '<text x="668" y="302" class="label">logged before it leaves</text>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="The flow of Puhui">'
        "<style>"
        'text{font-family:"Noto Sans CJK SC","Noto Sans SC","Segoe UI",sans-serif;'
        f"text-anchor:middle;fill:{INK}}}"
        f".title{{font-size:15px;font-weight:600}}.small{{font-size:12px;fill:{FAINT}}}"
        f".label{{font-size:12px;fill:{INK}}}rect{{stroke:{FAINT};stroke-width:.8}}"
        f"line{{stroke:{INK};stroke-width:1.3}}</style>"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}" stroke="none"/>'
        f"{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    (Path(__file__).parent / "flow.svg").write_text(draw(), encoding="utf-8")
