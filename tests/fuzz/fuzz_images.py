"""ELF images in the memory of a hostile process, and the text of its mappings.

An input is the text of /proc/PID/maps, a zero byte, and the memory from `BASE` on.
"""

from __future__ import annotations

import random
import struct

import atheris

with atheris.instrument_imports(include=["mem_parser", "mem_profiler"]):
    from mem_parser.errors import MemError
    from mem_profiler.attach.images import Image, images_of
    from mem_profiler.process import procfs

from forging import change_lines, change_number, insert_text, mutator, number
from harness import Finding, fuzz

BASE = 0x7F0000000000
MOST_ASKED_BYTES = 1 << 27
NAMES = ("malloc", "free", "dlopen", "pthread_create", "no_such_function", "")
MOST_IMAGES = 8
MOST_READS = 250_000
DYNAMIC_BYTES = 16


class Memory:
    """The memory of a process that is not there; it counts how often it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.pid = 1
        self.reads = 0

    def try_read(self, address: int, size: int) -> bytes | None:
        self.reads += 1
        if size > MOST_ASKED_BYTES:
            raise Finding(f"{size} bytes were asked for at once")
        if self.reads > MOST_READS:
            raise Finding("memory is read without end")
        at = address - BASE
        if size < 0 or not 0 <= at <= len(self.data) - size:
            return None
        return self.data[at : at + size]

    def read(self, address: int, size: int) -> bytes:
        found = self.try_read(address, size)
        if found is None:
            raise OSError(5, "not mapped")
        return found


def search(image: Image) -> None:
    for name in NAMES:
        image.find(name)
        image.address_of(name)
    image.slot_of(("malloc", "free"))
    _ = (image.start, image.end, image.name, image.build_id.hex())


def one(data: bytes) -> None:
    text, _, content = data.partition(b"\0")
    memory = Memory(content)
    mappings = procfs.parse_maps(text)
    # The kernel escapes newlines in paths, and nothing else.
    if len(mappings) > sum(bool(line.strip()) for line in text.split(b"\n")):
        raise Finding("one line of the mappings was read as several")
    for image in images_of(mappings, memory)[:MOST_IMAGES]:  # type: ignore[arg-type]
        memory.reads = 0
        search(image)


def apart(data: bytes) -> tuple[bytes, bytearray]:
    text, _, content = data.partition(b"\0")
    return text, bytearray(content)


def forge_maps(rng: random.Random, data: bytes) -> bytes:
    text, content = apart(data)
    step = rng.choice([change_number, change_lines, insert_text])
    return step(rng, text).replace(b"\0", b"0") + b"\0" + bytes(content)


def forge_word(rng: random.Random, data: bytes) -> bytes:
    """Change a word of the headers, of the dynamic section or anywhere."""
    text, content = apart(data)
    if len(content) < 128:
        return data
    places = [16 + 2 * k for k in range(24)] + [64 + 8 * k for k in range(7 * 8)]
    for k in range(12):
        row = 64 + 56 * k
        if row + 56 <= len(content) and struct.unpack_from("<I", content, row)[0] == 2:
            at = struct.unpack_from("<Q", content, row + 16)[0]
            places += [at + 8 * n for n in range(60)] * 2
    at = rng.choice(places) if rng.random() < 0.7 else rng.randrange(len(content))
    width = rng.choice([2, 4, 8, 8])
    value = number(rng) + rng.choice([0, 0, BASE])
    if at + width <= len(content):
        content[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return text + b"\0" + bytes(content)


def forge_dynamic(rng: random.Random, data: bytes) -> bytes:
    """Let a table of the dynamic section begin elsewhere in the memory."""
    text, content = apart(data)
    for k in range(12):
        row = 64 + 56 * k
        if row + 56 <= len(content) and struct.unpack_from("<I", content, row)[0] == 2:
            at = struct.unpack_from("<Q", content, row + 16)[0]
            at += DYNAMIC_BYTES * rng.randrange(24)
            if at + DYNAMIC_BYTES <= len(content):
                tag = rng.choice([2, 4, 5, 6, 7, 10, 20, 23, 0x6FFFFEF5])
                value = rng.choice([number(rng), BASE + rng.randrange(len(content))])
                struct.pack_into("<QQ", content, at, tag, value & (1 << 64) - 1)
    return text + b"\0" + bytes(content)


if __name__ == "__main__":
    fuzz(one, (MemError,), mutator([forge_maps, forge_word, forge_word, forge_dynamic]))
