/*
 * hooks_cxx.h - the hooks of the second family (cxx_family.h). None of them is exported.
 */
#ifndef MP_HOOKS_CXX_H
#define MP_HOOKS_CXX_H

#include "cxx_family.h"

#include <stdint.h>

enum mp_cxx_id {
#define MP_CXX_ID(id, symbol, shape, hook, undo) MP_CXX_##id,
    MP_CXX_FAMILY(MP_CXX_ID)
#undef MP_CXX_ID
        MP_CXX_COUNT,
    MP_CXX_none = MP_CXX_COUNT,
};

enum mp_cxx_shape {
    MP_SHAPE_ALLOC1,
    MP_SHAPE_ALLOC2,
    MP_SHAPE_ALLOC3,
    MP_SHAPE_ALIGNED,
    MP_SHAPE_CALLOC,
    MP_SHAPE_POSIX,
    MP_SHAPE_REALLOC,
    MP_SHAPE_RALLOCX,
    MP_SHAPE_XALLOCX,
    MP_SHAPE_FREE1,
    MP_SHAPE_FREE2,
    MP_SHAPE_FREE3,
};

struct mp_cxx_entry {
    const char *symbol;
    enum mp_cxx_shape shape;
    enum mp_cxx_id undo; /* MP_CXX_none: not to be tried */
    uintptr_t hook;      /* address of the wrapper */
};

extern const struct mp_cxx_entry mp_cxx_entries[MP_CXX_COUNT];

/* The real functions behind the wrappers; set (INIT) before a slot is redirected to a wrapper. */
extern uintptr_t mp_cxx_real[MP_CXX_COUNT];

#endif
