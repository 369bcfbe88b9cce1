"""A `.memlog` file, written and read: whole, cut, damaged, forged."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError, NotAProfile, UnsupportedVersion
from mem_parser.memlog.blocks import HEAD_BYTES, START, BlockKind, pack_block
from mem_parser.memlog.contents import Keyframe, object_block
from mem_parser.memlog.events import Events
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.packing import pack_column
from mem_parser.memlog.reader import Memlog, open_memlog
from mem_parser.memlog.writer import MemlogWriter
from mem_parser.model import Reading
from mem_parser.python.stacks import PythonCode, PythonStacks
from memlogs import any_events, events_of, facts, facts_profile, rows_of, stack_table, writing


def keyframe(time_ns: int, rows: list[tuple[int, int, int, int, int]]) -> Keyframe:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    types = (np.uint32, np.uint8, np.uint16, np.int64, np.int64)
    return Keyframe(time_ns, *(np.array(c, t) for c, t in zip(columns, types, strict=True)))


def python_part() -> PythonStacks:
    return PythonStacks(
        np.array([0, 1, 1], dtype=np.uint32),
        np.array([0, 1, 0], dtype=np.uint32),
        np.array([3, 9, 4], dtype=np.uint32),
        np.array([1, 0, 0], dtype=np.bool_),
        [PythonCode("f", "A.f", "a.py", 2), PythonCode("g", "g", "b\n.py", 0)],
    )


def test_what_is_written_first_reads_by_itself(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    MemlogWriter(pieces.append, facts())
    [first] = pieces
    (tmp_path / "a.memlog").write_bytes(first)
    with Memlog(tmp_path / "a.memlog") as log:
        assert log.file_facts == facts()
        assert not log.is_cut


def small_log(path: Path) -> list[Events]:
    """A file with every kind of block; returns its blocks of events."""
    blocks = []
    with writing(path) as writer:
        writer.append_facts(facts_profile())
        writer.append_python(python_part())
        writer.append_stacks(stack_table([(1, 2, 3), (), (7,)], [3, 0, 1]))
        writer.append_keyframe(keyframe(0, []))
        for k in range(3):
            rows = [{"time_ns": 1000 * k + j, "address": 16 * j, "stack": k} for j in range(5)]
            blocks.append(events_of(rows))
            writer.append_events(blocks[-1])
            writer.flush()
        writer.append_hole(Hole(10, 20, 5, 3))
        writer.append_readings([Reading(0.5, 10.0, 1.0, 3, 4096)])
        writer.append_keyframe(keyframe(2500, [(2, 0, 8, 4, 32)]))
        writer.end(last=True, how="exited")
    return blocks


def read_all(path: Path) -> tuple[Memlog, list[Events]]:
    with open_memlog(path) as log:
        list(log.keyframes())
        return log, list(log.events())


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    blocks = small_log(path)
    with open_memlog(path) as log:
        assert [rows_of(e) for e in log.events()] == [rows_of(e) for e in blocks]
        assert log.file_facts == facts()
        assert log.facts is not None
        assert [t.tid for t in log.facts.threads] == [100, 101, 102, 103]
        assert log.facts.capture.comm == "prog"
        assert log.stacks.frames.tolist() == [1, 2, 3, 7]
        assert log.stacks.depths.tolist() == [3, 0, 1]
        assert log.stacks.interpreters.tolist() == [3, 0, 1]
        assert log.python is not None
        assert log.python.outwards(2) == [1, 0]
        assert log.python.codes[0] == PythonCode("f", "A.f", "a.py", 2)
        assert "\n" not in log.python.codes[1].file
        assert log.holes == [Hole(10, 20, 5, 3)]
        assert [(r.t_s, r.rss_bytes) for r in log.readings] == [(0.5, 4096)]
        first, second = log.keyframes()
        assert (first.time_ns, len(first), first.exact) == (0, 0, True)
        assert (second.stack.tolist(), second.bytes.tolist()) == ([2], [32])
        assert log.end is not None
        assert (log.end.events, log.end.last, log.end.how) == (15, True, "exited")
        assert log.warnings == []
        assert not log.is_cut


@given(st.lists(any_events(), max_size=3), st.booleans())
def test_any_events_read_back_in_order(
    tmp_path: Path, batches: list[Events], flushed: bool
) -> None:
    path = tmp_path / "a.memlog"
    with writing(path) as writer:
        writer.append_stacks(stack_table([()] * 8))
        for batch in batches:
            writer.append_events(batch)
            if flushed:
                writer.flush()
        writer.end()
    _, found = read_all(path)
    if flushed:
        expected = [rows_of(b.in_order()) for b in batches if len(b)]
    else:
        together = [rows_of(Events.joined(batches).in_order())] if batches else []
        expected = [rows for rows in together if rows]
    assert [rows_of(e) for e in found] == expected


def test_deaths_come_before_births_of_the_same_time() -> None:
    rows = [{"time_ns": 5, "kind": k} for k in (1, 4, 2, 3, 6)]
    assert events_of(rows).in_order().kind.tolist() == [2, 3, 1, 4, 6]


def test_a_keyframe_of_many_rows_is_one_again(tmp_path: Path) -> None:
    path, count = tmp_path / "a.memlog", (1 << 18) + 5
    row = np.arange(count)
    with writing(path) as writer:
        writer.append_stacks(stack_table([()] * count))
        writer.append_keyframe(
            Keyframe(
                7, row.astype(np.uint32), np.zeros(count, np.uint8), np.full(count, 8, np.uint16),
                row, -row, exact=False,
            )
        )  # fmt: skip
    with open_memlog(path) as log:
        assert len(log.stacks) == count
        (found,) = log.keyframes()
    assert found.stack.tolist() == row.tolist()
    assert found.blocks.tolist() == row.tolist()
    assert not found.bytes.any(), "a count below 0 is none"
    assert not found.exact


# All bytes in `make soak`.
some_bytes = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])


@some_bytes
def test_a_file_cut_at_any_byte_reads_up_to_the_cut(tmp_path: Path, step: int) -> None:
    path, cut = tmp_path / "a.memlog", tmp_path / "cut.memlog"
    blocks = [rows_of(e) for e in small_log(path)]
    data = path.read_bytes()
    seen, refused = set(), []
    for size in range(0, len(data), step):
        cut.write_bytes(data[:size])
        try:
            log, found = read_all(cut)
        except InputFileError:
            refused.append(size)
            continue
        assert [rows_of(e) for e in found] == blocks[: len(found)]
        assert log.warnings == []
        seen.add(len(found))
        assert log.end is None
    assert seen == {0, 1, 2, 3}
    assert refused == list(range(0, len(refused) * step, step)), "only one without its first block"
    assert len(refused) * step < 400


def without_stacks(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(*row[:5], *row[6:]) for row in rows]


@some_bytes
def test_flipped_bits_lose_one_block_and_say_so(tmp_path: Path, step: int) -> None:
    path, bad = tmp_path / "a.memlog", tmp_path / "bad.memlog"
    blocks = [rows_of(e) for e in small_log(path)]
    data, refused = path.read_bytes(), 0
    expected = [without_stacks(r) for r in blocks]
    for at in range(START.size, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        bad.write_bytes(changed)
        try:
            log, found = read_all(bad)
        except InputFileError:
            refused += 1
            continue
        rows = [rows_of(e) for e in found]
        assert log.warnings or log.is_cut
        assert len(rows) >= 2
        assert all(without_stacks(r) in expected for r in rows)
        if len(rows) < 3 and not log.is_cut:
            assert log.holes, "what is lost is a hole"
    assert refused * step < 400, "only without its first block"


def test_lost_stacks_leave_the_numbers_of_others(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    with writing(path) as writer:
        for frames in ((1,), (2,), (3,)):
            writer.append_stacks(stack_table([frames]))
        writer.append_events(events_of([{"time_ns": 1, "stack": k} for k in range(3)]))
        writer.end()
    with open_memlog(path) as log:
        entries = log.entries(BlockKind.STACKS)
    whole = path.read_bytes()
    for which, frames in ((1, [1, 3]), (2, [1, 2])):
        data = bytearray(whole)
        data[entries[which].offset] ^= 1
        path.write_bytes(data)
        log, found = read_all(path)
        assert log.stacks.frames.tolist() == frames
        assert log.stacks.flags.tolist()[which] >> 8 == 1
        assert found[0].stack.tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"heap profile: 1: 2", b"\x89MEMLOG\r\n\x1a\n\0"])
def test_what_is_no_log_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.memlog"
    path.write_bytes(content)
    with pytest.raises(NotAProfile, match=r"a\.memlog"):
        open_memlog(path)


def test_a_newer_version_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    small_log(path)
    data = bytearray(path.read_bytes())
    data[12] = 9
    path.write_bytes(data)
    with pytest.raises(UnsupportedVersion, match="version 9"):
        open_memlog(path)


@pytest.mark.parametrize("path", ["/no/such/file", "/dev/null", "/", "a\0b"])
def test_what_is_no_file_is_said(path: str) -> None:
    with pytest.raises(InputFileError):
        open_memlog(path)


def forged(path: Path, *blocks: bytes) -> None:
    with writing(path) as writer:
        writer.append_stacks(stack_table([()]))
    with path.open("ab") as file:
        file.write(b"".join(blocks))


def events_payload(**changes: list[int]) -> bytes:
    columns = {
        "time": [1], "kind": [1], "address": [1], "size": [1], "thread": [0], "stack": [0],
        "domain": [0], "age": [0],
    } | changes  # fmt: skip
    return b"".join(pack_column(np.array(c, dtype=np.uint64)) for c in columns.values())


@pytest.mark.parametrize("changes", [
    {"stack": [1]}, {"domain": [1]}, {"kind": [0]}, {"kind": [7]}, {"thread": [1 << 32]},
    {"time": [2]}, {"time": [1, 1]}, {"age": [1 << 63]}, {"size": []},
])  # fmt: skip
def test_forged_events_are_left_out(tmp_path: Path, changes: dict[str, list[int]]) -> None:
    path = tmp_path / "a.memlog"
    payload = events_payload(**changes)
    forged(path, pack_block(BlockKind.EVENTS, payload, rows=1, first=1, last=1))
    log, found = read_all(path)
    assert found == []
    assert len(log.warnings) == 1
    assert log.holes[0].lost == 1


def test_forged_blocks_cost_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    none = np.zeros(0, dtype=np.uint64)
    empty = b"".join(pack_column(none) for _ in range(8))
    zeros = pack_column(np.zeros(1 << 20, dtype=np.uint64))
    forged(
        path,
        pack_block(BlockKind.EVENTS, empty, rows=0, first=1, last=1),
        pack_block(BlockKind.EVENTS, zeros * 8, rows=1 << 20, first=0, last=0),
        pack_block(BlockKind.STACKS, empty, rows=0, first=1 << 40, last=1 << 40),
        pack_block(BlockKind.STACKS, empty, rows=0, first=-5, last=-5),
        pack_block(BlockKind.PYTHON, zeros * 6, rows=1 << 20, first=0, last=0),
        pack_block(BlockKind.KEYFRAME, empty, rows=1 << 31, first=0, last=0),
        pack_block(BlockKind.FACTS, b"nothing", rows=1, first=0, last=0),
        pack_block(BlockKind.HOLE, b"[" * 100000, rows=1, first=0, last=0),
        object_block(BlockKind.HOLE, {"from_ns": 5, "to_ns": 4}),
        object_block(BlockKind.READINGS, {"readings": 7}),
        object_block(BlockKind.END, {"time_ns": None, "how": []}),
        pack_block(BlockKind.END, bytes(1 << 24), rows=1, first=0, last=0),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log, found = read_all(path)
    assert found == []
    assert list(log.keyframes()) == []
    assert len(log.warnings) >= 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_gaps_of_numbers_cost_no_more_than_the_file_may(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    columns = b"".join(pack_column(np.zeros(0, dtype=np.uint64)) for _ in range(5))
    forged(path, pack_block(BlockKind.STACKS, columns, rows=0, first=1 << 27, last=1 << 27))
    with pytest.raises(InputFileError, match="memory"):
        open_memlog(path)


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_any_bytes_in_between_end_in_a_result_or_one_error(
    tmp_path: Path, junk: bytes, at: int
) -> None:
    path = tmp_path / "a.memlog"
    small_log(path)
    data = path.read_bytes()
    at = min(at, len(data))
    path.write_bytes(data[:at] + junk + data[at:])
    try:
        log, found = read_all(path)
    except InputFileError:
        return
    assert sum(map(len, found)) <= 15
    if log.python is not None and len(log.python) > 2:
        assert log.python.outwards(3)


def test_a_full_disk_leaves_whole_blocks_and_raises_once(tmp_path: Path) -> None:
    path = tmp_path / "a.memlog"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        writer = MemlogWriter(fd, facts())
        writer.append_stacks(stack_table([()]))
        writer.append_events(events_of([{"time_ns": 1}]))
        writer.flush()
        good = writer.size_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (good + HEAD_BYTES + 3, old[1]))
        writer.append_events(events_of([{"time_ns": 2}]))
        with pytest.raises(OSError, match="too large"):
            writer.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert writer.failed
        assert os.fstat(fd).st_size == good
        writer.append_events(events_of([{"time_ns": 3}]))
        writer.end(last=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        os.close(fd)
    log, found = read_all(path)
    assert [e.time_ns.tolist() for e in found] == [[1]]
    assert not log.is_cut
