"""The tabs of a report in headless Chromium: bars, widths, verdicts, and what every tab counts."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import NEEDS_BROWSER, assert_quiet, element, open_page, text_of, until
from mem_parser.diff import diff_by
from mem_parser.model import Count, Profile
from mem_parser.symbols.table import Function, Symbols
from mem_parser.web import flamegraph, report
from mem_parser.web.facts import Opening
from mem_parser.web.measures import measures
from web_profiles import LEAKS, SERVER, Site, make_profile

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
ActionChains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
pytestmark = NEEDS_BROWSER

MIB = 1 << 20
TEMPLATE = (
    "route::detail::Session<std::pair<unsigned long, std::__cxx11::basic_string<char, "
    "std::char_traits<char>, std::allocator<char> > >, Policy>::add_{}(std::vector<int> const&)"
)


@pytest.fixture
def wide_or_narrow(desktop: Any) -> Iterator[Any]:
    yield desktop
    desktop.set_window_size(1280, 900)


def saved(text: str, folder: Path) -> str:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


def counted(
    sites: Sequence[Site] = SERVER, rate: float = 1.0, **more: Any
) -> tuple[Profile, Symbols]:
    """A profile that has every count; at its peak the program held twice what it allocated, half
    of what is in use is resident, an eighth on huge pages, and a quarter swapped.
    """
    profile, symbols = make_profile(sites, rate=rate, **more)
    profile.sites.peak_blocks = 2 * profile.sites.alloc_blocks
    profile.sites.peak_bytes = 2 * profile.sites.alloc_bytes
    for name, share in (("resident", 2), ("huge", 8), ("swapped", 4)):
        part = profile.sites.inuse_bytes // share
        setattr(profile.sites, f"{name}_bytes", part)
        setattr(profile.sites, f"{name}_squares", part.astype(np.float64) ** 2)
    return profile, symbols


def boxes(driver: Any, selector: str) -> list[dict[str, float]]:
    """Left and width of all elements of a selector, in CSS pixels."""
    found: list[dict[str, float]] = driver.execute_script(
        """return [...document.querySelectorAll(arguments[0])].map((e) => {
             const b = e.getBoundingClientRect();
             return {left: b.left, width: b.width, right: b.right};
           });""",
        selector,
    )
    return found


def choose(driver: Any, name: str, text: str) -> None:
    select = element(driver, f"[data-choice={name}] select")
    next(o for o in select.find_elements(By.TAG_NAME, "option") if o.text == text).click()


def test_bars_of_one_panel_have_one_zero_and_one_scale(desktop: Any, tmp_path: Path) -> None:
    # Texts of very different lengths stand beside the bars.
    sizes = [6_390_000, 6_750_000, 512, 40_000_000, 1_000_000]
    sites = [Site(f"main f{k}", 1 + 7 * k, size) for k, size in enumerate(sizes)]
    open_page(desktop, saved(report.render(*make_profile(sites, rate=65536.0)), tmp_path))

    panel = ".panels > section:first-child"
    spaces, fills = boxes(desktop, f"{panel} .bar-space"), boxes(desktop, f"{panel} .bar-fill")
    assert len(spaces) == len(sizes)
    assert {round(b["left"]) for b in spaces} == {round(spaces[0]["left"])}
    assert {round(b["width"]) for b in spaces} == {round(spaces[0]["width"])}
    held = sorted((float((1 + 7 * k) * size) for k, size in enumerate(sizes)), reverse=True)
    for fill, value in zip(fills, held, strict=True):
        assert fill["width"] == pytest.approx(spaces[0]["width"] * value / held[0], abs=2)


def test_bars_in_a_table_are_to_scale_over_all_its_columns(desktop: Any, tmp_path: Path) -> None:
    sites = [Site("main load", 3, MIB), Site("main load store", 1, MIB)]
    open_page(desktop, saved(report.render(*make_profile(sites)), tmp_path), "#tab=table")
    element(desktop, "#functions-rows th[data-key=total] button").click()

    drawn = desktop.execute_script(
        """return [...document.querySelectorAll("#functions-rows tbody tr")].map((row) =>
             [row.querySelector("td.main").innerText, ...[...row.querySelectorAll("td.bar")].map(
               (cell) => parseFloat(getComputedStyle(cell).backgroundSize))]);"""
    )
    bars = {name: widths for name, *widths in drawn}
    assert bars["main"] == [0, 100, 100]
    assert bars["load"] == [75, 100, 100]
    assert bars["store"] == [25, 25, 25]


def test_places_of_memory_are_no_parts_of_the_slack(desktop: Any, tmp_path: Path) -> None:
    profile, symbols = make_profile(SERVER)
    profile.capture.memory = dataclasses.replace(
        profile.capture.memory, rss_bytes=353 * MIB, anon_bytes=345 * MIB, heap_bytes=72 * MIB
    )
    open_page(desktop, saved(report.render(profile, symbols), tmp_path))

    lines = desktop.find_elements(By.CSS_SELECTOR, ".account:not(.places) tr")
    assert lines[-1].text.startswith("Resident (RSS) 353.0 MiB")
    assert not [line.text for line in lines if "[heap]" in line.text or "of it" in line.text]
    places = [e.text for e in desktop.find_elements(By.CSS_SELECTOR, ".account.places tr")]
    assert places == [
        "in [heap] 72.00 MiB 20.9 %",
        "+ mapped otherwise 272.9 MiB 79.1 %",
        "heap in use and slack 344.9 MiB 100.0 %",
    ]


def test_a_growth_below_its_error_is_no_rate(desktop: Any, tmp_path: Path) -> None:
    one_sample = {
        "verdict": "inconclusive", "bytes": 65536.0, "std_error": 65536.0, "samples": 1,
        "lower95": 1e3, "upper95": 3e5, "bytes_per_hour": 7.2e7, "bytes_per_hour_lower95": 1e6,
        "bytes_per_hour_upper95": 2.1e8, "growth": "", "evidence": "Only 1 sample.", "stack": [],
    }  # fmt: skip
    page = report.render(*make_profile(SERVER), leaks={"rows": [LEAKS["rows"][0], one_sample]})
    open_page(desktop, saved(page, tmp_path), "#tab=leaks")

    cells = [e.text for e in desktop.find_elements(By.CSS_SELECTOR, "#leaks-rows tbody tr")]
    assert "+3.81 MiB/h \u00b1 0.95" in cells[0]
    assert "too few samples to tell" in cells[1]
    assert "/h" not in cells[1]


def limit(name: str, excess: float | None, note: str) -> dict[str, Any]:
    """A row of a budget's report."""
    return {
        "verdict": "fail" if excess else "pass", "measure": "peak", "name": name, "limit": 2e6,
        "value": 1e6, "lower95": 9e5, "upper95": 1.1e6, "excess": excess, "notes": [note],
    }  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
