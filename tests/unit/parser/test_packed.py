"""Packed heap files: they read like plain ones, whole or cut, and bombs are refused."""

from __future__ import annotations

import functools
import gzip
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heapfiles import HeapFile, Record, column, map_line
from mem_parser import readers
from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError
from mem_parser.model import Profile
from mem_parser.readers import packed, read_bytes
from strategies import heap_files

MIB = 1 << 20
MAPS = [map_line(0x400000, 0x500000, 0, "/opt/my program")]
SAMPLE = HeapFile(
    [Record((0x7F0000001000, 0x401010, 0x402020 + k), 10 + k, 1000, 4, 400) for k in range(3000)],
    maps=MAPS,
    header={"pid": 7, "samples": 17},
)
PACKED = gzip.compress(SAMPLE.data, 6, mtime=0)


def read(data: bytes) -> Profile:
    return read_bytes(data, "x.heap")


def told(profile: Profile) -> tuple[object, ...]:
    sites, stacks = profile.sites, profile.stacks
    return (sites.alloc_bytes.tolist(), stacks.frames.tolist(), len(profile.modules),
            profile.incomplete)  # fmt: skip


@given(heap_files, st.integers(1, 5))
def test_any_file_reads_alike_in_both_forms_and_in_several_pieces(
    file: HeapFile, pieces: int
) -> None:
    data = file.data
    step = len(data) // pieces + 1
    several = b"".join(gzip.compress(data[at : at + step]) for at in range(0, len(data), step))
    assert told(read(several + b"\0" * 9)) == told(read(data))
    assert (read(several).packed, read(data).packed) == (True, False)


@pytest.mark.parametrize("part", ["records", "mappings", "columns"])
def test_a_cut_packed_file_reads_as_far_as_the_text_in_it(part: str) -> None:
    text = SAMPLE.data
    at = {
        "records": len(text) // 3, "mappings": text.index(b"/opt/my"),
        "columns": text.index(b"%column stack_frames") + 60,
    }[part]  # fmt: skip
    engine = zlib.compressobj(6, zlib.DEFLATED, 31)
    cut = engine.compress(text[:at]) + engine.flush(zlib.Z_SYNC_FLUSH)
    profile = read(cut)
    assert told(profile) == told(read(text[:at]))
    assert profile.incomplete
    assert len(profile.sites) >= len(SAMPLE.records) // 4


def test_a_file_that_lacks_its_checksum_alone_is_whole_but_said_to_be_cut() -> None:
    profile = read(PACKED[:-8])
    assert len(profile.sites) == len(SAMPLE.records)
    assert profile.incomplete == "its gzip data ends too early"


def test_a_wrong_checksum_and_foreign_bytes_behind_are_damage() -> None:
    for data in (PACKED[:-8] + b"\1" * 8, PACKED + b"more"):
        with pytest.raises(InputFileError, match="bad gzip data"):
            read(data)


def bomb(line: bytes, size: int) -> bytes:
    """A packed heap file whose records are one line, again and again."""
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = line * (MIB // len(line))
    parts = [engine.compress(b"heap profile: 1: 1 [1: 1] @ heapprofile\n")]
    parts += [engine.compress(block) for _ in range(size // MIB)]
    return b"".join([*parts, engine.flush()])


@pytest.mark.parametrize(("line", "size", "said"), [
    (b" 1: 1 [1: 1] @ 0x1\n", 120 * MIB, "unpack to more than 0.1 GiB"),
    (b"\0", 50 * MIB, "has no end"),
])  # fmt: skip
def test_a_bomb_is_refused_in_one_line_within_little_memory(
    line: bytes, size: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "unpacked_bytes", lambda _stored: 100 * MIB)
    data = bomb(line, size)
    assert len(data) < 2 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(InputFileError, match=said) as refused:
            read(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert most < 16 * MIB


def test_deep_recursion_shrinks_by_far_and_is_read_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = functools.partial(MemoryAllowance, floor_bytes=16 * MIB)
    monkeypatch.setattr(readers, "MemoryAllowance", small)
    records, depth = 150, 20_000
    line = b" 1: 9 [1: 9] @ 0x7f0000001000" + b" 0x401010" * (depth - 1) + b"\n"
    ones = np.ones(records)
    lines = [
        "", "MAPPED_LIBRARIES:", *MAPS, "", "%mem_profiler 2", '%header {"rate_bytes":1}',
        *column("stack_depth", "<u4", ones * depth),
        *column("stack_flags", "<u4", ones * 0),
        *column("stack_generation", "<u4", ones * 0),
        *column("stack_frames", "<u8", np.full(records * depth, 0x401010)),
        *column("stack", "<u4", np.arange(records)),
        *column("alloc_blocks", "<u8", ones), *column("alloc_bytes", "<u8", ones * 9),
        *column("freed_blocks", "<u8", ones * 0), *column("freed_bytes", "<u8", ones * 0),
        f"%end {records}", "",
    ]  # fmt: skip
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [engine.compress(b"heap profile: 150: 1350 [150: 1350] @ heapprofile\n")]
    parts += [engine.compress(line) for _ in range(records)]
    parts += [engine.compress("\n".join(lines).encode()), engine.flush()]
    data = b"".join(parts)
    assert records * len(line) > 100 * len(data)
    assert len(read(data).stacks.frames) == records * depth
