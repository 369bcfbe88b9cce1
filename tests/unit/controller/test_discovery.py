"""The segment of a process is found through its mappings, or its absence is explained."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fake_segment import FakeSegment
from mem_parser.errors import NoSampler, ProcessGone, TargetError
from mem_profiler.process import procfs
from mem_profiler.process.procfs import Mapping
from mem_profiler.segment import discovery
from mem_profiler.segment.file import Segment


def test_processes_that_cannot_be_captured_are_told_apart() -> None:
    with pytest.raises(ProcessGone, match="no process"):
        discovery.open_process(2**22 + 1)
    with subprocess.Popen(["sleep", "60"]) as other:
        with pytest.raises(NoSampler, match="sampler is not loaded") as caught:
            discovery.open_process(other.pid)
        other.kill()
    assert f"mem_profiler start {other.pid}" in str(caught.value.hint)
    if os.getuid() == 0:
        with pytest.raises(NoSampler, match="no program"):
            discovery.open_process(2)


def test_without_a_pid_the_only_process_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FakeSegment().save(tmp_path)

    def processes(count: int) -> None:
        monkeypatch.setattr(
            discovery,
            "running",
            lambda: iter((100 + i, Segment.open(path, writable=False)) for i in range(count)),
        )

    processes(1)
    assert discovery.the_only_process() == 100
    processes(0)
    with pytest.raises(NoSampler):
        discovery.the_only_process()
    processes(2)
    with pytest.raises(TargetError, match=r"100 \(prog\), 101 \(prog\)"):
        discovery.the_only_process()


def test_a_segment_is_found_by_the_folder_and_file_name_of_its_mapping() -> None:
    raw = (
        b"7f00-7f10 rw-s 00000000 00:1a 77    /dev/shm/mem_profiler.0/12-345-0\n"
        b"7f00-7f10 rw-s 00001000 00:1a 77    /dev/shm/mem_profiler.0/12-345-0\n"
        b"7f20-7f30 rw-s 00000000 00:1a 78    /dev/shm/other.0/12-345-0\n"
        b"7f40-7f50 rw-s 00000000 00:1a 79    /a b/mem_profiler.7/1-2-3 (deleted)\n"
        b"broken line\n"
        b"7f60-7f70 r-xp 00000000 00:1a 80    /dev/shm/mem_profiler.0/notes\n"
    )
    found = discovery.segment_mappings(procfs.parse_maps(raw))
    assert [mapping.inode for mapping in found] == [77, 79]


def test_of_other_mappings_no_line_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    segment = b"7f00-7f10 rw-s 00000000 00:1a 77    /dev/shm/mem_profiler.0/1-2-3\n"
    other = b"7f20-7f30 r-xp 00000000 00:1a 78    /usr/lib/libc.so.6\n"
    parsed = []
    real = procfs.parse_maps
    monkeypatch.setattr(procfs, "pids", lambda: [7, 8])
    monkeypatch.setattr(procfs, "raw_maps", {7: other * 9 + segment, 8: other * 9}.get)
    monkeypatch.setattr(procfs, "parse_maps", lambda raw: parsed.append(raw) or real(raw))
    [((device, inode), (pid, mapping))] = discovery.mapped(discovery.scan()).items()
    assert (device, inode, pid, mapping.inode) == (os.makedev(0, 0x1A), 77, 7, 77)
    assert b"".join(parsed).strip() == segment.strip()


def mapping(path: str, inode: int = 7, permissions: str = "rw-s") -> Mapping:
    return Mapping(0x1000, 0x2000, permissions, 0, (0, 26), inode, path, b"")


@pytest.mark.parametrize(
    ("path", "permissions", "words"),
    [
        ("/dev/shm/mem_profiler.0/1-2-3", "r--s", "not as a sampler maps"),
        ("/dev/shm/mem_profiler.0/1-2-3", "rw-p", "not as a sampler maps"),
    ],
)
def test_a_mapping_that_is_not_a_samplers_is_not_opened(
    path: str, permissions: str, words: str
) -> None:
    with pytest.raises(NoSampler, match=words):
        discovery._open_mapped(os.getpid(), mapping(path, permissions=permissions), writable=True)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mem_profiler.0", "1-2"), ("mem_profiler.0", "1-2-3.tmp"), ("mem_profiler.0", "-1-2-3"),
        ("mem_profiler.", "1-2-3"), ("mem_profiler.x", "1-2-3"), ("xmem_profiler.0", "1-2-3"),
        ("mem_profiler.0.123", "1-2-3"),
    ],
)  # fmt: skip
def test_names_that_only_look_like_those_of_segments_are_none(folder: str, name: str) -> None:
    assert discovery.segment_mappings([mapping(f"/dev/shm/{folder}/{name}")]) == []
    good = mapping("/dev/shm/mem_profiler.0.0123456789abcdef/1-2-3")
    assert discovery.segment_mappings([good]) == [good]


def test_the_parents_segment_in_a_forked_child_is_not_its_own() -> None:
    own = procfs.status(os.getpid())
    assert own is not None
    assert discovery._named_for_another(os.getpid(), mapping("/x/mem_profiler.0/1-2-3"))
    assert not discovery._named_for_another(
        os.getpid(), mapping(f"/x/mem_profiler.0/{own.inner_pid}-2-3")
    )


@pytest.mark.parametrize(("field", "value"), [("pid", 1), ("start_ticks", 5)])
def test_a_header_must_be_of_this_very_process(tmp_path: Path, field: str, value: int) -> None:
    fake = FakeSegment()
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        assert discovery._belongs(segment.control(), os.getpid())
    fake.control[field] = value
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        assert not discovery._belongs(segment.control(), os.getpid())
