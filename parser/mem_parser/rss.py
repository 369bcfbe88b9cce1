"""Where the resident memory is: RSS = heap in use ± e + allocator's slack and other anonymous
memory + the program's own mappings + stacks + files + shared memory + the sampler's own. Of the
heap in use it is what is resident, if the file says so; else all of it, and slack is too low by
what is not.

The kernel's numbers (smaps at the end of the capture) are exact, the heap in use is an estimate.
Of a program that ended all are of one reading, that of its highest RSS: at its end it had freed
what was resident before.

Slack is anonymous memory beyond live blocks and stacks: it inherits the estimate's error, and it
includes blocks older than the capture, whose allocation the sampler did not see. Live heap and
slack together are anonymous memory in `[heap]`, in glibc's thread arenas, and mapped otherwise.

glibc maps blocks of 128 KiB and more apart (or keeps them in its arenas, as its threshold grows),
smaller ones never. So the memory of `[heap]` and arenas beyond live blocks below 128 KiB is free,
older than the capture, or part of a larger block there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mem_parser.errors import InputFileError, one_line
from mem_parser.estimate import Estimate
from mem_parser.leaks.watch import has_ended, time_text, went_on
from mem_parser.model import Count, Profile, Reading, Unit
from mem_parser.processfacts import Grown, Memory
from mem_parser.runtimes import library_of
from mem_parser.significance import hourly_slope
from mem_parser.units import format_bytes, percent
from mem_parser.words import phrase

MMAP_THRESHOLD_BYTES = 128 << 10
"""Least size of a block that glibc's malloc maps by itself (M_MMAP_THRESHOLD)."""
_FAR_S = 7 * 86400.0
"""A limit that is further away at today's growth is no news."""
_LEAST_READ_S = 54.0
"""Of readings whose second half tells growth: some `LEAST_WATCH_S` of it, in captures of 60 s."""
_MOST_READINGS = 400
"""Of which growth is made, evenly taken."""
_KINDS = ("anon", "file", "shmem")
_NOTED_SHARE, _NOTED_BYTES = 0.1, 1 << 20
"""Of RSS, from which on a part has a next step."""
_PAGE_BYTES = 64 << 10
"""The largest pages of our machines: a library's memory ends with a whole one."""
_SEGMENT = re.compile(r"/mem_profiler\.\d+/[^/]+$")
_GLIBC = re.compile(r"(?:^|/)libc(?:\.so\.6|-2\.\d+\.so)$")


