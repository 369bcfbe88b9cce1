/*
 * cxx_family.h - the second family: entry points of allocators that do not pass through malloc.
 *
 * One line each: X(id, symbol, shape, hook, undo)
 *   shape the order of the arguments, which is all that the wrappers of hooks_cxx.c use:
 *            ALLOC1(size)  ALLOC2(size, x)  ALLOC3(size, x, y)  ALIGNED(x, size)  CALLOC(n, size)
 *            POSIX(&block, x, size)  REALLOC(block, size)  RALLOCX(block, size, x)
 *            XALLOCX(block, size, extra, x)  FREE1(block)  FREE2(block, x)  FREE3(block, x, y)
 *          x and y (alignment, flags, a size that is only advice, std::nothrow) are words handed on.
 *   hook   MP_HOOK_<hook> is frame 0 of the stacks recorded
 *   undo   id of the function that frees what a trial call got, or `none`: not tried
 *
 * Sources: the Itanium C++ ABI for LP64 (operator new is _Znwm), jemalloc(3), gperftools' tcmalloc.h, and C23
 * for free_sized.
 */
#ifndef MP_CXX_FAMILY_H
#define MP_CXX_FAMILY_H

/* clang-format off */
#define MP_CXX_OPERATORS(X)                                                                        \
    X(new,                  "_Znwm",                                ALLOC1, MALLOC, del)           \
    X(new_array,            "_Znam",                                ALLOC1, MALLOC, del_array)     \
    X(new_nt,               "_ZnwmRKSt9nothrow_t",                  ALLOC2, MALLOC, del)           \
    X(new_array_nt,         "_ZnamRKSt9nothrow_t",                  ALLOC2, MALLOC, del_array)     \
    X(new_al,               "_ZnwmSt11align_val_t",                 ALLOC2, MALLOC, del_al)        \
    X(new_array_al,         "_ZnamSt11align_val_t",                 ALLOC2, MALLOC, del_array_al)  \
    X(new_al_nt,            "_ZnwmSt11align_val_tRKSt9nothrow_t",   ALLOC3, MALLOC, del_al)        \
    X(new_array_al_nt,      "_ZnamSt11align_val_tRKSt9nothrow_t",   ALLOC3, MALLOC, del_array_al)  \
    X(del,                  "_ZdlPv",                               FREE1,  FREE,   none)          \
    X(del_array,            "_ZdaPv",                               FREE1,  FREE,   none)          \
    X(del_sized,            "_ZdlPvm",                              FREE2,  FREE,   none)          \
    X(del_array_sized,      "_ZdaPvm",                              FREE2,  FREE,   none)          \
    X(del_nt,               "_ZdlPvRKSt9nothrow_t",                 FREE2,  FREE,   none)          \
    X(del_array_nt,         "_ZdaPvRKSt9nothrow_t",                 FREE2,  FREE,   none)          \
    X(del_al,               "_ZdlPvSt11align_val_t",                FREE2,  FREE,   none)          \
    X(del_array_al,         "_ZdaPvSt11align_val_t",                FREE2,  FREE,   none)          \
    X(del_sized_al,         "_ZdlPvmSt11align_val_t",               FREE3,  FREE,   none)          \
    X(del_array_sized_al,   "_ZdaPvmSt11align_val_t",               FREE3,  FREE,   none)          \
    X(del_al_nt,            "_ZdlPvSt11align_val_tRKSt9nothrow_t",  FREE3,  FREE,   none)          \
    X(del_array_al_nt,      "_ZdaPvSt11align_val_tRKSt9nothrow_t",  FREE3,  FREE,   none)

#define MP_CXX_EXTENDED(X)                                                                         \
    X(mallocx,              "mallocx",                              ALLOC2, MALLOC, dallocx)       \
    X(rallocx,              "rallocx",                              RALLOCX, REALLOC, none)        \
    X(xallocx,              "xallocx",                              XALLOCX, REALLOC, none)        \
    X(dallocx,              "dallocx",                              FREE2,  FREE,   none)          \
    X(sdallocx,             "sdallocx",                             FREE3,  FREE,   none)          \
    X(free_sized,           "free_sized",                           FREE2,  FREE,   none)          \
    X(free_aligned_sized,   "free_aligned_sized",                   FREE3,  FREE,   none)          \
    X(cfree,                "cfree",                                FREE1,  FREE,   none)

