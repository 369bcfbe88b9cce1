"""A terminal to look at: one window of tmux, in a server of its own."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import pytest

from mem_profiler.process import procfs

WAIT_S = 60.0
EXIT_CODE_AT = 49  # of what /proc/PID/stat has from the state on


class Terminal:
    """A program in a terminal. Use as a context manager, which ends it."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], columns: int = 80,
        lines: int = 24, folder: str | None = None,
    ) -> None:  # fmt: skip
        if shutil.which("tmux") is None:
            pytest.skip("tmux is missing: tests/system-packages.txt has it")
        self._folder = tempfile.mkdtemp(prefix="mp-tmux-")
        self._closed = False
        self._socket = os.path.join(self._folder, "s")
        words = [f"{k}={v}" for k, v in environment.items()]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
                   "-c", folder or os.getcwd(), "env", "-u", "NO_COLOR", *words, *command, ";",
                   "set", "-g", "remain-on-exit", "on")  # fmt: skip

    def _tmux(self, *words: str) -> str:
        # A size in the environment would stand before that of the terminal.
        own = {name: text for name, text in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        return subprocess.run(
            ["tmux", "-S", self._socket, *words], capture_output=True, text=True, timeout=30,
            check=True, env=own | {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        ).stdout  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._closed:
            return
        if self.pid and not self.ended:
            self.press("q")
            self._until(lambda: self.ended, "the program ends")
        self.close()

    def close(self) -> None:
        """Take the terminal away, from a program that runs too."""
        self._closed = True
        self._tmux("kill-server")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int(self._tmux("display", "-p", "#{pane_pid}").strip() or 0)

    @property
    def ended(self) -> bool:
        return self._tmux("display", "-p", "#{pane_dead}").strip() == "1"

    @property
    def code(self) -> int:
        """The exit code of the program that has ended, or minus the signal that killed it."""
        self._until(lambda: bool(self._status), "the program ends")
        return int(self._status)

    @property
    def _status(self) -> str:
        """Empty before the end, and for a moment after it."""
        how = "#{?pane_dead_signal,-#{pane_dead_signal},#{pane_dead_status}}"
        told = self._tmux("display", "-p", how).strip()
        # tmux sometimes leaves its child a zombie, and never tells.
        fields = procfs.stat_fields(self.pid) if not told and self.ended else ()
        is_left = len(fields) > EXIT_CODE_AT and fields[0] == "Z"
        return str(os.waitstatus_to_exitcode(int(fields[EXIT_CODE_AT]))) if is_left else told

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def text(self, *, colours: bool = False) -> str:
        """What is on the screen; after the end also what scrolled away."""
        take = ["capture-pane", "-p", *(["-e"] if colours else [])]
        ended, _, shown = self._tmux("display", "-p", "#{pane_dead}", ";", *take).partition("\n")
        return self._tmux(*take, "-S", "-") if ended == "1" else shown

    def shows(self, text: str) -> str:
        """Wait until the screen has a text; returns the screen."""
        self._until(lambda: text in self.text(), f"{text!r} is not on the screen")
        return self.text()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < give_up, f"{what}:\n{self.text()}"
            time.sleep(0.1)
