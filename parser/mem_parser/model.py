"""The one model that every reader fills and every report works on.

A `Profile` is columns: row *i* of every site column belongs to site *i*; a site is one (stack, size
class, domain). Stacks are one flat array of addresses with offsets into it, innermost frame first,
so that a million sites cost arrays and not objects. Counts are sampled blocks and bytes as the file
has them; `Profile.weigh` makes estimates of them, per site, before any sum.

Filters are `Profile.where(mask)`. Nothing here knows a file format or a symbol.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mem_parser.counts import PART_COLUMNS, PARTS
from mem_parser.counts import Count as Count  # noqa: PLC0414 - exported
from mem_parser.devices import Device, Mark
from mem_parser.estimate import (
    Estimate,
    FloatArray,
    Unsampled,
    Unseen,
    turnovers,
    unsample,
    unsample_part,
    unseen_bytes,
    unseen_objects,
)
from mem_parser.processfacts import AttachStops, ControllerUse, Grown, Memory
from mem_parser.tracked import Tracked

if TYPE_CHECKING:
    from mem_parser.python.labels import Labels
    from mem_parser.python.stacks import PythonStacks
    from mem_parser.symbols.embedded import EmbeddedNames

IntArray = npt.NDArray[np.int64]
AddressArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]

STACK_CUT = 1
"""Flag of a stack: it was cut at the depth limit."""
STACK_LOST_SHIFT = 8
"""A stack's flags from this bit on: why there is no stack at all; 0 where there is one."""
SAMPLER_NAME = "libmem_sampler.so"
"""File name of the sampler, whose functions are the innermost frames of our own files."""
SECTION_ENDED = "section ended"  # `Capture.end` of a part of a program, which goes on
MERGED = "merged"  # `Capture.kind` of a sum of processes
LOST_CAUSES = {1: "empty", 2: "table full", 3: "sites full", 4: "buffers busy"}


class PeakSource(enum.StrEnum):
    """The source of a capture's peak.

    SAMPLER: the sampler tracked the highest total, and the sites have their live counts at that
    time. TOTAL: it tracked the total; the sites are those of the highest reading. READING: both are
    of the highest reading, and the true peak may be between two readings.
    """

    SAMPLER = "sampler"
    TOTAL = "total"
    READING = "reading"


class Unit(enum.StrEnum):
    """The unit of sums: bytes or objects."""

    SPACE = "space"
    OBJECTS = "objects"


@dataclass(slots=True)
class StackTable:
    """All stacks, back to back.

    Stack *k* is ``frames[offsets[k]:offsets[k + 1]]``, innermost first. All frames but the
    innermost are return addresses. The innermost is the address of the allocation function itself
    where ``leaf_exact``; in other tools' files it is mostly a return address too.

    A stack's identity is a pair: these frames, and the number of an interpreter's stack in
    ``interpreter``, 0 if it has none; None if no stack has one. Stacks that differ only in their
    label are different: ``label`` is a number of `Profile.labels`, in the same way.

    ``series`` is the same object in profiles of one process that goes on: each of them begins with
    the stacks of the earlier ones, so do their Python frames and labels. None: stands alone.
    """

    offsets: IntArray
    frames: AddressArray
    flags: npt.NDArray[np.uint32]
    generation: npt.NDArray[np.uint32]
    leaf_exact: bool
    interpreter: npt.NDArray[np.uint32] | None = None
    label: npt.NDArray[np.uint32] | None = None
    series: object | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, mask: BoolArray) -> StackTable:
        """Return only the stacks that ``mask`` selects, numbered anew."""
        depths = self.depths
        return StackTable(
            np.concatenate(([0], np.cumsum(depths[mask]))),
            self.frames[np.repeat(mask, depths)],
            self.flags[mask],
            self.generation[mask],
            self.leaf_exact,
            None if self.interpreter is None else self.interpreter[mask],
            None if self.label is None else self.label[mask],
        )

    @property
    def interpreters(self) -> npt.NDArray[np.uint32]:
        """The number of the interpreter's stack of each stack; 0: none."""
        if self.interpreter is not None:
            return self.interpreter
        return np.zeros(len(self), dtype=np.uint32)

    @property
    def label_numbers(self) -> npt.NDArray[np.uint32]:
        """The number of the label of each stack; 0: none."""
        return np.zeros(len(self), dtype=np.uint32) if self.label is None else self.label

    @property
    def depths(self) -> IntArray:
        """Number of frames of each stack."""
        return np.diff(self.offsets)

    def numbered(
        self,
        interpreter: npt.NDArray[np.uint32] | None,
        label: npt.NDArray[np.uint32] | None,
    ) -> StackTable:
        """Return the same frames with other numbers of interpreters' stacks and labels."""
        return StackTable(
            self.offsets, self.frames, self.flags, self.generation, self.leaf_exact,
            interpreter, label,
        )  # fmt: skip

    def shared(self) -> tuple[StackTable, IntArray]:
        """Return a table without duplicate frames, and the index in it of each of these stacks."""
        return self, np.arange(len(self))

    def frames_between(self, low: int, high: int) -> AddressArray:
        """Return the frames of the stacks ``low`` to ``high``, which is not among them."""
        return self.frames[self.offsets[low] : self.offsets[high]]

    @property
    def is_leaf(self) -> BoolArray:
        """For each frame, whether it is the innermost of its stack."""
        leaf = np.zeros(len(self.frames), dtype=np.bool_)
        leaf[self.offsets[:-1][self.depths > 0]] = True
        return leaf


