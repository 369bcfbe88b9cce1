"""Turn events of blocks into dump rows: live set, counters, a row for each birth and death.

Model: `Blocks` follows all blocks of a process, whether rows are written or not: so a window that
opens later knows what is there. A block belongs to a `Track`, the memory of one type on one device,
which has the counters and the file.

Events come in batches, as columns. The one thing that goes event by event is which block each one
ends: a dictionary of what is live at each address. All else (`settle`) is done in columns: sums,
numbers, rows. Rows of other kinds wait with the number of events before them, so that they get
their IDs in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import Kind
from mem_parser.memscope.blockbatch import ENDS, FIRST_SLOT, NOBODY, BlockBatch
from mem_parser.memscope.blockfacts import (
    NO_TRAITS,
    BlockFacts,
    Suffixes,
    module_of,
    traits_text,
)
from mem_parser.memscope.liveaddresses import BlockTable, LiveAddresses
from mem_parser.memscope.tracks import (
    FIRST_DEVICE,
    FREE,
    MALLOC,
    SHADOW_FREE,
    SHADOW_MALLOC,
    Batch,
    BlockPlaces,
    Found,
    Refusal,
    RowWriter,
    Track,
    TrackRows,
    no_rows,
)
from mem_parser.memscope.writing import BlockRows

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps
    from mem_parser.memscope.logtail import LogFile
    from mem_parser.memscope.settings import Settings
    from mem_parser.memscope.stacktexts import StackTexts
    from mem_parser.memscope.writing import Values

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SORTED_EVENTS = 1 << 10
"""So many events in a row are matched by sorting them; of fewer, each by itself."""
_OTHERS_MAX = 1 << 15


class Blocks:
    """All blocks of a process."""

    def __init__(
        self, settings: Settings, dumps: Dumps, pid: int, texts: StackTexts, facts: BlockFacts
    ) -> None:
        self.settings = settings
        self.on_refused: Callable[[Refusal], None] | None = None
        self.labels: Callable[[int], str] | None = None
        """The labels of what a thread allocates at this moment, joined; None: nobody has any."""
        self.table = BlockTable()
        self._texts, self.facts = texts, facts
        self._recording = True
        self._live = LiveAddresses(self._size)
        self._places = BlockPlaces(settings, dumps, pid, self._live)
        self._allocations = 0
        self._rows = RowWriter(dumps, texts.tails)
        self._work: BlockBatch | None = None

    @property
    def tracks(self) -> list[Track]:
        """The memory of each type on each device."""
        return self._places.tracks

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
        self._places.new_settings(settings)

    # -- events --------------------------------------------------------------------------------

    def begin(self, batch: Batch) -> None:
        """Take a batch, whose events then come by `add`."""
        self.settle()
        self._texts.trim()
        events = batch.events
        kind = events.kind
        is_birth = (kind == Kind.BIRTH) | (kind == Kind.BACK)
        places = self._places
        place, file = places.of_batch(batch, self._used_files())
        numbers = np.arange(len(events))
        present = np.flatnonzero(np.bincount(place[is_birth], minlength=len(places.places)))
        tracks, unsure = places.tracks_of(present)
        code = np.where(is_birth, numbers, ENDS)
        splits: list[int] = []
        asks = is_birth & unsure[place]
        if asks.any():
            code[asks] = FIRST_SLOT - numbers[asks]
            is_hal = places.are_of_driver()[place]
            splits = (np.flatnonzero(is_hal[1:] != is_hal[:-1]) + 1).tolist()
        self._work = BlockBatch(
            batch, kind, is_birth, place, self._allocations + np.cumsum(is_birth), tracks[place],
            file, code, self._live.of_place, bool(asks.any()),
            np.flatnonzero(kind == Kind.REFUSED).tolist(), splits,
        )  # fmt: skip
        self._allocations += int(np.count_nonzero(is_birth))

    def _used_files(self) -> set[int]:
        """Return the numbers of the files that live blocks are of."""
        if not self._places.many_files:
            return set()
        return set(np.unique(self.table.file[self.table.is_live]).tolist())

    def file(self, number: int) -> LogFile:
        """Return a file of the log, by the number that the table has."""
        return self._places.file(number)

    def add(self, low: int, high: int) -> None:
        """Let the events [low, high) of the batch happen."""
        work = self._work
        assert work is not None
        for stop in work.stops(low, high):
            self._match(work, low, stop)
            low = stop
            if work.is_refused(stop):
                work.passed(stop)
                low = stop + 1
                self._refuse(work, stop)
        self._match(work, low, high)

    def _match(self, work: BlockBatch, low: int, high: int) -> None:
        """Find out which block each event ends."""
        if low >= high:
            return
        if self.labels is not None:
            self._label(work, low, high, self.labels)
        if high - low >= SORTED_EVENTS and not work.asks:
            span = slice(low, high)
            address = work.batch.events.address[span]
            work.before += self._live.happen(work.place[span], address, work.codes[span]).tolist()
        else:
            self._match_one_by_one(work, low, high)
        work.high = high
        if self._live.has_lists:
            self._live.renew(work.place[low:high], work.address[low:high])

    def _match_one_by_one(self, work: BlockBatch, low: int, high: int) -> None:
        append = work.before.append
        addresses = work.address[low:high]
        rows = zip(work.code[low:high], addresses, work.lives[low:high], strict=True)
        for code, address, live in rows:
            append(live.pop(address, NOBODY))
            if code >= 0:
                live[address] = code
            elif code != ENDS:
                born = FIRST_SLOT - code
                live[address] = born
                place = self._places.places[work.place[born]]
                work.track[born] = self._places.track(place, self._places.device_of(address))

    def _label(self, work: BlockBatch, low: int, high: int, labels: Callable[[int], str]) -> None:
        """Record the owners of new blocks."""
        for k in (low + np.flatnonzero(work.is_birth[low:high])).tolist():
            work.own(
                k, self._places.places[work.place[k]].framework, "", labels(int(work.batch.tid[k]))
            )

    def _refuse(self, work: BlockBatch, at: int) -> None:
        """The program did not get a block."""
        if self.on_refused is None:
            return
        events, place = work.batch.events, self._places.places[work.place[at]]
        track = self.tracks[self._places.track(place, place.device or FIRST_DEVICE)]
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
            row = int(self.table.row[FIRST_SLOT - number])
            if row:
                then(row)

    # -- columns -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Write the rows of new events, and keep live blocks."""
        work = self._work
        if work is None or work.high == work.low:
            if self._rows.waiting:
                self._rows.write(no_rows(), self.tracks)
            return
        count = work.high - work.low
        span = slice(work.low, work.high)
        before = np.fromiter(work.before, dtype=np.int64, count=count)
        ends, births = before != NOBODY, work.is_birth[span]
        # At most two changes for an event: the block that was there ends, another one begins.
        changes = np.flatnonzero(np.stack((ends, births), axis=1).ravel())
        event = (changes >> 1) + work.low
        is_birth = (changes & 1).astype(np.bool_)
        number = np.where(is_birth, event, before[changes >> 1])
        traits = self._traits(work)
        rows, numbers = self._rows_of(work, event, is_birth, number, traits)
        row_of = np.zeros(count, dtype=np.int64)
        born = rows.kind == MALLOC
        row_of[rows.event[born] - work.low] = numbers[born]
        self._keep(work, before, row_of, traits)
        for k, then in work.late:
            if row_of[k - work.low]:
                then(int(row_of[k - work.low]))
        work.settled()

    def _rows_of(
        self,
        work: BlockBatch,
        event: IntArray,
        is_birth: BoolArray,
        number: IntArray,
        traits: IntArray | None,
    ) -> tuple[TrackRows, IntArray]:
        """Count what changes, and write its rows; returns them and their numbers in the files."""
        table, events = self.table, work.batch.events
        inside, low = np.maximum(number, 0), work.low
        slot = FIRST_SLOT - number
        is_old = number < 0
        size, track = events.size_bytes[inside], work.track[inside]
        allocation = work.allocation[inside]
        wanted = self._places.are_wanted() & self._recording
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
        born = kind == MALLOC
        told = born * traits[at - low] if traits is not None else None
        suffixes = self._suffixes(events.time_ns[at], track[there], kind, told)
        columns = BlockRows(
            at, kind, events.time_ns[at], work.batch.tid[at], events.address[at],
            allocation[there], size[there], used[there], self._tails(work, at, born),
            *suffixes, self._owners(work, at, born),
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
            one.highest_bytes = max(one.highest_bytes, int(used[mine].max()))
        return used

    def _traits(self, work: BlockBatch) -> IntArray | None:
        """Return what drivers told of the blocks that events begin, and give these owners; None:
        nothing was ever told.
        """
        if not self.facts.has_any:
            return None
        events, low, high = work.batch.events, work.low, work.high
        traits = np.full(high - low, NO_TRAITS, dtype=np.int64)
        births = np.flatnonzero(
            work.is_birth[low:high] & self._places.are_of_driver()[work.place[low:high]]
        )
        at = births + low
        traits[births] = self.facts.traits(
            events.time_ns[at], events.thread[at].astype(np.int64), events.address[at]
        )
        if "decompose" in self.settings.analyses:
            for k, told in zip(at.tolist(), traits[births].tolist(), strict=True):
                if told != NO_TRAITS:
                    work.own(k, self._places.places[work.place[k]].framework, module_of(told))
        return traits

    def _suffixes(
        self, time_ns: IntArray, track: IntArray, kind: IntArray, traits: IntArray | None
    ) -> Suffixes:
        """Return the further keys of rows: those that a conversion makes have none but traits."""
        if traits is None or not self.facts.has_any:
            return Suffixes(np.zeros(len(time_ns), dtype=np.int64), [""])
        found = self.facts.suffixes(time_ns, track, self.tracks, traits)
        shadows = np.flatnonzero(kind >= SHADOW_MALLOC) if len(found.texts) > 1 else ()
        if len(shadows):
            texts = {told: traits_text(told) for told in np.unique(traits[shadows]).tolist()}
            places = {told: len(found.texts) + k for k, told in enumerate(texts)}
            found.number[shadows] = [places[told] for told in traits[shadows].tolist()]
            found.texts.extend(texts.values())
        return found

    def _tails(self, work: BlockBatch, event: IntArray, born: BoolArray) -> IntArray:
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
    def _owners(work: BlockBatch, event: IntArray, born: BoolArray) -> dict[int, str]:
        if not work.owners:
            return {}
        owned = work.owners
        places = np.flatnonzero(born).tolist()
        return {
            k: owned[at] for k, at in zip(places, event[born].tolist(), strict=True) if at in owned
        }

    def _keep(
        self, work: BlockBatch, before: IntArray, row_of: IntArray, traits: IntArray | None
    ) -> None:
        """Give the blocks that live on a slot, and take back those of blocks that ended."""
        table, events = self.table, work.batch.events
        lives = work.is_birth[work.low : work.high].copy()
        lives[before[before >= 0] - work.low] = False
        table.give(FIRST_SLOT - before[before <= FIRST_SLOT])
        here = np.flatnonzero(lives)
        born = here + work.low
        slots = table.take(len(born))
        table.address[slots], table.size[slots] = events.address[born], events.size_bytes[born]
        table.allocation[slots], table.row[slots] = work.allocation[born], row_of[here]
        table.time_ns[slots], table.tid[slots] = events.time_ns[born], work.batch.tid[born]
        table.stack[slots], table.file[slots] = events.stack[born], work.file[born]
        table.track[slots] = work.track[born]
        if traits is not None:
            table.traits[slots] = traits[here]
        self._live.put(work.place[born], events.address[born], FIRST_SLOT - slots)

    # -- windows -------------------------------------------------------------------------------

    def promote(self, time_ns: int, tid: int) -> None:
        """Write live blocks without a row: rows of this time, without counters."""
        self.settle()
        slots = self.table.living()
        wanted = self._places.are_wanted()
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
        traits = table.traits[slots] if kind == SHADOW_MALLOC else none
        suffixes = self._suffixes(none + time_ns, table.track[slots], none + kind, traits)
        columns = BlockRows(
            none, none, none + time_ns, tid, table.address[slots], table.allocation[slots],
            table.size[slots], none.astype(np.uint64), none, *suffixes,
        )  # fmt: skip
        rows = TrackRows(none, table.track[slots], none + kind, columns)
        return self._rows.write(rows, self.tracks)

    def living_on(self, device: str) -> IntArray:
        """Return the slots of live blocks on a device, in the order of allocations."""
        self.settle()
        slots = self.table.living()
        here = np.array([track.device == device for track in self.tracks], dtype=np.bool_)
        return slots[here[self.table.track[slots]]]

    def track_of(self, kind: str, device: str) -> Track | None:
        """Return the memory of a type on a device; None: it has had no block."""
        found = (one for one in self.tracks if (one.place.type, one.device) == (kind, device))
        return next(found, None)

    def pools_of(self, slots: IntArray) -> IntArray:
        """Return the number of the pool of each slot, in the order of the log's domains."""
        return self._places.of_tracks()[self.table.track[slots]]

    # -- which block has an address ------------------------------------------------------------

    def find(self, address: int, device: str | None = None) -> Found | None:
        """Return what holds an address; of blocks in each other the inner one. ``device`` None:
        any.
        """
        best: Found | None = None
        for place, live in enumerate(self._live.of_place):
            if device is not None and self._places.places[place].device not in {None, device}:
                continue
            start = self._live.start_of(place, address)
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
            slot = FIRST_SLOT - number
            size, allocation = self.table.size[slot], self.table.allocation[slot]
            track = self.table.track[slot]
        return Found(start, int(size), int(allocation), self.tracks[int(track)], number)

    def _size(self, number: int) -> int:
        """Return the bytes of a live block."""
        if number >= 0:
            assert self._work is not None
            return int(self._work.batch.events.size_bytes[number])
        return int(self.table.size[FIRST_SLOT - number])