def test_a_budget_has_no_column_of_nothing_and_its_notes_have_the_room(
    wide_or_narrow: Any, tmp_path: Path, width: int
) -> None:
    wide_or_narrow.set_window_size(width, 900)
    rows = [limit("peak", None, "the check would have found a steady leak " * 4)]
    for excess in (None, 1e6):
        rows.append(limit("peak of function:^cache$", excess, ""))
        page = report.render(*make_profile(SERVER), budget={"rows": rows})
        open_page(wide_or_narrow, saved(page, tmp_path), "#tab=budget")
        heads = text_of(wide_or_narrow, "#budget-rows thead").split()
        assert ("Over" in heads) is (excess is not None)
    if width == 1280:
        name, note = (boxes(wide_or_narrow, f"#budget-rows td.{c}")[0] for c in ("main", "words"))
        assert note["width"] > 2 * name["width"]
    empty = wide_or_narrow.find_elements(By.CSS_SELECTOR, "#budget-rows td.empty")
    assert empty
    assert {cell.is_displayed() for cell in empty} == {width == 1280}


def many_leaks() -> dict[str, Any]:
    """Verdicts on 6,339 stacks, those of the worst verdict first."""
    verdicts = ["leak"] * 3 + ["inconclusive"] * 6197 + ["cache-like"] * 100 + ["young"] * 39
    return {
        "rows": [
            {"verdict": verdict, "bytes": 1048576.0, "std_error": 1024.0, "samples": 20,
             "lower95": 1e6, "upper95": 1.1e6, "bytes_per_hour": None, "evidence": "",
             "stack": [{"function": TEMPLATE.format(k), "file": "/src/r.cc", "line": k}]}
            for k, verdict in enumerate(verdicts)
        ],
    }  # fmt: skip


