"""From the segment of a process to profiles, without a file.

Model: `build` reads the latest capture: one profile for the host's memory, and one for each domain
of device memory that the capture saw. A `Target` adds the facts of a living process; for a process
that is gone the segment alone is enough.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field

import mem_profiler
from mem_parser.devices import HOST, Device
from mem_parser.heapfile.maplines import module_lines
from mem_parser.model import (
    SAMPLER_NAME,
    Capture,
    Count,
    Module,
    PeakSource,
    Profile,
    Thread,
    Unit,
)
from mem_parser.processfacts import AttachStops, Memory
from mem_parser.python.stacks import PythonStacks
from mem_parser.runtimes import Runtime, runtime_of
from mem_profiler.process import heappages, procfs, pythons
from mem_profiler.process.pagemap import Pagemap
from mem_profiler.process.procfs import Mapping
from mem_profiler.process.stillmapped import ANONYMOUS_KINDS, StillMapped
from mem_profiler.profile import bypass, tables
from mem_profiler.profile.readings import Growth, Readings
from mem_profiler.profile.tables import Mappings, StackSource, Tables
from mem_profiler.profile.target import Target
from mem_profiler.segment import collect, devices, layout, shortage
from mem_profiler.segment.devices import Actual, Domain, MarkLog
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.peaks import TOTAL_MAX_BYTES, Peak, peak_of

NS = 1e9
WRITER = f"mem_profiler {mem_profiler.__version__}"
LATE_NOTE = (
    "another object takes calls of the allocator, which the sampler redirected when the libraries"
    " had started: what they allocated before main may be missing"
)
PYMALLOC_NOTE = (
    "small objects of CPython come from its own pools (pymalloc) and are not in the profile; "
    "start the program with PYTHONMALLOC=malloc to see them"
)
PYMALLOC_KEPT_NOTE = (
    "small objects of CPython come from its own pools (pymalloc) and are not in the profile: "
    "run it without --keep-pymalloc, or without MEM_PROFILER_PYMEM=0"
)
_NO_CODE = "its main thread ran no Python code"
PYMALLOC_ATTACHED_NOTE = (
    "small objects of CPython come from its own pools (pymalloc) and are not in the profile: "
    f"{_NO_CODE} since the attach, or its threads have no common lock; attach while it works, or "
    "start it by mem_profiler run or with the sampler preloaded"
)
ARENAS_NOTE = (
    "small objects of CPython (pymalloc) are in the profile as the arenas taken for them, at the "
    "line that needed a new one; trace_python_allocators=True shows each object, slower"
)
LATE_HOOKS_S = 0.1


@dataclass(frozen=True)
class Ending:
    """Why and when the counts end.

    `kind` and `end` as docs/heap-format.md has them; `now_ns` is the target's clock, None where
    the process is gone and the time unknown.
    """

    kind: str
    end: str
    now_ns: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def target_ended(self) -> bool:
        """Whether the target is gone."""
        return self.end.startswith(("exited", "signal ", "target ended"))


@dataclass
class _Shared:
    """The parts that all profiles of one capture share."""

    modules: list[Module]
    threads: list[Thread]
    map_lines: list[bytes]
    marks: MarkLog
    memory: Memory
    domains: list[Domain]
    readings: Readings | None
    source: StackSource | None = None
    mapped: StillMapped | None = None
    resident_shared_bytes: int = 0
    cells: dict[str, str] = field(default_factory=dict)


def build(
    segment: Segment,
    target: Target,
    ending: Ending,
    readings: Readings | None = None,
    source: StackSource | None = None,
    *,
    page_fds: Sequence[int] = (),
    mapped: StillMapped | None = None,
) -> list[Profile]:
    """Read the latest capture of `segment`, which must have one: the profile of the host's memory,
    then one for each domain of device memory. `source` None: all stacks are read anew.
    `page_fds`: of a living target its pagemap, to look which pages of its blocks are resident, then
    its list of mappings and its memory, to look what else is on them. `mapped`: of
    one that made mappings, what is still there. Raises MemError.
    """
    control = segment.control()
    track = readings.host if readings else None
    peak = peak_of(control)
    found = tables.read_tables(
        segment, control, peak, moments=readings.moments if readings else None,
        now_ns=ending.now_ns, ended=ending.target_ended, source=source,
        pages=Pagemap(page_fds[0]) if page_fds else None,
        heap=heappages.of_descriptors(page_fds, control.text("allocator")),
    )  # fmt: skip
    control = segment.control()
    target = _told_of_objects(target, control)
    shared = _read_shared(segment, control, target, readings)
    shared.source, shared.mapped = source, mapped
    capture = _capture(segment, control, target, shared, found)
    capture.kind, capture.end = ending.kind, ending.end
    start_ns = int(control.capture["start_ns"])
    capture.duration_s = (found.end_ns - start_ns) / NS
    capture.controller = readings.use if readings else None
    unseen = devices.without_blocks(control, shared.domains)
    unread = [control.number(name) for name in ("python_unread", "python_unlisted")]
    interpreters = pythons.notes_on(capture.python, *unread)
    small = _small_objects(target, control)
    missing = shortage.no_events(control)
    more_notes = [*_before_main(control), *small, *interpreters, *unseen, *missing]
    capture.notes = _notes(found, [*ending.notes, *more_notes])
    capture.before_end_at_s = found.before_end_at_s
    rate = float(int(control.capture["rate_bytes"]))
    host = _profile(HOST, rate, capture, found, shared)
    _put_peak(host, peak, start_ns)
    host.series = list(track.series) if track else []
    more = [_of_domain(segment, domain, host, shared, ending) for domain in shared.domains]
    private = _private_mappings(more, control)
    if private is not None:
        _put_mapped(host, private)
    if not target.pymalloc:
        growth, known = readings.anon if readings else Growth(), target.environment is not None
        runtime = _runtime(target, capture, shared)
        opened = control.number("opened_later") != 0
        capture.notes += bypass.notes_on(
            host, growth, runtime, target.brought, known=known, opened=opened, mapped=private
        )
    memory = _with_mapped(capture.memory, more, shared.resident_shared_bytes)
    for profile in (host, *more):
        profile.capture.memory = memory
    return [host, *more]


def _private_mappings(profiles: list[Profile], control: Control) -> list[Profile] | None:
    """Those of anonymous memory; None: the capture does not follow mappings."""
    found = [one for one in profiles if one.capture.device and one.capture.device.is_mapped]
    private = [one for one in found if one.capture.device and one.capture.device.kind == "mapped"]
    return private if found or "mmap" in devices.asked(control) else None


def _put_mapped(host: Profile, private: list[Profile]) -> None:
    """Add to the host's readings the size that private mappings had then."""
    read = [(r.t_s, round(r.estimate_bytes)) for one in private for r in one.series]
    times = [t_s for t_s, _ in read]
    sizes = [0, *(size for _, size in read)]
    host.series = [
        dataclasses.replace(r, mapped_bytes=sizes[bisect.bisect_right(times, r.t_s)])
        for r in host.series
    ]


