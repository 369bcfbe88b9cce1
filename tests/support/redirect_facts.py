"""What redirect.cc and its plugin allocate, how they are linked, and on which allocators.

Model: each of their functions allocates 10 blocks of a size that belongs to it, 4 of them freed.
"""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import pytest

from sampler_run import Counted, build

FAMILY = {
    "by_malloc": 101,
    "by_calloc": 102,
    "by_posix_memalign": 104,
    "by_pointer": 105,
    "by_table": 111,
}
NEW = {
    "by_new": 106,
    "by_new_array": 107,
    "by_new_nothrow": 108,
    "by_new_aligned": 109,
    "by_new_sized": 110,
    "by_string": 120,
    "by_resource": 192,
}
# libstdc++ rounds the size up to the alignment before it asks the C library.
NEW_OF_LIBSTDCXX = NEW | {"by_new_aligned": 128}
PLUGIN = {"plugin_by_malloc": 201, "plugin_by_new": 202}
LIBRARIES = {
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "mimalloc": "libmimalloc.so.2",
}
# Blocks by the allocator's own names.
OWN = {
    "jemalloc": {"by_mallocx": 112},
    "tcmalloc": {"by_tc_malloc": 114},
    "mimalloc": {"by_mi_malloc": 115, "by_mi_calloc": 116, "by_mi_heap": 118},
}
needs = {
    name: pytest.mark.skipif(ctypes.util.find_library(short) is None, reason=f"no {name}")
    for name, short in (
        ("jemalloc", "jemalloc"),
        ("tcmalloc", "tcmalloc_minimal"),
        ("mimalloc", "mimalloc"),
    )
}
ALLOCATORS = [pytest.param(name, marks=needs[name]) for name in LIBRARIES]

LINKING = {
    "full-relro": ("-Wl,-z,relro,-z,now",),
    "lazy": ("-Wl,-z,relro,-z,lazy",),
    "no-relro": ("-Wl,-z,norelro,-z,lazy",),
    "no-plt": ("-fno-plt",),
    "no-pie": ("-no-pie", "-fno-pie"),
    "no-pie-lazy": ("-no-pie", "-fno-pie", "-Wl,-z,lazy"),
}


def under(counted: Counted, function: str) -> tuple[int, int, int]:
    """Blocks, bytes and blocks in use below one function."""
    counts = counted.under(function)
    return counts.blocks, counts.bytes, counts.live_blocks


def text(counted: Counted, field: str) -> str:
    """A text field of the control page."""
    return bytes(counted.control[field]).split(b"\0")[0].decode()


def check(counted: Counted, sizes: dict[str, int]) -> None:
    """Each function has its 10 blocks, 6 in use."""
    assert counted.missing == 0
    found = {name: under(counted, name) for name in sizes}
    expected = {name: (10, 10 * size, 6) for name, size in sizes.items()}
    assert found == expected, {k: v for k, v in found.items() if v != expected[k]}


def check_own(counted: Counted, allocator: str) -> None:
    """Blocks by the allocator's own names, and what it does with those it got before."""
    check(counted, OWN[allocator])
    if allocator == "jemalloc":
        assert under(counted, "by_rallocx") == (20, 10 * 10113, 6)
    if allocator == "mimalloc":
        assert under(counted, "by_mi_realloc") == (20, 10 * 128, 6)
        assert under(counted, "by_mi_heap_destroy") == (2001, 1000 * 5024 + 119, 0)


def plugin_of(linking: str) -> Path:
    flags = ("-shared", "-fPIC", *LINKING[linking])
    return build("redirect_plugin.cc", *flags, out=f"redirect_plugin-{linking}.so")
