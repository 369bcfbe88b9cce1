"""Work that takes its time says so on a terminal, and leaves nothing behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mem_cli import pipeline
from mem_cli.console import say_sentence, waiting

SOON_S = 0.01


class Terminal:
    """A standard error that is a terminal."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.file = os.fdopen(theirs, "w")

    def text(self) -> str:
        """What was written so far: the kernel hands it over a little later."""
        os.write(self.file.fileno(), b"\0")
        read = b""
        while not read.endswith(b"\0"):
            read += os.read(self._ours, 1 << 16)
        return read[:-1].decode()

    def close(self) -> None:
        self.file.close()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Standard error is a terminal, and the timer's signal is nobody's, as in a command."""
    one = Terminal()
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    monkeypatch.setattr("mem_cli.console.sys", SimpleNamespace(stderr=one.file))
    yield one
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, left)
    one.close()


def test_a_sentence_ends_its_lines_between_words(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("click.echo", lambda text, err: terminal.file.write(f"{text}\n"))
    say_sentence("attached to routed (pid 3510): 13 hooks placed in 5 modules", err=True)
    terminal.file.flush()
    assert terminal.text().splitlines() == [
        "attached to routed (pid 3510): 13 hooks",
        "  placed in 5 modules",
    ]


def test_long_work_is_shown_and_the_line_is_erased_at_the_end(terminal: Terminal) -> None:
    with waiting("reading big.heap", SOON_S):
        signal.pause()
        assert "reading big.heap ... 0 s" in terminal.text()
        signal.pause()
        assert terminal.text().startswith("\r\x1b[K")
    assert terminal.text().endswith("\r\x1b[K")
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_short_work_shows_nothing(terminal: Terminal) -> None:
    with waiting("reading small.heap"):
        pass
    assert terminal.text() == ""


def test_a_line_in_a_line_shows_nothing_and_lets_the_outer_one_go_on(terminal: Terminal) -> None:
    with waiting("outer", SOON_S):
        with waiting("inner", SOON_S):
            signal.pause()
        text = terminal.text()
        signal.pause()
        later = terminal.text()
    assert "inner" not in text
    assert "outer" in text
    assert "outer" in later


def test_names_of_files_do_not_act_on_the_terminal(terminal: Terminal) -> None:
    with waiting("reading \x1b]0;x\x07\nfile", SOON_S):
        signal.pause()
    text = terminal.text().replace("\r\x1b[K", "")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\n" not in text


def test_the_timer_ends_with_work_that_fails(terminal: Terminal) -> None:
    with pytest.raises(ZeroDivisionError), waiting("reading", SOON_S):
        raise ZeroDivisionError
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_without_a_terminal_there_is_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr("mem_cli.console.sys", SimpleNamespace(stderr=nowhere))
        with waiting("reading", SOON_S):
            assert signal.getsignal(signal.SIGALRM) is before


def test_reading_a_file_is_such_work(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    from mem_parser import readers

    monkeypatch.setattr("mem_cli.console.WAIT_S", SOON_S)
    monkeypatch.setattr(readers, "read_profile", lambda _: signal.pause())
    pipeline.read(["a.heap"])
    assert "reading a.heap ... 0 s" in terminal.text()


def test_a_child_of_the_work_has_no_timer(terminal: Terminal) -> None:
    code = "import signal; print(signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(14))"
    with waiting("running", SOON_S):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.split()[0] == "0.0"
