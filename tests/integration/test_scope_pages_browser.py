"""The pages of dumps of device memory in headless Chromium, against what the commands say."""

import csv
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER, Shown
from mem_cli.errors import run_command
from mem_cli.parser.group import cli
from mem_cli.profiler.memscope import memscope
from mem_parser.memscope.compare import Aligned, Comparison, DeviceComparison, Pair, compare_runs
from mem_parser.web import scopecompare
from memscope_dumps import Story
from scope_pages import MIB, scale, training
from torch_training import collected

ActionChains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
pytestmark = NEEDS_BROWSER

HOSTILE = "<img src=x onerror=document.title='bad'></script>"
TREE_ROWS = """
return [...document.querySelectorAll("#class-tree tbody tr")].map((row) =>
  [...row.cells].map((cell) => cell.innerText.trim()));
"""
TABLE_ROWS = """
return [...document.querySelectorAll(`#${arguments[0]}-rows tbody tr:not(.filler)`)].map((row) =>
  [...row.cells].map((cell) => cell.innerText.trim()));
"""
OVERFLOWS = "return document.documentElement.scrollWidth > innerWidth"
# A phone's window grows with what is in it.
PHONE = 390
WIDTH = "return document.documentElement.scrollWidth"


@pytest.fixture
def driver(desktop: Any) -> Iterator[Any]:
    yield desktop
    desktop.get_log("browser")


@pytest.fixture
def page_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    def make(*words: object, name: str = "page.html") -> Path:
        page = tmp_path / name
        code = run_command(cli, "mem_parser", ["memscope", *map(str, words), "-o", str(page)])
        assert code == 0, capsys.readouterr().err
        return page

    return make


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    def make(base: str, other: str, *words: str) -> Path:
        page = tmp_path / "compared.html"
        arguments = ["--compare", "--input", f"{base},{other}", *words, "-o", str(page)]
        assert run_command(memscope, "mem_profiler memscope", arguments) == 0
        capsys.readouterr()
        return page

    return make


