/*
 * scratch.h - memory for what is too large for the stack a hook runs on.
 *
 * Model: a new stack needs room for its frames while it is unwound and stored. The hook's caller may be a signal
 * handler on 4 KiB, and thread-local memory is short in a library that was opened late, so that there is a pool
 * in `mp_local`: a thread claims a buffer by one compare-and-swap, nearly always the same one. The
 * word that claims it is the address of the guard (local.h) in the claiming frame. A frame that never came back
 * (siglongjmp out of a handler that interrupted it, a thread that ended inside) leaves its buffer claimed. It is
 * taken back only when the frame is certainly gone: the same guard's memory is in use again, or the guard lies
 * above on the stack of the thread that looks, overwritten. One that is merely interrupted is never taken.
 * A fork child finds the pool empty.
 *
 * Threads: any, HOOK, under a guard. Nobody waits: without a free buffer the stack gets no name. The
 * compare-and-swap that claims a buffer pairs with the release store that gave it back, so that two users'
 * writes do not mix.
 */
#ifndef MP_SCRATCH_H
#define MP_SCRATCH_H

#include "unwind/unwind.h"

/* threads that meet a new stack at one moment; 1.6 KiB each, 100 KiB in sum */
#define MP_SCRATCHES 64

struct mp_scratch {
    uint64_t claim; /* 0: free */
    struct mp_unwind_trace trace;
    uintptr_t frames[1 + MP_DEPTH_DEFAULT];
} __attribute__((aligned(64)));

struct mp_guard;

/* HOOK. A buffer for the frame that holds `guard`, or NULL. */
struct mp_scratch *mp_scratch_take(const struct mp_guard *guard);

void mp_scratch_give_back(struct mp_scratch *scratch);

#endif
