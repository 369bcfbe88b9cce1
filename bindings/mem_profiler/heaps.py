"""Report the blocks of an allocator that is written in Python: of buffers, caches, shared memory.

    heap = Heap("frames", own_pages=True)
    heap.report_allocation(address, size_bytes)
    heap.report_free(address)

What each report means is in the header of C, `include/mem_profiler.h`. A program that was not
started under the sampler reports nothing: each method returns at once.
"""

from __future__ import annotations

import os

import mem_profiler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME_BYTES = 40
_EXACT, _OWN_PAGES, _ARENA = 1, 2, 4


class Heap:
    """Blocks of one allocator: the domain heap-NAME of a profile."""

    def __init__(
        self, name: str, *, exact: bool = False, own_pages: bool = False, arena: bool = False
    ) -> None:
        """Blocks are sampled as malloc's, or each one is (`exact`). They are inside malloc's, or in
        pages of their own. Those of an arena end mostly by reset().
        """
        flags = exact * _EXACT | own_pages * _OWN_PAGES | arena * _ARENA
        self._calls = _Calls(name, flags) if _is_loaded() else None

    def report_allocation(self, address: int, size_bytes: int) -> None:
        """A block was allocated."""
        if self._calls is not None:
            self._calls.allocated(self._calls.at, address, size_bytes)

    def report_free(self, address: int) -> None:
        """A block is about to be freed."""
        if self._calls is not None:
            self._calls.freed(self._calls.at, address)

    def report_resize(self, before: int, after: int, size_bytes: int) -> None:
        """A block has another size now, and perhaps another address."""
        if self._calls is not None:
            self._calls.resized(self._calls.at, before, after, size_bytes)

    def reset(self) -> None:
        """All blocks ended."""
        if self._calls is not None:
            self._calls.emptied(self._calls.at)


def _is_loaded() -> bool:
    try:
        with open("/proc/self/maps", "rb") as maps:
            return os.fsencode(mem_profiler.LIBRARY_NAME) in maps.read()
    except OSError:
        return False


class _Calls:
    """The sampler's functions, and a struct mem_profiler_heap of ours at `at`."""

    def __init__(self, name: str, flags: int) -> None:
        import ctypes

        def nothing(*_arguments: int) -> None:
            """Stand for a sampler that is not in the program's own namespace."""

        class Struct(ctypes.Structure):
            _fields_ = (
                ("bytes", ctypes.c_uint32),
                ("flags", ctypes.c_uint32),
                ("of_sampler", ctypes.c_uint64 * 4),
                ("name", ctypes.c_char * _NAME_BYTES),
            )

        word, size = ctypes.c_void_p, ctypes.c_size_t
        self._struct = Struct(
            bytes=ctypes.sizeof(Struct), flags=flags, name=name.encode()[: _NAME_BYTES - 1]
        )
        self.at = ctypes.addressof(self._struct)
        self.allocated: Any = nothing
        self.freed: Any = nothing
        self.resized: Any = nothing
        self.emptied: Any = nothing
        try:
            find = ctypes.CDLL(None).mem_profiler_heap_calls
        except AttributeError:
            return
        find.restype = size
        table = (size * 5).from_address(find())
        # PYFUNCTYPE: the GIL is kept, by which the sampler reads names of threads and tasks.
        self.allocated = ctypes.PYFUNCTYPE(None, word, word, size)(table[1])
        self.freed = ctypes.PYFUNCTYPE(None, word, word)(table[2])
        self.resized = ctypes.PYFUNCTYPE(None, word, word, word, size)(table[3])
        self.emptied = ctypes.PYFUNCTYPE(None, word)(table[4])
