"""Profiles of every format: read from memory and from a file, named, shown as a table, written."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import random
import re
import struct
import tempfile
import zlib
from typing import Any

import atheris

with atheris.instrument_imports(include=["mem_parser"]):
    from mem_parser.errors import MemError
    from mem_parser.heapfile.writer import write_heap
    from mem_parser.model import Count, Profile, Unit
    from mem_parser.names import FrameRule
    from mem_parser.python.splice import spliced
    from mem_parser.python.view import PythonView
    from mem_parser.readers import read_bytes, read_profile
    from mem_parser.reports.aggregate import GroupBy, sum_stacks
    from mem_parser.reports.table import TableOptions, format_table
    from mem_parser.symbols.cache import SymbolCache
    from mem_parser.symbols.symbolizer import name_addresses

from forging import change_lines, change_number, insert_text, mutator, number, text
from harness import READERS_FLOOR_BYTES, Finding, fuzz

COLUMN = re.compile(rb"%column (\S+) (\S+) (\d+) (\d+)\n((?:%\| .*\n)*)")
OBJECT = re.compile(rb"^%(?:header|module|thread|sample) (\{.*\})$", re.MULTILINE)
MOST_UNPACKED = 1 << 18


def show(profile: Profile) -> None:
    # No module is looked up: the names in a file would choose what is opened.
    profile.modules = []
    names = name_addresses(profile, cache=SymbolCache(None), debug_dirs=())
    for view in (PythonView.NATIVE, PythonView.PYTHON):
        spliced(profile, names, view).spell()
    symbols = spliced(profile, names).spell()
    for count in (Count.INUSE, Count.ALLOC) if profile.has_alloc else (Count.INUSE,):
        sums = sum_stacks(
            profile, symbols, count=count, unit=Unit.SPACE, rule=FrameRule.OWN,
            group=GroupBy.FUNCTION,
        )  # fmt: skip
        if not 0 <= sums.total.value < math.inf:
            raise Finding(f"a total of {sums.total.value} bytes")
        for _ in format_table(profile, symbols, sums, TableOptions(count=count)):
            pass


def one(data: bytes) -> None:
    profile = read_bytes(data, "x.heap")
    if len(data) % 4 == 0:
        with tempfile.NamedTemporaryFile(dir=os.getcwd()) as file:
            file.write(data)
            file.flush()
            read_profile(file.name)
    show(profile)
    if len(data) % 4 == 1 and profile.format == "mem_profiler":
        read_bytes(write_heap(profile), "again.heap")


def unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(
            base64.b64decode(packed + b"=" * (-len(packed) % 4)), MOST_UNPACKED
        )
    except (ValueError, zlib.error):
        return b""


def forge_values(rng: random.Random, raw: bytes) -> bytes:
    """Change words of a column, or make it something else."""
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(rng.choice([1 << 10, 1 << 16, 1 << 22]))
    if kind == 1:
        return raw[: rng.randrange(len(raw) + 1)]
    if kind == 2:
        return raw * rng.choice([2, 3, 100])
    width = rng.choice([4, 8])
    if len(raw) < width:
        return raw
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 3])):
        at = rng.randrange(len(raw) // width) * width
        value = number(rng) if rng.random() < 0.9 else 0x7FF8000000000000
        changed[at : at + width] = struct.pack("<Q", value & (1 << 64) - 1)[:width]
    return bytes(changed)


def forge_column(rng: random.Random, data: bytes) -> bytes:
    found = list(COLUMN.finditer(data))
    if not found:
        return data
    column = rng.choice(found)
    name, dtype, count, lines, body = column.groups()
    if rng.random() < 0.7:
        raw = forge_values(rng, unpacked(body.replace(b"%| ", b"").replace(b"\n", b"")))
        packed = base64.b64encode(zlib.compress(raw)).rstrip(b"=")
        parts = [packed[k : k + 4000] for k in range(0, len(packed), 4000)]
        width = {b"<u4": 4, b"|u1": 1}.get(dtype, 8)
        count = str(len(raw) // width).encode() if rng.random() < 0.8 else count
        lines = str(len(parts)).encode()
        body = b"".join(b"%| " + part + b"\n" for part in parts)
    else:
        dtype = rng.choice([b"<u4", b"<u8", b"<f8", b"|u1", b"<c16", b"O", dtype])
        count = str(number(rng)).encode() if rng.random() < 0.5 else count
        name = rng.choice([name, b"x", *(m[1] for m in found)])
    head = b"%column " + b" ".join((name, dtype, count, lines)) + b"\n"
    return data[: column.start()] + head + body + data[column.end() :]


def forge_value(rng: random.Random, value: Any) -> Any:
    """Change one leaf, or its kind."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        changed[key] = forge_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], forge_value(rng, value[at]), *value[at + 1 :]]
    nested: Any = 0
    for _ in range(rng.choice([3, 900])):
        nested = [nested]
    return rng.choice(
        [number(rng), -number(rng), float("nan"), float("inf"), 1e308, -1e-300, None, True,
         text(rng),
         [], {}, [number(rng)] * 50, nested, 10**400]
    )  # fmt: skip


def forge_object(rng: random.Random, data: bytes) -> bytes:
    found = list(OBJECT.finditer(data))
    if not found:
        return data
    place = rng.choice(found)
    try:
        value = forge_value(rng, json.loads(place[1]))
    except (ValueError, RecursionError):
        return data
    written = json.dumps(value).replace("=", "\\u003d").encode()
    return data[: place.start(1)] + written + data[place.end(1) :]


def pack(rng: random.Random, data: bytes) -> bytes:
    """Pack a file, or change what is packed, or pack nearly nothing but zeros."""
    if data[:2] != b"\x1f\x8b":
        filler = b"" if rng.random() < 0.95 else b"\n" * (1 << 16)
        return gzip.compress(data + filler, mtime=0)
    try:
        plain = zlib.decompressobj(31).decompress(data, MOST_UNPACKED)
    except zlib.error:
        return data
    return gzip.compress(rng.choice([forge_wire, change_number, insert_text])(rng, plain), mtime=0)


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(g | 0x80 for g in groups[:-1]), groups[-1]])


def forge_wire(rng: random.Random, data: bytes) -> bytes:
    """Change a message of pprof: put a field somewhere, or repeat a piece many times."""
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.3:
        piece = data[at : at + rng.choice([2, 4, 8, 30])]
        return data[:at] + piece * rng.choice([2, 100, 2000]) + data[at:]
    tag = varint(rng.randrange(1, 16) << 3 | rng.choice([0, 2, 2, 1, 5, 3]))
    return data[:at] + tag + varint(number(rng)) + data[at + rng.choice([0, 2]) :]


if __name__ == "__main__":
    steps = [
        forge_column, forge_column, forge_object, forge_object, change_number, change_lines,
        insert_text, pack, forge_wire,
    ]  # fmt: skip
    fuzz(one, (MemError,), mutator(steps), floor_bytes=READERS_FLOOR_BYTES)
