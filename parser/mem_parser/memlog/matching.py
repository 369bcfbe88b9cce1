"""Match births and deaths: the lives of blocks, from events in order.

All is of one domain. Events are matched by address, in batches: blocks open after a batch are
prepended to the next one. A block that realloc, or a device, was refused to take is as if that was
never tried.

A death tells stack, size and birth of its block. If these are not those of the birth that was last
at its address, events are missing in between: then the birth has an end that nobody knows, and the
death has a birth that it knows itself, to 4 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.events import BIRTH_UNIT_BITS, Events, Kind
from mem_parser.memlog.timedrows import TimedRows

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
NO_THREAD = (1 << 32) - 1
_BATCH_EVENTS = 1 << 20
_UNITS_EARLIER = 5
"""A death may give its birth so many units too early: the coarse clock is up to 10 ms late, and the
time is rounded down once by the sampler's clock and once more by the log's."""
_REFUSED_WITHIN_NS = 1 << 30
"""So much later at most does a BACK come that takes back what was in another batch."""


@dataclass(slots=True)
class Lives:
    """Lives that ended: one entry each.

    ``exact``: the birth is in the log, with its thread; else ``born_ns`` is a multiple of 2^22 ns
    and ``born_thread`` is `NO_THREAD`. ``others``: how many other blocks the thread allocated
    between birth and death; -1 where another thread freed, or the birth is not in the log.
    ``follows``: the last allocation of all threads before had the same stack and size.
    """

    address: npt.NDArray[np.uint64]
    stack: npt.NDArray[np.uint32]
    size_bytes: npt.NDArray[np.uint64]
    born_ns: Ints
    died_ns: Ints
    born_thread: npt.NDArray[np.uint32]
    died_thread: npt.NDArray[np.uint32]
    exact: Flags
    others: Ints
    follows: Flags

    def __len__(self) -> int:
        return len(self.stack)


@dataclass(slots=True)
class _Rows(TimedRows):
    """Pending events, with the facts known when each arrives.

    ``ordinal``: of a birth, how many its thread had before; of a death, how many its thread had by
    then. ``follows`` as in `Lives`.
    """

    address: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]
    size_bytes: npt.NDArray[np.uint64]
    stack: npt.NDArray[np.uint32]
    thread: npt.NDArray[np.uint32]
    birth_ns: Ints
    ordinal: Ints
    follows: Flags


@dataclass(slots=True)
class Open:
    """Births without an end: one entry each. ``exact`` and what follows from it as in `Lives`."""

    address: npt.NDArray[np.uint64]
    stack: npt.NDArray[np.uint32]
    size_bytes: npt.NDArray[np.uint64]
    born_ns: Ints
    born_thread: npt.NDArray[np.uint32]
    exact: Flags


class Matcher:
    """Takes in all events of a domain in order, and gives out lives.

    ``share``, ``shares``: of the addresses, only those of this share are matched, so that several
    processes can divide the work; each takes in all events. ``frees_fail``: a free can be refused,
    as devices do, so a DEATH can be taken back as a MOVED can.
    """

    def __init__(self, share: int = 0, shares: int = 1, *, frees_fail: bool = False) -> None:
        self._frees_fail = frees_fail
        self._share, self._shares = share, shares
        self._waiting: list[_Rows] = []
        self._count = 0
        self._open: _Rows | None = None
        self._births: dict[int, int] = {}
        self._last_birth: tuple[int, int] | None = None
        self.lost: list[Open] = []
        """Births whose end is missing, since the last call of `take_lost`."""

    def add(self, events: Events) -> Iterator[Lives]:
        """Take in events; yields the lives that are surely over."""
        rows = self._rows(events)
        if self._shares > 1:
            place = (rows.address >> np.uint64(4)) * np.uint64(0x9E3779B97F4A7C15)
            mine = (place >> np.uint64(33)) % np.uint64(self._shares) == self._share
            rows = rows.take(mine)
        self._waiting.append(rows)
        self._count += len(rows)
        carried = 0 if self._open is None else len(self._open)
        if self._count >= max(_BATCH_EVENTS, carried // 4):
            yield self._match(final=False)

    def finish(self) -> tuple[Lives, Open]:
        """Return the last lives, and the births of blocks still live."""
        lives = self._match(final=True)
        rest = self._open
        assert rest is not None
        return lives, _open_of(rest)

    def take_lost(self) -> list[Open]:
        """Return births whose end is missing, each once."""
        lost, self.lost = self.lost, []
        return lost

    # -- what is known when an event comes -------------------------------------------------------

    def _rows(self, events: Events) -> _Rows:
        if (events.sign == 0).any():
            events = events.take(events.sign != 0)
        birth = events.kind == Kind.BIRTH
        return _Rows(
            events.time_ns,
            events.address,
            events.kind,
            events.size_bytes,
            events.stack,
            events.thread,
            events.birth_ns,
            self._number(events.thread, birth),
            self._follows(events, birth),
        )

    def _number(self, thread: npt.NDArray[np.uint32], birth: Flags) -> Ints:
        """Return for each event how many births its thread had before."""
        threads, code = np.unique(thread, return_inverse=True)
        code = code.astype(np.uint16) if len(threads) < 1 << 16 else code
        order = np.argsort(code, kind="stable")
        sorted_births = birth[order]
        before: Ints = np.cumsum(sorted_births) - sorted_births
        starts = np.searchsorted(code[order], np.arange(len(threads)))
        known = self._known(threads)
        ordinal = np.empty(len(thread), dtype=np.int64)
        if len(thread):
            ordinal[order] = before + (known - before[starts])[code[order]]
            np.add.at(known, code[birth], 1)
            self._keep(threads, known)
        return ordinal

    def _known(self, threads: npt.NDArray[np.uint32]) -> Ints:
        return np.array([self._births.get(t, 0) for t in threads.tolist()], dtype=np.int64)

    def _keep(self, threads: npt.NDArray[np.uint32], births: Ints) -> None:
        self._births.update(zip(threads.tolist(), births.tolist(), strict=True))

    def _follows(self, events: Events, birth: Flags) -> Flags:
        """Tell for each event whether the last birth before had the same stack and size."""
        place = np.where(birth, np.arange(len(birth)), -1)
        last = np.concatenate(([-1], np.maximum.accumulate(place)[:-1])) if len(place) else place
        stack, size = events.stack[last], events.size_bytes[last]
        same: Flags = (stack == events.stack) & (size == events.size_bytes) & (last >= 0)
        early = last < 0
        if self._last_birth is not None and early.any():
            old_stack, old_size = self._last_birth
            same[early] = (events.stack[early] == np.uint32(old_stack)) & (
                events.size_bytes[early] == np.uint64(old_size)
            )
        if birth.any():
            k = int(np.flatnonzero(birth)[-1])
            self._last_birth = int(events.stack[k]), int(events.size_bytes[k])
        return same

    # -- matching --------------------------------------------------------------------------------

    def _match(self, *, final: bool) -> Lives:
        parts = [] if self._open is None else [self._open]
        parts += self._waiting
        self._waiting, self._count = [], 0
        rows = _Rows.joined(parts) if parts else self._rows(Events.none())
        order = np.argsort(rows.address, kind="stable")
        rows = rows.take(order[~_taken_back(rows.kind[order], rows.address[order])])
        ends = (rows.kind == Kind.DEATH) | (rows.kind == Kind.MOVED)
        same_next = np.zeros(len(rows), dtype=np.bool_)
        same_next[:-1] = rows.address[1:] == rows.address[:-1]
        ended = np.zeros(len(rows), dtype=np.bool_)  # a begin whose end is the next row
        ended[:-1] = ~ends[:-1] & ends[1:] & same_next[:-1] & _agree(rows)
        begun = np.concatenate(([False], ended[:-1]))  # an end whose begin is the row before
        is_last = ~same_next
        wait = ends & is_last & _may_come_back(rows, frees_fail=self._frees_fail) & (not final)
        alive = ~ends & is_last
        self.lost.append(_open_of(rows.take(~ends & ~ended & ~is_last)))
        keep = alive | wait
        keep[:-1] |= ended[:-1] & wait[1:]
        over = np.flatnonzero(ends & ~wait)
        lives = _lives(rows, over, begun)
        self._open = rows.take(keep)
        return lives


def _taken_back(kind: npt.NDArray[np.uint8], address: npt.NDArray[np.uint64]) -> Flags:
    """Tell which rows are a BACK, or the event that it undoes: they cancel out."""
    result = np.zeros(len(kind), dtype=np.bool_)
    ends = (kind == Kind.DEATH) | (kind == Kind.MOVED)
    pair = ends[:-1] & (kind[1:] == Kind.BACK) & (address[1:] == address[:-1])
    result[:-1] |= pair
    result[1:] |= pair
    return result


def _agree(rows: _Rows) -> Flags:
    """Tell for each row and the next whether these can be birth and death of one block."""
    unit = rows.birth_ns >> BIRTH_UNIT_BITS
    agree: Flags = (
        (rows.stack[1:] == rows.stack[:-1])
        & (rows.size_bytes[1:] == rows.size_bytes[:-1])
        & (unit[1:] <= unit[:-1])
        & (unit[1:] >= unit[:-1] - _UNITS_EARLIER)
    )
    return agree


def _may_come_back(rows: _Rows, *, frees_fail: bool) -> Flags:
    """Tell which ends may yet be taken back: late ones."""
    if not len(rows):
        return np.zeros(0, dtype=np.bool_)
    late = rows.time_ns > int(rows.time_ns.max()) - _REFUSED_WITHIN_NS
    may: Flags = late & ((rows.kind == Kind.MOVED) | frees_fail)
    return may


def _lives(rows: _Rows, over: npt.NDArray[np.int64], begun: Flags) -> Lives:
    """Return the lives that end with the rows ``over``; ``begun``: which have their birth in the
    row before.
    """
    before = np.maximum(over - 1, 0)
    exact = begun[over] & (rows.kind[before] == Kind.BIRTH)
    thread, died = rows.thread[before], rows.thread[over]
    others = rows.ordinal[over] - rows.ordinal[before] - 1
    return Lives(
        address=rows.address[over],
        stack=rows.stack[over],
        size_bytes=rows.size_bytes[over],
        born_ns=np.where(exact, rows.time_ns[before], rows.birth_ns[over]),
        died_ns=rows.time_ns[over],
        born_thread=np.where(exact, thread, np.uint32(NO_THREAD)),
        died_thread=died,
        exact=exact,
        others=np.where(exact & (thread == died), others, -1),
        follows=rows.follows[over],
    )


def _open_of(rows: _Rows) -> Open:
    exact = rows.kind == Kind.BIRTH
    thread = np.where(exact, rows.thread, np.uint32(NO_THREAD))
    return Open(rows.address, rows.stack, rows.size_bytes, rows.birth_ns, thread, exact)
