"""Find the allocator that serves malloc.

Model: the files alone give the loader's order: the program, what LD_PRELOAD names, then the
libraries breadth first by DT_NEEDED. The first that exports malloc is the one in use. The symbols
of a program show an allocator that is linked into it and exports nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass

from mem_parser.errors import TargetUnsupported
from mem_parser.runtimes import library_of
from mem_parser.symbols.elf import BadElf
from mem_profiler.doctor.findings import Finding, Status
from mem_profiler.doctor.images import Image
from mem_profiler.entries import plan, planning
from mem_profiler.entries.symbols import Program

_BY_FILE = {
    "libjemalloc": "jemalloc",
    "libtcmalloc": "tcmalloc",
    "libmimalloc": "mimalloc",
    "libc.so": "glibc",
    "libc-2.": "glibc",
}
# A function that only this allocator has, by the names under which programs link it in.
_OWN_SYMBOLS = {
    "_rjem_malloc": "jemalloc",
    "je_malloc": "jemalloc",
    "mallocx": "jemalloc",
    "_rjem_mallocx": "jemalloc",
    "mi_malloc": "mimalloc",
    "tc_malloc": "tcmalloc",
}
_NOT_SEEN = "the sampler does not see its blocks"
_LED = "an attach sees its blocks, and a run that names the Python whose package it is in"
_SAMPLER_SYMBOL = "mem_profiler_attach"  # our own library, which passes calls on


@dataclass(frozen=True, slots=True)
class Allocator:
    """The allocator in use. ``inside`` is true where it is part of the program or of a library
    that does more than allocate; ``symbolic`` where that library calls its own functions
    without a slot; ``led`` where its functions can be led to the sampler all the same.
    """

    name: str
    image: Image
    inside: bool
    symbolic: bool
    led: bool = False


def load_order(images: list[Image], program: Image, preloaded: list[str]) -> list[Image]:
    """The images in the order in which the loader looks names up; late ones are at the end."""
    # A process maps what a soname links to: libtcmalloc.so.4 is libtcmalloc.so.4.5.10 there.
    by_name = {name: image for image in reversed(images) for name in (image.soname, image.name)}
    order: dict[int, Image] = {id(program): program}
    queue = deque(os.path.basename(path) for path in preloaded)
    queue.extend(program.needed)
    while queue:
        image = by_name.get(queue.popleft())
        if image is not None and id(image) not in order:
            order[id(image)] = image
            queue.extend(image.needed)
    for image in images:
        order.setdefault(id(image), image)
    return list(order.values())


def _own_name(image: Image, section: str) -> str | None:
    found = image.defines(section, _OWN_SYMBOLS)
    return next((_OWN_SYMBOLS[name] for name in _OWN_SYMBOLS if name in found), None)


def _file_name(image: Image) -> str | None:
    return next((name for start, name in _BY_FILE.items() if image.name.startswith(start)), None)


def allocator_in(order: list[Image]) -> Allocator | None:
    """The allocator that answers malloc in this load order; None where no file exports it."""
    for image in order:
        if not image.exports_malloc or image.defines(".dynsym", [_SAMPLER_SYMBOL]):
            continue
        name = _file_name(image) or _own_name(image, ".dynsym") or _own_name(image, ".symtab")
        inside = _file_name(image) is None
        symbolic = image.symbolic or image is order[0]
        return Allocator(name or "an allocator of its own", image, inside, symbolic)
    return None


def hidden_allocators(order: list[Image]) -> list[Allocator]:
    """Allocators linked into a large library under private names."""
    found = []
    for image in order:
        if image.facts is None or image.facts.size_bytes < planning.LARGE_LIBRARY_BYTES:
            continue
        with (
            contextlib.suppress(OSError, MemoryError, BadElf, TargetUnsupported),
            Program(image.path, image.descriptor()) as program,
        ):
            name = plan.brought(program)
            if name:
                led = _can_be_led(program)
                found.append(Allocator(name, image, inside=True, symbolic=True, led=led))
    return found


def _can_be_led(library: Program) -> bool:
    try:
        return plan.of_library(library, 0) is not None
    except TargetUnsupported:
        return False


def check(order: list[Image]) -> list[Finding]:
    """The findings on the allocators of a process, or of a program with its libraries."""
    used = allocator_in(order)
    if used is None:
        findings = [Finding("allocator", "warning", "no loaded file exports malloc")]
    elif used.image is order[0]:
        findings = []  # said below
    else:
        findings = [_of_library(used)]
    findings += _inside(order[0], exported=used is not None and used.image is order[0])
    for hidden in hidden_allocators(order[1:]):
        text = f"{hidden.name} is linked into {hidden.image.name} under its own names"
        known = library_of(hidden.image.name)
        seen = _LED if hidden.led else _NOT_SEEN
        cure = f"{seen}; {known.cure}" if known and known.cure else seen
        findings.append(Finding("hidden_allocator", "warning", text, cure))
    return findings


def _of_library(used: Allocator) -> Finding:
    if not used.inside:
        return Finding("allocator", "ok", f"allocator: {used.image.soname} ({used.name})")
    text = f"allocator: {used.name} in {used.image.name}"
    if used.symbolic:
        cure = "its own calls are bound inside it (-Bsymbolic)"
        return Finding("allocator", "warning", text, cure)
    return Finding("allocator", "ok", text)


def _inside(program: Image, *, exported: bool) -> list[Finding]:
    """The finding on an allocator in the program, which needs hooks in all of its functions."""
    try:
        made = plan.of_program(program.path, 0, fd=program.descriptor())
    except TargetUnsupported as error:
        status: Status = "blocker" if exported else "warning"
        return [Finding("inside", status, str(error), "link the allocator as a shared library")]
    except (OSError, MemoryError, BadElf):
        return []
    if made is None:
        if not exported:
            return _without_symbols(program)
        text = f"{program.name} exports a malloc of its own, whose functions have no symbols"
        return [Finding("inside", "blocker", text, "use a build with its symbols")]
    name = "an allocator of its own" if made.allocator == "malloc" else made.allocator
    count = len(made.functions)
    return [Finding("inside", "ok", f"allocator: {name} in the program, with {count} functions")]


def _without_symbols(program: Image) -> list[Finding]:
    """The finding on an allocator in a program that has no symbols of it."""
    try:
        with Program(program.path, program.descriptor()) as read:
            name = plan.without_symbols(read)
    except (OSError, MemoryError, BadElf, TargetUnsupported):
        return []
    if not name:
        return []
    text = f"{planning.WITHOUT_SYMBOLS.format(name)}: {_NOT_SEEN}"
    return [Finding("inside", "warning", text, planning.WITHOUT_SYMBOLS_CURE)]
