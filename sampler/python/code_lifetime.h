/*
 * code_lifetime.h - how many code objects have ended, so that one at a known address is known to be the one that was there.
 *
 * Model: CPython frees each code object through its type's tp_dealloc, and through nothing else: code has no subtypes, an
 * interpreter gives the memory of its objects back only when none is left, and the objects that
 * 3.11 and 3.12 have as constants are never freed. A function of ours in that slot adds one to a
 * cell, by the address of the object, and to the sum of all, and jumps to what was in the slot.
 * While the cell of an address stands still, no code object at that address has ended.
 *
 * The cells are those of all interpreters of the process. Each time that counting begins all of them move, and
 * none is ever 0 from then on: what was seen before proves nothing.
 *
 * Writing the slot: it is a word of initialised data, which the interpreter itself writes near; the loader must not
 * have sealed it (PT_GNU_RELRO), and it must lead to code of the interpreter's own module. A slot that is another
 * tool's is left alone, also when that tool came later: then nothing is counted, and code objects are compared (identity.h).
 * After the end of counting a thread may still be in our function, and tools may have kept its address; it stays
 * and forwards.
 *
 * Limits: a tool that takes the slot, forwards to what was there before us, and puts our function back between two
 * samples is not noticed.
 *
 * Threads: any. An object's end is counted before its memory is free, and a thread that runs a new object there got
 * it from the allocator after that; so relaxed order is enough.
 */
#ifndef MP_PY_DEATHS_H
#define MP_PY_DEATHS_H

#include "abi/atomics.h"

#include <stdbool.h>
#include <stdint.h>

#define MP_PY_DEATH_BITS 11 /* 16 KiB */
#define MP_PY_DEALLOCS 4 /* interpreters that are counted */

struct mp_py_deaths {
    uint64_t all;
    uint64_t cell[1u << MP_PY_DEATH_BITS];
};

/* The slot of one interpreter. */
struct mp_py_dealloc {
    uintptr_t *slot; /* tp_dealloc of its type of code objects */
    uintptr_t ours;  /* content of the slot while ends are counted; 0: they are not */
};

extern struct mp_py_deaths mp_py_deaths;

/* HOOK. Begin to count with function `number` below MP_PY_DEALLOCS, unless that is going on or cannot be. `module_start`:
 * of the interpreter's module. One number, one slot. */
void mp_py_deaths_begin(struct mp_py_dealloc *dealloc, unsigned number, uintptr_t module_start);

/* INIT. Stop counting, and restore the slot, whose module is still there. */
void mp_py_deaths_end(struct mp_py_dealloc *dealloc, unsigned number);

/* HOOK. Somebody else has taken the slot: count no longer. */
void mp_py_deaths_lost(struct mp_py_dealloc *dealloc, uintptr_t ours);

/* HOOK. Ends of all code objects; 0: they are not counted. */
static inline uint64_t mp_py_deaths_all(struct mp_py_dealloc *dealloc) {
    uintptr_t ours = mp_load_acquire(&dealloc->ours);
    if (mp_unlikely(ours == 0))
        return 0;
    if (mp_unlikely(mp_load_relaxed(dealloc->slot) != ours)) {
        mp_py_deaths_lost(dealloc, ours);
        return 0;
    }
    return mp_load_relaxed(&mp_py_deaths.all);
}

static inline uint64_t *mp_py_death_cell(uintptr_t code) {
    return &mp_py_deaths.cell[code * 0x9e3779b97f4a7c15ULL >> (64 - MP_PY_DEATH_BITS)];
}

/* HOOK. Ends of code objects in the cell of that address; never 0 while they are counted. */
static inline uint64_t mp_py_deaths_at(uintptr_t code) {
    return mp_load_relaxed(mp_py_death_cell(code));
}

#endif
