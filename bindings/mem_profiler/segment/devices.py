"""Device memory in a segment: its domains, a quick count of each, and the program's marks.

Model: a domain is a row of struct mp_domain; its number is in the site keys of the device tables,
which `collect` reads like the host's. A ring keeps the latest marks; a `MarkLog` copies those since
it last read the ring, so that a long capture keeps more than the ring.

The target wrote every text: names become parts of file names, so this module checks them, and a
name that is taken already gets its number behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mem_parser.devices import Mark
from mem_parser.interning import distinct
from mem_profiler.segment import collect, layout
from mem_profiler.segment.file import Array, Control, Records, Segment, Words
from mem_profiler.segment.peaks import Peak

NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
# Most marks in memory and in a file; beyond it the oldest are dropped and count as lost.
MARKS_MAX = 20_000


@dataclass(frozen=True)
class Actual:
    """Used and total bytes of a whole device, at a time of the target's CLOCK_MONOTONIC.

    `tracked_bytes` is the estimate of the domain's blocks at that time.
    """

    used_bytes: int
    total_bytes: int
    tracked_bytes: int
    at_ns: int


@dataclass(frozen=True)
class Domain:
    """One kind of memory of one device. Calls are counted while captures run, sampled or not."""

    number: int
    name: str
    family: str
    device: int | None
    kind: str
    last_capture: int
    alloc_calls: int
    failed_calls: int
    freed_calls: int
    actual: Actual | None
    reserved_bytes: int
    reserved_peak_bytes: int
    peak: Peak | None = None
    rated: str = "device"
    """Whose rate its samples have: host, device, or none where every block is one."""
    repeated_blocks: int = 0
    unknown_frees: int = 0

    def rate_bytes(self, control: Control) -> float:
        """Return T of its samples in the latest capture."""
        number = control.number("capture_number")
        if self.rated == "host":
            return float(max(1, int(control.capture["rate_bytes"])))
        if self.rated == "device":
            return float(max(1, int(control["device_rate_bytes"][number & 1])))
        return 1.0

    def notes(self) -> list[str]:
        """Return what its allocator reported that cannot be."""
        notes = []
        if self.repeated_blocks:
            notes.append(
                f"its allocator reported {self.repeated_blocks} blocks at addresses of blocks that"
                " were in use: it does not report every free"
            )
        if self.unknown_frees:
            notes.append(
                f"its allocator reported {self.unknown_frees} frees of unknown blocks: of older"
                " ones, or twice"
            )
        return notes

    @property
    def is_mapped(self) -> bool:
        """Whether it is of mappings that the program itself made."""
        return self.kind.startswith("mapped")


def _actual(row: np.void) -> Actual | None:
    used, total = int(row["actual_used_bytes"]), int(row["actual_total_bytes"])
    tracked, at_ns = int(row["actual_tracked_bytes"]), int(row["actual_ns"])
    sane = at_ns > 0 and max(used, total, tracked) <= collect.DEVICE_BYTES_MAX
    return Actual(used, total, tracked, at_ns) if sane else None


def _name(raw: bytes, number: int, taken: set[str]) -> str:
    name = layout.text(raw)
    if not NAME.fullmatch(name) or name == "host":
        name = "domain"
    if name == "domain" or name in taken:
        name = f"{name[:50]}-{number}"
    return name


def read_domains(segment: Segment, control: Control) -> list[Domain]:
    """All domains that the process has used so far, by number."""
    array = _rows(control)
    found: list[Domain] = []
    rows = segment.array(array, array.usable_rows, layout.DOMAIN)
    for number, row in enumerate(rows):
        if number == 0 or int(row["key"]) == 0 or int(row["published"]) != 1:
            continue
        device = int(row["device"])
        found.append(
            Domain(
                number=number,
                name=_name(bytes(row["name"]), number, {domain.name for domain in found}),
                family=layout.text(row["family"]),
                device=device if device >= 0 else None,
                kind=layout.MEMORY_KINDS.get(int(row["kind"]), "device"),
                last_capture=int(row["last_capture"]),
                alloc_calls=int(row["alloc_calls"]),
                failed_calls=int(row["failed_calls"]),
                freed_calls=int(row["freed_calls"]),
                actual=_actual(row),
                reserved_bytes=max(0, int(row["reserved_bytes"])),
                reserved_peak_bytes=min(int(row["reserved_peak_bytes"]), collect.BYTES_MAX),
                peak=Peak.of(row["peak"], control.number("capture_number")),
                rated=_rated(int(row["kind"])),
                repeated_blocks=int(row["repeated_blocks"]),
                unknown_frees=int(row["unknown_frees"]),
            )
        )
    return found


def asked(control: Control) -> set[str]:
    """The backends that the sampler was told to follow by name."""
    return {name for k, name in layout.BACKENDS.items() if int(control["backend"][k]["asked"])}


def _rated(kind: int) -> str:
    if kind in layout.SAMPLED_AS_HOST:
        return "host"
    return "none" if kind in layout.ALL_SAMPLED else "device"


def _rows(control: Control) -> Array:
    return control.array(layout.DOMAINS, layout.DOMAIN.itemsize, layout.DOMAIN_ROWS)


def begin_peaks(segment: Segment, number: int) -> None:
    """Reset the peak of every existing domain for capture `number`, whose gate is still shut.

    A domain that appears during the capture needs no reset. Raises OSError.
    """
    array = _rows(segment.control())
    fresh = np.zeros((), layout.PEAK)
    fresh["capture"] = number
    place = array.offset + int(layout.DOMAIN.fields["peak"][1])  # type: ignore[index]
    for index, row in enumerate(segment.array(array, array.usable_rows, layout.DOMAIN)):
        if int(row["key"]):
            segment.write(place + index * layout.DOMAIN.itemsize, fresh.tobytes())


def used_in(domains: list[Domain], capture: int) -> list[Domain]:
    """The domains with any calls or blocks during a capture."""
    return [domain for domain in domains if domain.last_capture == capture]


@dataclass
class DomainCounts:
    """Blocks in use of one domain, by site; and all its sampled allocations and refusals."""

    blocks: Words
    bytes: Words
    taken: Words
    samples: int
    failed: int


_NONE = np.empty(0, np.uint64)
NO_COUNTS = DomainCounts(_NONE, _NONE, _NONE, 0, 0)


def read_quick(segment: Segment, control: Control, capture: int) -> dict[int, DomainCounts]:
    """The counts of every domain of a capture that has sites, by its number."""
    sites = collect.read_sites(segment, control, capture, collect.DEVICES)
    counts = sites.device
    if counts is None:
        return {}
    domains = collect.domains(sites.keys)
    found = {}
    for number in distinct(domains).tolist():
        mine = domains == number
        live = mine & (sites.live_blocks > 0)
        found[number] = DomainCounts(
            blocks=sites.live_blocks[live],
            bytes=sites.live_bytes[live],
            taken=(counts.alloc_taken - counts.freed_taken)[live],
            samples=int(sites.alloc_blocks[mine].sum()),
            failed=int(counts.failed_blocks[mine].sum()),
        )
    return found


class MarkLog:
    """The marks of one capture, copied from the ring at every reading."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.lost = 0
        self._capture = 0
        self._next = 0

    def update(self, segment: Segment, control: Control) -> None:
        """Copy the marks since the last reading."""
        capture = control.number("capture_number")
        if capture != self._capture:
            self._capture, self.marks, self.lost = capture, [], 0
            self._next = int(control["marks_before"][capture & 1])
        total = control.number("mark_count")
        rows = _ring(segment, control)
        first = max(self._next, total - len(rows))
        if not 0 <= first <= total:
            return
        numbers = np.uint64(first) + np.arange(total - first, dtype=np.uint64)
        taken = rows[numbers % np.uint64(max(1, len(rows)))] if len(rows) else rows[:0]
        fresh = taken[taken["sequence"] == numbers[: len(taken)] + np.uint64(1)]
        start_ns = int(control.capture["start_ns"])
        self.lost += total - self._next - len(fresh)
        self.marks += [
            _mark(row, start_ns) for row in fresh[fresh["time_ns"] >= np.uint64(start_ns)]
        ]
        self._next = total
        self._shorten()

    def add(self, marks: Iterable[Mark]) -> None:
        """Add marks that did not come through the ring."""
        self.marks += marks
        self._shorten()

    def _shorten(self) -> None:
        if len(self.marks) > MARKS_MAX:
            self.lost += len(self.marks) - MARKS_MAX
            del self.marks[: len(self.marks) - MARKS_MAX]


