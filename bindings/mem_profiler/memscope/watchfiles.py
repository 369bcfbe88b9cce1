"""The files of watched blocks, in the folder `watch_dump` of a device.

A block's whole content goes to a file of its own, its check sum to a row of
`watch_dump_data_check_sum_<time>.csv`; what changed, by which operator, to
`watch_dump_changes_<time>.csv`.
"""

from __future__ import annotations

import csv
import os

from mem_parser.memscope.form import WATCH_SUMS, stamp_of, watch_block_file
from mem_parser.output_path import make_own_folder, open_own

CHANGE_HEADER = (
    "Watched",
    "Output",
    "Operator",
    "Count",
    "When",
    "Sum Before",
    "Sum After",
    "Timestamp(ns)",
    "Thread Id",
)
_MODE = 0o640
_NAME_BYTES = 100
CONTENT = ".bin"


def block_name(
    device: str, tid: int, operator: str, count: int, *, watched: str, output: int, when: str
) -> str:
    """Return the name of a block at a moment, without an ending; ``when`` is before or after."""
    after = when == "after"
    # Names of files have at most 255 bytes.
    watched = watched.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    name = watch_block_file(
        device, tid, operator[:_NAME_BYTES], count, watched=watched, output=output, after=after
    )
    return name[: -len(CONTENT)].replace("\0", ".").replace("\n", ".")


class WatchFiles:
    """Writes the files of one run."""

    def __init__(self, run_folder: str) -> None:
        self._run = run_folder
        self._stamp = stamp_of()
        self._begun: set[str] = set()
        self.problem = ""
        """The first reason for which something was not written."""

    def folder(self, device: str) -> str:
        """Return the folder of a device."""
        return os.path.join(self._run, f"device_{device}", "watch_dump")

    def write_content(self, device: str, name: str, data: bytes) -> None:
        """Write a block's content; a file of the same name is replaced."""
        try:
            folder = self._made(device)
            path = os.path.join(folder, f"{name}{CONTENT}")
            handle = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
        except OSError as error:
            self._note(error)

    def write_sum(self, device: str, name: str, value: int) -> None:
        """Write a row with a check sum."""
        self._append(device, "data_check_sum", WATCH_SUMS, (name, f"0x{value:016x}"))

    def write_change(self, device: str, row: tuple[object, ...]) -> None:
        """Write a row of `CHANGE_HEADER`."""
        self._append(device, "changes", CHANGE_HEADER, row)

    def _made(self, device: str) -> str:
        below = os.path.relpath(self.folder(device), self._run)
        return make_own_folder(self._run, *below.split("/"))

    def _append(
        self, device: str, part: str, header: tuple[str, ...], row: tuple[object, ...]
    ) -> None:
        """Append a row, which is in the file when this returns."""
        try:
            path = os.path.join(self._made(device), f"watch_dump_{part}_{self._stamp}.csv")
            handle = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
            with os.fdopen(handle, "a", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                if path not in self._begun:
                    self._begun.add(path)
                    if os.fstat(file.fileno()).st_size == 0:
                        rows.writerow(header)
                rows.writerow(row)
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        self.problem = self.problem or f"{error.filename}: {error.strerror}"
