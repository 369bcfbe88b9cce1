"""Collapsed stacks: `outermost;...;innermost VALUE` per line; values count as bytes in use,
whatever the writer counted. Some writers (heaptrack) end the stack with `;`.

The format has names only, so every distinct name gets a made-up address. It has one number per
stack, hence neither blocks nor error bars: a line counts as one block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.allowance import MemoryAllowance
from mem_parser.model import Profile
from mem_parser.readers.build import COUNT_LIMIT, ProfileBuilder
from mem_parser.symbols.demangle import demangled, is_mangled, printable, without_tail
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)

_VALUE = re.compile(r"(\d{1,20})(?:\.\d{1,20})?", re.ASCII)
_BLANKS = " \t\r\n\f\v"
_NAME_BYTES = 700
_GO_MAIN = "main.main"


def looks_like_collapsed(head: bytes) -> bool:
    """Tell whether a file with this start has collapsed stacks: all of its whole lines are stacks,
    and some stack has more than one frame.
    """
    text = head.decode("utf-8", "replace")
    lines = [x for x in text[: text.rfind("\n") + 1].splitlines() if x.strip()]
    return (
        "\0" not in text
        and bool(lines)
        and all(_parts_of(x) for x in lines)
        and any(";" in x for x in lines)
    )


def read_collapsed(lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` with the line."""
    builder = ProfileBuilder(path, allowance)
    names = _Names(builder, allowance)
    incomplete: str | None = None
    for number, raw in enumerate(lines, start=1):
        line = raw.decode("utf-8", "replace")
        found = _parts_of(line)
        if found is None or not raw.endswith(b"\n"):
            if line.strip() and incomplete is None:
                cut = not raw.endswith(b"\n")
                incomplete = (
                    f"it ends within line {number}"
                    if cut
                    else f"line {number} is no stack with a number"
                )
            continue
        stack, size = found
        if size > COUNT_LIMIT:
            builder.fail(number, "a value is too large")
        builder.add(names.intern(stack), (1, size, 1, size), number)
    return Profile(
        format="collapsed stacks",
        rate_bytes=1.0,
        stacks=builder.stacks(leaf_exact=True),
        sites=builder.sites(),
        has_alloc=False,
        exact_samples=False,
        sampling="rate unknown",
        incomplete=incomplete,
        warnings=["collapsed stacks hold no numbers of blocks; each line counts as one"],
        embedded=names.embedded(),
    )


def _parts_of(line: str) -> tuple[str, int] | None:
    """Return stack and value of a line; None if it has another form."""
    text = line.rstrip(_BLANKS)
    at = max(text.rfind(blank) for blank in _BLANKS)
    match = _VALUE.fullmatch(text, at + 1)
    stack = text[: max(at, 0)].rstrip(_BLANKS)
    return (stack, int(match[1])) if match and stack and stack[0] not in _BLANKS else None


class _Names:
    """A made-up address for every distinct name."""

    def __init__(self, builder: ProfileBuilder, allowance: MemoryAllowance) -> None:
        self._builder = builder
        self._allowance = allowance
        self._addresses: dict[str, int] = {}

    def intern(self, stack: str) -> int:
        """Return the index of a stack; addresses of all frames but the innermost are one higher."""
        names = stack.removesuffix(";").split(";")
        frames = []
        for k, name in enumerate(reversed(names)):
            address = self._address(name.strip() or "[unknown]")
            frames.append(f"{address + (k > 0):x}")
        return self._builder.intern(" ".join(frames).encode())

    def _address(self, name: str) -> int:
        address = self._addresses.get(name)
        if address is None:
            self._allowance.take(_NAME_BYTES + 8 * len(name))
            address = self._addresses[name] = FIRST_INVENTED + 2 * len(self._addresses)
        return address

    def _shown(self, name: str) -> str:
        # A Go function may be called `main.cold`.
        return printable(name if _GO_MAIN in self._addresses else without_tail(name))

    def embedded(self) -> EmbeddedNames:
        """Return the names by their addresses."""
        frames: dict[tuple[int, int], Frames] = {}
        known = demangled(text for text in self._addresses if is_mangled(text))
        for text, address in self._addresses.items():
            short, full = known.get(text) or (self._shown(text), printable(text))
            frames[NO_MODULE, address] = (EmbeddedFrame(short, full),)
        return EmbeddedNames(frames)
