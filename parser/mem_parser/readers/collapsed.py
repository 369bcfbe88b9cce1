"""Collapsed stacks: `outermost;...;innermost VALUE` per line, values taken for bytes in use.

The format holds names only, so every distinct name gets an invented address. It holds one number
per stack, hence neither blocks nor error bars: a line counts as one block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.model import Profile
from mem_parser.readers.build import COUNT_LIMIT, ProfileBuilder
from mem_parser.symbols.demangle import demangled, is_mangled, printable
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)

_LINE = re.compile(r"(\S.*?)\s+(\d{1,20})(?:\.\d{1,20})?\s*$", re.ASCII)


def looks_like_collapsed(head: bytes) -> bool:
    """Tell whether a file that begins so holds collapsed stacks: all of its whole lines do, and
    some stack has more than one frame.
    """
    text = head.decode("utf-8", "replace")
    lines = [x for x in text[: text.rfind("\n") + 1].splitlines() if x.strip()]
    return (
        "\0" not in text
        and bool(lines)
        and all(_LINE.match(x) for x in lines)
        and any(";" in x for x in lines)
    )


def read_collapsed(lines: Iterator[bytes], path: str) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` naming the line."""
    builder = ProfileBuilder(path)
    addresses: dict[str, int] = {}
    incomplete: str | None = None
    for number, raw in enumerate(lines, start=1):
        line = raw.decode("utf-8", "replace")
        match = _LINE.match(line)
        if match is None or not raw.endswith(b"\n"):
            if line.strip() and incomplete is None:
                cut = not raw.endswith(b"\n")
                incomplete = f"it ends within line {number}" if cut else f"line {number} is none"
            continue
        size = int(match[2])
        if size > COUNT_LIMIT:
            builder.fail(number, "a value is too large to be one")
        builder.add(_intern(builder, addresses, match[1]), (1, size, 1, size), number)
    return Profile(
        format="collapsed stacks",
        rate_bytes=1.0,
        stacks=builder.stacks(leaf_exact=True),
        sites=builder.sites(),
        since_start=True,
        has_alloc=False,
        exact_samples=False,
        incomplete=incomplete,
        warnings=["collapsed stacks hold no numbers of blocks; each line counts as one"],
        embedded=_names(addresses),
    )


def _intern(builder: ProfileBuilder, addresses: dict[str, int], stack: str) -> int:
    """Return the index of a stack of names; all frames but the innermost lie one byte further."""
    frames = []
    for k, name in enumerate(reversed(stack.split(";"))):
        text = name.strip() or "[unknown]"
        address = addresses.setdefault(text, FIRST_INVENTED + 2 * len(addresses))
        frames.append(f"{address + (k > 0):x}")
    return builder.intern(" ".join(frames).encode())


def _names(addresses: dict[str, int]) -> EmbeddedNames:
    frames: dict[tuple[int, int], Frames] = {}
    known = demangled(text for text in addresses if is_mangled(text))
    for text, address in addresses.items():
        short, full = known.get(text) or (printable(text),) * 2
        frames[NO_MODULE, address] = (EmbeddedFrame(short, full),)
    return EmbeddedNames(frames)
