"""Files packed with gzip: unpacked piece by piece, as often as a reader wants them.

Gzip shrinks repetition up to a thousand times, so the text of a heap file is never held as a whole:
a first pass keeps what follows its records, and a second one gives the records to a reader that
wants them. A file that unpacks to far more than a capture writes is refused.
"""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

from mem_parser.allowance import VARIABLE, MemoryAllowance, unpacked_bytes
from mem_parser.errors import InputFileError
from mem_parser.heapfile.form import GZIP_MAGIC
from mem_parser.heapfile.reader import MAPS_MARK, SECTION_MARK

_GZIP_BITS = 31
_AT_A_TIME = 1 << 20
_FED_BYTES = 1 << 16
_LONGEST_LINE = 1 << 20
_SHRINKS, _FREE_BYTES = 8, 64 << 20
"""How much of the unpacked data counts as stored: so many times the file; of a heap file's text at
least this much, which deep recursion shrinks by far more."""
_LONGEST_MARK = max(len(MAPS_MARK), len(SECTION_MARK))


class Packed:
    """A packed file. ``name`` is its name in errors; ``cut`` tells, after a whole pass, whether it
    ends too early.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self.name = name
        self.cut = False
        self._most_bytes = unpacked_bytes(len(data))

    def parts(self) -> Iterator[bytes]:
        """Yield what is in it, a megabyte at a time. Raises `InputFileError`."""
        size = 0
        for part in self._unpacked():
            size += len(part)
            if size > self._most_bytes:
                self._refuse()
            yield part

    def _unpacked(self) -> Iterator[bytes]:
        whole = rest = memoryview(self._data)
        while rest[:2] == GZIP_MAGIC:
            engine = zlib.decompressobj(_GZIP_BITS)
            try:
                while not engine.eof and rest:
                    fed, rest = rest[:_FED_BYTES], rest[_FED_BYTES:]
                    yield from _drained(engine, fed)
            except zlib.error as error:
                raise InputFileError(f"{self.name}: bad gzip data ({error})") from error
            self.cut = not engine.eof
            rest = whole[len(whole) - len(rest) - len(engine.unused_data) :]
        # Zeros may follow, as some tapes and file systems leave them.
        if not self.cut and bytes(rest).strip(b"\0"):
            raise InputFileError(f"{self.name}: bad gzip data (it goes on with something else)")

    def lines(self, end: int) -> Iterator[bytes]:
        """Yield the lines up to byte ``end`` of what is in it. Raises `InputFileError` for a line
        too long to be one.
        """
        start, rest = 0, b""
        for part in self.parts():
            data = rest + part[: max(end - start - len(rest), 0)]
            whole = data.rfind(b"\n") + 1
            yield from io.BytesIO(data[:whole])
            start, rest = start + whole, data[whole:]
            if len(rest) > _LONGEST_LINE:
                raise InputFileError(f"{self.name}: a line at byte {start} has no end")
        if rest:
            yield rest

    def whole(self, allowance: MemoryAllowance) -> bytes:
        """Return all that is in it. Raises `InputFileError`, also for a file that is cut."""
        data = _joined(self.parts(), allowance)
        allowance.grow(min(len(data), _SHRINKS * len(self._data)))
        if self.cut:
            raise InputFileError(f"{self.name}: bad gzip data (it ends too early)")
        return data

    def after_records(self, allowance: MemoryAllowance) -> tuple[bytes, int]:
        """Return what follows the records of a heap file, and the byte at which that begins: the
        end, if nothing does. Raises `InputFileError`.
        """
        start, rest, parts = 0, b"", self.parts()
        tail: Iterable[bytes] = ()
        for part in parts:
            data = rest + part
            found = [at for mark in (MAPS_MARK, SECTION_MARK) if (at := data.find(mark)) >= 0]
            if found:
                start += min(found)
                rest = b""
                tail = itertools.chain((data[min(found) :],), parts)
                break
            rest = data[-_LONGEST_MARK:]
            start += len(data) - len(rest)
        start += len(rest)
        after = _joined(tail, allowance)
        text = max(_SHRINKS * len(self._data), _FREE_BYTES)
        allowance.grow(min(start + len(after), text))
        return after, start

    def _refuse(self) -> NoReturn:
        stored, most = len(self._data) / (1 << 20), self._most_bytes / (1 << 30)
        raise InputFileError(
            f"{self.name}: its {stored:.1f} MiB unpack to more than {most:.1f} GiB",
            hint=f"no capture makes such a file; if you trust it, set {VARIABLE}=8G",
        )


def _drained(engine: zlib._Decompress, fed: memoryview) -> Iterator[bytes]:
    """Yield all that these bytes unpack to, up to the end of the engine's stream."""
    left: memoryview | bytes = fed
    more = True
    while more and not engine.eof:
        part = engine.decompress(left, _AT_A_TIME)
        if part:
            yield part
        left = engine.unconsumed_tail
        more = bool(left) or len(part) == _AT_A_TIME


def _joined(parts: Iterable[bytes], allowance: MemoryAllowance) -> bytes:
    kept: list[bytes] = []
    with allowance.lent():
        for part in parts:
            allowance.take(2 * len(part))  # once for the part, once for the joined bytes
            kept.append(part)
    data = b"".join(kept)
    allowance.take(len(data))
    return data
