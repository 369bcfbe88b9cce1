"""Segments that a hostile target wrote: read, assembled, written as .heap files, read again.

An input is a list of patches of an honest segment: where, how many words at which distance, the
first value and what each next one has more. So a few bytes can forge a whole table.
"""

from __future__ import annotations

import itertools
import os
import random
import struct
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["mem_parser", "mem_profiler"]):
    from mem_parser.errors import MemError
    from mem_parser.heapfile.writer import write_heap
    from mem_parser.readers import read_bytes
    from mem_profiler.capture.recorder import Recorder
    from mem_profiler.profile.build import Ending, build
    from mem_profiler.profile.target import Target
    from mem_profiler.segment import collect, layout
    from mem_profiler.segment.file import Segment

from fake_segment import FakeSegment, site_key
from forging import number
from harness import Finding, fuzz

PATCH = struct.Struct("<IIHHqq")  # offset, words, distance, width, value, step
MOST_PATCHES = 64
MOST_WORDS = 1 << 17
START_NS = 10**12
PAGE_BYTES = 4096
MARK_ROWS = 64
DEVICE_ROWS = 64

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def with_devices(fake: FakeSegment) -> Bytes:
    """The segment with tables of device memory behind the others: one domain, one block, marks."""
    sizes = {
        "domains": layout.DOMAIN_ROWS * layout.DOMAIN.itemsize,
        "marks": MARK_ROWS * layout.MARK.itemsize,
        "sites": DEVICE_ROWS * (8 + layout.DEVICE_SITE_ROW.itemsize),
        "live": DEVICE_ROWS * (8 + layout.DEVICE_LIVE_ROW.itemsize),
    }
    at, offsets = len(fake.data), {}
    for name, size in sizes.items():
        offsets[name], at = at, at + -(-size // 4096) * 4096
    data = np.concatenate([fake.data, np.zeros(at - len(fake.data), np.uint8)])
    c = data[: layout.CONTROL.itemsize].view(layout.CONTROL)[0]
    c["limit_bytes"] = at
    for kind, name, rows, dtype in (
        (layout.DOMAINS, "domains", layout.DOMAIN_ROWS, layout.DOMAIN),
        (layout.MARKS, "marks", MARK_ROWS, layout.MARK),
    ):
        entry = c["directory"][kind]
        entry["kind"], entry["row_bytes"], entry["rows"] = kind, dtype.itemsize, rows
        entry["offset"], entry["reserved_bytes"] = offsets[name], sizes[name]
    c["mark_count"] = 3
    for name, row in (("sites", layout.DEVICE_SITE_ROW), ("live", layout.DEVICE_LIVE_ROW)):
        table = c[f"device_{name}"]
        table["levels"], table["levels_ready"] = 1, 1
        level = table["level"][0]
        level["offset"], level["rows"], level["row_bytes"] = (
            offsets[name],
            DEVICE_ROWS,
            row.itemsize,
        )
        level["reserved_bytes"] = sizes[name]
    domain = data[offsets["domains"] :][: sizes["domains"]].view(layout.DOMAIN)[1]
    domain["key"], domain["published"], domain["last_capture"] = 99, 1, 1
    domain["name"], domain["family"], domain["alloc_calls"] = b"cuda-0", b"cuda", 5
    domain["actual_used_bytes"], domain["actual_total_bytes"] = 1 << 20, 1 << 30
    domain["actual_ns"] = START_NS + 10**9
    key = site_key(layout.STACK_LOST_MAX, domain=1)
    data[offsets["sites"] :][:8].view(np.uint64)[0] = key
    rows = data[offsets["sites"] + 8 * DEVICE_ROWS :][: layout.DEVICE_SITE_ROW.itemsize]
    row = rows.view(layout.DEVICE_SITE_ROW)[0]
    row["alloc_blocks"], row["alloc_bytes"], row["alloc_taken_bytes"] = 5, 5 << 20, 6 << 20
    marks = data[offsets["marks"] :][: sizes["marks"]].view(layout.MARK)
    for k in range(3):
        marks[k]["sequence"], marks[k]["time_ns"], marks[k]["id"] = k + 1, START_NS + k, k
    return data


def honest() -> Bytes:
    fake = FakeSegment(site_rows=1 << 12, live_rows=1 << 8)
    fake.begin(rate=512)
    c = fake.control
    c["pid"], c["start_ticks"], c["uid"] = 4242, 77, os.getuid()
    slot = c["capture"][1]
    slot["start_ns"], slot["deadline_ns"], slot["start_realtime_ns"] = (
        START_NS,
        2 * START_NS,
        10**18,
    )
    for depth in (1, 2, 3, 8, 40, 127):
        stack = fake.stack([0x401000 + 16 * k for k in range(depth)])
        fake.site(site_key(stack), (10, 1000), (3, 300))
        fake.site(site_key(stack, size_class=9), (2, 9000))
        fake.live(16 * depth, site_key(stack), 100, age_s=depth, thread=1)
    fake.site(site_key(2), (7, 700))
    fake.thread(42, b"worker")
    fake.module(b"/usr/lib/libx.so", 0x400000, 0x500000)
    fake.module(b"/tmp/a b\n(deleted)", 0x500000, 0x600000)
    return with_devices(fake)


HONEST = honest()
HEAD: Any = HONEST[: layout.CONTROL.itemsize].view(layout.CONTROL)[0]
SIZE = len(HONEST)


def leaves(dtype: Any, at: int = 0) -> list[tuple[int, int]]:
    """Offset and width of every number in a record."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [x for k in range(int(np.prod(shape))) for x in leaves(base, at + k * base.itemsize)]
    if dtype.names:
        return [x for n in dtype.names for x in leaves(dtype.fields[n][0], at + dtype.fields[n][1])]
    return [(at, dtype.itemsize)]


CONTROL = leaves(layout.CONTROL)


def tables() -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Where rows begin, their distance, and the numbers in them."""
    c = HEAD
    arrays = [int(entry["offset"]) for entry in c["directory"]]
    stacks = arrays[layout.STACKS] + layout.STACK_LOST_MAX * 8
    sites, live = (int(c[name]["level"][0]["offset"]) for name in ("sites", "live"))
    rows = sites + 8 * int(c["sites"]["level"][0]["rows"])
    return [
        (stacks, 24, leaves(layout.STACK)),
        (sites, 8, [(0, 8)]),
        (rows, layout.SITE_ROW.itemsize, leaves(layout.SITE_ROW)),
        (live, layout.LIVE_ROW.itemsize, leaves(layout.LIVE_ROW)),
        (arrays[layout.MODULES], layout.MODULE.itemsize, leaves(layout.MODULE)),
        (arrays[layout.THREADS], layout.THREAD.itemsize, leaves(layout.THREAD)),
        (stacks, 8, [(0, 8), (8, 4)]),
        (arrays[layout.DOMAINS], layout.DOMAIN.itemsize, leaves(layout.DOMAIN)),
        (arrays[layout.MARKS], layout.MARK.itemsize, leaves(layout.MARK)),
        (int(c["device_sites"]["level"][0]["offset"]), 8, [(0, 8)]),
        (
            int(c["device_sites"]["level"][0]["offset"]) + 8 * DEVICE_ROWS,
            layout.DEVICE_SITE_ROW.itemsize,
            leaves(layout.DEVICE_SITE_ROW),
        ),
    ]


TABLES = tables()


def pieces() -> list[tuple[int, bytes]]:
    """The pages of the honest segment that are not empty, neighbours together."""
    found: list[tuple[int, bytes]] = []
    for at in range(0, SIZE, PAGE_BYTES):
        page = HONEST[at : at + PAGE_BYTES]
        if page.any() and found and found[-1][0] + len(found[-1][1]) == at:
            found[-1] = (found[-1][0], found[-1][1] + page.tobytes())
        elif page.any():
            found.append((at, page.tobytes()))
    return found


class Image:
    """The segment in a file, honest again before each input; empty pages are holes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.pieces = pieces()

    def used_bytes(self) -> int:
        return os.fstat(self.fd).st_blocks * 512

    def patch(self, data: bytes) -> None:
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, SIZE)
        for at, piece in self.pieces:
            os.pwrite(self.fd, piece, at)
        whole = data[: len(data) // PATCH.size * PATCH.size]
        for row in itertools.islice(PATCH.iter_unpack(whole), MOST_PATCHES):
            self._apply(*row)

    def _apply(  # noqa: PLR0917 - the fields of a patch in their order
        self, at: int, words: int, distance: int, width: int, value: int, step: int
    ) -> None:  # fmt: skip
        width = 4 if width == 4 else 8
        at, distance = at % SIZE, max(distance, width)
        words = min(words, MOST_WORDS, (SIZE - at) // distance)
        if words == 0:
            return
        block = np.frombuffer(os.pread(self.fd, words * distance, at), np.uint8).copy()
        numbers = np.arange(words).astype(np.uint64) * np.uint64(step & (1 << 64) - 1)
        numbers += np.uint64(value & (1 << 64) - 1)
        block.reshape(words, distance)[:, :width] = numbers.view(np.uint8).reshape(words, 8)[
            :, :width
        ]
        os.pwrite(self.fd, block.tobytes(), at)


def read(path: Path, *, recorded: bool) -> None:
    with Segment.open(path, writable=False) as segment:
        control = segment.control()
        readings = None
        if recorded:
            recorder = Recorder(segment, 2**22 + 1)
            recorder.tick(START_NS + 10**9, final=True)
            readings = recorder.readings
        collect.read_threads(segment, control)
        for one in build(segment, Target(None), Ending("recovered", "unknown"), readings):
            profile = read_bytes(write_heap(one), "x.heap")
            if profile.incomplete:
                raise Finding(f"our own file is not whole: {profile.incomplete}")


def one(data: bytes) -> None:
    if not data:
        return
    IMAGE.patch(data[1:])
    if data[0] & 2:
        os.ftruncate(IMAGE.fd, int.from_bytes(data[1:5], "little") % (2 * SIZE))
    read(IMAGE.path, recorded=bool(data[0] & 1))


def one_patch(rng: random.Random) -> bytes:
    value = number(rng)
    value = value - (1 << 64) if value >= 1 << 63 else value
    if rng.random() < 0.5:
        at, width = rng.choice(CONTROL)
        return PATCH.pack(at, 1, width, width, value, 0)
    start, distance, fields = rng.choice(TABLES)
    at, width = rng.choice(fields)
    words = rng.choice([1, 1, 2, 6, 100, 1000, 100000])
    first = rng.choice([0, 0, 1, 2, 5]) * distance
    if rng.random() < 0.3:  # a key of a stack that may be there
        value = site_key(layout.STACK_LOST_MAX + rng.randrange(1 << rng.randrange(1, 17)),
                         rng.randrange(64))  # fmt: skip
    step = rng.choice([0, 0, 1, 2, 8, 1 << 26, 4096])
    return PATCH.pack(start + first + at, words, distance, width, value, step)


def mutate(data: bytes, most: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if not data or rng.random() < 0.1:
        return bytes(atheris.Mutate(data, most))
    head = bytes([rng.randrange(4) if rng.random() < 0.2 else data[0] & 1])
    parts = [data[k : k + PATCH.size] for k in range(1, len(data) - PATCH.size + 1, PATCH.size)]
    for _ in range(rng.choice([1, 1, 2, 3])):
        if parts and rng.random() < 0.3:
            parts.pop(rng.randrange(len(parts)))
        else:
            parts.insert(rng.randrange(len(parts) + 1), one_patch(rng))
    return (head + b"".join(parts[:MOST_PATCHES]))[:most]


if __name__ == "__main__":
    IMAGE = Image(Path("segment").absolute())
    fuzz(one, (MemError,), mutate, lambda _: IMAGE.used_bytes())
