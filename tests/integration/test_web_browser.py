"""The pages in headless Chromium, by real clicks and keys, at desktop and phone width."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER, assert_quiet, element, open_page, text_of, until
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.table import Function
from mem_parser.web import flamegraph, report
from web_profiles import BASE, BUDGET, DIFF, LEAKS, SERVER, Site, make_profile, wide_profile

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
ActionChains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of the pages that the tests open, by name."""
    folder = tmp_path_factory.mktemp("pages")
    bad = "</script><img src=x onerror=document.title='bad'>"
    hostile = make_profile(SERVER, functions={"parse": Function(bad, bad, bad, bad)})
    texts = {
        "flame": flamegraph.render(*make_profile(SERVER)),
        "diff": flamegraph.render(*make_profile(SERVER), base=make_profile(BASE)),
        "hostile": report.render(*hostile, leaks=LEAKS),
        "report": report.render(
            *make_profile(SERVER), base=make_profile(BASE), leaks=LEAKS, diff=DIFF, budget=BUDGET
        ),
        "wide": flamegraph.render(*wide_profile(3000), most_nodes=3000),
    }
    addresses = {}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        addresses[name] = (folder / f"{name}.html").as_uri()
    return addresses


@pytest.mark.parametrize(
    "case",
    [("delete window.DecompressionStream", "", "DecompressionStream"), ("", "AAAA", "compressed")],
)
def test_a_page_that_cannot_begin_says_what_it_needs_and_why(
    desktop: Any, pages: dict[str, str], tmp_path: Path, case: tuple[str, str, str]
) -> None:
    before, damage, why = case
    page = Path(pages["flame"].removeprefix("file://")).read_text(encoding="utf-8")
    (tmp_path / "x.html").write_text(re.sub(r'(?<="tree">"\d{4}:).{4}', damage or r"\g<0>", page))
    added = desktop.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
    try:
        desktop.get((tmp_path / "x.html").as_uri())
        until(desktop, lambda _: why in text_of(desktop, "#needs"))
    finally:
        desktop.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert "Chrome or Edge 93, Firefox 113, Safari 16.4 or later" in text_of(desktop, "#needs")
    desktop.get_log("browser")


def press(driver: Any, *keys: str) -> None:
    element(driver, ".graph").send_keys(*keys)


def click_graph(driver: Any, row: int, share: float = 0.3, pane: int = 1) -> None:
    """Click the canvas in a row counted from the top, at a share of the width."""
    canvas = element(driver, f".flame-scroll:nth-child({pane}) canvas")
    size = canvas.size
    height = 26 if driver.execute_script("return matchMedia('(pointer: coarse)').matches") else 19
    x = share * size["width"] - size["width"] / 2
    y = (row + 0.5) * height - size["height"] / 2
    ActionChains(driver).move_to_element_with_offset(canvas, round(x), round(y)).click().perform()


def title(driver: Any) -> str:
    return text_of(driver, ".details-title")


def fragment(driver: Any) -> str:
    return str(driver.execute_script("return location.hash"))


def pixels(driver: Any) -> int:
    """How many different colours the drawing has, on a grid of points."""
    return int(
        driver.execute_script(
            """const drawn = document.querySelector(".flame-canvas");
            const c = document.createElement("canvas"), seen = new Set();
            Object.assign(c, {width: drawn.width, height: drawn.height});
            const p = c.getContext("2d", {willReadFrequently: true});
            p.drawImage(drawn, 0, 0);
            for (let x = 5; x < c.width; x += 13)
              for (let y = 9; y < Math.min(c.height, 200); y += 19)
              seen.add(p.getImageData(x, y, 1, 1).data.join());
            return seen.size;"""
        )
    )


def test_the_first_drawing_is_there_at_the_load_event(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])

    assert pixels(desktop) > 2
    assert title(desktop) == "everything"
    assert "in use 4.64 MiB (100.0 %)" in text_of(desktop, ".details-facts").replace("\n", " ")
    assert_quiet(desktop)


