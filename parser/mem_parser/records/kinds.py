"""Allocator and file kinds, by memray's names and numbers."""

from __future__ import annotations

import enum
import re


class AllocatorType(enum.IntEnum):
    """The allocator of a block."""

    PYMALLOC_FREE = 1
    PYMALLOC_MALLOC = 2
    PYMALLOC_CALLOC = 3
    PYMALLOC_REALLOC = 4
    FREE = 5
    MALLOC = 6
    REALLOC = 7
    CALLOC = 8
    POSIX_MEMALIGN = 9
    ALIGNED_ALLOC = 10
    MEMALIGN = 11
    VALLOC = 12
    PVALLOC = 13
    MMAP = 14
    MUNMAP = 15


class FileFormat(enum.IntEnum):
    """Whether a file has each allocation, or counts for each call stack."""

    ALL_ALLOCATIONS = 0
    AGGREGATED_ALLOCATIONS = 1


_BY_FUNCTION = {
    "malloc": AllocatorType.MALLOC,
    "calloc": AllocatorType.CALLOC,
    "realloc": AllocatorType.REALLOC,
    "reallocarray": AllocatorType.REALLOC,
    "posix_memalign": AllocatorType.POSIX_MEMALIGN,
    "aligned_alloc": AllocatorType.ALIGNED_ALLOC,
    "memalign": AllocatorType.MEMALIGN,
    "valloc": AllocatorType.VALLOC,
    "pvalloc": AllocatorType.PVALLOC,
    "PyObject_ArenaMmap": AllocatorType.MMAP,
    **dict.fromkeys(
        ("mmap", "mmap64", "mremap", "shmat", "brk", "sbrk", "pthread_create"), AllocatorType.MMAP
    ),
}
_OF_PYTHON = re.compile(r"Py(?:Mem_Raw|Mem_|Object_)(Malloc|Calloc|Realloc)")
_PYMALLOC = {
    "Malloc": AllocatorType.PYMALLOC_MALLOC,
    "Calloc": AllocatorType.PYMALLOC_CALLOC,
    "Realloc": AllocatorType.PYMALLOC_REALLOC,
}


def allocator_of(function: str) -> AllocatorType:
    """Return the allocator by the name of the function that was called.

    One without a name of its own, `operator new` among them, is what it ends in: malloc.
    """
    of_python = _OF_PYTHON.fullmatch(function)
    if of_python is not None:
        return _PYMALLOC[of_python[1]]
    return _BY_FUNCTION.get(function, AllocatorType.MALLOC)
