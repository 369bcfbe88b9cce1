"""A dump as CSV with another Attr in some rows: all other bytes stay as they are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from mem_parser.memscope import csvfile
from mem_parser.memscope.csvblocks import ATTR, HEADER, Block, blocks
from mem_parser.memscope.errors import DumpError

Change = Callable[[str], str]
"""Makes the new text of an Attr from the old one."""


def rewritten(path: str, changes: Mapping[int, Change]) -> Iterator[bytes]:
    """Yield the bytes of a file, in pieces, with the Attr of some rows changed.

    ``changes`` goes by the number of a row, from 1 on. A row whose text stays the same stays as it
    is. Raises `DumpError`.
    """
    wanted = sorted(changes)
    done = taken = 0
    with csvfile.plain(path) as file:
        parts = blocks(file)
        first = next(parts, None)
        if first is None or first.offset:
            yield HEADER
        for part in parts if first is None else chain([first], parts):
            if not isinstance(part, Block):
                left = {place: changes[place] for place in wanted[taken:]}
                rest = csvfile.Part(part.offset, None, done)
                for text in csvfile.rewritten(path, left, rest):
                    yield text.encode("utf-8", "surrogateescape")
                return
            behind = bisect_left(wanted, done + len(part) + 1)
            yield _changed(part, done + 1, wanted[taken:behind], changes)
            taken = behind
            done += len(part)
    if taken < len(wanted):
        raise DumpError(f"{path}: changed while it was read")


def _changed(
    block: Block, first_place: int, wanted: Sequence[int], changes: Mapping[int, Change]
) -> bytes:
    """Return the bytes of a block, with changes of the rows with these numbers."""
    data = block.fields.data[: block.size].tobytes()
    parts: list[bytes] = []
    low = 0
    for place in wanted:
        row = place - first_place
        begin, end = int(block.begin[row, ATTR]), int(block.end[row, ATTR])
        old = block.fields.text(begin, end)
        new = changes[place](old)
        if new != old:
            is_quoted = data[begin - 1 : begin] == b'"'
            parts.append(data[low : begin - is_quoted])
            parts.append(csvfile.quoted(new).encode("utf-8", "surrogateescape"))
            low = end + is_quoted
    parts.append(data[low:])
    return b"".join(parts)
