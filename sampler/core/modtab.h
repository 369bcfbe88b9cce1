/*
 * modtab.h - recording which modules own the frames of stored stacks, and noticing that one was
 * closed.
 *
 * Model: a module is recorded in the segment from its in-memory ELF header when the first stack
 * through it is stored. Its link map, a heap block of ld.so, is put into the free filter: dlclose
 * ends with ld.so freeing that block, so the slow path of free sees it without any hook on dlclose.
 * Closing bumps the loader generation, which is part of a stack's identity. A row covers the generations
 * from its module's first stack to its closing, and no generation in which another may have lain there.
 *
 * Threads: any number of HOOK callers. A row is written by the thread that took its number (module_count, by
 * compare-and-swap) and read once `published` was stored with release; last_generation is stored with
 * release when a module is closed or comes back, and pairs with the acquire load of whoever asks whether the
 * place was taken since. In the table of modules that this process has met, the key is claimed by
 * compare-and-swap; rows_end, stored last with release, is 0 until the row can be used.
 */
#ifndef MP_MODTAB_H
#define MP_MODTAB_H

#include "table.h"
#include "unwind/modules.h"

/* HOOK. Watch the link map of a module whose addresses something remembers (a stack, an unwind
 * rule). */
void mp_modtab_watch(const struct mp_module *module);

/* HOOK. The modules of frames[0..depth), a stack seen in `generation`, were loaded then: record those that
 * this segment does not know yet. What finds no room has no row, and the stack no names there. */
void mp_modtab_record(struct mp_segment *seg, const uintptr_t *frames, uint32_t depth,
                      uint32_t generation);

/* HOOK. `block` is about to be freed: true if it was the link map of a watched module, which is
 * now closed. */
bool mp_modtab_closed(struct mp_segment *seg, const void *block);

/* INIT, in a fork child that got a segment of its own: forget the rows, watch the link
 * maps again. */
void mp_modtab_after_fork(void);

/* INIT, before a new segment in a process that did not watch for a while: forget all modules. */
void mp_modtab_forget(void);

/* INIT. The module that holds `pc` is named `path` in segments, whatever the loader calls it. `path` stays. */
void mp_modtab_rename(uintptr_t pc, const char *path);

#endif
