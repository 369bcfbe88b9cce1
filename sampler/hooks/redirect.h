/*
 * redirect.h - see every allocation exactly once, also where exporting the malloc family is not
 * enough.
 *
 * Model, two cases:
 *  - Another object is before ours and takes malloc (LD_PRELOAD order, late loading). The slots of
 *    all modules that lead to it are redirected to our exported hooks, and it becomes the real allocator
 *    behind them. If its functions only forward to ours, nothing needs to be done.
 *  - The real allocator also provides operator new/delete, mallocx or tc_malloc and their like, which do
 *    not pass through malloc. Slots that lead to those are redirected to hooks_cxx.c. We never export these
 *    names: a program may test for them, or bring a C++ runtime of its own.
 *
 * Modules opened later: where anything is redirected, so are calls of dlopen, dlsym and their like, to a
 * few instructions that end in a jump to the real function (which therefore sees the true caller). Each
 * such call first redirects in modules added since the last one: outside of malloc, without a
 * thread of our own. The sampler does not see allocations by the constructors of such a module.
 *
 * Cannot be redirected: a malloc inside the program itself; calls through pointers fetched by dlsym or
 * copied before; namespaces made by dlmopen.
 */
#ifndef MP_REDIRECT_H
#define MP_REDIRECT_H

#include "real.h"
#include "redirect/got_slots.h"

/* Results, for tests and diagnosis. */
struct mp_redirect_report {
    struct mp_slot_counts family; /* malloc and its like */
    struct mp_slot_counts second; /* operator new, mallocx, ... */
    struct mp_slot_counts loader; /* dlopen, dlsym, ... */
    struct mp_slot_counts later;  /* in modules opened later */
    bool chained;                 /* the object before us forwards to us */
    bool in_program;              /* the program itself takes malloc, before us */
};

extern struct mp_redirect_report mp_redirect_report;

/*
 * INIT. `real` is the structure that the exported hooks call through, resolved; it changes while
 * its functions are tried out, and permanently if another object takes malloc. Returns 0 if the
 * sampler sees every allocation, else 1: shadow_path[0..n) then names the object that takes malloc
 * (cut, NUL-terminated).
 */
int mp_redirect_install(struct mp_real *real, char *shadow_path, size_t n);

/* INIT. Do the functions of the object that takes malloc jump here at their first instruction
 * (inline_patch.h)? */
bool mp_redirect_first_covered(void);

#endif
