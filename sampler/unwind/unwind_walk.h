/*
 * unwind_walk.h - one walk up a stack, as the parts of the unwinder hand it to each other. Private to
 * unwind*.c.
 */
#ifndef MP_UNWIND_WALK_H
#define MP_UNWIND_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "cfi.h"
#include "stack_range.h"
#include "unwind.h"
#include "unwind_rule.h"

/* Stack reads see words that sanitizers regard as out of bounds or as another thread's. */
#define MP_RAW_READS __attribute__((no_sanitize("address", "thread")))

struct mp_walk {
    uintptr_t pc;       /* the frame the walk has reached */
    uintptr_t sp;       /* its stack pointer after the call it is in */
    uintptr_t fp;       /* its frame pointer register */
    uintptr_t ra;       /* its link register, if `exact`; else meaningless */
    bool exact;         /* interrupted by a signal: pc is an instruction, not a return address */
    uint8_t end;        /* why a step failed: as mp_unwind_result.end */
    uint8_t signals;    /* signal frames passed */
    uint32_t sequence;  /* of the cache when the walk began */
    struct mp_stack_range range;
};

/*
 * The address whose cache entry holds the rule of the frame: the rule is that of the byte before, which
 * belongs to the call even if the called function never returns and the caller ends there.
 */
static inline uintptr_t mp_walk_key(const struct mp_walk *w) {
    return w->exact ? w->pc + 1 : w->pc;
}

/* A rule that is not a word. */
struct mp_wide_rule {
    struct mp_cfi_row row;
    bool signal_frame;
};

/* INIT. `note_module` may be NULL. */
void mp_cfi_init(void (*note_module)(const struct mp_module *module));

/* HOOK. Derive the rule of `key` from the tables and store it in the cache if it may be. Returns the
 * rule word, or MP_RULE_WIDE with *wide filled. */
uint32_t mp_cfi_rule(uintptr_t key, uint32_t sequence, struct mp_wide_rule *wide);

/* HOOK. Leave one frame by a wide rule. On false w->end is set. */
bool mp_cfi_step(struct mp_walk *w, const struct mp_wide_rule *wide);

/* HOOK. Leave one frame by its frame record. False, with *w untouched, if there is none. */
bool mp_fp_step(struct mp_walk *w);

/* HOOK. Take over the registers of a frame whose pc, sp and fp were just found; checks progress. */
bool mp_walk_enter(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp);

/* HOOK. The same for registers restored from a signal frame, on whatever stack they point to. */
bool mp_walk_enter_interrupted(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp,
                               uintptr_t ra);

/* INIT: 0 or -ENOENT. HOOK: as mp_unwind(). */
int mp_libgcc_init(void *(*find_symbol)(const char *name));
unsigned mp_libgcc_unwind(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                          struct mp_unwind_result *result);

#endif