@dataclass(slots=True)
class SiteTable:
    """The counts of every site; all arrays have one entry per site.

    ``inuse_*`` may be fractional or not fit ``alloc_*`` in files of other tools: as found.
    """

    stack: IntArray
    domain: npt.NDArray[np.int32]
    inuse_blocks: IntArray
    inuse_bytes: IntArray
    alloc_blocks: IntArray
    alloc_bytes: IntArray
    peak_blocks: IntArray | None = None
    peak_bytes: IntArray | None = None
    births: npt.NDArray[np.uint32] | None = None
    """Shape (sites, buckets): sampled allocations by time bucket."""
    live_births: npt.NDArray[np.uint32] | None = None
    """Shape (sites, buckets): of those, the ones still live."""
    oldest_birth_s: FloatArray | None = None
    """Seconds since the start at which the oldest live block was born; NaN: none."""
    rate_bytes: FloatArray | None = None
    """Bytes per sample of each site, where they differ (merged files)."""
    inuse_taken_bytes: IntArray | None = None
    alloc_taken_bytes: IntArray | None = None
    """What a device gave up for the sampled blocks, of which ``*_bytes`` were asked for; 0 where
    that is not known."""
    failed_blocks: IntArray | None = None
    failed_bytes: IntArray | None = None
    """Blocks that a device refused, with the bytes asked for: each of them, whatever the rate."""
    before_end_blocks: IntArray | None = None
    before_end_bytes: IntArray | None = None
    before_end_births: npt.NDArray[np.uint32] | None = None
    before_end_live_births: npt.NDArray[np.uint32] | None = None
    before_end_oldest_s: FloatArray | None = None
    """In use, births and ages as they were at ``before_end_at_s`` of the capture."""
    resident_bytes: IntArray | None = None
    resident_squares: FloatArray | None = None
    huge_bytes: IntArray | None = None
    huge_squares: FloatArray | None = None
    swapped_bytes: IntArray | None = None
    swapped_squares: FloatArray | None = None
    slop_bytes: IntArray | None = None
    slop_squares: FloatArray | None = None
    pages_bytes: IntArray | None = None
    pages_squares: FloatArray | None = None
    held_bytes: IntArray | None = None
    held_squares: FloatArray | None = None
    pinned_bytes: IntArray | None = None
    pinned_squares: FloatArray | None = None
    """Of sampled blocks in use what was in RAM, there on huge pages, and swapped; in RAM behind
    what was asked for; a heap's pages charged to them, those beyond them, of these where they were
    alone. And the sums of squares, block by block."""

    def part_in_use(self, count: Count) -> tuple[IntArray, FloatArray] | None:
        """Return the bytes and squares of a part; None for others, and if the file lacks them."""
        if count is Count.ABSENT:
            part = self.part_in_use(Count.RESIDENT)
            return None if part is None else self._rest(*part)
        size = getattr(self, f"{count}_bytes", None) if count in PARTS else None
        squares = None if size is None else getattr(self, f"{count}_squares")
        return None if size is None or squares is None else (size, squares)

    def _rest(self, part: IntArray, squares: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return what is left of the blocks beside a part: sizes of a site are nearly one."""
        size = self.inuse_bytes
        mean = size / np.maximum(self.inuse_blocks, 1)
        return size - part, np.maximum(squares + mean * (size - 2.0 * part), 0.0)

    def without_parts(self) -> SiteTable:
        """Return the sites without parts, for other blocks in use."""
        none: dict[str, Any] = dict.fromkeys(PART_COLUMNS)
        return dataclasses.replace(self, **none)

    def __len__(self) -> int:
        return len(self.stack)

    def take(self, index: npt.NDArray[Any]) -> SiteTable:
        """Return the sites that ``index`` (positions or a mask) selects."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        taken: dict[str, Any] = {k: None if v is None else v[index] for k, v in columns.items()}
        return SiteTable(**taken)


@dataclass(slots=True)
class ThreadBlocks:
    """Blocks still live by the thread that allocated them: one entry per (site, thread)."""

    site: IntArray
    row: IntArray
    blocks: IntArray
    bytes: IntArray


@dataclass(frozen=True, slots=True)
class ExecRange:
    """Addresses [start, end) that map the file from ``file_offset`` on, executable."""

    start: int
    end: int
    file_offset: int


@dataclass(slots=True)
class Module:
    """One file mapped into the profiled process.

    ``bias`` is the loader's offset to the file's own virtual addresses; None if the profile does
    not have it, so that it must be read from the file. ``ranges`` are the executable parts of
    [``start``, ``end``), which is 0 where only they are known.
    """

    path: str
    ranges: list[ExecRange]
    build_id: str = ""
    bias: int | None = None
    first_generation: int = 0
    last_generation: int | None = None
    deleted: bool = False
    start: int = 0
    end: int = 0

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1] or self.path


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that allocated blocks."""

    row: int
    tid: int
    name: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of the running process's counters by the controller.

    ``anon_bytes``, ``file_bytes`` and ``shmem_bytes`` are the kinds of RSS, ``group_bytes`` the use
    of the control group (see `Memory`), ``mapped_bytes`` the size of the private mappings. Those of
    devices: estimated bytes taken, refusals, the use of the whole device, and what a pool holds.
    """

    t_s: float
    estimate_bytes: float
    std_error_bytes: float
    samples: int
    rss_bytes: int | None
    taken_bytes: float | None = None
    failed: int | None = None
    actual_used_bytes: int | None = None
    actual_total_bytes: int | None = None
    reserved_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    group_bytes: int | None = None
    mapped_bytes: int | None = None