@dataclass(frozen=True, slots=True)
class Part:
    """One summand in bytes; ``estimate`` is the same number with its error, None where exact."""

    key: str
    label: str
    bytes: float
    estimate: Estimate | None = None

    @property
    def margin(self) -> float:
        """The distance to the further end of its 95 % interval; 0 if exact or unknown."""
        margin = 0.0 if self.estimate is None else self.estimate.margin95
        return margin if np.isfinite(margin) else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the row of `rss --json`."""
        exact = (self.bytes, self.bytes)
        lower, upper = exact if self.estimate is None else self.estimate.known_ends
        row = {"key": self.key, "label": self.label, "bytes": self.bytes, "margin95": self.margin}
        return row | {"lower95": lower, "upper95": upper}


@dataclass(slots=True)
class RssAccount:
    """The sum and its parts; ``rss_bytes`` is None if unknown.

    ``in_use`` divide all of the heap in use into what is resident and what is not, if that is
    known. ``places`` divide the sum of heap in use and slack by location. Neither are summands.
    ``slope_heap`` and ``slope_rss`` are growth in bytes per hour over the second half of the
    readings, as is ``slope_group`` of what the control group uses; the error of the first is an
    upper limit, and ``slope_kinds`` of the kinds of RSS, by key. ``slope_own`` is what of the
    growth of RSS may be the sampler's. ``read_s`` is the time that the readings cover: a view may
    have begun to read later than the capture.
    ``grown`` divide the growth of RSS between first and last reading by place, as far as the file
    says so.
    ``limit_bytes`` is what the process's control group may use, ``group_bytes`` what it uses; None:
    unknown.
    ``at_s``: the reading that all numbers are of; None: the end of the capture.
    ``arena_slack`` is the memory of glibc's `[heap]` and arenas beyond small live blocks.
    ``since_start``: no block is older than the capture.
    """

    rss_bytes: int | None
    peak_rss_bytes: int | None
    parts: list[Part]
    limit_bytes: int | None = None
    group_bytes: int | None = None
    in_use: list[Part] = field(default_factory=list)
    places: list[Part] = field(default_factory=list)
    arena_slack: Estimate | None = None
    slope_heap: Estimate | None = None
    slope_rss: float | None = None
    slope_group: float | None = None
    slope_kinds: dict[str, float] = field(default_factory=dict)
    slope_own: float = 0.0
    grown: list[Part] = field(default_factory=list)
    read_s: float = 0.0
    at_s: float | None = None
    since_start: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def of_limit(self) -> str:
        """How near the control group is to its limit; empty where RSS or limit is unknown. It is
        charged for all its processes, and not for file pages that another group read first: RSS has
        no share in the limit.
        """
        if self.rss_bytes is None or self.limit_bytes is None:
            return ""
        told = {"rss": format_bytes(self.rss_bytes), "limit": format_bytes(self.limit_bytes)}
        if self.group_bytes is None:
            return phrase("RSS {rss}; its control group may use {limit}", **told)
        text = phrase(
            "RSS {rss}; its control group uses {used}, {share} of its limit of {limit}",
            used=format_bytes(self.group_bytes),
            share=percent(self.group_bytes, self.limit_bytes),
            **told,
        )
        if self.until_limit_s is None:
            return text
        time = time_text(self.until_limit_s)
        return phrase("{text}: full in {time} as it grows", text=text, time=time)

    @property
    def until_limit_s(self) -> float | None:
        """The seconds until the control group is at its limit, if it grows on as it did; None: it
        need not be.
        """
        if self.group_bytes is None or self.limit_bytes is None or not self.slope_group:
            return None
        left_s = (self.limit_bytes - self.group_bytes) / self.slope_group * 3600.0
        far_s = self.read_s if self.is_short else _FAR_S
        return left_s if 0 <= left_s <= far_s else None

    @property
    def is_short(self) -> bool:
        """Whether the readings cover too little time to tell growth by."""
        return self.read_s < _LEAST_READ_S

    def as_json(self) -> dict[str, Any]:
        """Return the object that `rss --json` prints."""
        slack = self.arena_slack
        lower, upper = (None, None) if slack is None else slack.known_ends
        heap = self.slope_heap
        growth = (None, None) if heap is None else heap.known_ends
        moment = {} if self.at_s is None else {"at_s": self.at_s}
        return moment | {
            "rows": [part.as_json() for part in self.parts],
            "in_use": [part.as_json() for part in self.in_use],
            "places": [part.as_json() for part in self.places],
            "rss_bytes": self.rss_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "limit_bytes": self.limit_bytes,
            "group_bytes": self.group_bytes,
            "arena_slack_bytes": None if slack is None else slack.value,
            "arena_slack_lower95": lower,
            "arena_slack_upper95": upper,
            "heap_bytes_per_hour": None if heap is None else heap.value,
            "heap_bytes_per_hour_lower95": growth[0],
            "heap_bytes_per_hour_upper95": growth[1],
            "rss_bytes_per_hour": self.slope_rss,
            **{f"{key}_bytes_per_hour": self.slope_kinds.get(key) for key in _KINDS},
            "group_bytes_per_hour": self.slope_group,
            "grown": [part.as_json() for part in self.grown],
            "notes": self.notes,
        }


def account(profile: Profile) -> RssAccount:
    """Return the account; the parts add up to RSS exactly if the file has all of them.

    Raises `InputFileError` for device memory.
    """
    device = profile.capture.device
    if device is not None:
        why = "device memory is no part of the resident memory"
        if device.is_mapped:
            why = "the sum of all resident memory is in another one"
        raise InputFileError(
            f"the file is of {profile.domains[0]}: {why}",
            hint="the file of the host's memory, without a domain in its name",
        )
    at = _highest(profile) if has_ended(profile.capture) else None
    memory = profile.capture.memory if at is None else _memory_at(profile.capture.memory, at)
    known = at is None and profile.has(Count.RESIDENT)
    live = _live(profile, Count.RESIDENT if known else Count.INUSE, at)
    peak = memory.peak_rss_bytes
    if peak is not None and memory.rss_bytes is not None:
        peak = max(peak, memory.rss_bytes)  # read at different moments
    result = RssAccount(memory.rss_bytes, peak, [], memory.limit_bytes, memory.group_bytes)
    result.at_s = None if at is None else at.t_s
    result.read_s = profile.series[-1].t_s - profile.series[0].t_s if profile.series else 0.0
    half = _second_half(profile)
    result.slope_heap = _slope_heap(profile, half)
    result.slope_rss = _slope_read(half, "rss_bytes")
    if went_on(profile.capture):
        result.slope_group = _slope_read(half, "group_bytes")
    kinds = {key: _slope_read(half, f"{key}_bytes") for key in _KINDS}
    result.slope_kinds = {key: slope for key, slope in kinds.items() if slope is not None}
    result.slope_own = _slope_own(profile, result)
    if memory.rss_bytes is None:
        result.notes.append(phrase("the file does not say how large the process was"))
        result.parts.append(_live(profile, Count.INUSE))
        return result
    anonymous = _anonymous(memory, memory.rss_bytes)
    result.since_start = profile.since_start or profile.capture.from_start
    result.parts = list(_parts(memory, live, anonymous, result))
    result.in_use = list(_in_use(profile, live)) if known else []
    result.places = list(_places(memory, anonymous))
    result.grown = list(_grown(profile))
    result.arena_slack = _arena_slack(profile, memory, result.parts)
    result.notes = list(_notes(profile, memory, result))
    return result


def _arena_slack(profile: Profile, memory: Memory, parts: list[Part]) -> Estimate | None:
    """Return the memory of `[heap]` and arenas beyond the live blocks that must be there; None
    where it is more than all slack: larger blocks are there too.
    """
    if memory.heap_bytes is None or memory.arena_bytes is None:
        return None
    if not _GLIBC.search(profile.capture.allocator) or profile.capture.pymem:
        return None  # small blocks may also be elsewhere
    blocks, size = profile.counts(Count.INUSE)
    small = size < MMAP_THRESHOLD_BYTES * blocks
    count = Count.RESIDENT if profile.has(Count.RESIDENT) else Count.INUSE
    value, variance, _ = (c[small] for c in profile.weigh(count, Unit.SPACE))
    held = memory.heap_bytes + memory.arena_bytes
    unseen = profile.unseen(Unit.SPACE)
    error = float(np.sqrt(variance.sum())) if profile.errors_known else float("nan")
    free = held - float(value.sum())
    slack = next(part for part in parts if part.key == "slack")
    if free > slack.bytes + slack.margin:
        return None
    return Estimate(free, error, int(blocks[small].sum()), unseen, signed=True)


def _highest(profile: Profile) -> Reading | None:
    """Return the reading of the highest RSS, and of the heap in use then; None: there is none.
    Those of logs have no heap in use, nor the kinds of RSS.
    """
    read = [r for r in profile.series if r.anon_bytes is not None]
    return max(read, key=lambda r: r.rss_bytes or 0, default=None)


def _memory_at(memory: Memory, at: Reading) -> Memory:
    """Return the kernel's numbers of a reading; of mappings their size, resident or not."""
    return Memory(
        rss_bytes=at.rss_bytes,
        peak_rss_bytes=memory.peak_rss_bytes,
        anon_bytes=at.anon_bytes,
        file_bytes=at.file_bytes,
        shmem_bytes=at.shmem_bytes,
        segment_bytes=memory.segment_bytes,
        limit_bytes=memory.limit_bytes,
        group_bytes=at.group_bytes,
        mapped_bytes=at.mapped_bytes,
    )