def test_a_name_without_room_keeps_its_library_and_one_row_is_one(
    desktop: Any, tmp_path: Path
) -> None:
    name = "unnamed function in libprotobuf.so.32"
    functions = {"f0": Function(name, name, "/lib/libprotobuf.so.32", "")}
    page = report.render(*make_profile([Site("f0", 10, 65536)], functions=functions))
    open_page(desktop, saved(page, tmp_path), "#tab=table")
    tail = text_of(desktop, "#panel-table .name-tail")
    assert tail == "libprotobuf.so.32"
    assert text_of(desktop, "#panel-table .table-tools [role=status]") == "1 row"
    assert_quiet(desktop)


def test_no_verdict_is_cut_away_and_what_is_cut_is_counted(desktop: Any, tmp_path: Path) -> None:
    page = report.render(*make_profile(SERVER, rate=1024.0), leaks=many_leaks())
    open_page(desktop, saved(page, tmp_path), "#tab=leaks")

    counts = text_of(desktop, "#panel-leaks .verdict-counts").split()
    assert counts == ["leak", "3", "inconclusive", "6,197", "cache-like", "100", "young", "39"]
    left_out = text_of(desktop, "#panel-leaks .left-out")
    assert left_out.endswith("inconclusive 4,339 more, 4.24 GiB")
    assert left_out.count("more") == 1
    for verdict, rows in (("leak", 3), ("inconclusive", 1858), ("cache-like", 100), ("young", 39)):
        box = element(desktop, "#leaks-search")
        box.clear()
        box.send_keys(verdict)
        until(desktop, lambda d, n=rows: f"{n:,} of 2,000 rows" in text_of(d, "#panel-leaks"))
    assert_quiet(desktop)


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report whose functions have names longer than any column."""
    sites = [Site(f"main f{k}", 100 + 17 * k, 977 * (k + 3)) for k in range(12)]
    library, source = "/opt/lib/librouting-engine.so.4", "/code/src/route/session.cc"
    functions = {
        f"f{k}": Function(TEMPLATE.format(k), TEMPLATE.format(k), library, source)
        for k in range(12)
    }
    made = counted(sites, 4096.0, functions=functions)
    return saved(report.render(*made, leaks=many_leaks()), tmp_path_factory.mktemp("names"))


@pytest.mark.parametrize(("width", "name_share"), [(700, 0.33), (1170, 0.36), (2560, 0.4)])
@pytest.mark.parametrize("tab", ["table", "leaks"])
def test_names_get_the_free_width(
    wide_or_narrow: Any, long_names: str, width: int, name_share: float, tab: str
) -> None:
    driver = wide_or_narrow
    driver.set_window_size(width, 900)
    open_page(driver, long_names, f"#tab={tab}")

    frame = driver.execute_script(
        f"""const frame = document.querySelector("#panel-{tab} .table-frame");
            return [frame.clientWidth, frame.scrollWidth, innerWidth];"""
    )
    assert frame[1] <= frame[0]
    assert frame[0] > 0.9 * frame[2]
    shown = boxes(driver, f"#panel-{tab} td.main")
    share = name_share if tab == "table" else name_share - 0.08
    assert min(box["width"] for box in shown) > share * frame[0]
    titles = driver.execute_script(
        f"""return [...document.querySelectorAll("#panel-{tab} td.main [title]")].map(
              (e) => e.title);"""
    )
    whole = map(TEMPLATE.format, range(12 if tab == "table" else 1))
    assert all(any(name in title for title in titles) for name in whole)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert_quiet(driver)


def hovered(driver: Any) -> Any:
    """Rest the pointer on a frame until the tooltip shows; each time on another point."""
    canvas = element(driver, ".flame-canvas")
    size = canvas.size
    for x in (0, 3):
        ActionChains(driver).move_to_element_with_offset(
            canvas, x, round(19 * 1.5 - size["height"] / 2)
        ).perform()
    return until(driver, lambda d: element(d, ".tooltip").is_displayed())


def test_a_tooltip_goes_when_what_it_stands_beside_changes(desktop: Any, tmp_path: Path) -> None:
    open_page(desktop, saved(flamegraph.render(*make_profile(SERVER)), tmp_path))
    tip = element(desktop, ".tooltip")

    def gone() -> None:
        until(desktop, lambda _: not tip.is_displayed())

    hovered(desktop)
    ActionChains(desktop).send_keys("i").perform()
    gone()
    hovered(desktop)
    ActionChains(desktop).context_click().perform()
    gone()
    element(desktop, "#leave-sandwich").click()
    for event in ("blur", "resize"):
        hovered(desktop)
        desktop.execute_script(f"window.dispatchEvent(new Event('{event}'))")
        gone()
    hovered(desktop)
    ActionChains(desktop).scroll_by_amount(0, 10).perform()
    gone()
    hovered(desktop)
    ActionChains(desktop).move_to_element(element(desktop, "h1")).perform()
    gone()
    assert_quiet(desktop)


def test_an_open_help_dialog_has_the_keys_to_itself(desktop: Any, tmp_path: Path) -> None:
    open_page(desktop, saved(flamegraph.render(*make_profile(SERVER)), tmp_path))
    dialog = element(desktop, "dialog.help")
    state = "return location.hash + document.querySelector('.details').innerText"
    before = desktop.execute_script(state)

    def send(*keys: str) -> None:
        ActionChains(desktop).send_keys(*keys).perform()

    for close in ("?", Keys.ESCAPE):
        send("?")
        until(desktop, lambda _: dialog.is_displayed())
        send("i", "f", "b", "v", Keys.ARROW_DOWN, Keys.BACKSPACE, "0")
        # With the focus on nothing in the dialog, too.
        desktop.execute_script("document.activeElement.blur()")
        send("i", "f", "b", "v", "t", "/")
        assert dialog.is_displayed()
        assert desktop.execute_script(state) == before
        send(close)
        until(desktop, lambda _: not dialog.is_displayed())
    send("i")
    assert "invert=1" in desktop.execute_script(state)
    assert_quiet(desktop)


COUNTED = {
    ("in use", "bytes"): "4.64 MiB",
    ("allocated", "bytes"): "5.64 MiB",
    ("freed", "bytes"): "1.00 MiB",
    ("in use at the peak", "bytes"): "11.28 MiB",
    ("resident", "bytes"): "2.32 MiB",
    ("swapped", "bytes"): "1.16 MiB",
    ("allocated", "blocks"): "78",
}
"""The totals of `counted()`, as every tab says them."""


def everywhere(driver: Any, words: str, total: str) -> None:
    """Check what each tab shows for a choice."""
    assert text_of(driver, ".headline").startswith(f"Total: {total.split(maxsplit=1)[0]}")
    element(driver, "#tab-summary").click()
    assert text_of(driver, ".key-number.chosen .key-value") == total
    for heading in ("By module", "By domain", "By block size"):
        panel = next(
            e
            for e in driver.find_elements(By.CSS_SELECTOR, "#panel-summary .panel")
            if e.find_element(By.TAG_NAME, "h2").text == heading
        )
        assert words in panel.text
    assert f"server {total} (100.0 %)" in " ".join(text_of(driver, "#panel-summary").split())
    element(driver, "#tab-table").click()
    assert words in text_of(driver, "#panel-table")
    head = element(driver, "#functions-rows th[data-key=total]")
    if head.get_attribute("aria-sort") == "none":
        head.find_element(By.TAG_NAME, "button").click()
    main = next(
        row
        for row in driver.find_elements(By.CSS_SELECTOR, "#functions-rows tbody tr")
        if row.find_element(By.CSS_SELECTOR, "td.main").text == "main"
    )
    assert main.find_elements(By.CSS_SELECTOR, "td.number")[1].text == total
    element(driver, "#tab-graph").click()
    assert words in text_of(driver, "#panel-graph")
    element(driver, "#tab-diff").click()
    assert words in text_of(driver, "#panel-diff")
    element(driver, "#tab-tree").click()
    assert text_of(driver, ".tree-value") == total
    element(driver, "#tab-flame").click()
    assert f"now {total}" in text_of(driver, ".details-facts").replace("\n", " ")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of reports with a base, by the count that they open with."""
    folder = tmp_path_factory.mktemp("compared")
    new, base = counted(), counted(SERVER[:3])
    choices = {name: (count, unit) for name, count, unit in measures(new[0], base[0])}
    found = diff_by(base, new, choices.values())
    diff = {name: d.as_json() for name, d in zip(choices, found, strict=True)}
    pages = {}
    for count in Count:
        text = report.render(
            *new, base=base, diff=diff, leaks=LEAKS, start=Opening(count, hide_allocators=True)
        )
        (folder / f"{count}.html").write_text(text, encoding="utf-8")
        pages[str(count)] = (folder / f"{count}.html").as_uri()
    return pages


