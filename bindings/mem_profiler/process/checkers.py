"""Tools that check a program while it runs, and under which no capture is possible.

Model: one table of checkers with the reason for each. A checker is recognised by what it must have
in the process: functions that its runtime defines, files that it maps together, or the fixed places
of its shadow memory. A name of a file alone, or a text in one, never decides. The sampler itself
knows those that are libraries by the same functions (sampler/process/checker.c).

Sources of the addresses: compiler-rt, `tsan_platform.h`, `msan.h`, `asan_mapping.h` and
`sanitizer_allocator_primary64.h` for x86-64 Linux.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from mem_profiler.process.procfs import Mapping

_HOOKS = "whose allocator the sampler must not hook"
_EMULATES = (
    "which runs the program's code itself, so that the sampler would see the tool and not the"
    " program"
)
_REPLAYS = "which must see every access to memory that the program makes"
_WITHOUT = "use a build without it"
_DIRECTLY = "run the program without it"
_LARGE_BYTES = 1 << 30  # of shadow memory; other programs' blocks never lie there


@dataclass(frozen=True)
class Checker:
    """One tool. Any of `symbols`, all of `files`, or all of `bounds` identify it.

    ``symbols``: functions or variables that a loaded file but the C library defines, all of one
    group.
    ``files``: patterns of file names, each of which some mapped file must have in full.
    ``bounds``: addresses at which a large anonymous mapping must begin or end.
    """

    check: str
    name: str
    reason: str
    cure: str
    symbols: tuple[frozenset[str], ...] = ()
    files: tuple[str, ...] = ()
    bounds: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The finding: the same words for an attach, a run and the doctor."""
        return f"runs under {self.name}, {self.reason}"


def _any(*names: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset({name}) for name in names)


# Functions that the runtimes of all sanitizers interpose, also those that are linked into
# a program whose own symbols are stripped. No allocator has the last three.
_RUNTIME = frozenset(
    {"malloc", "__libc_memalign", "pthread_create", "pthread_join", "sigaction", "mcheck_pedantic"}
)

CHECKERS = (
    Checker(
        "sanitizer", "ThreadSanitizer", _HOOKS, _WITHOUT,
        symbols=_any("__tsan_init", "__tsan_func_entry"),
        bounds=(0x3000_0000_0000, 0x3400_0000_0000),  # its record of every block
    ),
    Checker(
        "sanitizer", "HWAddressSanitizer", _HOOKS, _WITHOUT, symbols=_any("__hwasan_init"),
    ),
    Checker(
        "sanitizer", "AddressSanitizer", _HOOKS, _WITHOUT,
        symbols=_any("__asan_init"),
        bounds=(0x8FFF_7000, 0x1000_7FFF_8000),  # low shadow, end of the high one
    ),
    Checker(
        "sanitizer", "MemorySanitizer", _HOOKS, _WITHOUT,
        symbols=_any("__msan_init"),
        bounds=(0x1000_0000_0000, 0x5000_0000_0000, 0x5100_0000_0000),
    ),
    Checker("sanitizer", "DataFlowSanitizer", _HOOKS, _WITHOUT, symbols=_any("__dfsan_flush")),
    Checker("sanitizer", "LLVM's MemProf", _HOOKS, _WITHOUT, symbols=_any("__memprof_init")),
    Checker("sanitizer", "LeakSanitizer", _HOOKS, _WITHOUT, symbols=_any("__lsan_init")),
    Checker(
        "sanitizer", "a sanitizer", _HOOKS, _WITHOUT,
        symbols=(_RUNTIME,),
        bounds=(0x6000_0000_0000, 0x6400_0000_0000),  # the allocator of all of them
    ),
    Checker(
        "valgrind", "Valgrind", _EMULATES, _DIRECTLY,
        symbols=_any("_vgnU_freeres"),
        files=(
            r"(?:memcheck|massif|dhat|cachegrind|callgrind|helgrind|drd|lackey|none)-\w+-linux",
            r"vgpreload_core-.*",
        ),
    ),
    Checker(
        "rr", "rr", _REPLAYS, _DIRECTLY,
        symbols=(frozenset({"syscallbuf_ptr", "spurious_desched_syscall"}),),
        files=(r"librrpreload\.so", r"librrpage\.so"),
    ),
    Checker(
        "dynamorio", "DynamoRIO", _EMULATES, _DIRECTLY,
        symbols=_any("dynamorio_app_init", "dynamorio_app_take_over"),
    ),
    Checker(
        "pin", "Intel Pin", _EMULATES, _DIRECTLY,
        symbols=_any("PIN_Init", "PIN_StartProgram"),
        files=(r"pinbin", r"lib(?:pin3?dwarf|xed|c-dynamic|pincrt|stlport-dynamic)\.so"),
    ),
    Checker(
        "emulator", "an emulator (QEMU)", _EMULATES, _DIRECTLY,
        # What only the emulation of one program has, not that of a machine.
        symbols=(frozenset({"cpu_loop", "copy_to_user", "gdb_handlesig"}),),
    ),
)  # fmt: skip

_LIBC = "gnu_get_libc_version"
_WANTED = frozenset({_LIBC}).union(*(group for c in CHECKERS for group in c.symbols))
Defines = Callable[[str, Collection[str]], set[str]]


def _by_names(names: Collection[str]) -> list[Checker]:
    found = []
    for checker in CHECKERS:
        patterns = [re.compile(pattern) for pattern in checker.files]
        if patterns and all(any(p.fullmatch(name) for name in names) for p in patterns):
            found.append(checker)
    return found


def _by_symbols(defines: Defines) -> list[Checker]:
    exported = defines(".dynsym", _WANTED)
    if _LIBC in exported:
        return []  # the library that a runtime interposes
    defined = exported | defines(".symtab", _WANTED)
    return [c for c in CHECKERS if any(group <= defined for group in c.symbols)]


def _by_mappings(mappings: Iterable[Mapping]) -> list[Checker]:
    """x86-64 only; other architectures have other addresses, which are not found."""
    edges: set[int] = set()
    for mapping in mappings:
        if mapping.inode == 0 and mapping.end - mapping.start >= _LARGE_BYTES:
            edges |= {mapping.start, mapping.end}
    return [c for c in CHECKERS if c.bounds and edges.issuperset(c.bounds)]


def find(
    names: Collection[str], files: Iterable[Defines], mappings: Iterable[Mapping] = ()
) -> Checker | None:
    """The first of the table that a process, or a program with its libraries, has.

    ``names`` are file names without folders; each of ``files`` tells which of the asked symbols its
    section (".dynsym", ".symtab") defines.
    """
    found = [*_by_names(names), *_by_mappings(mappings)]
    for defines in files:
        found += _by_symbols(defines)
    return min(found, key=CHECKERS.index, default=None)
