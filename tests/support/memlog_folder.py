"""The files of a log in one folder, for tests of what goes into them."""

import os
from collections import deque
from pathlib import Path

from mem_parser.memlog.writer import OpenFile, Put


class Folder:
    """Files ``x.1.memlog``, ``x.2.memlog``, ...: the oldest is removed if there are more."""

    def __init__(self, folder: Path, most_files: int = 10) -> None:
        self._folder, self._most_files = folder, most_files
        self._fd = -1
        self._names: deque[str] = deque()
        self.removed = 0

    @property
    def names(self) -> list[str]:
        """The names of the files that are there, the oldest first."""
        return list(self._names)

    def begin(self, number: int) -> Put:
        name = f"x.{number}.memlog"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._fd = os.open(self._folder / name, flags, 0o600)
        self._names.append(name)
        while len(self._names) > self._most_files:
            (self._folder / self._names.popleft()).unlink()
            self.removed += 1
        return OpenFile(self._fd).put

    def end(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        self.end()