def _with_mapped(memory: Memory, profiles: list[Profile], shared_bytes: int) -> Memory:
    """Add what of the program's own mappings is resident, where all of it is known."""
    anonymous = of_files = 0
    of_mappings = [one for one in profiles if one.capture.device and one.capture.device.is_mapped]
    for profile in of_mappings:
        resident, device = profile.sites.resident_bytes, profile.capture.device
        if device is not None and device.kind == "mapped-stack":
            continue  # the kernel's own number has those too
        if resident is None or device is None:
            return memory
        if device.kind in ANONYMOUS_KINDS:
            anonymous += int(resident.sum())
        else:
            of_files += int(resident.sum())
    if not of_mappings:
        return memory
    return dataclasses.replace(
        memory,
        mapped_bytes=anonymous,
        mapped_shared_bytes=shared_bytes,
        mapped_file_bytes=max(of_files - shared_bytes, 0),
    )


def facts(segment: Segment, target: Target, ending: Ending) -> Profile:
    """The facts of the latest capture, without stacks and sites: the process, its modules and
    threads, the domains of all its memory, and the marks that are still in the segment.
    """
    control = segment.control()
    target = _told_of_objects(target, control)
    none = tables.no_tables(control, ending.now_ns)
    shared = _read_shared(segment, control, target, None)
    capture = _capture(segment, control, target, shared, none)
    capture.kind, capture.end = ending.kind, ending.end
    start_ns = int(control.capture["start_ns"])
    capture.duration_s = (none.end_ns - start_ns) / NS
    capture.notes = [*ending.notes, *_before_main(control), *_small_objects(target, control)]
    profile = _profile(HOST, float(int(control.capture["rate_bytes"])), capture, none, shared)
    profile.threads = shared.threads
    return profile


