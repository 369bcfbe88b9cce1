"""Forged profiles end in one plain error, within the memory that files of their size may take."""

from __future__ import annotations

import gzip
import os
import subprocess
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import bounded
from bounded import MIB, SLACK_BYTES
from heapfiles import HeapFile, Record
from mem_parser.allowance import VARIABLE, bound_bytes
from mem_parser.errors import InputFileError
from mem_parser.readers import read_profile

IMPORTS = """
from mem_parser.readers import read_profile
from mem_parser import profileproto
from mem_parser.symbols import demangle
import gzip, io, zlib
"""


def read_within(path: Path, limit_bytes: int, **extra: str) -> str:
    """What reading a file says in a process that may take no more than this."""
    sites = 'f"{len(read_profile(path).sites)} sites"'
    return bounded.read_within(path, limit_bytes, IMPORTS, sites, **extra)


def column(name: str, dtype: str, count: int, byte: bytes = b"\0") -> list[bytes]:
    """A column of so many equal entries, without making them all at once."""
    engine, size = zlib.compressobj(1), count * np.dtype(dtype).itemsize
    block = byte * MIB
    packed = b"".join(engine.compress(block[: min(MIB, size - at)]) for at in range(0, size, MIB))
    text = b64encode(packed + engine.flush()).rstrip(b"=")
    lines = [text[k : k + 4000] for k in range(0, len(text), 4000)]
    head = f"%column {name} {dtype} {count} {len(lines)}".encode()
    return [head, *(b"%| " + line for line in lines)]


def ours(*lines: bytes, records: int = 0) -> bytes:
    """A file of our own with these lines in its second part."""
    first = HeapFile([Record((0x1000,), 1, 10)]).first_part()
    head = [b"%mem_profiler 1", b'%header {"rate_bytes":1}']
    return first + b"\n".join([*head, *lines, f"%end {records}".encode(), b""])


SITES = ("stack", "alloc_blocks", "alloc_bytes", "freed_blocks", "freed_bytes")
STACKS = ("stack_depth", "stack_flags", "stack_generation")


def many_sites(count: int, *more: bytes) -> bytes:
    """Our own file of so many equal sites, that shrink to nothing."""
    columns = [line for name in SITES for line in column(name, "<u8", count)]
    stacks = [line for name in STACKS for line in column(name, "<u4", 1)]
    return ours(*stacks, *column("stack_frames", "<u8", 0), *columns, *more, records=count)


