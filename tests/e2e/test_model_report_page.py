"""The report of a model in a real browser: wide, narrow and printed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.scoring.models.scorer import Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training.report import Language, report
from tests.fakes.evidence import whole
from tests.fakes.models import small_model

pytestmark = pytest.mark.heavy

QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
    *("--virtual-time-budget=2000",),
]
ASKED = """<script>
addEventListener("load", () => {
  const wide = document.documentElement.clientWidth;
  const within = (e) => e.closest(".scroll, pre");
  const beyond = [...document.body.querySelectorAll("*")]
    .filter((e) => !within(e) && e.getBoundingClientRect().right > wide + 1)
    .map((e) => e.tagName + " " + e.textContent.slice(0, 40));
  const sizes = [...document.querySelectorAll("svg")].map((e) => e.getBoundingClientRect().width);
  const cut = [...document.querySelectorAll("svg text")].filter((e) => {
    const [text, plot] = [e, e.ownerSVGElement].map((each) => each.getBoundingClientRect());
    const right = text.right > plot.right + 2;
    return text.left < plot.left - 2 || right || text.bottom > plot.bottom + 2;
  }).map((e) => e.textContent);
  document.title = JSON.stringify({ beyond, least: Math.min(...sizes), cut });
});
</script></body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs a browser: on Debian, apt-get install chromium")
    return found


@pytest.fixture(scope="module", params=list(Language))
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    folder = path.parent / "models" / "made-up-1"
    small_model(folder, ModelKey.new())
    scorer = Scorer.load(folder)
    text = report(scorer, whole(scorer.manifest), "key", request.param)
    path.write_text(text.replace("</body>", ASKED), "utf-8")
    return path


@pytest.mark.parametrize("width", [1360, 820, 390])
def test_nothing_sticks_out_in_any_window(chromium: str, page: Path, width: int) -> None:
    called = [chromium, *QUIET, f"--window-size={width},900", "--dump-dom", page.as_uri()]
    dom = subprocess.run(called, capture_output=True, text=True, check=True, timeout=60).stdout
    told = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert told is not None
    found = json.loads(told.group(1).replace("&amp;", "&"))
    assert found["beyond"] == []
    assert found["cut"] == []
    assert found["least"] >= 150


def test_it_prints_with_what_was_folded(chromium: str, page: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.pdf"
    called = [chromium, *QUIET, "--no-pdf-header-footer", f"--print-to-pdf={out}", page.as_uri()]
    subprocess.run(called, capture_output=True, check=True, timeout=60)
    pages = len(re.findall(rb"/Type\s*/Page[^s]", out.read_bytes()))
    # With the table of all inputs, which is folded on the screen.
    assert 6 <= pages <= 20
