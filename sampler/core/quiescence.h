/*
 * quiescence.h - is any thread inside the sampler's slow paths? Tells a detach when the segment can
 * be unmapped.
 *
 * Model: a thread counts itself in before it looks at the gate, and out when it has left the
 * segment. After the gate is shut, equal counts mean that no thread uses the segment: later threads
 * see the gate shut. A thread that left a hook by siglongjmp from a signal handler is never counted
 * out, so the segment then stays mapped. Only attached processes count; in others this is one
 * branch.
 *
 * Threads: mp_inside_enter() and mp_inside_leave() are HOOK; mp_inside_nobody() is INIT.
 */
#ifndef MP_QUIESCENCE_H
#define MP_QUIESCENCE_H

#include "local.h"

/* HOOK. Returns the argument of mp_inside_leave(); NULL if the process does not count. */
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

/* HOOK. Has a detach shut the gate? Then the segment may be unmapped at any moment, and the caller
 * must not touch it. For paths that do not check the gate. */
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
