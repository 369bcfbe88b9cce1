"""Write .heap files for tests, from the format document alone: a second opinion on what the format
means.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mem_parser.symbols.elf import ElfImage

HOOK = 0x7F00_0000_1000
LOST = 0x1


@dataclass
class Record:
    """Sampled counts of one (stack, size class); frames innermost first."""

    frames: tuple[int, ...]
    alloc_blocks: int
    alloc_bytes: int
    freed_blocks: int = 0
    freed_bytes: int = 0
    lost_cause: int = 0
    cut: bool = False


@dataclass
class HeapFile:
    """What goes into one file; `text` is the whole of it."""

    records: Sequence[Record]
    rate: int = 1024
    maps: Sequence[str] = ()
    modules: Sequence[dict[str, Any]] = ()
    header: dict[str, Any] = field(default_factory=dict)
    extra_lines: Sequence[str] = ()

    def first_part(self) -> bytes:
        rows = []
        for r in self.records:
            live = r.alloc_blocks - r.freed_blocks
            live_bytes = (r.alloc_bytes - r.freed_bytes) or live
            rows.append(
                (live, live_bytes, r.alloc_blocks, r.alloc_bytes or r.alloc_blocks, r.frames)
            )
        kind = f"heap_v2/{self.rate}" if self.rate > 1 else "heapprofile"
        sums = [sum(row[k] for row in rows) for k in range(4)]
        lines = [f"heap profile: {sums[0]}: {sums[1]} [{sums[2]}: {sums[3]}] @ {kind}"]
        for *n, frames in rows:
            text = " ".join(f"0x{f:x}" for f in frames)
            lines.append(f" {n[0]}: {n[1]} [{n[2]}: {n[3]}] @ {text}")
        lines += ["", "MAPPED_LIBRARIES:", *self.maps, ""]
        return ("\n".join(lines) + "\n").encode()

    def second_part(self) -> bytes:
        header = {"rate_bytes": self.rate, "samples": 0, "lost": {}} | self.header
        lines = ["%mem_profiler 1", "%header " + _json(header)]
        lines += ["%module " + _json(m) for m in self.modules]
        lines += list(self.extra_lines)
        identities = [(r.frames, r.lost_cause << 8 | r.cut) for r in self.records]
        stacks = list(dict.fromkeys(identities))
        place = {identity: k for k, identity in enumerate(stacks)}
        index = [place[identity] for identity in identities]
        lines += column("stack_depth", "<u4", [len(f) for f, _ in stacks])
        lines += column("stack_flags", "<u4", [flags for _, flags in stacks])
        lines += column("stack_generation", "<u4", [0] * len(stacks))
        lines += column("stack_frames", "<u8", [a for f, _ in stacks for a in f])
        lines += column("stack", "<u4", index)
        for name in ("alloc_blocks", "alloc_bytes", "freed_blocks", "freed_bytes"):
            lines += column(name, "<u8", [getattr(r, name) for r in self.records])
        lines.append(f"%end {len(self.records)}")
        return ("\n".join(lines) + "\n").encode()

    @property
    def data(self) -> bytes:
        return self.first_part() + self.second_part()


def column(name: str, dtype: str, values: Sequence[int] | np.ndarray[Any, Any]) -> list[str]:
    raw = np.asarray(values, dtype=dtype).tobytes()
    text = base64.b64encode(zlib.compress(raw)).rstrip(b"=").decode()
    lines = [text[k : k + 4000] for k in range(0, len(text), 4000)]
    return [f"%column {name} {dtype} {len(values)} {len(lines)}", *(f"%| {t}" for t in lines)]


def map_line(start: int, end: int, offset: int, path: str, perms: str = "r-xp") -> str:
    return f"{start:x}-{end:x} {perms} {offset:08x} 08:01 77                 {path}"


def module_of(
    path: object, start: int = 0x10000, end: int = 0x90000, /, **changes: Any
) -> dict[str, Any]:
    """What a file says of a module, all of whose range is code; its build-id is its file's."""
    facts = {"path": str(path), "start": start, "end": end, "bias": start,
             "exec": [[start, end, 0]], "first_generation": 0, "last_generation": None}  # fmt: skip
    if "build_id" not in changes:
        facts["build_id"] = ElfImage.open(str(path)).build_id
    return facts | changes


def _json(value: object) -> str:
    return json.dumps(value).replace("=", "\\u003d")
