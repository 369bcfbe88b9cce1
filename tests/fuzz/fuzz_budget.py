"""Budget files and baselines: read, applied to hostile names, refused in one line."""

from __future__ import annotations

import os
import random
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mem_parser"]):
    from mem_parser.budget import baseline
    from mem_parser.budget.file import load
    from mem_parser.errors import MemError, one_line

from forging import HOSTILE, change_lines, change_number, insert_text, mutator, text
from harness import Finding, fuzz

WORDS = [
    "[budget]", "[target.x]", '[target."*a*a*a*b"]', "[[budget.site]]", "[run]", "peak", "inuse",
    "growth", "leaks", "alloc_rate", '= "1 MiB"', '= "5 %"', '= "1e400 GiB"', '= "-1"', '= "0"',
    "= 1e308", "= true", "= [[[[]]]]", '= {a = "b"}', 'match = "module:x"',
    'match = "function:(a+)+$"',
    'match = "function:(?:(?:x{1000}){1000}){1000}"', 'match = "own:["', 'include = "x.toml"',
    'include = ["pipe"]', 'include = "/dev/zero"', 'include = "."', 'tolerance = "1 KiB"',
    "tries = 99999999999999999999", 'rate = "1"', 'baseline = "pipe"', 'suppressions = ["pipe"]',
    '"\\u0000"', "'''", '"""', "a.a.a.a = 1", "2020-01-01T00:00:00Z", "0x_", "\r\n", "\ufeff",
]  # fmt: skip


def one(data: bytes) -> None:
    if data.startswith(b"mem_parser baseline"):
        path = FOLDER / "x.baseline"
        path.write_bytes(data)
        found = baseline.read(str(path))
        baseline.read_or_empty(str(path))
        again = baseline.render(found)
        (FOLDER / "again.baseline").write_text(again, encoding="utf-8")
        try:
            once_more = baseline.read(str(FOLDER / "again.baseline"))
        except MemError as error:
            raise Finding(f"our own baseline is refused: {error}") from error
        # Names are written as a line can hold them.
        written = {one_line(name).strip() or "-" for name in found.programs}
        if set(once_more.programs) != written:
            raise Finding("a baseline that was written again is of other programs")
        return
    path = FOLDER / "x.toml"
    path.write_bytes(data)
    try:
        budget = load(path)
    except MemError as error:
        if not str(error).isprintable() or not (error.hint or "").isprintable():
            raise Finding(f"a message that a terminal acts on: {error!r}") from None
        raise
    for name in ("x", "server", *HOSTILE):
        budget.for_program(name)
    _ = budget.every_budget


def insert_word(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice([0, len(data), rng.randrange(len(data) + 1), data.rfind(b"\n") + 1])
    word = rng.choice(WORDS) + rng.choice(["", " ", "\n"])
    return data[:at] + word.encode("utf-8", "surrogatepass") + data[at:]


def change_text(rng: random.Random, data: bytes) -> bytes:
    """Put a hostile text between quotes."""
    quotes = [k for k, c in enumerate(data) if c == ord('"')]
    if len(quotes) < 2:
        return insert_word(rng, data)
    k = rng.randrange(len(quotes) - 1)
    new = text(rng).replace('"', "'").replace("\\", "/").encode("utf-8", "replace")
    return data[: quotes[k] + 1] + new + data[quotes[k + 1] :]


def nest(rng: random.Random, data: bytes) -> bytes:
    """Repeat what opens something."""
    piece = rng.choice([b"[", b"{a=", b"a.", b"[[x]]\n", b'"', b"include = []\n"])
    return data + piece * rng.choice([3, 1000, 20000])


if __name__ == "__main__":
    FOLDER = Path(os.getcwd())
    os.mkfifo(FOLDER / "pipe")
    steps = [insert_word, insert_word, change_text, change_number, change_lines, insert_text, nest]
    fuzz(one, (MemError,), mutator(steps))
