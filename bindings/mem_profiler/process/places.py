"""Where a process's resident memory is, mapping by mapping, and which of it grew.

An arena of glibc's threads is made of heaps of 64 MiB of address space, each from a multiple of
that on. It begins with a `heap_info` (malloc/arena.c): the address of the arena, which is behind
that of its first heap; the heap before it; how much of it is in use, and how much was ever. Other
programs map pools at such addresses, too. So a mapping is an arena if it begins like one, or where
its memory may not be read or its first page is not in RAM, if the rest of its 64 MiB is reserved.
"""

from __future__ import annotations

import bisect
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mem_parser.errors import MemError
from mem_parser.processfacts import Grown
from mem_profiler.process import procfs
from mem_profiler.process.procfs import Mapping
from mem_sandbox import child

ARENA_BYTES = 64 << 20  # HEAP_MAX_SIZE of glibc's malloc on 64-bit machines
GROWN_MAX = 10
"""Places whose growth is told: those that changed most."""
_HEAD = struct.Struct("<4Q")
_BEHIND_HEAD = 256  # at most so far behind the head of its first heap is an arena
_PRESENT = 1 << 63
_LIMIT_S = 5.0  # as long as may take what reads the memory of a process
_MAPPING = re.compile(
    rb"^([0-9a-f]+-[0-9a-f]+ [^\n]*)\n(?:[A-Z]\w*:[^\n]*\n)*?Rss: +(\d+) kB", re.MULTILINE
)
_SHARED = re.compile(r"/(?:memfd:|SYSV|dev/zero|dev/shm/)")
Head = Callable[[int], "bytes | None"]
"""The first bytes of a heap at an address; None where they are not known."""


@dataclass(frozen=True)
class Region:
    """One mapping of /proc/PID/smaps with its resident bytes; ``kind`` is as of `Grown`."""

    mapping: Mapping
    rss_bytes: int
    kind: str = ""


def sizes_of(raw: bytes, name: bytes) -> int:
    """The sum of all lines of that name in smaps, in bytes."""
    pattern = rb"^" + name + rb":\s+(\d+) kB"
    return sum(int(kb) * 1024 for kb in re.findall(pattern, raw, re.MULTILINE))


def parsed(raw: bytes) -> list[Region]:
    """The mappings of smaps, without their kinds."""
    found = _MAPPING.findall(raw)
    mappings = procfs.parse_maps(b"\n".join(head for head, _ in found))
    if len(mappings) != len(found):
        return []  # some line made no sense
    return [Region(one, int(kb) * 1024) for one, (_, kb) in zip(mappings, found, strict=True)]


def regions(pid: int) -> list[Region]:
    """The mappings of a process; none where unknown, and when it is gone."""
    found = parsed(procfs.smaps(pid))
    arenas = set(arenas_of(found, _heads(pid, candidates(found)).get))
    pointers = sorted(procfs.stack_pointers(pid))
    return [
        Region(one.mapping, one.rss_bytes, _kind(one, pointers, is_arena=k in arenas))
        for k, one in enumerate(found)
    ]


def _kind(region: Region, pointers: list[int], *, is_arena: bool) -> str:
    """A stack is that of the main thread, or has a thread's stack pointer, where the kernel shows
    it.
    """
    mapping = region.mapping
    at = bisect.bisect_left(pointers, mapping.start)
    if mapping.path == "[heap]":
        return "heap"
    if is_arena:
        return "arenas"
    if mapping.path == "[stack]" or (at < len(pointers) and pointers[at] < mapping.end):
        return "stacks"
    if _SHARED.match(mapping.path):
        return "shared"
    return "file" if mapping.path.startswith("/") else "anonymous"


def candidates(found: Sequence[Region]) -> list[int]:
    """The addresses at which heaps of arenas would begin."""
    return [
        address
        for one in found
        if _may_be_arena(one.mapping)
        for address in range(one.mapping.start, one.mapping.end, ARENA_BYTES)
    ]


def _may_be_arena(mapping: Mapping) -> bool:
    is_anonymous = mapping.permissions == "rw-p" and not mapping.inode and not mapping.path
    return is_anonymous and not mapping.start % ARENA_BYTES


def arenas_of(found: Sequence[Region], head: Head) -> list[int]:
    """The positions of mappings that are heaps of arenas; the kernel shows adjacent ones as one."""

    def is_arena(k: int) -> bool:
        mapping = found[k].mapping
        starts = range(mapping.start, mapping.end, ARENA_BYTES)
        heads = [head(start) for start in starts]
        if len(heads) == 1 and heads[0] is None:
            return _is_reserved(mapping, found[k + 1].mapping if k + 1 < len(found) else None)
        known = zip(heads, starts, strict=True)
        return all(one is not None and _is_heap(one, at) for one, at in known)

    return [k for k, one in enumerate(found) if _may_be_arena(one.mapping) and is_arena(k)]


