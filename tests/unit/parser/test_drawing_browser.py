"""The call graph in a real browser: it draws itself, zooms on the wheel and follows a drag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER
from mem_parser.estimate import Estimate
from mem_parser.model import Unit
from mem_parser.reports.aggregate import Row
from mem_parser.reports.graph import CallGraph, Edge
from mem_parser.reports.svg import draw_svg

pytestmark = NEEDS_BROWSER
GRAPH = CallGraph(
    [Row("main", Estimate(0), Estimate(9)), Row("leaf", Estimate(9), Estimate(9))],
    [Edge(0, 1, 9.0, False)],
    9.0,
    Unit.SPACE,
    "leaf: 9 B in use",
    ["Total MB: 0.0"],
)
USE = """
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
return seen;"""


def test_the_drawing_pans_and_zooms_by_itself(desktop: Any, tmp_path: Path) -> None:
    page = tmp_path / "x.svg"
    page.write_text(draw_svg(GRAPH), encoding="utf-8")
    desktop.get(page.as_uri())
    boxes = [[float(v) for v in re.split("[ ,]+", box)] for box in desktop.execute_script(USE)]
    home, zoomed, dragged, released, reset = boxes
    assert zoomed[2] == pytest.approx(home[2] / 2.718281828, rel=1e-3)
    assert dragged[0] < zoomed[0]
    assert dragged[1] < zoomed[1]
    assert dragged[2:] == pytest.approx(zoomed[2:], rel=1e-5)
    assert released == dragged
    assert reset == pytest.approx(home, rel=1e-5)
