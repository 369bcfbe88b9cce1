"""The table of checkers: what tells that one is there, and what does not."""

from __future__ import annotations

import re
from collections.abc import Collection

import pytest

from c_build import ROOT
from mem_profiler.process.checkers import CHECKERS, Checker, Defines, find
from mem_profiler.process.procfs import Mapping

TIB = 1 << 40


def file(*, exported: Collection[str] = (), local: Collection[str] = ()) -> Defines:
    """A file that defines these functions."""

    def defines(section: str, wanted: Collection[str]) -> set[str]:
        return set(wanted) & set(exported if section == ".dynsym" else local)

    return defines


def area(start: int, end: int, *, inode: int = 0) -> Mapping:
    return Mapping(start, end, "rw-p", 0, (0, 0), inode, "", b"")


def named(name: str) -> Checker:
    [found] = [checker for checker in CHECKERS if checker.name == name]
    return found


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda c: c.name)
def test_each_row_can_be_found_and_gives_its_reason(checker: Checker) -> None:
    for group in checker.symbols:
        assert find([], [file(exported=group)]) is checker
        assert find([], [file(), file(local=group)]) is checker
    if checker.bounds:
        areas = [area(bound, bound + TIB) for bound in checker.bounds]
        assert find([], [], areas) is checker
        assert find([], [], areas[1:]) is None
    assert checker.symbols or checker.files
    assert checker.reason
    assert checker.cure
    assert checker.text.startswith(f"runs under {checker.name}, ")


def test_valgrind_is_found_by_two_files_together() -> None:
    tool, preload = "memcheck-amd64-linux", "vgpreload_core-amd64-linux.so"
    assert find([tool, preload, "libc.so.6"], []) is named("Valgrind")
    assert find([tool], []) is None
    assert find([preload], []) is None


@pytest.mark.parametrize(
    "name",
    ["libtsan.so.2", "tsan", "mytsan", "libclang_rt.asan-x86_64.so", "valgrind", "rr", "pinbin"],
)
def test_the_name_of_a_file_alone_decides_nothing(name: str) -> None:
    assert (
        find([name], [file(exported={"malloc", "main"}, local={"tsan_like", "my_asan_init"})])
        is None
    )


def test_the_c_library_and_an_allocator_are_no_runtime_of_a_sanitizer() -> None:
    [runtime] = named("a sanitizer").symbols
    assert find([], [file(exported=runtime | {"gnu_get_libc_version"})]) is None
    jemalloc = {"malloc", "free", "pthread_create", "mallocx", "aligned_alloc"}
    assert find([], [file(exported=jemalloc)]) is None


def test_large_mappings_of_other_programs_are_no_shadow() -> None:
    areas = [area(0x2000_0000_0000, 0x2000_0000_0000 + 16 * TIB), area(0xC0_0000_0000, TIB)]
    shadow = named("ThreadSanitizer").bounds
    assert find([], [], areas) is None
    assert find([], [], [area(shadow[0], shadow[1], inode=7)]) is None


def test_the_more_exact_name_is_told() -> None:
    [runtime] = named("a sanitizer").symbols
    assert find([], [file(exported=runtime), file(local={"__tsan_init"})]) is named(
        "ThreadSanitizer"
    )


def test_the_sampler_itself_has_the_same_words() -> None:
    text = (ROOT / "sampler" / "process" / "checker.c").read_text(encoding="utf-8")
    joined = re.sub(r'"\s*"', "", text)
    hooks, emulates = re.findall(r'\[\] =\s*", ([^"]+)";', joined)
    rows = re.findall(r'\{"(\w+)", "([^"]+)", (true|false)\}', text)
    assert len(rows) >= 8
    for symbol, name, tells in rows:
        checker = named(name)
        assert frozenset({symbol}) in checker.symbols
        assert checker.reason == (emulates if tells == "true" else hooks)
