"""The processes that read foreign files: what they may do, and what of that is believed."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from landlock import NEEDS_LANDLOCK
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.symbols import answerform, isolation
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.isolation import Crash, Job, in_child
from mem_sandbox import child, confine, syscalls

ROOT = Path(__file__).resolve().parents[3]
GIB = 1 << 30


def only(work: Callable[[int], object], **options: object) -> object:
    """What comes of one task."""
    job: Job[int, object] = Job(work, lambda answer: answer, **options)  # type: ignore[arg-type]
    (found,) = in_child([0], job)
    return found


def test_a_reader_is_bounded_and_gains_nothing(tmp_path: Path) -> None:
    def limits(_: int) -> object:
        status = Path("/proc/self/status").read_text()
        limits = Path("/proc/self/limits").read_text()
        names = ("Max address space", "Max cpu time", "Max core file size", "Max file size")
        return [
            *(int(limits.partition(name)[2].split()[0]) for name in names),
            int(status.partition("NoNewPrivs:")[2].split()[0]),
            1024 * int(status.partition("VmSize:")[2].split()[0]),
        ]

    told = only(limits, timeout_s=7.0)
    memory, seconds, core, file, no_new_privileges, own_bytes = told  # type: ignore[misc]
    assert GIB // 2 < memory - own_bytes <= GIB
    assert 7 < seconds < 60
    assert (core, file, no_new_privileges) == (0, GIB, 1)
    larger = only(limits, stored_bytes=lambda _: 100 << 20)
    assert larger[0] - memory > GIB  # type: ignore[index]


def forbidden(name: str, folder: Path) -> Callable[[int], object]:
    """A work that data might make a reader do, and what it is refused with; None: nothing."""
    works: dict[str, Callable[[], object]] = {
        "write": lambda: (folder / "made").write_text("x"),
        "change": lambda: (folder / "own").write_text("x"),
        "open descriptor": lambda: os.write(outside, b"x"),
        "signal": lambda: os.kill(os.getppid(), 0),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "trace": lambda: syscalls.call(confine._REFUSED["ptrace"][os.uname().machine != "x86_64"]),
        "mount": lambda: syscalls.call(confine._REFUSED["mount"][os.uname().machine != "x86_64"]),
        "limits of others": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
        "user": lambda: os.setresuid(1, 1, 1),
    }
    outside = os.open(folder / "own", os.O_WRONLY)

    def work(_: int) -> object:
        try:
            works[name]()
        except OSError as error:
            return error.errno
        return (folder / "own").read_text()

    return work


@NEEDS_LANDLOCK
@pytest.mark.parametrize("name", [
    "write", "change", "open descriptor", "signal", "connect", "exec", "fork", "trace", "mount",
    "limits of others", "user",
])  # fmt: skip
def test_a_reader_that_its_data_controls_changes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("text")
    told = only(forbidden(name, tmp_path))
    # A descriptor that can be written leads to nothing.
    assert told == "text" if name == "open descriptor" else told in {errno.EACCES, errno.EPERM}
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("own", "text")]


@NEEDS_LANDLOCK
def test_a_reader_with_helpers_changes_files_of_its_cache_alone(tmp_path: Path) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    cache.mkdir()
    other.mkdir()

    def work(_: int) -> object:
        subprocess.run(["/bin/sh", "-c", f"echo x > {cache}/made"], timeout=20, check=True)
        return subprocess.run(["/bin/sh", "-c", f"echo x > {other}/made"], timeout=20).returncode

    assert only(work, folders=[str(cache)], helpers=True)
    assert [path.name for path in cache.iterdir()] == ["made"]
    assert not list(other.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
def test_a_reader_of_root_may_read_and_nothing_else() -> None:
    def rights(_: int) -> object:
        words = Path("/proc/self/status").read_text().split()
        return [words[words.index(f"{kind}:") + 1] for kind in ("CapEff", "CapPrm")]

    assert [int(str(word), 16) for word in only(rights)] == [confine._READING_CAPABILITY] * 2  # type: ignore[attr-defined]


def test_a_reader_that_takes_too_much_costs_its_task_alone() -> None:
    def work(number: int) -> int:
        return len(bytes(4 * GIB)) if number == 1 else number

    job: Job[int, int] = Job(work, int)
    assert list(in_child([0, 1, 2], job)) == [
        0, Crash("needs too much memory to read for a file of its size"), 2,
    ]  # fmt: skip


def test_a_reader_ends_with_its_parent() -> None:
    script = (
        "import os, time\n"
        "from mem_parser.symbols.isolation import Job, in_child\n"
        "def work(number):\n"
        "    time.sleep(60 * number)\n"
        "    return os.getpid()\n"
        "for pid in in_child([0, 1], Job(work, int)):\n"
        "    print(pid, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT / "parser")},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    status = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


FORGED_ANSWERS = {
    "no JSON": b"\x80\x04cposix\nsystem\n.",
    "no object": b"[1]",
    "a number": b"7",
    "nothing": b"{}",
    "another shape": b'{"result": {"virtual": 3}}',
    "an error that is none": b'{"error": ["one_line", "x", ""]}',
    "an error nobody knows": b'{"error": ["__builtins__", "x", ""]}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", FORGED_ANSWERS)
def test_what_a_reader_says_is_not_believed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_outcome", lambda *_: FORGED_ANSWERS[name])
    job: Job[int, Answer] = Job(lambda _: None, answerform.read)
    assert list(in_child([1, 2], job)) == [
        Crash("made its reader give an invalid answer")
    ] * 2  # fmt: skip


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "LARGEST_ANSWER_BYTES", 1000)
    assert only(lambda _: "x" * 2000) == Crash("made its reader give an invalid answer")


def test_errors_for_users_come_back_and_others_cost_the_task() -> None:
    def raising(error: Exception) -> Callable[[int], object]:
        def work(_: int) -> object:
            raise error

        return work

    with pytest.raises(InputFileError, match="bad") as raised:
        only(raising(InputFileError("bad", hint="cure")))
    assert raised.value.hint == "cure"
    with pytest.raises(UsageProblem):
        only(raising(UsageProblem("x")))
    assert only(raising(RuntimeError("x"))) == Crash("made its reader fail (RuntimeError)")


def test_a_signal_has_its_name() -> None:
    assert child.signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert child.signal_name(200) == "signal 200"


def test_what_the_child_finds_or_raises_comes_back() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise UsageProblem("three", hint="take four")
        if number == 9:
            time.sleep(60)
        return os.getpid() if number == 0 else number * number

    job: Job[int, int] = Job(work, int)
    child, *squares = in_child([0, 1, 2], job)
    assert child != os.getpid()
    assert squares == [1, 4]
    with pytest.raises(UsageProblem, match="three") as raised:
        list(in_child([1, 3], job))
    assert raised.value.hint == "take four"
    found = list(in_child([1, 9, 2], Job(work, int, timeout_s=0.3)))
    assert found == [1, Crash("took longer than 0 s to read"), 4]
