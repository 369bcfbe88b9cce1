"""Work in a child: its answers, its failures, its end, and that it can hurt nobody."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest

from mem_parser.errors import MemError, NoSampler, TargetBusy, TargetUnsupported
from mem_parser.plainfile import PlainFile
from mem_sandbox import child


def test_a_result_comes_back() -> None:
    assert child.call(lambda _: [1, "text", None], "work", 10) == [1, "text", None]


def test_an_error_comes_back_as_what_it_was() -> None:
    def fail(_: object) -> NoReturn:
        raise NoSampler("there is none", hint="make one")

    with pytest.raises(NoSampler, match="there is none") as refused:
        child.call(fail, "work", 10)
    assert refused.value.hint == "make one"


def test_what_nobody_foresaw_is_one_line() -> None:
    with pytest.raises(MemError, match="unexpected ZeroDivisionError"):
        child.call(lambda _: 1 // 0, "work", 10)


def test_a_child_that_is_killed_is_said() -> None:
    with pytest.raises(TargetBusy, match="ended by SIGKILL"):
        child.call(lambda _: os.kill(os.getpid(), signal.SIGKILL), "work", 10)


def test_a_child_that_hangs_is_killed() -> None:
    with pytest.raises(TargetBusy, match="work did not answer"):
        child.call(lambda _: signal.pause(), "work", 0.2)


def test_a_child_that_hangs_is_killed_when_the_user_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE_S", 0.2)
    with pytest.raises(child.Stopped):
        child.call(lambda _: signal.pause(), "work", 60, lambda: True)


def test_a_child_hears_what_the_user_wants() -> None:
    def wait(asked: child.Asked) -> NoReturn:
        while not asked():
            time.sleep(0.001)
        raise child.Stopped

    with pytest.raises(child.Stopped):
        child.call(wait, "work", 60, lambda: True)


def test_memory_is_bounded() -> None:
    with pytest.raises(TargetUnsupported, match="reading it needs more memory"):
        child.call(lambda _: len(bytes(1 << 30)), "work", 30, memory_bytes=64 << 20)


@pytest.mark.parametrize("message", [b"", b"{}\n", b"[1\n", b'"text"\n', b'{"error": 3}\n'])
def test_a_child_that_was_taken_over_says_nothing_that_runs(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_outcome", lambda *_: message)
    with pytest.raises(MemError):
        child.call(lambda _: None, "work", 10)


def test_it_ends_with_its_parent() -> None:
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(read)
        try:
            child.call(lambda _: (os.write(write, b"!"), signal.pause()), "work", 60, keep=[write])
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"!"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(read, 1) == b""  # the last one who held the other end is gone
    os.close(read)


def places(_: object) -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def test_it_holds_nothing_open_but_what_it_was_given() -> None:
    read, write = os.pipe()
    held = child.call(places, "work", 10, keep=[read])
    assert held[str(read)].startswith("pipe:")
    assert held[str(write)] == os.devnull
    assert [held[number] for number in "012"] == [os.devnull] * 3
    os.close(read)
    os.close(write)


def test_what_its_parent_has_not_closed_yet_closes_nothing_of_its_own(tmp_path: Path) -> None:
    """Numbers of descriptors are owned by objects, which the collector may end at any time."""
    path = tmp_path / "file"
    path.write_bytes(b"text")

    class Ring:
        def __init__(self) -> None:
            self.file = PlainFile(path)
            self.itself = self

    def read(_: object) -> list[str]:
        files = [os.open(path, os.O_RDONLY) for _ in range(20)]
        kept.clear()
        gc.collect()
        return [os.pread(fd, 10, 0).decode() for fd in files]

    kept = [PlainFile(path) for _ in range(5)]
    for _ in range(5):
        Ring()
    assert child.call(read, "work", 10) == ["text"] * 20


def test_one_that_somebody_stops_goes_on() -> None:
    def stop_first(_: object) -> str:
        os.kill(os.getpid(), signal.SIGSTOP)
        return "went on"

    assert child.call(stop_first, "work", 30) == "went on"
