"""Where blocks are: in a place, which their domain says, and in a track of it.

A track is the memory of one type on one device, with its rows on their way into files. One count of
IDs is for all rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.devices import HOST as HOST_DOMAIN
from mem_parser.memlog.events import Events
from mem_parser.memscope.form import ATB, HAL, HOST, MINDSPORE, PTA, PTA_WORKSPACE
from mem_parser.memscope.liveaddresses import LiveAddresses
from mem_parser.memscope.writing import BlockRows, Form, no_blocks

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.settings import Settings
    from mem_parser.memscope.writing import Sink, Tail, Values


_POOLS = {
    "ptacaching": PTA,
    "msleaks": PTA,
    "ptaworkspace": PTA_WORKSPACE,
    "atb": ATB,
    "mindsporemempool": MINDSPORE,
}
_DOMAIN = re.compile(r"([a-z]+)(?:-([0-9]{1,4}))?(?:-(pinned|managed))?")
_POOL = "pool-"
FIRST_DEVICE = "0"
USED_KEYS = "used:%d"
TOTAL_KEYS = "total:%d"
PINNED_KEYS = "pinned:true,used:%d"
SHADOW_KEYS = "shadow:true"
PINNED_SHADOW_KEYS = "pinned:true,shadow:true"
CANN = "CANN"
FRAMEWORKS = {HAL: CANN}


class Place(NamedTuple):
    """``device`` None: that of the block around each block, as a pool's blocks are pieces of
    others. ``keys`` are those of Attr behind the size, with a place for the number.
    """

    type: str
    device: str | None
    keys: str = USED_KEYS

    @property
    def shadow_keys(self) -> str:
        """The keys of a row that the conversion made."""
        return PINNED_SHADOW_KEYS if self.keys == PINNED_KEYS else SHADOW_KEYS

    @property
    def framework(self) -> str:
        """The first part of an owner."""
        return FRAMEWORKS.get(self.type, self.type)


def place_of(domain: str) -> Place:
    """Return the place of a domain, by its name."""
    if domain == HOST_DOMAIN:
        return Place("HOST", HOST, TOTAL_KEYS)
    if domain.startswith(_POOL):
        name = domain[len(_POOL) :]
        return Place(_POOLS.get(name.lower(), _word(name)), None)
    found = _DOMAIN.fullmatch(domain)
    if found is None:
        return Place(_word(domain), FIRST_DEVICE)
    family, number, kind = found.groups()
    if kind == "pinned":
        return Place("HOST_PINNED", HOST, PINNED_KEYS)
    return Place(HAL if family == "hal" else _word(family), number or FIRST_DEVICE)


def _word(name: str) -> str:
    """Return a name as an event type: words of the file's own, no text of others."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())[:40] or "UNNAMED"


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
        for number, step in sorted(steps, key=itemgetter(0)):
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


BoolArray = npt.NDArray[np.bool_]


class BlockPlaces:
    """Where blocks are: in a place, which their domain says, and in a track of it."""

    def __init__(self, settings: Settings, dumps: Dumps, pid: int, live: LiveAddresses) -> None:
        self.places: list[Place] = []
        self.tracks: list[Track] = []
        self._settings, self._dumps, self._pid, self._live = settings, dumps, pid, live
        self._place_of: dict[tuple[str, str | None], int] = {}
        self._track_of: dict[tuple[str, str], int] = {}
        self._files: dict[int, LogFile] = {}
        self._next_file = 0

    def new_settings(self, settings: Settings) -> None:
        """Go on with other settings."""
        self._settings = settings
        for track in self.tracks:
            track.is_wanted = self._wants(track.device)

    def _wants(self, device: str) -> bool:
        return self._settings.blocks and self._settings.wants(device)

    # -- files -----------------------------------------------------------------------------------

    def of_batch(self, batch: Batch, used_files: set[int]) -> tuple[IntArray, IntArray]:
        """Return the place of each event, and the number of its file. Of the files before, those
        that ``used_files`` has stay known.
        """
        place = np.zeros(len(batch.events), dtype=np.int64)
        number = np.zeros(len(batch.events), dtype=np.int64)
        last = self._next_file - 1
        self._files = {k: f for k, f in self._files.items() if k in used_files or k == last}
        for k, file in enumerate(batch.files):
            assert file.facts is not None
            of_domain = np.array([self.place(name) for name in file.facts.domains])
            mine = batch.file == k
            place[mine] = of_domain[batch.events.domain[mine]]
            number[mine] = self._file_number(file)
        return place, number

    def _file_number(self, file: LogFile) -> int:
        for number, known in self._files.items():
            if known is file:
                return number
        self._files[self._next_file] = file
        self._next_file += 1
        return self._next_file - 1

    def file(self, number: int) -> LogFile:
        """Return a file of the log."""
        return self._files[number]

    @property
    def many_files(self) -> bool:
        """Whether more than one file is known."""
        return len(self._files) > 1

    # -- places and tracks -----------------------------------------------------------------------

    def place(self, domain: str) -> int:
        """Return the number of a domain's place."""
        one = place_of(domain)
        found = self._place_of.get((one.type, one.device))
        if found is None:
            found = self._place_of[one.type, one.device] = len(self.places)
            self.places.append(one)
            self._live.of_place.append({})
        return found

    def track(self, place: Place, device: str) -> int:
        """Return the number of the track of a place on a device."""
        found = self._track_of.get((place.type, device))
        if found is None:
            found = self._track_of[place.type, device] = len(self.tracks)
            track = Track(place, device, self._pid, self._dumps)
            track.is_wanted = self._wants(device)
            self.tracks.append(track)
        return found

    def tracks_of(self, present: IntArray) -> tuple[IntArray, BoolArray]:
        """Return the track of each of these places; and which have none, since each block is asked
        for its device (`device_of`).
        """
        tracks = np.zeros(len(self.places), dtype=np.int64)
        unsure = np.zeros(len(self.places), dtype=np.bool_)
        devices = [one.device for one in self.places if one.type == HAL]
        only = devices[0] if len(devices) == 1 else None
        for k in present.tolist():
            one = self.places[k]
            if one.device is None and len(devices) > 1:
                unsure[k] = True
            else:
                tracks[k] = self.track(one, one.device or only or FIRST_DEVICE)
        return tracks, unsure

    def are_wanted(self) -> BoolArray:
        """Tell which tracks' rows are written."""
        return np.array([one.is_wanted for one in self.tracks], dtype=np.bool_)

    def are_of_driver(self) -> BoolArray:
        """Tell which places are a driver's."""
        return np.array([one.type == HAL for one in self.places], dtype=np.bool_)

    def device_of(self, address: int) -> str:
        """Return the device of a pool's block: that of the driver's block around it."""
        for place, one in enumerate(self.places):
            is_driver = one.device is not None and one.type == HAL
            if is_driver and self._live.start_of(place, address) is not None:
                return one.device or FIRST_DEVICE
        return FIRST_DEVICE

    def of_tracks(self) -> IntArray:
        """Return the place of each track."""
        places = {id(place): k for k, place in enumerate(self.places)}
        return np.array([places[id(track.place)] for track in self.tracks], dtype=np.int64)
