"""Put together everything that goes into one .heap file.

Model: a `Target` holds the facts about the process that must be gathered while it lives;
`assemble` joins both to one document for the host's memory, and one for each domain of device
memory that the capture saw. It works the same for a process that is gone, from the segment alone.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any

import mem_profiler
from mem_profiler.capture.recorder import Recorder, Track
from mem_profiler.process import device_choice, procfs
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile import heapwrite, records
from mem_profiler.profile.heapwrite import Document, MarkColumns
from mem_profiler.segment import collect, devices, layout
from mem_profiler.segment.collect import Module
from mem_profiler.segment.devices import Domain, Mark, MarkLog
from mem_profiler.segment.file import Control, Segment

NS = 1e9
UNKNOWN_MEMORY: dict[str, int | None] = dict.fromkeys(
    (
        "rss_bytes",
        "peak_rss_bytes",
        "pss_bytes",
        "anon_bytes",
        "file_bytes",
        "shmem_bytes",
        "heap_bytes",
        "arena_bytes",
        "stack_bytes",
    )
)
PYMALLOC_NOTE = (
    "small objects of CPython come from its own pools (pymalloc) and are not covered; "
    "start the program with PYTHONMALLOC=malloc to see them"
)


@dataclass
class Target:
    """Facts of a process. `pid` None: gone, or never seen. Mappings are empty once it is gone."""

    pid: int | None
    python: str | None = None
    pymalloc: bool | None = None
    suppressions: str = ""
    mappings: list[Mapping] = field(default_factory=list)
    memory: dict[str, int | None] = field(default_factory=lambda: dict(UNKNOWN_MEMORY))

    @classmethod
    def of(cls, pid: int) -> Target:
        """What can be known of a running process at once."""
        target = cls(pid)
        target.refresh_mappings()
        paths = [mapping.path for mapping in target.mappings if mapping.inode]
        target.python = procfs.python_version(paths, procfs.exe(pid))
        target.pymalloc = procfs.pymalloc_active(pid) if target.python else None
        target.suppressions = procfs.leak_suppressions(pid)
        return target

    def refresh_mappings(self) -> None:
        """Read the mappings again; those of a process that is gone are dropped."""
        try:
            self.mappings = procfs.maps(self.pid) if self.pid is not None else []
        except PermissionError:
            self.mappings = []

    def refresh(self) -> None:
        """Read everything that changes, as late as possible before the file is made."""
        if self.pid is None:
            return
        self.refresh_mappings()
        fresh = procfs.memory(self.pid)
        self.memory.update({name: value for name, value in fresh.items() if value is not None})

    def gone(self) -> None:
        """The process has ended, or runs another program."""
        self.mappings = []


def end_ns(control: Control, records_: records.Records, now_ns: int | None) -> int:
    """When the counts of the latest capture end.

    `now_ns` None: the process is gone, the time unknown.
    """
    slot = control.capture
    start = int(slot["start_ns"])
    if int(slot["stop_ns"]):
        return max(start, int(slot["stop_ns"]))
    if now_ns is not None:
        return max(start, min(now_ns, int(slot["deadline_ns"])))
    return min(start + int(records_.newest_birth_s * NS), int(slot["deadline_ns"]))


def _sampler_path(modules: list[Module], mappings: list[Mapping]) -> str:
    paths = [module.path for module in modules] + [mapping.path for mapping in mappings]
    for path in paths:
        if os.path.basename(path) == mem_profiler.LIBRARY_NAME:
            return path
    return ""


def _lost(field_name: str, control: Control, found: records.Records) -> dict[str, int]:
    lost = {name: int(control[field_name][index]) for index, name in layout.LOST_NAMES.items()}
    return lost | found.lost_stacks()


def _notes(target: Target, found: records.Records, extra: list[str]) -> list[str]:
    notes = list(extra)
    if target.pymalloc:
        notes.append(PYMALLOC_NOTE)
    if found.skipped:
        notes.append(f"{found.skipped} rows of the segment made no sense and were left out")
    return notes


def _header(control: Control, target: Target, found: records.Records, owner: int) -> dict[str, Any]:
    slot = control.capture
    ends = [int(end) for end in slot["bucket_end_ns"]]
    return {
        "writer": f"mem_profiler {mem_profiler.__version__}",
        "pid": control.number("pid"),
        "parent_pid": control.number("parent_pid"),
        "uid": owner,
        "host": os.uname().nodename,
        "arch": platform.machine(),
        "comm": control.text("comm"),
        "exe": control.text("exe"),
        "command": control.text("command"),
        "allocator": control.text("allocator"),
        "unwinder": control.text("unwinder"),
        "capture": control.number("capture_number"),
        "rate_bytes": int(slot["rate_bytes"]),
        "depth_limit": control.number("depth_limit"),
        "started": int(slot["start_realtime_ns"]) / NS,
        "python": target.python,
        "pymalloc": target.pymalloc,
        "suppressions": target.suppressions,
        "domain": "host",
        "samples": found.samples,
        "lost": _lost("lost", control, found),
        "bucket_end_s": [None if end == layout.U64_MAX else end / NS for end in ends],
    }


def _peak(track: Track | None) -> dict[str, float] | None:
    if track is None or track.peak is None:
        return None
    return {"at_s": track.peak_at_s, "estimate_bytes": round(track.peak_bytes, 1)}


def _highest(control: Control) -> dict[str, float] | None:
    """The highest total that the sampler itself kept; None where it was not asked to."""
    number = control.number("capture_number")
    kept = control["peak"][number & 1]
    if int(kept["capture"]) != number or not 0 <= int(kept["high_bytes"]) <= collect.BYTES_MAX:
        return None
    at_ns = int(kept["high_ns"]) - int(control.capture["start_ns"])
    return {"at_s": max(at_ns, 0) / NS, "estimate_bytes": float(kept["high_bytes"])}


def _device(domain: Domain, actual: devices.Actual | None, start_ns: int) -> dict[str, Any]:
    """The `device` of a header."""
    told = None
    if actual is not None:
        told = {
            "used_bytes": actual.used_bytes,
            "total_bytes": actual.total_bytes,
            "tracked_bytes": actual.tracked_bytes,
            "at_s": max(0, actual.at_ns - start_ns) / NS,
        }
    pool = domain.kind == "pool"
    return {
        "family": domain.family,
        "index": domain.device,
        "kind": domain.kind,
        "alloc_calls": domain.alloc_calls,
        "failed_calls": domain.failed_calls,
        "freed_calls": domain.freed_calls,
        "actual": told,
        "reserved_bytes": domain.reserved_bytes if pool else None,
        "reserved_peak_bytes": domain.reserved_peak_bytes if pool else None,
    }


def _mark_columns(log: MarkLog, start_ns: int) -> MarkColumns | None:
    if not log.marks:
        return None
    texts: dict[str, int] = {}

    def index(text: str) -> int:
        return texts.setdefault(text, len(texts))

    kinds = {name: number for number, name in layout.MARK_KINDS.items()}

    def rows(get: Any) -> list[Any]:
        return [get(mark) for mark in log.marks]

    def time_s(mark: Mark) -> float:
        return max(0, mark.time_ns - start_ns) / NS

    return MarkColumns(
        time_s=rows(time_s),
        id=rows(lambda mark: mark.id),
        kind=rows(lambda mark: kinds[mark.kind]),
        thread=rows(lambda mark: mark.thread),
        domain=rows(lambda mark: index(mark.domain)),
        text=rows(lambda mark: index(mark.text)),
        texts=list(texts),
    )


@dataclass
class _Shared:
    """What all documents of one capture have in common."""

    modules: list[Module]
    threads: list[tuple[int, str]]
    maps: list[bytes]
    marks: MarkLog
    memory: dict[str, int | None]
    domains: list[Domain]


def _read_shared(
    segment: Segment, control: Control, target: Target, recorder: Recorder | None
) -> _Shared:
    modules = collect.read_modules(segment, control)
    if target.python is None:
        paths = [module.path for module in modules]
        target.python = procfs.python_version(paths, control.text("exe"))
    if recorder is not None and target.memory["rss_bytes"] is None:
        target.memory["rss_bytes"] = recorder.rss_bytes
    marks = recorder.marks if recorder is not None else MarkLog()
    marks.update(segment, control)
    lines = heapwrite.map_lines(target.mappings)
    lines += heapwrite.module_lines(modules, [(m.start, m.end) for m in target.mappings])
    every = devices.read_domains(segment, control)
    return _Shared(
        modules=modules,
        threads=collect.read_threads(segment, control),
        maps=lines,
        marks=marks,
        memory=target.memory | {"segment_bytes": segment.used_bytes()},
        domains=devices.used_in(every, control.number("capture_number")),
    )


def assemble(
    segment: Segment,
    target: Target,
    *,
    kind: str,
    end: str,
    now_ns: int | None,
    recorder: Recorder | None = None,
    notes: list[str] | None = None,
) -> list[Document]:
    """Read the latest capture of `segment`, which must have one: the document of the host's memory,
    then one for each domain of device memory.
    """
    control = segment.control()
    track = recorder.host if recorder else None
    found = records.build(segment, control, track.peak if track else None)
    control = segment.control()
    shared = _read_shared(segment, control, target, recorder)
    start_ns = int(control.capture["start_ns"])
    header = _header(control, target, found, os.fstat(segment.fd).st_uid) | {
        "peak": _peak(track),
        "highest": _highest(control),
        "sampler": _sampler_path(shared.modules, target.mappings),
        "duration_s": (end_ns(control, found, now_ns) - start_ns) / NS,
        "kind": kind,
        "end": end,
        "complete": found.skipped == 0,
        "memory": shared.memory,
        "notes": _notes(target, found, [*(notes or []), *device_choice.unseen(control)]),
        "domains": ["host", *(domain.name for domain in shared.domains)],
        "marks_lost": shared.marks.lost,
        "controller": vars(recorder.use) if recorder and recorder.use else None,
    }
    marks = _mark_columns(shared.marks, start_ns)
    series = track.series if track else []
    document = Document(header, found, shared.modules, shared.threads, series, shared.maps, marks)
    more = [
        _of_domain(segment, domain, document, recorder, notes or []) for domain in shared.domains
    ]
    return [document, *more]


def _of_domain(
    segment: Segment,
    domain: Domain,
    host: Document,
    recorder: Recorder | None,
    notes: list[str],
) -> Document:
    """The document of one domain: what differs from the host's."""
    control = segment.control()
    track = recorder.devices.get(domain.number) if recorder else None
    found = records.build(segment, control, track.peak if track else None, domain.number)
    actual = recorder.actual_of(domain) if recorder else domain.actual
    capture = control.number("capture_number")
    header = host.header | {
        "domain": domain.name,
        "device": _device(domain, actual, int(control.capture["start_ns"])),
        "rate_bytes": max(1, int(control["device_rate_bytes"][capture & 1])),
        "samples": found.samples,
        "lost": _lost("device_lost", control, found),
        "peak": _peak(track),
        "highest": None,
        "pymalloc": None,
        "complete": found.skipped == 0,
        "notes": _notes(Target(None), found, notes),
    }
    series = track.series if track else []
    return Document(header, found, host.modules, host.threads, series, host.maps, host.marks)
