"""Debug information that is damaged, forged, or of another file is refused, and reports say it."""

from __future__ import annotations

import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import COMPRESSED, EXECUTABLE, Part, elf, segment
from heapfiles import HeapFile, Record, module_of
from line_oracle import call_sites, our_lines
from mem_parser.readers import read_bytes
from mem_parser.symbols import dwarf
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debug.abbreviations import Layout
from mem_parser.symbols.debug.bits import Damaged, sleb, uleb
from mem_parser.symbols.debug.linefiles import read_files
from mem_parser.symbols.debug.locate import OUT_OF_TIME, UNITS_DAMAGED, Located, Locator
from mem_parser.symbols.debug.sections import Sections
from mem_parser.symbols.debug.split import SplitUnits
from mem_parser.symbols.debug.units import DebugFile
from mem_parser.symbols.debugfiles import search_debug_file
from mem_parser.symbols.dwarf import LinesFailed
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.symbolizer import symbolize
from named_program import build_named

SOURCE = """
#include <stdlib.h>
static inline __attribute__((always_inline)) void *inner(int n) { return malloc(n); }
static inline __attribute__((always_inline)) void *outer(int n) { return inner(n + 1); }
__attribute__((noinline)) void *%s(int n) { void *p = outer(n); __asm__(""); return p; }
"""
BIAS = 0x5500_0000_0000


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, check=True, timeout=60, cwd=cwd)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of two units, `p`; stripped with a link to p.debug: `linked`."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "one.c").write_text(SOURCE % "alpha")
    (folder / "two.c").write_text(
        SOURCE % "beta" + "void *alpha(int); int main(void) { return alpha(3) == beta(4); }"
    )
    run("gcc", "-O1", "-gdwarf-5", "-Wl,--build-id=none", "-o", "p", "one.c", "two.c", cwd=folder)
    run("objcopy", "--only-keep-debug", "p", "p.debug", cwd=folder)
    run("objcopy", "--strip-all", "--add-gnu-debuglink=p.debug", "p", "linked", cwd=folder)
    return folder / "p"


def located(data: bytes, addresses: list[int]) -> Located:
    file = DebugFile(Sections(ElfImage.from_data("x", data)))
    return Locator(file, SplitUnits([])).locate(addresses, time.monotonic() + 60)


def section(program: Path, name: str) -> tuple[int, int]:
    found = ElfImage.open(str(program)).sections[name]
    return found.offset, found.held_bytes


DEBUG = (".debug_info", ".debug_abbrev", ".debug_line", ".debug_aranges", ".debug_rnglists",
         ".debug_str", ".debug_line_str")  # fmt: skip


@given(data=st.data())
def test_damaged_debug_information_gives_frames_or_says_what_is_lost(
    data: st.DataObject, program: Path
) -> None:
    addresses = call_sites(program)
    whole = located(program.read_bytes(), addresses)
    damaged = bytearray(program.read_bytes())
    places = [
        section(program, name) for name in DEBUG if name in ElfImage.open(str(program)).sections
    ]
    for _ in range(data.draw(st.integers(1, 8))):
        start, size = data.draw(st.sampled_from(places))
        damaged[start + data.draw(st.integers(0, size - 1))] = data.draw(st.integers(0, 255))
    try:
        found = located(bytes(damaged), addresses)
    except Damaged:
        return
    assert set(found.frames) <= set(addresses)
    for frames in found.frames.values():
        for name, file, line in frames:
            assert isinstance(name, str)
            assert isinstance(file, str)
            assert line >= 0
    assert all(count > 0 for count in found.lost.values())
    assert whole.lost == {}


def test_a_damaged_unit_costs_its_own_lines_alone_and_is_counted(program: Path) -> None:
    addresses = call_sites(program)
    whole = located(program.read_bytes(), addresses)
    lines, _ = section(program, ".debug_line")
    data = bytearray(program.read_bytes())
    data[lines + 4] = 9  # the version of the first unit's lines
    found = located(bytes(data), addresses)
    assert found.lost == {"it has lines of an unknown version (9)": 1}
    assert len(found.frames) == len(whole.frames) - 1
    assert found.frames.items() <= whole.frames.items()


