"""The files of traced calls: `python_trace_{thread}_{time}.csv`, one per thread.

Rows wait in memory until there are `BATCH_ROWS` of them, or the trace ends: so many are lost if the
process is killed.
"""

from __future__ import annotations

import csv
import io
import os

from mem_parser.memscope.form import PYTHON_TRACE
from mem_parser.output_path import open_own

BATCH_ROWS = 1024
_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class TraceFile:
    """The file of one thread. After a write that failed it takes no more, and says why."""

    def __init__(self, folder: str, tid: int, stamp: str) -> None:
        self.path = os.path.join(folder, f"python_trace_{tid}_{stamp}.csv")
        self._tid = tid
        self._pid = os.getpid()
        self._begun = False
        self._rows: list[tuple[str, int, int]] = []
        self.problem = ""
        self.lost = 0

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Take a call."""
        self._rows.append((name, start_ns, end_ns))
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._begun:
            writer.writerow(PYTHON_TRACE)
        writer.writerows((*row, self._tid, self._pid) for row in rows)
        data = text.getvalue().encode("utf-8", "backslashreplace")
        try:
            handle = open_own(self.path, _FLAGS, _MODE)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
            self._begun = True
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror}"
            self.lost += len(rows)
