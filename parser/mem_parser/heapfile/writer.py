"""Write a `.heap` file from a profile (docs/heap-format.md): the only place that does.

Part 1 is for jeprof and pprof, part 2 has the whole model. If sites differ in their rate, part 1
has estimates instead of sampled counts, because its readers know only one rate per file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mem_parser.devices import MARK_KINDS, Device, Mark
from mem_parser.escape import one_line
from mem_parser.estimate import unsample
from mem_parser.heapfile.columns import OPTIONAL_COLUMNS
from mem_parser.heapfile.encode import column_lines, column_lines_of, json_lines, text_lines
from mem_parser.heapfile.form import COLUMN_MARK, GZIP_MAGIC, Form, in_form
from mem_parser.heapfile.maplines import module_lines
from mem_parser.heapfile.namecolumns import label_lines, python_lines, symbol_lines
from mem_parser.heapfile.readings import reading_object
from mem_parser.interning import distinct
from mem_parser.model import Capture, Module, Profile, StackTable
from mem_parser.version import __version__

_WRITER = f"mem_parser {__version__}"
_BUFFERED_BYTES = 1 << 20
_RECORDS_AT_A_TIME = 1 << 13
_STACKS_AT_A_TIME = 1 << 12
_KEPT_TEXTS = 1 << 18
_MOST = float(1 << 61)
_LOST_FRAME = "0x1"
_CAPTURE_KEYS = (
    "pid", "parent_pid", "uid", "host", "arch", "comm", "exe", "command", "allocator", "unwinder",
    "sampler", "suppressions", "capture", "depth_limit", "started", "duration_s", "kind", "end",
    "from_start", "python", "pymalloc", "pymem", "samples", "bucket_end_s", "notes", "lost",
    "domains", "marks_lost",
)  # fmt: skip
Counts = npt.NDArray[np.int64]


def write_heap(profile: Profile, *, writer: str = _WRITER) -> bytes:
    """Return the file as text. ``writer`` is the program and version that its header names."""
    return b"".join(_lines(profile, writer))


def write_heap_to(
    out: IO[bytes], profile: Profile, *, writer: str = _WRITER, form: Form = Form.PLAIN
) -> Form:
    """Write the file to ``out``, a few megabytes at a time. Returns its form, which is not AUTO.
    Raises OSError.
    """
    head = b""
    for part in heap_parts(profile, writer=writer, form=form):
        head = head or part[: len(GZIP_MAGIC)]
        out.write(part)
    return Form.GZIP if head == GZIP_MAGIC else Form.PLAIN


def heap_parts(
    profile: Profile, *, writer: str = _WRITER, form: Form = Form.PLAIN
) -> Iterator[bytes]:
    """Yield the file in parts of a few megabytes."""
    return in_form(_text_parts(profile, writer), form)


def _text_parts(profile: Profile, writer: str) -> Iterator[bytes]:
    """Yield the text in parts of a few megabytes; the columns begin a part."""
    buffer: list[bytes] = []
    buffered = 0
    columns = False
    for line in _lines(profile, writer):
        begins = not columns and line.startswith(COLUMN_MARK)
        if begins or buffered > _BUFFERED_BYTES:
            yield b"".join(buffer)
            buffer, buffered = [], 0
        columns = columns or begins
        buffer.append(line)
        buffered += len(line)
    yield b"".join(buffer)


def _lines(profile: Profile, writer: str) -> Iterator[bytes]:
    yield from _first_part(profile)
    yield b"\nMAPPED_LIBRARIES:\n"
    for line in profile.map_lines or module_lines(profile.modules):
        yield line + b"\n"
    yield b"\n%mem_profiler 2\n"
    yield from json_lines("%header", _header(profile, writer))
    for module in profile.modules:
        yield from json_lines("%module", _module(module))
    for thread in profile.threads:
        yield from json_lines("%thread", dataclasses.asdict(thread))
    for reading in profile.series:
        yield from json_lines("%sample", reading_object(reading))
    yield from _columns(profile)
    if profile.marks:
        yield from _mark_columns(profile.marks)
    if profile.python is not None:
        yield from python_lines(profile.python)
    if profile.labels is not None:
        yield from label_lines(profile.labels, profile.stacks.label_numbers)
    if profile.embedded is not None:
        yield from symbol_lines(profile.embedded)
    yield f"%end {len(profile.sites)}\n".encode()


def _first_part(profile: Profile) -> Iterator[bytes]:
    live, live_bytes, every, every_bytes = _printed_counts(profile)
    live_bytes = np.where((live_bytes == 0) & (live > 0), live, live_bytes)
    every_bytes = np.where((every_bytes == 0) & (every > 0), every, every_bytes)
    sampled = profile.sites.rate_bytes is None and profile.rate_bytes > 1
    kind = f"heap_v2/{round(profile.rate_bytes)}" if sampled else "heapprofile"
    yield (
        f"heap profile: {live.sum()}: {live_bytes.sum()} [{every.sum()}: {every_bytes.sum()}]"
        f" @ {kind}\n"
    ).encode()
    frames = _FrameTexts()
    columns = (live, live_bytes, every, every_bytes, profile.sites.stack)
    for low in range(0, len(live), _RECORDS_AT_A_TIME):
        some = [column[low : low + _RECORDS_AT_A_TIME].tolist() for column in columns]
        texts = frames.of_stacks(profile.stacks, some[-1])
        rows = zip(*some, strict=True)
        lines = [f" {a}: {b} [{c}: {d}] @ {texts[stack]}\n" for a, b, c, d, stack in rows]
        yield "".join(lines).encode()


class _FrameTexts(dict[int, str]):
    """A bounded cache of addresses as text."""

    def __missing__(self, address: int) -> str:
        if len(self) >= _KEPT_TEXTS:
            self.clear()
        text = self[address] = f"0x{address:x}"
        return text

    def of_stacks(self, stacks: StackTable, which: list[int]) -> dict[int, str]:
        """Return the text of each of these stacks."""
        table, of = stacks.shared()
        texts: dict[int, str] = {}
        for number in distinct(of[which]).tolist():
            frames = table.frames[table.offsets[number] : table.offsets[number + 1]]
            texts[number] = " ".join(map(self.__getitem__, frames.tolist())) or _LOST_FRAME
        return {k: texts[number] for k, number in zip(which, of[which].tolist(), strict=True)}


def _printed_counts(profile: Profile) -> tuple[Counts, Counts, Counts, Counts]:
    live, live_bytes, every, every_bytes = _sampled_counts(profile)
    if profile.sites.rate_bytes is None:
        return live, live_bytes, every, every_bytes
    in_use = unsample(live, live_bytes, profile.rates)
    allocated = unsample(every, every_bytes, profile.rates)
    rounded = [
        np.rint(np.minimum(c, _MOST)).astype(np.int64)
        for c in (in_use.objects, in_use.bytes, allocated.objects, allocated.bytes)
    ]
    return rounded[0], rounded[1], rounded[2], rounded[3]


def _sampled_counts(profile: Profile) -> tuple[Counts, Counts, Counts, Counts]:
    """Return in-use and allocated counts: none is negative, and in use never exceeds allocated."""
    s = profile.sites
    live, live_bytes = np.maximum(s.inuse_blocks, 0), np.maximum(s.inuse_bytes, 0)
    return live, live_bytes, np.maximum(s.alloc_blocks, live), np.maximum(s.alloc_bytes, live_bytes)


def _header(profile: Profile, writer: str) -> dict[str, Any]:
    c = profile.capture
    header = {name: getattr(c, name) for name in _CAPTURE_KEYS} | {
        "writer": writer,
        "rate_bytes": max(round(profile.rate_bytes), 1),
        "domain": profile.domains[0] if profile.domains else "host",
        "complete": c.complete and profile.incomplete is None,
        "memory": _memory(c),
        "peak": _peak(c),
        "before_end": None if c.before_end_at_s is None else {"at_s": c.before_end_at_s},
        "part": _part(c),
        "controller": dataclasses.asdict(c.controller) if c.controller is not None else None,
        "attach": dataclasses.asdict(c.attach) if c.attach is not None else None,
    }
    if c.grown:
        header["grown"] = [list(dataclasses.astuple(row)) for row in c.grown]
    if c.tracked is not None:
        header["tracked"] = dataclasses.asdict(c.tracked)
    if c.device is not None:
        header["device"] = _device(c.device)
    return header | _traits(profile)


def _part(c: Capture) -> dict[str, Any] | None:
    if c.part_s is None:
        return None
    return {"from_s": c.part_s[0], "to_s": c.part_s[1], "holds_older": c.holds_older}


def _memory(c: Capture) -> dict[str, int | None]:
    """The kernel's numbers; those of mappings and children only of a program that has them."""
    every = dataclasses.asdict(c.memory)
    rare = ("mapped_", "swap_", "tree_", "rss_bound_", "start_")
    return {k: v for k, v in every.items() if v is not None or not k.startswith(rare)}


