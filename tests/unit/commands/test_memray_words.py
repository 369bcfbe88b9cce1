"""memray's words on the command line of reports: what they mean, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller_tools import command_environment
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Thread, ThreadBlocks
from mem_parser.records.reader import FileReader
from parser_run import parse
from python_records import F, made


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    """Two blocks of 100 bytes and one of 5000 in use, 30 of 7 freed; two threads."""
    import numpy as np

    profile = made((0, F, 2, 1, 100), (1, 0, 1, 0, 5000), (2, 0, 0, 30, 7))
    profile.threads = [Thread(0, 42, "main"), Thread(1, 43, "worker")]
    columns = ([0, 0, 1], [0, 1, 1], [1, 1, 1], [100, 100, 5000])
    profile.thread_blocks = ThreadBlocks(*(np.array(c) for c in columns))
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(profile))
    return path


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    done = parse(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return found


@pytest.mark.parametrize(("letter", "word"), [("t", "total"), ("o", "own"), ("a", "count")])
def test_the_letters_of_the_live_view_sort(letter: str, word: str, heap: Path) -> None:
    by_letter = parse("summary", heap, "--sort", letter, "--alloc")
    assert by_letter.stdout == parse("summary", heap, "--sort", word, "--alloc").stdout
    first = rows("summary", heap, "--sort", letter, "--alloc")[0]
    assert first[word] == max(row[word] for row in rows("summary", heap, "--alloc", "-n", "0"))


@pytest.mark.parametrize(("words", "same"), [
    (["summary", "-s", "3"], ["summary", "--sort", "own"]),
    (["summary", "-s", "5", "-r", "1"], ["summary", "--sort", "count", "-n", "1"]),
    (["summary", "--max-rows", "2"], ["summary", "-n", "2"]),
    (["stats", "--num-largest", "1"], ["stats", "-n", "1"]),
    (["tree", "-f"], ["tree"]),
    (["table", "--force"], ["table"]),
])  # fmt: skip
def test_short_options_mean_what_they_mean_there(
    words: list[str], same: list[str], heap: Path
) -> None:
    assert parse(*words, heap, "--alloc").stdout == parse(*same, heap, "--alloc").stdout != ""


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.parametrize(("form", "end"), [("gprof2dot", "json"), ("csv", "csv")])
@pytest.mark.parametrize("leaks", [[], ["--leaks"]])
def test_records_are_transformed_as_they_are_there(
    form: str, end: str, leaks: list[str], heap: Path
) -> None:
    from memray.reporters.transform import TransformReporter

    reader = FileReader(heap)
    records = (
        reader.get_leaked_allocation_records() if leaks
        else reader.get_high_watermark_allocation_records()
    )  # fmt: skip
    # memray has no stack for records without Python frames; ours has the native one.
    some = [r for r in records if r.stack_trace()]
    theirs = io.StringIO(newline="")
    reporter = TransformReporter(some, format=form, native_traces=False, memory_records=[])
    reporter.render(
        theirs, reader.metadata, show_memory_leaks=False, merge_threads=True, inverted=False
    )
    done = parse("transform", form, heap, *leaks)
    assert done.returncode == 0, done.stderr
    found = (heap.parent / f"memray-transform-x.{end}").read_bytes().decode()
    if form == "gprof2dot":
        ours, known = json.loads(found), json.loads(theirs.getvalue())
        shown = [
            sorted(
                ([tuple(one["functions"][k].values()) for k in e["callchain"]], e["cost"])
                for e in one["events"]
            )
            for one in (ours, known)
        ]
        assert all(event in shown[0] for event in shown[1])
        assert shown[1]
        del ours["events"], known["events"], ours["functions"], known["functions"]
        assert ours == known
    else:
        assert set(theirs.getvalue().splitlines()) <= set(found.splitlines())
    again = parse("transform", form, heap, *leaks)
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already" in again.stderr
    assert parse("transform", form, heap, *leaks, "-f").returncode == 0


def test_records_are_lines_for_a_pipe(heap: Path) -> None:
    done = parse("parse", heap)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("ALLOCATION ") for line in lines)


@pytest.mark.parametrize("command", ["summary", "table", "tree", "stats"])
def test_leaks_are_what_is_in_use(command: str, heap: Path) -> None:
    leaks = parse(command, heap, "--leaks")
    assert (leaks.returncode, leaks.stdout) == (0, parse(command, heap, "--inuse").stdout)
    done = parse(command, heap, "--leaks", "--peak")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2, "error: --leaks and --peak exclude each other",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["summary", "table", "tree", "stats", "flamegraph"])
@pytest.mark.parametrize("words", [
    ["--temporary-allocations"], ["--temporary-allocation-threshold", "3"], ["--temporal"],
])  # fmt: skip
def test_what_needs_an_order_is_refused_with_the_reason(
    command: str, words: list[str], heap: Path
) -> None:
    done = parse(command, heap, *words)
    assert (done.returncode, done.stdout) == (3, "")
    error, hint = done.stderr.splitlines()
    assert error == (
        f"error: {heap}: {words[0]} needs the order of single allocations, and the file has counts "
        "for each call stack"
    )
    assert hint == "hint:  mem_profiler run --events PROGRAM writes a .memlog"


def test_who_reads_records_may_have_enough(heap: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mem_parser", "parse", str(heap)], env=command_environment(),
        stdout=write, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (1, ""), "as of every command"


def test_a_table_has_size_count_thread_allocator_and_place(heap: Path) -> None:
    found = rows("table", heap, "--inuse")
    assert [(r["size"], r["count"], r["allocator"], r["thread"]) for r in found] == [
        (5000, 1, "PyMem_RawCalloc", "all"), (200, 2, "malloc", "all"),
    ]  # fmt: skip
    shown = parse("table", heap, "--inuse").stdout.splitlines()
    [head] = [line for line in shown if "allocator" in line]
    assert head.split() == ["size", "blocks", "thread", "allocator", "location"]
    freed = rows("table", heap, "--freed", "--sort", "count")
    assert [(r["allocator"], r["count"]) for r in freed] == [("realloc", 30), ("malloc", 1)]


def test_a_table_of_threads_has_each_with_its_share(heap: Path) -> None:
    found = rows("table", heap, "--leaks", "--split-threads", "--sort", "thread")
    assert [(r["thread"], r["tid"], r["size"], r["count"]) for r in found] == [
        ("main", 42, 100, 1), ("worker", 43, 5000, 1), ("worker", 43, 100, 1),
    ]  # fmt: skip
    done = parse("table", heap, "--alloc", "--split-threads")
    assert (done.returncode, done.stdout) == (2, "")
    assert "known of blocks in use only" in done.stderr


@pytest.mark.parametrize(
    ("sort", "key"), [("allocator", "allocator"), ("location", "function"), ("size", "size")]
)
def test_a_table_is_sorted_by_any_column(sort: str, key: str, heap: Path) -> None:
    found = [row[key] for row in rows("table", heap, "--alloc", "--sort", sort)]
    assert len(found) == 3
    assert found == sorted(found, reverse=key == "size")


def test_a_table_for_programs_has_every_column(heap: Path) -> None:
    done = parse("table", heap, "--alloc", "--csv", "-n", "2")
    head, *lines = csv.reader(io.StringIO(done.stdout))
    assert len(lines) == 2
    assert {"thread", "tid", "allocator", "function", "file", "line", "size", "count"} <= set(head)
    assert "1 more row hidden" in parse("table", heap, "--alloc", "-n", "2").stdout


def test_a_tree_and_a_flame_graph_may_be_inverted(heap: Path) -> None:
    inverted = parse("tree", heap, "--inverted", "-b", "3").stdout
    assert inverted == parse("tree", heap, "--invert", "-n", "3").stdout
    page = heap.with_name("x.html")
    for words, value in (([], "false"), (["--inverted", "--split-threads", "--no-web"], "true")):
        done = parse("flamegraph", heap, "-o", page, *words)
        assert done.returncode == 0, done.stderr
        assert f'"invert":{value}' in page.read_text().replace(" ", "")
