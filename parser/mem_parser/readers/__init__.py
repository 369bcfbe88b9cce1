"""Readers of heap profiles: one module per format, and `read_profile`, which detects the format.

native    our own files, by their second part (`docs/heap-format.md`)
log       our own logs of events (`mem_parser.memlog`)
legacy    gperftools' text, also the first part of our own files, and Go's text (`golang`)
jemalloc  jemalloc's text with threads
pprof     profile.proto of pprof, Go and tcmalloc
java      the text of Java services
collapsed stacks of names, one per line
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from io import FileIO
from typing import NamedTuple

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, NotAProfile, reason_of
from mem_parser.heapfile.form import GZIP_MAGIC
from mem_parser.heapfile.reader import find_section, read_native
from mem_parser.memlog.blocks import MAGIC
from mem_parser.memlog.part import is_log
from mem_parser.model import Profile
from mem_parser.plainfile import stored_size
from mem_parser.readers.collapsed import looks_like_collapsed, read_collapsed
from mem_parser.readers.java import HEADER as JAVA_HEADER
from mem_parser.readers.java import read_java
from mem_parser.readers.jemalloc import read_jemalloc
from mem_parser.readers.legacy import read_legacy
from mem_parser.readers.packed import Packed
from mem_parser.readers.pprof import looks_like_pprof, read_pprof

_LONGEST_LINE = 1 << 20
_HEAD_BYTES = 64 * 1024
_AT_A_TIME = 1 << 22
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_OF_HEAPTRACK = (
    "if heaptrack wrote it: heaptrack_print -f FILE -F x.collapsed --flamegraph-cost-type peak"
)
_MOST_PIPED = 1 << 30


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read the profile in file ``path``, in any known format.

    Reads a cut file up to the cut, and sets `Profile.incomplete`. Raises `InputFileError`:
    `NotAProfile` for anything else, `UnsupportedVersion` for a newer format, `AllowanceExceeded`
    for a file that needs more memory than one of its size may.
    """
    name = os.fspath(path)
    if is_log(name):
        from mem_parser.memlog.profiles import read_part

        (profile,) = read_part([name])
        return profile
    data, file, allowance = _open(name)
    profile = _read(data, name, allowance)
    profile.file_uid = file.uid
    profile.file_time_s = file.time_s
    return profile


def read_bytes(data: bytes, name: str) -> Profile:
    """Read a profile from memory; ``name`` is its name in errors."""
    return _read(data, name, MemoryAllowance(name, len(data)))


def _read(data: bytes, name: str, allowance: MemoryAllowance) -> Profile:
    if data.startswith(MAGIC):
        raise InputFileError(
            f"{name}: a log of events is read in many places, which a pipe cannot give",
            hint="give it as a file",
        )
    if data[:2] == GZIP_MAGIC:
        return _read_packed(Packed(data, name), name, allowance)
    section = find_section(data) if _is_legacy(data[:_HEAD_BYTES]) else None
    if section is not None:

        def records() -> Profile:
            return read_legacy(_lines(data, name, section), name, allowance)

        return read_native(data, section, name, allowance, records)
    return _read_whole(data, name, allowance)


def _read_packed(packed: Packed, name: str, allowance: MemoryAllowance) -> Profile:
    if not _is_legacy(next(packed.parts(), b"")[:_HEAD_BYTES]):
        return _read_whole(packed.whole(allowance), name, allowance)
    tail, start = packed.after_records(allowance)
    section = find_section(tail)
    end = start + (len(tail) if section is None else section)

    def records() -> Profile:
        return read_legacy(packed.lines(end), name, allowance)

    if section is None:
        profile = records()
    else:
        profile = read_native(tail, section, name, allowance, records)
        profile.packed = True
    if packed.cut and profile.incomplete is None:
        profile.incomplete = "its gzip data ends too early"
    return profile


