"""Functions by name in the symbol tables of a file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import EXECUTABLE, STRINGS, SYMBOLS, Part, elf, segment, symbol
from mem_profiler.entries.symbols import Program

WANTED = ("malloc", "free", "mi_free", "_ZdlPv", "tc_malloc")
PIECES = st.sampled_from(
    [*WANTED, "my_", "x", "mallocx", "je_", ".constprop.0", ".isra.12", "$", "é", "_ok", ""]
)
NAMES = st.lists(st.lists(PIECES, max_size=3).map("".join), max_size=12)


def with_symbols(spelled: list[str], *, tails: bool, text_end: bytes = b"") -> bytes:
    """An ELF file with a function for each name; with ``tails`` names share their ends."""
    text, rows = bytearray(b"\0"), [bytes(24)]
    for k, name in enumerate(spelled):
        raw = name.encode() + b"\0"
        at = text.find(raw) if tails else -1
        if at < 0:
            at = len(text)
            text += raw
        rows.append(symbol(at, 0x1000 + 16 * k, 16))
    text += text_end
    return elf(
        Part(".text", b"\xc3" * 64, flags=EXECUTABLE),
        Part(".symtab", b"".join(rows), SYMBOLS, link=3),
        Part(".strtab", bytes(text), STRINGS),
        segments=segment(1, 0, 4096),
    )


@given(NAMES, st.booleans())
def test_the_functions_are_those_whose_whole_names_match(
    tmp_path_factory: pytest.TempPathFactory, spelled: list[str], tails: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "symbols.elf"
    path.write_bytes(with_symbols(spelled, tails=tails, text_end=b"free"))
    plain = "|".join(map(re.escape, WANTED))
    clones = re.compile(rf"(?:{plain})(?:\.(?:constprop|isra)\.\d+)?")
    prefixed = re.compile(r"\w{0,4}mallocx", re.ASCII)
    with Program(path) as program:
        found = {(f.name, f.address) for f in program.functions(WANTED)}
        ending = {(f.name, f.address) for f in program.functions_ending("mallocx", 4)}
    places = [(name, 0x1000 + 16 * k) for k, name in enumerate(spelled)]
    assert found == {place for place in places if clones.fullmatch(place[0])}
    assert ending == {place for place in places if prefixed.fullmatch(place[0])}


@given(st.binary(max_size=400), st.binary(max_size=200))
def test_symbols_that_make_no_sense_are_absent(
    tmp_path_factory: pytest.TempPathFactory, rows: bytes, text: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "forged.elf"
    path.write_bytes(
        elf(
            Part(".text", b"\xc3" * 64, flags=EXECUTABLE),
            Part(".symtab", rows, SYMBOLS, link=3),
            Part(".strtab", text, STRINGS),
            segments=segment(1, 0, 4096),
        )
    )
    with Program(path) as program:
        for function in program.functions(WANTED):
            assert function.name.partition(".")[0] in WANTED
        program.functions_ending("mallocx", 32)
