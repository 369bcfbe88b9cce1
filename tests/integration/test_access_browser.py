"""Pages for readers in the dark, on a phone, on paper, with keys alone and without colours."""

import re
from pathlib import Path
from typing import Any

import pytest

from accessible import faults_of
from browser import NEEDS_BROWSER, Shown
from mem_cli.errors import run_command
from mem_cli.parser.group import cli
from mem_parser.model import Count, Unit
from mem_parser.reports.aggregate import sum_stacks
from mem_parser.reports.graph import build_graph
from mem_parser.reports.svg import draw_svg
from mem_parser.web import flamegraph, report
from parser_run import parse
from scope_pages import training
from timelog import write_log
from web_profiles import BASE, BUDGET, DIFF, LEAKS, SERVER, make_profile

pytestmark = NEEDS_BROWSER
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

REPORT = ["budget", "diff", "leaks", "summary", "table", "flame", "graph", "tree", "threads"]
TABS = {"report": REPORT, "log": ["summary", "table"], "flame": [""], "classes": [""]}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in TABS}
    noted = make_profile(SERVER)
    noted[0].capture.lost = dict.fromkeys(
        ("live_full", "site_full", "reentry", "arena_full", "truncated"), 900
    )
    texts = {
        "report": report.render(
            *noted, base=make_profile(BASE), leaks=LEAKS, diff=DIFF, budget=BUDGET
        ),
        "flame": flamegraph.render(*make_profile(SERVER), base=make_profile(BASE)),
    }
    for name, text in texts.items():
        found[name].write_text(text, encoding="utf-8")
    parse("report", write_log(folder / "x.1-0.memlog"), "--python", "-o", found["log"])
    dump = training(7).csv(folder)
    run_command(cli, "mem_parser", ["memscope", str(dump), "-o", str(found["classes"])])
    return found


@pytest.mark.parametrize("name", TABS)
@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_all_texts_can_be_read_and_all_controls_have_names(
    request: pytest.FixtureRequest, pages: dict[str, Path], name: str, screen: str
) -> None:
    driver = request.getfixturevalue(screen)
    theme = "return document.documentElement.dataset.theme"
    wide = "return document.documentElement.scrollWidth"
    for tab in TABS[name]:
        shown = Shown(driver, pages[name].as_uri(), "#theme=dark" + (f"&tab={tab}" if tab else ""))
        assert (shown.run(theme), faults_of(driver)) == ("dark", []), tab
        shown.run("document.getElementById('theme-button').click()")
        shown.until(lambda shown=shown: shown.run(theme) == "light")
        assert faults_of(driver) == [], tab
        assert screen == "desktop" or shown.run(wide) <= 390, tab


def emulate(driver: Any, media: str, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


GROUNDS = """
const of = (selector) => getComputedStyle(document.querySelector(selector));
return [of("svg").backgroundColor, of(".node polygon").fill, of(".node text").fill];
"""


def test_a_drawing_is_titled_dark_on_dark_screens_and_white_on_paper(
    desktop: Any, tmp_path: Path
) -> None:
    profile, symbols = make_profile(SERVER, rate=65536.0)
    sums = sum_stacks(profile, symbols)
    graph = build_graph(profile, sums, Count.INUSE, Unit.SPACE, "server")
    (tmp_path / "x.svg").write_text(draw_svg(graph), encoding="utf-8")
    found = {}
    try:
        for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
            emulate(desktop, media, scheme)
            desktop.get((tmp_path / "x.svg").as_uri())
            assert faults_of(desktop) == []
            found[media, scheme] = desktop.execute_script(GROUNDS)
    finally:
        emulate(desktop, "", "light")
    white, dark = found["screen", "light"], found["screen", "dark"]
    assert white[0] == "rgb(255, 255, 255)"
    assert all(a != b for a, b in zip(white, dark, strict=True))
    assert found["print", "dark"] == white
    heading = desktop.execute_script("return document.querySelector('.heading').textContent")
    assert re.fullmatch(r"server: [\d.]+ MiB ± [\d.]+ MiB \(95 %\) in use", heading)
    assert desktop.title == heading


def test_paper_is_light_and_has_all_of_a_graph(desktop: Any, pages: dict[str, Path]) -> None:
    whole = """
    const svg = document.querySelector(".call-graph-svg");
    const box = svg.getBoundingClientRect(), drawn = svg.firstChild.getBoundingClientRect();
    return drawn.left >= box.left && drawn.right <= box.right && drawn.bottom <= box.bottom;
    """
    theme = "return document.documentElement.dataset.theme"
    shown = Shown(desktop, pages["report"].as_uri(), "#tab=graph&theme=dark")
    for _ in range(4):
        shown.element("#graph-in").click()
    assert not shown.run(whole)
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert (shown.run(whole), shown.run(theme)) == (True, "light")
    shown.run("dispatchEvent(new Event('afterprint'))")
    assert (shown.run(whole), shown.run(theme)) == (False, "dark")
    shown.assert_quiet()


def test_no_tab_is_wider_than_paper(desktop: Any, pages: dict[str, Path]) -> None:
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    page = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4
    try:
        for tab in REPORT:
            shown = Shown(desktop, pages["report"].as_uri(), f"#tab={tab}")
            desktop.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", page)
            emulate(desktop, "print", "light")
            shown.run("dispatchEvent(new Event('beforeprint'))")
            assert shown.run(wide) <= 0, tab
            emulate(desktop, "", "light")
    finally:
        emulate(desktop, "", "light")
        desktop.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_tab_key_passes_through_a_flame_graph(desktop: Any, pages: dict[str, Path]) -> None:
    shown = Shown(desktop, pages["flame"].as_uri())
    stops = shown.run("return document.querySelectorAll('button, input, select, .graph').length")
    met = set()
    for _ in range(stops + 2):
        desktop.switch_to.active_element.send_keys(Keys.TAB)
        met.add(shown.run("return document.activeElement.className || document.activeElement.id"))
    assert {"graph", "search-input", "filter-input"} <= met
    shown.element(".graph").send_keys("?", Keys.ESCAPE)
    assert not shown.element("dialog.help").is_displayed()
