/*
 * redirect_attach.h - redirect every allocation here in a process that already runs.
 *
 * Model: no call reaches our exported functions, so this code changes the slots of all modules, the C
 * library's own (strdup, getline) included; it leaves those of an allocator that is a library of its own,
 * for calls inside it are its own. Two or three tables say which function goes to which hook: the malloc
 * family, the allocator's operator new and their like, and the calls that set a seccomp filter.
 * got_slots_kept.h keeps the old values.
 *
 * Functions that jump here at their entry points (inline_patch.h) need no slots.
 *
 * The loader: a module that came into its list before ours is complete, because our own dlopen waited for
 * the one that brought it. Later ones may be half relocated: this code leaves them until their RELRO part
 * is closed, or their slots hold the expected values. mp_redirect_attached() again picks up what came since, and
 * slots that the loader bound over our hook; it is called by a controller, and before a dlopen or dlsym of the program
 * (redirect_later.h).
 *
 * This code changes unbound slots only where their later target is certain: one definition of malloc in
 * the process, or a module of the program's start.
 *
 * Threads: INIT; one caller at a time.
 */
#ifndef MP_REDIRECT_ATTACH_H
#define MP_REDIRECT_ATTACH_H

#include "redirect/got_slots.h"

/*
 * At the first call, find the real functions and make the tables. 0; with one line in text[0..n), and nothing
 * changed, -ENOTSUP for a sanitizer's allocator or no allocator, -EALREADY for a preloaded sampler.
 */
int mp_redirect_attach_prepare(char *text, size_t n);

/*
 * Treat every module; adds to *counts. Callers may repeat it while slots are kept. With `only_new` those that no
 * earlier call treated to the end: a library, once it is ready, costs one call alone, however many come later.
 */
void mp_redirect_attached(bool only_new, struct mp_slot_counts *counts);

/*
 * The unseen allocations, as one line in text[0..n), or "". -ENOTSUP: all of them, no slot points to the
 * real malloc.
 */
int mp_redirect_attach_unseen(const struct mp_slot_counts *counts, char *text, size_t n);

#endif