@dataclass(slots=True)
class Capture:
    """Facts about the capture; None or empty if the file does not have them."""

    writer: str = ""
    pid: int | None = None
    parent_pid: int | None = None
    uid: int | None = None
    host: str = ""
    arch: str = ""
    comm: str = ""
    exe: str = ""
    command: str = ""
    allocator: str = ""
    unwinder: str = ""
    sampler: str = ""
    suppressions: str = ""
    """File of suppressions that the program's LSAN_OPTIONS name."""
    capture: int | None = None
    depth_limit: int | None = None
    started: float | None = None
    duration_s: float | None = None
    part_s: tuple[float, float] | None = None
    """Of a part of a log of events: its first and last moment, in seconds since the capture began.
    """
    holds_older: bool = False
    """Whether blocks in use include some that were allocated before the part."""
    kind: str = ""
    end: str = ""
    from_start: bool = False
    """Whether the capture began with the program."""
    python: str | None = None
    pymalloc: bool | None = None
    pymem: bool = False
    """Whether hooks of CPython's allocators saw small objects, which lie in regions of its own."""
    samples: int | None = None
    lost: dict[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    grown: list[Grown] = field(default_factory=list)
    """The places whose resident memory changed most, the largest growth first."""
    bucket_end_s: list[float | None] = field(default_factory=list)
    peak_at_s: float | None = None
    peak_bytes: float | None = None
    """The highest live total, when it was, and who found it; None where the file has none."""
    peak_source: PeakSource | None = None
    peak_of_estimates: bool = False
    """Whether the peak is the moment of a log with the highest estimate, so that the true one may
    be another of those that are as high within the error."""
    before_end_at_s: float | None = None
    """The last known moment before the program, which has ended, began to free what it held; None
    where it did not, or was not seen."""
    tracked: Tracked | None = None
    complete: bool = True
    """Whether the writer could make sense of all that was captured."""
    controller: ControllerUse | None = None
    attach: AttachStops | None = None
    """None where the program began with the sampler, or the file does not say."""
    notes: list[str] = field(default_factory=list)
    device: Device | None = None
    domains: list[str] = field(default_factory=list)
    """All domains of the capture, each of which is a file."""
    marks_lost: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is of a program from start to end, or of a fork, which may be killed."""
        ends = ("exited", "target", *(("signal",) if self.parent_pid else ()))
        return (self.from_start or bool(self.parent_pid)) and self.end.split(" ")[0] in ends

    @property
    def kept_peak_bytes(self) -> float | None:
        """The highest live total tracked by the sampler; None if it is from a reading."""
        return None if self.peak_source is PeakSource.READING else self.peak_bytes


MISSING_SAMPLES = ("reentry", "live_full", "site_full", "stack_room")
"""Causes of loss whose samples are in no total; the others cost detail only."""


@dataclass(slots=True)
class Profile:
    """One heap profile, whatever file it came from.

    ``exact_samples`` is False where the counts are not numbers of samples (jemalloc adjusts them)
    and give no error bar. ``sampling`` says how another tool obtained its numbers, if the rate
    alone does not tell: `rate unknown`, `estimated by Go's sampler at 512 KiB`. ``incomplete`` says
    why part of the file is missing; ``warnings`` are sentences for the user.
    """

    format: str
    rate_bytes: float
    stacks: StackTable
    sites: SiteTable
    domains: list[str] = field(default_factory=lambda: ["host"])
    modules: list[Module] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)
    thread_blocks: ThreadBlocks | None = None
    series: list[Reading] = field(default_factory=list)
    capture: Capture = field(default_factory=Capture)
    since_start: bool = False
    has_alloc: bool = True
    exact_samples: bool = True
    sampling: str = ""
    incomplete: str | None = None
    warnings: list[str] = field(default_factory=list)
    embedded: EmbeddedNames | None = None
    """Names that the file itself gives its addresses."""
    python: PythonStacks | None = None
    """Python's frames, which `StackTable.interpreter` numbers; None: the profile has none."""
    labels: Labels | None = None
    """Names of threads and tasks, which `StackTable.label` numbers; None: the profile has none."""
    marks: list[Mark] = field(default_factory=list)
    map_lines: list[bytes] = field(default_factory=list)
    """Lines of /proc/PID/maps for the part of a file that every tool reads; empty: the lines are
    made from the modules."""
    file_uid: int | None = None
    """Owner of the file that this was read from; None where others can write it, or unknown."""
    file_time_s: float | None = None
    """When that file was written last (Unix time); None where it is none, or unknown."""
    packed: bool = False
    """Whether it is from a packed file of our own, which some tools cannot read."""
    parts: dict[str, Profile] = field(default_factory=dict)
    """Of a profile that was joined from several domains: the profile of each, by name."""

    @property
    def errors_known(self) -> bool:
        """Whether the numbers have error bars, which are 0 if every block is counted."""
        return self.exact_samples or (self.rate_bytes <= 1 and not self.sampling)

    @property
    def captured_at_s(self) -> float | None:
        """When the capture ended (Unix time): from the profile, else from its file's time."""
        started = self.capture.started
        if started is None:
            return self.file_time_s
        return started + (self.capture.duration_s or 0.0)

    @property
    def rates(self) -> FloatArray | float:
        """Bytes per sample: of each site where they differ, else of all."""
        return self.rate_bytes if self.sites.rate_bytes is None else self.sites.rate_bytes

    def counts(self, count: Count) -> tuple[IntArray, IntArray]:
        """Return sampled blocks per site, and their bytes; only where the file `has` them."""
        s, count = self.sites, count.blocks
        if count is Count.INUSE:
            return s.inuse_blocks, s.inuse_bytes
        if count is Count.ALLOC:
            return s.alloc_blocks, s.alloc_bytes
        if count is Count.PEAK and s.peak_blocks is not None and s.peak_bytes is not None:
            return s.peak_blocks, s.peak_bytes
        if count is Count.PEAK:
            return np.zeros_like(s.inuse_blocks), np.zeros_like(s.inuse_bytes)
        blocks = np.maximum(s.alloc_blocks - s.inuse_blocks, 0)
        return blocks, np.maximum(s.alloc_bytes - s.inuse_bytes, 0)

    def has(self, count: Count) -> bool:
        """Tell whether the file has this count."""
        if count is Count.INUSE:
            return True
        if count is Count.PEAK:
            return self.sites.peak_blocks is not None
        if count is not count.blocks:
            part = self.sites.part_in_use(count)
            rare = (Count.HUGE, Count.SWAPPED)
            return part is not None and (count not in rare or bool(part[0].any()))
        if count is Count.FREED and self.capture.holds_older:
            return False
        return self.has_alloc

    def weigh(self, count: Count, unit: Unit) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return per site the estimate, its variance, and the number of samples behind it."""
        estimates, blocks = self.unsampled(count), self.counts(count)[0]
        if unit is Unit.SPACE:
            return estimates.bytes, estimates.bytes_variance, blocks
        return estimates.objects, estimates.objects_variance, blocks

    def unsampled(self, count: Count) -> Unsampled:
        """Return the estimates of ``count`` per site."""
        blocks, size = self.counts(count)
        found = unsample(blocks, size, self.rates)
        if count is count.blocks:
            return found
        none = np.zeros(len(size))
        part, squares = self.sites.part_in_use(count) or (none, none)
        value, variance = unsample_part(part, squares, blocks, size, self.rates)
        return found._replace(bytes=value, bytes_variance=variance)

    @property
    def default_count(self) -> Count:
        """Blocks in use; but the peak of a whole capture, and of a part that a program captured."""
        c = self.capture
        kept = c.peak_source is PeakSource.SAMPLER and self.has(Count.PEAK)
        return Count.PEAK if kept and (c.is_whole or c.end == SECTION_ENDED) else Count.INUSE

    @property
    def before_end(self) -> Profile | None:
        """The profile just before the program began to exit: blocks in use and their ages, but no
        threads; None if the file does not have it.
        """
        s, at_s = self.sites, self.capture.before_end_at_s
        if s.before_end_blocks is None or s.before_end_bytes is None or at_s is None:
            return None
        sites = dataclasses.replace(
            s.without_parts(),
            inuse_blocks=s.before_end_blocks,
            inuse_bytes=s.before_end_bytes,
            births=s.before_end_births,
            live_births=s.before_end_live_births,
            oldest_birth_s=s.before_end_oldest_s,
            inuse_taken_bytes=None,
        )
        capture = dataclasses.replace(self.capture, duration_s=at_s, before_end_at_s=None)
        return dataclasses.replace(self, sites=sites, capture=capture, thread_blocks=None)

    def unseen(self, unit: Unit) -> Unseen:
        """Return the allowance of estimates in that unit for blocks without a sample."""
        rate = float(np.max(self.rates, initial=0.0))
        return unseen_bytes(rate) if unit is Unit.SPACE else unseen_objects(rate)

    def total(self, count: Count, unit: Unit) -> Estimate:
        """Return the estimate of all sites together."""
        value, variance, samples = self.weigh(count, unit)
        sums = value.sum(), variance.sum(), samples.sum()
        found = Estimate.of_sums(*sums, self.unseen(unit), exact=self.errors_known)
        if count is not Count.PEAK or not self.has_alloc or self.capture.peak_of_estimates:
            return found
        held, ever = (float(self.unsampled(c).bytes.sum()) for c in (count, Count.ALLOC))
        return dataclasses.replace(found, turnovers=turnovers(ever, held))

    def where(self, sites: BoolArray) -> Profile:
        """Return the profile of only those sites; it shares stacks and modules with this one."""
        blocks = self.thread_blocks
        if blocks is not None:
            new_position = np.cumsum(sites) - 1
            kept = sites[blocks.site]
            blocks = ThreadBlocks(
                new_position[blocks.site[kept]],
                blocks.row[kept],
                blocks.blocks[kept],
                blocks.bytes[kept],
            )
        return dataclasses.replace(self, sites=self.sites.take(sites), thread_blocks=blocks)

    def used(self, count: Count) -> Profile:
        """Return the profile of the sites that have blocks of ``count`` or refused ones, without
        unused stacks.
        """
        blocks, _ = self.counts(count)
        failed = self.sites.failed_blocks
        kept = self.where((blocks > 0) if failed is None else (blocks > 0) | (failed > 0))
        used = np.zeros(len(self.stacks), dtype=np.bool_)
        used[kept.sites.stack] = True
        if used.all():
            return kept
        sites = dataclasses.replace(kept.sites, stack=(np.cumsum(used) - 1)[kept.sites.stack])
        return dataclasses.replace(kept, sites=sites, stacks=self.stacks.take(used))

    def weigh_taken(self, count: Count) -> FloatArray | None:
        """Return per site the estimate of the device memory that its blocks use; None if they are
        unknown for all blocks, or not kept for this count.

        A record's taken bytes have the same weight as its blocks.
        """
        s = self.sites
        taken = {Count.INUSE: s.inuse_taken_bytes, Count.ALLOC: s.alloc_taken_bytes}.get(count)
        if taken is None or not taken.any():
            return None
        objects, _, samples = self.weigh(count, Unit.OBJECTS)
        return np.asarray(taken * (objects / np.maximum(samples, 1)), dtype=np.float64)

    @property
    def samples_missing(self) -> int:
        """Samples missing from all totals, according to the file."""
        return sum(self.capture.lost.get(cause, 0) for cause in MISSING_SAMPLES)
