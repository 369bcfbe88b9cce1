"""Names: ELF symbols by their sizes, debug files, build-ids, DWARF, demangling, the cache."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elf_files import elf, segment
from heapfiles import HeapFile, Record
from mem_parser.errors import InputFileError
from mem_parser.model import ExecRange, Module
from mem_parser.readers import read_bytes
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debugfiles import find_debug_file
from mem_parser.symbols.demangle import full_name, short_name
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.symtab import RawSymbols, SymbolTable
from mem_parser.symbols.table import Symbols

SOURCE = """
#include <stdlib.h>
static inline __attribute__((always_inline)) void *inlined(int n) { return malloc(n); }
__attribute__((noinline))
void *alpha(int n) { void *p = inlined(n); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline))
void *beta(int n) { void *p = alpha(n + 1); __asm__ volatile("" ::: "memory"); return p; }
int main(void) { return beta(3) == 0; }
"""
BIAS = 0x5500_0000_0000


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs `pie` and `fixed` with debug information, `stripped`, and `split` with its in
    split.debug.
    """
    folder = tmp_path_factory.mktemp("a folder")
    source = folder / "source.c"
    source.write_text(SOURCE)
    for name, flag in (("pie", "-pie"), ("fixed", "-no-pie")):
        run("gcc", "-g", "-O1", "-fPIE", flag, "-Wl,--build-id", "-o", folder / name, source)
    run("strip", "-o", folder / "stripped", folder / "pie")
    run("objcopy", "--only-keep-debug", folder / "pie", folder / "split.debug")
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={folder}/split.debug", folder / "pie",
        folder / "split")  # fmt: skip
    return folder


def symbol_address(program: Path, name: str) -> int:
    return next(
        int(x.split()[0], 16) for x in run("nm", program).splitlines() if x.endswith(" " + name)
    )


def module_of(program: Path, bias: int, **changes: object) -> dict[str, object]:
    image = ElfImage.open(str(program))
    code = next(s for s in image.segments if s.executable)
    start = bias + (code.vaddr & ~0xFFF)
    end = start + 0x1000
    module = {"path": str(program), "build_id": image.build_id, "start": start, "end": end,
              "bias": bias, "exec": [[start, end, code.offset & ~0xFFF]], "first_generation": 0,
              "last_generation": None}  # fmt: skip
    return module | changes


def name_stack(
    module: dict[str, object], *frames: int, binary: str | None = None
) -> tuple[list[str], Symbols]:
    profile = read_bytes(
        HeapFile([Record((0x1000, *frames), 1, 10)], modules=[module]).data, "x.heap"
    )
    symbols = symbolize(profile, binary, cache=SymbolCache(None))
    names = [
        symbols.functions[symbols.locations[k].function].name for k in symbols.locations_of_stack
    ]
    return names[1:], symbols


@pytest.mark.parametrize(("name", "bias"), [("pie", BIAS), ("fixed", 0)])
def test_return_addresses_get_functions_lines_and_inlined_callers(
    programs: Path, name: str, bias: int
) -> None:
    inside = symbol_address(programs / name, "alpha") + bias
    call = next(
        int(line.split(":")[0], 16) + bias
        for line in run("objdump", "-d", "--no-show-raw-insn", programs / name).splitlines()
        if "<malloc@plt>" in line and "call" in line
    )

    names, symbols = name_stack(module_of(programs / name, bias), call + 5)

    assert call > inside
    assert names == ["inlined", "alpha"]
    assert symbols.locations[symbols.locations_of_stack[1]].line == 3
    assert symbols.locations[symbols.locations_of_stack[1]].file.endswith("source.c")


def test_a_return_address_at_the_end_of_a_function_belongs_to_it(programs: Path) -> None:
    start = symbol_address(programs / "pie", "beta")

    names, _ = name_stack(module_of(programs / "pie", BIAS), BIAS + start + 1, BIAS + start)

    assert names[0] == "beta"
    assert names[-1] != "beta"


def test_a_separate_debug_file_is_found_by_its_link(programs: Path) -> None:
    found = find_debug_file("", ElfImage.open(str(programs / "split")))
    start = symbol_address(programs / "pie", "beta")

    assert found is not None
    assert found.path.endswith("split.debug")
    assert name_stack(module_of(programs / "split", BIAS), BIAS + start + 1)[0] == ["beta"]


def test_a_debug_file_is_found_by_build_id_even_if_the_program_is_gone(
    programs: Path, tmp_path: Path
) -> None:
    module = module_of(programs / "pie", BIAS, path="/gone/program")
    build_id = str(module["build_id"])
    place = tmp_path / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    place.parent.mkdir(parents=True)
    shutil.copy(programs / "split.debug", place)
    start = symbol_address(programs / "pie", "beta")
    profile = read_bytes(
        HeapFile([Record((0x1000, BIAS + start + 1), 1, 1)], modules=[module]).data, "x"
    )

    symbols = symbolize(profile, debug_dirs=[str(tmp_path)], cache=SymbolCache(None))

    assert symbols.functions[-1].name == "beta"


