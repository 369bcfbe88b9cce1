"""Which files of a process are believed to list the code that it makes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_segment import FakeSegment
from mem_parser.errors import MemError
from mem_profiler.capture.recording import Recording
from mem_profiler.process import codefiles
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.segment.file import Segment


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `tmp_path`, which says that it runs."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"1\n"
        yield process
        process.kill()


def opened(files: CodeFiles, *paths: str, uid: int | None = None) -> list[bytes]:
    """The contents of all files."""
    found = []
    for fd in files.copy(os.getuid() if uid is None else uid, paths):
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            found.append(file.read())
    return found


@pytest.fixture
def perf_map(child: subprocess.Popen[bytes]) -> Iterator[Path]:
    path = Path(f"/tmp/perf-{child.pid}.map")
    yield path
    path.unlink(missing_ok=True)


def test_a_perf_map_and_jitdumps_are_found_where_the_process_sees_them(
    child: subprocess.Popen[bytes], perf_map: Path, tmp_path: Path
) -> None:
    files = CodeFiles(child.pid)
    assert opened(files) == []
    perf_map.write_bytes(b"map")
    (tmp_path / f"jit-{child.pid}.dump").write_bytes(b"dump")
    (tmp_path / "cache").mkdir()
    other = tmp_path / "cache" / f"jit-{child.pid}.dump"
    other.write_bytes(b"mapped")
    assert opened(files, str(other), "/lib/x.so") == [b"map", b"dump", b"mapped"]


def test_they_are_found_when_the_process_has_ended(
    child: subprocess.Popen[bytes], perf_map: Path
) -> None:
    files = CodeFiles(child.pid)
    perf_map.write_bytes(b"map")
    child.communicate(b"\n", timeout=30)
    assert opened(files) == [b"map"]


def test_a_file_that_two_names_lead_to_is_read_once(
    child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"jit-{child.pid}.dump"
    path.write_bytes(b"dump")
    assert opened(CodeFiles(child.pid), str(path)) == [b"dump"]


def test_links_pipes_and_folders_are_no_such_files(
    child: subprocess.Popen[bytes], perf_map: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"other")
    perf_map.symlink_to(real)
    os.mkfifo(tmp_path / f"jit-{child.pid}.dump")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "real2").mkdir()
    (tmp_path / "real2" / f"jit-{child.pid}.dump").write_bytes(b"through a link")
    (tmp_path / "hard").mkdir()
    os.link(real, tmp_path / "hard" / f"jit-{child.pid}.dump")
    by_link = f"{tmp_path}/link/real2/jit-{child.pid}.dump"
    by_hard_link = f"{tmp_path}/hard/jit-{child.pid}.dump"
    files = CodeFiles(child.pid)
    assert opened(files, by_link, by_hard_link) == []
    assert opened(files, f"{tmp_path}/real2/jit-{child.pid}.dump") == [b"through a link"]


def test_files_of_another_user_and_of_an_earlier_process_are_not_read(
    child: subprocess.Popen[bytes], perf_map: Path
) -> None:
    files = CodeFiles(child.pid)
    perf_map.write_bytes(b"map")
    assert opened(files, uid=os.getuid() + 1) == []
    before = time.time() - 3600
    os.utime(perf_map, (before, before))
    assert opened(files) == []


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    with subprocess.Popen(["true"], cwd=tmp_path) as gone:
        gone.wait(timeout=30)
    (tmp_path / f"jit-{gone.pid}.dump").write_bytes(b"dump")
    assert opened(CodeFiles(gone.pid)) == []


def test_a_file_system_that_does_not_answer_is_an_error_in_time(
    child: subprocess.Popen[bytes], perf_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perf_map.write_bytes(b"map")
    files = CodeFiles(child.pid)
    monkeypatch.setattr(codefiles, "LIMIT_S", 0.2)
    monkeypatch.setattr(codefiles, "_copy", lambda *_: signal.pause())
    gc.collect()  # other tests' files
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MemError):
        opened(files)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_more_files_are_open_than_the_bound(
    child: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    paths = []
    for k in range(2 * codefiles.FILES_MAX):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / f"jit-{child.pid}.dump").write_bytes(b"x")
        paths.append(f"{folder}/jit-{child.pid}.dump")
    before = len(os.listdir("/proc/self/fd"))
    files = CodeFiles(child.pid)
    assert len(opened(files, *paths)) == codefiles.FILES_MAX
    del files
    assert len(os.listdir("/proc/self/fd")) == before


def test_all_files_together_are_copied_up_to_the_bound(
    child: subprocess.Popen[bytes], perf_map: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perf_map.write_bytes(b"123456")
    (tmp_path / f"jit-{child.pid}.dump").write_bytes(b"abcdef")
    other = tmp_path / "other" / f"jit-{child.pid}.dump"
    other.parent.mkdir()
    other.write_bytes(b"more")
    monkeypatch.setattr(codefiles, "MOST_BYTES", 8)
    assert opened(CodeFiles(child.pid), str(other)) == [b"123456", b"ab"]


def test_a_sparse_file_without_end_is_copied_up_to_the_bound(
    child: subprocess.Popen[bytes], perf_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perf_map.write_bytes(b"1000 20 first\n")
    os.truncate(perf_map, 1 << 40)
    monkeypatch.setattr(codefiles, "MOST_BYTES", 3 << 20)
    (copy,) = opened(CodeFiles(child.pid))
    assert len(copy) == 3 << 20
    assert copy.startswith(b"1000 20 first\n\0")


def test_a_capture_goes_on_without_the_names_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[int]:
        raise MemError("pid 7 did not answer")

    monkeypatch.setattr(CodeFiles, "copy", refuse)
    fake = FakeSegment()
    fake.begin(rate=1)
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        files, notes = Recording(segment, os.getpid())._copy_code_files()
    assert files == []
    assert notes == [
        "names of code that the program made as it ran are missing: pid 7 did not answer"
    ]
