"""Our own files and the quirks of the text formats; `test_format_contract.py` has the rest."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from hypothesis import given

from heapfiles import HeapFile, Record, column, map_line, module_of
from mem_parser.errors import InputFileError, UnsupportedVersion
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_bytes, read_profile
from strategies import heap_files

SAMPLE = HeapFile(
    [
        Record((0x7F0000001000, 0x401010, 0x402020), 10, 1000, 4, 400),
        Record((0x7F0000001000, 0x401010, 0x402020), 2, 9000),
        Record((0x7F0000001000, 0x403030), 5, 0),
    ],
    maps=[map_line(0x400000, 0x500000, 0, "/opt/my program")],
    modules=[module_of("/opt/my program", 0x400000, 0x500000, build_id="AB" * 10, bias=0)],
    header={"pid": 7, "samples": 17, "lost": {"reentry": 1}, "duration_s": 2.5},
)  # fmt: skip


def read(data: bytes) -> Profile:
    return read_bytes(data, "x.heap")


def frames_of(profile: Profile, site: int) -> list[int]:
    stack = int(profile.sites.stack[site])
    start, end = profile.stacks.offsets[stack : stack + 2]
    return [int(f) for f in profile.stacks.frames[start:end]]


def test_our_own_file_gives_back_counts_stacks_modules_and_header() -> None:
    profile = read(SAMPLE.data)
    assert profile.format == "mem_profiler"
    assert profile.sites.inuse_blocks.tolist() == [6, 2, 5]
    assert profile.sites.inuse_bytes.tolist() == [600, 9000, 0]
    assert frames_of(profile, 0) == [0x7F0000001000, 0x401010, 0x402020]
    assert len(profile.stacks) == 2
    assert profile.modules[0].path == "/opt/my program"
    assert profile.modules[0].build_id == "ab" * 10
    assert (profile.capture.pid, profile.samples_missing) == (7, 1)
    assert profile.incomplete is None


def test_nothing_holds_the_bytes_of_a_file_once_it_is_read() -> None:
    file = HeapFile([Record((0x1000, 0x2001), 5, 5000)], modules=[{"path": "/a"}])
    data = file.data
    before = sys.getrefcount(data)
    gc.disable()
    try:
        profile = read_bytes(data, "x")
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()
    assert len(profile.sites) == 1


def test_an_object_cut_over_two_lines_is_put_together() -> None:
    whole = SAMPLE.data
    cut = whole.replace(b'"duration_s"', b'"dura\n%+ tion_s"')
    assert read(cut).capture.duration_s == 2.5


def test_unknown_marks_keys_and_columns_are_skipped() -> None:
    extra = [
        "%future {", "%+ more", *column("novel", "<u8", [1, 2]), "%column odd <c16 1 1", "%| AA",
    ]  # fmt: skip
    file = HeapFile(SAMPLE.records, header={"new_key": [1]}, extra_lines=extra)
    assert read(file.data).sites.alloc_blocks.tolist() == [10, 2, 5]


def test_a_newer_version_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedVersion, match="version 3"):
        read(SAMPLE.data.replace(b"%mem_profiler 1", b"%mem_profiler 3"))


@given(heap_files)
def test_both_parts_of_a_file_agree(file: HeapFile) -> None:
    whole, first = read(file.data), read(file.first_part())
    assert whole.incomplete is None
    for count in (Count.INUSE, Count.ALLOC):
        assert whole.total(count, Unit.OBJECTS).value == pytest.approx(
            first.total(count, Unit.OBJECTS).value
        )
        assert whole.total(count, Unit.SPACE).value == pytest.approx(
            first.total(count, Unit.SPACE).value, abs=3 * whole.total(count, Unit.OBJECTS).value
        )


def test_a_file_that_lost_its_second_part_keeps_its_first() -> None:
    cut = SAMPLE.data[: SAMPLE.data.index(b"%column stack_frames") + 100]
    profile = read(cut)
    assert profile.incomplete is not None
    assert profile.sites.inuse_blocks.tolist() == [6, 2, 5]
    assert profile.modules[0].build_id == "ab" * 10
    assert profile.stacks.leaf_exact


def test_a_column_that_claims_more_than_it_holds_takes_no_memory() -> None:
    data = SAMPLE.data.replace(
        b"%column alloc_blocks <u8 3", b"%column alloc_blocks <u8 99999999999"
    )
    with pytest.raises(InputFileError, match="cannot have 99999999999 entries"):
        read(data)


def test_a_record_that_names_a_missing_stack_is_refused() -> None:
    lines = b"\n".join(line.encode() for line in column("stack", "<u4", [0, 0, 7]))
    start = SAMPLE.data.index(b"%column stack <u4")
    end = SAMPLE.data.index(b"%column alloc_blocks")
    with pytest.raises(InputFileError, match="a stack that does not exist"):
        read(SAMPLE.data[:start] + lines + b"\n" + SAMPLE.data[end:])


def test_jemalloc_counts_are_those_of_all_threads_and_names_may_hold_anything() -> None:
    profile = read(
        b"heap_v2/1024\n  t*: 3: 300 [0: 0]\n  t0: 1: 100 [0: 0] a [b]: 3\n  t1: 2: 200 [0: 0]\n"
        b"@ 0x10 0x20\n  t*: 2: 200 [0: 0]\n  t1: 2: 200 [0: 0]\n"
        b"@\n  t*: 1: 100 [0: 0]\n  t0: 1: 100 [0: 0]\n\nMAPPED_LIBRARIES:\n"
    )
    assert profile.sites.inuse_bytes.tolist() == [200, 100]
    assert profile.stacks.depths.tolist() == [2, 0]
    assert [t.name for t in profile.threads] == ["a [b]: 3", ""]
    assert profile.thread_blocks is not None
    assert profile.thread_blocks.row.tolist() == [1, 0]
    assert not profile.has_alloc
    assert profile.incomplete is None


def test_a_bare_at_sign_does_not_charge_the_stack_before_it() -> None:
    profile = read(
        b"heap profile: 3: 30 [3: 30] @ heapprofile\n1: 10 [1: 10] @ 0x10\n2: 20 [2: 20] @\n"
        b"\nMAPPED_LIBRARIES:\n"
    )
    assert profile.sites.inuse_bytes.tolist() == [10, 20]
    assert profile.stacks.depths.tolist() == [1, 0]


def test_gperftools_paddings_warnings_and_carriage_returns_are_accepted() -> None:
    profile = read(
        b"%warn sampling is off\r\n"
        b"heap profile:      1:    65552 [     1:    65552] @ heap_v2/524288\r\n"
        b"     1:    65552 [     1:    65552] @ 0x00000010 0X20\r\n\r\nMAPPED_LIBRARIES:\r\n"
    )
    assert profile.rate_bytes == 524288
    assert frames_of(profile, 0) == [0x10, 0x20]


def test_blocks_without_bytes_weigh_nothing_and_bytes_without_blocks_are_left_out() -> None:
    profile = read(
        b"heap profile: 1: 0 [1: 0] @ heap_v2/1024\n 1: 0 [1: 0] @ 0x1\n 0: 5 [0: 5] @ 0x2\n\n"
        b"MAPPED_LIBRARIES:\n"
    )
    assert profile.total(Count.INUSE, Unit.SPACE).value == 0
    assert len(profile.sites) == 1
    assert profile.warnings


@pytest.mark.parametrize("record", ["-2: 20 [3: 30]", "2: -20 [3: 30]", "2: 20 [3: -30]"])
def test_records_with_negative_counts_are_left_out(record: str) -> None:
    profile = read_bytes(
        b"heap profile: 4: 64 [4: 64] @ heap_v2/1024\n 1: 600 [1: 600] @ 0x2\n"
        + f" {record} @ 0x1\n\nMAPPED_LIBRARIES:\n".encode(),
        "x",
    )
    assert profile.sites.alloc_bytes.tolist() == [600]
    assert profile.warnings == ["1 records have negative counts, or bytes but no blocks; left out"]


def test_the_first_version_of_the_format_scales_small_records_up_to_half_the_rate() -> None:
    profile = read(
        b"heap profile: 4: 64 [4: 64] @ heap/1024\n 4: 64 [4: 64] @ 0x1\n 1: 600 [1: 600] @ 0x2\n\n"
        b"MAPPED_LIBRARIES:\n"
    )
    assert profile.sites.inuse_bytes.tolist() == [64 * 32, 600]


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputFileError):
            read_profile(path)