def _peak(c: Capture) -> dict[str, Any] | None:
    if c.peak_bytes is None or c.peak_source is None:
        return None
    return {
        "at_s": c.peak_at_s, "estimate_bytes": c.peak_bytes, "source": c.peak_source.value,
        "of_estimates": c.peak_of_estimates,
    }  # fmt: skip


def _traits(profile: Profile) -> dict[str, bool | str]:
    """Return the differences between the profile and one of our sampler."""
    ours: dict[str, bool | str] = {
        "leaf_exact": True,
        "exact_samples": True,
        "has_alloc": True,
        "since_start": False,
        "sampling": "",
    }
    found: dict[str, bool | str] = {
        "leaf_exact": profile.stacks.leaf_exact,
        "exact_samples": profile.exact_samples,
        "has_alloc": profile.has_alloc,
        "since_start": profile.since_start,
        "sampling": profile.sampling,
    }
    return {name: value for name, value in found.items() if value != ours[name]}


def _device(device: Device) -> dict[str, Any]:
    flat = dataclasses.asdict(device)
    names = ("used_bytes", "total_bytes", "tracked_bytes", "at_s")
    actual = {name: flat.pop(f"actual_{name}") for name in names}
    return flat | {"actual": actual if device.actual_used_bytes is not None else None}


