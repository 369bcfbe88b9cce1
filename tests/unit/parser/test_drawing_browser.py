"""The call graph in a real browser: it draws itself, zooms on the wheel and follows a drag."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.aggregate import Row
from mem_parser.reports.graph import CallGraph, Edge
from mem_parser.reports.svg import draw_svg

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
GRAPH = CallGraph(
    [Row("main", Estimate(0), Estimate(9)), Row("leaf", Estimate(9), Estimate(9))],
    [Edge(0, 1, 9.0, False)],
    9.0,
    Unit.SPACE,
    ["Total MB: 0.0"],
)
USE = """
<script xmlns="http://www.w3.org/2000/svg">
var svg = document.documentElement, seen = [svg.getAttribute("viewBox")];
function note() { seen.push(svg.getAttribute("viewBox")); }
function pointer(kind, x, y) {
  svg.dispatchEvent(new PointerEvent(kind, {clientX: x, clientY: y, pointerId: 1, bubbles: true}));
}
svg.dispatchEvent(new WheelEvent("wheel",
  {deltaY: -400, clientX: 100, clientY: 100, cancelable: true}));
note();
pointer("pointerdown", 100, 100); pointer("pointermove", 150, 130); pointer("pointerup", 150, 130);
note();
pointer("pointermove", 250, 230);
note();
window.dispatchEvent(new KeyboardEvent("keydown", {key: "0"}));
note();
svg.setAttribute("data-seen", seen.join(";"));
</script></svg>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_drawing_pans_and_zooms_by_itself(tmp_path: Path) -> None:
    page = tmp_path / "x.svg"
    page.write_text(draw_svg(GRAPH).replace("</svg>", USE), encoding="utf-8")

    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={tmp_path}/u",
         "--window-size=800,600", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    match = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert match, done.stdout + done.stderr
    boxes = [[float(v) for v in re.split("[ ,]+", b)] for b in match[1].split(";")]
    home, zoomed, dragged, released, reset = boxes
    assert zoomed[2] == pytest.approx(home[2] / 2.718281828, rel=1e-3)
    assert dragged[0] < zoomed[0]
    assert dragged[1] < zoomed[1]
    assert dragged[2:] == pytest.approx(zoomed[2:], rel=1e-5)
    assert released == dragged
    assert reset == pytest.approx(home, rel=1e-5)
