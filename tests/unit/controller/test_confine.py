"""A child that gave up its rights has none: each is tried."""

from __future__ import annotations

import functools
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from landlock import NEEDS_LANDLOCK, NEEDS_SCOPES
from mem_sandbox import child, confine, syscalls

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


def refused_of_writer(work: Callable[[], object], *folders: Path) -> int | None:
    """What `work` is refused with in a child that writes below folders alone."""

    def attempt(_asked: object) -> int | None:
        try:
            work()
        except OSError as error:
            return error.errno
        return None

    answer = child.call(
        attempt, "work", 30, enter=lambda: confine.enter_writer([str(path) for path in folders])
    )
    return None if answer is None else int(answer)


@NEEDS_LANDLOCK
def test_a_writer_changes_files_below_its_folders_alone(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
        (folder / "file").write_bytes(b"text")
    (own / "link").symlink_to(other)

    def change(folder: Path) -> None:
        (folder / "new").mkdir()
        (folder / "new" / "a").write_bytes(b"1")
        os.rename(folder / "new" / "a", folder / "new" / "b")
        os.truncate(folder / "file", 2)
        (folder / "new" / "b").unlink()

    assert refused_of_writer(functools.partial(change, own), own, tmp_path / "missing") is None
    assert (own / "file").read_bytes() == b"te"
    for work in (
        (other / "new").mkdir,
        (other / "file").unlink,
        lambda: os.truncate(other / "file", 2),
        functools.partial((other / "file").write_bytes, b"new"),
        functools.partial((own / "link" / "file").write_bytes, b"new"),
        lambda: os.rename(own / "file", other / "moved"),
        lambda: os.link(other / "file", own / "linked"),
    ):
        assert refused_of_writer(work, own) is not None
    assert [path.name for path in other.iterdir()] == ["file"]
    assert (other / "file").read_bytes() == b"text"
    assert refused_of_writer((other / "file").read_bytes, own) is None


def test_a_writer_runs_helpers_and_nothing_else(tmp_path: Path) -> None:
    assert refused_of_writer(start_program, tmp_path) is None
    # For what a helper reads and answers, also where that may write nowhere.
    assert refused_of_writer(lambda: os.memfd_create("room")) is None
    assert refused_of_writer(lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, -1))) is None
    refused_works = (
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        lambda: os.setresuid(1, 1, 1),
        lambda: syscalls.call(ptrace_number()),
    )
    for work in refused_works:
        assert refused_of_writer(work, tmp_path) is not None


def ptrace_number() -> int:
    return confine._REFUSED["ptrace"][0 if platform.machine() == "x86_64" else 1]


@NEEDS_SCOPES
def test_a_writer_signals_its_helpers_alone(tmp_path: Path) -> None:
    def helper() -> None:
        with subprocess.Popen(["/bin/sleep", "60"]) as run:
            run.send_signal(signal.SIGKILL)
            assert run.wait(10) == -signal.SIGKILL

    assert refused_of_writer(helper, tmp_path) is None
    assert refused_of_writer(lambda: os.kill(os.getppid(), 0), tmp_path) is not None


@NEEDS_ROOT
def test_a_writer_of_root_keeps_its_rights_on_files_alone(tmp_path: Path) -> None:
    def rights(_asked: object) -> list[str]:
        with open("/proc/self/status", encoding="ascii") as file:
            return [line.split()[1] for line in file if line.startswith(("CapEff", "CapPrm"))]

    found = child.call(rights, "work", 30, enter=lambda: confine.enter_writer([str(tmp_path)]))
    assert all(int(text, 16) & ~confine._CAPABILITIES_KEPT == 0 for text in found)