def test_a_debuglink_does_not_lead_out_of_its_folders(programs: Path, tmp_path: Path) -> None:
    image = ElfImage.open(str(programs / "split"))
    data = Path(image.path).read_bytes().replace(b"split.debug", b"../e.debug\0")
    (tmp_path / "deep").mkdir()
    shutil.copy(programs / "split.debug", tmp_path / "e.debug")
    (tmp_path / "deep" / "split").write_bytes(data)

    assert find_debug_file("", ElfImage.open(str(tmp_path / "deep" / "split"))) is None


def test_without_symbols_the_module_and_its_own_address_are_shown(programs: Path) -> None:
    start = symbol_address(programs / "pie", "beta")

    names, symbols = name_stack(module_of(programs / "stripped", BIAS), BIAS + start + 1)

    assert names == [f"stripped+0x{start:x}"]
    assert list(symbols.modules_without_names.values()) == [1]


def test_a_changed_binary_is_said_once_and_its_names_are_not_guessed(programs: Path) -> None:
    start = BIAS + symbol_address(programs / "pie", "beta")
    module = module_of(programs / "pie", BIAS, build_id="00" * 20)

    names, symbols = name_stack(module, start + 1, start + 2)

    assert all(n.startswith("pie+0x") for n in names)
    assert len(symbols.problems) == 1
    assert "build-id" in symbols.problems[0].text


def test_a_binary_given_by_the_user_stands_for_the_recorded_one(programs: Path) -> None:
    start = BIAS + symbol_address(programs / "pie", "beta")
    module = module_of(programs / "pie", BIAS, path="/container/pie")

    assert name_stack(module, start + 1, binary=str(programs / "pie"))[0] == ["beta"]


def test_a_binary_of_another_program_is_refused(programs: Path) -> None:
    module = module_of(programs / "pie", BIAS)

    for other in ("/bin/ls", str(programs / "source.c"), "/missing"):
        with pytest.raises(InputFileError):
            name_stack(module, BIAS + 0x1100, binary=other)


def test_an_address_beyond_a_symbols_size_belongs_to_nobody() -> None:
    table = SymbolTable(
        RawSymbols(
            np.array([100, 100, 200, 110], np.uint64),
            np.array([50, 50, 0, 4], np.uint64),
            np.array([1, 6, 12, 16], np.int64),
            np.array([0, 0, 1, 2], np.uint8),
            b"\0_one\0_five\0asm\0nest\0",
        )
    )

    found = table.find(np.array([99, 100, 112, 120, 149, 150, 200, 215, 216], np.uint64))

    assert found == [None, "_one", "nest", "_one", "_one", None, "asm", "asm", None]
    assert table.starts(np.array([100, 101, 200], np.uint64)).tolist() == [True, False, True]


def test_libc_names_agree_with_nm() -> None:
    libc = "/lib/x86_64-linux-gnu/libc.so.6"
    lines = [x.split() for x in run("nm", "-D", "-S", "--defined-only", libc).splitlines()]
    wanted = {int(x[0], 16): set() for x in lines if len(x) == 4 and x[2] in "TWti"}
    for x in lines:
        if len(x) == 4 and x[2] in "TWti":
            wanted[int(x[0], 16)].add(x[3].split("@")[0])

    found = ElfImage.open(libc).symbols().find(np.array(sorted(wanted), np.uint64))

    assert sum(n in wanted[a] for a, n in zip(sorted(wanted), found, strict=True)) == len(wanted)


@pytest.mark.parametrize(
    ("symbol", "short"),
    [
        ("malloc", "malloc"),
        ("_Znwm", "operator new"),
        ("_Znam", "operator new[]"),
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector::push_back"),
        ("_ZN12_GLOBAL__N_13fooEv", "(anonymous namespace)::foo"),
        ("_ZNK3Foo3barEv", "Foo::bar"),
        ("_ZN3FooptEv", "Foo::operator->"),
        ("_ZNKSt4lessIiEclERKiS2_", "std::less::operator()"),
        ("_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc", "std::operator<<"),
        ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
        ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
        ("_Znot_a_name", "_Znot_a_name"),
    ],
)
def test_short_names_have_neither_parameters_nor_template_arguments(
    symbol: str, short: str
) -> None:
    assert short_name(symbol) == short


def test_names_cannot_move_the_cursor() -> None:
    assert full_name("evil\x1b[2Jname\r\n") == r"evil\x1b[2Jname\r\n"