def test_switching_the_count_moves_every_tab(desktop: Any, compared: dict[str, str]) -> None:
    open_page(desktop, compared["inuse"])
    # The tests below see the others everywhere.
    for (count, unit), total in list(COUNTED.items())[::2]:
        element(desktop, "#tab-summary").click()
        choose(desktop, "count", count)
        choose(desktop, "unit", unit)
        everywhere(desktop, f"{unit} {count}", total)
    assert_quiet(desktop)


@pytest.mark.parametrize(
    ("start", "count"),
    [("peak", "in use at the peak"), ("freed", "freed"), ("resident", "resident")],
)
def test_a_report_opens_on_its_count_in_every_tab(
    desktop: Any, compared: dict[str, str], start: str, count: str
) -> None:
    open_page(desktop, compared[start])

    everywhere(desktop, f"bytes {count}", COUNTED[count, "bytes"])
    for tab, said in (("leaks", "counts bytes in use"), ("threads", "Blocks in use by the thread")):
        element(desktop, f"#tab-{tab}").click()
        assert said in text_of(desktop, f"#panel-{tab}")
        assert not element(desktop, "#choice").is_displayed()


def test_blocks_of_resident_are_blocks_in_use(desktop: Any, compared: dict[str, str]) -> None:
    open_page(desktop, compared["resident"], "#tab=summary")
    numbers = {e.text for e in desktop.find_elements(By.CSS_SELECTOR, ".key-label")}
    assert {"resident", "on huge pages", "swapped", "blocks in use"} <= numbers
    assert len(desktop.find_elements(By.CSS_SELECTOR, ".key-number")) == len(numbers)
    account = text_of(desktop, "table.in-use").splitlines()
    assert account[0].startswith("resident 2.32 MiB")
    assert account[1].startswith("not resident: never touched, given back or swapped 2.32 MiB")
    assert account[2].startswith("of which swapped 1.16 MiB")
    assert account[3].startswith("of what is resident, on huge pages 594")
    choose(desktop, "unit", "blocks")
    assert text_of(desktop, ".headline").startswith("Total: 54 blocks in use")
    assert text_of(desktop, ".key-number.chosen .key-label") == "blocks in use"
    assert_quiet(desktop)


