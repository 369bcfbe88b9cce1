/*
 * slots_kept.h - what slots held before they were changed, so that it can be put back.
 *
 * Model: while keeping is on, each slot that mp_slots_module() changes gets a row: where it is, what it held,
 * what it holds now, and the identity of its module (mp_elf_identity). Restoring writes only where the same
 * module still lies and the slot still leads to our hook: hooks that others put on top of ours stay, and
 * so does whatever came to a place that was unmapped.
 *
 * Memory: static, MP_KEPT_MAX rows, of which only those used have pages. A slot without a row is not changed.
 *
 * Threads: INIT; one caller at a time.
 */
#ifndef MP_SLOTS_KEPT_H
#define MP_SLOTS_KEPT_H

#include "elf_lookup.h"

#define MP_KEPT_MAX 32768u /* slots of a program of some 3000 modules; 1.75 MiB with the index */

struct mp_kept_counts {
    uint32_t restored;
    uint32_t foreign; /* lead elsewhere by now: left */
    uint32_t gone;    /* in modules that were closed */
    uint32_t failed;  /* could not be written */
};

/* Keep from now on. */
void mp_kept_begin(void);

/* Is keeping on? */
bool mp_kept_is_on(void);

/* Slot `slot` of the module is about to be changed from `old` to `hook`. False: no room, leave it. */
bool mp_kept_note(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                  uintptr_t hook);

/* A slot leads to `hook` that we have no row of: remember that `old` belongs there. False: no room, it will
 * not get it back. */
bool mp_kept_adopt(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                   uintptr_t hook);

/* Forget rows of modules that are gone. */
void mp_kept_prune(void);

/* Rows there are. */
uint32_t mp_kept_count(void);

/* Put everything back, forget all rows, and keep no more. */
void mp_kept_restore(struct mp_kept_counts *counts);

#endif
