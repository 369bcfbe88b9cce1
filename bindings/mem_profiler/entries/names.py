"""Allocator functions that programs link in, and the meaning of their arguments.

A signature is a kind and one letter per argument: s size, n count (the size is multiplied by it), b
block, h heap, - anything else. Kinds: A allocates, P as posix_memalign, R as realloc, r as realloc
but frees what it cannot enlarge, Z resizes in place, F frees, I as realloc with a pointer to the
block.

The list of one allocator must have every function that frees, or freed blocks would seem live.
Sources: the C standard, malloc(3), jemalloc(3) 5.3, gperftools' tcmalloc.h 2.16, and the Itanium
C++ ABI for LP64.
"""

from __future__ import annotations

from dataclasses import dataclass

from mem_profiler._core import ffi, lib

NONE: int = lib.MP_ARGUMENT_NONE
KINDS: dict[str, int] = {
    "A": lib.MP_ENTRY_ALLOC,
    "P": lib.MP_ENTRY_POSIX,
    "R": lib.MP_ENTRY_REALLOC,
    "r": lib.MP_ENTRY_REALLOC,
    "Z": lib.MP_ENTRY_RESIZE,
    "F": lib.MP_ENTRY_FREE,
    "I": lib.MP_ENTRY_REALLOC_AT,
}
FREE = KINDS["F"]
FREES_ON_FAILURE: int = lib.MP_ENTRY_FREES_ON_FAILURE

_STANDARD = """
malloc A:s              calloc A:ns             realloc R:bs            reallocarray R:bns
free F:b                cfree F:b               posix_memalign P:b-s    aligned_alloc A:-s
memalign A:-s           valloc A:s              pvalloc A:s             reallocf r:bs
free_sized F:b-         free_aligned_sized F:b--
"""
_OPERATORS = """
_Znwm A:s               _ZnwmRKSt9nothrow_t A:s-        _ZnwmSt11align_val_t A:s-
_Znam A:s               _ZnamRKSt9nothrow_t A:s-        _ZnamSt11align_val_t A:s-
_ZnwmSt11align_val_tRKSt9nothrow_t A:s--        _ZnamSt11align_val_tRKSt9nothrow_t A:s--
_ZdlPv F:b              _ZdlPvm F:b-                    _ZdlPvRKSt9nothrow_t F:b-
_ZdaPv F:b              _ZdaPvm F:b-                    _ZdaPvRKSt9nothrow_t F:b-
_ZdlPvSt11align_val_t F:b-                      _ZdlPvmSt11align_val_t F:b--
_ZdaPvSt11align_val_t F:b-                      _ZdaPvmSt11align_val_t F:b--
_ZdlPvSt11align_val_tRKSt9nothrow_t F:b--       _ZdaPvSt11align_val_tRKSt9nothrow_t F:b--
"""
_EXTENDED = """
mallocx A:s-            rallocx R:bs-           xallocx Z:bs--
dallocx F:b-            sdallocx F:b--          sdallocx_noflags F:b-
"""
_TCMALLOC = """
tc_malloc A:s           tc_malloc_skip_new_handler A:s  tc_calloc A:ns          tc_realloc R:bs
tc_memalign A:-s        tc_posix_memalign P:b-s tc_valloc A:s           tc_pvalloc A:s
tc_aligned_alloc A:-s   tc_free F:b             tc_cfree F:b            tc_free_sized F:b-
tc_free_aligned_sized F:b--
tc_new A:s              tc_new_nothrow A:s-     tc_new_aligned A:s-     tc_new_aligned_nothrow A:s--
tc_newarray A:s         tc_newarray_nothrow A:s-        tc_newarray_aligned A:s-
tc_newarray_aligned_nothrow A:s--
tc_delete F:b           tc_delete_nothrow F:b-  tc_delete_sized F:b-    tc_delete_aligned F:b-
tc_delete_aligned_nothrow F:b--                 tc_delete_sized_aligned F:b--
tc_deletearray F:b      tc_deletearray_nothrow F:b-     tc_deletearray_sized F:b-
tc_deletearray_aligned F:b-                     tc_deletearray_aligned_nothrow F:b--
tc_deletearray_sized_aligned F:b--
"""
INNER = {
    "_mi_malloc_generic", "_mi_free_generic", "mi_free_generic", "mi_free_generic_local",
    "mi_free_generic_mt", "_mi_free_block_mt", "mi_free_block_mt", "mi_free_block_local",
}  # fmt: skip
"""Functions of mimalloc that only its own call: those that end the quick ways in and out."""
INNER_ENDINGS = ("je_malloc_default", "je_free_default", "je_sdallocx_default")
"""The same of jemalloc, behind any prefix."""
_MIMALLOC = ffi.string(lib.mp_mimalloc_words()).decode()


@dataclass(frozen=True)
class Signature:
    """The meaning of one function's arguments; indexes, or NONE."""

    kind: int
    flags: int
    size: int
    count: int
    block: int

    @classmethod
    def of(cls, text: str) -> Signature:
        """Read "A:-s" and the like."""
        kind, _, letters = text.partition(":")

        def index(letter: str) -> int:
            return letters.index(letter) if letter in letters else NONE

        flags = FREES_ON_FAILURE if kind == "r" else 0
        return cls(KINDS[kind], flags, index("s"), index("n"), index("b"))


def _read(text: str, prefix: str = "") -> dict[str, Signature]:
    words = text.split()
    return {
        prefix + name: Signature.of(signature)
        for name, signature in zip(words[::2], words[1::2], strict=True)
    }


@dataclass(frozen=True)
class Family:
    """One allocator's functions. It is in a file that defines all of `marks` and a function that
    frees.
    """

    allocator: str
    marks: tuple[str, ...]
    functions: dict[str, Signature]

    def is_in(self, defined: set[str]) -> bool:
        """Whether a file that defines these names contains this allocator."""
        frees = {name for name, signature in self.functions.items() if signature.kind == FREE}
        return defined.issuperset(self.marks) and not defined.isdisjoint(frees)


def families(jemalloc_prefixes: set[str]) -> list[Family]:
    """The allocators to search for; a jemalloc may have any prefix."""
    standard = _read(_STANDARD) | _read(_OPERATORS) | _read(_EXTENDED)
    found = [
        Family(f"jemalloc ({prefix})", (f"{prefix}malloc", f"{prefix}mallocx"),
               _read(_STANDARD, prefix) | _read(_EXTENDED, prefix))
        for prefix in sorted(jemalloc_prefixes - {""})
    ]  # fmt: skip
    return [
        *found,
        Family("mimalloc", ("mi_malloc",), _read(_MIMALLOC)),
        Family("tcmalloc", ("tc_malloc",), _read(_TCMALLOC)),
        Family("jemalloc", ("malloc", "mallocx"), standard),
        Family("malloc", ("malloc",), standard),
    ]