def test_what_the_flame_graph_is_switched_to_the_other_tabs_count(
    desktop: Any, compared: dict[str, str]
) -> None:
    open_page(desktop, compared["inuse"], "#tab=flame")
    ActionChains(desktop).send_keys("v", "b").perform()
    assert "freed" in text_of(desktop, ".headline")

    element(desktop, "#tab-table").click()
    assert "blocks freed" in text_of(desktop, "#panel-table")
    box = element(desktop, "#functions-search")
    box.send_keys("reply")
    choose(desktop, "count", "allocated")
    assert element(desktop, "#functions-search").get_attribute("value") == "reply"
    assert text_of(desktop, "#functions-rows td.main") == "reply"
    desktop.back()
    until(desktop, lambda d: "blocks freed" in text_of(d, "#panel-table"))
    assert_quiet(desktop)


def test_modules_domains_and_threads_add_up(desktop: Any, tmp_path: Path) -> None:
    functions = {"load": Function("load", "load", "/lib/load.so", "/src/load.c")}
    page = saved(report.render(*make_profile(SERVER, functions=functions)), tmp_path)

    open_page(desktop, page)
    shown = text_of(desktop, "#panel-summary")
    open_page(desktop, page, "#tab=threads")
    threads = text_of(desktop, "#threads-rows")

    for words in ("server 4.63 MiB", "load.so 16.00 KiB", "host 2.64 MiB", "hal-0 2.00 MiB"):
        assert words in " ".join(shown.split())
    assert "2.64 MiB 56.9 %" in " ".join(threads.split())
    assert threads.index("main") < threads.index("worker")


def test_whole_numbers_show_to_the_last_digit(desktop: Any, tmp_path: Path) -> None:
    page = saved(report.render(*make_profile([Site("main work", 1_234_567, 16)])), tmp_path)

    open_page(desktop, page, "#tab=table&unit=objects")

    assert "1,234,567" in text_of(desktop, "#functions-rows td.number")


