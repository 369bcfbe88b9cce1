"""Facts from drivers and pools about blocks, as Attr shows them.

* of a driver's block: its pages, how it was made, which module asked for it;
* of a pool: the bytes that it has reserved on a device;
* of a device: the bytes that all programs use, and those that it has.

Facts come in the order of time. The fact of a block is the last one of the thread before the
block's birth; the others hold from their time on. Rows from before the first one say nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.launches import (
    NO_DEVICE,
    TRAIT_CREATED,
    TRAIT_KNOWN,
    TRAIT_MODULE_SHIFT,
    TRAIT_PAGE,
    Launches,
    LaunchKind,
)
from mem_parser.memscope.form import HAL, POOLS
from mem_parser.memscope.tracks import place_of

if TYPE_CHECKING:
    from mem_parser.memscope.tracks import Track

IntArray = npt.NDArray[np.int64]
UIntArray = npt.NDArray[np.uint64]
NO_TRAITS = 0
_NOWHERE = str(NO_DEVICE)
_PAGES = ("normal", "huge", "giant")
_TRAITS = 0xFFFF
_MOST_THREADS, _MOST_DOMAINS = 1 << 20, 1 << 8
"""A log that names more was forged."""
_FEW = 1 << 20
"""So many texts are found by counting, not by sorting."""


class Suffixes(NamedTuple):
    """What rows of blocks have at the end of Attr: the number of a text for each row."""

    number: IntArray
    texts: list[str]


def traits_text(traits: int) -> str:
    """Return keys and values of a driver's block: its pages, and how it was made."""
    if not traits & TRAIT_KNOWN:
        return ""
    page = _PAGES[min(traits & TRAIT_PAGE, len(_PAGES) - 1)]
    how = "create" if traits & TRAIT_CREATED else "alloc"
    return f"page_type:{page},alloc_type:{how}"


def module_of(traits: int) -> str:
    """Return the module that asked for a block; empty: nobody told."""
    return module_name(traits >> TRAIT_MODULE_SHIFT & 0xFF) if traits & TRAIT_KNOWN else ""


class _Steps:
    """A number that changes: ascending times, and the value from each time on."""

    def __init__(self) -> None:
        self.time_ns: list[int] = []
        self.value: list[int] = []
        self._forgotten = 0
        """The highest of those that were forgotten."""

    def add(self, time_ns: int, value: int) -> None:
        if not self.value or self.value[-1] != value:
            self.time_ns.append(max(time_ns, self.time_ns[-1] if self.time_ns else time_ns))
            self.value.append(value)

    def at(self, time_ns: IntArray) -> IntArray:
        """Return which value counts at each time, by its place; -1: none yet."""
        times = np.array(self.time_ns, dtype=np.int64)
        found: IntArray = np.searchsorted(times, time_ns, side="right") - 1
        return found

    def until(self, time_ns: int) -> int | None:
        """Return the value at a time."""
        place = int(self.at(np.array([time_ns]))[0])
        return None if place < 0 else self.value[place]

    def highest_until(self, time_ns: int) -> int:
        """Return the highest value up to a time."""
        place = int(self.at(np.array([time_ns]))[0])
        return max([self._forgotten, *self.value[: place + 1]])

    def forget(self, before_ns: int) -> None:
        """Forget all but what counts from a time on."""
        place = max(int(self.at(np.array([before_ns]))[0]), 0)
        self._forgotten = max([self._forgotten, *self.value[:place]])
        del self.time_ns[:place], self.value[:place]


