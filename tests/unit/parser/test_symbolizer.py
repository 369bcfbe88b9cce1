"""Names of addresses: files by build-id, debug files, inlined frames, what is cached."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_files import elf, segment
from heapfiles import HeapFile, Record, module_of
from mem_parser.errors import InputFileError
from mem_parser.frames import find_places
from mem_parser.leaks import suppressions
from mem_parser.model import ExecRange, Module, Profile
from mem_parser.readers import read_bytes
from mem_parser.symbols import isolation, remote_files, symbolizer
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debugfiles import search_debug_file
from mem_parser.symbols.dwarf import read_lines
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.files import ModuleFinder
from mem_parser.symbols.keptnames import KeptNames
from mem_parser.symbols.modulenames import ModuleNames
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Symbols

SOURCE = """
#include <stdlib.h>
static inline __attribute__((always_inline)) void *inlined(int n) { return malloc(n); }
__attribute__((noinline))
void *alpha(int n) { void *p = inlined(n); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline))
void *beta(int n) { void *p = alpha(n + 1); __asm__ volatile("" ::: "memory"); return p; }
volatile long word;
static inline __attribute__((always_inline)) long gate(void) { return word; }
__attribute__((noinline, used)) long hook(void) { return gate(); }
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


def code_of(program: Path, bias: int, **changes: object) -> dict[str, object]:
    code = next(s for s in ElfImage.open(str(program)).segments if s.executable)
    start = bias + (code.vaddr & ~0xFFF)
    end = start + 0x1000
    found = {"bias": bias, "exec": [[start, end, code.offset & ~0xFFF]]} | changes
    return module_of(program, start, end, **found)


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
    names, symbols = name_stack(code_of(programs / name, bias), call + 5)
    assert call > inside
    assert names == ["inlined", "alpha"]
    assert symbols.locations[symbols.locations_of_stack[1]].line == 3
    assert symbols.locations[symbols.locations_of_stack[1]].file.endswith("source.c")


def test_the_first_byte_of_a_function_is_its_own_whatever_is_inlined_there(programs: Path) -> None:
    start = symbol_address(programs / "pie", "hook")
    image = ElfImage.open(str(programs / "pie"))
    lines = read_lines(image, [start], [image.path], [])
    assert lines is not None
    assert [f.symbol for f in lines.frames[start]] == ["gate", "hook"]
    names, _ = name_stack(code_of(programs / "pie", BIAS), BIAS + start + 1)
    assert names == ["hook"]


def test_a_return_address_at_the_end_of_a_function_belongs_to_it(programs: Path) -> None:
    start = symbol_address(programs / "pie", "beta")
    names, _ = name_stack(code_of(programs / "pie", BIAS), BIAS + start + 1, BIAS + start)
    assert names[0] == "beta"
    assert names[-1] != "beta"


def test_a_separate_debug_file_is_found_by_its_link(programs: Path) -> None:
    found = search_debug_file("", ElfImage.open(str(programs / "split"))).image
    start = symbol_address(programs / "pie", "beta")
    assert found is not None
    assert found.path.endswith("split.debug")
    assert name_stack(code_of(programs / "split", BIAS), BIAS + start + 1)[0] == ["beta"]


def test_a_debug_file_is_found_by_build_id_even_if_the_program_is_gone(
    programs: Path, tmp_path: Path
) -> None:
    module = code_of(programs / "pie", BIAS, path="/gone/program")
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
    assert search_debug_file("", ElfImage.open(str(tmp_path / "deep" / "split"))).image is None


def test_without_symbols_the_module_and_its_own_address_are_shown(programs: Path) -> None:
    start = symbol_address(programs / "pie", "beta")
    names, symbols = name_stack(code_of(programs / "stripped", BIAS), BIAS + start + 1)
    assert names == [f"stripped+0x{start:x}"]
    assert list(symbols.modules_without_names.values()) == [1]


def test_a_changed_binary_is_said_once_and_its_names_are_not_guessed(programs: Path) -> None:
    start = BIAS + symbol_address(programs / "pie", "beta")
    module = code_of(programs / "pie", BIAS, build_id="00" * 20)
    names, symbols = name_stack(module, start + 1, start + 2)
    assert all(n.startswith("pie+0x") for n in names)
    assert len(symbols.problems) == 1
    assert "build-id" in symbols.problems[0].text


def test_copies_of_one_build_are_one_module_wherever_they_were(
    programs: Path, tmp_path: Path
) -> None:
    """A program that copies its plugin before each load and removes the copy after it."""
    gone = [str(tmp_path / f"plugin-{k}.so") for k in range(3)]
    modules = [
        code_of(programs / "pie", BIAS + (k << 24), path=path) for k, path in enumerate(gone)
    ]
    offset = symbol_address(programs / "pie", "beta") + 1
    records = [Record((0x1000, BIAS + (k << 24) + offset), 1, 10) for k in range(3)]
    profile = read_bytes(HeapFile(records, modules=modules).data, "x.heap")

    def named() -> Symbols:
        return symbolize(profile, cache=SymbolCache(None), debug_dirs=())

    symbols = named()
    assert [f.module for f in symbols.functions if f.module] == [gone[0]]
    assert [(p.text, p.hint) for p in symbols.problems] == [(
        f"{gone[0]} (one of 3 copies): no such file or directory; it is shown without names",
        f"--debug-dir DIR: a folder with the file of build-id {modules[0]['build_id']}",
    )]  # fmt: skip
    shutil.copy(programs / "pie", gone[1])
    symbols = named()
    assert symbols.problems == []
    assert [f.name for f in symbols.functions if f.module] == ["beta"]
    assert len(find_places(profile, symbols)) == 1


