/*
 * hooks_mimalloc.h - calls of a shared libmimalloc by its own names (mi_malloc), which pass through no malloc.
 *
 * Model: slots that lead to these functions are redirected as those of mallocx are, to hooks that entry points have too
 * (entry_hooks.h). The library may also be the program's malloc, or stand beside it; what it takes by malloc itself is
 * inside of blocks that count. One that is part of the program is left to entry points.
 *
 * mi_heap_destroy() ends all blocks of a heap: all live ones in its areas, which mi_heap_visit_blocks() tells without
 * looking at blocks. That is one look through the table for AREAS areas, where the heap had a sample.
 */
#ifndef MP_HOOKS_MIMALLOC_H
#define MP_HOOKS_MIMALLOC_H

#include "redirect/got_slots.h"

/* INIT. Add the functions of the first libmimalloc that is loaded to a table. True: there is one. */
bool mp_mimalloc_add(struct mp_slot_table *table);
#endif
