"""From the file of a program or library to the plan by which the sampler patches its allocator.

Layout: `sampler/abi/entry_plan.h`. The plan redirects every function of an allocator or refuses the
allocator: a free that the sampler does not see would be a leak in the report.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mem_parser.elfrows import EM_X86_64
from mem_parser.errors import TargetUnsupported
from mem_profiler._core import ffi, lib
from mem_profiler.entries import decode, names
from mem_profiler.entries.symbols import Function, Program
from mem_profiler.process import checkers

ENTRIES_MAX: int = lib.MP_PLAN_ENTRIES_MAX
_ENTRY_BYTES: int = ffi.sizeof("struct mp_entry")
_NAME_BYTES = 39
_BODY_MAX_BYTES = 1 << 16
_LONGEST_PREFIX = 32
# Strings that an allocator prints, present even if its symbols are stripped.
_TEXTS = {b"<jemalloc>: ": "jemalloc", b"mimalloc: ": "mimalloc", b"tcmalloc: ": "tcmalloc"}
_INTERPRETER = "_PyEval_EvalFrameDefault"  # CPython 3.13 and later have a mimalloc, for choice only
_CLONE = re.compile(r"\.(constprop|isra)\.\d+$")
# Names that only an allocator's own functions have; jemalloc's prefix is any.
_OWN = re.compile(r"^_?mi_|^\w*je_|^\w*(malloc|calloc|realloc|free|allocx|alloc)(\.\w+)*$")
_PREFIX = re.compile(r" \(\w+\)")


@dataclass(frozen=True)
class Plan:
    """What to patch. `data` is a struct mp_entry_plan; `functions` their names."""

    allocator: str
    functions: tuple[str, ...]
    data: bytes


@dataclass(frozen=True)
class _Entry:
    """One function with its first bytes of code and the points for a redirection."""

    function: Function
    signature: names.Signature
    code: bytes
    points: list[decode.Point]


@dataclass(frozen=True)
class Inside:
    """An allocator that is part of a program, and its functions with their meaning."""

    allocator: str
    functions: tuple[tuple[Function, names.Signature], ...]


def _usable(found: list[Function], family: names.Family) -> list[Function]:
    # A static function with the name `free` is not an allocator.
    plain = "malloc" in family.marks
    return [f for f in found if f.name in family.functions and not (plain and f.is_local)]


def _defined(program: Program, names: Collection[str]) -> set[str]:
    return {function.name for function in program.functions(names)}


def find(program: Program) -> Inside | None:
    """The allocators inside a program; None where it has none.

    Raises TargetUnsupported where the compiler made copies of its functions for single callers, or
    where they are those of a checker.
    """
    checker = checkers.find([], [lambda _section, names: _defined(program, names)])
    if checker is not None:
        raise TargetUnsupported(checker.text, hint=checker.cure)
    prefixes = {
        f.name.removesuffix("mallocx") for f in program.functions_ending("mallocx", _LONGEST_PREFIX)
    }
    families = names.families(prefixes)
    defined = program.functions({name for family in families for name in family.functions})
    present = {f.name for f in defined}
    chosen: dict[int, tuple[Function, names.Signature]] = {}
    allocators: list[str] = []
    for family in families:
        usable = _usable(defined, family)
        if not family.is_in({f.name for f in usable}):
            continue
        if not (family.allocator == "malloc" and allocators):
            allocators.append(family.allocator)
        for function in usable:
            chosen.setdefault(function.address, (function, family.functions[function.name]))
    if not chosen:
        return None
    wanted = {function.name for function, _ in chosen.values()}
    for name in sorted(present):
        if _CLONE.search(name) and _CLONE.sub("", name) in wanted:
            raise TargetUnsupported(
                f"the compiler made special copies of the allocator's functions ({name})",
                hint="build the allocator as a shared library",
            )
    return Inside(", ".join(allocators), tuple(chosen[at] for at in sorted(chosen)))


def _refuse_copied(program: Program, inside: Inside) -> None:
    """Raise TargetUnsupported where callers have the functions in themselves (link-time
    optimisation): a free there passes no entry point.
    """
    inner = program.functions(names.INNER)
    for ending in names.INNER_ENDINGS:
        inner += program.functions_ending(ending, _LONGEST_PREFIX)
    for caller in sorted(program.callers({function.address for function in inner})):
        if not _OWN.search(caller):
            raise TargetUnsupported(
                f"the compiler copied functions of {inside.allocator} into {caller or 'others'}",
                hint="build the allocator without link-time optimisation",
            )


def without_symbols(program: Program) -> str:
    """The name of an allocator in a program without symbols of it, by its texts; empty: none."""
    name = next((name for text, name in _TEXTS.items() if program.holds_text(text)), "")
    return "" if name == "mimalloc" and program.functions([_INTERPRETER]) else name


def brings(program: Program) -> bool:
    """Whether a library may bring an allocator along: it is neither a Python nor malloc itself."""
    return not program.functions([_INTERPRETER]) and all(
        function.is_local for function in program.functions(["malloc"])
    )


def brought(program: Program) -> str:
    """The allocators that a library brings along; empty: none."""
    if not brings(program):
        return ""
    try:
        inside = find(program)
    except TargetUnsupported:
        inside = None  # its functions have copies; its texts may name it
    return without_symbols(program) if inside is None else _PREFIX.sub("", inside.allocator)


def _fill_point(into: Any, point: decode.Point, bias: int) -> None:
    into.offset, into.length = point.offset, point.length
    into.write_bytes, into.pushed_words = point.write_bytes, point.pushed_words
    into.copy_bytes, into.fixups = len(point.copy), len(point.fixups)
    ffi.memmove(into.copy, point.copy, len(point.copy))
    for fixup, made in zip(point.fixups, into.fixup, strict=False):
        made.at, made.end, made.target = fixup.at, fixup.end, fixup.target + bias


def _fill_entry(into: Any, entry: _Entry, bias: int) -> None:
    signature, name = entry.signature, entry.function.name[:_NAME_BYTES].encode()
    into.address = entry.function.address + bias
    into.kind, into.flags = signature.kind, signature.flags
    into.size_argument, into.count_argument = signature.size, signature.count
    into.block_argument = signature.block
    into.points, into.code_bytes = len(entry.points), len(entry.code)
    ffi.memmove(into.code, entry.code, len(entry.code))
    ffi.memmove(into.name, name, len(name))
    for point, made in zip(entry.points, into.point, strict=False):
        _fill_point(made, point, bias)


def _packed(entries: list[_Entry], bias: int, *, of_library: bool = False) -> bytes:
    """A struct mp_entry_plan."""
    size = ffi.offsetof("struct mp_entry_plan", "entry") + len(entries) * _ENTRY_BYTES
    plan = ffi.new("struct mp_entry_plan *", {"entry": len(entries)})
    plan.magic, plan.version = lib.MP_PLAN_MAGIC, lib.MP_PLAN_VERSION
    plan.entries, plan.entry_bytes = len(entries), _ENTRY_BYTES
    plan.of_library = of_library
    for k, entry in enumerate(entries):
        _fill_entry(plan.entry[k], entry, bias)
    return bytes(ffi.buffer(plan, size))


def _refuse(inside: Inside, function: Function, why: str) -> TargetUnsupported:
    return TargetUnsupported(
        f"{inside.allocator} is part of the program, and its {function.name} {why}"
    )


def _points(program: Program, inside: Inside, function: Function) -> list[decode.Point]:
    if function.is_ifunc:
        raise _refuse(inside, function, "is chosen only when the program starts (IFUNC)")
    size = min(max(function.size, decode.CODE_BYTES), _BODY_MAX_BYTES)
    points = decode.points(program.code(function.address, size), function.address)
    # The bytes of a jump's distance must not change later: no other function may begin there.
    others = [other.address for other, _ in inside.functions if other is not function]
    points = [
        p
        for p in points
        if not any(
            function.address + p.offset < other < function.address + p.offset + decode.JUMP_BYTES
            for other in others
        )
    ]
    if not points:
        raise _refuse(
            inside, function, "begins with instructions that the sampler cannot redirect safely"
        )
    return points


def of_program(
    path: str | Path, bias: int, symbols: str | Path | None = None, *, fd: int | None = None
) -> Plan | None:
    """The plan for a program at `path`, loaded at `bias` above the addresses in its file.

    `symbols` is a file with its symbols, where it has none itself; `fd` is the program's file where
    it is open already. None: it contains no allocator. Raises TargetUnsupported where it contains
    one that cannot be redirected; OSError.
    """
    with Program(path, fd) as program:
        if symbols is not None:
            with Program(symbols) as debug:
                inside = find(debug)
        else:
            inside = find(program)
        return None if inside is None else made_of(program, inside, bias)


def of_library(program: Program, bias: int) -> Plan | None:
    """The plan for the allocators that a library brings along; None: none. Raises as `made_of`."""
    inside = find(program) if brings(program) else None
    return None if inside is None else made_of(program, inside, bias, of_library=True)


def made_of(program: Program, inside: Inside, bias: int, *, of_library: bool = False) -> Plan:
    """The plan for what `find` found in a program or library. Raises as `of_program` does."""
    if program.machine != EM_X86_64:
        raise TargetUnsupported(
            f"{inside.allocator} is part of the program; the sampler follows it on x86-64 only"
        )
    if len(inside.functions) > ENTRIES_MAX:
        raise TargetUnsupported(
            f"{inside.allocator} has more than {ENTRIES_MAX} functions, which the sampler"
            " cannot follow"
        )
    if of_library:
        _refuse_copied(program, inside)
    entries = [
        _Entry(
            function,
            signature,
            program.code(function.address, decode.CODE_BYTES),
            _points(program, inside, function),
        )
        for function, signature in inside.functions
    ]
    listed = tuple(function.name for function, _ in inside.functions)
    return Plan(inside.allocator, listed, _packed(entries, bias, of_library=of_library))
