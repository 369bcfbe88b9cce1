"""What the loader reads first of an ELF file, against pyelftools and in forged files."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from elf_files import elf, segment
from mem_parser import elfrows
from mem_profiler.process import elfhead
from mem_profiler.process.elfhead import Head

DYNAMIC_AT, TEXTS_AT, ADDRESS = 64 + 2 * 56, 512, 0x40_0000


def head_of(path: Path | str) -> Head | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return elfhead.read(fd)
    finally:
        os.close(fd)


def made(folder: Path, tags: list[tuple[int, int]], texts: bytes) -> Head | None:
    """The head of a library with these dynamic entries, whose strings lie in a loaded part."""
    segments = segment(elfrows.PT_LOAD, 0, 4096, vaddr=ADDRESS)
    segments += segment(elfrows.PT_DYNAMIC, DYNAMIC_AT, 16 * (len(tags) + 1))
    data = bytearray(elf(segments=segments).ljust(4096, b"\0"))
    struct.pack_into("<QIHHHHHH", data, 40, 0, 0, 64, 56, 2, 64, 0, 0)  # no section headers
    for k, tag in enumerate([*tags, (0, 0)]):
        struct.pack_into("<QQ", data, DYNAMIC_AT + 16 * k, *tag)
    data[TEXTS_AT : TEXTS_AT + len(texts)] = texts
    path = folder / "made.so"
    path.write_bytes(data)
    return head_of(path)


def table(*more: tuple[int, int], size: int = 100) -> list[tuple[int, int]]:
    return [(elfhead.DT_STRTAB, ADDRESS + TEXTS_AT), (elfhead.DT_STRSZ, size), *more]


@pytest.mark.parametrize("path", ["/bin/sh", "/usr/bin/env", "/lib64/ld-linux-x86-64.so.2"])
def test_a_real_file_says_what_pyelftools_says(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"there is no {path}")
    with open(path, "rb") as file:
        parsed = ELFFile(file)
        dynamic = next(s for s in parsed.iter_segments() if isinstance(s, DynamicSegment))
        needed = tuple(t.needed for t in dynamic.iter_tags("DT_NEEDED"))
        soname = next((t.soname for t in dynamic.iter_tags("DT_SONAME")), None)
        interpreter = next((s.get_interp_name() for s in parsed.iter_segments("PT_INTERP")), None)
        machine = struct.unpack_from("<H", Path(path).read_bytes()[:20], 18)[0]
    found = head_of(path)

    assert found is not None
    assert (found.needed, found.soname, found.interpreter) == (needed, soname, interpreter)
    assert (found.bits, found.machine) == (64, machine)


def test_this_program_is_of_its_own_machine() -> None:
    found = head_of("/proc/self/exe")
    assert found is not None
    assert (found.bits, found.machine) == elfhead.own_machine()


def test_the_last_of_each_entry_counts_and_every_needed_one(tmp_path: Path) -> None:
    tags = table(
        (elfhead.DT_NEEDED, 1), (elfhead.DT_SONAME, 1), (elfhead.DT_NEEDED, 6),
        (elfhead.DT_SONAME, 6), (elfhead.DT_RUNPATH, 11), (elfhead.DT_FLAGS_1, 0x800),
        (elfhead.DT_FLAGS, 2),
    )  # fmt: skip
    found = made(tmp_path, tags, b"\0a.so\0b.so\0$ORIGIN\0")

    assert found is not None
    assert (found.needed, found.soname) == (("a.so", "b.so"), "b.so")
    assert (found.runpath, found.rpath) == ("$ORIGIN", None)
    assert found.symbolic and found.no_default_folders


def test_entries_behind_the_end_mark_do_not_count(tmp_path: Path) -> None:
    tags = table((elfhead.DT_NEEDED, 1), (0, 0), (elfhead.DT_NEEDED, 6))
    found = made(tmp_path, tags, b"\0a.so\0b.so\0")
    assert found is not None and found.needed == ("a.so",)


@pytest.mark.parametrize(
    "tags",
    [
        table((elfhead.DT_NEEDED, 1), size=1),  # behind the end of the strings
        table((elfhead.DT_NEEDED, 1), size=4),  # its own end is behind that
        table((elfhead.DT_NEEDED, 1 << 63)),
        [(elfhead.DT_STRTAB, 0x10), (elfhead.DT_STRSZ, 100), (elfhead.DT_NEEDED, 1)],  # not loaded
        [(elfhead.DT_NEEDED, 1)],
    ],
)  # fmt: skip
def test_a_string_that_is_nowhere_is_absent(tmp_path: Path, tags: list[tuple[int, int]]) -> None:
    found = made(tmp_path, tags, b"\0a.so\0")
    assert found is not None and found.needed == ()


def test_a_string_longer_than_a_path_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "long.so"
    tags = table((elfhead.DT_NEEDED, 0), (elfhead.DT_RUNPATH, 0), size=1 << 20)
    assert made(tmp_path, tags, b"") is not None
    data = bytearray((tmp_path / "made.so").read_bytes()[:TEXTS_AT]) + b"x" * 5000 + b"\0"
    struct.pack_into("<Q", data, 64 + 32, 1 << 20)  # the loaded part
    path.write_bytes(data)
    found = head_of(path)
    assert found is not None
    assert found.needed == ()
    assert found.runpath == "x" * 5000  # a list of folders may be longer


@pytest.mark.parametrize("at", [0, 4, 5, 54], ids=["magic", "class", "byte order", "row size"])
def test_what_is_no_program_of_a_known_form_is_none(tmp_path: Path, at: int) -> None:
    data = bytearray(Path("/bin/sh").read_bytes())
    data[at] ^= 0x70
    (tmp_path / "bad").write_bytes(data)
    assert head_of(tmp_path / "bad") is None
    (tmp_path / "bad").write_bytes(data[:63])
    assert head_of(tmp_path / "bad") is None


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), min_size=1, max_size=12))
def test_any_damage_gives_a_bounded_head_or_none(changes: list[tuple[int, int]]) -> None:
    data = bytearray(Path("/bin/sh").read_bytes()[: 1 << 16])
    for at, value in changes:
        data[at] = value
    fd = os.memfd_create("damaged")
    try:
        os.write(fd, data)
        found = elfhead.read(fd)
    finally:
        os.close(fd)
    if found is not None:
        assert len(found.needed) <= 1000
        assert all(len(text) <= 4096 for text in found.needed)
