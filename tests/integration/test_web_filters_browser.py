"""The boxes, the names and the source lines of the pages in headless Chromium, against what the
commands say of the same profile.
"""

import json
import os
import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from click.testing import CliRunner

from browser import NEEDS_BROWSER, Shown
from heapfiles import HeapFile, Record
from mem_cli.parser.group import cli
from mem_parser.filters import Filters
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.reports.edges import calls_between
from mem_parser.reports.graph import build_graph
from mem_parser.reports.graph_diff import graph_of_change
from mem_parser.reports.view import View, make_view
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.table import Function, Role, Symbols
from mem_parser.web import flamegraph, report
from mem_parser.web.facts import Opening
from simulated import Program, burst
from web_profiles import BASE, SERVER, Site, make_profile, wide_profile

pytestmark = NEEDS_BROWSER

SCALES = {"KiB": 1024.0, "MiB": 1024.0**2}
ROWS = """
const numbers = (row) =>
  [...row.querySelectorAll("td.number")].slice(0, 2).map((cell) => cell.textContent);
const cells = (row) => [row.querySelector("td.main").textContent, ...numbers(row)];
const head = document.querySelector("#functions-rows th[data-key=total]");
if (head.ariaSort === "none") head.firstElementChild.click();
return [...document.querySelectorAll("#functions-rows tbody tr")].map(cells);
"""
PROGRAM = """
#include <cstddef>
namespace absl {
template <typename T> struct flat_hash_map {
  __attribute__((noinline)) int grow(int x) { return x * 3; }
};
}
template <typename T> struct Cache {
  __attribute__((noinline)) int fill(int x) {  // </script><b onclick=x>
    absl::flat_hash_map<T> map;
    return map.grow(x) + 1;
  }
};
__attribute__((noinline)) int copy_name(int x) { return x * 5; }
__attribute__((noinline)) int parse(int x) {
  return x ? parse(x - 1) + copy_name(x)
           : 1;
}
int main() {
  return Cache<int>().fill(1) + Cache<double>().fill(2) + parse(3);
}
"""


def fragment(**values: object) -> str:
    return "#" + urlencode({k: str(v) for k, v in values.items()})