def _read_whole(data: bytes, name: str, allowance: MemoryAllowance) -> Profile:
    """Read a file of another tool."""
    head = data[:_HEAD_BYTES]
    for one in _FORMATS:
        if one.takes(head):
            return one.read(data, name, allowance)
    if not head.strip():
        raise NotAProfile(f"{name}: the file is empty")
    hint = _OF_HEAPTRACK if head.startswith(_ZSTANDARD) else f"known formats: {KNOWN_FORMATS}"
    raise NotAProfile(f"{name}: not a heap profile", hint=hint)


def _first_line(head: bytes) -> bytes:
    for line in head.splitlines():
        if line.strip() and not line.startswith(b"%"):
            return line.strip()
    return b""


class _File(NamedTuple):
    """Facts of a regular file: its owner, if no other user can write it, and its time."""

    uid: int | None = None
    time_s: float | None = None


def _open(name: str) -> tuple[bytes, _File, MemoryAllowance]:
    """Return the bytes of a file of the user's choice, which may be a pipe; the file's facts and
    its allowance.
    """
    try:
        with open(name, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise InputFileError(f"{name}: is a directory")
            owner = None if status.st_mode & stat.S_IWOTH else status.st_uid
            if stat.S_ISREG(status.st_mode) and status.st_size:
                allowance = MemoryAllowance(name, stored_size(status))
                allowance.take(status.st_size)
                return _whole(file, status.st_size), _File(owner, status.st_mtime), allowance
            data = _whole(file, _MOST_PIPED + 1)
    except OSError as error:
        raise InputFileError(f"{name}: {reason_of(error)}") from error
    except ValueError as error:  # a path with a NUL byte
        raise InputFileError(f"{name}: {error}") from error
    if len(data) > _MOST_PIPED:
        raise InputFileError(
            f"{name}: more than {_MOST_PIPED >> 30} GiB came out of it", hint="give it as a file"
        )
    return data, _File(), MemoryAllowance(name, len(data))


def _whole(file: FileIO, most_bytes: int) -> bytes:
    parts: list[bytes] = []
    while most_bytes > 0 and (part := file.read(min(most_bytes, _AT_A_TIME))):
        parts.append(part)
        most_bytes -= len(part)
    return b"".join(parts)


def _lines(data: bytes, name: str, size: int | None = None) -> Iterator[bytes]:
    """Yield the lines of ``data``, or of its first ``size`` bytes, with their ends; a line too long
    to be one is an error.
    """
    start = 0
    size = len(data) if size is None else size
    while start < size:
        end = data.find(b"\n", start, min(size, start + _LONGEST_LINE))
        if end < 0 and size - start > _LONGEST_LINE:
            raise InputFileError(f"{name}: a line at byte {start} has no end")
        end = size if end < 0 else end + 1
        yield data[start:end]
        start = end


def _is_legacy(head: bytes) -> bool:
    return b"heap profile:" in _first_line(head)


class _Format(NamedTuple):
    """A format of other tools: what people call it, whether a file begins like it, its reader."""

    name: str
    takes: Callable[[bytes], bool]
    read: Callable[[bytes, str, MemoryAllowance], Profile]


def _by_line(
    read: Callable[[Iterator[bytes], str, MemoryAllowance], Profile],
) -> Callable[[bytes, str, MemoryAllowance], Profile]:
    return lambda data, name, allowance: read(_lines(data, name), name, allowance)


_FORMATS = (
    _Format(
        "jemalloc", lambda head: _first_line(head).startswith(b"heap_v2/"), _by_line(read_jemalloc)
    ),
    _Format("gperftools, Go", _is_legacy, _by_line(read_legacy)),
    _Format("Java", lambda head: _first_line(head) == JAVA_HEADER, _by_line(read_java)),
    _Format("pprof", looks_like_pprof, read_pprof),
    _Format("collapsed stacks", looks_like_collapsed, _by_line(read_collapsed)),
)
KNOWN_FORMATS = ", ".join(["mem_profiler", *(one.name for one in _FORMATS)])
