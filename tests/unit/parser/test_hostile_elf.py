"""ELF files made to take memory or time, and files that somebody cuts while they are read."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

import bounded
from bounded import MIB, SLACK_BYTES
from elf_files import (
    COMPRESSED,
    EXECUTABLE,
    NOTE,
    STRINGS,
    SYMBOLS,
    Part,
    build_id_note,
    elf,
    segment,
    symbol,
)
from mem_parser.allowance import bound_bytes
from mem_parser.symbols.debugfiles import search_debug_file
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_profiler.entries.symbols import Program

IMPORTS = """
import numpy as np
from mem_parser.symbols.elf import BadElf, ElfImage
def read(path):
    try:
        image = ElfImage.open(path)
        image.debuglink, image.has_dwarf, image.interpreter, image.bytes_at(1, 16)
        image.addresses_of(".symtab", ["malloc", "free", "mallocx"])
        image.symbols().find(np.arange(1, 60000, dtype=np.uint64))
    except BadElf as error:
        return error
"""


def read_within(path: Path) -> str:
    """What reading a file says in a process that may take no more than one of its size may."""
    most = bound_bytes(path.stat().st_size) + SLACK_BYTES
    return bounded.read_within(path, most, IMPORTS, "read(path)")


def symbols_of(strings: bytes, *rows: bytes) -> tuple[Part, ...]:
    return (
        Part(".text", b"\x90" * 16, flags=EXECUTABLE), Part(".strtab", strings, STRINGS),
        Part(".symtab", b"".join(rows), SYMBOLS, link=2),
    )  # fmt: skip


LONG = b"\0" + b"x" * 60_000 + b"\0"
FORGED = {
    "one long name for all sections": lambda: elf(*[Part(name_at=1)] * 49_000, names=LONG),
    "one long name for all symbols": lambda: elf(
        *symbols_of(b"\0" + b"x" * 120_000, *(symbol(k, k) for k in range(1, 60_000)))
    ),
    "all symbols at one address": lambda: elf(
        *symbols_of(b"\0" + b"x" * 120_000, *(symbol(k, 1, 60_000) for k in range(1, 60_000)))
    ),
    "a name a million times": lambda: elf(
        *symbols_of(b"\0malloc" * 200_000 + b"\0",
                    *(symbol(1 + 7 * k, k + 1) for k in range(60_000)))
    ),
    "sections that lie upon each other": lambda: elf(
        *symbols_of(bytes(2 * MIB), symbol(1, 1)),
        *[Part(f".note{k}", kind=NOTE, offset=0, size=3 * MIB) for k in range(2000)],
    ),
    "notes that lie upon each other": lambda: elf(
        Part(".data", bytes(3 * MIB)),
        segments=segment(4, 64, 3 * MIB) * 50_000,
    ),
    "notes of no size": lambda: elf(
        Part(".note.gnu.build-id", bytes(3 * MIB), NOTE),
    ),
    "a packed symbol table": lambda: elf(
        Part(".gnu_debugdata", b"".join(
            [lzma.compress(b"\x7fELF\2\1\1" + bytes(192 * MIB), preset=0)])),
    ),
    "more sections than fit": lambda: elf(Part(".text"), shnum=0xFEFF),
    "sections counted elsewhere": lambda: elf(Part(".text"), shnum=0),
    "segments counted elsewhere": lambda: elf(Part(".text"), phnum=0xFFFF),
    "names beyond the sections": lambda: elf(Part(".text"), shstrndx=0xFFFF),
    "tables behind the end": lambda: elf(Part(".text"), shoff=(1 << 64) - 64),
    "a section of all addresses": lambda: elf(
        *symbols_of(b"\0a\0"), Part(".symtab", kind=SYMBOLS, size=(1 << 64) - 1, link=2),
        Part(".gnu_debuglink", size=1 << 63), Part(".debug_info", size=1 << 63, flags=COMPRESSED),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_elf_file_is_read_or_refused_within_its_allowance(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "forged.so"
    path.write_bytes(FORGED[name]())
    assert path.stat().st_size < 8 * MIB
    assert read_within(path).startswith("read: ")


def test_a_sparse_file_takes_no_more_than_what_is_stored_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sparse.so"
    path.write_bytes(
        elf(*symbols_of(b"\0"), Part(".symtab", kind=SYMBOLS, offset=0, size=3 << 30, link=2))
        .replace(b".symtab", b".symtaX", 1)
    )  # fmt: skip
    os.truncate(path, 4 << 30)
    assert read_within(path) == "read: needs too much memory to read for a file of its size\n"


def test_an_honest_file_gives_what_another_reader_gives() -> None:
    for path in ("/bin/true", sys.executable, str(Path("/proc/self/exe").resolve())):
        ours = ElfImage.open(path)
        with open(path, "rb") as file:
            theirs = ELFFile(file)
            names = [s.name for s in theirs.iter_sections()]
            assert list(ours.sections) == list(dict.fromkeys(names))
            assert ENUM_E_MACHINE[theirs["e_machine"]] == ours.machine
            loaded = list(theirs.iter_segments("PT_LOAD"))
            assert [(s.vaddr, s.offset, s.file_size, s.mem_size) for s in ours.segments] == [
                (s["p_vaddr"], s["p_offset"], s["p_filesz"], s["p_memsz"]) for s in loaded
            ]
            notes = theirs.get_section_by_name(".note.gnu.build-id")
            if notes is not None:
                assert ours.build_id == next(notes.iter_notes())["n_desc"]
            interpreter = theirs.get_section_by_name(".interp").data().rstrip(b"\0").decode()
            assert ours.interpreter == interpreter


def test_extended_counts_are_taken_from_the_first_section(tmp_path: Path) -> None:
    data = bytearray(
        elf(Part(".note.gnu.build-id", build_id_note(b"\xab" * 20), NOTE), shnum=0, shstrndx=0xFFFF)
    )
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<Q", data, sections_at + 32, 3)
    struct.pack_into("<I", data, sections_at + 40, 2)
    image = ElfImage.from_data("x", bytes(data))
    assert list(image.sections) == ["", ".note.gnu.build-id", ".shstrtab"]
    assert image.build_id == "ab" * 20


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_file_that_is_cut_while_it_is_open_gives_no_signal(left: int, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    shutil.copy(sys.executable, path)
    image, program = ElfImage.open(str(path)), Program(path)
    os.truncate(path, left)
    try:
        table = image.symbols()
        assert table.find(np.array([1, 0x5000], np.uint64)) == [None, None]
    except BadElf:
        pass
    assert image.bytes_at(image.segments[-1].vaddr, 16) == b""
    assert image.debuglink is None
    assert program.functions("malloc") == []
    assert program.code(min(s.vaddr for s in image.segments) + 0x5000, 16) == b""


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_never_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "named"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match=f"is a {kind}"):
        ElfImage.open(str(path))
    with pytest.raises(OSError, match=f"is a {kind}"):
        Program(path)


def test_a_debug_link_that_leads_to_a_pipe_is_passed_over(tmp_path: Path) -> None:
    link = b"x.debug\0" + struct.pack("<I", 7)
    (tmp_path / "x").write_bytes(elf(Part(".gnu_debuglink", link)))
    os.mkfifo(tmp_path / "x.debug")
    image = ElfImage.open(str(tmp_path / "x"))
    assert image.debuglink == ("x.debug", 7)
    assert search_debug_file("ab" * 20, image, [str(tmp_path)]).image is None


def test_names_made_to_search_for_ever_are_searched_in_time(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    path.write_bytes(elf(*symbols_of(b"\0" + b"a" * MIB, symbol(1, 1))))
    script = "import sys; from mem_profiler.entries import plan; plan.of_program(sys.argv[1], 0)"
    done = subprocess.run([sys.executable, "-c", script, path], timeout=60, capture_output=True)
    assert done.returncode == 0, done.stderr
