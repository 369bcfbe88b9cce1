"""The example of four functions: c and d hold the same, b and a what both hold, in every report."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controller_tools import command_environment
from mem_cli.parser.group import cli
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from sampler_run import silent
from web_profiles import functions_of

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(180),
]

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
