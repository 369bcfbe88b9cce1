"""Records of a profile: stacks of Python, native ones and both, sums, and what a file has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heapfiles import HeapFile, Record
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile
from mem_parser.records.kinds import AllocatorType, FileFormat, allocator_of
from mem_parser.records.reader import FileReader, NotInFile
from mem_parser.records.stacks import Element, frames_below
from mem_parser.records.statistics import Modules, compute_statistics, dump_all_records
from mem_parser.tracked import Tracked, read_tracked
from python_records import G_TRACKED, NATIVE, NODES, STOP, F, G, made


def reader_of(folder: Path, profile: Profile, **options: int) -> FileReader:
    path = folder / "x.heap"
    path.write_bytes(write_heap(profile))
    return FileReader(path, **options)


def test_a_record_has_its_python_native_and_hybrid_stack(tmp_path: Path) -> None:
    [record] = reader_of(tmp_path, made((0, G, 2, 1, 100))).get_leaked_allocation_records()
    assert (record.size, record.n_allocations, record.allocator) == (200, 2, AllocatorType.MALLOC)
    assert (record.tid, record.thread_name, record.stack_id) == (-1, "merged thread", G)
    python = [("g", "/app/g.py", 8), ("f", "/app/s.py", 4), ("<module>", "/app/s.py", 40)]
    assert record.stack_trace() == python
    assert record.stack_trace(max_stacks=1) == python[:1]
    assert record.stack_trace(0) == []
    native = record.native_stack_trace()
    assert [name for name, _, _ in native] == list(NATIVE[0][1:])
    assert native[0] == ("PyList_New", "PyList_New.c", 1)
    hybrid = ["PyList_New", "g", "PyObject_Call", "f", "<module>", "main"]
    assert [name for name, _, _ in record.hybrid_stack_trace()] == hybrid
    assert [name for name, _, _ in record.hybrid_stack_trace(2)] == hybrid[:2]


def test_frames_without_a_loop_are_outermost_and_loops_without_frames_stay(tmp_path: Path) -> None:
    profile = made((1, G, 1, 0, 10), (1, 0, 1, 0, 10))
    with_python, without = sorted(
        reader_of(tmp_path, profile).get_leaked_allocation_records(), key=lambda r: -r.stack_id
    )
    names = [name for name, _, _ in with_python.hybrid_stack_trace()]
    assert names == ["setup", "g", "main", "f", "<module>"]
    assert without.stack_trace() == []
    assert without.hybrid_stack_trace() == without.native_stack_trace()
    assert with_python.allocator is AllocatorType.PYMALLOC_CALLOC


def test_sites_of_one_stack_are_one_record_and_kinds_are_apart(tmp_path: Path) -> None:
    profile = made((0, F, 2, 1, 100), (0, F, 1, 0, 5000), (2, 0, 0, 3, 7))
    reader = reader_of(tmp_path, profile)
    [left] = reader.get_leaked_allocation_records()
    assert (left.size, left.n_allocations) == (5200, 3)
    peak = {
        r.allocator: (r.n_allocations, r.size)
        for r in reader.get_high_watermark_allocation_records()
    }
    assert peak == {AllocatorType.MALLOC: (4, 5300), AllocatorType.REALLOC: (3, 21)}
    assert {r.n_allocations for r in reader.get_total_allocation_records()} == {4, 3}
    assert left == next(iter(reader.get_leaked_allocation_records()))
    assert left != next(iter(reader.get_total_allocation_records()))


def test_what_a_tracker_allocates_is_not_the_program_s(tmp_path: Path) -> None:
    profile = made((0, STOP, 5, 0, 100), (0, G_TRACKED, 2, 0, 100))
    [record] = reader_of(tmp_path, profile).get_leaked_allocation_records()
    assert record.n_allocations == 2
    assert [name for name, _, _ in record.stack_trace()] == ["g", "<module>"]


def test_sampled_blocks_stand_for_more(tmp_path: Path) -> None:
    profile = made((0, F, 10, 0, 64), rate=1024.0)
    [record] = reader_of(tmp_path, profile).get_leaked_allocation_records()
    chance = 1 - np.exp(-64 / 1024)
    assert record.n_allocations == round(10 / chance)
    assert record.size == round(640 / chance)


def test_the_circumstances_and_the_readings(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, made((0, F, 2, 1, 100)), max_memory_records=4)
    found = reader.metadata
    assert (found.pid, found.main_thread_id, found.command_line) == (42, 42, "python s.py")
    assert (found.end_time - found.start_time).total_seconds() == 2.5
    assert found.start_time.timestamp() == 1_700_000_000
    assert (found.total_allocations, found.total_frames, found.peak_memory) == (4, len(NODES), 9000)
    assert (found.python_allocator, found.has_native_traces) == ("pymalloc", True)
    assert found.file_format is FileFormat.AGGREGATED_ALLOCATIONS
    snapshots = list(reader.get_memory_snapshots())
    assert [(s.time, s.rss, s.heap) for s in snapshots] == [
        (1_700_000_000_000 + 100 * t, 5000 + t, 100 * t) for t in (0, 3, 6, 9)
    ]


def test_statistics_are_of_all_that_was_allocated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader_of(tmp_path, made((0, G, 2, 1, 100), (0, F, 1, 0, 5000), (2, 0, 0, 30, 7)))
    found = compute_statistics(tmp_path / "x.heap", num_largest=2)
    assert (found.total_num_allocations, found.total_memory_allocated) == (34, 5510)
    assert found.allocation_count_by_size == {100: 3, 5000: 1, 7: 30}
    assert found.allocation_count_by_allocator == {"MALLOC": 4, "REALLOC": 30}
    f, g, start = ("f", "/app/s.py", 4), ("g", "/app/g.py", 8), ("start", "start.c", 10)
    assert found.top_locations_by_size == [(f, 5000), (g, 300)]
    assert [place[0] for place, _ in found.top_locations_by_count] == [start[0], "g"]
    assert found.top_modules_by_allocation_size == [("s", 1, 5000), ("g", 3, 300)]
    assert found.top_modules_by_allocation_count[0] == ("<root>", 30, 210)
    dump_all_records(tmp_path / "x.heap")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert any("size=5000 allocator=MALLOC stack=f /app/s.py:4 <- <module>" in one for one in lines)
    with pytest.raises(ValueError, match="positive"):
        compute_statistics(tmp_path / "x.heap", num_largest=0)


def test_what_a_file_of_counts_has_not_is_said_with_what_it_has(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, made((0, F, 2, 1, 100), peak=False))
    asked = [
        reader.get_allocation_records,
        reader.get_temporary_allocation_records,
        lambda: reader.get_temporal_allocation_records(merge_threads=True),
        lambda: reader.get_temporal_high_water_mark_allocation_records(merge_threads=True),
        reader.get_tracked_objects,
        reader.get_high_watermark_allocation_records,
        lambda: reader.get_high_watermark_allocation_records(merge_threads=False),
        lambda: reader.get_leaked_allocation_records(merge_threads=False),
    ]
    for ask in asked:
        with pytest.raises(NotInFile, match=r"x\.heap does not have .*; it has "):
            ask()
    assert issubclass(NotInFile, NotImplementedError)


def test_a_closed_reader_reads_no_more(tmp_path: Path) -> None:
    with reader_of(tmp_path, made((0, F, 2, 1, 100))) as reader:
        records = reader.get_leaked_allocation_records()
        [record] = records
    assert reader.closed
    assert record.stack_trace()
    for ask in (
        reader.get_leaked_allocation_records, reader.get_memory_snapshots,
        reader.get_allocation_records, lambda: reader.metadata, reader.__enter__,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="closed FileReader"):
            ask()


def test_a_file_that_cannot_be_read_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        FileReader(tmp_path / "nothing")
    (tmp_path / "text").write_text("no profile")
    with pytest.raises(OSError, match="text"):
        FileReader(tmp_path / "text")


def test_files_of_other_tools_have_records_too(tmp_path: Path) -> None:
    (tmp_path / "x.heap").write_bytes(HeapFile([Record((0x1000, 0x2000), 3, 100)], rate=1).data)
    [record] = FileReader(tmp_path / "x.heap").get_leaked_allocation_records()
    assert record.allocator is AllocatorType.MALLOC
    assert record.stack_trace() == []
    assert record.native_stack_trace()


@pytest.mark.parametrize(("name", "allocator"), [
    ("malloc", "MALLOC"), ("calloc", "CALLOC"), ("reallocarray", "REALLOC"),
    ("posix_memalign", "POSIX_MEMALIGN"), ("aligned_alloc", "ALIGNED_ALLOC"),
    ("operator new", "MALLOC"), ("PyObject_Malloc", "PYMALLOC_MALLOC"),
    ("PyMem_Realloc", "PYMALLOC_REALLOC"), ("PyMem_RawCalloc", "PYMALLOC_CALLOC"),
    ("PyMem_Free", "MALLOC"), ("libmem_sampler.so+0x10", "MALLOC"),
])  # fmt: skip
def test_the_function_that_was_called_tells_the_allocator(name: str, allocator: str) -> None:
    assert allocator_of(name).name == allocator


ROOT = (("<module>", "m.py", 9), ("main", "m.py", 5), ("run", "m.py", 3))


@pytest.mark.parametrize(("outwards", "callers"), [
    ([("run", "m.py", 4), ("f", "m.py", 1)], 0),
    ([*ROOT[:2], ("run", "m.py", 4), ("f", "m.py", 1)], 2),
    ([*ROOT[:2], ("run", "m.py", 3)], 2),
    ([ROOT[1], ("run", "m.py", 4), ("f", "m.py", 1)], 1),
    ([ROOT[0], ("main", "m.py", 6), ("run", "m.py", 3)], 0),
    ([*ROOT[:2], ("other", "m.py", 4)], 0),
    ([("_bootstrap", "threading.py", 1), ("f", "m.py", 1)], 0),
    ([], 0),
])  # fmt: skip
def test_frames_that_called_the_tracked_block_are_told(
    outwards: list[Element], callers: int
) -> None:
    assert frames_below(outwards[::-1], ROOT) == callers


def test_modules_are_packages_outside_of_the_standard_library() -> None:
    told = Modules(
        Tracked(stdlib="/p/lib/python3.12", packages=("/p/lib/python3.12/site-packages",),
                paths=("/srv/app", "/p/lib/python3.12")),
    )  # fmt: skip
    files = {
        "/p/lib/python3.12/json/decoder.py": "<root>",
        "<frozen importlib._bootstrap>": "<root>",
        "/p/lib/python3.12/site-packages/numpy/core/fromnumeric.py": "numpy",
        "/p/lib/python3.12/site-packages/six.py": "six",
        "/srv/app/shop/models/cart.py": "shop",
        "/elsewhere/script.py": "script",
        "/q/lib/python3.9/site-packages/mem_profiler/tracking/tracker.py": "tracker",
    }
    for file, name in files.items():
        assert told.of_stack([("f", file, 1)]) == name, file
    inner = [("f", "/p/lib/python3.12/json/decoder.py", 1), ("g", "/srv/app/shop/a.py", 2)]
    assert told.of_stack(inner) == "shop"
    by_path = Modules(None)
    assert by_path.of_stack([("f", "/usr/lib/python3.12/json/x.py", 1)]) == "<root>"
    assert by_path.of_stack([("f", "/v/lib/python3.12/site-packages/click/core.py", 1)]) == "click"


@pytest.mark.parametrize(("tracked", "changed"), [
    ({"root": [["f", "s.py", "9"]]}, {}),
    ({"root": [["f", "s.py", 9], []]}, {}),
    ({"threads": [[1, "io"], [2], "x", [True, "y"]]}, {"threads": ((1, "io"),)}),
    ({"writer": [7, -1]}, {}),
    ({"writer": [7, 8]}, {"writer": (7, 8)}),
    ({"paths": [1, "/a"]}, {"paths": ("/a",)}),
])  # fmt: skip
def test_what_a_program_said_of_itself_is_checked(
    tracked: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert read_tracked(tracked) == Tracked(**changed)


def test_a_file_that_nobody_finished_says_what_it_has(tmp_path: Path) -> None:
    profile = made((0, F, 2, 1, 100))
    profile.capture.end, profile.capture.pid = "running", (1 << 22) + 1  # no process has it
    profile.capture.tracked = Tracked(command="s.py", writer=((1 << 22) + 2, 5))
    with pytest.warns(RuntimeWarning, match="the one that was to write the rest has not"):
        reader = reader_of(tmp_path, profile)
    assert reader.metadata.command_line == "s.py"