def repeated(line: Callable[[int], str], size_bytes: int = MIB // 2) -> bytes:
    """Different lines, up to a size."""

    def lines() -> Iterator[str]:
        size = k = 0
        while size < size_bytes:
            text = line(k)
            yield text
            size += len(text)
            k += 1

    return "".join(lines()).encode()


PPROF = b"\x0a\x04\x08\x03\x10\x02\x32\x00\x32\x0dinuse_objects\x32\x05bytes\x32\x0binuse_space"
HEADER = b"heap profile: 1: 1 [1: 1] @ heapprofile\n"
REFUSED = {
    "a column of gigabytes": lambda: many_sites(1, *column("births", "<u4", 100_000_000)),
    "sites without end": lambda: many_sites(8_000_000),
    "stacks without end": lambda: ours(
        *column("stack_frames", "<u8", 0),
        *(x for name in STACKS for x in column(name, "<u4", 20_000_000)),
    ),
    "blocks of threads": lambda: many_sites(
        1,
        *(x for name in ("record", "row", "blocks", "bytes")
          for x in column(f"thread_{name}", "<u8", 10_000_000)),
    ),
    "symbols": lambda: many_sites(
        1,
        *(x for name in ("line", "name", "full_name", "file")
          for x in column(f"symbol_{name}", "<u4", 5_000_000)),
        *column("symbol_address", "<u8", 5_000_000),
        *column("symbol_module", "<u4", 5_000_000),
        *column("symbol_depth", "|u1", 5_000_000, b"\1"),
        *column("symbol_text", "|u1", 4),
    ),
    "texts of symbols": lambda: many_sites(
        1,
        *(x for name in ("line", "name", "full_name", "file", "module", "address", "depth")
          for x in column(f"symbol_{name}", "<u8", 0)),
        *column("symbol_text", "|u1", 20_000_000, b"\n"),
    ),
    "mappings of pprof": lambda: PPROF + b"\x1a\x00" * MIB,
    "a packed file": lambda: gzip.compress(b"heap_v2/1\n" + bytes(MIB))
    + gzip.compress(bytes(64 * MIB)) * 12,
}  # fmt: skip
READ = {
    "an unknown column": lambda: many_sites(1, *column("novel", "<u8", 100_000_000)),
    "modules": lambda: many_sites(1, repeated(lambda _: "%module {}\n").rstrip()),
    "ranges": lambda: many_sites(
        1, b'%module {"exec":[' + b",".join([b"[0,999,999]"] * 80_000) + b"]}"
    ),
    "threads": lambda: many_sites(1, repeated(lambda _: "%thread {}\n").rstrip()),
    "readings": lambda: many_sites(1, repeated(lambda _: "%sample {}\n").rstrip()),
    "a header of lists": lambda: many_sites(
        1, b'%header {"a":[' + b",".join([b"[[]]"] * 400_000) + b"]}"
    ),
    "mappings of one file": lambda: HEADER + b"MAPPED_LIBRARIES:\n"
    + repeated(lambda k: f"1-2 r-xp {k:x} 0:0 1 a\n"),
    "mappings beside modules": lambda: HEADER + b"MAPPED_LIBRARIES:\n"
    + repeated(lambda k: f"{k + 1:x}-{k + 2:x} r-xp 0 0:0 1 {k}\n") + b"%mem_profiler 1\n"
    + repeated(lambda k: f'%module {{"start":{k + 99999},"end":{k + 100000}}}\n'),
    "records": lambda: HEADER + repeated(lambda k: f"1:1[1:1]@{k:x}\n"),
    "threads of jemalloc": lambda: b"heap_v2/1\n" + repeated(lambda k: f"t{k}:1:1[0:0]\n"),
    "names": lambda: repeated(lambda k: f"{k:x};{k:x} 1\n"),
    "blanks in a line": lambda: b"a;b 1\n" * 11_000 + (b"a" + b" " * 60_000 + b"x\n") * 20,
    "fields of samples": lambda: PPROF + (b"\x12\xff\x3f\x12\x01\x01" + b"\x1a\0" * 4094) * 100,
}  # fmt: skip
"""Much in a few bytes, or made to take for ever: they are read, as they stay within."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_forged_profile_is_refused_within_its_allowance(name: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.heap"
    path.write_bytes(REFUSED[name]())
    size = path.stat().st_size
    assert size < 4 * MIB
    unpacked = 8 * size if name == "a packed file" else 0
    said = read_within(path, bound_bytes(size + unpacked) + SLACK_BYTES)
    assert said.startswith(f"refused: {path}: reading its "), said
    assert "MiB of memory" in said
    assert VARIABLE in said


@pytest.mark.parametrize("name", READ)
def test_a_profile_of_many_small_things_stays_within_its_allowance(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "many.heap"
    path.write_bytes(READ[name]())
    said = read_within(path, bound_bytes(path.stat().st_size) + SLACK_BYTES)
    assert said.startswith("read: "), said


def test_who_trusts_a_file_may_give_it_more(tmp_path: Path) -> None:
    path = tmp_path / "large.heap"
    path.write_bytes(many_sites(3_000_000))
    limit = bound_bytes(path.stat().st_size)
    assert read_within(path, 8 * limit).startswith("refused: ")
    assert read_within(path, 8 * limit, **{VARIABLE: "1G"}) == "read: 3000000 sites\n"


def test_a_sparse_file_is_no_larger_than_what_is_stored_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sparse.heap"
    path.write_bytes(HEADER)
    os.truncate(path, 3 << 30)
    with pytest.raises(InputFileError, match="needs more than 256 MiB"):
        read_profile(path)


def test_a_pipe_that_the_user_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(HeapFile([Record((0x1000,), 1, 10)]).data)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        assert len(read_profile(f"/dev/fd/{cat.stdout.fileno()}").sites) == 1
