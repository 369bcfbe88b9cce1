"""Which threads merely wait, and which of them is tried first."""

from __future__ import annotations

import builtins
import io
import os
import platform
import threading
from typing import Any

import pytest

from mem_profiler.attach import threads

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
POLL, FUTEX, READ, MMAP, EPOLL_WAIT, OPENAT = 7, 202, 0, 9, 232, 257


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Threads of a made-up process, by what their file `syscall` says."""
    found: dict[int, str] = {}
    real = builtins.open

    def opened(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith("/syscall"):
            text = found[int(str(path).split("/")[-2])]
            if not text:
                raise ProcessLookupError
            return io.BytesIO(text.encode())
        return real(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(threads, "ids", lambda _pid: sorted(found))
    return found


def call(number: int, *arguments: int) -> str:
    words = [*arguments, *[0] * (6 - len(arguments)), 0x7FFF0000, 0x7F0000]
    return f"{number} " + " ".join(f"{word:#x}" for word in words) + "\n"


def test_the_outside_world_comes_before_futexes_and_the_busy_not_at_all(
    calls: dict[int, str],
) -> None:
    calls |= {
        1: call(FUTEX), 2: "running\n", 3: call(MMAP), 4: call(READ), 5: call(POLL), 6: "",
        7: "-1 0x0 0x0\n", 8: f"{POLL} 0x1\n",
    }  # fmt: skip
    assert threads.waiting(9) == [5, 4, 1]


@pytest.mark.parametrize(("limit", "last"), [(0, False), (0xFFFFFFFF, False), (500, True)])
def test_a_wait_whose_limit_would_start_anew_comes_last(
    calls: dict[int, str], limit: int, last: bool
) -> None:
    calls |= {1: call(EPOLL_WAIT, 3, 4, 5, limit), 2: call(FUTEX)}
    assert threads.waiting(9) == ([2, 1] if last else [1, 2])


@pytest.mark.parametrize(("state", "counts"), [("S", True), ("D", False), ("R", False)])
def test_an_open_counts_only_for_a_thread_that_sleeps(
    calls: dict[int, str], state: str, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.procfs, "stat_fields", lambda _task: [state])
    calls |= {1: call(OPENAT), 2: call(POLL)}
    assert threads.waiting(9) == ([2, 1] if counts else [2])


def test_equal_waits_come_by_their_number(calls: dict[int, str]) -> None:
    calls |= {3: call(POLL), 2: call(POLL)}
    assert threads.waiting(9) == [2, 3]


def test_all_threads_are_listed_and_none_of_a_process_that_is_gone() -> None:
    stop = threading.Event()
    helper = threading.Thread(target=stop.wait)
    helper.start()
    try:
        assert {os.getpid(), helper.native_id} <= set(threads.ids(os.getpid()))
    finally:
        stop.set()
        helper.join(10)
    assert threads.ids(2**22 + 1) == []
