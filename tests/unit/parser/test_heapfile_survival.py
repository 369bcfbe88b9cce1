"""Whatever a `.heap` file says survives every command that writes one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from controller_tools import HeapFile
from mem_cli.parser.group import cli as mem_parser
from mem_parser.devices import Device, Mark
from mem_parser.heapfile.namecolumns import SYMBOL_COLUMNS
from mem_parser.heapfile.reader import KNOWN_COLUMNS
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import (
    Capture,
    ExecRange,
    Module,
    PeakSource,
    Profile,
    Reading,
    SiteTable,
    StackTable,
    Thread,
    ThreadBlocks,
)
from mem_parser.processfacts import AttachStops, ControllerUse, Grown, Memory
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.readers import read_profile
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames
from mem_parser.tracked import Tracked

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "heap-format.md"
REWRITES: dict[str, list[str]] = {
    "convert": ["convert", "IN", "-o", "OUT", "--partial"],
    "symbolize": ["symbolize", "IN", "-o", "OUT", "--partial"],
    "merge": ["merge", "IN", "-o", "OUT", "--partial"],
}


def column(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


def capture() -> Capture:
    return Capture(
        writer="mem_parser 0.1.0", pid=4711, parent_pid=12, uid=1000, host="web1", arch="x86_64",
        comm="worker", exe="/opt/app", command="app --flag=1", allocator="/lib/libc.so.6",
        unwinder="cfi", sampler="/opt/libmem_sampler.so", suppressions="/opt/leaks.txt",
        capture=3, depth_limit=64, started=1.5e9, duration_s=9.5, part_s=(0.5, 8.0),
        holds_older=True, kind="snapshot", end="running",
        from_start=True, python="3.11", pymalloc=True, pymem=True, samples=7,
        lost={"reentry": 2, "truncated": 1},
        grown=[Grown("heap", "", 1, 2)], memory=Memory(*range(1, 13)),
        bucket_end_s=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None],
        peak_at_s=4.5, peak_bytes=900.0, peak_source=PeakSource.SAMPLER, peak_of_estimates=True,
        before_end_at_s=8.75, complete=False, notes=["one", "two"],
        controller=ControllerUse(0.5, 1 << 20), attach=AttachStops(3, 0.004, 0.002),
        device=Device("cuda", 1, "pool", 5, 4, 3, 100, 200, 50, 8.5, 300, 400),
        domains=["host", "pool-x"], marks_lost=6,
        tracked=Tracked(
            "app.py -v", "pymalloc debug", (("<module>", "app.py", 9), ("main", "app.py", 3)),
            (77, 12345), "/lib/python3.11", ("/site",), ("/srv",), ((4711, ""), (4712, "io")),
        ),
    )  # fmt: skip


def every_fact() -> Profile:
    """A profile in which nothing has the value that its absence would give it."""
    two = [ExecRange(0x1000, 0x2000, 0x1000), ExecRange(0x4000, 0x5000, 0x3000)]
    old = Module("/opt/old.so", two, "ab" * 20, 0x500, 1, 4, start=0x800, end=0x6000)
    new = Module(
        "/opt/new.so", [ExecRange(0x4100, 0x4F00, 0)], "cd" * 20, 0, 5, deleted=True, start=0x4000,
        end=0x5000,
    )  # fmt: skip
    frame = EmbeddedFrame("leaf", "leaf(int)", "leaf.c", 12)
    return Profile(
        format="mem_profiler", rate_bytes=512.0,
        stacks=StackTable(
            column(0, 2, 4), np.array([0x1100, 0x4200, 0x1100, 0x4201], np.uint64),
            np.array([1, 2], np.uint32), np.array([3, 6], np.uint32), leaf_exact=False,
            interpreter=np.array([0, 2], np.uint32), label=np.array([1, 2], np.uint32),
        ),
        labels=Labels(
            np.array([0, 1], np.uint32), np.array([1, 2], np.uint8), ["io", "fetch \u00fc"],
        ),
        python=PythonStacks(
            np.array([0, 1], np.uint32), np.array([1, 0], np.uint32), np.array([7, 9], np.uint32),
            np.array([True, False]),
            [PythonCode("f", "C.f", "app.py", 8), PythonCode("<module>", "<module>", "app.py", 1)],
        ),
        sites=SiteTable(
            stack=column(0, 1, 1), domain=np.zeros(3, np.int32),
            inuse_blocks=column(1, 2, 0), inuse_bytes=column(10, 20, 0),
            alloc_blocks=column(3, 2, 2), alloc_bytes=column(30, 20, 60),
            peak_blocks=column(2, 2, 1), peak_bytes=column(20, 20, 30),
            births=np.arange(24, dtype=np.uint32).reshape(3, 8),
            live_births=np.arange(24, 48, dtype=np.uint32).reshape(3, 8),
            oldest_birth_s=np.array([0.5, 1.5, np.nan]), rate_bytes=np.array([512.0, 256.0, 1.0]),
            inuse_taken_bytes=column(16, 32, 0), alloc_taken_bytes=column(48, 32, 64),
            failed_blocks=column(0, 1, 2), failed_bytes=column(0, 100, 200),
            before_end_blocks=column(2, 1, 0), before_end_bytes=column(20, 10, 0),
            before_end_births=np.arange(48, 72, dtype=np.uint32).reshape(3, 8),
            before_end_live_births=np.arange(72, 96, dtype=np.uint32).reshape(3, 8),
            before_end_oldest_s=np.array([0.25, 1.25, np.nan]),
            resident_bytes=column(7, 11, 0), resident_squares=np.array([49.0, 61.0, 0.0]),
            swapped_bytes=column(2, 3, 0), swapped_squares=np.array([4.0, 5.0, 0.0]),
            huge_bytes=column(3, 2, 1), huge_squares=np.array([9.0, 2.0, 1.0]),
            slop_bytes=column(3, 1, 0), slop_squares=np.array([9.0, 1.0, 0.0]),
            pages_bytes=column(5, 6, 0), pages_squares=np.array([25.0, 36.0, 0.0]),
            held_bytes=column(4, 2, 0), held_squares=np.array([16.0, 4.0, 0.0]),
            pinned_bytes=column(1, 2, 0), pinned_squares=np.array([1.0, 4.0, 0.0]),
        ),
        domains=["pool-x"], modules=[old, new],
        threads=[Thread(1, 4711, "main"), Thread(2, 4712, "io")],
        thread_blocks=ThreadBlocks(column(0, 1), column(1, 2), column(1, 2), column(10, 20)),
        series=[Reading(1.0, 10.0, 2.0, 3, 4096, 5.0, 6, 7, 8, 9, 10, 11, 12, 13)],
        capture=capture(), since_start=True, has_alloc=False, exact_samples=False,
        sampling="estimated by Go's sampler at 512 KiB",
        embedded=EmbeddedNames({(0, 0x10FF): (frame, frame), (NO_MODULE, 0x99): (frame,)}),
        marks=[Mark(1.25, 77, "begin", 2, "train", "step 1")],
    )  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "first.heap"
    path.write_bytes(write_heap(every_fact()))
    return path


def same(found: Any, wanted: Any, where: str = "profile") -> None:
    """Compare two values of the model field by field, arrays by their entries."""
    if dataclasses.is_dataclass(wanted) and not isinstance(wanted, type):
        for field in dataclasses.fields(wanted):
            name = field.name
            if name not in {"map_lines", "file_uid", "file_time_s"}:
                same(getattr(found, name), getattr(wanted, name), f"{where}.{name}")
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(found, wanted, where)
    else:
        assert found == wanted, where


def facts_of(path: Path) -> tuple[dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]]:
    """Header, lines and columns but for the names, which `symbolize` makes anew."""
    heap = HeapFile(path)
    columns = {k: v.tolist() for k, v in heap.columns.items() if k not in SYMBOL_COLUMNS}
    for name in ("oldest_birth_s", "before_end_oldest_s"):
        columns[name] = [repr(v) for v in columns[name]]
    return heap.header, heap.lists, columns


def documented(section: str, end: str) -> set[str]:
    """The keys of a table of the format's document."""
    text = DOCUMENT.read_text(encoding="utf-8").split(section, 1)[1].split(end, 1)[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in cell.replace("`", "").replace(" ", "").split(",")}