def test_units_behind_a_damaged_one_are_said_to_be_lost(program: Path) -> None:
    addresses = call_sites(program)
    units = DebugFile(Sections(ElfImage.open(str(program)))).units
    info, _ = section(program, ".debug_info")
    data = bytearray(program.read_bytes())
    data[info + units[1].at + 4] = 77  # its version
    found = located(bytes(data), addresses)
    assert found.frames
    assert found.lost[UNITS_DAMAGED] > 0
    assert len(found.frames) + found.lost[UNITS_DAMAGED] == len(addresses)


def test_what_there_was_no_time_for_is_counted(program: Path) -> None:
    addresses = call_sites(program)
    file = DebugFile(Sections(ElfImage.open(str(program))))
    clock = iter([0.0, 2.0]).__next__
    found = Locator(file, SplitUnits([]), clock=clock).locate(addresses, 1.0)
    assert found.frames
    assert set(found.lost) == {OUT_OF_TIME}
    assert len(found.frames) + found.lost[OUT_OF_TIME] >= 3


ROOT = bytes([1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0])
RANGED = bytes([2, 0x2E, 0, 0x55, 0x17, 0, 0])
FUNCTION = bytes([2, 0x2E, 1, 0x11, 1, 0x12, 7, 0, 0])
CALL = bytes([3, 0x1D, 1, 0x11, 1, 0x12, 7, 0x59, 0x0D, 0, 0])
LOOP = bytes([2, 0x2E, 0, 0x11, 1, 0x12, 7, 0x31, 0x13, 0, 0])
LONG = bytes([4, 0x34, 0, 0x02, 0x0A, 0, 0])
PLACE = (0x1000).to_bytes(8, "little") + (16).to_bytes(8, "little")
HEAD_BYTES = 11


def forged(abbreviations: bytes, entries: bytes, *more: Part, address_bytes: int = 8) -> bytes:
    """A program with one unit of version 4, whose root has the code at PLACE."""
    head = (4).to_bytes(2, "little") + bytes(4) + bytes([address_bytes])
    body = head + b"\1" + PLACE + entries
    return elf(
        Part(".text", bytes(16), flags=EXECUTABLE),
        Part(".debug_info", len(body).to_bytes(4, "little") + body),
        Part(".debug_abbrev", ROOT + abbreviations + b"\0"), *more,
    )  # fmt: skip


def test_references_in_a_circle_end() -> None:
    function_at = (HEAD_BYTES + 1 + len(PLACE)).to_bytes(4, "little")
    data = forged(LOOP, b"\2" + PLACE + function_at + b"\0")
    assert located(data, [0x1004]).lost == {"it has references in a circle": 1}


def test_addresses_without_bytes_make_no_list_without_end() -> None:
    lists = Part(".debug_ranges", bytes(64))
    data = forged(RANGED, b"\2" + bytes(4) + b"\0", lists, address_bytes=0)
    file = DebugFile(Sections(ElfImage.from_data("x", data)))
    assert file.units == []
    assert file.is_cut


def test_entries_that_lead_out_of_their_unit_are_counted() -> None:
    data = forged(LONG, b"\4\xff" + bytes(8))
    assert located(data, [0x1004]).lost == {"it has entries that end behind it": 1}


def test_entries_nested_without_end_are_counted() -> None:
    block = bytes([5, 0x0B, 1, 0, 0])
    data = forged(FUNCTION + block, b"\2" + PLACE + b"\5" * 10_000)
    assert located(data, [0x1004]).lost == {"it has entries nested too deeply": 1}


def test_calls_nested_without_end_are_counted() -> None:
    data = forged(FUNCTION + CALL, b"\2" + PLACE + (b"\3" + PLACE + b"\7") * 2000)
    assert located(data, [0x1004]).lost == {"it has too many inlined calls at one address": 1}


@pytest.mark.parametrize("line", [b"\x7f", b"\xff\xff\xff\xff\xff\xff\x00"])
def test_a_call_from_an_impossible_line_is_counted(line: bytes) -> None:
    data = forged(FUNCTION + CALL, b"\2" + PLACE + b"\3" + PLACE + line + bytes(3))
    assert located(data, [0x1004]).lost == {"it has a call from a line that cannot be": 1}


def test_lines_without_an_end_are_counted(program: Path) -> None:
    addresses = call_sites(program)
    whole = located(program.read_bytes(), addresses)
    start, size = section(program, ".debug_line")
    data = bytearray(program.read_bytes())
    ending = bytes([0, 1, 1])
    assert data[start + size - 3 : start + size] == ending
    data[start + size - 3 : start + size] = bytes([1, 1, 1])
    found = located(bytes(data), addresses)
    assert found.frames
    assert found.lost == {"it has lines that end too soon": len(whole.frames) - len(found.frames)}