def _live(profile: Profile, count: Count, at: Reading | None = None) -> Part:
    live = profile.total(count, Unit.SPACE)
    if at is not None:
        error = at.std_error_bytes if profile.errors_known else float("nan")
        live = Estimate(at.estimate_bytes, error, at.samples, live.unseen)
    if count is Count.RESIDENT:
        label = phrase("heap in use of this capture, resident")
        return Part("live_resident", label, live.value, live)
    return Part("live", phrase("heap in use of this capture"), live.value, live)


def _in_use(profile: Profile, resident: Part) -> Iterator[Part]:
    """Yield what of the heap in use is resident and what is not: together they are all of it."""
    yield replace(resident, key="resident", label=phrase("resident"))
    label = phrase("not resident: never touched, given back or swapped")
    rest = profile.total(Count.ABSENT, Unit.SPACE)
    yield Part("not_resident", label, rest.value, rest)
    for count, label in (
        (Count.SWAPPED, phrase("of which swapped")),
        (Count.HUGE, phrase("of what is resident, on huge pages")),
    ):
        if profile.has(count):
            part = profile.total(count, Unit.SPACE)
            yield Part(f"of_which_{count}", label, part.value, part)


def _anonymous(memory: Memory, rss: int) -> int:
    if memory.anon_bytes is not None:
        return memory.anon_bytes
    shared = memory.segment_bytes or 0 if memory.shmem_bytes is None else memory.shmem_bytes
    return rss - (memory.file_bytes or 0) - shared


