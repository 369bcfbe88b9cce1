"""Logs of events: read, replayed, shown as profiles. Blocks are forged with right checksums."""

from __future__ import annotations

import os
import random
import struct
import tempfile
import zlib

import atheris
import numpy as np

with atheris.instrument_imports(include=["mem_parser"]):
    from mem_parser.errors import MemError
    from mem_parser.memlog.blocks import HEAD, HEAD_BYTES, START, BadBlockError, parse_head, unpack
    from mem_parser.memlog.launches import Launches
    from mem_parser.memlog.lifetimes import lifetimes
    from mem_parser.memlog.moments import live_at, peaks
    from mem_parser.memlog.run import read_log
    from mem_parser.memlog.series import series
    from mem_parser.memlog.window import window
    from mem_parser.memscope.launchrows import rows_of
    from mem_parser.memscope.logtail import LogTail
    from mem_parser.model import Count, Unit

from forging import change_number, insert_text, mutator, number
from harness import Finding, fuzz

FLOOR_BYTES = 512 << 20
"""Events that wait to be ordered take up to 300 MiB."""
INTERVAL_NS = 1 << 30


def one(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=os.getcwd(), suffix=".memlog") as file:
        file.write(data)
        file.flush()
        follow(file.name)
        with read_log([file.name]) as run:
            for found in series(run, INTERVAL_NS, jobs=1):
                peaks(found, 3)
            if run.keyframes:
                live_at(run, [run.keyframes[0].time_ns, run.end_ns])
            profile = window(run)
            if not profile.total(Count.PEAK, Unit.SPACE).value >= 0:
                raise Finding("a peak below 0")
            if lifetimes(run, jobs=1).allocated().blocks.sum() < 0:
                raise Finding("less than no block was allocated")


def follow(name: str) -> None:
    """As the conversion into dumps does."""
    tail = LogTail(paths=[name])
    try:
        for log, piece in tail.take(final=True):
            if isinstance(piece, Launches):
                rows = rows_of(piece, log.tables.texts, np.zeros(1, np.int64), 1)
                if not all(row.name.isprintable() for row in rows):
                    raise Finding("a name of a launch that is not on one line")
    finally:
        tail.close()


def blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The head and what is in it, unpacked, of each block."""
    found, at = [], START.size
    while (head := parse_head(data[at : at + HEAD_BYTES])) is not None:
        stored = data[at + HEAD_BYTES : at + HEAD_BYTES + head.stored_bytes]
        try:
            found.append((data[at : at + HEAD.size], unpack(head, stored)))
        except BadBlockError:
            break
        at += HEAD_BYTES + head.stored_bytes
    return found


def joined(start: bytes, parts: list[tuple[bytes, bytes]]) -> bytes:
    data = [start]
    for head, payload in parts:
        fields = list(HEAD.unpack(head))
        fields[2] = 0
        fields[5] = fields[6] = len(payload)
        fields[10] = zlib.crc32(payload)
        changed = HEAD.pack(*fields)
        data += [changed, struct.pack("<I", zlib.crc32(changed)), payload]
    return b"".join(data)


def forge_head(rng: random.Random, data: bytes) -> bytes:
    """Change a field of a head: kind, flags, rows, times."""
    parts = blocks(data)
    if not parts:
        return data
    at = rng.randrange(len(parts))
    fields = list(HEAD.unpack(parts[at][0]))
    which, bits = rng.choice([(1, 4), (3, 1), (4, 20), (8, 63), (9, 63), (8, 30), (9, 30)])
    fields[which] = number(rng) & (1 << bits) - 1
    if which >= 8 and rng.random() < 0.1:
        fields[which] = -fields[which]
    parts[at] = (HEAD.pack(*fields), parts[at][1])
    return joined(data[: START.size], parts)


def forge_payload(rng: random.Random, data: bytes) -> bytes:
    """Change what is in a block: bytes, the head of a column, text."""
    parts = blocks(data)
    if not parts:
        return data
    at = rng.randrange(len(parts))
    head, payload = parts[at]
    kind = rng.randrange(5)
    place = rng.randrange(len(payload) + 1)
    if kind == 0:
        value = number(rng).to_bytes(8, "little")[: rng.choice([1, 2, 4, 8])]
        payload = payload[:place] + value + payload[place + len(value) :]
    elif kind == 1:
        payload = payload[:place]
    elif kind == 2:
        payload = change_number(rng, payload)
    elif kind == 3:
        payload = insert_text(rng, payload)
    else:
        count = rng.choice([1, 5, 1 << 10, 1 << 18, 1 << 20, 1 << 31])
        column = struct.pack("<BBBxIQ", rng.choice([0, 1]), 0, rng.choice([0, 63]), count, place)
        payload = payload[:place] + column + payload[place + rng.choice([0, 16]) :]
    parts[at] = (head, payload)
    return joined(data[: START.size], parts)


def move_blocks(rng: random.Random, data: bytes) -> bytes:
    """Leave out, double or move blocks."""
    parts = blocks(data)
    if len(parts) < 2:
        return data
    at, to = rng.randrange(len(parts)), rng.randrange(1, len(parts))
    block = parts.pop(at) if rng.random() < 0.6 else parts[at]
    if rng.random() < 0.7:
        parts[to:to] = [block] * rng.choice([1, 1, 3, 30])
    return joined(data[: START.size], parts)


if __name__ == "__main__":
    steps = [forge_head, forge_payload, forge_payload, forge_payload, move_blocks]
    fuzz(one, (MemError,), mutator(steps), floor_bytes=FLOOR_BYTES)