def _module(module: Module) -> dict[str, Any]:
    return {
        "path": module.path + (" (deleted)" if module.deleted else ""),
        "build_id": module.build_id,
        "start": module.start or min((r.start for r in module.ranges), default=0),
        "end": module.end or max((r.end for r in module.ranges), default=0),
        "bias": module.bias,
        "exec": [[r.start, r.end, r.file_offset] for r in module.ranges],
        "first_generation": module.first_generation,
        "last_generation": module.last_generation,
    }


def _columns(profile: Profile) -> Iterator[bytes]:
    stacks, sites = profile.stacks, profile.sites
    live, live_bytes, every, every_bytes = _sampled_counts(profile)
    yield from column_lines("stack_depth", "<u4", stacks.depths)
    yield from column_lines("stack_flags", "<u4", stacks.flags)
    yield from column_lines("stack_generation", "<u4", stacks.generation)
    yield from column_lines("stack_interpreter", "<u4", stacks.interpreters)
    yield from column_lines_of("stack_frames", "<u8", _frame_parts(stacks))
    yield from column_lines("stack", "<u4", sites.stack)
    yield from column_lines("alloc_blocks", "<u8", every)
    yield from column_lines("alloc_bytes", "<u8", every_bytes)
    yield from column_lines("freed_blocks", "<u8", every - live)
    yield from column_lines("freed_bytes", "<u8", every_bytes - live_bytes)
    optional = {name: getattr(sites, name) for name in OPTIONAL_COLUMNS}
    if sites.alloc_taken_bytes is not None and sites.inuse_taken_bytes is not None:
        freed = sites.alloc_taken_bytes - sites.inuse_taken_bytes
        optional["alloc_taken_bytes"] = sites.alloc_taken_bytes
        optional["freed_taken_bytes"] = np.maximum(freed, 0)
    for name, values in optional.items():
        if values is not None:
            yield from column_lines(name, OPTIONAL_COLUMNS.get(name, "<u8"), values)
    if profile.thread_blocks is not None:
        blocks = profile.thread_blocks
        yield from column_lines("thread_record", "<u4", blocks.site)
        yield from column_lines("thread_row", "<u4", blocks.row)
        yield from column_lines("thread_blocks", "<u8", blocks.blocks)
        yield from column_lines("thread_bytes", "<u8", blocks.bytes)


def _frame_parts(stacks: StackTable) -> Iterator[npt.NDArray[np.uint64]]:
    for low in range(0, len(stacks), _STACKS_AT_A_TIME):
        yield stacks.frames_between(low, min(low + _STACKS_AT_A_TIME, len(stacks)))


def _mark_columns(marks: list[Mark]) -> Iterator[bytes]:
    texts: dict[str, int] = {}
    columns: dict[str, tuple[str, list[Any]]] = {
        "mark_time_s": ("<f8", [mark.time_s for mark in marks]),
        "mark_id": ("<u8", [mark.id for mark in marks]),
        "mark_kind": ("<u4", [MARK_KINDS.index(mark.kind) for mark in marks]),
        "mark_thread": ("<u4", [mark.thread for mark in marks]),
        "mark_domain": ("<u4", [texts.setdefault(one_line(m.domain), len(texts)) for m in marks]),
        "mark_name": ("<u4", [texts.setdefault(one_line(m.text), len(texts)) for m in marks]),
    }
    for name, (dtype, values) in columns.items():
        yield from column_lines(name, dtype, values)
    yield from text_lines("mark_text", texts)