def _runtime(target: Target, capture: Capture, shared: _Shared) -> Runtime | None:
    paths = [capture.exe, *(module.path for module in shared.modules)]
    found = target.runtime or runtime_of(paths)
    return None if found is not None and found.uses_malloc(target.environment) else found


def _of_domain(
    segment: Segment,
    domain: Domain,
    host: Profile,
    shared: _Shared,
    ending: Ending,
) -> Profile:
    """The profile of one domain."""
    control = segment.control()
    readings = shared.readings
    track = readings.devices.get(domain.number) if readings else None
    start_ns = int(control.capture["start_ns"])
    end_ns = start_ns + round((host.capture.duration_s or 0.0) * NS)
    found = tables.read_tables(
        segment, control, domain.peak, domain.number, readings.moments if readings else None,
        now_ns=end_ns, ended=ending.target_ended, source=shared.source,
        mapped=Mappings(domain.kind, shared.mapped) if domain.is_mapped else None,
    )  # fmt: skip
    shared.resident_shared_bytes += found.resident_shared_bytes
    actual = readings.actual.get(domain.number, domain.actual) if readings else domain.actual
    capture = dataclasses.replace(
        host.capture,
        device=_device(domain, actual, start_ns),
        samples=found.samples,
        lost=_lost("device_lost", control, found),
        pymalloc=None,
        pymem=False,
        complete=found.skipped == 0,
        notes=_notes(found, [*ending.notes, *domain.notes()]),
        before_end_at_s=found.before_end_at_s,
        bucket_end_s=_bucket_end_s(found),
    )
    profile = _profile(domain.name, domain.rate_bytes(control), capture, found, shared)
    _put_peak(profile, domain.peak, start_ns)
    profile.series = list(track.series) if track else []
    return profile


def _profile(
    domain: str,
    rate_bytes: float,
    capture: Capture,
    found: Tables,
    shared: _Shared,
) -> Profile:
    named = set(found.thread_blocks.row.tolist()) | {mark.thread for mark in shared.marks.marks}
    every = shared.threads
    return Profile(
        format="mem_profiler",
        rate_bytes=rate_bytes,
        stacks=found.stacks,
        sites=found.sites,
        domains=[domain],
        modules=shared.modules,
        threads=[every[r] if r < len(every) else Thread(r, 0, "") for r in sorted(named)],
        thread_blocks=found.thread_blocks,
        capture=capture,
        python=_with_cells(found.python, shared.cells),
        labels=found.labels,
        marks=list(shared.marks.marks),
        map_lines=shared.map_lines,
    )


def _read_shared(
    segment: Segment, control: Control, target: Target, readings: Readings | None
) -> _Shared:
    modules = target.located(collect.read_modules(segment, control))
    memory = dataclasses.replace(target.memory, segment_bytes=segment.used_bytes())
    if readings is not None and memory.rss_bytes is None:
        memory = dataclasses.replace(
            readings.memory,
            peak_rss_bytes=memory.peak_rss_bytes or readings.memory.peak_rss_bytes,
            segment_bytes=memory.segment_bytes,
            limit_bytes=readings.memory.limit_bytes or memory.limit_bytes,
            tree_peak_rss_bytes=memory.tree_peak_rss_bytes,
            child_peak_rss_bytes=memory.child_peak_rss_bytes,
            rss_bound_bytes=readings.memory.rss_bound_bytes or memory.rss_bound_bytes,
        )
    elif readings is not None and memory.peak_rss_bytes is None:
        memory = dataclasses.replace(memory, peak_rss_bytes=readings.memory.peak_rss_bytes)
    if memory.limit_bytes is None:
        limit = control.number("memory_limit_bytes") or None
        memory = dataclasses.replace(memory, limit_bytes=limit)
    anon = min(int(control.capture["start_anon_bytes"]), TOTAL_MAX_BYTES)
    if not anon and readings is not None and _from_start(control):
        anon = readings.anon.first_bytes or 0
    if anon:
        memory = dataclasses.replace(memory, start_anon_bytes=anon)
    marks = readings.marks if readings is not None else MarkLog()
    marks.update(segment, control)
    every = devices.read_domains(segment, control)
    return _Shared(
        modules=modules,
        threads=collect.read_threads(segment, control),
        map_lines=recorded_map_lines(modules, target.mappings),
        marks=marks,
        memory=memory,
        domains=devices.used_in(every, control.number("capture_number")),
        readings=readings,
        cells=target.cells,
    )


