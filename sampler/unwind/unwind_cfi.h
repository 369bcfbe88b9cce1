/*
 * unwind_cfi.h - one step by the call frame information of the module.
 *
 * Threads: HOOK, except where the text says INIT.
 */
#ifndef MP_UNWIND_CFI_H
#define MP_UNWIND_CFI_H

#include "cfi.h"
#include "unwind_walk.h"

/* A rule that is not a word. */
struct mp_wide_rule {
    struct mp_cfi_row row;
    bool signal_frame;
};

/* INIT. `note_module` may be NULL. */
void mp_cfi_init(void (*note_module)(const struct mp_module *module));

/* INIT. Find where coroutines of makecontext() end; until then such a stack ends as one without an end. */
void mp_cfi_find_coroutines(mp_make_context *make_context);

/* HOOK. Derive the rule of the frame from the tables and store it in the cache if it may be. Returns the
 * rule word, or MP_RULE_WIDE with *wide filled, or MP_RULE_NOT_CODE with a LOST. The cache has only rules
 * of addresses that are code. */
uint32_t mp_cfi_rule(const struct mp_walk *w, struct mp_wide_rule *wide);

/* HOOK. Leave one frame by a wide rule. On false w->end is set. */
bool mp_cfi_step(struct mp_walk *w, const struct mp_wide_rule *wide);

#endif
