"""Names of JIT code, from the files in which the runtime lists it.

    perf map   perf-PID.map: lines `START SIZE NAME`, the numbers in hexadecimal digits
               (tools/perf/Documentation/jit-interface.txt of Linux)
    jitdump    jit-PID.dump: records of code that was loaded or moved
               (tools/perf/Documentation/jitdump-specification.txt)

Memory is used again, so of entries over one address the last one counts. The files are hostile: we
read a bounded part of them, in pieces, and keep names of the asked addresses only. Lines and
records that make no sense are left out.
"""

from __future__ import annotations

import bisect
import errno
import math
import re
import struct
import time
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mem_parser.interning import distinct
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import EmbeddedFrame

MOST_BYTES = 128 << 20
"""Of all files of a process; a runtime that makes code for weeks writes less."""
_NAMES_SLACK = 1 << 10
_LONGEST_LINE = 1 << 14
_LONGEST_NAME = 1000
_LARGEST_CODE = 1 << 30
_MOST_ASSIGNED = 1 << 28  # addresses that entries cover, over all entries
_MOST_MOVABLE = 1 << 20  # names kept for records that say that code was moved
_MAGIC = 0x4A695444
_HEADER = struct.Struct("IIIIIIQQ")
_RECORD = struct.Struct("IIQ")
_LOAD, _MOVE = struct.Struct("IIQQQQ"), struct.Struct("IIQQQQQ")
_CODE_LOAD, _CODE_MOVE = 0, 1
_NONE = -1
# V8: the kind of the code, how far it was optimized, the function, its script. No pattern looks
# twice at a part of a name.
_JAVASCRIPT = re.compile(r"(?:JS|LazyCompile|Function|Script|Eval):(?:o?[~^*+'])?")
_SCRIPT = re.compile(r"(?:^| )(?=/|[A-Za-z][\w+.-]*:)")
_POSITION = re.compile(r":\d+:\d+$")
# HotSpot: the type of the result, class and method, types of parameters.
_JAVA = re.compile(r"[\w.$\[\]]+ ([\w.$/+<>-]+\.[\w$<>-]+)\(.*\)")


class MadeCode:
    """Gives names to `addresses` (look-up addresses, in rising order), until `give_up`, a moment of
    the monotonic clock.
    """

    def __init__(self, addresses: npt.NDArray[np.uint64], give_up: float = math.inf) -> None:
        self._give_up = give_up
        self._addresses: list[int] = addresses.tolist()
        self._name_of = np.full(len(addresses), _NONE, dtype=np.int64)
        self._names: dict[str, int] = {}
        self._left = _MOST_ASSIGNED

    def read(self, file: BinaryIO) -> None:
        """Take the entries of a file of either form, up to `MOST_BYTES` of it. Raises OSError, also
        where it takes too long: the entries before that are taken.
        """
        head = file.read(_HEADER.size)
        if len(head) == _HEADER.size and _HEADER.unpack(head)[0] == _MAGIC:
            self._read_jitdump(file, _HEADER.unpack(head)[2])
        else:
            file.seek(0)
            self._read_perf_map(file)

    def frames(self) -> dict[int, EmbeddedFrame]:
        """Return the frame of each address that has a name."""
        frames = [frame_of(name) for name in self._names]
        which = np.flatnonzero(self._name_of != _NONE).tolist()
        return {self._addresses[k]: frames[int(self._name_of[k])] for k in which}

    def _read_perf_map(self, file: BinaryIO) -> None:
        left_bytes, whole = MOST_BYTES, True
        while left_bytes > 0 and (line := file.readline(min(_LONGEST_LINE, left_bytes))):
            self._check_time()
            left_bytes -= len(line)
            begins, whole = whole, line.endswith(b"\n")
            words = line.rstrip(b"\n").split(b" ", 2)
            if not begins or len(words) < 3:
                continue
            try:
                start, size = int(words[0], 16), int(words[1], 16)
            except ValueError:
                continue
            self._assign(start, size, words[2])

    def _read_jitdump(self, file: BinaryIO, header_bytes: int) -> None:
        at = header_bytes
        names: dict[int, bytes] = {}
        while at + _RECORD.size <= MOST_BYTES:
            self._check_time()
            file.seek(at)
            head = file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                return
            kind, size, _ = _RECORD.unpack(head)
            if size < _RECORD.size:
                return
            body = file.read(min(size - _RECORD.size, _LONGEST_LINE))
            if kind == _CODE_LOAD and len(body) > _LOAD.size:
                *_, start, code_bytes, index = _LOAD.unpack_from(body)
                name = body[_LOAD.size :].split(b"\0", 1)[0]
                self._assign(start, code_bytes, name)
                if len(names) < _MOST_MOVABLE:
                    names[index] = name[:_LONGEST_NAME]
            elif kind == _CODE_MOVE and len(body) >= _MOVE.size:
                *_, start, code_bytes, index = _MOVE.unpack_from(body)
                self._assign(start, code_bytes, names.get(index, b""))
            at += size

    def _check_time(self) -> None:
        if time.monotonic() > self._give_up:
            raise OSError(errno.ETIME, "it takes too long")

    def _assign(self, start: int, size: int, name: bytes) -> None:
        if start < 0 or not 0 < size <= _LARGEST_CODE or not name.strip():
            return
        low = bisect.bisect_left(self._addresses, start)
        high = bisect.bisect_left(self._addresses, start + size, low)
        self._left -= high - low
        if low < high and self._left >= 0:
            text = name[:_LONGEST_NAME].decode("utf-8", "replace").strip()
            self._name_of[low:high] = self._names.setdefault(text, len(self._names))
            if len(self._names) > 2 * len(self._addresses) + _NAMES_SLACK:
                self._forget_unused()

    def _forget_unused(self) -> None:
        """Drop the names that later ones have replaced: an entry costs a file little."""
        used = distinct(self._name_of)
        names = list(self._names)
        kept = [names[k] for k in used.tolist() if k != _NONE]
        is_named = self._name_of != _NONE
        place = np.searchsorted(used[used != _NONE], self._name_of)
        self._name_of = np.where(is_named, place, _NONE)
        self._names = {name: k for k, name in enumerate(kept)}


def frame_of(text: str) -> EmbeddedFrame:
    """Return the frame of an entry: under one name for all variants of a function's code."""
    full = printable(text)
    kind, method = _JAVASCRIPT.match(full), _JAVA.fullmatch(full)
    name = full if method is None else method[1]
    if kind is not None and _POSITION.search(full):
        script = _SCRIPT.search(full, kind.end())
        if script is not None:
            name = full[kind.end() : script.start()] or full.rpartition("/")[2]
    return EmbeddedFrame(name, full)
