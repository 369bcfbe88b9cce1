"""Queries of docs/queries.md and the example of four functions, against the reports."""

import functools
import json
import math
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import nvidia.nvtx
import pytest
from click.testing import CliRunner

from c_build import WARNINGS, compile_program
from controller_tools import command_environment, command_ok
from mem_cli.parser.group import cli
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_parser.tables.schema import TABLES
from parser_run import parse
from sampler_run import SAMPLER, silent
from web_profiles import functions_of

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(180),
]
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
NVTX_HEADERS = Path(next(iter(nvidia.nvtx.__path__))) / "include"
QUERIES = dict(re.findall(r"^### ([^\n]+)\n+```sql\n(.*?)```", DOCUMENT, re.DOTALL | re.MULTILINE))
KIB, MIB = 1 << 10, 1 << 20
NAMES = tempfile.TemporaryDirectory(prefix="names-")
"""Kept between the commands: all are about one program."""
Rows = list[dict[str, Any]]


class Capture(NamedTuple):
    log: Path
    heap: Path


def captured(folder: Path, name: str, rounds: int, rate: int) -> Capture:
    built = compile_program(
        ROOT / "tests" / "targets" / "asked.c",
        ("-O1", "-g", *WARNINGS, "-isystem", str(NVTX_HEADERS)),
        libs=("-ldl", "-lpthread"),
    )
    command_ok(
        "run", "--events", "-c", rate, "-o", name, built, rounds, cwd=folder,
        variables={"NVTX_INJECTION64_PATH": str(SAMPLER)},
    )  # fmt: skip
    [log], [heap] = folder.glob(f"{name}.*.memlog"), folder.glob(f"{name}.*.heap")
    return Capture(log, heap)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """A run of which every block was sampled."""
    return captured(tmp_path_factory.mktemp("one"), "one", 5000, 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """A run of which some blocks were, and which allocates more."""
    return captured(tmp_path_factory.mktemp("two"), "two", 9000, 512)


@functools.cache
def report(*words: str | Path) -> Any:
    done = parse(*words, "--json", MEM_PROFILER_CACHE=NAMES.name)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(title: str, *files: Path) -> Rows:
    rows: Rows = report("query", QUERIES[title], *files)["rows"]
    return rows


def by_function(rows: Rows, key: str) -> dict[str, float]:
    return {row["function"]: row[key] for row in rows if row[key]}


def test_every_query_of_the_document_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert len(QUERIES) == 12
    assert [title for title in QUERIES if f'"{title}"' not in text] == []


def test_the_holders_at_the_peak_are_those_of_peaks(two: Capture) -> None:
    log = two.log
    found = asked("Who held most at the peak?", log)
    peak = report("peaks", log, "-n", "1", "--functions", "100")["rows"][0]
    assert by_function(found, "bytes") == pytest.approx(by_function(peak["functions"], "flat"))
    assert {row["function"]: row["error"] for row in found} == pytest.approx(
        {row["function"]: row["flat_std_error"] for row in peak["functions"]}, abs=1e-3
    )
    assert found[0]["function"] == "spike"
    total = sum(row["bytes"] for row in found)
    assert total == pytest.approx(peak["live_bytes"], rel=1e-6)


def test_the_peak_of_each_file_is_that_of_top(one: Capture, two: Capture) -> None:
    found = asked("How did the peak develop?", two.heap, one.heap)
    for row, file in zip(found, sorted((one.heap, two.heap)), strict=True):
        top = report("top", file, "--peak")
        assert Path(row["file"]).name == file.name
        assert row["bytes"] == pytest.approx(top["total"])
        assert row["error"] == pytest.approx(top["total_std_error"], abs=1e-3)


def test_short_lives_are_those_of_the_program_and_of_temporary(one: Capture, two: Capture) -> None:
    title = "What lived for less than 1 ms?"
    found = {row["function"]: row for row in asked(title, one.log)}
    assert found["scratch"]["blocks"] == pytest.approx(5000, rel=0.02)
    assert found["scratch"]["bytes"] == 512 * found["scratch"]["blocks"]
    assert found["scratch"]["error"] == 0
    assert not {"row", "table"} & set(found)
    bound = by_function(report("temporary", one.log, "--within", "1ms", "-n", "0")["rows"], "bytes")
    assert all(bound[name] <= row["bytes"] for name, row in found.items() if name in bound)
    some = {row["function"]: row for row in asked(title, two.log)}["scratch"]
    assert 0 < some["error"] < some["bytes"]
    assert some["bytes"] == pytest.approx(9000 * 512, abs=6 * some["error"])


def test_what_another_thread_freed_is_what_it_was_sent(one: Capture) -> None:
    found = asked("What is freed by another thread than the one that allocated it?", one.log)
    [row] = [row for row in found if row["function"] == "message"]
    assert (row["blocks"], row["bytes"]) == (300, 300_000)
    assert not {"row", "scratch", "spike"} & {row["function"] for row in found}


def test_growth_between_marks_is_that_of_diff(two: Capture) -> None:
    log = two.log
    found = by_function(asked("What grew between two marks?", log), "growth")
    changes = report("diff", "--at", "warm", "loaded", log, "-n", "0")["rows"]
    assert found == pytest.approx(by_function(changes, "delta"))
    assert max(found, key=lambda name: found[name]) == "row"


def test_rates_add_up_to_those_of_timeline_and_top(two: Capture) -> None:
    log = two.log
    found = asked("How much does each function allocate in each second?", log)
    seconds = {row["from_s"]: row for row in report("timeline", log, "--interval", "1s")["rows"]}
    for second in {row["second"] for row in found}:
        bytes_there = math.fsum(row["bytes"] for row in found if row["second"] == second)
        assert bytes_there == pytest.approx(seconds[second]["born_bytes"])
    total = report("top", log, "--alloc")["total"]
    assert math.fsum(row["bytes"] for row in found) == pytest.approx(total, rel=1e-3)


def test_modules_hold_what_is_in_use(two: Capture) -> None:
    for file in (two.log, two.heap):
        found = asked("Which modules hold memory?", file)
        total = report("top", file, "--inuse")
        assert sum(row["bytes"] for row in found) == pytest.approx(total["total"])
        error = math.hypot(*(row["error"] for row in found))
        assert error == pytest.approx(total["total_std_error"], abs=1e-3)
        assert Path(found[0]["module"]).name.startswith("asked-")


def test_spans_have_all_small_live_blocks(one: Capture) -> None:
    found = asked("How full is the memory around small blocks?", one.log)
    inuse = report("top", one.log, "--inuse")["total"]
    assert sum(row["bytes"] for row in found) == inuse - 4 * MIB
    full = sum(row["spans"] for row in found if row["percent_full"] >= 80)
    assert full >= 100 * 10_000 // (64 * KIB) - 4


def test_ages_of_survivors_add_up_to_what_is_in_use(two: Capture) -> None:
    found = asked("How old is what is still live?", two.log)
    total = report("top", two.log, "--inuse")
    assert sum(row["bytes"] for row in found) == pytest.approx(total["total"], rel=1e-3)
    assert sum(row["samples"] for row in found) == total["samples"]
    longest = report("timeline", two.log)["to_s"]
    assert all(10 ** row["power_of_ten_s"] <= longest for row in found)


@pytest.mark.parametrize("kind", ["log", "heap"])
def test_two_files_are_compared_as_top_shows_each(kind: str, one: Capture, two: Capture) -> None:
    files = sorted([getattr(one, kind), getattr(two, kind)], key=str)
    if kind == "log":
        found = asked("What do two logs allocate?", *files)
        assert found[0]["function"] == "scratch"
        for file, side in zip(files, ("before", "after"), strict=True):
            rows = report("top", file, "--alloc", "-n", "0")["rows"]
            assert by_function(found, side) == pytest.approx(by_function(rows, "flat"))
    else:
        found = asked("Which stacks of two .heap files differ?", *files)
        stack = next(row for row in found if row["calls"].endswith("main;scratch"))
        for file, side in zip(files, ("before", "after"), strict=True):
            rows = report("top", file, "--alloc", "-n", "0")["rows"]
            assert stack[side] == pytest.approx(by_function(rows, "flat")["scratch"])
    assert all(row["change"] == pytest.approx(row["after"] - row["before"]) for row in found)


def test_the_running_total_is_that_of_the_timeline(two: Capture) -> None:
    log = two.log
    found = asked("How high was each 10 ms?", log)
    timeline = report("timeline", log, "--interval", "10ms")["rows"]
    rows = {round(row["from_s"] * 1000): row for row in timeline}
    top = max(found, key=lambda row: float(row["highest"]))
    assert top["highest"] == pytest.approx(max(r["max_bytes"] for r in timeline), abs=1e-3)
    for row in found:
        same = rows[row["from_ms"]]
        if same["at_s"] * 1000 > row["from_ms"]:
            assert row["highest"] == pytest.approx(same["max_bytes"], abs=1e-3)
    peak = report("peaks", log, "-n", "1")["rows"][0]
    assert (top["highest"], top["at_ns"] / 1e9) == pytest.approx(
        (peak["live_bytes"], peak["at_s"]), abs=1e-3
    )


def test_parquet_has_the_answers_that_query_gives(two: Capture, tmp_path: Path) -> None:
    out = tmp_path / "two.parquet"
    assert parse("convert", two.log, "-o", out).returncode == 0
    connection = duckdb.connect()
    for table in TABLES:
        place = out / f"{table.name}.parquet"
        connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM '{place}'")
    for title, query in QUERIES.items():
        result = connection.execute(query)
        names = [column[0] for column in result.description]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        expected = asked(title, two.log)
        key = names[0]
        assert len(rows) == len(expected), title
        assert sorted(str(r[key]) for r in rows) == sorted(str(r[key]) for r in expected), title
    connection.close()


def test_a_trace_has_the_marks_and_the_peak_of_the_program(one: Capture, tmp_path: Path) -> None:
    out = tmp_path / "one.perfetto.json"
    assert parse("convert", one.log, "-o", out).returncode == 0
    events = json.loads(out.read_text())["traceEvents"]
    marks = {e["name"]: e["ts"] for e in events if e.get("cat") == "mark"}
    first = next(e for e in events if e["name"] == "peak 1: spike")
    assert marks["warm"] < marks["loaded"] < first["ts"]
    live = [e["args"]["value"] for e in events if e["name"] == "live bytes"]
    assert max(live) == first["args"]["live_bytes"] >= 20 * MIB


SCRIPT = """\
def a(n):
    return b(n)

def b(n):
    return [c(n), d(n)]

def c(n):
    return "a" * n

def d(n):
    return "a" * n

if __name__ == "__main__":
    from mem_profiler import Tracker
    with Tracker("spec.heap", rate=1, trace_python_allocators=False):
        a(100000)
"""
LINES = {"a": 2, "b": 5, "c": 8, "d": 11}
ONE = sys.getsizeof("a" * 100_000)  # header, characters, the zero behind them
BOTH = 2 * ONE
TOTALS = {"a": BOTH, "b": BOTH, "c": ONE, "d": ONE}
OWN = {"a": 0, "b": 0, "c": ONE, "d": ONE}
BLOCKS = {"a": 2, "b": 2, "c": 1, "d": 1}


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spec")
    (folder / "spec.py").write_text(SCRIPT)
    silent([sys.executable, "spec.py"], command_environment(), cwd=folder)
    return folder / "spec.heap"


def reported(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def name_of(text: str) -> str:
    """The function's own name: a report may add its file."""
    return text.partition(" ")[0]


def rows(command: str, heap: Path, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(reported(command, heap, "--json", *words))["rows"]
    return found


def column(found: list[dict[str, Any]], key: str) -> dict[str, float]:
    """A column of the rows of the four functions."""
    values = {name_of(row["function"]): row[key] for row in found}
    return {name: values[name] for name in TOTALS}


def test_two_blocks_of_the_same_size_are_all_that_is_in_the_file(heap: Path) -> None:
    profile = read_profile(str(heap))
    for count in (Count.PEAK, Count.ALLOC, Count.FREED):
        assert profile.total(count, Unit.SPACE).value == BOTH
        assert profile.total(count, Unit.OBJECTS).value == 2
    assert profile.total(Count.INUSE, Unit.SPACE).value == 0
    for command in ("summary", "top", "table", "tree"):
        assert "Total: 195.4 KiB at the peak   2 samples" in reported(command, heap)


def test_a_summary_has_total_own_and_count_of_each(heap: Path) -> None:
    found = rows("summary", heap)
    assert column(found, "total") == TOTALS
    assert column(found, "own") == OWN
    assert column(found, "count") == BLOCKS


@pytest.mark.parametrize(("letter", "key"), [("t", "total"), ("o", "own"), ("a", "count")])
def test_a_summary_is_sorted_by_each(letter: str, key: str, heap: Path) -> None:
    values = [row[key] for row in rows("summary", heap, "--sort", letter)]
    assert values == sorted(values, reverse=True)


def test_a_table_of_functions_has_flat_and_cum(heap: Path) -> None:
    found = rows("top", heap)
    assert column(found, "flat") == OWN
    assert column(found, "cum") == TOTALS
    lines = {name_of(row["function"]): row["flat"] for row in rows("top", heap, "--lines")}
    assert {name for name, flat in lines.items() if flat} == {"c", "d"}


def test_a_table_of_allocators_has_the_lines(heap: Path) -> None:
    found = rows("table", heap)
    assert [row["size"] for row in found] == [ONE, ONE]
    assert {(name_of(row["function"]), row["line"]) for row in found} == {
        (name, LINES[name]) for name in ("c", "d")
    }
    assert {row["allocator"] for row in found} == {"malloc"}
    assert [row["allocator"] for row in rows("table", heap, "--python")[:2]] == ["malloc"] * 2


def test_a_tree_has_who_calls_whom(heap: Path) -> None:
    found = [row for row in rows("tree", heap) if name_of(row["function"]) in TOTALS]
    assert [name_of(row["function"]) for row in found] == ["a", "b", "c", "d"]
    depth = [row["depth"] - found[0]["depth"] for row in found]
    assert depth == [0, 1, 2, 2]
    assert column(found, "total") == TOTALS
    assert column(found, "own") == OWN


def test_statistics_name_both(heap: Path) -> None:
    found = json.loads(reported("stats", heap, "--json"))
    named = {name_of(row["name"]): (row["bytes"], row["blocks"]) for row in found["functions"]}
    assert named == {"c": (ONE, 1), "d": (ONE, 1)}


def test_callers_and_callees_add_up(heap: Path) -> None:
    [found] = [r for r in json.loads(reported("peek", heap, "^b", "--json"))["rows"]
               if name_of(r["function"]) == "b"]  # fmt: skip
    assert {name_of(c["function"]): c["cum"] for c in found["callers"]} == {"a": BOTH}
    callees = {name_of(c["function"]): c["cum"] for c in found["callees"]}
    assert callees == {"c": ONE, "d": ONE}


def test_pages_have_the_same_numbers(heap: Path) -> None:
    page = heap.with_name("report.html")
    reported("report", heap, "-o", page)
    functions = {name_of(name): size for name, size in functions_of(page.read_text()).items()}
    assert {name: functions[name] for name in TOTALS} == TOTALS
    flame = heap.with_name("flame.html")
    reported("flamegraph", heap, "-o", flame)
    assert flame.stat().st_size > 10_000


def test_records_have_the_stacks(heap: Path) -> None:
    from mem_parser.records.reader import FileReader

    with FileReader(heap) as reader:
        found = {r.stack_trace()[0][0]: r for r in reader.get_high_watermark_allocation_records()}
    assert {name: (r.size, r.n_allocations) for name, r in found.items()} == {
        "c": (ONE, 1), "d": (ONE, 1),
    }  # fmt: skip
    for name, record in found.items():
        stack = [(function, line) for function, _, line in record.stack_trace(3)]
        assert stack == [(one, LINES[one]) for one in (name, "b", "a")]
