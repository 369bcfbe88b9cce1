"""Write a .heap file: the part every reader knows, then our own section (docs/heap-format.md).

Model: a `Document` holds everything that goes into one file; `write` streams it as bytes. Part 1
has one line per record; each stack's frames are turned to text once. Our section consists of JSON
lines and of columns, which are compressed arrays.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from mem_profiler.process.procfs import Mapping
from mem_profiler.profile.records import Records
from mem_profiler.segment.collect import Module

# Lines of our section stay below 4096 characters, the mark and the newline included.
TEXT_CHARS = 4000


@dataclass(frozen=True)
class Reading:
    """One point of the time series.

    `estimate_bytes` are live bytes, `t_s` seconds since the start.
    """

    t_s: float
    estimate_bytes: float
    std_error_bytes: float
    samples: int
    rss_bytes: int | None


@dataclass(frozen=True)
class DeviceReading(Reading):
    """A point of the series of a device domain.

    `taken_bytes` is what the device gave up for the live blocks (of those whose size is known),
    `failed` how many blocks were refused so far; used, total and reserved bytes are None where
    nobody tells them.
    """

    taken_bytes: float
    failed: int
    actual_used_bytes: int | None
    actual_total_bytes: int | None
    reserved_bytes: int | None


@dataclass
class MarkColumns:
    """Marks of the program, one entry each. `texts` are what the two indices name."""

    time_s: list[float]
    id: list[int]
    kind: list[int]
    thread: list[int]
    domain: list[int]
    text: list[int]
    texts: list[str]


@dataclass
class Document:
    """The content of one file. `header` has the keys of the documented %header."""

    header: dict[str, Any]
    records: Records
    modules: list[Module]
    threads: list[tuple[int, str]]
    series: list[Reading] = field(default_factory=list)
    maps: list[bytes] = field(default_factory=list)
    marks: MarkColumns | None = None


def map_lines(mappings: list[Mapping]) -> list[bytes]:
    """The lines of a live process that name a file or the vdso, as they stood."""
    return [m.line for m in mappings if m.path.startswith("/") or m.path == "[vdso]"]


def _escaped(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").replace(b"\n", b"\\012")


def module_lines(modules: list[Module], taken: list[tuple[int, int]]) -> list[bytes]:
    """Map lines for recorded modules, where their executable ranges touch none of `taken`.

    The modules loaded last come first, because a range is given away once.
    """
    busy = list(taken)
    lines: list[tuple[int, bytes]] = []
    for module in reversed(modules):
        for start, end, offset in module.exec:
            if any(start < other_end and other_start < end for other_start, other_end in busy):
                continue
            busy.append((start, end))
            text = f"{start:x}-{end:x} r-xp {offset:08x} 00:00 0".encode().ljust(73)
            lines.append((start, text + _escaped(module.path)))
    return [line for _, line in sorted(lines)]


def _legacy_lines(records: Records, rate_bytes: int) -> Iterator[bytes]:
    sites, stacks = records.sites, records.stacks
    live_blocks = sites.live_blocks
    # Readers divide bytes by blocks: a sampled malloc(0) counts one byte here.
    live_bytes = np.where(
        (sites.live_bytes == 0) & (live_blocks > 0), live_blocks, sites.live_bytes
    )
    alloc_bytes = np.where(sites.alloc_bytes == 0, sites.alloc_blocks, sites.alloc_bytes)
    kind = f"heap_v2/{rate_bytes}" if rate_bytes > 1 else "heapprofile"
    yield (
        f"heap profile: {live_blocks.sum()}: {live_bytes.sum()} "
        f"[{sites.alloc_blocks.sum()}: {alloc_bytes.sum()}] @ {kind}\n"
    ).encode()
    frames = [f"0x{frame:x}" for frame in stacks.frames.tolist()]
    first, depth = stacks.first.tolist(), stacks.depth.tolist()
    texts = [" ".join(frames[f : f + d]) for f, d in zip(first, depth, strict=True)]
    rows = zip(
        live_blocks.tolist(),
        live_bytes.tolist(),
        sites.alloc_blocks.tolist(),
        alloc_bytes.tolist(),
        records.stack.tolist(),
        strict=True,
    )
    for blocks, size, all_blocks, all_size, stack in rows:
        yield f" {blocks}: {size} [{all_blocks}: {all_size}] @ {texts[stack]}\n".encode()


def _json_lines(mark: str, value: object) -> Iterator[bytes]:
    """A JSON text behind `mark`, cut into lines; an escape sequence may be cut anywhere."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("=", "\\u003d")
    for at in range(0, max(len(text), 1), TEXT_CHARS):
        head = mark if at == 0 else "%+"
        yield f"{head} {text[at : at + TEXT_CHARS]}\n".encode()


