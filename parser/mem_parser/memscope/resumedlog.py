"""Read a killed writer's log together with the later logs of its rings.

Whoever drains the rings notes how far the log has come after it has written it: what it wrote since
its last note is in the first log and, read again, in the next one. Such events count once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import Events
from mem_parser.memlog.launches import Launches
from mem_parser.memscope.logtail import LogFile, LogTail, Piece

KEPT_NS = 10_000_000_000
"""What is older than this was noted: the log is noted several times a second."""
_KEY = np.dtype([("time", np.int64), ("kind", np.int64), ("address", np.uint64)])
_NUMBER = re.compile(r"-([0-9]{1,9})\.memlog$")
Keys = npt.NDArray[np.void]


def in_order(paths: Sequence[str]) -> list[str]:
    """Return the files of one log in the order of their numbers."""
    return sorted(paths, key=number_of)


def number_of(path: str) -> int:
    """Return the number of a file of a log."""
    found = _NUMBER.search(path)
    return int(found[1]) if found is not None else 0


class ResumedTail(LogTail):
    """Reads files that are all there; events that a second log has again are left out."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Open them. Raises InputFileError."""
        super().__init__(paths=paths)
        self._run = ""
        self._recent: deque[Keys] = deque()
        self._again: Keys = np.zeros(0, _KEY)
        self.real_offset_ns = 0
        """What makes the time of an event a time since 1970."""

    def take(self, *, final: bool = False) -> Iterator[tuple[LogFile, Piece]]:
        """Yield what there is. Raises InputFileError."""
        for file, piece in super().take(final=final):
            if not isinstance(piece, Events | Launches) or file.facts is None:
                yield file, piece
                continue
            if file.facts.run != self._run:
                self._begin(file.facts.run)
                self.real_offset_ns = file.facts.start_real_ns - file.facts.start_ns
            keys = _keys_of(piece, file.facts.start_ns)
            is_new = ~np.isin(keys, self._again) if len(self._again) else np.ones(len(keys), bool)
            self._keep(keys)
            if is_new.any():
                yield file, piece if is_new.all() else piece.take(is_new)

    def _begin(self, run: str) -> None:
        self._run = run
        self._again = np.concatenate([self._again, *self._recent])
        self._recent.clear()

    def _keep(self, keys: Keys) -> None:
        self._recent.append(keys)
        oldest = int(keys["time"].max()) - KEPT_NS
        while int(self._recent[0]["time"].max()) < oldest:
            self._recent.popleft()


def _keys_of(piece: Events | Launches, start_ns: int) -> Keys:
    keys = np.zeros(len(piece), _KEY)
    keys["time"] = piece.time_ns + start_ns
    if isinstance(piece, Events):
        keys["kind"], keys["address"] = piece.kind, piece.address
    else:
        keys["kind"], keys["address"] = 256 + piece.kind.astype(np.int64), piece.thread
    return keys