@settings(max_examples=300)
@given(st.text(max_size=60).map(lambda t: "_Z" + t) | st.text(max_size=60))
def test_any_text_has_a_name(text: str) -> None:
    assert isinstance(short_name(text), str)
    assert full_name(text).isprintable()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_elf_file_is_refused_or_read(data: st.DataObject) -> None:
    good = bytearray(Path("/bin/true").read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        # The headers are where damage matters: the first page and the section table at the end.
        near_start = st.integers(0, 1000)
        near_end = st.integers(len(good) - 2200, len(good) - 1)
        good[data.draw(near_start | near_end)] = data.draw(st.integers(0, 255))
    try:
        image = ElfImage.from_data("damaged", bytes(good))
    except BadElf:
        return
    image.symbols().find(np.array([0, 1, 0x5000, 2**64 - 1], np.uint64))
    assert isinstance(image.debuglink, tuple | None)


def test_a_damaged_cache_entry_is_thrown_away_and_made_anew(tmp_path: Path) -> None:
    cache = SymbolCache(tmp_path)
    cache.put("ab" * 20, b"payload")
    file = next(tmp_path.glob("*.sym"))
    file.write_bytes(file.read_bytes()[:-1] + b"X")

    assert cache.get("ab" * 20) is None
    assert cache.get_or_make("ab" * 20, lambda: b"fresh") == b"fresh"
    assert cache.get("ab" * 20) == b"fresh"


def test_the_cache_stays_within_its_bound_and_its_folder(tmp_path: Path) -> None:
    cache = SymbolCache(tmp_path, limit_bytes=5000)
    for k in range(20):
        cache.put(f"{k:040x}", bytes(1000))
    cache.put("../../evil", b"x")

    assert sum(f.stat().st_size for f in tmp_path.glob("*")) <= 5000
    assert cache.get(f"{19:040x}") == bytes(1000)
    assert not list(tmp_path.parent.glob("evil*"))


def test_names_come_from_the_cache_until_the_file_changes(programs: Path, tmp_path: Path) -> None:
    program = tmp_path / "copy"
    shutil.copy(programs / "pie", program)
    start = BIAS + symbol_address(program, "beta")
    data = HeapFile([Record((0x1000, start + 1), 1, 1)], modules=[module_of(program, BIAS)]).data
    cache = SymbolCache(tmp_path / "cache")

    first = symbolize(read_bytes(data, "x"), cache=cache)
    again = symbolize(read_bytes(data, "x"), cache=cache)
    shutil.copy(programs / "stripped", program)
    stripped = symbolize(read_bytes(data, "x"), cache=cache)

    assert first.functions == again.functions
    assert again.functions[-1].name == "beta"
    assert stripped.functions[-1].name.startswith("copy+0x")


def test_a_lost_stack_and_an_empty_one_say_so() -> None:
    data = HeapFile([Record((1,), 1, 10, lost_cause=2), Record((), 1, 10)]).data
    symbols = symbolize(read_bytes(data, "x"), cache=SymbolCache(None))
    assert [f.name for f in symbols.functions if "[" in f.name] == [
        "[stack lost: table full]",
        "[no stack]",
    ]


def test_modules_that_shared_an_address_are_told_apart_by_generation(programs: Path) -> None:
    profile = read_bytes(
        HeapFile([Record((0x1000, 0x2001), 1, 1), Record((0x1000, 0x2001, 0x9), 1, 1)]).data, "x"
    )
    profile.stacks.generation[:] = [0, 5]
    profile.modules = [
        Module("/old.so", [ExecRange(0x2000, 0x3000, 0)], bias=0x2000, last_generation=3),
        Module("/new.so", [ExecRange(0x2000, 0x3000, 0)], bias=0x2000, first_generation=4),
    ]  # fmt: skip

    symbols = symbolize(profile, cache=SymbolCache(None))

    names = [
        symbols.functions[symbols.locations[k].function].name for k in symbols.locations_of_stack
    ]
    assert names == ["0x1000", "old.so+0x0", "0x1000", "new.so+0x0", "0x8"]


def test_a_mapping_is_of_the_segment_whose_pages_it_fills(tmp_path: Path) -> None:
    """Two segments of code share the page of the file at 0x1000."""
    path = tmp_path / "shared.elf"
    code = (0x1000, 0xF00, 0x201000), (0x1F00, 0x1100, 0x402F00)
    path.write_bytes(elf(segments=b"".join(segment(1, at, size, 5, to) for at, size, to in code)))
    image = ElfImage.open(str(path))

    assert image.bias_of(BIAS + 0x201000, 0x1000, 0x1000) == BIAS
    assert image.bias_of(BIAS + 0x402000, 0x1000, 0x2000) == BIAS
    assert image.bias_of(BIAS, 0x1000, 0x200000) is None