def pools_of(dump: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the command says of a dump."""
    capsys.readouterr()
    assert run_command(cli, "mem_parser", ["memscope", "--json", dump]) == 0
    pools: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["files"][0]["pools"]
    return pools


def classes_shown(shown: Shown) -> dict[str, float]:
    """Bytes by class, and the total, of the chosen moment."""
    return {row[0].lstrip("▸▾ "): scale(row[1]) for row in shown.run(TREE_ROWS)}


def assert_shows(shown: Shown, moment: dict[str, Any]) -> None:
    found = classes_shown(shown)
    # A class without any block has no row.
    classes = {name: size for name, size in moment["bytes"].items() if size or name in found}
    expected = classes | {"Total": moment["total_bytes"]}
    assert found == pytest.approx(expected, rel=0.005, abs=0.5)


def click_step(shown: Shown, step: int, steps: int) -> None:
    plot = shown.element("#class-plot")
    x = (step + 0.5) / steps * plot.size["width"] - plot.size["width"] / 2
    ActionChains(shown.driver).move_to_element_with_offset(plot, round(x), 0).click().perform()


# --- classes -----------------------------------------------------------------------------------


def test_the_classes_of_steps_and_of_the_peak_are_those_of_the_command(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = training(7).csv(tmp_path)
    [pool] = [pool for pool in pools_of(dump, capsys) if pool["pool"] == "PTA"]
    shown = Shown(driver, page_of(dump).as_uri())
    assert "device 0, PTA" in shown.text(".headline")
    assert_shows(shown, pool["peak"])

    click_step(shown, 2, 7)
    assert shown.text("#class-text").startswith("Peak of step 3,")
    assert_shows(shown, pool["steps"][2]["peak"])
    # The plot has the focus.
    for key, step in ((Keys.ARROW_RIGHT, 3), (Keys.END, 6), (Keys.ARROW_LEFT, 5), (Keys.HOME, 0)):
        driver.switch_to.active_element.send_keys(key)
        assert_shows(shown, pool["steps"][step]["peak"])
        plot = shown.element("#class-plot")
        assert plot.get_attribute("aria-valuenow") == str(step)
        assert f"step {step + 1}" in plot.get_attribute("aria-valuetext")
    driver.switch_to.active_element.send_keys("p")
    assert shown.text("#class-text").startswith("Peak of all, in step")
    assert_shows(shown, pool["peak"])

    shown.element("#go-before").click()
    shown.element("[data-choice=when] option[value=end]").click()
    at = next(k for k, step in enumerate(pool["steps"]) if step["peak"] == pool["peak"])
    assert_shows(shown, pool["steps"][at - 1]["end"])
    shown.element("#class-peak").click()
    assert_shows(shown, pool["peak"])
    shown.assert_quiet()


def test_a_class_opens_to_its_owners_by_mouse_and_by_keyboard(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path
) -> None:
    shown = Shown(driver, page_of(training(3).csv(tmp_path)).as_uri())
    shown.element("#class-tree .class-row").click()
    rows = shown.run(TREE_ROWS)
    assert rows[0][0] == "▾weight"
    owners = [(f"PTA@weight@ops@layer {k}", f"{k + 1}.00 MiB", "1") for k in (3, 2, 1, 0)]
    assert [(row[0], row[1], row[3]) for row in rows[1:5]] == owners
    shares = [float(row[2].removesuffix(" %")) for row in rows[1:5]]
    assert sum(shares) == pytest.approx(float(rows[0][2].removesuffix(" %")), abs=0.1)
    total = scale(rows[-1][1])
    assert shares[0] == pytest.approx(100 * 4 * MIB / total, abs=0.06)

    def press(*keys: str) -> Any:
        for key in keys:
            driver.switch_to.active_element.send_keys(key)
        return driver.switch_to.active_element

    press(Keys.ARROW_LEFT)
    assert shown.run(TREE_ROWS)[0][0] == "▸weight"
    assert len(shown.run(TREE_ROWS)) == len(rows) - 4
    names = [row[0] for row in shown.run(TREE_ROWS)]
    press(*[Keys.ARROW_DOWN] * names.index("▸activation"))
    assert press(Keys.ENTER).get_attribute("aria-expanded") == "true"
    assert press(Keys.ARROW_RIGHT).get_attribute("aria-level") == "2"
    # The operators that allocated its blocks.
    assert press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).get_attribute("aria-level") == "3"
    rows = shown.run(TREE_ROWS)
    at = next(k for k, row in enumerate(rows) if row[0] == "▾PTA@activation@ops")
    operators = {row[0]: (scale(row[1]), int(row[3])) for row in rows[at + 1 : at + 3]}
    assert set(operators) == {"aten.mm.default", "aten.relu.default"}
    assert sum(size for size, _ in operators.values()) == scale(rows[at][1])
    assert sum(blocks for _, blocks in operators.values()) == 4
    assert press(Keys.ARROW_LEFT).get_attribute("aria-level") == "2"
    assert press(Keys.ARROW_LEFT, Keys.ARROW_LEFT).get_attribute("aria-level") == "1"
    shown.assert_quiet()


def test_the_change_of_a_row_is_that_since_the_step_before(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path
) -> None:
    shown = Shown(driver, page_of(training(3).csv(tmp_path)).as_uri(), "#step=1&when=end")
    changes = {row[0].lstrip("▸▾"): row[4] for row in shown.run(TREE_ROWS)}
    assert changes == {
        "weight": "0 B", "gradient": "0 B", "input": "0 B", "activation": "0 B",
        "cache": "+256.0 KiB", "unknown": "+1,000 B", "Total": "+257.0 KiB",
    }  # fmt: skip


def test_bars_are_as_high_as_their_bytes(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = training(4).csv(tmp_path)
    [pool] = [pool for pool in pools_of(dump, capsys) if pool["pool"] == "PTA"]
    shown = Shown(driver, page_of(dump).as_uri())
    bars: list[list[list[float]]] = shown.run(
        """return [...document.querySelectorAll(".class-area")].map((path) =>
             [...path.getAttribute("d").matchAll(/M([\\d.]+),([\\d.]+)V([\\d.]+)/g)]
               .map((found) => found.slice(1).map(Number)));"""
    )
    unit = (bars[0][0][1] - bars[0][0][2]) / pool["steps"][0]["peak"]["bytes"]["weight"]
    top = {x: low for x, low, _ in bars[0]}
    for name, found in zip(pool["peak"]["bytes"], bars, strict=True):
        expected = [step["peak"]["bytes"][name] * unit for step in pool["steps"]]
        heights = [low - high for _, low, high in found]
        assert heights == pytest.approx([h for h in expected if h], abs=0.03)
        # Each stands on the one below.
        assert [low for _, low, _ in found] == [top[x] for x, _, _ in found]
        top |= {x: high for x, _, high in found}
    mark, plot = (shown.element(s).rect for s in (".class-mark", "#class-plot"))
    assert mark["width"] == pytest.approx(plot["width"] / 4, abs=1)


def test_all_steps_are_a_table_and_each_leads_to_its_classes(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = training(12).csv(tmp_path)
    [pool] = [pool for pool in pools_of(dump, capsys) if pool["pool"] == "PTA"]
    shown = Shown(driver, page_of(dump).as_uri(), "#tab=steps")
    rows = shown.run(TABLE_ROWS, "steps")
    expected = [[s["peak"]["total_bytes"], *s["peak"]["bytes"].values()] for s in pool["steps"]]
    assert [row[0] for row in rows] == [str(k + 1) for k in range(12)]
    for row, numbers in zip(rows, expected, strict=True):
        assert [scale(cell) for cell in row[1:]] == pytest.approx(numbers, rel=0.005, abs=0.5)
    shown.element("#steps-rows tbody tr:nth-child(5) .link").click()
    assert "step=4" in shown.fragment
    assert_shows(shown, pool["steps"][4]["peak"])
    driver.back()
    shown.until(lambda: "tab=steps" in shown.fragment)


def test_each_pool_of_each_file_can_be_chosen(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dumps = [training(3).csv(tmp_path, "a.csv"), training(5, 2).db(tmp_path, "b.db")]
    shown = Shown(driver, page_of(*dumps).as_uri())
    options = shown.texts("[data-choice=pool] option")
    assert options == [f"{f}: device 0, {p}" for f in ("a.csv", "b.db") for p in ("HAL", "PTA")]
    for k, dump in enumerate(dumps):
        for j, pool in enumerate(pools_of(dump, capsys)):
            shown.element(f"[data-choice=pool] option[value='{2 * k + j}']").click()
            assert_shows(shown, pool["peak"])
            assert shown.text(".panel-classes .faint").startswith(f"{len(pool['steps'])} steps")
    shown.assert_quiet()


def test_a_dump_without_steps_is_drawn_over_its_time(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path
) -> None:
    story = Story()
    for k in range(1, 300):
        story.malloc(0x1000 * k, MIB, "PTA", k, owner="PTA@weight")
    shown = Shown(driver, page_of(story.csv(tmp_path)).as_uri())
    assert "no steps: bars are parts of its time" in shown.text(".panel-classes .faint")
    click_step(shown, 120, 240)
    assert classes_shown(shown)["weight"] == pytest.approx(150 * MIB, abs=2 * MIB)
    assert re.match(r"Peak of [\d.]+ s to [\d.]+ s", shown.text("#class-text"))
    shown.assert_quiet()


def test_a_peak_behind_the_last_step_is_in_no_bar(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path
) -> None:
    story = training(2)
    story.malloc(0x10, 99 * MIB, "PTA", 1, owner="PTA@ops")
    shown = Shown(driver, page_of(story.csv(tmp_path)).as_uri())
    assert shown.text("#class-text").startswith("Peak of all, at")
    assert classes_shown(shown)["aten"] == 99 * MIB
    assert shown.texts("#class-peak") == []
    assert not shown.element(".class-mark").is_displayed()
    shown.element("#go-after").click()
    assert shown.text("#class-text").startswith("Peak of step 1,")
    shown.assert_quiet()


def test_a_dump_without_blocks_is_a_page_that_says_so(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path
) -> None:
    story = Story()
    story.mark("x")
    shown = Shown(driver, page_of(story.csv(tmp_path)).as_uri())
    assert "no allocations" in shown.text(".panel-classes")
    shown.assert_quiet()


@pytest.mark.parametrize("bad", ["#step=99999", "#pool=7&step=-1&when=x&tab=none", "#theme=x&%"])
def test_a_forged_fragment_is_ignored(
    driver: Any, page_of: Callable[..., Path], tmp_path: Path, bad: str
) -> None:
    shown = Shown(driver, page_of(training(2).csv(tmp_path)).as_uri(), bad)
    assert shown.text("#class-text").startswith("Peak of all")
    shown.assert_quiet()


# --- two runs ----------------------------------------------------------------------------------


def pairs_of(found: Comparison) -> list[list[str]]:
    """The rows of all operators as the page's columns: name, base, compare, difference in bytes."""
    return [[str(row[1]), *map(str, row[3:])] for row in found.rows()]


def in_bytes(row: list[str]) -> list[str]:
    """A row of the page's table as `pairs_of` has it."""
    return [row[1], *("N/A" if cell == "N/A" else str(round(scale(cell))) for cell in row[2:])]


def test_operators_are_side_by_side_with_signed_differences(
    driver: Any, compared: Callable[..., Path], tmp_path: Path
) -> None:
    base, other = Story(), Story()
    for story, told in (
        (base, (("add", 512), ("mul", 896), ("relu", 256), ("sum", -64))),
        (other, (("add", 512), ("drop", 64), ("relu", 128), ("sum", -32))),
    ):
        for k, (name, size) in enumerate(told):
            story.end(name)
            (story.malloc if size > 0 else story.free)(0x1000 * (k + 1), abs(size), "PTA", k)
    # It has no partner, and no bytes.
    base.end("last")
    paths = base.csv(tmp_path, "a.csv"), other.csv(tmp_path, "b.csv")
    expected = pairs_of(compare_runs(*paths))
    assert ["mul", "896", "N/A", "-896"] in expected
    assert ["last", "0", "N/A", "0"] in expected
    shown = Shown(driver, compared(*paths).as_uri(), "#tab=operators")
    assert [in_bytes(row) for row in shown.run(TABLE_ROWS, "operators")] == expected
    assert shown.text(".headline") == (
        "Device 0: 3 operators in both, 2 only in base, 1 only in compare"
    )

    shown.element("#only-differences").click()
    rows = [in_bytes(row) for row in shown.run(TABLE_ROWS, "operators")]
    assert rows == [row for row in expected if row[3] != "0" or "N/A" in row]
    shown.element("#operators-search").send_keys("l")
    assert [row[1] for row in shown.run(TABLE_ROWS, "operators")] == ["mul", "relu", "last"]
    shown.element("#operators-search").clear()
    shown.element("body").send_keys("d")
    assert shown.element("#only-differences").get_attribute("aria-pressed") == "false"
    for key, column in (("name", 1), ("change", 4)):
        shown.element(f"#operators-rows th[data-key={key}] .sort").click()
        cells = [row[column] for row in shown.run(TABLE_ROWS, "operators")]
        order = sorted(cells) if key == "name" else sorted(cells, key=scale, reverse=True)
        assert cells == order
    shown.assert_quiet()


def test_peaks_modules_and_names_are_those_of_the_command(
    driver: Any, compared: Callable[..., Path], tmp_path: Path
) -> None:
    paths = training(4).csv(tmp_path, "a.csv"), training(4, 2, more=5 * MIB).db(tmp_path, "b.db")
    (device,) = compare_runs(*paths).devices
    shown = Shown(driver, compared(*paths).as_uri())
    for peak in device.peaks:
        number = f".key-number[data-kind={peak.kind}]"
        assert scale(shown.text(f"{number} .key-value")) == pytest.approx(peak.bytes[1], rel=0.005)
        assert scale(shown.texts(f"{number} span")[1]) == pytest.approx(
            peak.bytes.change, rel=0.005
        )
    shown.element("#tab-names").click()
    for row, one in zip(shown.run(TABLE_ROWS, "names"), device.by_name(), strict=True):
        assert row[:3] == [one.name, str(one.counts.base), str(one.counts.compare)]
        assert_pair(row[3:], one.bytes)
    shown.element("#tab-modules").click()
    rows = shown.run(TABLE_ROWS, "modules")
    for row, module in zip(rows, device.modules, strict=True):
        assert row[0] in {module.owner, f"{module.kind} {module.owner}"}
        assert_pair(row[1:4], module.at_peak_bytes)
        assert_pair(row[4:], module.allocated_bytes)
    shown.element("#only-differences").click()
    same = [m for m in device.modules if m.at_peak_bytes.change == m.allocated_bytes.change == 0]
    assert len(shown.run(TABLE_ROWS, "modules")) == len(rows) - len(same) < len(rows)
    shown.assert_quiet()


def assert_pair(cells: list[str], pair: Pair) -> None:
    for cell, value in zip(cells, (*pair, pair.change), strict=True):
        if value is None:
            assert cell == "N/A"
        else:
            assert scale(cell) == pytest.approx(value, rel=0.005, abs=0.5)


def test_two_steps_of_one_run_are_compared(
    driver: Any, compared: Callable[..., Path], tmp_path: Path
) -> None:
    dump = training(5).csv(tmp_path)
    shown = Shown(driver, compared(dump, dump, "--steps", "2,4").as_uri(), "#tab=operators")
    expected = compare_runs(dump, dump, steps=("2", "4"))
    assert shown.text("h1") == "memscope_dump_1.csv, steps 2 and 4: memory compared"
    assert [in_bytes(row) for row in shown.run(TABLE_ROWS, "operators")] == pairs_of(expected)
    assert len(pairs_of(expected)) < 10


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand operators a side; every tenth has no partner."""
    operators = []
    for k in range(110_000):
        name = f"aten.op_{k % 97}.default"
        pair = (Pair(k, None), Pair(None, k))[k // 10 % 2] if k % 10 == 0 else Pair(k, k + k % 3)
        operators.append(Aligned("OP_LAUNCH", name, pair))
    page = tmp_path_factory.mktemp("long") / "long.html"
    found = Comparison("a", "b", "op", [DeviceComparison("0", operators, [], [])])
    page.write_text(scopecompare.render(found))
    return page


def test_a_hundred_thousand_operators_a_side_are_drawn_as_one_scrolls(
    driver: Any, long_page: Path
) -> None:
    shown = Shown(driver, long_page.as_uri(), "#tab=operators")

    def places() -> list[int]:
        rows = shown.run(TABLE_ROWS, "operators")
        return [int(row[0].replace(",", "")) for row in rows]

    def scrolled(to: str) -> list[int]:
        shown.run(f"document.querySelector('.panel-operators .table-frame').scrollTop = {to}")
        first = places()
        shown.until(lambda: places() != first or True)
        shown.run("return new Promise((done) => requestAnimationFrame(() => done()))")
        return places()

    assert shown.text(".panel-operators .table-tools .faint") == "110,000 rows"
    assert places()[0] == 1
    assert len(places()) < 200
    assert scrolled("1e9")[-1] == 110_000
    middle = scrolled("document.querySelector('#operators-rows').offsetHeight / 2")
    assert middle == list(range(middle[0], middle[0] + len(middle)))
    assert middle[0] < 55_000 < middle[-1]
    row = shown.element("#operators-rows tr[aria-rowindex='55001']")
    assert row.text.split()[0] == "55,000"
    frame = shown.element(".panel-operators .table-frame").rect
    visible = shown.run(
        """return [...document.querySelectorAll("#operators-rows tbody tr:not(.filler)")]
             .map((row) => row.getBoundingClientRect())
             .reduce(([low, high], box) => [Math.min(low, box.top), Math.max(high, box.bottom)],
                     [Infinity, -Infinity]);"""
    )
    assert visible[0] <= frame["y"] + 30
    assert visible[1] >= frame["y"] + frame["height"]

    shown.element("#only-differences").click()
    shown.type("#operators-search", "op_13.")
    rows = shown.run(TABLE_ROWS, "operators")
    assert {row[1] for row in rows} == {"aten.op_13.default"}
    assert int(rows[0][0].replace(",", "")) == 14
    shown.assert_quiet()


def test_a_phone_shows_the_same_rows_as_cards(phone: Any, long_page: Path) -> None:
    shown = Shown(phone, long_page.as_uri(), "#tab=operators")
    assert len(shown.run(TABLE_ROWS, "operators")) == 150
    shown.run("document.querySelector('.panel-operators > button').click()")
    rows = shown.run(TABLE_ROWS, "operators")
    assert (len(rows), rows[749][0]) == (750, "750")
    assert shown.run(WIDTH) <= PHONE


def test_a_saved_table_has_all_rows_with_plain_numbers(driver: Any, long_page: Path) -> None:
    shown = Shown(driver, long_page.as_uri(), "#tab=operators")
    text = shown.run(
        """let saved = null;
           const make = URL.createObjectURL;
           URL.createObjectURL = (blob) => { saved = blob; return make(blob); };
           HTMLAnchorElement.prototype.click = () => {};
           document.querySelector(".panel-operators .table-tools button").click();
           return saved.text();"""
    )
    rows = list(csv.reader(text.splitlines()))
    assert rows[0] == ["#", "Operator", "Base", "Compare", "Difference"]
    assert len(rows) == 110_001
    assert rows[1] == ["0", "aten.op_0.default", "0", "N/A", "0"]
    assert rows[11] == ["10", "aten.op_10.default", "N/A", "10", "10"]
    assert rows[12] == ["11", "aten.op_11.default", "11", "13", "2"]


# --- both --------------------------------------------------------------------------------------


@pytest.fixture
def both(
    page_of: Callable[..., Path], compared: Callable[..., Path], tmp_path: Path
) -> dict[str, Path]:
    paths = [
        training(3, seed, word=HOSTILE).db(tmp_path, f"{seed}.db") for seed in (1, 2)
    ]  # fmt: skip
    return {"classes": page_of(paths[0]), "compared": compared(*paths)}


TABS = {
    "classes": ("tab=classes", "tab=steps"),
    "compared": ("tab=summary", "tab=names", "tab=modules", "tab=operators"),
}


@pytest.mark.parametrize("kind", TABS)
def test_hostile_names_are_text_and_no_request_leaves_the_page(
    driver: Any, both: dict[str, Path], kind: str
) -> None:
    for tab in TABS[kind]:
        shown = Shown(driver, both[kind].as_uri(), f"#{tab}")
        if tab == "tab=classes":
            for k in range(6):
                shown.run("document.querySelectorAll('.class-row')[arguments[0]].click()", k)
        assert shown.run("return document.images.length") == 0
        assert driver.title != "bad"
        loaded = shown.run("return performance.getEntriesByType('resource').map((r) => r.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        shown.assert_quiet()
    last = shown.text(f".panel-{tab.removeprefix('tab=')}") if kind == "compared" else ""
    assert kind == "classes" or "N/A" in last


def test_owners_with_hostile_names_are_shown_as_they_are(
    driver: Any, both: dict[str, Path]
) -> None:
    shown = Shown(driver, both["classes"].as_uri())
    shown.element("#class-tree .class-row").click()
    assert shown.run(TREE_ROWS)[1][0] == f"PTA@weight@ops@{HOSTILE} 3"


@pytest.mark.parametrize("kind", TABS)
def test_pages_fit_narrow_and_wide_screens(driver: Any, both: dict[str, Path], kind: str) -> None:
    try:
        for width, theme in ((700, "light"), (1280, "dark"), (1900, "light")):
            driver.set_window_size(width, 900)
            for tab in TABS[kind]:
                shown = Shown(driver, both[kind].as_uri(), f"#{tab}&theme={theme}")
                assert not shown.run(OVERFLOWS), (width, tab)
                assert shown.run("return document.documentElement.dataset.theme") == theme
    finally:
        driver.set_window_size(1280, 900)


@pytest.mark.parametrize("kind", TABS)
def test_pages_fit_a_phone(phone: Any, both: dict[str, Path], kind: str) -> None:
    for tab in TABS[kind]:
        shown = Shown(phone, both[kind].as_uri(), f"#{tab}")
        assert shown.run(WIDTH) <= PHONE, tab
    shown.assert_quiet()


# --- PyTorch -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("sampler", "segment_dir")
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[torch]"
)
def test_pages_of_a_real_training_loop_show_what_pytorch_holds(
    driver: Any, page_of: Callable[..., Path], compared: Callable[..., Path], tmp_path: Path
) -> None:
    run = collected(tmp_path)
    [dump] = map(str, (tmp_path / "out").glob("*/device_cpu/dump/memscope_dump_*.csv"))
    page = page_of(dump)
    for step, said in enumerate(run.said):
        shown = Shown(driver, page.as_uri(), f"#when=end&step={step}")
        found = classes_shown(shown)
        expected = {name: said[name] for name in ("weight", "gradient", "optimizer_state")}
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.005)
        assert found["Total"] == pytest.approx(said["all"], rel=0.005)
    shown.assert_quiet()

    shown = Shown(driver, compared(dump, dump, "--steps", "2,3").as_uri(), "#tab=operators")
    rows = shown.run(TABLE_ROWS, "operators")
    # Steps of one loop run the same operators.
    assert len(rows) > 50
    assert [row for row in rows if "N/A" in row] == []
    shown.assert_quiet()
