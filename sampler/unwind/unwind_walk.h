/*
 * unwind_walk.h - one walk up a stack, the common state of the unwinder's parts. Private to unwind*.c.
 *
 * Model: the ways to leave a frame (unwind_cfi.h, unwind_fp.h) find the registers of the next one and
 * enter it here; unwind.c chooses among them.
 *
 * Threads: HOOK; a walk belongs to its thread.
 */
#ifndef MP_UNWIND_WALK_H
#define MP_UNWIND_WALK_H

#include "stack_range.h"
#include "unwind.h"
#include "unwind_arch.h"

#include <stdbool.h>
#include <stdint.h>

/* Stack reads see words that sanitizers regard as out of bounds or as another thread's. */
#define MP_RAW_READS __attribute__((no_sanitize("address", "thread")))

/* pc and sp are not neighbours: the compiler would keep neighbours through the loop of unwind.c together,
 * in one vector register, at twice the time for each frame. */
struct mp_walk {
    uintptr_t pc;       /* the frame the walk has reached */
    uintptr_t fp;       /* its frame pointer register */
    uintptr_t sp;       /* its stack pointer after the call it is in */
    uintptr_t ra;       /* its link register, if `exact`; else of the loop in unwind.c alone */
    bool exact;         /* interrupted by a signal: pc is an instruction, not a return address */
    uint8_t end;        /* why a step failed: as mp_unwind_result.end */
    uint8_t signals;    /* signal frames and changes of the stack passed */
    bool by_record : 1; /* left the last frame by its frame record, where fp was read too */
    bool is_stray : 1;  /* pc turned out not to be code: its frame is invalid */
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

/* Is sp exact? A record that is not at the end of its frame does not tell where that is; sp is then a
 * lower bound. */
static inline bool mp_walk_knows_sp(const struct mp_walk *w) {
    return MP_ARCH_RECORD_ENDS_FRAME || !w->by_record;
}

/* HOOK. The walk ends here, because of `cause`. */
static inline bool mp_walk_fail(struct mp_walk *w, uint8_t cause) {
    w->end = cause;
    return false;
}

/* HOOK. May `pc` be the address of a frame's code? On false w->end is set. */
static inline bool mp_walk_check_pc(struct mp_walk *w, uintptr_t pc) {
    if (pc == 0)
        return mp_walk_fail(w, MP_UNWIND_OUTERMOST);
    return pc < MP_ARCH_PC_LIMIT || mp_walk_fail(w, MP_LOST_UNWIND_NO_MODULE);
}

/* HOOK. Take over the registers of a frame whose pc, sp and fp were just found; checks progress. */
bool mp_walk_enter(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp);

/* HOOK. The same for registers restored from a signal frame, on whatever stack they point to. */
bool mp_walk_enter_interrupted(struct mp_walk *w, uintptr_t pc, uintptr_t sp, uintptr_t fp,
                               uintptr_t ra);

/* HOOK. Count a signal frame, or a change to a stack that may lie lower. False: there were more than nest in
 * real programs, and a forged stack could hold a ring of them. */
bool mp_walk_turn(struct mp_walk *w);

#endif
