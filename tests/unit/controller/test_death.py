"""The end of a process is noticed, and said in words."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from mem_profiler.process import death


def test_the_end_of_a_process_is_described_by_its_signal() -> None:
    child = subprocess.Popen(["sleep", "60"])
    watch = death.Watch(child.pid)
    assert not watch.ended()
    child.send_signal(signal.SIGSEGV)
    assert watch.ended(10)
    text = watch.how()
    child.wait(10)
    assert text in ("signal 11 SIGSEGV", "target ended")
    assert death.describe(0) == death.describe(3 << 8) == "exited"
    watch.close()


def test_a_process_that_ended_before_the_watch_began_has_ended() -> None:
    child = subprocess.Popen(["true"])
    child.wait(10)
    watch = death.Watch(child.pid)
    assert watch.ended()
    assert watch.how() == "target ended"


@pytest.mark.parametrize(
    ("wait_status", "words"),
    [
        (9, "signal 9 SIGKILL"),
        (0x80 | 11, "signal 11 SIGSEGV"),
        (40, "signal 40 SIG40"),
        (0, "exited"),
    ],
)
def test_a_wait_status_has_its_words(wait_status: int, words: str) -> None:
    assert death.describe(wait_status) == words


def test_a_process_that_ended_is_gone_until_and_after_its_parent_waited() -> None:
    child = subprocess.Popen(["true"])
    watch = death.Watch(child.pid)
    try:
        assert watch.ended(10)
        watch.send(signal.SIGKILL)  # nobody is there: no error
        child.wait(10)
        assert watch.ended()
        assert watch.how() in ("exited", "target ended")
    finally:
        watch.close()
        watch.close()


def test_without_pidfds_the_end_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse)
    child = subprocess.Popen(["sleep", "60"])
    watch = death.Watch(child.pid)
    assert not watch.ended()
    watch.send(signal.SIGTERM)
    child.wait(10)
    assert watch.ended(0.01)
    assert death.Watch(2**22 + 1).ended()


def test_an_end_that_nobody_tells_is_still_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(death, "REAP_WAIT_S", 0.02)
    monkeypatch.setattr(death.Watch, "_wait_status", lambda _self: None)
    assert death.Watch(2**22 + 1).how() == "target ended"


def test_a_process_that_was_gone_before_the_watch_ended_in_a_way_that_nobody_knows() -> None:
    watch = death.Watch(2**22 + 1)
    assert watch.how_now() == ""
    child = subprocess.Popen(["sleep", "60"])
    watch = death.Watch(child.pid)
    child.kill()
    child.wait(10)
    assert watch.how_now() in ("signal 9 SIGKILL", "")
    watch.close()
