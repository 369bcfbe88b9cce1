"""Memory of one type on one device, and its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import Events
from mem_parser.memscope.domains import Place
from mem_parser.memscope.dumps import Form

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps, Sink
    from mem_parser.memscope.logtail import LogFile

IntArray = npt.NDArray[np.int64]


class Track:
    """The blocks of one type on one device. Its file is made with its first row."""

    def __init__(self, place: Place, device: str, pid: int, dumps: Dumps) -> None:
        self.place, self.device = place, device
        self.used_bytes = 0
        """Bytes in use, as far as they were seen."""
        self.highest_bytes = 0
        """The most of them at any moment."""
        self.is_wanted = True
        """Whether its rows are written."""
        self._pid, self._dumps = pid, dumps
        self._sink: Sink | None = None
        self.first_form = 0
        """Number in its file of the form of its MALLOC rows; the other three are behind it."""

    @property
    def is_open(self) -> bool:
        """Whether its file is there."""
        return self._sink is not None

    @property
    def sink(self) -> Sink:
        """Its file."""
        if self._sink is None:
            sink = self._sink = self._dumps.sink(self.device)
            keys, shadow = self.place.keys, self.place.shadow_keys
            numbers = [
                sink.form(Form(event, self.place.type, self.device, self._pid, held))
                for held in (keys, shadow)
                for event in ("MALLOC", "FREE")
            ]
            self.first_form = numbers[0]
        return self._sink


class Refusal(NamedTuple):
    """A block that the program did not get."""

    time_ns: int
    tid: int
    track: Track
    size: int
    stack: int
    file: LogFile


class Found(NamedTuple):
    """A live block that has an address. ``number`` is that of `blockrows`."""

    start: int
    size: int
    allocation: int
    track: Track
    number: int


@dataclass
class Batch:
    """Events of one or several files of a log, in order: columns of one length.

    ``file`` is the place of each event's file in ``files``; ``tid`` the thread.
    """

    events: Events
    tid: IntArray
    file: IntArray
    files: list[LogFile]