def table(shown: Shown) -> dict[str, tuple[str, str]]:
    """Own and total of each function in the table that the page shows."""
    return {name: (own, total) for name, own, total in shown.run(ROWS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def program(folder: Path) -> Path:
    (folder / "shop.cc").write_text(PROGRAM)
    subprocess.run(
        ["g++", "-g", "-O0", "-no-pie", "-Wl,--build-id", "-o", "shop", folder / "shop.cc"],
        check=True, timeout=120, cwd=folder,
    )  # fmt: skip
    return folder / "shop"


@pytest.fixture(scope="module")
def heap(program: Path) -> Path:
    """A profile of the program on this host, of stacks that it could have."""
    listed = subprocess.run(
        ["nm", "-C", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    address = {
        line.split(" ", 2)[2].split("(")[0]: int(line.split()[0], 16)
        for line in listed
        if "(" in line or line.endswith(" main")
    }

    def stack(*names: str) -> tuple[int, ...]:
        return tuple(address[name] + 8 for name in names)

    grow, fill = "absl::flat_hash_map<{}>::grow", "Cache<{}>::fill"
    records = [
        Record(stack(grow.format("int"), fill.format("int"), "main"), 60, 81920, 30, 40960),
        Record(stack(grow.format("double"), fill.format("double"), "main"), 50, 65536),
        Record(stack("copy_name", "parse", "parse", "main"), 90, 9000),
        Record(stack("parse", "main"), 40, 5120, 20, 2560),
    ]
    module = {"path": str(program), "build_id": ElfImage.open(program).build_id,
              "start": 0x400000, "end": 0x500000, "bias": 0,
              "exec": [[0x401000, 0x402000, 0x1000]],
              "first_generation": 0, "last_generation": None}  # fmt: skip
    path = program.parent / "shop.heap"
    header = {"exe": str(program), "host": os.uname().nodename, "uid": os.geteuid()}
    path.write_bytes(HeapFile(records, modules=[module], rate=1024, header=header).data)
    path.chmod(0o600)
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def pages(heap: Path) -> dict[str, str]:
    """Pages of the profile as the commands make them, by name."""
    made = {
        "report": ("report",), "flame": ("flamegraph",), "bare": ("report", "--no-source"),
        "whole": ("report", "--templates"), "secret": ("report", "--confidential"),
    }  # fmt: skip
    addresses = {}
    for name, (command, *options) in made.items():
        page = heap.with_name(f"{name}.html")
        run(command, heap, "-o", page, *options)
        addresses[name] = page.as_uri()
    return addresses


def amount(text: str) -> float:
    """The bytes or objects that a text such as "1.38 MiB ± 0.02" begins with."""
    number, unit = [*text.split(), ""][:2]
    return float(number.replace(",", "")) * SCALES.get(unit, 1.0)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"count": "alloc", "unit": "objects"},
        {"focus": r"Cache<int>::fill\(int\)"},
        {"ignore": "copy_(name|text)"},
        {"focus": "(?i)CACHE", "ignore": "double"},
        {"hide": "^parse$"},
        {"focus": r"shop\.cc$", "hide": "grow", "templates": 1},
        {"focus": "^Cache<int>::fill$", "templates": 1},
        {"ignore": "copy_", "count": "freed", "unit": "objects"},
        {"hide": "^parse$", "count": "alloc", "unit": "objects", "templates": 1},
    ],
)
def test_a_page_has_the_numbers_of_the_command_line(
    desktop: Any, pages: dict[str, str], heap: Path, filters: Mapping[str, object]
) -> None:
    options = [
        word
        for name, value in filters.items()
        for word in {
            "templates": ["--templates"], "count": [f"--{value}"], "unit": [f"--{value}"],
        }.get(name, [f"--{name}", value])
    ]  # fmt: skip
    said = json.loads(run("top", heap, "--json", "-n", 0, *options))

    shown = Shown(desktop, pages["report"], fragment(tab="table", **filters))

    rows = table(shown)
    assert rows.keys() == {row["function"] for row in said["rows"]}
    for row in said["rows"]:
        for text, key in zip(rows[row["function"]], ("flat", "cum"), strict=True):
            assert amount(text) == pytest.approx(row[key], rel=0.005, abs=0.5), row["function"]
            if row[key] and row[f"{key}_margin95"]:
                margins = [float(m) for m in re.findall(r"[\u00b1+-] ?([\d.]+)", text)]
                margin = max(margins) * SCALES.get(text.split()[1], 1.0)
                assert margin == pytest.approx(row[f"{key}_margin95"], rel=0.1, abs=0.5)
    total = sum(row["flat"] for row in said["rows"])
    if said["rows"] and {"focus", "ignore", "hide"} & filters.keys():
        assert amount(shown.text("#filter-note").rsplit(": ", 1)[1]) == pytest.approx(
            total, rel=0.005
        )
    shown.assert_quiet()


NAMES = ("main", "work", "lib::sort", "lib::map", "wrap", "calloc", "clone3", "less")
PATTERNS = ("work", "^main$", "lib::", "less|work", "alloc", "nothing", ".", "clone3", r"work\.c$")


def mixed(seed: random.Random) -> tuple[Profile, Symbols]:
    """Stacks of program, library and allocator; every sum is a number of bytes below 1 KiB."""
    roles = {"lib::sort": Role.LIBRARY, "lib::map": Role.LIBRARY, "wrap": Role.WRAPPER}
    functions = {
        name: Function(name, name, f"/lib/{name[:3]}.so", f"/src/{name}.c", role=role)
        for name in NAMES
        for role in [Role.START if name == "clone3" else roles.get(name, Role.PROGRAM)]
    }
    stacks = {" ".join(seed.choices(NAMES, k=seed.randint(1, 6))) for _ in range(9)}
    sites = [Site(stack, 1, 1 << k) for k, stack in enumerate(sorted(stacks))]
    return make_profile(sites, functions=functions)


def test_any_boxes_leave_what_the_filters_leave(desktop: Any, folder: Path) -> None:
    seed = random.Random(11)
    page = folder / "mixed.html"
    for _ in range(3):
        profile, symbols = mixed(seed)
        whole = report.render(profile, symbols, start=Opening(start_frames=True))
        page.write_text(whole, encoding="utf-8")
        for _ in range(7):
            chosen = {
                name: seed.choice(PATTERNS)
                for name in ("focus", "ignore", "hide")
                if seed.random() < 0.5
            }
            patterns = {name: (text,) for name, text in chosen.items()}
            left = Filters(**patterns, start_frames=True, starts_choose=True).apply(
                profile, symbols
            )
            expected = {
                row.name: (row.flat.value, row.cum.value)
                for row in rows_of(sum_stacks(left[0], Filters(start_frames=True).apply(*left)[1]))
            }
            shown = Shown(desktop, page.as_uri(), fragment(tab="table", **chosen))
            rows = {k: (amount(a), amount(b)) for k, (a, b) in table(shown).items()}
            assert rows == expected, chosen


def layered(seed: random.Random) -> tuple[Profile, Symbols]:
    """Stacks through functions in layers, some of which call back up."""
    names = [f"ns::area{k % 5}::function_{k}" for k in range(40)]
    sites = []
    for _ in range(90):
        stack = [seed.choice(names[6 * k : 6 * k + 7]) for k in range(seed.randint(1, 6))]
        if seed.random() < 0.3:
            stack += stack[-2:]
        blocks = seed.randint(1, 9)
        sites.append(Site("main " + " ".join(stack), blocks, 1000, freed=blocks // 3))
    return make_profile(sites)


def test_who_holds_the_memory_says_how_many_it_leaves_out(desktop: Any, folder: Path) -> None:
    profile, symbols = layered(random.Random(4))
    page = folder / "holders.html"
    page.write_text(report.render(profile, symbols), encoding="utf-8")
    owners = sum(row.flat.value > 0 for row in rows_of(sum_stacks(profile, symbols)))

    shown = Shown(desktop, page.as_uri(), fragment(tab="summary"))

    assert f"{owners - 10} smaller ones are not listed" in shown.text("#panel-summary .panel")
    shown.assert_quiet()


GRAPH = """
const groups = [...document.querySelectorAll(".call-graph-svg g > title")].map((t) => t.parentNode);
const texts = (g) => [...g.querySelectorAll("text")].map((t) => t.textContent);
return groups.map((g) => {
  const box = g.querySelector("polygon").getBBox();
  return [g.querySelector("title").textContent, texts(g), [box.x, box.y, box.width, box.height]];
});
"""


@pytest.mark.parametrize(
    ("number", "count", "unit"),
    [
        (2, Count.INUSE, Unit.SPACE), (0, Count.ALLOC, Unit.OBJECTS), (1, Count.FREED, Unit.SPACE),
    ],
)  # fmt: skip
def test_the_call_graph_is_of_what_the_boxes_leave(
    desktop: Any, folder: Path, number: int, count: Count, unit: Unit
) -> None:
    profile, symbols = layered(random.Random(number))
    page = folder / f"layered{number}.html"
    page.write_text(report.render(profile, symbols), encoding="utf-8")
    focus = f"function_{(11, 3, 2)[number]}"
    left = Filters(focus=(focus,)).apply(profile, symbols)
    sums = sum_stacks(*left, count=count, unit=unit)
    expected = build_graph(left[0], sums, count, unit, "")
    rows = {row.name: row for row in expected.nodes}
    key = {name: k for k, name in enumerate(sums.names)}
    place = np.full(len(sums.names), -1)
    place[[key[name] for name in rows]] = np.arange(len(rows))
    calls = calls_between(sums, place, len(rows))
    names = list(rows)
    values = {f"{names[c.caller]} → {names[c.callee]}": c.value for c in calls.edges}

    chosen = {"count": count, "unit": unit}
    shown = Shown(desktop, page.as_uri(), fragment(tab="graph", focus=focus, **chosen))

    found = shown.run(GRAPH)
    heading = shown.text("#panel-graph h2").rpartition(": ")[2]
    assert amount(heading) == pytest.approx(left[0].total(count, unit).value, rel=0.005)
    nodes = [one for one in found if "→" not in one[0]]
    assert {name for name, *_ in nodes} == rows.keys()
    for name, texts, _ in nodes:
        amounts = [amount(t.removeprefix("of ")) for t in texts if "%)" in t]
        row = rows[name]
        assert amounts[0] == pytest.approx(row.flat.value, rel=0.005)
        assert amounts[-1] == pytest.approx(row.cum.value, rel=0.005)
    edges = [one for one in found if "→" in one[0]]
    assert {one.split(" → ")[1] for one, *_ in edges} >= rows.keys() - {"main"}
    for name, texts, _ in edges:
        assert amount(texts[0]) == pytest.approx(values[name], rel=0.005), name
    boxes = [box for *_, box in nodes]
    for k, (x, y, width, height) in enumerate(boxes):
        for other in boxes[:k]:
            apart_x = x >= other[0] + other[2] or other[0] >= x + width
            assert apart_x or y >= other[1] + other[3] or other[1] >= y + height
    shown.element("#filters-clear").click()
    assert focus not in shown.fragment
    assert "(100.0 %)" in shown.text(".call-graph-svg")
    shown.assert_quiet()


def test_boxes_of_the_page_are_changes_where_those_of_the_graph_are(
    desktop: Any, folder: Path
) -> None:
    """Two captures of one program of which one function grew: tested alone, more boxes had."""
    draw = np.random.default_rng(5)
    same = [burst(draw, 1.0, 300, f"f{k}") for k in range(60)]
    sides = [
        Program([*same, burst(draw, 1.0, blocks, "grown")]).capture(draw) for blocks in (900, 2400)
    ]
    sides[1][0].capture.pid = 2
    graph = graph_of_change(*(make_view(*side, Filters()) for side in sides), "")
    expected = {n.name for n, b in zip(graph.nodes, graph.beyond_noise or [], strict=True) if b}
    page = folder / "same.html"
    page.write_text(report.render(*sides[1], base=sides[0]), encoding="utf-8")

    shown = Shown(desktop, page.as_uri(), fragment(tab="graph"))

    last = {name: texts[-1].removeprefix("total ") for name, texts, _ in shown.run(GRAPH)}
    assert len(last) >= 61
    assert {n for n, text in last.items() if text[0] in "+\u2212"} == expected == {"grown"}


def test_a_difference_is_in_the_words_and_colours_of_the_call_graph(
    desktop: Any, folder: Path
) -> None:
    instance = Function("parse", "parse<int>()", "/opt/server", "/src/parse.c")
    sides = [make_profile(sites, functions={"parse": instance}) for sites in (SERVER, BASE)]
    # Not `make_view`: the page adds host and device up here.
    new, base = (View(*Filters().apply(*side), side[1], Filters()) for side in sides)
    expected = graph_of_change(base, new, "")
    page = folder / "changed.html"
    page.write_text(report.render(*sides[0], base=sides[1]), encoding="utf-8")

    shown = Shown(desktop, page.as_uri(), fragment(tab="graph"))

    found = {name: texts for name, texts, _ in shown.run(GRAPH)}
    changes = dict(zip((row.name for row in expected.nodes), expected.changes or [], strict=True))
    assert found.keys() - {name for name in found if "→" in name} == changes.keys()
    for name, change in changes.items():
        said = found[name][-1].removeprefix("total ")
        if change.value:
            sign = 1 if said[0] == "+" else -1
            assert sign * amount(said[1:]) == pytest.approx(change.value, rel=0.005), name
        else:
            assert said == "unchanged"
    colour = "return [...document.querySelectorAll('.call-graph-svg g > title')].find((t) => t.textContent === arguments[0]).parentNode.querySelector('polygon').getAttribute('fill')"  # noqa: E501
    red, blue = (
        [int(part) for part in re.findall(r"\d+", shown.run(colour, name))]
        for name in ("parse", "reply")
    )
    assert red[0] > red[2]
    assert blue[0] < blue[2]
    said = shown.text("#panel-graph")
    assert "change since the base: +1.39 MiB 4.64 MiB in use bytes in use" in said
    shown.type("#filter-focus", "reply")
    shown.until(lambda: " 0 B in use bytes" in shown.text("#panel-graph"))
    shown.assert_quiet()


def test_all_tabs_follow_the_boxes(desktop: Any, folder: Path) -> None:
    page = folder / "server.html"
    page.write_text(report.render(*make_profile(SERVER)), encoding="utf-8")
    shown = Shown(desktop, page.as_uri())
    assert shown.text(".key-value") == "4.64 MiB"

    shown.type("#filter-focus", "read_file")
    shown.until(lambda: "focus=read_file" in shown.fragment)
    assert shown.text("#filter-note").startswith(
        "only focus read_file: 2.00 MiB of 4.64 MiB (43.1 %) in use"
    )
    assert shown.text(".key-value") == "2.00 MiB"
    assert "read_file" in shown.text("#panel-summary")
    assert "new_node" not in shown.text("#panel-summary")
    shown.element("#tab-threads").click()
    assert shown.texts("#threads-rows td.main") == ["worker"]
    shown.element("#tab-tree").click()
    shown.element("#tree-heaviest").click()
    assert shown.texts(".tree-name") == ["everything", "main", "load", "read_file"]
    shown.element("#tab-flame").click()
    assert "2.00 MiB (100.0 %)" in shown.text(".details-facts")
    shown.element("#filters-clear").click()
    assert "4.64 MiB (100.0 %)" in shown.text(".details-facts")
    assert "focus" not in shown.fragment
    shown.element("#tab-summary").click()
    assert shown.text(".key-value") == "4.64 MiB"
    shown.assert_quiet()


def test_a_wrong_expression_is_said_and_changes_nothing(
    desktop: Any, pages: dict[str, str]
) -> None:
    shown = Shown(desktop, pages["flame"])
    shown.type("#filter-focus", "parse")
    shown.until(lambda: "focus=parse" in shown.fragment)
    before = (shown.fragment, shown.text(".details-facts"))

    shown.type("#filter-focus", "parse(")

    said = "Focus: not a regular expression: Unterminated group; nothing changed"
    shown.until(lambda: shown.text("#filter-problem") == said)
    assert (shown.fragment, shown.text(".details-facts")) == before
    assert shown.element("#filter-focus").get_attribute("aria-invalid") == "true"
    shown.type("#filter-focus", "parse|main")
    shown.until(lambda: not shown.element("#filter-problem").is_displayed())

    forged = Shown(desktop, pages["flame"], fragment(hide=r"\Ax", focus="+" * 500))
    assert r"\A is not known here" in forged.text("#filter-problem")
    assert "(100.0 %)" in forged.text(".details-facts")
    assert not forged.element("#filter-note").is_displayed()
    forged.assert_quiet()


def test_an_expression_that_never_ends_is_ended(desktop: Any, folder: Path) -> None:
    page = folder / "slow.html"
    page.write_text(flamegraph.render(*make_profile([Site(f"main {'a' * 1000}c", 1, 10)])))
    endless = "(a|a)*[q]$"

    shown = Shown(desktop, page.as_uri(), fragment(focus=endless, q=endless))

    said = "takes more than 3 s on the names of this page"
    assert shown.text("#filter-problem") == f"Focus: {said}; nothing changed"
    assert "(100.0 %)" in shown.text(".details-facts")
    shown.until(lambda: shown.text("#search-found") == said)
    for query, found in {
        "a(": "not a regular expression: Unterminated group",
        "A+C$": "no match",
        "a{100,}c$": "10 B matched (100.0 %)",
    }.items():
        shown.type("#search", query)
        shown.until(lambda text=found: shown.text("#search-found") == text)
    shown.assert_quiet()


def test_a_browser_without_workers_says_so(desktop: Any, pages: dict[str, str]) -> None:
    script = {"source": "delete window.Worker"}
    added = desktop.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        shown = Shown(desktop, pages["flame"], fragment(focus="parse"))
    finally:
        desktop.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    said = "Focus: cannot be used: this browser starts no worker for a page; nothing changed"
    assert shown.text("#filter-problem") == said


def test_what_pruning_left_out_is_not_claimed(desktop: Any, folder: Path) -> None:
    profile, symbols = wide_profile(3000)
    page = folder / "pruned.html"
    page.write_text(flamegraph.render(profile, symbols, most_nodes=300), encoding="utf-8")

    shown = Shown(desktop, page.as_uri(), fragment(focus="function_31$"))

    note = shown.text("#filter-note")
    assert "in “[narrower frames]” this page cannot tell" in note
    exact = Filters(focus=("function_31$",)).apply(profile, symbols)[0]
    [total] = [exact.weigh(Filters().count, Filters().unit)[0].sum()]
    left = amount(note.split(": ", 1)[1])
    unsure = amount(note.split("; of ", 1)[1])
    assert left <= total * 1.001
    assert total <= (left + unsure) * 1.001


def test_template_arguments_show_and_fold(desktop: Any, pages: dict[str, str]) -> None:
    shown = Shown(desktop, pages["report"], fragment(tab="table"))
    assert "Cache::fill" in table(shown)
    shown.element("#toggle-templates").click()
    assert {"Cache<int>::fill", "Cache<double>::fill"} <= table(shown).keys()
    assert "Cache::fill" not in table(shown)
    assert "templates=1" in shown.fragment
    shown.element("#tab-tree").click()
    shown.element("#tree-heaviest").click()
    assert "Cache<double>::fill" in shown.texts(".tree-name")
    shown.element("#toggle-templates").click()
    shown.element("#tree-heaviest").click()
    assert "Cache::fill" in shown.texts(".tree-name")

    opened = Shown(desktop, pages["whole"], fragment(tab="table"))
    assert "Cache<int>::fill" in table(opened)
    assert "templates" not in opened.fragment
    opened.element("#tab-graph").click()
    assert "Cache<int>::fill" in opened.text(".call-graph-svg")
    opened.element("#toggle-templates").click()
    assert "templates=0" in opened.fragment
    opened.assert_quiet()


@pytest.mark.parametrize("function", ["Cache::fill", "parse", "main"])
def test_source_lines_have_the_numbers_of_list(
    desktop: Any, pages: dict[str, str], heap: Path, function: str
) -> None:
    said = json.loads(run("list", heap, function, "--json"))
    [one] = said["rows"]
    shown = Shown(desktop, pages["report"], fragment(tab="table"))

    table(shown)
    shown.run(
        """[...document.querySelectorAll("#functions-rows tbody tr")]
           .find((row) => row.querySelector("td.main").textContent === arguments[0])
           .querySelector(".place-link").click();""",
        function,
    )

    assert shown.element("dialog.source-dialog").is_displayed()
    assert shown.text(".source-file") == one["file"]
    rows = shown.run(
        """return [...document.querySelectorAll(".source-lines tbody tr")]
           .map((row) => [...row.cells].map((cell) => cell.textContent));"""
    )
    heavy = {row[2]: row for row in rows if row[1]}
    assert heavy.keys() == {str(line["line"]) for line in one["lines"]}
    for line in one["lines"]:
        flat, cum, _, text = heavy[str(line["line"])]
        assert (amount(flat) if flat else 0) == pytest.approx(line["flat"], rel=0.005)
        assert amount(cum) == pytest.approx(line["cum"], rel=0.005)
        assert text == line["text"]
    hostile = any("// </script><b onclick=x>" in row[3] for row in rows)
    assert hostile == (function == "Cache::fill")
    assert shown.driver.find_elements("css selector", ".source-lines b") == []
    shown.assert_quiet()


def test_the_source_of_a_frame_opens_below_it_and_stays(
    desktop: Any, pages: dict[str, str]
) -> None:
    shown = Shown(desktop, pages["flame"], fragment(source=1, q="^parse$"))
    assert shown.text("#source-pane") == "Select a frame to see its source lines."
    shown.until(lambda: "matched" in shown.text("#search-found"))
    shown.run(
        """const next = new KeyboardEvent("keydown", {key: "n", bubbles: true});
           document.querySelector(".graph").dispatchEvent(next);"""
    )

    assert shown.text(".source-title").startswith("parse in use, by line")
    assert "return x ? parse(x - 1) + copy_name(x)" in shown.text("#source-pane")
    hide = next(
        b
        for b in shown.driver.find_elements("css selector", ".details button")
        if b.text == "Hide source"
    )
    hide.click()
    assert not shown.element("#source-pane").is_displayed()
    assert "source" not in shown.fragment


@pytest.mark.parametrize("page", ["bare", "secret"])
def test_a_page_without_sources_offers_none(desktop: Any, pages: dict[str, str], page: str) -> None:
    text = Path(pages[page].removeprefix("file://")).read_text(encoding="utf-8")
    assert 'id="source"' not in text
    shown = Shown(desktop, pages[page], fragment(tab="table"))
    assert shown.driver.find_elements("css selector", ".place-link") == []
    shown.element("#tab-flame").click()
    assert "Source" not in [
        b.text for b in shown.driver.find_elements("css selector", ".details button")
    ]
    shown.assert_quiet()