def _ring(segment: Segment, control: Control) -> Records:
    """A copy of the ring; rows that changed during the copy have a sequence of 0."""
    array = control.array(layout.MARKS, layout.MARK.itemsize, layout.MARK_ROWS_MAX)
    if array.rows & (array.rows - 1) or array.usable_rows < array.rows:
        return np.empty(0, layout.MARK)
    ring = segment.array(array, array.rows, layout.MARK)
    again = segment.array(array, array.rows, layout.MARK)
    ring["sequence"][ring["sequence"] != again["sequence"]] = 0
    return ring


def _mark(row: np.void, start_ns: int) -> Mark:
    return Mark(
        time_s=(int(row["time_ns"]) - start_ns) / 1e9,
        id=int(row["id"]),
        thread=int(row["thread"]),
        kind=layout.MARK_KINDS.get(int(row["kind"]), "point"),
        domain=layout.text(row["domain"]),
        text=layout.text(row["text"]),
    )


_AFTER_ATTACH = (
    "the program took no memory of it meanwhile, or by function pointers that it had before the"
    " attach, which only `mem_profiler run` sees"
)


def without_blocks(control: Control, domains: Iterable[Domain]) -> list[str]:
    """A line for each backend without a block where one could be: it was asked for by name, or its
    driver is in a process that was attached to. ``domains`` are those of the capture.
    """
    attached = bool(control.number("startup_flags") & layout.STARTUP_ATTACHED)
    families = {"mmap", *(domain.family for domain in domains)}
    lines = []
    for name, row in ((name, control["backend"][k]) for k, name in layout.BACKENDS.items()):
        asked, loaded, calls = (int(row[field]) for field in ("asked", "loaded", "calls"))
        if name in families:
            continue
        if asked and calls == 0:
            why = _why_without_calls(loaded=bool(loaded), attached=attached)
            seen = "you asked for it, and the sampler saw 0 calls of it"
        elif loaded and attached:
            seen, why = f"calls that the sampler saw: {calls}, new blocks: 0", _AFTER_ATTACH
        else:
            continue
        lines.append(f"device {name}: {seen}; {why}")
    return lines


def _why_without_calls(*, loaded: bool, attached: bool) -> str:
    if not loaded:
        return (
            "the sampler did not see its library: the program did not use the device, links"
            " the runtime and driver statically, or opened it in a namespace of its own (dlmopen)"
        )
    if attached:
        return _AFTER_ATTACH
    return (
        "the program loaded its library, but took no memory from it, or made calls that the"
        " sampler cannot see (bound by RTLD_DEEPBIND, or inside the library)"
    )


def why_without_blocks(control: Control) -> str:
    """Why a process captured with all devices shows no device blocks."""
    rows = {name: control["backend"][k] for k, name in layout.BACKENDS.items()}
    if any(int(row["calls"]) for row in rows.values()):
        return "the calls of drivers that the sampler saw took no memory of these devices"
    loaded = [name for name, row in rows.items() if int(row["loaded"])]
    if not loaded:
        return "the process loaded no driver of a device that the sampler knows"
    return (
        f"the process loaded the driver of {', '.join(loaded)}, but the sampler saw no call of it:"
        " who looked its functions up before start() calls them unseen; start() earlier, or start"
        " the program with `mem_profiler memscope`"
    )