def test_a_file_in_a_folder_of_a_negative_number_is_in_none() -> None:
    layout = Layout(5, 4, 8, "little")
    folders = bytes([1, 1, 8, 1]) + b"/one\0"
    files = bytes([2, 1, 8, 2, 0x0D, 1]) + b"x.c\0\x7f"
    sections = Sections(ElfImage.from_data("x", elf()))
    table = read_files(folders + files, 0, layout, sections, "/here")
    assert table.path_of(0) == ("/here/x.c", True)


def test_more_files_than_there_are_bytes_are_refused() -> None:
    nothing = bytes([1, 1, 0x19, 0xFF, 0x7F])  # 16383 names, each of no bytes
    sections = Sections(ElfImage.from_data("x", elf()))
    with pytest.raises(Damaged, match="too many files"):
        read_files(nothing + bytes(64), 0, Layout(5, 4, 8, "little"), sections, "")


def test_code_that_was_thrown_away_is_below_all_code_of_a_segment_that_begins_at_0() -> None:
    data = elf(Part(".text", bytes(16), flags=EXECUTABLE), segments=segment(1, 0, 4096))
    assert Sections(ElfImage.from_data("x", data)).code_bounds == (2, 4096)


def test_an_answer_of_another_form_is_refused(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader.py"
    monkeypatch.setattr(dwarf, "_READER", str(reader))
    for said in ("[]", "3", "{", '{"frames": [[1, [["f", "x.c", 1e999]]]], "lost": {}}',
                 '{"frames": [[1, ["f"]]], "lost": {}}', '{"frames": [], "lost": []}'):  # fmt: skip
        reader.write_text(f"import os, sys; os.write(int(sys.argv[3]), {said.encode()!r})")
        with pytest.raises(LinesFailed, match="invalid answer"):
            our_lines(program, [1])


def test_a_number_without_end_is_refused() -> None:
    for read in (uleb, sleb):
        with pytest.raises(Damaged):
            read(b"\xff" * 1000 + b"\0", 0)
        with pytest.raises((Damaged, IndexError)):
            read(b"\xff" * 4, 0)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_are_read_as_they_are_written(value: int) -> None:
    written, rest = bytearray(), value
    while True:
        byte, rest = rest & 0x7F, rest >> 7
        if (rest == 0 and not byte & 0x40) or (rest == -1 and byte & 0x40):
            written.append(byte)
            break
        written.append(byte | 0x80)
    assert sleb(bytes(written), 0) == (value, len(written))


def test_a_section_that_says_a_wrong_size_is_refused() -> None:
    packed = zlib.compress(bytes(4096))
    for size in (0, 4095, 4097, 1 << 20, 1 << 62):
        head = (1).to_bytes(8, "little") + size.to_bytes(8, "little") + bytes(8)
        data = elf(Part(".debug_info", head + packed, flags=COMPRESSED), Part(".debug_line", b"x"))
        image = ElfImage.from_data("x", data)
        if size in (0, 4095):
            assert Sections(image).get("info").size_bytes == size
            continue
        with pytest.raises(Damaged, match=r"packed wrongly|memory"):
            Sections(image).get("info")


# A debug file that is not the program's.


def heap_of(program: Path, address: int) -> bytes:
    code = next(s for s in ElfImage.open(str(program)).segments if s.executable)
    start = BIAS + (code.vaddr & ~0xFFF)
    end = start + 0x1000
    module = module_of(program, start, end, bias=BIAS, exec=[[start, end, code.offset]])
    return HeapFile([Record((0x1000, BIAS + address + 1), 1, 10)] * 2, modules=[module]).data


def test_a_debug_file_with_another_crc_is_refused_and_said_once(program: Path) -> None:
    linked, debug = program.with_name("linked"), program.with_name("p.debug")
    address = call_sites(program)[0]
    good = debug.read_bytes()
    profile = read_bytes(heap_of(linked, address), "x")
    assert symbolize(profile, cache=SymbolCache(None)).problems == []
    debug.write_bytes(good + b"\0")
    try:
        symbols = symbolize(profile, cache=SymbolCache(None))
        search = search_debug_file("", ElfImage.open(str(linked)))
    finally:
        debug.write_bytes(good)
    assert search.image is None
    assert search.refused == (f"{debug}: its CRC differs",)
    assert [p.text for p in symbols.problems] == [
        f"{debug}: its CRC differs from what {linked} says of its debug file; it is not used"
    ]
    assert not any(x.line for x in symbols.locations)


def test_a_debug_file_with_another_build_id_is_refused_and_said(
    program: Path, tmp_path: Path
) -> None:
    other = tmp_path / "p"
    run(
        "gcc", "-O1", "-g", "-Wl,--build-id", "-o", str(other), "one.c", "two.c", cwd=program.parent
    )
    run("objcopy", "--only-keep-debug", "p", "p.debug", cwd=tmp_path)
    run("objcopy", "--strip-all", "--add-gnu-debuglink=p.debug", "p", "linked", cwd=tmp_path)
    run("gcc", "-O1", "-g", "-Wl,--build-id=0x00112233445566778899", "-o", str(other), "one.c",
        "two.c", cwd=program.parent)  # fmt: skip
    run("objcopy", "--only-keep-debug", "p", "p.debug", cwd=tmp_path)
    image = ElfImage.open(str(tmp_path / "linked"))
    place = tmp_path / ".build-id" / image.build_id[:2] / f"{image.build_id[2:]}.debug"
    place.parent.mkdir(parents=True)
    place.write_bytes((tmp_path / "p.debug").read_bytes())
    search = search_debug_file(image.build_id, image, [str(tmp_path)])
    assert search.image is None
    assert search.refused == (
        f"{place}: its build-id differs",
        f"{tmp_path / 'p.debug'}: its build-id differs",
    )


def test_what_is_lost_is_said_in_a_report_as_long_as_it_is_lost(
    program: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "p"
    lines, _ = section(program, ".debug_line")
    data = bytearray(program.read_bytes())
    data[lines + 4] = 9
    damaged.write_bytes(data)
    (address,) = [a for a in call_sites(program) if our_lines(damaged, [a]).lost]
    profile = read_bytes(heap_of(damaged, address), "x")
    said = "1 of 1 source lines could not be read in full: it has lines of an unknown version (9)"
    for _ in range(2):
        symbols = symbolize(profile, cache=SymbolCache(tmp_path / "cache"))
        assert [p.text for p in symbols.problems] == [f"{damaged}: {said}"]
        assert "alpha" in {f.name for f in symbols.functions}


def test_an_image_that_is_cut_short_is_damaged(program: Path) -> None:
    data = program.read_bytes()
    for size in (100, len(data) // 2, len(data) - 64):
        try:
            image = ElfImage.from_data("x", data[:size])
        except BadElf:
            continue
        with pytest.raises(Damaged):
            Locator(DebugFile(Sections(image)), SplitUnits([])).locate([0x1139], 1e18)


SLOTS: dict[str, Callable[[Path, Path], object]] = {
    "the file": lambda slot, debug: slot.write_bytes(debug.read_bytes()),
    "a hole of a terabyte behind it": lambda slot, debug: (
        slot.write_bytes(debug.read_bytes()), os.truncate(slot, 1 << 40),
    ),
    "a pipe": lambda slot, _: os.mkfifo(slot),
    "a link to itself": lambda slot, _: slot.symlink_to(slot),
    "a folder": lambda slot, _: slot.mkdir(),
    "a device": lambda slot, _: slot.symlink_to("/dev/zero"),
    "a private file": lambda slot, _: slot.symlink_to("/etc/shadow"),
    "half of it": lambda slot, debug: slot.write_bytes(debug.read_bytes()[:1000]),
}  # fmt: skip


@pytest.mark.parametrize("what", SLOTS)
def test_what_lies_in_a_build_id_folder_is_the_debug_file_or_nothing(
    what: str, tmp_path: Path
) -> None:
    program = build_named(tmp_path)
    build_id = ElfImage.open(str(program)).build_id
    slot = tmp_path / "dbg" / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    slot.parent.mkdir(parents=True)
    SLOTS[what](slot, tmp_path / "debug")
    found = search_debug_file(build_id, None, [str(tmp_path / "dbg")])
    assert (found.image is not None) == (what in ("the file", "a hole of a terabyte behind it"))
    assert found.refused == ()