def _column_lines(name: str, dtype: str, values: np.ndarray[Any, Any]) -> Iterator[bytes]:
    flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
    text = base64.b64encode(zlib.compress(flat.tobytes(), 3)).rstrip(b"=")
    lines = [text[at : at + TEXT_CHARS] for at in range(0, len(text), TEXT_CHARS)]
    yield f"%column {name} {dtype} {len(flat)} {len(lines)}\n".encode()
    for line in lines:
        yield b"%| " + line + b"\n"


def _columns(records: Records) -> Iterator[bytes]:
    sites, stacks = records.sites, records.stacks
    yield from _column_lines("stack_depth", "<u4", stacks.depth)
    yield from _column_lines("stack_flags", "<u4", stacks.flags)
    yield from _column_lines("stack_generation", "<u4", stacks.generation)
    yield from _column_lines("stack_frames", "<u8", stacks.frames)
    yield from _column_lines("stack", "<u4", records.stack)
    yield from _column_lines("alloc_blocks", "<u8", sites.alloc_blocks)
    yield from _column_lines("alloc_bytes", "<u8", sites.alloc_bytes)
    yield from _column_lines("freed_blocks", "<u8", sites.freed_blocks)
    yield from _column_lines("freed_bytes", "<u8", sites.freed_bytes)
    yield from _column_lines("births", "<u4", sites.births)
    yield from _column_lines("live_births", "<u4", records.live_births)
    yield from _column_lines("oldest_birth_s", "<f8", records.oldest_birth_s)
    if records.peak_blocks is not None and records.peak_bytes is not None:
        yield from _column_lines("peak_blocks", "<u8", records.peak_blocks)
        yield from _column_lines("peak_bytes", "<u8", records.peak_bytes)
    if sites.device is not None:
        yield from _column_lines("alloc_taken_bytes", "<u8", sites.device.alloc_taken)
        yield from _column_lines("freed_taken_bytes", "<u8", sites.device.freed_taken)
        yield from _column_lines("failed_blocks", "<u8", sites.device.failed_blocks)
        yield from _column_lines("failed_bytes", "<u8", sites.device.failed_bytes)
    yield from _column_lines("thread_record", "<u4", records.thread_record)
    yield from _column_lines("thread_row", "<u4", records.thread_row)
    yield from _column_lines("thread_blocks", "<u8", records.thread_blocks)
    yield from _column_lines("thread_bytes", "<u8", records.thread_bytes)


def _mark_columns(marks: MarkColumns) -> Iterator[bytes]:
    text = "\n".join(text.replace("\n", " ") for text in marks.texts)
    packed = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    yield from _column_lines("mark_time_s", "<f8", np.array(marks.time_s))
    yield from _column_lines("mark_id", "<u8", np.array(marks.id, np.uint64))
    yield from _column_lines("mark_kind", "<u4", np.array(marks.kind, np.uint32))
    yield from _column_lines("mark_thread", "<u4", np.array(marks.thread, np.uint32))
    yield from _column_lines("mark_domain", "<u4", np.array(marks.domain, np.uint32))
    yield from _column_lines("mark_name", "<u4", np.array(marks.text, np.uint32))
    yield from _column_lines("mark_text", "|u1", packed)


def _module_value(module: Module) -> dict[str, object]:
    return {
        "path": module.path,
        "build_id": module.build_id,
        "start": module.start,
        "end": module.end,
        "bias": module.bias,
        "exec": module.exec,
        "first_generation": module.first_generation,
        "last_generation": module.last_generation,
    }


def _own_section(document: Document) -> Iterator[bytes]:
    yield b"%mem_profiler 1\n"
    yield from _json_lines("%header", document.header)
    for module in document.modules:
        yield from _json_lines("%module", _module_value(module))
    named = set(np.unique(document.records.thread_row).tolist())
    named |= set(document.marks.thread) if document.marks else set()
    for row in sorted(named):
        tid, name = document.threads[row] if row < len(document.threads) else (0, "")
        yield from _json_lines("%thread", {"row": row, "tid": tid, "name": name})
    for reading in document.series:
        yield from _json_lines("%sample", vars(reading))
    yield from _columns(document.records)
    if document.marks is not None:
        yield from _mark_columns(document.marks)
    yield f"%end {len(document.records.stack)}\n".encode()


def write(document: Document, out: IO[bytes]) -> None:
    """Write the whole file to `out`. Raises OSError."""
    buffer: list[bytes] = []
    buffered = 0
    for part in _all_lines(document):
        buffer.append(part)
        buffered += len(part)
        if buffered > 1 << 20:
            out.write(b"".join(buffer))
            buffer, buffered = [], 0
    out.write(b"".join(buffer))


def _all_lines(document: Document) -> Iterator[bytes]:
    yield from _legacy_lines(document.records, int(document.header["rate_bytes"]))
    yield b"\nMAPPED_LIBRARIES:\n"
    for line in document.maps:
        yield line + b"\n"
    yield b"\n"
    yield from _own_section(document)
