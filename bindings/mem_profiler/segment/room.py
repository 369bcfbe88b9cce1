"""Total size of all segments of a folder, from its ledger (sampler/abi/room.h).

Model: each start of a capture updates the ledger; this module only reads it. Its numbers are upper
estimates, except for what was dropped. It belongs to the user of the folder, so all of it may be
forged: the numbers are for messages alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mem_parser.errors import InputFileError
from mem_parser.plainfile import open_plain
from mem_profiler.segment import folders, layout
from mem_profiler.segment.folders import LEDGER, UserFolder

VARIABLE = "MEM_PROFILER_MAX_TOTAL"
COUNT_MAX = 1 << 62


@dataclass(frozen=True)
class Room:
    """A ledger. `held_bytes` is an upper bound of the size of all segments; `dropped_*` are
    segments of dead processes that were in no file, `refused_starts` captures that did not begin.
    """

    path: str
    uid: int
    bound_bytes: int
    held_bytes: int
    dropped_segments: int
    dropped_bytes: int
    refused_starts: int
    smaller_starts: int

    @property
    def lost(self) -> bool:
        """Whether the bound cost anything."""
        return bool(self.dropped_segments or self.refused_starts or self.smaller_starts)


def read(folder: UserFolder) -> Room | None:
    """The ledger of a user's folder; None if there is no valid one."""
    with contextlib.suppress(OSError, InputFileError):
        fd = open_plain(LEDGER, os.O_RDONLY, dir_fd=folder.fd, follow=False)
        try:
            status = os.fstat(fd)
            data = os.pread(fd, layout.ROOM.itemsize, 0)
        finally:
            os.close(fd)
        if stat.S_ISREG(status.st_mode) and status.st_uid == folder.uid:
            return _checked(folder, data)
    return None


def _checked(folder: UserFolder, data: bytes) -> Room | None:
    if len(data) != layout.ROOM.itemsize:
        return None
    record: Any = np.frombuffer(data, layout.ROOM, count=1)[0]
    places = ("magic", "next_files")
    numbers = {name: int(record[name]) for name in layout.ROOM.names or () if name not in places}
    if record["magic"] != layout.ROOM_MAGIC or max(numbers.values()) > COUNT_MAX:
        return None
    return Room(
        path=str(folder.path),
        uid=folder.uid,
        bound_bytes=numbers["bound_bytes"],
        held_bytes=numbers["held_bytes"] + numbers["pending_bytes"],
        dropped_segments=numbers["dropped_segments"],
        dropped_bytes=numbers["dropped_bytes"],
        refused_starts=numbers["refused_starts"],
        smaller_starts=numbers["smaller_starts"],
    )


def of(places: Iterable[UserFolder]) -> Iterator[Room]:
    """The ledgers of users' folders."""
    for folder in places:
        found = read(folder)
        if found is not None:
            yield found


def everywhere(base: Path | None = None) -> list[Room]:
    """The ledgers of all users' folders below a base (`folders.segment_dir()`)."""
    return list(of(folders.everywhere(base)))


def forget_needless() -> None:
    """Remove ledgers without counts from folders without segments."""
    for folder in folders.everywhere():
        found = read(folder)
        if found is not None and not found.lost and not folder.files():
            forget(folder)


def forget(folder: UserFolder) -> None:
    """Remove the ledger, and so its counts; the next start makes a new one."""
    with contextlib.suppress(OSError):
        os.unlink(LEDGER, dir_fd=folder.fd)