def test_a_click_zooms_and_back_forward_and_reset_move(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])

    click_graph(desktop, 2)
    assert title(desktop) == "serve"
    click_graph(desktop, 3)
    assert title(desktop) == "parse"
    zoomed = fragment(desktop)
    assert "zoom=" in zoomed

    element(desktop, "#move-back").click()
    until(desktop, lambda d: fragment(d) != zoomed)
    element(desktop, "#move-forward").click()
    until(desktop, lambda d: fragment(d) == zoomed)
    press(desktop, Keys.BACKSPACE)
    until(desktop, lambda d: fragment(d) != zoomed)
    element(desktop, "#move-reset").click()
    until(desktop, lambda d: "zoom=" not in fragment(d))
    assert_quiet(desktop)


def test_a_link_shows_the_same_picture(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    click_graph(desktop, 2)
    press(desktop, "f", "c", "b")
    link = fragment(desktop)
    shown = text_of(desktop, ".details-facts")

    open_page(desktop, pages["flame"], link)

    assert fragment(desktop) == link
    assert text_of(desktop, ".details-facts") == shown
    assert title(desktop) == "serve"
    assert element(desktop, "#toggle-flip").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize(
    "bad", ["#zoom=999999", "#zoom=-1&count=x&thread=99", "#sandwich=1e9", "#q=%E0%A4%A", "#%"]
)
def test_a_forged_fragment_is_ignored(desktop: Any, pages: dict[str, str], bad: str) -> None:
    open_page(desktop, pages["flame"], bad)

    assert pixels(desktop) > 2
    assert_quiet(desktop)


def test_search_says_what_matched(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    press(desktop, "/")
    box = element(desktop, "#search")
    assert box == desktop.switch_to.active_element

    box.send_keys("^(parse|read)")
    until(desktop, lambda d: "matched" in text_of(d, "#search-found"))
    # 42 blocks of 64 KiB under parse, 8 of 256 KiB under read_file, each stack once.
    assert text_of(desktop, "#search-found") == "4.63 MiB matched (99.7 %)"
    assert "q=" in fragment(desktop)

    box.send_keys(Keys.ENTER)
    until(desktop, lambda d: title(d) == "parse")
    box.clear()
    box.send_keys("(((")
    until(desktop, lambda d: "not a regular expression" in text_of(d, "#search-found"))
    box.send_keys(Keys.ESCAPE)
    until(desktop, lambda d: text_of(d, "#search-found") == "")
    assert_quiet(desktop)


def test_inverting_starts_at_who_allocates(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    press(desktop, "i")
    click_graph(desktop, 1, 0.1)

    assert title(desktop) == "new_node"
    assert "2.63 MiB" in text_of(desktop, ".details-facts")


def test_hiding_allocators_is_on_and_can_be_taken_back(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    press(desktop, "a", "i")
    click_graph(desktop, 1)

    assert title(desktop) == "malloc"
    assert "in /usr/lib/libmem_sampler.so" in text_of(desktop, ".details-facts")


def test_lines_of_a_function_part_and_come_together(desktop: Any, tmp_path: Path) -> None:
    profile, symbols = make_profile([Site("main work", 1, 1 << 20), Site("main work", 3, 1 << 20)])
    work = next(k for k, x in enumerate(symbols.locations) if x.file.endswith("/work.c"))
    symbols.locations.append(dataclasses.replace(symbols.locations[work], line=99))
    symbols.locations_of_stack[symbols.offsets[1] + 1] = len(symbols.locations) - 1
    page = tmp_path / "lines.html"
    page.write_text(flamegraph.render(profile, symbols), encoding="utf-8")
    open_page(desktop, page.as_uri())
    click_graph(desktop, 2)
    assert title(desktop) == "work"
    assert "4.00 MiB" in text_of(desktop, ".details-facts")

    press(desktop, "l")
    assert title(desktop) == "work:99"
    assert "3.00 MiB" in text_of(desktop, ".details-facts")
    assert "work.c:99" in text_of(desktop, ".details-facts")
    assert "lines=1" in fragment(desktop)
    assert_quiet(desktop)


def test_recursion_collapses(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"], "#q=%5Eparse%24")
    rows = "return document.querySelector('.flame-canvas').dataset.painted"
    before = int(desktop.execute_script(rows))
    press(desktop, "c")

    assert int(desktop.execute_script(rows)) < before
    assert text_of(desktop, "#search-found").startswith("2.63 MiB")


def test_sandwich_shows_callers_and_callees(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    click_graph(desktop, 3, 0.2)
    assert title(desktop) == "parse"
    press(desktop, "s")

    assert "parse" in text_of(desktop, ".banner")
    click_graph(desktop, 1, 0.5, pane=1)
    assert title(desktop) == "new_node"
    callers = element(desktop, ".flame-scroll:nth-child(2)")
    assert callers.is_displayed()
    assert callers.location["y"] < element(desktop, ".flame-scroll:nth-child(1)").location["y"]
    element(desktop, "#leave-sandwich").click()
    assert not callers.is_displayed()
    assert_quiet(desktop)


def test_values_threads_and_domains_switch(desktop: Any, pages: dict[str, str]) -> None:
    def choose(setting: str, text: str) -> str:
        select = element(desktop, f"[data-setting={setting}] select")
        next(o for o in select.find_elements(By.TAG_NAME, "option") if o.text == text).click()
        return text_of(desktop, ".details-facts").replace("\n", " ")

    open_page(desktop, pages["flame"])

    assert "allocated 5.64 MiB" in choose("count", "allocated")
    assert "freed 1.00 MiB" in choose("count", "freed")
    assert "freed 24 (" in choose("unit", "blocks")
    assert "in use 8 (" in choose("thread", "worker")
    assert "in use 46 (" in choose("thread", "main")
    choose("thread", "all threads")
    assert "freed 0 (" in choose("domain", "hal-0")
    assert "in use 8 (" in choose("count", "in use")


def test_arrows_walk_and_enter_zooms(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["flame"])
    press(desktop, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert title(desktop) == "main"
    press(desktop, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert title(desktop) == "load"
    press(desktop, Keys.ENTER)
    assert "zoom=" in fragment(desktop)
    press(desktop, "0")
    assert "zoom=" not in fragment(desktop)
    press(desktop, "?")
    assert element(desktop, "dialog.help").is_displayed()
    element(desktop, "dialog.help button").click()
    assert_quiet(desktop)


def test_a_tooltip_has_the_error_and_the_place(desktop: Any, tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    made = make_profile(SERVER, rate=65536.0)
    page.write_text(flamegraph.render(*made), encoding="utf-8")
    open_page(desktop, page.as_uri())
    canvas = element(desktop, ".flame-canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    ActionChains(desktop).move_to_element_with_offset(
        canvas, round(0.2 * width - width / 2), round(19 * 2.5 - height / 2)
    ).perform()

    tip = until(desktop, lambda d: element(d, ".tooltip").is_displayed() and element(d, ".tooltip"))
    assert "serve" in tip.text
    known = next(row.cum for row in rows_of(sum_stacks(*made)) if row.name == "serve")
    shown = re.findall(r"in use ([\d.]+) MiB \u00b1 ([\d.]+) MiB \(", tip.text)[0]
    # The page has the variance with 7 bits.
    margin = pytest.approx(known.margin95, rel=0.02)
    assert [float(x) * 2**20 for x in shown] == [pytest.approx(known.value, rel=0.01), margin]
    assert "/code/src/serve.c:" in tip.text
    assert "/opt/app/bin/server" in tip.text


def test_a_difference_has_words_and_colours(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["diff"])
    facts = text_of(desktop, ".details-facts").replace("\n", " ")
    assert "base 3.25 MiB" in facts
    assert "+1.39 MiB" in facts
    assert "grown" in facts
    coloured = pixels(desktop)

    press(desktop, "d")
    assert "base" not in text_of(desktop, ".details-facts")
    assert coloured > 2
    assert_quiet(desktop)


def test_a_pruned_page_draws_every_view(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["wide"])
    painted = "return Number(document.querySelector('.flame-canvas').dataset.painted)"
    for key in "fbvci":
        press(desktop, key)
        assert desktop.execute_script(painted) > 10
    assert_quiet(desktop)


def test_hostile_names_run_nothing(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["hostile"])
    for tab in ("table", "flame", "graph", "tree", "threads", "leaks"):
        element(desktop, f"#tab-{tab}").click()
    element(desktop, "#tab-table").click()

    element(desktop, "#functions-rows th[data-key=total] button").click()

    assert "memory report" in desktop.title
    assert "</script><img" in text_of(desktop, "#functions-rows")
    assert desktop.find_elements(By.TAG_NAME, "img") == []
    assert desktop.find_elements(By.CSS_SELECTOR, "#panel-leaks b") == []
    assert_quiet(desktop)


def test_the_summary_answers_first(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["hostile"])

    assert "build-host-7" in text_of(desktop, "#header")
    assert "--key /etc/secret/key" in text_of(desktop, "#header")
    panel = text_of(desktop, "#panel-summary")
    assert "4.64 MiB" in panel
    assert "new_node" in panel
    assert "Resident (RSS)" in panel
    assert len(desktop.find_elements(By.CSS_SELECTOR, "svg.chart polyline")) == 2
    assert_quiet(desktop)


def test_the_table_sorts_and_searches(desktop: Any, pages: dict[str, str]) -> None:
    def names() -> list[str]:
        cells = desktop.find_elements(By.CSS_SELECTOR, "#functions-rows td.main")
        return [cell.text for cell in cells]

    open_page(desktop, pages["report"], "#tab=table")
    assert names()[:2] == ["new_node", "read_file"]
    hidden = "callers without own memory hidden: sort by Total to show them"
    owners, (others, rest) = len(names()), text_of(desktop, ".table-tools span").split("; ")
    assert rest.partition(" ")[2] == hidden
    element(desktop, "#functions-rows th[data-key=total] button").click()
    assert len(names()) == owners + int(rest.split()[0]) == int(others.split()[2])
    element(desktop, "#functions-rows th[data-key=name] button").click()
    assert names() == sorted(names())
    element(desktop, "#functions-rows th[data-key=name] button").click()
    assert names() == sorted(names(), reverse=True)
    element(desktop, "#functions-search").send_keys("read")
    assert names() == ["read_file"]
    element(desktop, "#functions-rows td.main button").click()
    until(desktop, lambda d: "2.00 MiB matched" in text_of(d, "#search-found"))
    desktop.back()
    until(desktop, lambda d: element(d, "#panel-table").is_displayed())
    assert_quiet(desktop)


def test_the_call_graph_zooms(desktop: Any, pages: dict[str, str]) -> None:
    scale = "return Number(document.querySelector('.call-graph-svg').dataset.scale || 0)"
    open_page(desktop, pages["report"], "#tab=graph")
    until(desktop, lambda d: d.execute_script(scale) > 0)
    assert "new_node" in text_of(desktop, ".call-graph-svg")

    first = desktop.execute_script(scale)
    element(desktop, "#graph-in").click()
    assert desktop.execute_script(scale) == pytest.approx(1.4 * first, rel=0.01)
    frame = element(desktop, ".call-graph")
    ActionChains(desktop).scroll_from_origin(_origin(frame), 0, -300).perform()
    until(desktop, lambda d: d.execute_script(scale) > 1.5 * first)
    element(desktop, "#graph-fit").click()
    assert desktop.execute_script(scale) == pytest.approx(first, rel=0.01)
    assert_quiet(desktop)


def _origin(frame: Any) -> Any:
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(frame)


def test_the_tree_opens_by_click_and_key(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["report"], "#tab=tree")

    def lines() -> list[str]:
        return [e.text for e in desktop.find_elements(By.CSS_SELECTOR, ".tree-name")]

    assert lines() == ["everything", "main", "serve", "load"]
    element(desktop, "#tree-heaviest").click()
    assert "new_node" in lines()
    focused = desktop.switch_to.active_element
    focused.send_keys(Keys.HOME)
    desktop.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert lines() == ["everything"]
    assert_quiet(desktop)


def test_a_thread_leads_to_its_flame_graph(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["report"], "#tab=threads")
    rows = desktop.find_elements(By.CSS_SELECTOR, "#threads-rows td.main button")
    assert [row.text for row in rows] == ["main", "worker"]
    rows[1].click()

    assert "2.00 MiB" in text_of(desktop, ".details-facts")
    assert_quiet(desktop)


def test_leaks_and_diff_show_their_verdicts(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["report"], "#tab=leaks")
    rows = text_of(desktop, "#leaks-rows")
    assert "4.77 MiB (4.58\u20135.15 MiB)" in rows
    assert "+3.81 MiB/h \u00b1 0.95" in rows
    assert "<b>parse</b> \u2192 new_node" in rows
    element(desktop, "#leaks-rows summary").click()
    assert "new_node n.c:14" in " ".join(text_of(desktop, "#leaks-rows li").split())

    element(desktop, "#tab-diff").click()
    rows = text_of(desktop, "#diff-rows")
    assert "grown" in rows
    assert "+1.91 MiB \u00b1 0.19 MiB" in rows
    assert "\u2212488.3 KiB" in rows
    assert_quiet(desktop)


def test_the_budget_names_who_is_over(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["report"])
    rows = text_of(desktop, "#budget-rows")
    assert "alloc_rate of <b>x</b>" in rows
    assert "2.86 MiB/s \u00b1 0.19 MiB/s" in rows
    assert "1.91 MiB/s" in rows
    assert "the check would have found a leak of 1 MiB" in rows
    assert "no line for this site" in rows
    who = " ".join(text_of(desktop, "#panel-budget .culprits").split())
    assert "2.86 MiB/s \u00b1 0.19 MiB/s new_node n.c:14 the largest main \u2192 new_node" in who
    heads = text_of(desktop, "#panel-budget h2")
    assert heads == "alloc_rate of <b>x</b>: the largest lines, old or new"
    element(desktop, "#panel-budget summary").click()
    assert "main x" in " ".join(text_of(desktop, "#panel-budget li li:last-child").split())
    assert_quiet(desktop)


def test_tabs_answer_to_arrow_keys(desktop: Any, pages: dict[str, str]) -> None:
    open_page(desktop, pages["report"], "#tab=summary")
    element(desktop, "#tab-summary").send_keys(Keys.ARROW_RIGHT)

    assert element(desktop, "#panel-table").is_displayed()
    assert desktop.switch_to.active_element.get_attribute("id") == "tab-table"


def test_a_phone_selects_by_tap_and_zooms_by_the_next(phone: Any, pages: dict[str, str]) -> None:
    open_page(phone, pages["flame"])
    assert not element(phone, "#toggle-invert").is_displayed()
    element(phone, "#options-button").click()
    assert element(phone, "#toggle-invert").is_displayed()
    element(phone, "#options-button").click()

    tap(phone, 2)
    until(phone, lambda d: title(d) == "serve")
    assert "zoom=" not in fragment(phone)
    tap(phone, 2)
    until(phone, lambda d: "zoom=" in fragment(d))
    assert_quiet(phone)


def tap(driver: Any, row: int) -> None:
    box = driver.execute_script(
        "const b = document.querySelector('.flame-canvas').getBoundingClientRect();"
        "return [b.left, b.top, b.width]"
    )
    height = 26 if driver.execute_script("return matchMedia('(pointer: coarse)').matches") else 19
    point = {"x": round(box[0] + 0.3 * box[2]), "y": round(box[1] + (row + 0.5) * height)}
    driver.execute_cdp_cmd(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]}
    )
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