def test_copies_of_one_build_are_read_once_without_a_cache_too(programs: Path) -> None:
    places = [BIAS, BIAS + (1 << 24)]
    modules = [code_of(programs / "pie", bias) for bias in places]
    modules[0]["path"] = "/gone/plugin.so"
    profile = read_bytes(HeapFile([Record((0x1000,), 1, 1)], modules=modules).data, "x.heap")
    finder = ModuleFinder(profile, debug_dirs=())
    offset = symbol_address(programs / "pie", "beta")
    read: dict[str, KeptNames] = {}
    with mock.patch.object(finder, "files_of", side_effect=finder.files_of) as opened:
        for module, bias in zip(profile.modules, places, strict=True):
            looked_up = ModuleNames(module, finder, SymbolCache(None), read)
            at = np.array([bias + offset], dtype=np.uint64)
            _, [frames], _ = looked_up.find(at, np.zeros(1, dtype=np.bool_))
            assert [f.name for f in frames] == ["beta"]
    assert opened.call_count == 1


def test_a_binary_given_by_the_user_stands_for_the_recorded_one(programs: Path) -> None:
    start = BIAS + symbol_address(programs / "pie", "beta")
    module = code_of(programs / "pie", BIAS, path="/container/pie")
    assert name_stack(module, start + 1, binary=str(programs / "pie"))[0] == ["beta"]


def test_a_binary_of_another_program_is_refused(programs: Path) -> None:
    module = code_of(programs / "pie", BIAS)
    for other in ("/bin/ls", str(programs / "source.c"), "/missing"):
        with pytest.raises(InputFileError):
            name_stack(module, BIAS + 0x1100, binary=other)


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


def test_names_come_from_the_cache_until_the_file_changes(programs: Path, tmp_path: Path) -> None:
    program = tmp_path / "copy"
    shutil.copy(programs / "pie", program)
    start = BIAS + symbol_address(program, "beta")
    data = HeapFile([Record((0x1000, start + 1), 1, 1)], modules=[code_of(program, BIAS)]).data
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


@pytest.fixture
def asked_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let another process read files, as a test says; this one may start no reader."""
    monkeypatch.setattr(remote_files, "_asker", None)  # put back in the end
    refused = mock.Mock(side_effect=AssertionError("it reads files"))
    monkeypatch.setattr(symbolizer, "in_child", refused)
    monkeypatch.setattr(suppressions, "in_child", refused)
    return remote_files.ask_by


def of_four_modules(programs: Path) -> Profile:
    start = symbol_address(programs / "pie", "beta")
    modules = [
        code_of(programs / "pie", BIAS),
        code_of(programs / "split", BIAS + 0x10000),
        code_of(programs / "fixed", BIAS + 0x20000, build_id="00" * 20),
        code_of(programs / "pie", BIAS + 0x30000, path="/gone/program"),
    ]
    frames = [BIAS + k * 0x10000 + start + n for k in range(4) for n in (1, 9)]
    return read_bytes(HeapFile([Record((0x1000, *frames), 1, 1)], modules=modules).data, "x")


def test_a_process_that_opens_no_files_has_the_same_names_from_another_one(
    programs: Path, asked_elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = of_four_modules(programs)
    with monkeypatch.context() as own:
        own.setattr(symbolizer, "in_child", isolation.in_child)
        here = symbolize(profile, cache=SymbolCache(None))
    asked = []

    def ask(question: Any) -> Any:
        asked.append(question)
        return json.loads(json.dumps(remote_files.answer(json.loads(json.dumps(question)))))

    asked_elsewhere(ask)
    there = symbolize(profile, cache=SymbolCache(None))
    assert [f.name for f in there.functions] == [f.name for f in here.functions]
    assert "beta" in {f.name for f in there.functions}
    assert there.problems == here.problems
    assert len(asked) == 1
    text = suppressions.own_list(profile)
    assert (text.patterns, len(asked)) == ([], 2)
    suppressions.own_list(profile)
    assert len(asked) == 2


@pytest.mark.parametrize("told", [
    None, 7, [], {}, [{"answer": None}] * 4, [{"answer": {"virtual": "x"}}] * 4,
    [{"crash": 7}] * 4,
])  # fmt: skip
def test_answers_from_elsewhere_that_make_no_sense_cost_names_alone(
    programs: Path, asked_elsewhere: Any, told: Any
) -> None:
    asked_elsewhere(lambda _: told)
    symbols = symbolize(of_four_modules(programs), cache=SymbolCache(None))
    assert not any(f.name == "beta" for f in symbols.functions)
    assert len(symbols.problems) >= 3
    assert all("it is shown without names" in problem.text for problem in symbols.problems)


QUESTIONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["kind", "module", "modules", "asked", "addresses", "foreign", "path",
                         "ranges", "build_id", "bias", "deleted", "debug_dirs", "function"]),
        inner, max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(QUESTIONS)
def test_any_question_of_files_is_answered_or_refused(question: Any) -> None:
    try:
        remote_files.answer(question)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        pass