def _is_reserved(mapping: Mapping, behind: Mapping | None) -> bool:
    """Whether the rest of the 64 MiB is there, without access rights."""
    return (
        behind is not None
        and behind.start == mapping.end
        and behind.permissions == "---p"
        and behind.end >= mapping.start + ARENA_BYTES
    )


def _is_heap(head: bytes, at: int) -> bool:
    arena, before, used, writable = _HEAD.unpack(head)
    first = arena & -ARENA_BYTES
    linked = before == 0 if first == at else before not in (0, at) and not before % ARENA_BYTES
    return (
        linked
        and _HEAD.size <= arena - first <= _BEHIND_HEAD
        and 0 < used <= writable <= ARENA_BYTES
        and not used % 4096
    )


def _heads(pid: int, addresses: list[int]) -> dict[int, bytes]:
    """The first bytes at addresses whose pages are in RAM, where we have the right to read them. A
    child reads those of a process that may make us wait.
    """
    if not addresses:
        return {}
    if not procfs.is_strange(pid):
        return _read_heads(pid, addresses)
    try:
        told = child.call(
            lambda _: {str(at): head.hex() for at, head in _read_heads(pid, addresses).items()},
            f"pid {pid}",
            _LIMIT_S,
        )
        return {int(at): bytes.fromhex(head)[: _HEAD.size] for at, head in dict(told).items()}
    except (MemError, ValueError):
        return {}


def _read_heads(pid: int, addresses: list[int]) -> dict[int, bytes]:
    page_bytes, found = os.sysconf("SC_PAGE_SIZE"), {}
    try:
        with (
            open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages,
            open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
        ):
            for at in addresses:
                entry = os.pread(pages.fileno(), 8, at // page_bytes * 8)
                if len(entry) == 8 and int.from_bytes(entry, "little") & _PRESENT:
                    found[at] = os.pread(memory.fileno(), _HEAD.size, at)
    except OSError:
        pass
    return {at: head for at, head in found.items() if len(head) == _HEAD.size}


def sums(found: Sequence[Region]) -> dict[str, int | None]:
    """Resident bytes by kind under the names of the %header's `memory`; None where unknown."""

    def of(kind: str) -> int | None:
        return sum(one.rss_bytes for one in found if one.kind == kind) if found else None

    return {"heap_bytes": of("heap"), "arena_bytes": of("arenas"), "stack_bytes": of("stacks")}


def memory(pid: int, found: Sequence[Region]) -> dict[str, int | None]:
    """Memory totals in bytes under the names of the %header's `memory`; None where unknown."""
    rollup = procfs.smaps_rollup(pid)
    return {
        **procfs.kinds(pid),
        "pss_bytes": sizes_of(rollup, b"Pss") if rollup else None,
        **sums(found),
        **procfs.group(pid),
    }


def grown(before: Sequence[Region], after: Sequence[Region]) -> list[Grown]:
    """The places that changed most between two looks, the largest growth first."""
    runs = _runs(after)
    then, now = _by_place(before, runs), _by_place(after, runs)
    rows = [Grown(*key, then.get(key, 0), now.get(key, 0)) for key in then | now]
    rows = sorted(rows, key=lambda row: -abs(row.growth_bytes))[:GROWN_MAX]
    return sorted((row for row in rows if row.growth_bytes), key=lambda row: -row.growth_bytes)


def _runs(found: Sequence[Region]) -> list[tuple[int, int]]:
    """Where anonymous mappings are, as one where nothing is between them."""
    runs: list[tuple[int, int]] = []
    for one in found:
        low, high = one.mapping.start, one.mapping.end
        if one.kind != "anonymous":
            continue
        if runs and runs[-1][1] == low:
            low = runs.pop()[0]
        runs.append((low, high))
    return runs


def _by_place(found: Sequence[Region], runs: list[tuple[int, int]]) -> dict[tuple[str, str], int]:
    """Resident bytes by kind and name: files by their path, anonymous memory by the addresses of
    the run that it is in.
    """
    sizes: dict[tuple[str, str], int] = {}
    for one in found:
        name = one.mapping.path if one.kind in ("file", "shared") else ""
        if one.kind == "anonymous":
            low, high = one.mapping.start, one.mapping.end
            k = bisect.bisect_left(runs, (high, 0)) - 1
            low, high = runs[k] if k >= 0 and low < runs[k][1] else (low, high)
            name = f"{low:x}-{high:x}"
        sizes[one.kind, name] = sizes.get((one.kind, name), 0) + one.rss_bytes
    return sizes