def test_an_empty_profile_has_empty_tabs_and_no_error(desktop: Any, tmp_path: Path) -> None:
    page = report.render(*make_profile([Site("main", 2, 64, freed=2)]))
    open_page(desktop, saved(page, tmp_path))

    assert "nothing" in text_of(desktop, ".panels > section:first-child")
    for tab in ("table", "flame", "graph", "tree"):
        element(desktop, f"#tab-{tab}").click()
    element(desktop, "#tab-graph").click()
    assert "There is no drawing of bytes in use." in text_of(desktop, "#panel-graph")
    choose(desktop, "count", "allocated")
    assert "main" in text_of(desktop, ".call-graph-svg")
    assert_quiet(desktop)


def test_the_key_of_the_theme_works_on_every_tab(desktop: Any, tmp_path: Path) -> None:
    page = saved(report.render(*counted(), leaks=LEAKS), tmp_path)
    open_page(desktop, page, "#theme=light")

    def theme() -> str:
        return str(desktop.execute_script("return document.documentElement.dataset.theme"))

    def ground() -> str:
        return str(desktop.execute_script("return getComputedStyle(document.body).backgroundColor"))

    light = ground()
    for tab in ("summary", "table", "flame", "graph", "tree", "threads", "leaks"):
        element(desktop, f"#tab-{tab}").click()
        element(desktop, f"#tab-{tab}").send_keys("t")
        until(desktop, lambda _: theme() == "dark")
        assert "theme=dark" in desktop.execute_script("return location.hash")
        assert ground() != light
        element(desktop, "body").send_keys("t")
        until(desktop, lambda _: theme() == "light")
    for held in (Keys.CONTROL, Keys.ALT):
        ActionChains(desktop).key_down(held).send_keys("t").key_up(held).perform()
    box = element(desktop, "#filter-focus")
    box.send_keys("t")
    assert box.get_attribute("value") == "t"
    assert theme() == "light"
    assert_quiet(desktop)


def test_the_key_of_the_theme_leaves_dialogs_and_searches_alone(
    desktop: Any, tmp_path: Path
) -> None:
    open_page(desktop, saved(flamegraph.render(*counted()), tmp_path), "#theme=light")
    element(desktop, "#search").send_keys("t")
    element(desktop, "#help-button").click()
    element(desktop, "dialog button").send_keys("t")
    ActionChains(desktop).send_keys("t").perform()
    assert element(desktop, "dialog").is_displayed()
    assert desktop.execute_script("return document.documentElement.dataset.theme") == "light"
    ActionChains(desktop).send_keys(Keys.ESCAPE, "t").perform()
    assert desktop.execute_script("return document.documentElement.dataset.theme") == "dark"


def test_the_first_line_says_which_thread_and_count_are_shown(desktop: Any, tmp_path: Path) -> None:
    page = saved(report.render(*counted(), leaks=LEAKS), tmp_path)
    open_page(desktop, page, "#tab=flame&count=alloc&thread=1")

    first = text_of(desktop, ".headline")
    assert first.startswith(
        "Thread worker: 2.00 MiB in use (43.1 %) \u00b7 Total: 4.641 MiB in use"
    )
    element(desktop, "#tab-tree").click()
    assert text_of(desktop, ".headline") == first
    assert "bytes in use, thread worker" in text_of(desktop, "#panel-tree")
    element(desktop, "#tab-table").click()
    assert text_of(desktop, ".headline").startswith("Total: 5.641 MiB allocated")
    element(desktop, "#tab-threads").click()
    assert text_of(desktop, ".headline").startswith("Total: 4.641 MiB in use")
    element(desktop, "#tab-flame").click()
    domain = element(desktop, "[data-setting=domain] select")
    next(o for o in domain.find_elements(By.TAG_NAME, "option") if o.text == "host").click()
    assert text_of(desktop, ".headline").startswith("Thread worker, domain host: 0 B in use")
    thread = element(desktop, "[data-setting=thread] select")
    next(o for o in thread.find_elements(By.TAG_NAME, "option") if o.text == "all threads").click()
    assert text_of(desktop, ".headline").startswith("Domain host: 3.64 MiB allocated (64.5 %)")
    assert_quiet(desktop)


def test_boxes_on_a_tab_without_threads_count_all_of_them(desktop: Any, tmp_path: Path) -> None:
    page = saved(report.render(*counted()), tmp_path)
    open_page(desktop, page, "#tab=flame&thread=1&focus=read_file")
    said = "only focus read_file: 2.00 MiB of {} in use"
    assert said.format("2.00 MiB (100.0 %)") in text_of(desktop, ".filter-note")
    element(desktop, "#tab-summary").click()
    assert said.format("4.64 MiB (43.1 %)") in text_of(desktop, ".filter-note")
