/*
 * quiescence.h - is any thread inside the sampler's slow paths? Asked after a detach, about the memory of the segment.
 *
 * Model: a thread counts itself in before it looks at the gate, and out when it has left the segment. Whoever shuts
 * the gate and then finds as many out as in knows that no thread uses the segment any more: one that comes later
 * sees the gate shut. A thread that a signal handler took out of a hook for good is never counted out; then the answer
 * is no for ever. Only a process that was attached to counts; in others this is one branch.
 *
 * Threads: mp_inside_enter() and mp_inside_leave() are HOOK; mp_inside_nobody() is INIT.
 */
#ifndef MP_QUIESCENCE_H
#define MP_QUIESCENCE_H

#include "local.h"

/* HOOK. What mp_inside_leave() gets; NULL: the process does not count. */
static inline struct mp_inside *mp_inside_enter(void) {
    if (mp_likely(!mp_local.counts_inside))
        return NULL;
    uintptr_t thread = (uintptr_t)&mp_self >> 8; /* threads are at least a page apart */
    struct mp_inside *in =
        &mp_local.inside[(thread ^ thread >> 6 ^ thread >> 12) % MP_INSIDE_CELLS];
    __atomic_fetch_add(&in->entered, 1, __ATOMIC_SEQ_CST);
    mp_fence_all(); /* pairs with the fence in mp_inside_nobody() */
    return in;
}

/* HOOK. Has a detach shut the gate? Then the segment may go at any moment, and the caller leaves it alone. For paths
 * that do not ask for the gate. */
static inline bool mp_inside_too_late(const struct mp_inside *in) {
    return mp_unlikely(in != NULL) && mp_load_acquire(&mp_local.gate_offset) == 0;
}

/* HOOK. */
static inline void mp_inside_leave(struct mp_inside *in) {
    if (mp_unlikely(in != NULL))
        __atomic_fetch_add(&in->left, 1, __ATOMIC_RELEASE);
}

/* INIT. After the gate was shut: does no thread use the segment? */
static inline bool mp_inside_nobody(void) {
    mp_fence_all();
    for (unsigned i = 0; i < MP_INSIDE_CELLS; i++) {
        uint64_t left = mp_load_acquire(&mp_local.inside[i].left);
        if (left != mp_load_acquire(&mp_local.inside[i].entered))
            return false;
    }
    return true;
}

#endif
