"""Memory of one type on one device: its events, and its rows on their way into files, with one
count of IDs for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import Events
from mem_parser.memscope.domains import Place
from mem_parser.memscope.writing import BlockRows, Form, no_blocks

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.writing import Sink, Tail, Values

IntArray = npt.NDArray[np.int64]
MALLOC, FREE, SHADOW_MALLOC, SHADOW_FREE = range(4)
"""Kinds of rows of blocks, in the order of the forms of a track."""


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


class _Other(NamedTuple):
    """A row of another kind, with the number of events before it."""

    before: int
    device: str | None
    row: Values
    attributes: Mapping[str, Any]


@dataclass
class TrackRows:
    """Rows of blocks to write, in order, with the number of the event of each."""

    event: IntArray
    track: IntArray
    kind: IntArray
    """`MALLOC` and so on."""
    columns: BlockRows


class RowWriter:
    """Gives rows their IDs, and writes them. Rows of other kinds wait for those of blocks."""

    def __init__(self, dumps: Dumps, tails: Sequence[Tail]) -> None:
        """``tails`` are what `BlockRows.tail` has the places of."""
        self._dumps, self._tails = dumps, tails
        self._next_id = 1
        self._others: list[_Other] = []

    @property
    def waiting(self) -> int:
        """How many rows of other kinds wait."""
        return len(self._others)

    def tell(
        self, before: int, device: str | None, row: Values, attributes: Mapping[str, Any]
    ) -> None:
        """Let a row wait that comes behind so many events: for a device, or for all files."""
        self._others.append(_Other(before, device, row, attributes))

    def write(self, rows: TrackRows, tracks: Sequence[Track]) -> IntArray:
        """Give rows their IDs, with those of other kinds between them, and write all; returns the
        numbers of rows in their files.
        """
        others, self._others = self._others, []
        count, columns = len(rows.event), rows.columns
        columns.id = self._next_id + np.arange(count)
        at = np.array([one.before for one in others], dtype=np.int64)
        if others:
            columns.id += np.searchsorted(at, rows.event, side="right")
        ids = self._next_id + np.arange(len(others)) + np.searchsorted(rows.event, at)
        self._next_id += count + len(others)
        steps: list[tuple[int, _Other | Track]] = list(zip(ids.tolist(), others, strict=True))
        present = np.flatnonzero(np.bincount(rows.track, minlength=len(tracks))).tolist()
        for k in present:
            if not tracks[k].is_open:
                first = int(np.argmax(rows.track == k))
                steps.append((int(columns.id[first]), tracks[k]))
        for number, step in sorted(steps, key=_id_of):
            self._take(number, step)
        numbers = self._write(rows, tracks, present)
        self._dumps.flush()
        return numbers

    def _take(self, number: int, step: _Other | Track) -> None:
        """Open the file of a track, or let a row wait in its files."""
        if not isinstance(step, _Other):
            assert step.sink is not None
        elif step.device is None:
            self._dumps.everywhere(number, (number, *step.row), step.attributes)
        else:
            sink = self._dumps.sink(step.device)
            sink.add(number, (number, *step.row), step.attributes)

    def _write(self, rows: TrackRows, tracks: Sequence[Track], present: list[int]) -> IntArray:
        numbers = np.zeros(len(rows.event), dtype=np.int64)
        sinks = {id(tracks[k].sink): tracks[k].sink for k in present}
        forms = np.array([track.first_form for track in tracks], dtype=np.int64)
        rows.columns.form = forms[rows.track] + rows.kind
        for sink in sinks.values():
            if len(sinks) == 1:
                numbers[:] = sink.write_blocks(rows.columns, self._tails)
                break
            ours = np.array([t.is_open and t.sink is sink for t in tracks], dtype=np.bool_)
            mine = np.flatnonzero(ours[rows.track])
            numbers[mine] = sink.write_blocks(rows.columns.take(mine), self._tails)
        return numbers


def no_rows() -> TrackRows:
    """Return no rows of blocks."""
    none = np.zeros(0, dtype=np.int64)
    return TrackRows(none, none, none, no_blocks())


def _id_of(step: tuple[int, Any]) -> int:
    return step[0]
