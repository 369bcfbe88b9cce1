"""The processes that read foreign files: what they may do, and what of that is believed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.symbols import answerform, isolation
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.isolation import Crash, Job, in_child

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
        return [
            resource.getrlimit(resource.RLIMIT_AS)[0],
            resource.getrlimit(resource.RLIMIT_CPU)[0],
            resource.getrlimit(resource.RLIMIT_CORE)[0],
            resource.getrlimit(resource.RLIMIT_FSIZE)[0],
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


def test_a_reader_that_takes_too_much_costs_its_task_alone() -> None:
    def work(number: int) -> int:
        return len(bytes(4 * GIB)) if number == 1 else number

    job: Job[int, int] = Job(work, int)
    assert list(in_child([0, 1, 2], job)) == [
        0, Crash("needs too much memory to read for a file of its size"), 2,
    ]  # fmt: skip


def test_a_reader_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys, time\n"
        "from mem_parser.symbols.isolation import Job, in_child\n"
        "def work(_):\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(60)\n"
        "list(in_child([0], Job(work, int)))\n"
    )
    note = tmp_path / "pid"
    subprocess.run(
        [sys.executable, "-c", script, note], timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT / "parser")},
    )  # fmt: skip
    status = Path(f"/proc/{note.read_text()}/stat")
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
    assert isolation.signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert isolation.signal_name(200) == "signal 200"


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
