/*
 * got_slots_kept.h - the old values of changed slots, for their restore.
 *
 * Model: while keeping is on, each slot that mp_slots_module() changes gets a row: its address, its old
 * value, its new value, and the identity of its module (mp_elf_identity). The restore writes only where
 * the same module is still there and the slot still points to our hook: hooks that others put on top of
 * ours stay, and so does anything new at an unmapped place.
 *
 * Memory: static, MP_KEPT_MAX rows; only used ones have pages. A slot without a row does not change.
 *
 * Threads: INIT; one caller at a time.
 */
#ifndef MP_GOT_SLOTS_KEPT_H
#define MP_GOT_SLOTS_KEPT_H

#include "elf_lookup.h"

#define MP_KEPT_MAX 32768u /* slots of a program of some 3000 modules; 1.75 MiB with the index */

struct mp_kept_counts {
    uint32_t restored;
    uint32_t foreign; /* lead elsewhere by now: left */
    uint32_t failed;  /* could not be written */
};

/* Keep from now on. */
void mp_kept_begin(void);

/* Is keeping on? */
bool mp_kept_is_on(void);

/* Slot `slot` of the module is about to change from `old` to `hook`. False: no room, leave it. */
bool mp_kept_note(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                  uintptr_t hook);

/* A slot without a row points to `hook`: remember that `old` belongs there. False: no room, so no restore. */
bool mp_kept_adopt(const struct mp_elf *elf, uint64_t identity, uintptr_t slot, uintptr_t old,
                   uintptr_t hook);

/* Forget rows of modules that are gone; none is if none was unloaded since the last time. */
void mp_kept_prune(void);

/* Rows there are. */
uint32_t mp_kept_count(void);

/* Restore everything, forget all rows, and stop keeping. */
void mp_kept_restore(struct mp_kept_counts *counts);

#endif
