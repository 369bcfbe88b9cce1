"""Pages of logs and of Python programs in headless Chromium, against what the commands say."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from click.testing import CliRunner

from browser import NEEDS_BROWSER, Shown
from mem_cli.parser.group import cli
from mem_parser.heapfile.writer import write_heap
from mem_parser.memlog.edges import MOST_EDGES
from mem_parser.memlog.events import Events
from mem_parser.memlog.filefacts import Hole
from mem_parser.web.page import SIZE_LIMIT
from memlogs import facts_profile, stack_table, writing
from parser_run import parse, report, told
from python_profiles import LOOP, Stack, profile_of
from timelog import CHURN, LOAD, ROWS, S, birth, death, keyframe, no_keyframe, write_log
from web_profiles import blocks_of

pytestmark = NEEDS_BROWSER
ActionChains = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

COUNTS = {"inuse": "--inuse", "alloc": "--alloc", "peak": "--peak"}
ROWS_OF_TABLE = """
return [...document.querySelectorAll("#functions-rows tbody tr")].map((row) =>
  [row.querySelector("td.main").textContent, row.querySelector("td.number").textContent]);
"""


def page_of(log: Path, *words: object, kind: str = "report") -> Path:
    path = log.with_suffix(".html")
    done = parse(kind, log, "--python", "-o", path, *words)
    assert (done.returncode, [x for x in done.stderr.splitlines() if "wrote" not in x]) == (0, [])
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("shop") / "x.1-0.memlog")


@pytest.fixture(scope="module")
def shop(log: Path) -> Path:
    """The page that most tests read."""
    return page_of(log)


def moments_of(page: Path) -> list[float]:
    """The seconds at which handles stop."""
    head, _ = blocks_of(page.read_text())["times"]
    found: list[float] = head["moments"]
    return found


def scale(text: str) -> float:
    """Bytes that a page writes as `2.93 KiB`, `+1000 B`."""
    number, unit = text.replace("\N{MINUS SIGN}", "-").split()[:2]
    return float(number.replace(",", "")) * 1024 ** ("B", "KiB", "MiB").index(unit)


def table_of(shown: Shown) -> dict[str, float]:
    return {name: scale(own) for name, own in shown.run(ROWS_OF_TABLE) if scale(own)}


def drag(shown: Shown, selector: str, by: int) -> None:
    actions = ActionChains(shown.driver, duration=20)
    actions.click_and_hold(shown.element(selector))
    for _ in range(4):
        actions.move_by_offset(by // 4, 0)
    actions.release().perform()


def value_text(shown: Shown, name: str) -> str:
    return str(shown.element(f"#timeline-{name}").get_attribute("aria-valuetext"))


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (1.5, 6.0), (2.0, 2.0)])
def test_the_table_of_a_window_is_that_of_the_same_part_of_the_log(
    desktop: Any, log: Path, shop: Path, low: float, high: float
) -> None:
    at = moments_of(shop)
    words = {"from": at.index(low), "to": at.index(high), "tab": "table"}
    for count, option in COUNTS.items():
        part = ("--from", f"{low}s", "--to", f"{high}s", option)
        found = report("table", log, *part, "--python", "--json")
        rows = {row["function"]: row["size"] for row in found["rows"]}
        shown = Shown(desktop, shop.as_uri(), "#" + urlencode(words | {"count": count}))
        assert table_of(shown) == pytest.approx(rows, rel=0.005)
        total = found["total"]
        assert scale(shown.text(".headline")) == pytest.approx(total, rel=0.005)
    if low < high:
        found = report("diff", "--at", f"{low}s", f"{high}s", log, "--python")
        rows = {f"{r['function']} ({r['file']})": r["delta"] for r in found["rows"]}
        shown = Shown(desktop, shop.as_uri(), "#" + urlencode(words | {"count": "change"}))
        assert table_of(shown) == pytest.approx({k: v for k, v in rows.items() if v}, rel=0.005)
        assert scale(shown.text(".headline")) == pytest.approx(found["total"], rel=0.005)


def test_errors_of_a_window_are_those_of_the_same_part_of_a_sampled_log(
    desktop: Any, tmp_path: Path
) -> None:
    rows = [birth(k / 100, 16 * (k + 1), 300, CHURN if k % 3 else LOAD) for k in range(1, 700)]
    gone = [
        death(k / 100 + 0.5, 16 * (k + 1), 300, CHURN, born_s=k / 100)
        for k in range(1, 650)
        if k % 3
    ]
    rows = sorted(rows + gone, key=lambda row: row["time_ns"])
    log = write_log(tmp_path / "x.1-0.memlog", rows, rates_bytes=(512.0,))
    page = page_of(log)
    at = moments_of(page)
    words = {"from": at.index(2.0), "to": at.index(5.0), "tab": "summary"}
    for count, option in COUNTS.items():
        total = report("table", log, "--from", "2s", "--to", "5s", option, "--python")
        shown = Shown(desktop, page.as_uri(), "#" + urlencode(words | {"count": count}))
        value, margin = (part.strip() for part in shown.text(".headline").split("\u00b1"))
        assert scale(value) == pytest.approx(total["total"], rel=0.005)
        unit = 1024 ** ("B", "KiB", "MiB").index(value.split()[1])
        ends = (total["total"] - total["total_lower95"], total["total_upper95"] - total["total"])
        assert float(margin.split()[0]) * unit == pytest.approx(max(ends), rel=0.1)


def test_handles_follow_keys_and_stop_at_each_other_and_the_ends(desktop: Any, shop: Path) -> None:
    at = moments_of(shop)
    shown = Shown(desktop, shop.as_uri(), "#tab=flame")
    last = len(at) - 1
    end = shown.element("#timeline-to")
    assert end.get_attribute("role") == "slider"
    assert value_text(shown, "to") == "8.000 s: 1.95 KiB"
    shown.run("document.getElementById('timeline-from').focus()")
    keys = ActionChains(desktop)
    keys.send_keys(Keys.TAB).send_keys(Keys.ARROW_LEFT).send_keys(Keys.ARROW_LEFT).perform()
    assert end.get_attribute("aria-valuenow") == str(last - 2)
    assert value_text(shown, "to") == f"{at[last - 2]:.3f} s: 10.74 KiB"
    shown.until(lambda: f"to={last - 2}" in shown.fragment)
    assert shown.text(".details-facts").startswith("in use 10.74 KiB")
    ActionChains(desktop).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT).key_up(
        Keys.SHIFT
    ).perform()
    assert end.get_attribute("aria-valuenow") == str(max(last - 12, 0))
    end.send_keys(Keys.END)
    assert end.get_attribute("aria-valuenow") == str(last)
    begin = shown.element("#timeline-from")
    begin.send_keys(Keys.END)
    assert begin.get_attribute("aria-valuenow") == str(last)
    end.send_keys(Keys.HOME)
    assert end.get_attribute("aria-valuenow") == str(last)
    begin.send_keys("e")
    assert begin.get_attribute("aria-valuenow") == "0"
    shown.until(lambda: "to=" not in shown.fragment)
    shown.assert_quiet()


def test_a_handle_that_is_dragged_redraws_graph_table_and_tree(desktop: Any, shop: Path) -> None:
    for tab, selector in (("flame", ".details"), ("table", "#functions-rows"), ("tree", ".tree")):
        shown = Shown(desktop, shop.as_uri(), f"#tab={tab}")
        before = shown.text(selector)
        width = shown.run("return document.querySelector('.timeline-plot').clientWidth")
        drag(shown, "#timeline-to", -int(width * 2.0 / 8))
        assert value_text(shown, "to") == "6.000 s: 10.74 KiB"
        assert shown.text(selector) != before
        assert shown.text(".headline") == "10.74 KiB in use at 6.000 s of the log"
        drag(shown, "#timeline-from", int(width * 1.5 / 8))
        assert value_text(shown, "from") == "1.500 s: 4.88 KiB"
        ActionChains(desktop).double_click(shown.element(".timeline-plot")).perform()
        shown.until(lambda shown=shown: shown.text(".timeline-text").startswith("Whole time"))
        assert shown.text(selector) == before
        shown.assert_quiet()


def test_a_peak_or_a_mark_is_a_button_that_goes_there(desktop: Any, tmp_path: Path) -> None:
    page = page_of(write_log(tmp_path / "x.1-0.memlog"), kind="flamegraph")
    shown = Shown(desktop, page.as_uri())
    peak = next(b for b in desktop.find_elements("css selector", ".timeline-peak")
                if "6.000 s" in b.get_attribute("title"))  # fmt: skip
    peak.click()
    assert shown.text(".headline") == "10.74 KiB in use at 6.000 s of the log"
    cold = next(
        b for b in desktop.find_elements("css selector", ".timeline-mark") if b.text == "cold"
    )
    cold.click()
    assert shown.text(".headline") == "2.93 KiB in use at 5.000 s of the log"
    warm = next(
        b for b in desktop.find_elements("css selector", ".timeline-mark") if b.text == "warm"
    )
    warm.click()
    assert shown.text(".timeline-text") == "2.000 s to 4.000 s"
    shown.assert_quiet()


def test_a_hole_is_hatched_and_says_what_was_lost(desktop: Any, tmp_path: Path) -> None:
    hole = Hole(round(6.8 * S), round(7.2 * S), 1234)
    live = keyframe(round(7.5 * S), [(LOAD, 1, 1000)])
    log = write_log(tmp_path / "x.1-0.memlog", holes=(hole,), keyframes=(no_keyframe(), live))
    shown = Shown(desktop, page_of(log).as_uri())
    assert shown.text(".timeline-lost") == "1,234 events are missing"
    box = shown.element(".timeline-hole")
    assert box.get_attribute("fill") == "url(#hatching)"
    told = shown.run("return document.querySelector('.timeline-hole title').textContent")
    assert told == (
        "6.800 s to 7.500 s: 1,234 events are missing (the rings were full);"
        " what was in use is not sure"
    )
    width = shown.run("return document.querySelector('.timeline-plot').clientWidth")
    assert float(box.get_attribute("x")) == pytest.approx(width * 6.8 / 8, abs=2)
    assert float(box.get_attribute("width")) == pytest.approx(width * 0.7 / 8, abs=2)


def test_boxes_narrow_a_window_too(desktop: Any, shop: Path) -> None:
    at = moments_of(shop)
    window = {"from": at.index(1.5), "to": at.index(6.0), "focus": "churn"}
    shown = Shown(
        desktop, shop.as_uri(), "#" + urlencode(window | {"tab": "table", "count": "alloc"})
    )
    assert table_of(shown) == {"churn (shop.py)": pytest.approx(8000, rel=0.005)}
    assert shown.text(".filter-note").startswith("only focus churn: 7.81 KiB of 9.77 KiB")


def test_filters_of_the_command_hold_for_every_window(desktop: Any, tmp_path: Path) -> None:
    page = page_of(write_log(tmp_path / "x.1-0.memlog"), "--focus", "load")
    at = moments_of(page)
    window = {"to": at.index(6.0), "tab": "table"}
    shown = Shown(desktop, page.as_uri(), "#" + urlencode(window))
    assert table_of(shown) == {"load (shop.py)": pytest.approx(3000, rel=0.005)}
    assert "the curve is of all stacks" in shown.text(".timeline-legend")


def test_blocks_older_than_the_part_can_go_in_it(desktop: Any, tmp_path: Path) -> None:
    log = write_log(tmp_path / "x.1-0.memlog")
    page = page_of(log, "--from", "7s", "--to", "end")
    at = moments_of(page)
    assert (at[0], at[-1]) == (7.0, 8.0)
    shown = Shown(desktop, page.as_uri(), "#tab=table&count=change")
    assert table_of(shown) == {"load (shop.py)": pytest.approx(-1000, rel=0.005)}


def test_memories_of_a_log_have_curves_and_windows_of_their_own(
    desktop: Any, tmp_path: Path
) -> None:
    rows = [
        *ROWS,
        birth(2.2, 0x90, 50_000, CHURN, domain=1),
        birth(7.0, 0xA0, 50_000, CHURN, domain=1),
    ]
    rows.sort(key=lambda row: row["time_ns"])
    log = write_log(
        tmp_path / "x.1-0.memlog", rows, domains=("host", "gpu"), rates_bytes=(1.0, 1.0)
    )
    page = page_of(log, "--domain", "host", "--domain", "gpu", kind="flamegraph")
    at = moments_of(page)
    shown = Shown(desktop, page.as_uri(), f"#domain=1&to={at.index(6.0)}")
    assert value_text(shown, "to") == "6.000 s: 48.83 KiB"
    assert shown.text(".details-facts").startswith("in use 48.83 KiB")
    assert shown.run("return document.querySelectorAll('.timeline-other').length") == 1


def test_a_screen_of_a_phone_has_room_for_the_line(phone: Any, shop: Path) -> None:
    shown = Shown(phone, shop.as_uri())
    wide = shown.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    assert shown.run("return document.querySelector('.timeline-handle').offsetWidth") >= 40
    shown.element("#timeline-to").send_keys(Keys.HOME)
    assert shown.text(".timeline-text").startswith("0.000 s to 0.000 s")
    shown.assert_quiet()


def test_a_page_of_a_log_loads_nothing_and_keeps_its_policy(desktop: Any, tmp_path: Path) -> None:
    log = write_log(tmp_path / "x.1-0.memlog")
    text = page_of(log).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    parts = [part.strip() for part in re.sub(r"sha256-[^']*", "HASH", policy[1]).split(";")]
    assert parts == [
        "default-src 'none'", "script-src 'HASH'", "style-src 'unsafe-inline'",
        "img-src data: blob:", "worker-src blob:", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    shown = Shown(desktop, log.with_suffix(".html").as_uri())
    assert shown.run("return performance.getEntriesByType('resource').length") == 0
    shown.assert_quiet()


def test_what_no_window_changes_says_so(desktop: Any, shop: Path) -> None:
    shown = Shown(desktop, shop.as_uri(), "#tab=leaks")
    assert shown.text(".timeline-text") == "Whole time: 0.000 s to 8.000 s"
    shown.element("#timeline-to").send_keys(Keys.ARROW_LEFT)
    assert shown.text(".timeline-text").endswith("; verdicts are of the whole time")


def test_a_confidential_page_has_no_folders_in_what_was_lost(tmp_path: Path) -> None:
    hole = Hole(S, 2 * S, 7, why="/srv/secret/disk is full")
    log = write_log(tmp_path / "x.1-0.memlog", holes=(hole,))
    head, _ = blocks_of(page_of(log, "--confidential").read_text())["times"]
    assert head["holes"] == [[1.0, 2.0, 7, "disk is full"]]


def test_a_page_that_compares_with_a_base_has_no_line(tmp_path: Path) -> None:
    log = write_log(tmp_path / "x.1-0.memlog")
    page = page_of(log, "--base", log)
    assert "times" not in blocks_of(page.read_text())


@pytest.mark.parametrize(
    ("stacks", "blocks"), [(1000, 10_000), pytest.param(30_000, 200_000, marks=pytest.mark.soak)]
)
def test_a_log_of_many_sites_gives_a_page_of_bounded_size(
    desktop: Any, tmp_path: Path, stacks: int, blocks: int
) -> None:
    random = np.random.default_rng(5)
    time_ns = np.sort(random.integers(1, 60 * S, blocks))
    size = random.choice([32, 100, 5000], blocks)
    stack = random.integers(0, stacks, blocks)
    log = tmp_path / "x.1-0.memlog"
    with writing(log) as writer:
        writer.append_facts(facts_profile())
        for low in range(0, stacks, 1000):
            frames = [(0x1000, 0x2000 + k, 0x90000 + k % 300) for k in range(low, low + 1000)]
            writer.append_stacks(stack_table(frames))
        writer.append_keyframe(no_keyframe())
        address = 16 * np.arange(1, blocks + 1)
        writer.append_events(
            Events.of(
                time_ns=time_ns,
                kind=np.full(blocks, 1),
                address=address,
                size_bytes=size,
                thread=np.zeros(blocks),
                stack=stack,
                domain=np.zeros(blocks),
                birth_ns=time_ns,
            )
        )
        writer.end(last=True)
    told("flamegraph", log, "-o", tmp_path / "x.html")
    page = tmp_path / "x.html"
    assert page.stat().st_size < SIZE_LIMIT
    head, _ = blocks_of(page.read_text())["times"]
    assert len(head["moments"]) <= MOST_EDGES
    at = len(head["moments"]) // 2
    shown = Shown(desktop, page.as_uri(), f"#to={at}&count=alloc")
    expected = int(size[time_ns <= round(head["moments"][at] * 1e9)].sum())
    assert scale(shown.text(".headline")) == pytest.approx(expected, rel=0.005)
    shown.assert_quiet()


END = f"python!{LOOP} python!Py_RunMain libc!__libc_start_main python!_start"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "app.py"
    path.write_text("".join(f"line {k} of the shop\n" for k in range(1, 40)))
    return path


@pytest.fixture(scope="module")
def pages(source: Path) -> dict[str, str]:
    """Addresses of the flame graph and the report of one profile."""
    stacks = [
        Stack(
            f"sampler!malloc python!list_resize {END}",
            f"Cart.add:7@{source} main:20@{source} *<module>:30@{source}", blocks=30,
        ),
        Stack(
            f"sampler!malloc ext!fast_join python!cfunction_call {END}",
            f"Cart.add:9@{source} main:21@{source} *<module>:30@{source}", blocks=10,
        ),
    ]  # fmt: skip
    heap = source.with_name("x.heap")
    profile = profile_of(stacks, host=os.uname().nodename, uid=os.geteuid())
    heap.write_bytes(write_heap(profile))
    found = {}
    for kind in ("flamegraph", "report"):
        page = source.with_name(f"{kind}.html")
        done = CliRunner().invoke(
            cli, [kind, str(heap), "-o", str(page), "--source-dir", str(source.parent)]
        )
        assert done.exit_code == 0, done.output
        found[kind] = page.as_uri()
    return found


@pytest.mark.parametrize("kind", ["flamegraph", "report"])
def test_a_page_finds_python_functions_by_name_file_and_line(
    desktop: Any, pages: dict[str, str], source: Path, kind: str
) -> None:
    page = Shown(desktop, pages[kind], "#tab=flame" if kind == "report" else "")

    assert page.search("fast_join").endswith("(25.0 %)")
    page.until(lambda: page.text(".details-title") == "fast_join")
    assert page.search("app.py:21").endswith("(100.0 %)")
    page.until(lambda: page.text(".details-title") == f"main ({source.parent.name}/app.py)")
    assert page.text(".details-facts").endswith(f"at {source}")
    assert page.search(r"app\.py:4\d") == "no match"
    page.assert_quiet()


def test_a_line_is_found_alone_where_lines_are_apart(desktop: Any, pages: dict[str, str]) -> None:
    page = Shown(desktop, pages["flamegraph"], "#lines=1")

    assert page.search("app.py:21").endswith("(25.0 %)")
    assert page.search("app.py:7$").endswith("(75.0 %)")
    page.assert_quiet()


def test_the_source_lines_of_a_python_function_are_there(
    desktop: Any, pages: dict[str, str], source: Path
) -> None:
    page = Shown(desktop, pages["flamegraph"], "#source=1")

    page.search("Cart.add")
    page.until(lambda: str(source) in page.text("#source-pane"))
    shown = page.text("#source-pane")
    assert "line 7 of the shop" in shown
    assert "line 9 of the shop" in shown
    page.assert_quiet()


def test_the_table_of_functions_names_pythons_files(
    desktop: Any, pages: dict[str, str], source: Path
) -> None:
    page = Shown(desktop, pages["report"], "#tab=table")

    rows = page.texts("#functions-rows tr")
    [row] = [text for text in rows if "Cart.add" in text]
    assert f"Cart.add ({source.parent.name}/app.py)" in row
    assert not any("_PyEval" in text for text in rows)
    page.assert_quiet()
