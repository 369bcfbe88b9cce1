/*
 * inline_patch.h - redirect the functions of a plan (entry_plan.h) to the hooks, and restore them.
 *
 * Model: each function gets a stub within reach of a jump; the stub undoes the pushes, passes calls
 * inside the allocator on, and jumps to the hook; the copy of the function's beginning follows it.
 * Then one store writes the jump. The restore writes the old bytes the same way. Stubs are never
 * freed: threads may be in them, and a later attach uses them again, as does the same library where it is opened
 * again at its old place. Each closing and opening at another place takes new ones, up to a bound.
 *
 * x86-64 only.
 *
 * Threads: INIT; one caller at a time. All others run, also inside the functions.
 */
#ifndef MP_INLINE_PATCH_H
#define MP_INLINE_PATCH_H

#include "abi/entry_plan.h"
#include "redirect/elf_lookup.h"

#include <stdbool.h>
#include <stddef.h>

struct mp_entry_counts {
    uint32_t patched;
    uint32_t restored;
    uint32_t foreign; /* changed by another tool since: left alone */
    uint32_t failed;
};

/* Bytes of the plan that `left` bytes begin with; 0: they begin with none. */
size_t mp_entry_plan_bytes(const struct mp_entry_plan *plan, size_t left);

/*
 * Redirect every function of the plan here, or none. Returns 0 or, with one line in text[0..n), -EINVAL
 * (not a plan for this process), -ENOTSUP (no point of some function has room; other architectures),
 * -ENOSPC, or -errno of mprotect.
 */
int mp_entry_install(const struct mp_entry_plan *plan, size_t bytes, struct mp_entry_counts *counts,
                     char *text, size_t n);

/* Restore all functions that still jump here and whose module is still there. */
void mp_entry_restore(struct mp_entry_counts *counts);

/* Forget the functions of modules that were closed: their rows serve others. */
void mp_entry_forget_closed(void);

/* Number of functions that jump here now. */
uint32_t mp_entry_count(void);

/* Do functions of the program's own allocator jump here? */
bool mp_entry_of_program(void);

/* Fill addresses[0..n), and zeros, with one in the code of each library whose allocator jumps here. */
void mp_entry_libraries(uint64_t *addresses, unsigned n);

/* Do functions of this module (mp_elf.dynamic) jump here? */
bool mp_entry_covers(const ElfW(Dyn) * module);

#endif
