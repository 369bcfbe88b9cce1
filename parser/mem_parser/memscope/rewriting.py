"""A dump as CSV with another Attr in some rows: all other bytes stay as they are."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice, tee

from mem_parser.memscope import csvfile
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import COLUMNS

Change = Callable[[str], str]
"""Makes the new text of an Attr from the old one."""
_FIELD = r'(?:"[^"]*(?:""[^"]*)*"|(?!")[^,\r\n]*)'
_AT_ONCE = 1024
_COPIED_CHARS = 1 << 20


def rewritten(path: str, changes: Mapping[int, Change]) -> Iterator[bytes]:
    """Yield the bytes of a file, in pieces, with the Attr of some rows changed.

    ``changes`` goes by the number of a row, from 1 on. A row whose text stays the same stays as it
    is. Raises `DumpError`.
    """
    for text in _rewritten(path, changes):
        yield text.encode("utf-8", "surrogateescape")


def _rewritten(path: str, changes: Mapping[int, Change]) -> Iterator[str]:
    with csvfile.opened(path) as file:
        lines, kept = tee(iter(partial(file.readline, csvfile.LINE_MAX_CHARS), ""))
        reader = csv.reader(lines)
        place = csvfile.header(csvfile.checked(reader, path), path)[COLUMNS.index("Attr")] or 0
        field = re.compile(rf"((?:{_FIELD},){{{place}}}){_FIELD}(?=[,\r\n]|$)")
        wanted = deque(sorted(changes))
        told = done = 0
        while wanted:
            parts: list[str] = []
            chars, last = 0, done + _AT_ONCE
            with csvfile.long_fields(), csvfile.understood(reader, path):
                while wanted and done < last and chars < csvfile.CHUNK_MAX_CHARS:
                    before = reader.line_num
                    row = next(reader, None)
                    if row is None or (done + 1 == wanted[0] and 0 < len(row) <= place):
                        raise DumpError(f"{path}: changed while it was read")
                    done += bool(row)
                    chars += sum(map(len, row))
                    if not row or done != wanted[0]:
                        continue
                    parts += islice(kept, before - told)
                    own = "".join(islice(kept, reader.line_num - before))
                    told = reader.line_num
                    new = changes[wanted.popleft()](row[place])
                    parts.append(
                        own if new == row[place] else _changed(own, row, place, new, field)
                    )
            parts += islice(kept, reader.line_num - told)
            told = reader.line_num
            yield "".join(parts)
        yield "".join(islice(kept, reader.line_num - told))
        yield from iter(partial(file.read, _COPIED_CHARS), "")


def _changed(own: str, row: list[str], place: int, new: str, field: re.Pattern[str]) -> str:
    """Return the lines of a row with another text in one field."""
    found = field.match(own)
    if found is not None:
        return f"{found[1]}{csvfile.quoted(new)}{own[found.end() :]}"
    ending = "\r\n" if own.endswith("\r\n") else "\n"
    row[place] = new
    return csvfile.row_text(row, place) + ending
