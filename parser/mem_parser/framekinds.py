"""What kind of frame a name is: allocator, import system, or the program's own.

The innermost frames of every stack are the allocation functions themselves. A reader wants the bytes at who asked for
them, so reports can leave those frames out, and Python's import machinery likewise. The lists are of names that are
allocation functions wherever they occur; a program's own wrapper is not among them.
"""

from __future__ import annotations

import re

from mem_parser.framenames import Frame

ALLOCATOR = 1
"""Frames of malloc and its family, of operator new, and of the allocators under them."""
IMPORT_SYSTEM = 2
"""Frames of Python's import machinery."""
PSEUDO = 4
"""Not a function: lost stacks, places where frames were left out."""

_ALLOCATORS = re.compile(
    r"""^(?:
      (?:__libc_|__interceptor_|__wrap_|__|je_|tc_|mi_|rpmalloc_|_int_|do_|mp_hook_|mem_sampler_)?
        (?:malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|strdup|strndup)
      | operator\ new(?:\[\])?(?:\(.*)?
      | (?:std::)?(?:__1::)?allocator<.*>::allocate.*
      | (?:std::)?(?:__gnu_cxx::|__1::)(?:__)?(?:new_allocator|libcpp_allocate|allocator).*allocate.*
      | std::allocator_traits<.*>::allocate.*
      | std::_Vector_base<.*>::_M_allocate.*
      | std::__(?:new_allocator|detail::_Hashtable_alloc|allocate_guarded).*allocat.*
      | __gnu_cxx::new_allocator<.*>::allocate.*
      | (?:__rust_|__rdl_|__rg_|alloc::alloc::)(?:alloc|realloc|alloc_zeroed|exchange_malloc).*
      | <?alloc::alloc::Global.*
      | imalloc(?:_.*)?|iallocztm|arena_malloc.*|tcache_alloc_.*|large_malloc.*|sys_?malloc|sbrk
      | _PyMem_(?:Raw|Debug)?(?:Raw)?(?:Malloc|Calloc|Realloc|Alloc).*
      | Py(?:Mem|Object)_(?:Raw)?(?:Malloc|Calloc|Realloc)
      | _?Py(?:Object|Mem)_.*(?:pymalloc|allocate_from_new_pool|new_arena).*|new_arena|_PyObject_(?:Malloc|Calloc|Realloc)
    )(?:@.*)?$""",
    re.VERBOSE,
)
_ALLOCATOR_MODULES = ("libmem_sampler.so", "libjemalloc.so", "libtcmalloc", "libmimalloc.so")
_IMPORT_FILES = ("importlib/_bootstrap", "<frozen importlib", "<frozen zipimport", "importlib/__init__")
_IMPORT_FUNCTIONS = re.compile(
    r"^(?:PyImport_Import.*|import_find_and_load|_?PyImport_.*|_PyEval_ImportName|import_name"
    r"|_find_and_load.*|_load_unlocked|_call_with_frames_removed|_handle_fromlist)$"
)


def kind_of(frame: Frame) -> int:
    """Return the kind of a frame as the sum of this module's flags; 0 is an ordinary function."""
    if frame.function.startswith("["):
        return PSEUDO
    kind = 0
    module = frame.module.rsplit("/", 1)[-1]
    if module.startswith(_ALLOCATOR_MODULES) or _ALLOCATORS.match(frame.function):
        kind |= ALLOCATOR
    if any(part in frame.file for part in _IMPORT_FILES) or (
        _IMPORT_FUNCTIONS.match(frame.function)
    ):
        kind |= IMPORT_SYSTEM
    return kind
