"""The sampler loads wherever glibc 2.17 or later is, and defines the malloc family and the
entries of its layers, no more.

A library that asks for one symbol too new is refused by the loader, and the program then runs
unprofiled. So what the sampler imports stands in tests/data/sampler_imports.txt with the library
that had it in glibc 2.17, and a new line there is a decision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection

OLDEST = (2, 17)
IMPORTS = Path(__file__).resolve().parents[2] / "data" / "sampler_imports.txt"
ROOT = Path(__file__).resolve().parents[3]
LIST = ROOT / "sampler" / "hooks" / "malloc_family.h"
FAMILY = set(re.findall(r"^    X\((\w+),", LIST.read_text(encoding="utf-8"), re.MULTILINE))
# What mstx and NVTX look up in a tool: names of tools, by which no program tests for a driver.
MARKS = {
    "InitInjectionMstx",
    "InitializeInjectionNvtx",
    "InitializeInjectionNvtx2",
    "InitializeInjectionNvtxExtension",
}
ATTACH = {"mem_profiler_attach"}
HEAPS = {"mem_profiler_heap_calls"}
# Where the library of layers leads its loaders.
DRIVERS = {"mem_profiler_opencl_layer", "mem_profiler_vulkan_layer"}
STATIC_TLS_MAX_BYTES = 128  # dlopen in a running process finds room for little more
WEAK_VERSION = 2  # VER_FLG_WEAK: the loader only warns


def is_too_new(version: str) -> bool:
    """Whether a GLIBC_x.y version is newer than the oldest one served."""
    numbers = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) > OLDEST


def allowed() -> dict[str, tuple[str, str]]:
    """Symbol -> (library, binding), from the stored list."""
    lines = (line.split("#")[0].split() for line in IMPORTS.read_text().splitlines())
    return {name: (library, binding) for name, library, binding, _ in filter(None, lines)}


@pytest.fixture(scope="module")
def library(sampler: Path) -> Iterator[ELFFile]:
    with sampler.open("rb") as stream:
        yield ELFFile(stream)


def versions(library: ELFFile) -> dict[int, tuple[str, str, int]]:
    """Index of a needed version -> its name, its library, its flags."""
    needed = library.get_section_by_name(".gnu.version_r")
    assert isinstance(needed, GNUVerNeedSection)
    return {
        entry["vna_other"]: (entry.name, need.name, entry["vna_flags"])
        for need, entries in needed.iter_versions()
        for entry in entries
    }


def imports(library: ELFFile) -> dict[str, tuple[str, str, str]]:
    """Undefined symbol -> version, library asked for it (`-` for both: any), binding."""
    symbols = library.get_section_by_name(".dynsym")
    indexes = library.get_section_by_name(".gnu.version")
    assert isinstance(symbols, SymbolTableSection)
    assert isinstance(indexes, GNUVerSymSection)
    known = versions(library)
    found = {}
    for i, symbol in enumerate(symbols.iter_symbols()):
        if symbol.name and symbol["st_shndx"] == "SHN_UNDEF":
            version, where, _ = known.get(indexes.get_symbol(i)["ndx"], ("-", "-", 0))
            binding = symbol["st_info"]["bind"].removeprefix("STB_").lower()
            found[symbol.name] = (version, where, binding)
    return found


def test_exported_names_are_the_malloc_family_and_what_outsiders_call(library: ELFFile) -> None:
    symbols = library.get_section_by_name(".dynsym")

    defined = {s.name for s in symbols.iter_symbols() if s.name and s["st_shndx"] != "SHN_UNDEF"}

    assert defined == FAMILY | ATTACH | HEAPS | DRIVERS | MARKS


def test_every_import_stands_in_the_stored_list(library: ELFFile) -> None:
    listed = allowed()

    for name, (_, where, binding) in imports(library).items():
        assert name in listed, f"new import {name}: did {where} of glibc 2.17 have it?"
        assert (where, binding) == listed[name], name


def test_no_import_is_newer_than_the_oldest_c_library_served(library: ELFFile) -> None:
    found = imports(library)
    newer = {
        name for name, (version, _, _) in found.items() if version != "-" and is_too_new(version)
    }
    unversioned = {name for name, (version, _, _) in found.items() if version == "-"}

    assert newer == set()
    assert {name for name in unversioned if found[name][2] != "weak"} == set()


def test_no_needed_version_makes_an_old_loader_refuse(library: ELFFile) -> None:
    """A weak symbol is not enough: the loader looks at the list of versions before any symbol."""
    fatal = [
        (name, where)
        for name, where, flags in versions(library).values()
        if is_too_new(name) and not flags & WEAK_VERSION
    ]

    assert fatal == []


def test_only_the_c_library_is_needed(library: ELFFile) -> None:
    dynamic = library.get_section_by_name(".dynamic")
    assert isinstance(dynamic, DynamicSection)

    needed = {tag.needed for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"}

    assert needed == {"libc.so.6"}


def test_library_is_bound_at_load_and_stays_loaded(library: ELFFile) -> None:
    dynamic = library.get_section_by_name(".dynamic")
    flags = {tag.entry.d_tag: tag.entry.d_val for tag in dynamic.iter_tags()}

    assert flags["DT_FLAGS_1"] & 0x1, "bound now: no lazy binding inside a hook"
    assert flags["DT_FLAGS_1"] & 0x8, "nodelete: a thread may stand in a hook for ever"
    assert "DT_TEXTREL" not in flags


def test_static_tls_is_small_enough_for_a_running_process(library: ELFFile) -> None:
    [tls] = [segment for segment in library.iter_segments() if segment["p_type"] == "PT_TLS"]

    assert tls["p_memsz"] <= STATIC_TLS_MAX_BYTES


def test_the_librarys_own_memory_is_what_the_docs_say(library: ELFFile) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = re.search(r"^\| object \| KiB \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    symbols = library.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    left = Counter[str]()
    for symbol in symbols.iter_symbols():
        index = symbol["st_shndx"]
        if symbol["st_info"]["type"] == "STT_OBJECT" and isinstance(index, int):
            section = library.get_section(index)
            if section.name in {".data", ".bss"}:
                left[symbol.name] += symbol["st_size"]
    for names, kib in re.findall(r"^\| (`.*?) \| (\d+) \|", table[0], re.MULTILINE):
        own = re.findall(r"`(\w+)`", names)
        assert own, names
        assert sum(left.pop(name) for name in own) <= int(kib) << 10, own
    [rest] = re.findall(r"^\| all others \| (\d+) \|", table[0], re.MULTILINE)
    assert left.total() <= int(rest) << 10


def test_a_stack_that_is_interrupted_in_the_library_can_be_unwound(library: ELFFile) -> None:
    # A signal may come at any instruction of a hook, and its handler may allocate.
    known = {"x64": {6, 7}, "AArch64": {29, 31}}[library.get_machine_arch()]
    frames = [e for e in library.get_dwarf_info().EH_CFI_entries() if isinstance(e, FDE)]
    rows = [row for frame in frames for row in frame.get_decoded().table]
    assert len(rows) > len(frames) > 100
    assert [
        (hex(row["pc"]), row["cfa"].reg)
        for row in rows
        if row["cfa"].expr is None and row["cfa"].reg not in known
    ] == []