def _with_cells(python: PythonStacks | None, cells: dict[str, str]) -> PythonStacks | None:
    """Name the files of a notebook's cells as it shows them."""
    if python is None or not cells:
        return python
    codes = [dataclasses.replace(c, file=cells.get(c.file, c.file)) for c in python.codes]
    return dataclasses.replace(python, codes=codes)


def recorded_map_lines(modules: list[Module], mappings: list[Mapping]) -> list[bytes]:
    """The lines of a live process that name a file or the vdso, unchanged; then lines for recorded
    modules that are no longer mapped. The sampler of an attach, which the kernel knows as a memfd
    alone, has a line as a module: other tools find its names by its path.
    """
    known = [m for m in mappings if not m.path.startswith(f"/memfd:{SAMPLER_NAME}")]
    lines = [m.line for m in known if m.path.startswith("/") or m.path == "[vdso]"]
    return lines + module_lines(modules, [(m.start, m.end) for m in known])


def _attach_stops(control: Control) -> AttachStops | None:
    """The notes of the controller that attached; None without an attach."""
    stops = control["attach_stops"]
    if not control.number("startup_flags") & layout.STARTUP_ATTACHED or not int(stops["times"]):
        return None
    return AttachStops(
        int(stops["times"]), int(stops["total_ns"]) / NS, int(stops["longest_ns"]) / NS
    )


def _command(control: Control, target: Target) -> str:
    """The command line of the program of the segment, as far as it is known."""
    kept = control.text("command")
    return target.command if target.command.startswith(kept) else kept


def _capture(
    segment: Segment, control: Control, target: Target, shared: _Shared, found: Tables
) -> Capture:
    """The capture's facts, from the control page and the process."""
    slot = control.capture
    paths = [module.path for module in shared.modules]
    return Capture(
        pid=control.number("pid"),
        parent_pid=control.number("parent_pid"),
        uid=os.fstat(segment.fd).st_uid,
        host=os.uname().nodename,
        arch=platform.machine(),
        comm=control.text("comm"),
        exe=control.text("exe"),
        command=_command(control, target),
        allocator=control.text("allocator"),
        unwinder=control.text("unwinder"),
        sampler=_sampler_path(paths + [mapping.path for mapping in target.mappings]),
        suppressions=target.suppressions,
        capture=control.number("capture_number"),
        from_start=_from_start(control),
        depth_limit=control.depth_limit,
        started=int(slot["start_realtime_ns"]) / NS,
        python=target.python or procfs.python_version(paths, control.text("exe")),
        pymalloc=target.pymalloc,
        tracked=target.tracked,
        pymem=control.number("pymem_ns") != 0,
        samples=found.samples,
        lost=_lost("lost", control, found),
        memory=shared.memory,
        grown=target.grown,
        bucket_end_s=_bucket_end_s(found),
        complete=found.skipped == 0,
        attach=_attach_stops(control),
        domains=[HOST, *(domain.name for domain in shared.domains)],
        marks_lost=shared.marks.lost,
    )


def _bucket_end_s(found: Tables) -> list[float | None]:
    return [None if end == layout.U64_MAX else end / NS for end in found.bucket_ends_ns.tolist()]


