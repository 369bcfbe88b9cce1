/*
 * scratch.h - memory for data too large for a hook's stack.
 *
 * Model: the unwinding of a new stack needs room for its frames. The hook's caller may be a signal
 * handler on 4 KiB, and a library that was opened late has little thread-local memory, so there is a pool
 * in `mp_local`: a thread claims a buffer by one compare-and-swap, nearly always the same one. The word
 * that claims it is the address of the guard (local.h) in the claiming frame. A frame that never
 * returned (siglongjmp out of a handler that interrupted it, a thread that ended inside) leaves its
 * buffer claimed. Another thread takes the buffer back only when the frame is certainly gone: the
 * same guard's memory is in use again, or the guard is above on the stack of the thread that
 * checks, overwritten. It never takes the buffer of a frame that is only interrupted. A fork child
 * finds the pool empty.
 *
 * Threads: any, HOOK, under a guard. Nobody waits: without a free buffer the stack gets no name. The
 * compare-and-swap that claims a buffer pairs with the release store that gave it back, so that writes of
 * two users do not mix.
 */
#ifndef MP_SCRATCH_H
#define MP_SCRATCH_H

#include "pystacks.h"
#include "unwind/unwind.h"

/* threads that meet a new stack, or walk a Python stack, at one moment; 98 KiB each, 6.1 MiB in sum, of which
 * stacks within the default depth write 1.6 KiB each, and Python stacks 128 bytes a frame */
#define MP_SCRATCHES 64

struct mp_scratch {
    uint64_t claim; /* 0: free */
    struct mp_unwind_trace trace;
    uintptr_t frames[MP_DEPTH_MAX];
    struct mp_pywalk python;
} __attribute__((aligned(64)));

struct mp_guard;

/* HOOK. A buffer for the frame that holds `guard`, or NULL. */
struct mp_scratch *mp_scratch_take(const struct mp_guard *guard);

void mp_scratch_give_back(struct mp_scratch *scratch);

#endif