def test_no_fact_of_the_sample_is_the_one_of_absence() -> None:
    sample, empty = capture(), Capture()
    alike = [f.name for f in dataclasses.fields(Capture)
             if getattr(sample, f.name) == getattr(empty, f.name)]  # fmt: skip
    assert alike == []
    sites = every_fact().sites
    assert [f.name for f in dataclasses.fields(sites) if getattr(sites, f.name) is None] == []


def test_the_sample_has_every_documented_key_and_column(written: Path) -> None:
    heap = HeapFile(written)
    assert set(heap.header) == documented("### `%header`", "Names in `lost`")
    columns = documented("### Columns", "Part 1 and the columns") | documented(
        "`%sample` has in addition", "*Untracked*"
    )
    assert set(heap.columns) == columns == KNOWN_COLUMNS


def test_every_fact_is_read_as_it_was_written(written: Path) -> None:
    wanted = every_fact()
    found = read_profile(str(written))
    same(found, wanted)


@pytest.mark.parametrize("command", REWRITES)
def test_every_fact_survives(command: str, written: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.heap"
    places = {"IN": str(written), "OUT": str(second)}
    arguments = [places.get(word, word) for word in REWRITES[command]]
    done = CliRunner().invoke(mem_parser, arguments)
    assert done.exit_code == 0, done.output
    assert facts_of(second) == facts_of(written)
    names: Callable[[Path], Any] = lambda path: read_profile(str(path)).embedded  # noqa: E731
    # `symbolize` names addresses of stacks alone, which the one without a module is not.
    expected = set(names(written).frames) - {(NO_MODULE, 0x99)}
    assert expected <= set(names(second).frames)
