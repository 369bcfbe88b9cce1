"""Perf maps and jitdumps: any bytes name the asked addresses or nothing."""

from __future__ import annotations

import io
import random

import atheris
import numpy as np

with atheris.instrument_imports(include=["mem_parser"]):
    from mem_parser.symbols.jit_symbols import MadeCode

from forging import change_lines, change_number, insert_text, mutator
from harness import Finding, fuzz

WORDS = [
    "1000 20 f\n", "0x1000 0x20 f g\n", "JS:*f /x.js:1:2", "JS:~ node:x:1:1", "void a.B.c(int)",
    "\0", "\x1b[31m", "ffffffffffffffff ", "-1 ", "DTiJ", " ", "\n", ":", ".", "(", ")",
]  # fmt: skip
ASKED = np.array([0, 1, 0x1000, 0x1008, 0x7F0000001000, (1 << 64) - 1], dtype=np.uint64)


def one(data: bytes) -> None:
    made = MadeCode(ASKED)
    made.read(io.BytesIO(data))
    frames = made.frames()
    if not set(frames) <= set(ASKED.tolist()):
        raise Finding("an address that nobody asked for")
    for frame in frames.values():
        if not frame.full_name.isprintable() or not frame.name or frame.file:
            raise Finding(f"a name that is none: {frame!r}")


def insert_word(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice([0, len(data), rng.randrange(len(data) + 1), data.rfind(b"\n") + 1])
    return data[:at] + rng.choice(WORDS).encode() + data[at:]


if __name__ == "__main__":
    fuzz(one, (), mutator([insert_word, insert_word, change_number, change_lines, insert_text]))
