"""Read the rings of events in a segment, as they are written.

Model: a ring keeps its latest events under numbers that only grow (sampler/core/events.h). A
`RingReader` knows the next number of each ring that it has not read. Events that were overwritten
before they were read are a `Hole`, and so are those that the sampler could not write: their number,
and between which times. Reading changes nothing in the segment; `drained` tells a later reader how
far a file has come.

Times are CLOCK_MONOTONIC of the target in nanoseconds. All that the segment says is checked: events
that make no sense are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.memlog.events import Events
from mem_parser.memlog.launches import Launches
from mem_profiler.segment import layout
from mem_profiler.segment.file import Array, Control, Records, Segment

_KIND_MASK = (1 << layout.EVENT_KIND_BITS) - 1
_SIZE_MASK = (1 << layout.LIVE_SIZE_BITS) - 1
_STACK_MASK = (1 << layout.STACK_BITS) - 1
_SLACK_NS = 1_000_000_000
"""An event may be so much later than the moment at which it was read: clocks are read apart."""


@dataclass(frozen=True)
class Geometry:
    """Where the rings of a capture are: `count` rings of `events` each."""

    array: Array
    count: int
    events: int


@dataclass(frozen=True)
class Hole:
    """Events of one ring that nobody has: `events` of them, after `from_ns`, not after `to_ns`."""

    ring: int
    events: int
    from_ns: int
    to_ns: int


@dataclass(frozen=True)
class Batch:
    """Result of one reading: events and launches, each in order of time, holes, the number of
    invalid events, and the most that one ring had to give, with what it had lost.

    Times are those of the target's clock, and stacks and texts have their ids in the arena.
    """

    events: Events
    launches: Launches
    holes: list[Hole]
    senseless: int
    most_of_one_ring: int


def note_drained(segment: Segment, numbers: Sequence[int]) -> None:
    """Say in the segment that the events before these are in a file, for each ring."""
    geometry = geometry_of(segment.control())
    if geometry is None:
        return
    at = geometry.array.offset + layout.RING.fields["drained"][1]  # type: ignore[index]
    for ring, number in enumerate(numbers[: geometry.count]):
        segment.write(at + ring * layout.RING.itemsize, number.to_bytes(8, "little"))


def geometry_of(control: Control) -> Geometry | None:
    """The rings of the latest capture; None: it writes no events, or its rings make no sense."""
    raw = control["events"]
    count, events = int(raw["rings"]), int(raw["ring_events"])
    array = control.array(layout.EVENTS, layout.EVENT.itemsize, control.limit_bytes // 32)
    if int(raw["capture"]) != control.number("capture_number") or count == 0:
        return None
    sane = count & (count - 1) == 0 and events & (events - 1) == 0 and count <= layout.RING_ROWS
    need = layout.RING_HEADS_BYTES + count * events * layout.EVENT.itemsize
    if not sane or events < 2 or need > min(array.total_bytes, array.reserved_bytes):
        return None
    return Geometry(array, count, events)


class RingReader:
    """Follows the rings of one capture. Raises ProcessGone where the segment was cut off."""

    def __init__(self, segment: Segment, control: Control, *, drained: bool = False) -> None:
        """Begin with the capture's first event; with the first that is in no file if `drained`.

        `found` is False where the capture has no rings; then every reading is empty.
        """
        self._segment = segment
        geometry = geometry_of(control)
        self.found = geometry is not None
        self._geometry = geometry or Geometry(Array(layout.EVENTS, 0, 0, 32, 0), 0, 0)
        self._start_ns = int(control.capture["start_ns"])
        heads = self._heads()
        newest = heads["head"].astype(np.int64)
        begun = heads["drained" if drained else "begun"].astype(np.int64)
        self._next = np.where((begun >= 0) & (begun <= newest), begun, newest)
        self._lost = heads["lost_begun"].astype(np.int64)
        self._last_ns = np.full(self._geometry.count, self._start_ns, np.int64)
        self._read_ns = self._start_ns
        self.read_events = 0
        self.lost_events = 0
        self.senseless_events = 0

    def _heads(self) -> Records:
        count = self._geometry.count
        raw = self._segment.read(self._geometry.array.offset, count * layout.RING.itemsize)
        return raw.view(layout.RING)

    @property
    def ring_events(self) -> int:
        """Events that a ring keeps."""
        return self._geometry.events

    def take(self, now_ns: int) -> Batch:
        """All events since the last call; `now_ns` is the target's clock."""
        heads, before = self._heads(), self._next.copy()
        holes: list[Hole] = []
        pieces: list[Records] = []
        for ring in range(self._geometry.count):
            piece = self._take_ring(ring, int(heads["head"][ring]), holes, now_ns)
            if len(piece):
                pieces.append(piece)
        most = int((heads["head"].astype(np.int64) - before).max(initial=0))
        self._note_lost(heads, holes, now_ns)
        self._read_ns = now_ns
        raw = np.concatenate(pieces) if pieces else np.zeros(0, layout.EVENT)
        is_launch = raw["time_kind"] & np.uint64(_KIND_MASK) == np.uint64(layout.EVENT_LAUNCH)
        span = self._start_ns, now_ns + _SLACK_NS
        launches, no_launches = _launches(raw[is_launch], *span)
        events, no_events = _columns(raw[~is_launch], *span)
        self.read_events += len(events) + len(launches)
        self.senseless_events += no_events + no_launches
        self.lost_events += sum(hole.events for hole in holes)
        return Batch(events, launches, holes, no_events + no_launches, most)

    def has_more(self) -> bool:
        """Whether there are events that were not taken yet."""
        return bool((self._heads()["head"].astype(np.int64) > self._next).any())

    @property
    def taken(self) -> list[int]:
        """The number of each ring's first event that was not taken yet."""
        numbers: list[int] = self._next.tolist()
        return numbers

    # -- one ring ------------------------------------------------------------------------------

    def _take_ring(self, ring: int, head: int, holes: list[Hole], now_ns: int) -> Records:
        size, since = self._geometry.events, int(self._next[ring])
        if not since < head < 1 << 62:
            return np.zeros(0, layout.EVENT)
        first = max(since, head - size)
        piece = self._copy(ring, first, head)
        # Writers may have overwritten the oldest events of the copy meanwhile.
        oldest = max(int(self._heads()["head"][ring]), head) - size + 1
        if oldest > first:
            piece = piece[min(oldest - first, len(piece)) :]
            first = min(oldest, head)
        if first > since:
            until = _time_of(piece[0]) if len(piece) else now_ns
            holes.append(Hole(ring, first - since, int(self._last_ns[ring]), until))
        self._next[ring] = head
        self._last_ns[ring] = _time_of(piece[-1]) if len(piece) else now_ns
        return piece

    def _copy(self, ring: int, first: int, end: int) -> Records:
        size, item = self._geometry.events, layout.EVENT.itemsize
        base = self._geometry.array.offset + layout.RING_HEADS_BYTES + ring * size * item
        at, count = first & (size - 1), end - first
        before_wrap = min(count, size - at)
        parts = [self._segment.read(base + at * item, before_wrap * item)]
        if before_wrap < count:
            parts.append(self._segment.read(base, (count - before_wrap) * item))
        return np.concatenate(parts).view(layout.EVENT)

    def _note_lost(self, heads: Records, holes: list[Hole], now_ns: int) -> None:
        """Holes of events that the sampler could not write."""
        lost = heads["lost"].astype(np.int64)
        for ring in np.flatnonzero(lost > self._lost).tolist():
            first, last = (int(heads[name][ring]) for name in ("first_lost_ns", "last_lost_ns"))
            begin = max(self._read_ns, first) if first <= now_ns else self._read_ns
            end = max(begin, min(last, now_ns))
            holes.append(Hole(ring, int(lost[ring] - self._lost[ring]), begin, end))
        self._lost = np.maximum(lost, self._lost)


