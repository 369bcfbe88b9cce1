"""Runtimes that take their memory from the kernel by themselves, so that malloc does not see it.

A process is recognised by the names of its program and of its mappings: files, and what Go calls
its memory. The cures are in each runtime's own manual. Libraries that bring an allocator along are
found by their symbols (`mem_profiler.entries.plan.brought`); here are those whose pages in RAM go
on after blocks are freed, and which of them can use malloc.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime: how texts name it, what shows its memory (empty: nothing that we know), and the
    value of an environment variable with which it uses malloc.
    """

    name: str
    cure: str
    pattern: re.Pattern[str]
    malloc_if: tuple[str, str] | None = None

    def uses_malloc(self, environment: Mapping[str, str] | None) -> bool:
        """Whether the program's ``environment``, None if unknown, makes it use malloc."""
        return self.malloc_if is not None and self.malloc_if in (environment or {}).items()


def _runtime(
    name: str, pattern: str, cure: str = "", malloc_if: tuple[str, str] | None = None
) -> Runtime:
    return Runtime(name, cure, re.compile(pattern), malloc_if)


RUNTIMES = (
    _runtime(
        "PHP",
        r"php(-fpm|-cgi)?(\d[\d.]*)?|libphp[\d.]*\.so.*",
        "USE_ZEND_ALLOC=0 makes it use malloc",
        ("USE_ZEND_ALLOC", "0"),
    ),
    _runtime("Go", r"\[anon: Go: .*\]", "for Go's heap: net/http/pprof"),
    _runtime("the JVM", r"libjvm\.so", "for its heap: jcmd PID GC.class_histogram"),
    _runtime("LuaJIT", r"luajit[\d.a-z-]*|libluajit-.*\.so.*"),
    _runtime("Erlang", r"beam(\.smp)?", "for its heap: erlang:memory(), recon_alloc"),
    _runtime("SBCL", r"sbcl", "for its heap: (room)"),
    _runtime(
        "OCaml", r"ocaml(run|opt|c)?(\.opt)?|lib(asm|caml)run.*\.so.*", "for its heap: memtrace"
    ),
    _runtime("Guile", r"guile([\d.-]+)?|libguile-.*\.so.*", "for its heap: (gc-stats)"),
    _runtime("the Boehm collector", r"libgc\.so.*"),
    _runtime(
        "V8",
        r"node(js)?|deno|chrome|chromium|electron|libnode\.so.*",
        "for its heap: node --heapsnapshot-signal=SIGUSR2",
    ),
    _runtime("JavaScriptCore", r"bun|libjavascriptcoregtk-.*\.so.*"),
    _runtime("Mono", r"mono(-sgen)?|libmonosgen-.*\.so.*", "for its heap: mono --profile=log"),
    _runtime(".NET", r"dotnet|libcoreclr\.so", "for its heap: dotnet-gcdump"),
)
LIBRARIES = (
    _runtime(
        "Arrow",
        r"libarrow\.so.*",
        "ARROW_DEFAULT_MEMORY_POOL=system makes it use malloc",
        ("ARROW_DEFAULT_MEMORY_POOL", "system"),
    ),
    _runtime("Polars", r"_?polars[a-z_\d]*\.abi3\.so"),
)


def runtime_of(
    mappings: Iterable[str], environment: Mapping[str, str] | None = None
) -> Runtime | None:
    """The first runtime that has one of these mappings; None: none that we know, or ``environment``
    makes it use malloc.
    """
    names = {os.path.basename(path).removesuffix(" (deleted)") for path in mappings}
    found = next((one for one in RUNTIMES if any(map(one.pattern.fullmatch, names))), None)
    return None if found is not None and found.uses_malloc(environment) else found


def library_of(path: str) -> Runtime | None:
    """The one of `LIBRARIES` that a file is."""
    name = os.path.basename(path)
    return next((one for one in LIBRARIES if one.pattern.fullmatch(name)), None)
