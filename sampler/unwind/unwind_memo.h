/*
 * unwind_memo.h - the last stack of a thread, so that a comparison is enough for the equal part of the
 * next one.
 *
 * Model: following a rule is a chain of dependent loads: address, rule, frame size, next address. If the
 * stack pointer and address of a frame are those of a remembered frame, its rule gives the same place as
 * before, and the walk compares the word there with the remembered one: loads that depend on nothing. As
 * long as every word that leads from frame to frame is unchanged, so are the frames; this is exact, not a
 * guess. For code that uses the frame pointer, the walk also compares the word that holds it.
 *
 * Threads: one call at a time uses a memo (`busy`); a call that finds it taken, by a thread of the same
 * slot or by the call it interrupted, works without it. A memo whose user never returns (its thread was
 * killed) stays taken: slower, not wrong. HOOK. The exchange that takes `busy` (acquire) pairs with the
 * release store that gives it back: one user's frames are whole before the next one reads them.
 *
 * Limits: 64 memos of 128 frames, 258 KiB in sum, with pages only where threads use them.
 */
#ifndef MP_UNWIND_MEMO_H
#define MP_UNWIND_MEMO_H

#include "unwind_arch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MP_MEMO_SLOTS 64
#define MP_MEMO_FRAMES 128
#define MP_MEMO_CHAIN 1u /* in ra_at: the step into this frame followed the frame pointer */

/* A frame, and how the walk came to it from the frame before. */
struct mp_memo_frame {
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t ra_at; /* where pc was read; 0: the step cannot be compared */
    uintptr_t fp_at; /* where the frame pointer of this frame is saved; 0: in no frame so far */
};

struct mp_memo {
    uint32_t busy;
    uint32_t sequence; /* of the rule cache when it was recorded */
    uintptr_t thread;
    uint32_t depth;
    bool outdated; /* the last walk had little in common with it */
    bool pad[11];
    struct mp_memo_frame frame[MP_MEMO_FRAMES];
};

extern struct mp_memo mp_memos[MP_MEMO_SLOTS] __attribute__((visibility("hidden")));

/* The memo of the calling thread, or NULL. Sets *fresh if it must be recorded anew. */
static inline struct mp_memo *mp_memo_take(uint32_t sequence, bool *fresh) {
    uintptr_t thread = mp_arch_thread_pointer();
    struct mp_memo *memo = &mp_memos[(thread * 0x9e3779b97f4a7c15ULL) >> 58];
    if (__atomic_exchange_n(&memo->busy, 1, __ATOMIC_ACQUIRE) != 0)
        return NULL;
    *fresh = memo->thread != thread || memo->sequence != sequence || memo->outdated;
    if (*fresh) {
        memo->thread = thread;
        memo->sequence = sequence;
        memo->outdated = false;
        memo->depth = 0;
    }
    return memo;
}

static inline void mp_memo_give_back(struct mp_memo *memo) {
    __atomic_store_n(&memo->busy, 0, __ATOMIC_RELEASE);
}

/* Write frame number `depth`, if there is room; returns how many there are then. The writer of the frames
 * sets memo->depth after the last. */
static inline uint32_t mp_memo_record(struct mp_memo *memo, uint32_t depth, uintptr_t pc,
                                      uintptr_t sp, uintptr_t ra_at, uintptr_t fp_at) {
    if (depth == MP_MEMO_FRAMES)
        return depth;
    memo->frame[depth] = (struct mp_memo_frame){pc, sp, ra_at, fp_at};
    return depth + 1;
}

/*
 * Frame `at` of the memo is the current one, whose frame pointer is at current_fp_at. Append the
 * following frames to pcs[0..room) as long as the stack below `high` holds the words that led to them;
 * returns how many.
 */
static inline __attribute__((always_inline, no_sanitize("address", "thread"))) unsigned
mp_memo_follow(const struct mp_memo *memo, unsigned at, uintptr_t current_fp_at, uintptr_t high,
               uintptr_t *pcs, unsigned room) {
    const struct mp_memo_frame *f = &memo->frame[at];
    uintptr_t low = f->sp;
    unsigned left = memo->depth - at - 1, n;
    left = left < room ? left : room;
    for (n = 0; n < left; n++, f++) {
        uintptr_t ra_at = f[1].ra_at;
        if (f[1].sp > high || ra_at == 0)
            break;
        if ((ra_at & MP_MEMO_CHAIN) != 0) {
            /* Words saved by inner frames may be elsewhere this time. */
            uintptr_t fp_at = f->fp_at >= low ? f->fp_at : current_fp_at;
            if (*(const uintptr_t *)fp_at != f[1].fp_at)
                break;
            ra_at &= ~(uintptr_t)MP_MEMO_CHAIN;
        }
        if (mp_arch_return_address(*(const uintptr_t *)ra_at) != f[1].pc)
            break;
        pcs[n] = f[1].pc;
    }
    return n;
}

#endif
