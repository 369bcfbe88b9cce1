"""Recognize the allocator's own frames: blocks are charged to its caller.

The rule drops every frame from the innermost up to and including the outermost one that is an
allocator's, as jeprof does. `FrameRule.JEPROF` is jeprof's list alone;
`OWN` adds the C++ and Rust standard allocators, CPython's allocation functions and the allocators'
internal entry points; `PROGRAM` drops the frames of libraries behind these as well (see
`mem_parser.libraries`); `NONE` keeps all frames.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.model import SAMPLER_NAME
from mem_parser.symbols.table import Function


class FrameRule(enum.StrEnum):
    """Which frames to drop."""

    PROGRAM = "program"
    OWN = "own"
    JEPROF = "jeprof"
    NONE = "none"


IMPORT_FILE = re.compile(r"importlib/(?:_bootstrap|__init__)|<frozen (?:importlib|zipimport)")
"""Files of Python's import machinery."""
_JEPROF_PLAIN = {
    "calloc", "cfree", "malloc", "newImpl", "void* newImpl", "free", "memalign", "posix_memalign",
    "aligned_alloc", "pvalloc", "valloc", "realloc", "mallocx", "rallocx", "xallocx", "dallocx",
    "sdallocx", "sdallocx_noflags", "tc_calloc", "tc_cfree", "tc_malloc", "tc_free", "tc_memalign",
    "tc_posix_memalign", "tc_pvalloc", "tc_valloc", "tc_realloc", "tc_new", "tc_delete",
    "tc_newarray", "tc_deletearray", "tc_new_nothrow", "tc_newarray_nothrow", "do_malloc",
    "::do_malloc", "::do_malloc_or_cpp_alloc", "DoSampledAllocation", "simple_alloc::allocate",
    "__malloc_alloc_template::allocate", "__builtin_delete", "__builtin_new",
    "__builtin_vec_delete", "__builtin_vec_new", "operator new", "operator new[]",
    "malloc_zone_malloc", "malloc_zone_calloc", "malloc_zone_valloc", "malloc_zone_realloc",
    "malloc_zone_memalign", "malloc_zone_free", "__start_google_malloc", "__stop_google_malloc",
    "__start_malloc_hook", "__stop_malloc_hook",
}  # fmt: skip
_JEPROF_FAMILY = _JEPROF_PLAIN | {f"_{name}" for name in _JEPROF_PLAIN}
_JEPROF_PATTERN = re.compile(r"TCMalloc|^tcmalloc::")

REPORTING = frozenset(
    {
        "mem_profiler_report_allocation",
        "mem_profiler_report_resize",
        "mem_profiler_report_pool_allocation",
    }
)
"""The inline functions of `mem_profiler.h` that report blocks: what calls one is an allocator."""
_OWN_FAMILY = REPORTING | {
    "reallocarray", "free_sized", "free_aligned_sized", "nallocx",
    # glibc behind malloc
    "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_memalign", "_int_malloc",
    "_int_realloc", "_int_memalign", "_mid_memalign", "__malloc_hook_ini",
    # Rust
    "__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc", "__rdl_alloc", "__rdl_realloc",
    "__rdl_alloc_zeroed", "__rg_alloc", "__rg_realloc", "__rustc::__rust_alloc",
    "alloc::alloc::alloc", "alloc::alloc::alloc_zeroed", "alloc::alloc::realloc",
    "alloc::alloc::exchange_malloc", "alloc::alloc::Global::alloc_impl",
    # CPython
    "PyMem_Malloc", "PyMem_Calloc", "PyMem_Realloc", "PyMem_RawMalloc", "PyMem_RawCalloc",
    "PyMem_RawRealloc", "PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc",
    "_PyMem_RawMalloc", "_PyMem_RawCalloc", "_PyMem_RawRealloc", "_PyObject_Malloc",
    "_PyObject_Calloc", "_PyObject_Realloc", "_PyMem_DebugRawAlloc", "_PyMem_DebugRawMalloc",
    "_PyMem_DebugRawCalloc", "_PyMem_DebugRawRealloc", "_PyMem_DebugMalloc", "_PyMem_DebugCalloc",
    "_PyMem_DebugRealloc", "pymalloc_alloc", "new_arena", "allocate_from_new_pool",
    "_PyObject_Arena", "PyObject_ArenaMmap",
}  # fmt: skip
_OWN_PATTERN = re.compile(
    r"^(?:"
    r"std::(?:__\w+::)*(?:__)?(?:new_)?allocator(?:_traits)?::(?:allocate|allocate_at_least|_S_\w*allocate\w*)"
    r"|__gnu_cxx::(?:__)?(?:new|malloc|pool|bitmap|mt|ext)_?allocat?o?r?::allocate"
    r"|std::(?:__\w+::)*_?_?libcpp_(?:operator_new|allocate)"
    r"|std::(?:__\w+::)*__allocate_(?:guarded|at_least)"
    r"|std::(?:__\w+::)*__detail::_Hashtable_alloc::_M_allocate_\w+"
    r"|std::(?:__\w+::)*_\w+::_M_allocate(?:_map|_node)?"
    r"|std::(?:__\w+::)*\w+::_M_allocate"
    r"|std::pmr::(?:\w+::)*(?:do_)?allocate"
    r"|<alloc::alloc::Global as core::alloc::Allocator>::\w*(?:allocate|grow)\w*"
    r"|<std::alloc::System as core::alloc::global::GlobalAlloc>::\w+"
    r")$"
)
_ALLOCATOR_MODULE = re.compile(r"^lib(?:jemalloc|tcmalloc\w*|mimalloc|snmalloc\w*)\b.*\.so")


def allocator_functions(functions: Sequence[Function], rule: FrameRule) -> npt.NDArray[np.bool_]:
    """Return for each function whether ``rule`` takes it for an allocator's."""
    return np.array([is_allocator(f, rule) for f in functions], dtype=np.bool_)


def shown_name(function: Function) -> str:
    """Return the name that a file for other tools gives a function; empty: none. Inner functions of
    allocators without names share that of their module, by which they are known again.
    """
    if function.known:
        return function.name
    return f"[{_file_of(function.module)}]" if is_allocator(function, FrameRule.OWN) else ""


def is_allocator(function: Function, rule: FrameRule) -> bool:
    """Tell whether ``rule`` takes this function for an allocator's."""
    if rule is FrameRule.NONE or function.python:
        return False
    jeprof = rule is FrameRule.JEPROF
    return _is_allocator(function.name, function.module, known=function.known, jeprof=jeprof)


@functools.lru_cache(maxsize=1 << 17)
def _is_allocator(name: str, module: str, *, known: bool, jeprof: bool) -> bool:
    if name in _JEPROF_FAMILY or _JEPROF_PATTERN.search(name):
        return True
    module = _file_of(module)
    if not known or name == f"[{module}]":
        # A function without a name in a stripped allocator is one of its inner functions; in the
        # sampler, a hook.
        return module == SAMPLER_NAME or bool(_ALLOCATOR_MODULE.match(module))
    if jeprof:
        return False
    if module == SAMPLER_NAME:
        return True
    return name in _OWN_FAMILY or bool(_OWN_PATTERN.match(name))


def _file_of(module: str) -> str:
    # An attached sampler is mapped from a memfd; a file cut early knows it by that name alone.
    return module.rsplit("/", 1)[-1].removeprefix("memfd:").removesuffix(" (deleted)")
