"""What a reader takes from the process that opens files for it: copies, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mem_cli.watching import codecopies as madecode
from mem_cli.watching.codecopies import Copying, Place, find
from mem_parser.errors import MemError
from mem_profiler.process import codefiles
from mem_profiler.process.codefiles import CodeFiles
from mem_sandbox.messages import receive, send, send_files

ADDRESSES = np.array([0x1000, 0x2000], dtype=np.uint64)
LINES = b"1000 10 first\n2000 10 second\n"


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The reader's end and the namer's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours.fileno(), theirs.fileno()


def asked(ends: tuple[int, int], answer: Callable[[int, Any], None]) -> tuple[list[str], str]:
    """What the reader understands of what a namer answers."""

    def work() -> None:
        message = receive(ends[1], 0)
        assert message is not None
        answer(ends[1], message.head)

    namer = threading.Thread(target=work)
    namer.start()
    try:
        names, problem = find(ends[0], ADDRESSES, [])
    finally:
        namer.join()
    return sorted(frame.name for frame in names.values()), problem


@pytest.fixture
def code_files() -> CodeFiles:
    """Those of this process, whose list would be in the folder `tmp` of its root."""
    return CodeFiles(os.getpid())


def test_names_come_from_copies_that_nobody_can_change(
    ends: tuple[int, int], code_files: CodeFiles
) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_bytes(LINES)
    held = set(os.listdir("/proc/self/fd"))
    try:
        kept, fds = code_files.kept, code_files.places
        copying = Copying(Place(kept, os.getuid()), fds)
        assert asked(ends, copying.answer) == (["first", "second"], "")
        [copy] = code_files.copy(os.getuid(), [])
        with pytest.raises(PermissionError):
            os.write(copy, b"x")
        os.close(copy)
        assert asked(ends, Copying(Place(kept, os.getuid() + 1), fds).answer) == ([], "")
    finally:
        path.unlink()
    assert set(os.listdir("/proc/self/fd")) == held


def test_a_process_without_such_files_has_no_names(ends: tuple[int, int]) -> None:
    assert asked(ends, Copying(None, []).answer) == ([], "")


def test_why_there_are_none_is_one_line(ends: tuple[int, int]) -> None:
    def refuse(namer: int, _question: Any) -> None:
        send(namer, {"files": 0, "problem": "a\nb\x1b[2J" * 900})

    names, problem = asked(ends, refuse)
    assert names == []
    assert problem.isprintable()
    assert len(problem) <= 500


def give(open_one: Callable[[], int]) -> Callable[[int, Any], None]:
    def answer(namer: int, _question: Any) -> None:
        fd = open_one()
        send(namer, {"files": 1, "problem": ""})
        send_files(namer, [fd])
        os.close(fd)

    return answer


def unsealed() -> int:
    fd = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, LINES)
    return fd


@pytest.mark.parametrize(
    "answer",
    [
        lambda namer, _: send(namer, {"files": 1000, "problem": ""}),
        lambda namer, _: send(namer, {"files": "1", "problem": ""}),
        lambda namer, _: send(namer, [1]),
        lambda namer, _: os.write(namer, b"\xff" * 12),
        lambda namer, _: (send(namer, {"files": 1, "problem": ""}), os.write(namer, b"+")),
        lambda namer, _: send(namer, {"files": 1, "problem": ""}),
        give(lambda: os.pipe()[0]),
        give(lambda: os.open("/dev/zero", os.O_RDONLY)),
        give(lambda: os.open("/etc/passwd", os.O_RDONLY)),
        give(unsealed),
    ],
    ids=["many", "text", "list", "noise", "none", "silent", "pipe", "device", "file", "unsealed"],
)
def test_a_namer_that_lies_is_no_name_and_one_line(
    ends: tuple[int, int], answer: Callable[[int, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(madecode, "ANSWER_S", 0.5)
    held = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MemError, match="does not answer") as caught:
        asked(ends, answer)
    assert "\n" not in str(caught.value)
    # The writing end of the pipe is the test's own.
    assert len(os.listdir("/proc/self/fd")) - held in {0, 1}


def test_what_is_read_late_is_left_out(
    ends: tuple[int, int], code_files: CodeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mem_profiler.live.jit_watch.LIMIT_S", -1.0)
    fd = unsealed()
    codefiles.fcntl.fcntl(fd, codefiles.fcntl.F_ADD_SEALS, codefiles._SEALS)
    assert asked(ends, give(lambda: os.dup(fd))) == ([], "it takes too long")
    os.close(fd)
