/*
 * redirect_attach.h - lead every allocation here in a process that runs already.
 *
 * Model: nothing leads to our exported functions, so the slots of all modules are changed, the C library's own
 * (strdup, getline) included; those of an allocator that is a library of its own are left, for calls inside
 * it are its own. Two or three tables say what leads where: the malloc family, the allocator's operator new
 * and their like, and the calls that set a seccomp filter. What was there is kept (slots_kept.h).
 *
 * Functions that lead here from their entry points (entry_patch.h) need no slots.
 *
 * The loader: a module that came into its list before ours is complete, because our own dlopen waited
 * for the one that brought it. Later ones may be half relocated: they are left until their RELRO part is
 * closed, or their slots hold what they should. dlopen is not redirected; mp_redirect_attached() again
 * picks up what came since, and slots that the loader bound over our hook.
 *
 * Unbound slots are changed only where there is no doubt what they would be bound to: one definition
 * of malloc in the process, or a module of the program's start.
 *
 * Threads: INIT; one caller at a time.
 */
#ifndef MP_REDIRECT_ATTACH_H
#define MP_REDIRECT_ATTACH_H

#include "redirect/slots.h"

/*
 * At the first call, find the real functions and make the tables. 0; with one line in text[0..n), and nothing
 * changed, -ENOTSUP for a sanitizer's allocator or no allocator, -EALREADY for a preloaded sampler.
 */
int mp_redirect_attach_prepare(char *text, size_t n);

/* Treat every module; adds to *counts. To be called any number of times, while slots are kept. */
void mp_redirect_attached(struct mp_slot_counts *counts);

/*
 * What stays unseen, as one line in text[0..n), or "". -ENOTSUP: all of it, no slot leads to the real
 * malloc.
 */
int mp_redirect_attach_unseen(const struct mp_slot_counts *counts, char *text, size_t n);

#endif
