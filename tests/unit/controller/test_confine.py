"""A child that gave up its rights has none: each is tried."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mem_profiler.confined import child, confine

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")


def refused(work: Callable[[], object], keep: tuple[int, ...] = ()) -> int | None:
    """What `work` is refused with in a confined child: an errno; None: it is not."""

    def attempt(_asked: object) -> int | None:
        try:
            work()
        except OSError as error:
            return error.errno
        return None

    answer = child.call(attempt, "work", 30, keep=keep, enter=confine.enter)
    return None if answer is None else int(answer)


def start_program() -> object:
    return subprocess.run(["/bin/true"], check=True, timeout=10)


@pytest.mark.parametrize(
    "work",
    [
        start_program,
        os.fork,
        lambda: os.kill(os.getppid(), signal.SIGCONT),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda: os.open("/proc/self/mem", os.O_WRONLY),
        lambda: os.open("/dev/null", os.O_WRONLY),
        lambda: resource.prlimit(os.getpid(), resource.RLIMIT_AS, (1 << 40, 1 << 40)),
        lambda: os.memfd_create("room"),
        lambda: os.open("/dev/tty", os.O_RDONLY),
    ],
    ids=[
        "exec",
        "fork",
        "signal",
        "socket",
        "write-memory",
        "write-device",
        "limits",
        "memory-file",
        "terminal",
    ],
)
def test_what_a_reader_does_not_need_is_refused(work: Callable[[], object]) -> None:
    assert work  # each works, or may work, where nothing was given up
    assert refused(work) is not None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder in which everybody may do anything."""
    path = Path(tempfile.mkdtemp(prefix="mem_profiler-test-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_files_are_read_and_not_written(open_folder: Path) -> None:
    path = open_folder / "file"
    path.write_bytes(b"text")
    path.chmod(0o666)
    assert refused(path.read_bytes) is None
    assert refused(functools.partial(path.write_bytes, b"new")) is not None
    assert refused((open_folder / "new").touch) is not None
    assert refused(path.unlink) is not None
    assert path.read_bytes() == b"text"


def test_descriptors_that_are_kept_work_on(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    path.chmod(0o600)
    fd = os.open(path, os.O_RDONLY)

    def read(keep: tuple[int, ...]) -> object:
        def work(_asked: object) -> str:
            return os.pread(fd, 10, 0).decode()

        return child.call(work, "work", 30, keep=keep, enter=confine.enter)

    assert read((fd,)) == "text"
    assert read(()) == ""  # it leads nowhere
    os.close(fd)


@NEEDS_ROOT
def test_root_becomes_the_user_and_cannot_come_back() -> None:
    def ids(_asked: object) -> list[object]:
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            return [os.getresuid(), os.getresgid(), os.getgroups()]
        return []

    answer = child.call(ids, "work", 30, enter=confine.enter)
    [uids, gids, groups] = answer
    assert len({*uids, *gids}) == 1
    assert uids[0] in confine._UNUSED_UIDS
    assert groups == []


@NEEDS_ROOT
def test_a_file_of_root_alone_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"text")
    path.chmod(0o600)
    assert refused(path.read_bytes) is not None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_jumps_to_where_it_means(machine: str) -> None:
    """Run as the kernel would: every refused call is, its neighbours are not."""
    import struct

    rows = list(struct.iter_unpack("=HBBI", confine.filter_program(machine)))
    column = {"x86_64": 0, "aarch64": 1}[machine]

    def verdict(number: int, architecture: int) -> int:
        at, word = 0, 0
        while True:
            code, yes, no, k = rows[at]
            at += 1
            if code == 0x20:
                word = number if k == 0 else architecture
            elif code == 0x15:
                at += yes if word == k else no
            elif code == 0x35:
                at += yes if word >= k else no
            else:
                return k

    own = confine._ARCHITECTURE[machine]
    refused_numbers = {pair[column] for pair in confine._REFUSED.values()}
    for number in range(600):
        wanted = confine._REFUSE if number in refused_numbers else confine._ALLOW
        assert verdict(number, own) == wanted, number
    assert verdict(59 | 0x40000000, own) == confine._REFUSE
    assert verdict(0, 0x40000003) == confine._KILL
