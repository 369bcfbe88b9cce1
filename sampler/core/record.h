/*
 * record.h - record a sampled block: the one path from a hook into the segment.
 *
 * Model: a hook subtracts the size from the thread's countdown (mp_sample_due). Once in about T bytes
 * that returns true; the hook then calls the real allocator and mp_record_alloc(), which unwinds, interns
 * the stack and the site, inserts the live row, and only then adds to the site's counters. A free whose
 * address hits the filter calls mp_record_free() before the real free.
 *
 * Losses: if the sampler cannot unwind or store a stack, it moves the sample to a reserved site; re-entry
 * and a full live table drop the sample, and control.lost[] counts it.
 *
 * Threads: all functions are HOOK: no lock, no allocation, no stdio, errno preserved. The segment counts
 * failures; the caller never gets one.
 */
#ifndef MP_RECORD_H
#define MP_RECORD_H

#include "live.h"
#include "local.h"
#include "unwind/unwind.h"

/*
 * Some callers break the ABI and enter malloc with a stack that is not 16-byte aligned; the allocators
 * accept it, so the slow path does too.
 */
#if defined(__x86_64__)
#define MP_REALIGN __attribute__((force_align_arg_pointer))
#else
#define MP_REALIGN
#endif

enum mp_hook {
    MP_HOOK_MALLOC,
    MP_HOOK_CALLOC,
    MP_HOOK_REALLOC,
    MP_HOOK_REALLOCARRAY,
    MP_HOOK_POSIX_MEMALIGN,
    MP_HOOK_ALIGNED_ALLOC,
    MP_HOOK_MEMALIGN,
    MP_HOOK_VALLOC,
    MP_HOOK_PVALLOC,
    MP_HOOK_MALLOC_FAMILY, /* number of the hooks above */
    /* The hooks of CPython's allocators (pymem/): by domain, in the order of PyMemAllocatorDomain. */
    MP_HOOK_PYMEM = MP_HOOK_MALLOC_FAMILY,
    MP_HOOK_PYARENA = MP_HOOK_PYMEM + 9, /* of the regions that pymalloc cuts */
    MP_HOOKS,
};

/* INIT. First byte of each hook: frame 0 of the stacks recorded for it. */
extern uintptr_t mp_hook_pc[MP_HOOKS];

/* HOOK. Count down by `size`. True: call the slow path with this block, also when the allocation
 * fails. */
static inline bool mp_sample_due(size_t size) {
    return mp_countdown_due(&mp_self.countdown, size, mp_gate());
}

/* HOOK. Finish the decision of mp_sample_due() and record the block. A NULL block only draws anew.
 * Inside a hook that already counts the block (mp_self.counting_sp), it counts nothing. */
void mp_record_alloc(const void *block, size_t size, enum mp_hook hook,
                     const struct mp_frame *caller);

/* HOOK. False: `block` needs no mp_record_free(). One load. */
static inline bool mp_free_hit(const void *block) {
    return mp_filter_hit(block);
}

/* HOOK. `block` is about to be freed. */
void mp_record_free(const void *block);

/* A block taken out before a realloc that may still fail. */
struct mp_taken {
    struct mp_live_block row;
    bool found;
};

/* HOOK. As mp_record_free(), but keeps the removed row... */
void mp_record_take(const void *block, struct mp_taken *taken);

/* ...and puts it back: the allocator refused, the block is still live. */
void mp_record_put_back(const void *block, const struct mp_taken *taken);

/* HOOK. Call the allocator, which may free or move `block`. `stays`: an expression, true after a call that did
 * neither. */
#define MP_RECORD_AROUND(block, call, stays)                                                       \
    do {                                                                                           \
        struct mp_taken taken_ = {.found = false};                                                 \
        if (mp_free_hit(block))                                                                    \
            mp_record_take(block, &taken_);                                                        \
        (call);                                                                                    \
        if (stays)                                                                                 \
            mp_record_put_back(block, &taken_);                                                    \
    } while (0)

#endif