def _from_start(control: Control) -> bool:
    """Whether the sampler began the capture itself, before the program's first line of code."""
    first = control.number("capture_number") == 1 and int(control.capture["owner_pid"]) == 0
    return first and control.number("parent_pid") == 0


def _sampler_path(paths: list[str]) -> str:
    named = (p for p in paths if os.path.basename(p) == mem_profiler.LIBRARY_NAME)
    return next(named, "")


def _lost(field_name: str, control: Control, found: Tables) -> dict[str, int]:
    lost = {name: int(control[field_name][index]) for index, name in layout.LOST_NAMES.items()}
    return lost | found.lost_stacks()


def _before_main(control: Control) -> list[str]:
    late = control.number("startup_flags") & layout.STARTUP_LATE
    return [LATE_NOTE] if late and control.number("capture_number") == 1 else []


def _told_of_objects(target: Target, control: Control) -> Target:
    """With whether pymalloc's objects are missing, as the sampler knows it; None: their arenas are
    there.
    """
    if control.number("pymem_ns") != 0:
        return dataclasses.replace(target, pymalloc=False)
    if target.pymalloc and control.number("arenas_ns") != 0:
        return dataclasses.replace(target, pymalloc=None)
    return target


def _small_objects(target: Target, control: Control) -> list[str]:
    """The missing part of CPython's small objects."""
    if control.number("arenas_ns") and target.pymalloc is None:
        return [ARENAS_NOTE]
    if target.pymalloc:
        attached = control.number("startup_flags") & layout.STARTUP_ATTACHED
        kept = (target.environment or {}).get("MEM_PROFILER_PYMEM") == "0"
        other = PYMALLOC_KEPT_NOTE if kept else PYMALLOC_NOTE
        return [PYMALLOC_ATTACHED_NOTE if attached else other]
    late_s = (control.number("pymem_ns") - int(control.capture["start_ns"])) / NS
    if late_s < LATE_HOOKS_S:
        return []
    since = f"from {late_s:.1f} s after its start"
    return [f"small objects of CPython are in the profile {since}: {_NO_CODE} before"]


def _notes(found: Tables, extra: list[str]) -> list[str]:
    notes = list(extra)
    notes += found.page_notes
    if found.skipped:
        notes.append(f"the profile lacks {found.skipped} rows of the segment, which are invalid")
    return notes


def _put_peak(profile: Profile, peak: Peak | None, start_ns: int) -> None:
    """Add the highest total, which is never below what is in use. A sampler that no controller told
    to keep it has none.

    Sites remember a moment whose total may be a little lower than the highest, with mean sizes. And
    rows of a program that goes on are of different moments, all later than the total that was read.
    Where they have more in use, this is the peak, and now its time.
    """
    capture, sites = profile.capture, profile.sites
    if peak is None:
        capture.peak_at_s = capture.peak_bytes = capture.peak_source = None
        return
    in_use, remembered = (profile.total(c, Unit.SPACE).value for c in (Count.INUSE, Count.PEAK))
    if in_use > remembered:
        sites.peak_blocks, sites.peak_bytes = sites.inuse_blocks, sites.inuse_bytes
    at_s = max(peak.at_ns - start_ns, 0) / NS
    capture.peak_at_s = capture.duration_s if in_use > peak.bytes else at_s
    capture.peak_bytes = max(peak.bytes, in_use, remembered)
    capture.peak_source = PeakSource.SAMPLER


def _device(domain: Domain, actual: Actual | None, start_ns: int) -> Device:
    pool = domain.kind == "pool"
    return Device(
        family=domain.family,
        index=domain.device,
        kind=domain.kind,
        alloc_calls=domain.alloc_calls,
        failed_calls=domain.failed_calls,
        freed_calls=domain.freed_calls,
        actual_used_bytes=actual.used_bytes if actual else None,
        actual_total_bytes=actual.total_bytes if actual else None,
        actual_tracked_bytes=actual.tracked_bytes if actual else None,
        actual_at_s=max(0, actual.at_ns - start_ns) / NS if actual else None,
        reserved_bytes=domain.reserved_bytes if pool else None,
        reserved_peak_bytes=domain.reserved_peak_bytes if pool else None,
    )
