/*
 * modtab.h - record which modules own the frames of stored stacks, and notice when one is closed.
 *
 * Model: with the first stack through a module, the sampler records the module in the segment from its
 * in-memory ELF header. It puts the module's link map, a heap block of ld.so, into the free filter: at
 * the end of dlclose ld.so frees that block, so the slow path of free sees it without any hook on
 * dlclose. The closing increases the loader generation, which is part of a stack's identity. A row covers
 * the generations from its module's first stack to its closing, and no generation in which another module
 * may have been there.
 *
 * Threads: any number of HOOK callers. The thread that took a row's number (module_count, by
 * compare-and-swap) writes the row; others read it after the release store of `published`. The closing or
 * the return of a module stores last_generation with release; this pairs with the acquire load of the
 * check whether another module took the place since. In the table of modules that this process has met, a
 * compare-and-swap claims the key; rows_end, stored last with release, is 0 until the row can be used.
 */
#ifndef MP_MODTAB_H
#define MP_MODTAB_H

#include "table.h"
#include "unwind/modules.h"

/* HOOK. Watch the link map of a module whose addresses something remembers (a stack, an unwind
 * rule). */
void mp_modtab_watch(const struct mp_module *module);

/* HOOK. The modules of frames[0..depth), a stack seen in `generation`, were loaded then: record
 * those that this segment does not have yet. If there is no room, the module gets no row, and its
 * frames get no names. */
void mp_modtab_record(struct mp_segment *seg, const uintptr_t *frames, uint32_t depth,
                      uint32_t generation);

/* HOOK. `block` is about to be freed: true if it was the link map of a watched module, which is
 * now closed. */
bool mp_modtab_closed(struct mp_segment *seg, const void *block);

/* INIT, in a fork child with its own segment: forget the rows, watch the link
 * maps again. */
void mp_modtab_after_fork(void);

/* INIT, before a new segment in a process that stopped watching modules: forget all of them. */
void mp_modtab_forget(void);

/* INIT. Name the module that contains `pc` `path` in segments, instead of the loader's name. `path`
 * must stay valid. */
void mp_modtab_rename(uintptr_t pc, const char *path);

#endif