#define MP_CXX_TCMALLOC(X)                                                                         \
    X(tc_malloc,            "tc_malloc",                            ALLOC1, MALLOC, tc_free)       \
    X(tc_malloc_skip,       "tc_malloc_skip_new_handler",           ALLOC1, MALLOC, tc_free)       \
    X(tc_calloc,            "tc_calloc",                            CALLOC, CALLOC, tc_free)       \
    X(tc_realloc,           "tc_realloc",                           REALLOC, REALLOC, none)        \
    X(tc_memalign,          "tc_memalign",                          ALIGNED, MEMALIGN, tc_free)    \
    X(tc_posix_memalign,    "tc_posix_memalign",                    POSIX, POSIX_MEMALIGN, tc_free) \
    X(tc_valloc,            "tc_valloc",                            ALLOC1, VALLOC, tc_free)       \
    X(tc_pvalloc,           "tc_pvalloc",                           ALLOC1, PVALLOC, tc_free)      \
    X(tc_free,              "tc_free",                              FREE1,  FREE,   none)          \
    X(tc_cfree,             "tc_cfree",                             FREE1,  FREE,   none)          \
    X(tc_free_sized,        "tc_free_sized",                        FREE2,  FREE,   none)          \
    X(tc_new,               "tc_new",                               ALLOC1, MALLOC, tc_del)        \
    X(tc_new_nt,            "tc_new_nothrow",                       ALLOC2, MALLOC, tc_del)        \
    X(tc_new_al,            "tc_new_aligned",                       ALLOC2, MALLOC, tc_del_al)     \
    X(tc_new_al_nt,         "tc_new_aligned_nothrow",               ALLOC3, MALLOC, tc_del_al)     \
    X(tc_new_array,         "tc_newarray",                          ALLOC1, MALLOC, tc_del_array)  \
    X(tc_new_array_nt,      "tc_newarray_nothrow",                  ALLOC2, MALLOC, tc_del_array)  \
    X(tc_new_array_al,      "tc_newarray_aligned",                  ALLOC2, MALLOC, tc_del_array_al) \
    X(tc_new_array_al_nt,   "tc_newarray_aligned_nothrow",          ALLOC3, MALLOC, tc_del_array_al) \
    X(tc_del,               "tc_delete",                            FREE1,  FREE,   none)          \
    X(tc_del_nt,            "tc_delete_nothrow",                    FREE2,  FREE,   none)          \
    X(tc_del_sized,         "tc_delete_sized",                      FREE2,  FREE,   none)          \
    X(tc_del_al,            "tc_delete_aligned",                    FREE2,  FREE,   none)          \
    X(tc_del_al_nt,         "tc_delete_aligned_nothrow",            FREE3,  FREE,   none)          \
    X(tc_del_sized_al,      "tc_delete_sized_aligned",              FREE3,  FREE,   none)          \
    X(tc_del_array,         "tc_deletearray",                       FREE1,  FREE,   none)          \
    X(tc_del_array_nt,      "tc_deletearray_nothrow",               FREE2,  FREE,   none)          \
    X(tc_del_array_sized,   "tc_deletearray_sized",                 FREE2,  FREE,   none)          \
    X(tc_del_array_al,      "tc_deletearray_aligned",               FREE2,  FREE,   none)          \
    X(tc_del_array_al_nt,   "tc_deletearray_aligned_nothrow",       FREE3,  FREE,   none)          \
    X(tc_del_array_sized_al, "tc_deletearray_sized_aligned",        FREE3,  FREE,   none)

#define MP_CXX_FAMILY(X) MP_CXX_OPERATORS(X) MP_CXX_EXTENDED(X) MP_CXX_TCMALLOC(X)
/* clang-format on */

#endif