def _time_of(event: np.void) -> int:
    return int(event["time_kind"]) >> layout.EVENT_KIND_BITS


def _columns(raw: Records, from_ns: int, to_ns: int) -> tuple[Events, int]:
    """The events that make sense, by time, and the number of the others."""
    kind = (raw["time_kind"] & np.uint64(_KIND_MASK)).astype(np.uint8)
    time_ns = (raw["time_kind"] >> np.uint64(layout.EVENT_KIND_BITS)).astype(np.int64)
    thread = (raw["size_thread"] >> np.uint64(layout.LIVE_SIZE_BITS)).astype(np.uint32)
    sane = (kind >= layout.EVENT_BIRTH) & (kind <= layout.EVENT_MARK)
    sane &= (time_ns >= from_ns) & (time_ns <= to_ns) & (thread < layout.THREAD_ROWS)
    raw, kind, time_ns, thread = raw[sane], kind[sane], time_ns[sane], thread[sane]
    named = raw["stack_domain"]
    events = Events(
        time_ns=time_ns,
        kind=kind,
        address=raw["address"],
        size_bytes=raw["size_thread"] & np.uint64(_SIZE_MASK),
        thread=thread,
        stack=named & np.uint32(_STACK_MASK),
        domain=(named >> np.uint32(layout.STACK_BITS)).astype(np.uint8),
        birth_ns=_births_ns(raw["birth"], time_ns, 1 << layout.LIVE_BIRTH_SHIFT),
    )
    return events.in_order(), int((~sane).sum())


def _launches(raw: Records, from_ns: int, to_ns: int) -> tuple[Launches, int]:
    """The launches that make sense, by time, and the number of the others."""
    time_ns = (raw["time_kind"] >> np.uint64(layout.EVENT_KIND_BITS)).astype(np.int64)
    kind = raw["birth"] >> np.uint32(layout.LAUNCH_KIND_SHIFT)
    thread = (raw["size_thread"] >> np.uint64(layout.LIVE_SIZE_BITS)).astype(np.uint32)
    sane = (kind >= 1) & (kind <= layout.LAUNCH_KINDS) & (thread < layout.THREAD_ROWS)
    sane &= (time_ns >= from_ns) & (time_ns <= to_ns)
    raw = raw[sane]
    named = raw["stack_domain"]
    launches = Launches(
        time_ns=time_ns[sane],
        kind=kind[sane].astype(np.uint8),
        address=raw["address"],
        size_bytes=raw["size_thread"] & np.uint64(_SIZE_MASK),
        thread=thread[sane],
        device=(named >> np.uint32(layout.STACK_BITS)).astype(np.uint8),
        name=named & np.uint32(_STACK_MASK),
        detail=raw["birth"] & np.uint32((1 << layout.LAUNCH_KIND_SHIFT) - 1),
    )
    return launches.in_order(), int((~sane).sum())


def _births_ns(
    birth: NDArray[np.uint32], time_ns: NDArray[np.int64], step_ns: int
) -> NDArray[np.int64]:
    """Births, of which the events have the low 32 bits: the latest that is not after the event."""
    span = np.int64(1) << np.int64(32)
    now = time_ns // step_ns + 1  # the coarse clock may be a step ahead
    steps = now - (now - birth.astype(np.int64)) % span
    return np.asarray(steps * step_ns, np.int64)
