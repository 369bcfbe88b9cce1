/*
 * pymem_hooks.h - the hooks of CPython's allocators.
 *
 * Model: CPython takes memory through three tables of functions, one a domain (PyMem_SetAllocator). A row holds
 * what one domain had; the hooks get it as their context, count as the malloc hooks do, and call what is in the row.
 * So small objects are seen that pymalloc cuts from regions of its own.
 *
 * One block may pass several hooks: the object domain gives large blocks to the raw domain, which calls malloc, and
 * pymalloc may take its regions from there. The outermost hook counts; it marks its frame (mp_self.counting_sp), and the
 * ones further in only forward. A free is known by its address alone, so the first hook that it reaches counts it.
 *
 * Arenas: where small objects shall not be seen, the regions that pymalloc cuts (PyObject_SetArenaAllocator) are, each
 * a block. A row of them has what takes one as `malloc`, and what gives one back as `unmap`.
 *
 * Threads: any, HOOK. A row does not change while a table may lead to it.
 */
#ifndef MP_PYMEM_HOOKS_H
#define MP_PYMEM_HOOKS_H

#include "core/record.h"

#include <stdbool.h>
#include <stddef.h>

/* PyMemAllocatorDomain. */
enum mp_pymem_domain { MP_PYMEM_RAW, MP_PYMEM_MEM, MP_PYMEM_OBJECT, MP_PYMEM_DOMAINS };

/* PyMemAllocatorEx. */
struct mp_pymem_allocator {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t n, size_t size);
    void *(*realloc)(void *ctx, void *old, size_t size);
    void (*free)(void *ctx, void *block);
};

/* PyObjectArenaAllocator. */
struct mp_pymem_arenas {
    void *ctx;
    void *(*map)(void *ctx, size_t size);
    void (*unmap)(void *ctx, void *arena, size_t size);
};

struct mp_pymem_row {
    struct mp_pymem_allocator real; /* malloc NULL: the row is free */
    void (*unmap)(void *ctx, void *arena, size_t size);
};

/* INIT. Tell record.h the address of each hook: frame 0 of its stacks. */
void mp_pymem_name_frames(void);

/* What stands in the table of a domain instead of row->real. */
struct mp_pymem_allocator mp_pymem_hooked(enum mp_pymem_domain domain, struct mp_pymem_row *row);

/* The row of such an allocator; NULL: it is another one. */
const struct mp_pymem_row *mp_pymem_row_of(const struct mp_pymem_allocator *allocator);

/* The same for arenas. */
struct mp_pymem_arenas mp_pymem_hooked_arenas(struct mp_pymem_row *row);
const struct mp_pymem_row *mp_pymem_row_of_arenas(const struct mp_pymem_arenas *arenas);

#endif