def _places(memory: Memory, anonymous: int) -> Iterator[Part]:
    """Yield the locations of heap in use and slack together, if the file has them."""
    if memory.heap_bytes is None:
        return
    arenas, stacks = memory.arena_bytes or 0, memory.stack_bytes or 0
    yield Part("of_which_brk", phrase("in [heap]"), float(memory.heap_bytes))
    if arenas:
        yield Part("of_which_arenas", phrase("in thread arenas"), float(arenas))
    by_program = memory.mapped_bytes or 0
    mapped = max(anonymous - memory.heap_bytes - arenas - stacks - by_program, 0)
    label = phrase("mapped otherwise")
    if memory.mapped_bytes is not None:
        label = phrase("mapped by allocators, or unknown mappers")
    yield Part("of_which_mmap", label, float(mapped))


def _grown(profile: Profile) -> Iterator[Part]:
    """Yield the growth of RSS by place, what is nowhere else last."""
    read = [r.rss_bytes for r in profile.series if r.rss_bytes is not None]
    if not profile.capture.grown or not read:
        return
    labels = {
        "heap": phrase("in [heap]"),
        "arenas": phrase("in thread arenas"),
        "stacks": phrase("stacks"),
    }
    rest = read[-1] - read[0]
    for row in profile.capture.grown:
        rest -= row.growth_bytes
        label = labels.get(row.kind) or one_line(row.name)
        if _is_own(profile, row):
            label = phrase("the sampler's own")
            if row.kind == "anonymous":
                label = phrase("the sampler's own, anonymous")
        elif row.kind == "anonymous":
            label = phrase("anonymous mapping {addresses}", addresses=label)
        yield Part(row.kind, label, float(row.growth_bytes))
    yield Part("elsewhere", phrase("elsewhere"), float(rest))


