"""Readers of heap profiles: one module per format, and `read_profile` that tells them apart.

native    our own files, by their second part (`docs/heap-format.md`)
legacy    gperftools' text, also the first part of our own files
jemalloc  jemalloc's text with threads
pprof     profile.proto of pprof, Go and tcmalloc
collapsed stacks of names, one per line
"""

from __future__ import annotations

import gzip
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mem_parser.errors import InputFileError, NotAProfile
from mem_parser.model import Profile
from mem_parser.readers.collapsed import looks_like_collapsed, read_collapsed
from mem_parser.readers.jemalloc import read_jemalloc
from mem_parser.readers.legacy import read_legacy
from mem_parser.readers.native import find_section, read_native
from mem_parser.readers.pprof import looks_like_pprof, read_pprof

KNOWN_FORMATS = "mem_profiler, jemalloc, gperftools, pprof, collapsed stacks"
_LONGEST_LINE = 1 << 20
_HEAD_BYTES = 64 * 1024
_UNPACKED_LIMIT = 4 << 30

Data = bytes | mmap.mmap


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read the profile in file ``path``, whatever known format it is in.

    A cut file is read as far as it goes, with `Profile.incomplete` set. Raises `InputFileError`:
    `NotAProfile` for anything else, `UnsupportedVersion` for a format of the future.
    """
    name = os.fspath(path)
    data, owner = _open(name)
    profile = read_bytes(data, name)
    profile.file_uid = owner
    return profile


def read_bytes(data: Data, name: str) -> Profile:
    """Read a profile from memory; ``name`` is what errors call it."""
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data, name)
    head = bytes(data[:_HEAD_BYTES])
    first = _first_line(head)
    if first.startswith(b"heap_v2/"):
        return read_jemalloc(_lines(data, name), name)
    if b"heap profile:" in first:
        section = find_section(data)
        if section is not None:
            return read_native(data, section, name)
        return read_legacy(_lines(data, name), name)
    if looks_like_pprof(head):
        return read_pprof(data, name)
    if looks_like_collapsed(head):
        return read_collapsed(_lines(data, name), name)
    if not head.strip():
        raise NotAProfile(f"{name}: the file is empty")
    raise NotAProfile(f"{name}: not a heap profile", hint=f"known formats: {KNOWN_FORMATS}")


def _first_line(head: bytes) -> bytes:
    for line in head.splitlines():
        if line.strip() and not line.startswith(b"%"):
            return line.strip()
    return b""


def _open(name: str) -> tuple[Data, int | None]:
    try:
        with Path(name).open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise InputFileError(f"{name}: is a directory")
            owner = None if status.st_mode & stat.S_IWOTH else status.st_uid
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                return file.read(_UNPACKED_LIMIT), owner
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), owner
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputFileError(f"{name}: {reason}") from error
    except ValueError as error:  # a path with a NUL byte
        raise InputFileError(f"{name}: {error}") from error


def _unpack(data: Data, name: str) -> bytes:
    import io
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(_UNPACKED_LIMIT)
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"{name}: bad gzip data ({error})") from error
    if len(unpacked) >= _UNPACKED_LIMIT:
        raise InputFileError(f"{name}: unpacks to more than 4 GiB")
    return unpacked


def _lines(data: Data, name: str) -> Iterator[bytes]:
    """Yield the lines of ``data`` with their ends; a line too long to be one is an error."""
    start = 0
    size = len(data)
    while start < size:
        end = data.find(b"\n", start, start + _LONGEST_LINE)
        if end < 0 and size - start > _LONGEST_LINE:
            raise InputFileError(f"{name}: a line at byte {start} has no end")
        end = size if end < 0 else end + 1
        yield bytes(data[start:end])
        start = end
