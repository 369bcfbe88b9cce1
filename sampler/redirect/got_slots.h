/*
 * got_slots.h - redirect calls between modules, slot by slot.
 *
 * Model: a module calls a function of another one through a pointer that the loader filled in: a
 * JUMP_SLOT or GLOB_DAT entry of its GOT, or a word of its data with an absolute relocation. This code
 * finds such a slot by the name of its symbol and changes it only if it holds exactly the function to
 * replace, or is unbound and the loader would bind it to that function. So it leaves hooks of other
 * tools, a module's own definitions, and the address of a program's PLT entry for the function alone.
 *
 * It opens the part that the loader made read-only (RELRO) for the time of the write. Each slot is one
 * aligned word, and one atomic store writes it: a concurrent caller takes the old or the new target.
 *
 * It never changes the loader (which has a malloc of its own and replaces it by itself), the vdso, our
 * own module, sanitizer runtimes.
 *
 * Threads: INIT; a later caller must exclude other callers of these functions.
 */
#ifndef MP_GOT_SLOTS_H
#define MP_GOT_SLOTS_H

#include "elf_lookup.h"

#define MP_SLOTS_MAX 640 /* names of one table, which takes 17 KiB */

struct mp_slot_want {
    const char *name;
    uintptr_t expected; /* the real function; 0: what the first definition anywhere is */
    uintptr_t hook;
};

struct mp_slot_counts {
    uint32_t modules; /* scanned */
    uint32_t patched;
    uint32_t already; /* held the hook before */
    uint32_t foreign; /* of that name, but leading elsewhere */
    uint32_t unbound; /* the loader had not bound them, and may yet, even over the hook */
    uint32_t failed;  /* leads to the real function and could not be changed */
    uint32_t unready; /* modules whose relocation had not been finished */
};

struct mp_slot_table {
    struct mp_slot_want want[MP_SLOTS_MAX];
    bool is_default[MP_SLOTS_MAX]; /* an unbound slot of that name would be bound to `expected` */
    int16_t next[MP_SLOTS_MAX];    /* of the same hash; -1: none */
    int16_t head[256];
    unsigned wants;
    const ElfW(Dyn) * skip; /* one more module to leave alone (mp_elf.dynamic); may be NULL */
};

/* INIT. An empty table. */
void mp_slots_init(struct mp_slot_table *table);

/* INIT. Add a name. Returns 0; -ENOENT when expected is 0 and nothing defines it; -ENOSPC. */
int mp_slots_add(struct mp_slot_table *table, const char *name, uintptr_t expected, uintptr_t hook);

enum mp_slots_mode {
    MP_SLOTS_WRITE = 0,
    MP_SLOTS_VERIFY = 1, /* change nothing: slots that need a change count as failed */
    /* leave unbound slots alone: the module may be bound by RTLD_DEEPBIND */
    MP_SLOTS_NO_UNBOUND = 2,
    /* the loader may be at work on a module: skip it while it is not sealed */
    MP_SLOTS_LOADER_RUNS = 4,
};

/* INIT. Treat one module; adds to *counts. False: it was not ready, try again later. */
bool mp_slots_module(const struct mp_slot_table *table, const struct mp_elf *elf, unsigned mode,
                     struct mp_slot_counts *counts);

/* INIT. Treat all modules; adds to *counts. */
void mp_slots_all(const struct mp_slot_table *table, unsigned mode, struct mp_slot_counts *counts);

#endif
