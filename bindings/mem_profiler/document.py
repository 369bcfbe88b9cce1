"""Put together everything that goes into one .heap file.

Model: a `Target` holds the facts about the process that must be gathered while it lives;
`assemble` reads the segment once and joins both. It works the same for a process that is gone, from
the segment alone.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any

import mem_profiler
from mem_profiler import collect, heapwrite, layout, procfs, records
from mem_profiler.collect import Module
from mem_profiler.heapwrite import Document
from mem_profiler.procfs import Mapping
from mem_profiler.recorder import Recorder
from mem_profiler.segment import Control, Segment

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


def _lost(control: Control, found: records.Records) -> dict[str, int]:
    lost = {name: int(control["lost"][index]) for index, name in layout.LOST_NAMES.items()}
    return lost | found.lost_stacks()


def _notes(target: Target, found: records.Records, extra: list[str]) -> list[str]:
    notes = list(extra)
    if target.pymalloc:
        notes.append(PYMALLOC_NOTE)
    if found.skipped:
        notes.append(f"{found.skipped} rows of the segment made no sense and were left out")
    if found.other_domains:
        notes.append(f"{found.other_domains} samples of device memory are not in this file")
    return notes


def _header(
    control: Control, target: Target, found: records.Records, recorder: Recorder | None
) -> dict[str, Any]:
    slot = control.capture
    start_ns = int(slot["start_ns"])
    ends = [int(end) for end in slot["bucket_end_ns"]]
    peak = None
    if recorder is not None and recorder.peak is not None:
        peak = {"at_s": recorder.peak_at_s, "estimate_bytes": round(recorder.peak_bytes, 1)}
    return {
        "writer": f"mem_profiler {mem_profiler.__version__}",
        "pid": control.number("pid"),
        "parent_pid": control.number("parent_pid"),
        "uid": control.number("uid"),
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
        "domain": "host",
        "samples": found.samples,
        "lost": _lost(control, found),
        "bucket_end_s": [None if end == layout.U64_MAX else end / NS for end in ends],
        "start_ns": start_ns,
        "peak": peak,
    }


def assemble(
    segment: Segment,
    target: Target,
    *,
    kind: str,
    end: str,
    now_ns: int | None,
    recorder: Recorder | None = None,
    notes: list[str] | None = None,
) -> Document:
    """Read the latest capture of `segment`, which must have one, into a document."""
    control = segment.control()
    found = records.build(segment, control, recorder.peak if recorder else None)
    control = segment.control()
    modules = collect.read_modules(segment, control)
    if target.python is None:
        paths = [module.path for module in modules]
        target.python = procfs.python_version(paths, control.text("exe"))
    if recorder is not None and target.memory["rss_bytes"] is None:
        target.memory["rss_bytes"] = recorder.rss_bytes
    header = _header(control, target, found, recorder)
    start_ns = header.pop("start_ns")
    header |= {
        "sampler": _sampler_path(modules, target.mappings),
        "duration_s": (end_ns(control, found, now_ns) - start_ns) / NS,
        "kind": kind,
        "end": end,
        "complete": found.skipped == 0,
        "memory": target.memory | {"segment_bytes": segment.used_bytes()},
        "notes": _notes(target, found, notes or []),
    }
    lines = heapwrite.map_lines(target.mappings)
    taken = [(mapping.start, mapping.end) for mapping in target.mappings]
    lines += heapwrite.module_lines(modules, taken)
    return Document(
        header=header,
        records=found,
        modules=modules,
        threads=collect.read_threads(segment, control),
        series=recorder.series if recorder else [],
        maps=lines,
    )
