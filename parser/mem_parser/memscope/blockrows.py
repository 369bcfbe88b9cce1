"""Blocks on their way into dumps: what is live, its counters, and a row for each birth and end.

Model: `Blocks` follows all blocks of a process, whether rows are written or not: so a window that
opens later knows what is there. A block belongs to a `Track`, the memory of one type on one device,
which has the counters and the file.

Events come in batches, as columns. The one thing that goes event by event is which block each one
ends: a dictionary of what is live at each address. All else (`settle`) is done in columns: sums,
numbers, rows. A live block is known by a number: that of its birth in the batch, or from the end of
the batch on -2 minus its slot in the table of live blocks. Rows of other kinds wait with the number
of events before them, so that they get their IDs in the same order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import Kind
from mem_parser.memscope.blocktable import BlockTable
from mem_parser.memscope.domains import FIRST_DEVICE, Place, place_of
from mem_parser.memscope.dumps import BlockRows
from mem_parser.memscope.form import HAL
from mem_parser.memscope.rowwriter import (
    FREE,
    MALLOC,
    SHADOW_FREE,
    SHADOW_MALLOC,
    RowWriter,
    TrackRows,
    no_rows,
)
from mem_parser.memscope.tracks import Batch, Found, Refusal, Track

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps, Values
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.settings import Settings
    from mem_parser.memscope.stacktexts import StackTexts

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_NOBODY = -1
"""No block was live at the address."""
_FIRST_SLOT = -2
_ENDS = -1
"""What an event is that begins no block; else it is its own number."""
_OTHERS_MAX = 1 << 15
_RENEWED = 64
"""So many events may change a list of begins one by one; after more it is made anew."""


@dataclass
class _Work:
    """A batch, and what is known of its events."""

    batch: Batch
    kind: npt.NDArray[np.uint8]
    is_birth: BoolArray
    place: IntArray
    allocation: IntArray
    track: IntArray
    """Of births."""
    file: IntArray
    code: list[int]
    address: list[int]
    lives: list[dict[int, int]]
    refused: list[int]
    splits: list[int]
    """Before these events the lists of begins must be as they are then."""
    low: int = 0
    """The events before are done."""
    high: int = 0
    """The events from here on have not come yet."""
    before: list[int] = field(default_factory=list)
    """Which block was at the address of each event since ``low``."""
    owners: dict[int, str] = field(default_factory=dict)
    late: list[tuple[int, Callable[[int], None]]] = field(default_factory=list)


class Blocks:
    """All blocks of a process."""

    def __init__(self, settings: Settings, dumps: Dumps, pid: int, texts: StackTexts) -> None:
        self.settings = settings
        self.on_refused: Callable[[Refusal], None] = _nothing
        self.labels: Callable[[int], str] = _no_label
        """The labels of what a thread allocates now, joined."""
        self.has_labels = False
        self.table = BlockTable()
        self.tracks: list[Track] = []
        self._dumps, self._pid, self._texts = dumps, pid, texts
        self._recording = True
        self._live: list[dict[int, int]] = []
        self._starts: dict[int, list[int]] = {}
        self._places: list[Place] = []
        self._place_of: dict[tuple[str, str | None], int] = {}
        self._track_of: dict[tuple[str, str], int] = {}
        self._files: dict[int, LogFile] = {}
        self._next_file = 0
        self._allocations = 0
        self._rows = RowWriter(dumps, texts.tails)
        self._work: _Work | None = None

    @property
    def recording(self) -> bool:
        """Whether rows are written."""
        return self._recording

    @recording.setter
    def recording(self, wanted: bool) -> None:
        if wanted != self._recording:
            self.settle()
            self._recording = wanted

    def new_settings(self, settings: Settings) -> None:
        """Go on with other settings."""
        self.settle()
        self.settings = settings
        for track in self.tracks:
            track.is_wanted = settings.blocks and settings.wants(track.device)

    # -- events --------------------------------------------------------------------------------

    def begin(self, batch: Batch) -> None:
        """Take a batch, whose events then come by `add`."""
        self.settle()
        self._texts.trim()
        events = batch.events
        kind = events.kind
        is_birth = (kind == Kind.BIRTH) | (kind == Kind.BACK)
        place, file = self._places_of(batch)
        numbers = np.arange(len(events))
        places = np.flatnonzero(np.bincount(place[is_birth], minlength=len(self._places)))
        tracks = np.zeros(len(self._places), dtype=np.int64)
        unsure = np.zeros(len(self._places), dtype=np.bool_)
        devices = [one.device for one in self._places if one.type == HAL]
        only = devices[0] if len(devices) == 1 else None
        for k in places.tolist():
            one = self._places[k]
            if one.device is None and len(devices) > 1:
                unsure[k] = True
            else:
                tracks[k] = self._track(one, one.device or only or FIRST_DEVICE)
        code = np.where(is_birth, numbers, _ENDS)
        splits: list[int] = []
        asks = is_birth & unsure[place]
        if asks.any():
            code[asks] = -2 - numbers[asks]
            is_hal = np.array([one.type == HAL for one in self._places])[place]
            splits = (np.flatnonzero(is_hal[1:] != is_hal[:-1]) + 1).tolist()
        lives = self._live
        self._work = _Work(
            batch, kind, is_birth, place, self._allocations + np.cumsum(is_birth), tracks[place],
            file, code.tolist(), events.address.tolist(), [lives[k] for k in place.tolist()],
            np.flatnonzero(kind == Kind.REFUSED).tolist(), splits,
        )  # fmt: skip
        self._allocations += int(np.count_nonzero(is_birth))

    def _places_of(self, batch: Batch) -> tuple[IntArray, IntArray]:
        """Return the place of each event, and the number of its file."""
        place = np.zeros(len(batch.events), dtype=np.int64)
        number = np.zeros(len(batch.events), dtype=np.int64)
        self._forget_files()
        for k, file in enumerate(batch.files):
            assert file.facts is not None
            of_domain = np.array([self._place(name) for name in file.facts.domains])
            mine = batch.file == k
            place[mine] = of_domain[batch.events.domain[mine]]
            number[mine] = self._file(file)
        return place, number

    def _place(self, domain: str) -> int:
        one = place_of(domain)
        found = self._place_of.get((one.type, one.device))
        if found is None:
            found = self._place_of[one.type, one.device] = len(self._places)
            self._places.append(one)
            self._live.append({})
        return found

    def _track(self, place: Place, device: str) -> int:
        found = self._track_of.get((place.type, device))
        if found is None:
            found = self._track_of[place.type, device] = len(self.tracks)
            track = Track(place, device, self._pid, self._dumps)
            track.is_wanted = self.settings.blocks and self.settings.wants(device)
            self.tracks.append(track)
        return found

    def _file(self, file: LogFile) -> int:
        """Return the number of a file."""
        for number, known in self._files.items():
            if known is file:
                return number
        self._files[self._next_file] = file
        self._next_file += 1
        return self._next_file - 1

    def _forget_files(self) -> None:
        """Forget the files before the last one that no live block is of."""
        if len(self._files) > 1:
            used = set(np.unique(self.table.file[self.table.is_live]).tolist())
            last = self._next_file - 1
            self._files = {k: one for k, one in self._files.items() if k in used or k == last}

    def file(self, number: int) -> LogFile:
        """Return a file of the log, by the number that the table has."""
        return self._files[number]

    def add(self, low: int, high: int) -> None:
        """Let the events [low, high) of the batch happen."""
        work = self._work
        assert work is not None
        stops = [k for k in (*work.refused, *work.splits) if low <= k < high]
        for stop in sorted(set(stops)):
            self._match(work, low, stop)
            low = stop
            if work.kind[stop] == Kind.REFUSED:
                work.before.append(_NOBODY)
                low = work.high = stop + 1
                self._refuse(work, stop)
        self._match(work, low, high)

    def _match(self, work: _Work, low: int, high: int) -> None:
        """Find out which block each event ends."""
        if low >= high:
            return
        if self.has_labels:
            self._label(work, low, high)
        append = work.before.append
        addresses = work.address[low:high]
        rows = zip(work.code[low:high], addresses, work.lives[low:high], strict=True)
        for code, address, live in rows:
            append(live.pop(address, _NOBODY))
            if code >= 0:
                live[address] = code
            elif code != _ENDS:
                live[address] = -2 - code
                device = self._device_of(address)
                work.track[-2 - code] = self._track(self._places[work.place[-2 - code]], device)
        work.high = high
        if self._starts:
            self._renew_starts(work, low, high)

    def _label(self, work: _Work, low: int, high: int) -> None:
        """Note the owners of what is born."""
        for k in (low + np.flatnonzero(work.is_birth[low:high])).tolist():
            labels = self.labels(int(work.batch.tid[k]))
            if labels:
                work.owners[k] = f"{self._places[work.place[k]].framework}@{labels}"

    def _refuse(self, work: _Work, at: int) -> None:
        """The program did not get a block."""
        events, place = work.batch.events, self._places[work.place[at]]
        track = self.tracks[self._track(place, place.device or FIRST_DEVICE)]
        self.on_refused(
            Refusal(
                int(events.time_ns[at]), int(work.batch.tid[at]), track,
                int(events.size_bytes[at]), int(events.stack[at]),
                work.batch.files[int(work.batch.file[at])],
            )
        )  # fmt: skip

    # -- rows of other kinds ---------------------------------------------------------------------

    def tell(self, device: str | None, row: Values, attributes: Mapping[str, Any]) -> None:
        """Take a row, without its ID, behind the events that came: for a device, or all files."""
        self._rows.tell(self._work.high if self._work else 0, device, row, attributes)
        if self._rows.waiting > _OTHERS_MAX:
            self.settle()

    def when_written(self, number: int, then: Callable[[int], None]) -> None:
        """Call ``then`` with the row of a live block, if it has one; ``number`` is of `find`."""
        if number >= 0:
            assert self._work is not None
            self._work.late.append((number, then))
        else:
            row = int(self.table.row[_FIRST_SLOT - number])
            if row:
                then(row)

    # -- columns -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Write the rows of what came, and keep what lives."""
        work = self._work
        if work is None or work.high == work.low:
            if self._rows.waiting:
                self._rows.write(no_rows(), self.tracks)
            return
        count = work.high - work.low
        span = slice(work.low, work.high)
        before = np.fromiter(work.before, dtype=np.int64, count=count)
        ends, births = before != _NOBODY, work.is_birth[span]
        # At most two changes for an event: the block that was there ends, another one begins.
        changes = np.flatnonzero(np.stack((ends, births), axis=1).ravel())
        event = (changes >> 1) + work.low
        is_birth = (changes & 1).astype(np.bool_)
        number = np.where(is_birth, event, before[changes >> 1])
        rows, numbers = self._rows_of(work, event, is_birth, number)
        row_of = np.zeros(count, dtype=np.int64)
        born = rows.kind == MALLOC
        row_of[rows.event[born] - work.low] = numbers[born]
        self._keep(work, before, row_of)
        for k, then in work.late:
            if row_of[k - work.low]:
                then(int(row_of[k - work.low]))
        work.late.clear()
        work.before.clear()
        work.owners.clear()
        work.low = work.high

    def _rows_of(
        self, work: _Work, event: IntArray, is_birth: BoolArray, number: IntArray
    ) -> tuple[TrackRows, IntArray]:
        """Count what changes, and write its rows; returns them and their numbers in the files."""
        table, events = self.table, work.batch.events
        inside = np.maximum(number, 0)
        slot = _FIRST_SLOT - number
        is_old = number < 0
        size, track = events.size_bytes[inside], work.track[inside]
        allocation = work.allocation[inside]
        wanted = np.array([one.is_wanted for one in self.tracks], dtype=np.bool_)
        wanted &= self._recording
        is_written = wanted[track]
        if is_old.any():
            old = slot[is_old]
            size[is_old], track[is_old] = table.size[old], table.track[old]
            allocation[is_old] = table.allocation[old]
            is_written[is_old] = table.row[old] > 0
        used = self._count(track, np.where(is_birth, size, -size))
        whole = wanted[track] & (is_birth | ~work.is_birth[event])
        # An end that no event told, or outside of a window.
        made = ~is_birth & ~whole & is_written
        there = np.flatnonzero(whole | made)
        at = event[there]
        kind = np.where(is_birth, MALLOC, np.where(made, SHADOW_FREE, FREE))[there]
        columns = BlockRows(
            at, kind, events.time_ns[at], work.batch.tid[at], events.address[at],
            allocation[there], size[there], used[there], self._tails(work, at, kind == MALLOC),
            self._owners(work, at, kind == MALLOC),
        )  # fmt: skip
        rows = TrackRows(at, track[there], kind, columns)
        return rows, self._rows.write(rows, self.tracks)

    def _count(self, track: IntArray, change: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the bytes in use of each change's track behind it; numbers go round at 2^64."""
        used = np.zeros(len(track), dtype=np.uint64)
        for k in np.flatnonzero(np.bincount(track, minlength=len(self.tracks))).tolist():
            mine = np.flatnonzero(track == k)
            one = self.tracks[k]
            used[mine] = np.uint64(one.used_bytes) + np.cumsum(change[mine])
            one.used_bytes = int(used[mine[-1]])
        return used

    def _tails(self, work: _Work, event: IntArray, born: BoolArray) -> IntArray:
        """Return the texts of stacks of rows, which births have."""
        tails = np.zeros(len(event), dtype=np.int64)
        if self.settings.python_depth or self.settings.c_depth:
            stack, file = work.batch.events.stack, work.batch.file
            for k, one in enumerate(work.batch.files):
                mine = np.flatnonzero(born & (file[event] == k))
                tails[mine] = self._texts.numbers(
                    one, stack[event[mine]].astype(np.int64), self.settings
                )
        return tails

    @staticmethod
    def _owners(work: _Work, event: IntArray, born: BoolArray) -> dict[int, str]:
        if not work.owners:
            return {}
        owned = work.owners
        places = np.flatnonzero(born).tolist()
        return {
            k: owned[at] for k, at in zip(places, event[born].tolist(), strict=True) if at in owned
        }

    def _keep(self, work: _Work, before: IntArray, row_of: IntArray) -> None:
        """Give the blocks that live on a slot, and take back those of blocks that ended."""
        table, events = self.table, work.batch.events
        lives = work.is_birth[work.low : work.high].copy()
        lives[before[before >= 0] - work.low] = False
        table.give(_FIRST_SLOT - before[before <= _FIRST_SLOT])
        here = np.flatnonzero(lives)
        born = here + work.low
        slots = table.take(len(born))
        table.address[slots], table.size[slots] = events.address[born], events.size_bytes[born]
        table.allocation[slots], table.row[slots] = work.allocation[born], row_of[here]
        table.time_ns[slots], table.tid[slots] = events.time_ns[born], work.batch.tid[born]
        table.stack[slots], table.file[slots] = events.stack[born], work.file[born]
        table.track[slots] = work.track[born]
        place = work.place[born]
        for k in np.flatnonzero(np.bincount(place, minlength=len(self._live))).tolist():
            mine = place == k
            numbers = (_FIRST_SLOT - slots[mine]).tolist()
            self._live[k].update(zip(events.address[born[mine]].tolist(), numbers, strict=True))

    # -- windows -------------------------------------------------------------------------------

    def promote(self, time_ns: int, tid: int) -> None:
        """Write what is live and has no row yet: rows of this time, without counters."""
        self.settle()
        slots = self.table.living()
        wanted = np.array([one.is_wanted for one in self.tracks], dtype=np.bool_)
        slots = slots[(self.table.row[slots] == 0) & wanted[self.table.track[slots]]]
        tids = np.full(len(slots), tid, dtype=np.int64)
        self.table.row[slots] = self._emit_slots(slots, SHADOW_MALLOC, time_ns, tids)

    def end_all(self, time_ns: int) -> None:
        """Write an end of each block that has a row and lives; the blocks stay."""
        self.settle()
        slots = self.table.living()
        slots = slots[self.table.row[slots] > 0]
        self._emit_slots(slots, SHADOW_FREE, time_ns, self.table.tid[slots])

    def _emit_slots(self, slots: IntArray, kind: int, time_ns: int, tid: IntArray) -> IntArray:
        table = self.table
        none = np.zeros(len(slots), dtype=np.int64)
        columns = BlockRows(
            none, none, none + time_ns, tid, table.address[slots], table.allocation[slots],
            table.size[slots], none.astype(np.uint64), none,
        )  # fmt: skip
        rows = TrackRows(none, table.track[slots], none + kind, columns)
        return self._rows.write(rows, self.tracks)

    def living_on(self, device: str) -> IntArray:
        """Return the slots of what is live on a device, in the order of allocations."""
        self.settle()
        slots = self.table.living()
        here = np.array([track.device == device for track in self.tracks], dtype=np.bool_)
        return slots[here[self.table.track[slots]]]

    def pools_of(self, slots: IntArray) -> IntArray:
        """Return the number of the pool of each slot, in the order of the log's domains."""
        places = {id(place): k for k, place in enumerate(self._places)}
        numbers = np.array([places[id(track.place)] for track in self.tracks], dtype=np.int64)
        return numbers[self.table.track[slots]]

    # -- which block has an address ------------------------------------------------------------

    def find(self, address: int, device: str | None = None) -> Found | None:
        """Return what holds an address; of blocks in each other the inner one. ``device`` None:
        any.
        """
        best: Found | None = None
        for place, live in enumerate(self._live):
            if device is not None and self._places[place].device not in {None, device}:
                continue
            start = self._start_of(place, address)
            if start is None:
                continue
            found = self._found(start, live[start])
            if device is not None and found.track.device != device:
                continue
            if best is None or found.size <= best.size:
                best = found
        return best

    def _found(self, start: int, number: int) -> Found:
        if number >= 0:
            work = self._work
            assert work is not None
            size, allocation = work.batch.events.size_bytes[number], work.allocation[number]
            track = work.track[number]
        else:
            slot = _FIRST_SLOT - number
            size, allocation = self.table.size[slot], self.table.allocation[slot]
            track = self.table.track[slot]
        return Found(start, int(size), int(allocation), self.tracks[int(track)], number)

    def _size(self, number: int) -> int:
        if number >= 0:
            assert self._work is not None
            return int(self._work.batch.events.size_bytes[number])
        return int(self.table.size[_FIRST_SLOT - number])

    def _start_of(self, place: int, address: int) -> int | None:
        live = self._live[place]
        if address in live:
            return address
        starts = self._starts.get(place)
        if starts is None:
            starts = self._starts[place] = sorted(live)
        at = bisect_right(starts, address) - 1
        if at < 0:
            return None
        start = starts[at]
        return start if address < start + max(self._size(live[start]), 1) else None

    def _renew_starts(self, work: _Work, low: int, high: int) -> None:
        """Let the lists of begins have what the events [low, high) changed."""
        for place in np.unique(work.place[low:high]).tolist():
            starts = self._starts.get(place)
            if starts is None:
                continue
            if high - low > _RENEWED:
                del self._starts[place]
                continue
            live = self._live[place]
            mine = np.flatnonzero(work.place[low:high] == place) + low
            for k in mine.tolist():
                _renew(starts, live, work.address[k])

    def _device_of(self, address: int) -> str:
        """Return the device of a pool's block: that of the device's block around it."""
        for place, one in enumerate(self._places):
            is_hal = one.device is not None and one.type == HAL
            if is_hal and self._start_of(place, address) is not None:
                return one.device or FIRST_DEVICE
        return FIRST_DEVICE


def _renew(starts: list[int], live: dict[int, int], address: int) -> None:
    """Have an address in a sorted list if, and only if, a live block begins there."""
    at = bisect_left(starts, address)
    is_there = at < len(starts) and starts[at] == address
    if address in live:
        if not is_there:
            insort(starts, address)
    elif is_there:
        del starts[at]


def _nothing(refusal: Any) -> None:
    """Nobody wants to know of refusals."""


def _no_label(tid: int) -> str:  # noqa: ARG001 - the default
    return ""
