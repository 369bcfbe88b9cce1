"""Values and texts that break things, and the pieces from which mutators are made."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import atheris

NUMBERS = [
    0, 1, 2, 3, 7, 8, 15, 16, 24, 64, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 10**6, 10**9,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**47, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 8,
    2**64 - 1,
]  # fmt: skip
HOSTILE = [
    "", " ", "::error::x", "\n::warning file=a,line=1::x", "\r\n##[error]x", "\x1b]0;x\x07",
    "\x1b[2Jx", "a\x00b", "<script>x</script>", "]]>", "&amp;", "`x`", "|", "a|b\\|c", "@everyone",
    "%0A::error::x", "%25", ",:", "..", "../../etc/passwd", "/dev/zero", "=1+1", "\ufffe", "\ud800",
    "\u202ex", "\u2028x", "\x85x", "\x9bx", "x" * 5000, "a" * 40 + "!", "-", "--", "'\"", "\\",
    "\t", "$(x)", "~", "%s%n", "{}", "[0]", "<details>", "-->", "<!--", "]]", "```", "# x", "__x__",
]  # fmt: skip

Step = Callable[[random.Random, bytes], bytes]


def number(rng: random.Random) -> int:
    """A number that readers meet at their bounds."""
    if rng.random() < 0.2:
        return rng.getrandbits(rng.choice([8, 16, 32, 64]))
    value = rng.choice(NUMBERS) + rng.choice([-1, 0, 0, 0, 1])
    return min(max(0, value), (1 << 64) - 1)


def text(rng: random.Random) -> str:
    """A hostile text, sometimes several."""
    return "".join(rng.choice(HOSTILE) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def change_number(rng: random.Random, data: bytes) -> bytes:
    """Replace one number that is written in digits."""
    found = [m.span() for m in re.finditer(rb"(?:0x[0-9a-fA-F]+|\d+)", data[: 1 << 16])]
    if not found:
        return data
    start, end = rng.choice(found)
    value = number(rng) * rng.choice([1, 1, 1, 10**20])
    written = hex(value) if data[start : start + 2] == b"0x" else str(value)
    return data[:start] + (rng.choice(["", "", "", "-"]) + written).encode() + data[end:]


def change_lines(rng: random.Random, data: bytes) -> bytes:
    """Leave out, double, move or repeat lines."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(to, lines[at])
    elif kind == 2:
        lines[at], lines[to] = lines[to], lines[at]
    elif kind == 3:
        lines[at : at + 1] = [lines[at]] * rng.choice([2, 50, 400])
    else:
        lines = lines[:at]
    return b"".join(lines)


def insert_text(rng: random.Random, data: bytes) -> bytes:
    """Put a hostile text anywhere."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + text(rng).encode("utf-8", "surrogatepass") + data[at + rng.choice([0, 4]) :]


def mutator(steps: list[Step]) -> Callable[[bytes, int, int], bytes]:
    """A mutator that takes a few of the steps, or leaves it to libFuzzer's own."""

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if not data or rng.random() < 0.25:
            return bytes(atheris.Mutate(data, most))
        changed = data
        for _ in range(rng.choice([1, 1, 2, 4])):
            changed = rng.choice(steps)(rng, changed)
        return changed if 0 < len(changed) <= most else bytes(atheris.Mutate(data, most))

    return mutate