class BlockFacts:
    """All facts of a process so far."""

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._of_thread: dict[int, list[tuple[int, int, int]]] = {}
        self._reserved: dict[tuple[int, str], _Steps] = {}
        self._used: dict[str, _Steps] = {}
        self._has: dict[str, int] = {}

    @property
    def has_any(self) -> bool:
        """Whether anything was told."""
        return bool(self._of_thread or self._reserved or self._used)

    def learn(self, domains: Sequence[str]) -> None:
        """Take in the names of domains. A pool may tell what it has before its name is known."""
        self._names = max(self._names, domains, key=len)

    def add(self, facts: Launches, domains: Sequence[str]) -> None:
        """Take in facts with the times of the clock, in order; ``domains`` are those of their
        file.
        """
        self.learn(domains)
        names = ("time_ns", "kind", "address", "size_bytes", "thread", "device")
        columns = (getattr(facts, name).tolist() for name in names)
        for time_ns, kind, address, size, thread, number in zip(*columns, strict=True):
            device = str(number)
            if kind == LaunchKind.BLOCK:
                if thread < _MOST_THREADS:
                    told = self._of_thread.setdefault(thread, [])
                    told.append((time_ns, address, size & _TRAITS))
            elif kind == LaunchKind.RESERVED and size < _MOST_DOMAINS:
                self._reserved.setdefault((size, device), _Steps()).add(time_ns, address)
            elif kind == LaunchKind.USED:
                self._used.setdefault(device, _Steps()).add(time_ns, address)
                self._has[device] = size

    def forget(self, before_ns: int) -> None:
        """Forget what no event from a time on needs."""
        for steps in (*self._reserved.values(), *self._used.values()):
            steps.forget(before_ns)
        for told in self._of_thread.values():
            del told[: max(bisect_left(told, (before_ns,)) - 1, 0)]

    # -- blocks ----------------------------------------------------------------------------------

    def traits(self, time_ns: IntArray, thread: IntArray, address: UIntArray) -> IntArray:
        """Return the traits of births; `NO_TRAITS` where nothing was told."""
        traits = np.zeros(len(time_ns), dtype=np.int64)
        for number in np.unique(thread).tolist():
            told = self._of_thread.get(number)
            if told is None:
                continue
            times, addresses, values = zip(*told, strict=True)
            mine = np.flatnonzero(thread == number)
            place = np.searchsorted(np.array(times, np.int64), time_ns[mine], side="right") - 1
            theirs = np.array(addresses, np.uint64)[place]
            found = (place >= 0) & (theirs == address[mine])
            traits[mine[found]] = np.array(values, np.int64)[place[found]]
        return traits

    # -- pools and devices -------------------------------------------------------------------------

    def reserved(self, kind: str, device: str, *, is_alone: bool = True) -> _Steps | None:
        """Return the bytes that the pool of a type has reserved on a device.

        ``is_alone``: it has blocks of no other device, so what it told of no device is of this one.
        """
        for wanted in (device, _NOWHERE) if is_alone else (device,):
            for (number, where), steps in self._reserved.items():
                is_known = where == wanted and number < len(self._names)
                if is_known and place_of(self._names[number]).type == kind:
                    return steps
        return None

    def memory_of(self, device: str, time_ns: int) -> tuple[int, int] | None:
        """Return the bytes that are used on a device, and those that it has."""
        steps = self._used.get(device)
        used = steps.until(time_ns) if steps is not None else None
        return None if used is None else (used, self._has[device])

    def suffixes(
        self, time_ns: IntArray, track: IntArray, tracks: Sequence[Track], traits: IntArray
    ) -> Suffixes:
        """Return what is known of rows; ``traits`` are `NO_TRAITS` of rows that do not say them."""
        texts = [""]
        number = np.zeros(len(time_ns), dtype=np.int64)
        for k in np.flatnonzero(np.bincount(track, minlength=len(tracks))).tolist():
            kind, device = tracks[k].place.type, tracks[k].device
            reserved = None
            if tracks[k].place.device is None:
                is_alone = sum(one.place.type == kind for one in tracks) == 1
                reserved = self.reserved(kind, device, is_alone=is_alone)
            used = self._used.get(device) if kind in (HAL, *POOLS) else None
            mine = np.flatnonzero(track == k)
            times, of_block = time_ns[mine], traits[mine]
            if reserved is None and used is None and not of_block.any():
                continue
            totals = reserved.at(times) + 1 if reserved is not None else 0 * times
            uses = used.at(times) + 1 if used is not None else 0 * times
            known, of_trait = _numbered(of_block)
            uses_count = 1 + (len(used.value) if used is not None else 0)
            keys, which = _numbered((totals * uses_count + uses) * len(known) + of_trait)
            number[mine] = len(texts) + which
            for key in keys.tolist():
                rest, trait = divmod(key, len(known))
                total, use = divmod(rest, uses_count)
                parts = []
                if total and reserved is not None:
                    parts.append(f"total:{reserved.value[total - 1]}")
                if use and used is not None:
                    parts.append(f"device_used:{used.value[use - 1]}")
                parts.append(traits_text(int(known[trait])))
                texts.append(",".join(filter(None, parts)))
        return Suffixes(number, texts)


def _numbered(values: IntArray) -> tuple[IntArray, IntArray]:
    """Return the different values, and which of them each one is."""
    if not len(values) or int(values.max()) >= _FEW:
        found, which = np.unique(values, return_inverse=True)
        return found, which
    there = np.flatnonzero(np.bincount(values))
    if len(there) == 1:
        return there, np.zeros(len(values), dtype=np.int64)
    place = np.zeros(int(there[-1]) + 1, dtype=np.int64)
    place[there] = np.arange(len(there))
    return there, place[values]


_NAMES = (
    "SLOG", "IDEDD", "IDEDH", "HCCL", "FMK", "HIAIENGINE", "DVPP", "RUNTIME", "CCE", "HDC", "DRV",
    "MDCFUSION", "MDCLOCATION", "MDCPERCEPTION", "MDCFSM", "MDCCOMMON", "MDCMONITOR", "MDCBSWP",
    "MDCDEFAULT", "MDCSC", "MDCPNC", "MLL", "DEVMM", "KERNEL", "LIBMEDIA", "CCECPU", "ASCENDDK",
    "ROS", "HCCP", "ROCE", "TEFUSION", "PROFILING", "DP", "APP", "TS", "TSDUMP", "AICPU", "LP",
    "TDT", "FE", "MD", "MB", "ME", "IMU", "IMP", "GE", "MDCFUSA", "CAMERA", "ASCENDCL", "TEEOS",
    "ISP", "SIS", "HSM", "DSS", "PROCMGR", "BBOX", "AIVECTOR", "TBE", "FV", "MDCMAP", "TUNE",
    "HSS", "FFTS", "OP", "UDF", "HICAID", "TSYNC", "AUDIO", "TPRT", "ASCENDCKERNEL", "ASYS",
    "ATRACE", "RTC", "SYSMONITOR", "AML", "INVLID_MOUDLE_ID",
)  # fmt: skip
"""The last one is spelled so in the driver."""
NAMES = frozenset(_NAMES)
UNKNOWN = "UNKNOWN"


def module_name(number: int) -> str:
    """Return the name of a module; `UNKNOWN` for a number that has none."""
    return _NAMES[number] if 0 <= number < len(_NAMES) else UNKNOWN
