"""A terminal that may go away: a window is closed, a connection breaks.

Model: textual writes on a thread of its own. If a write fails, this thread would end, and the next
writer would wait for it, so that a view without a terminal would never end, nor its capture. Here a
failing write is dropped, and ends the app.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver


class LeavingFile:
    """A file that drops failing writes, and then calls ``gone``."""

    def __init__(self, file: IO[str], gone: Callable[[], object]) -> None:
        self._file, self._gone = file, gone

    def write(self, text: str) -> int:
        """Write, if that is possible."""
        try:
            self._file.write(text)
        except OSError:
            self._gone()
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        try:
            self._file.flush()
        except OSError:
            self._gone()

    def fileno(self) -> int:
        """The descriptor of the file."""
        return self._file.fileno()


class TerminalDriver(LinuxDriver):
    """Textual's driver, which ends the app when the terminal is gone. It writes on the standard
    output, so that errors may go to a file.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        out = sys.stdout
        file = open(  # noqa: SIM115 - it lasts as long as the process
            out.fileno(), "w", encoding=out.encoding, errors="backslashreplace", closefd=False
        )
        self._file = LeavingFile(file, self._leave)  # type: ignore[assignment]

    def _leave(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._app.exit)

    def run_input_thread(self) -> None:
        """Read keys until the app ends, or the terminal is gone."""
        try:
            super().run_input_thread()
        except OSError:
            self._leave()