def _is_own(profile: Profile, row: Grown) -> bool:
    """Tell whether a place is the sampler's: its segment, or the memory of its library."""
    if row.kind != "anonymous":
        return _SEGMENT.search(row.name) is not None
    try:
        low, high = (int(address, 16) for address in row.name.split("-"))
    except ValueError:
        return False
    own = [m for m in profile.modules if m.path == profile.capture.sampler]
    return any(m.start <= low and high <= -(-m.end // _PAGE_BYTES) * _PAGE_BYTES for m in own)


def _slope_own(profile: Profile, found: RssAccount) -> float:
    """Return what of the growth of RSS per hour may be the sampler's: it takes its pages early, so
    that its mean growth is at least that of the second half.
    """
    slope = 0.0
    for kind, key in (("anonymous", "anon"), ("file", "file"), ("shared", "shmem")):
        rows = [r for r in profile.capture.grown if r.kind == kind and _is_own(profile, r)]
        grown = max(sum(r.growth_bytes for r in rows), 0)
        if grown and found.read_s > 0:
            mean = grown / found.read_s * 3600.0
            slope += min(mean, max(found.slope_kinds.get(key, mean), 0.0))
    return slope


def _parts(memory: Memory, heap: Part, anonymous: int, result: RssAccount) -> Iterator[Part]:
    """Yield the summands."""
    live, rss = heap.estimate, result.rss_bytes
    touched = result.at_s is None  # of mappings is known what is resident of them, not their size
    assert live is not None
    assert rss is not None
    stacks, own = memory.stack_bytes or 0, memory.segment_bytes or 0
    files = memory.file_bytes
    shared = memory.shmem_bytes
    yield heap
    mapped, mapped_files, mapped_shared = (
        min(part or 0, whole)
        for part, whole in (
            (memory.mapped_bytes, anonymous),
            (memory.mapped_file_bytes, files or 0),
            (memory.mapped_shared_bytes, shared or 0),
        )
    )
    if not touched:
        mapped = min(mapped, max(round(anonymous - heap.bytes - stacks), 0))
    slack = anonymous - heap.bytes - stacks - mapped
    label = phrase("slack, older blocks, other mappings")
    if result.since_start:
        label = phrase("slack, other mappings")
    rest = Estimate(slack, live.std_error, live.samples, live.unseen, signed=True)
    yield Part("slack", label, slack, rest)
    if memory.mapped_bytes is not None:
        every = float(mapped + mapped_files + mapped_shared)
        label = phrase("mapped by the program itself")
        if not touched:
            label = phrase("mapped by the program itself, if all was touched")
        yield Part("mapped", label, every)
    if memory.stack_bytes is not None:
        yield Part("stacks", phrase("stacks"), float(stacks))
    # The sampler's segment is shared memory of the process, or a file where its folder is on disk.
    on_disk = shared is not None and shared < own <= (files or 0)
    if files is not None:
        yield Part(
            "files",
            phrase("files (code, mapped data)"),
            float(files - mapped_files - (own if on_disk else 0)),
        )
    if shared is not None:
        rest_shared = shared - mapped_shared
        own = own if on_disk else min(own, rest_shared)
        label = phrase("shared memory")
        yield Part("shared", label, float(rest_shared - (0 if on_disk else own)))
    if memory.segment_bytes is not None:
        yield Part("sampler", phrase("the sampler's own"), float(own))
    # Where shared memory has no number of its own, we know only the sampler's own pages of it.
    told = anonymous + (files or 0) + (own if shared is None else shared)
    if rss != told:
        yield Part("rest", phrase("rest (the kernel does not say what)"), float(rss - told))


def _notes(profile: Profile, memory: Memory, result: RssAccount) -> Iterator[str]:
    slack = next(p for p in result.parts if p.key == "slack")
    if slack.bytes + slack.margin < 0:
        yield phrase(
            "more is in use than resident: blocks never touched, or in swap, are not resident"
        )
    if memory.anon_bytes is None:
        yield phrase("this file cannot tell heap pages from mapped files")
    if not result.since_start and profile.capture.kind != "recovered":
        yield phrase("memory allocated before the capture is included in slack")
    if profile.capture.pymalloc:
        yield phrase("small objects of this CPython went through pymalloc; slack includes them")
    yield from _next_steps(profile, memory, result)
    if any(module.name == "libjvm.so" for module in profile.modules):
        yield phrase(
            "the kernel has no names for Java heap, metaspace and code cache: files of a capture "
            "with --device mmap show them by function, jcmd PID VM.native_memory summary as the "
            "JVM counts them"
        )
    elif profile.capture.exe.rpartition("/")[2] in ("node", "nodejs"):
        yield phrase(
            "the kernel has no names for V8's heap spaces: files of a capture with --device mmap "
            "show them by function"
        )


def _of_shared(profile: Profile, memory: Memory, result: RssAccount, least: float) -> Iterator[str]:
    """Yield what tells more of shared memory; `_memory_at` knows no ``pss_bytes``."""
    pss = memory.pss_bytes
    if pss is not None and (result.rss_bytes or 0) - pss >= least:
        yield phrase(
            "pages that other processes map too count in the RSS of each; divided among them, this "
            "one has {pss} (Pss)",
            pss=format_bytes(pss),
        )
    if memory.mapped_shared_bytes is not None or any(
        reading.mapped_bytes is not None for reading in profile.series
    ):
        yield phrase(
            "shared memory older than the capture, or mapped by a parent before fork, has no "
            "functions here: capture that parent from its start"
        )
        return
    command = "mem_profiler run --device mmap"
    if profile.capture.pid is not None and not has_ended(profile.capture):
        command = f"mem_profiler -s 60 --device mmap -p {profile.capture.pid}"
    yield phrase("which functions mapped the shared memory: {command}", command=command)


def _next_steps(profile: Profile, memory: Memory, result: RssAccount) -> Iterator[str]:
    """Yield what tells more of large parts, or makes them smaller."""
    of = {p.key: p.bytes for p in result.parts}
    least = max(_NOTED_SHARE * (result.rss_bytes or 0), _NOTED_BYTES)
    if of.get("shared", 0) >= least:
        yield from _of_shared(profile, memory, result, least)
    if of["slack"] < least:
        return
    for one in dict.fromkeys(filter(None, (library_of(m.name) for m in profile.modules))):
        if one.malloc_if is None:
            yield phrase(
                "slack may be of {name}: its own allocator keeps freed memory", name=one.name
            )
        else:
            yield phrase(
                "slack may be of {name}: its own allocator keeps freed memory; {setting} makes it "
                "use malloc, which gives large blocks back",
                name=one.name,
                setting="=".join(one.malloc_if),
            )


def _second_half(profile: Profile) -> list[Reading]:
    """Return the readings of which growth is made; none of a short series."""
    series = profile.series
    if len(series) < 4:
        return []
    half = series[len(series) // 2 :]
    return half[:: -(-len(half) // _MOST_READINGS)]


def _slope_read(half: list[Reading], name: str) -> float | None:
    """Return the growth per hour of a number that was read; None where it is unknown."""
    read = [(r.t_s, float(value)) for r in half if (value := getattr(r, name)) is not None]
    return hourly_slope(*np.array(read).reshape(-1, 2).T)


def _slope_heap(profile: Profile, half: list[Reading]) -> Estimate | None:
    """Return the growth of the estimate per hour."""
    if not half:
        return None
    t, size, error = np.array([(r.t_s, r.estimate_bytes, r.std_error_bytes) for r in half]).T
    slope = hourly_slope(t, size)
    if slope is None:
        return None
    off = t - t.mean()
    weights = off / float(off @ off) * 3600.0
    # Readings share samples, so their errors are correlated to an unknown degree: their sum is an
    # upper bound. A block that stays affects all readings after its birth.
    reach, middle = float(np.abs(weights).sum()), len(t) // 2
    sampled = float(np.abs(weights) @ error) if profile.errors_known else float("nan")
    parts = hourly_slope(t[:middle], size[:middle]), hourly_slope(t[middle:], size[middle:])
    scatter = abs(parts[0] - parts[1]) / 2 if parts[0] is not None and parts[1] is not None else 0.0
    return Estimate(
        slope,
        math.hypot(sampled, scatter),
        max(r.samples for r in half),
        profile.unseen(Unit.SPACE).scaled(reach / 2),
        signed=True,
    )
