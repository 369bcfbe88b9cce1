/*
 * local.h - the sampler's data in the target's own memory: per process and per thread.
 *
 * Model: `mp_local` is one page-aligned object under MADV_WIPEONFORK. A child of any kind of fork finds
 * zeros in it: no segment, gate offset 0 (the static "off" word), empty filters; so it is off before it
 * runs a line of code. `mp_self` is the thread's countdown and guard, initial-exec TLS.
 *
 * Filter: two counting filters of the addresses that the slow path of free must check (sampled live
 * blocks, link maps of recorded modules). The small one fits the L1 cache and answers nearly every free
 * while few live blocks are samples; behind it a large one stays useful with a million: its cells also
 * add up a mark of each address, so that a cell with a single address tells it from others. False
 * positives cost a look-up of a dozen cache lines, false negatives cannot happen.
 *
 * Threads: any. Everything is HOOK. The program itself orders a block's allocation before its free, also
 * from thread to thread, so the free's look-up finds the add to a filter cell (release); the acquire load
 * in mp_filter_hit_large() keeps the reading of the live table behind it. gate_offset is stored last at
 * start-up, with release. mp_gate() loads it relaxed: a capture begins long after that, once the
 * controller has answered, or in the constructor, before the program's own threads.
 *
 * Limits: 15.3 MiB, of which the large filter takes 2 MiB, where mappings begin 4 MiB (starts.h), known stacks 2 MiB
 * (stack_cache.h), the buffers for new stacks 6.1 MiB (scratch.h), Python functions, frames and pairs 1 MiB
 * (pystacks.h). Pages without a write cost nothing.
 */
#ifndef MP_LOCAL_H
#define MP_LOCAL_H

#include "pending.h"
#include "sample.h"
#include "scratch.h"
#include "stack_cache.h"
#include "starts.h"
#include "table.h"
#include "unwind/stack_range.h"

#define MP_FILTER_SMALL_BITS 13 /* 16 KiB */
#define MP_FILTER_LARGE_BITS 20 /* 2 MiB, touched only where blocks are */
#define MP_FILTER_COUNT_BITS 9 /* of a large cell; above them: the sum of the addresses' marks */
#define MP_FILTER_SMALL_MAX 60000 /* no block is added to a fuller cell, so none ever wraps, */
#define MP_FILTER_LARGE_MAX 200   /* and full tables do not come near */
#define MP_SITE_MEMO_BITS 13 /* 32 KiB */
#define MP_LOCAL_ALIGN 65536    /* largest page size of the architectures served */

#define MP_INSIDE_CELLS 64

/* Threads that were inside the sampler (quiescence.h); a cell is a cache line alone. */
struct mp_inside {
    uint64_t entered;
    uint64_t left;
    uint64_t pad[6];
};

struct mp_local {
    intptr_t gate_offset; /* from mp_gate_off to the gate in the segment; 0: off */
    struct mp_segment segment; /* base NULL: none */
    uint64_t seed;             /* of the threads' random states */
    uint32_t next_thread_seed; /* ordinal of the next thread to draw */
    uint32_t pid_if_unwiped; /* kernel without MADV_WIPEONFORK: pid to compare in the slow path */
    uint32_t epoch;          /* moves with each segment that this process image gets */
    uint64_t next_device_draw; /* ordinal of the next device block to be drawn for */
    bool counts_inside;        /* attached: threads count themselves in and out */
    uint8_t pad[15];
    struct mp_pending pending;
    struct mp_inside inside[MP_INSIDE_CELLS];
    uint16_t filter_small[1u << MP_FILTER_SMALL_BITS];
    uint16_t filter_large[1u << MP_FILTER_LARGE_BITS];
    struct mp_starts starts;
    struct mp_known known;
    /* hash of a site's key -> its place at the last look-up */
    uint32_t site_memo[1u << MP_SITE_MEMO_BITS];
    struct mp_pystacks pystacks;
    struct mp_pylabel_names pylabels[MP_LABEL_KINDS]; /* by enum mp_label_kind - 1 */
    struct mp_scratch scratch[MP_SCRATCHES];
} __attribute__((aligned(MP_LOCAL_ALIGN)));

struct mp_thread_state {
    struct mp_countdown countdown;
    uintptr_t guard_sp;      /* address of the guard in force; 0: none */
    uintptr_t entry_sp; /* in the frame of the outermost hook of an entry point; 0: in none */
    /* in the frame of a hook that counts all blocks which its real function takes; 0: in none */
    uintptr_t counting_sp;
    uint32_t thread_row; /* row + 1; 0: none yet */
    uint32_t thread_epoch; /* mp_local.epoch when it was taken */
    uint32_t guard_refusals; /* in a row, by a guard on another stack */
    bool of_device; /* under a guard: stacks of a device's block are interned (stacks.h) */
    struct mp_stack_room stack_room;
};

extern struct mp_local mp_local;
extern const int64_t mp_gate_off;
extern __thread struct mp_thread_state mp_self __attribute__((tls_model("initial-exec")));

/*
 * HOOK. Is code whose stack pointer is `sp` called by a hook that counts its blocks? A hook that was left by siglongjmp
 * is gone for the frames around it; such a hook that is not further in clears the mark.
 */
static inline bool mp_counted_further_out(uintptr_t sp) {
    return mp_self.counting_sp >= sp;
}

/* HOOK. Give the thread its random numbers. */
static inline void mp_thread_seed(void) {
    if (mp_self.countdown.rng == 0) {
        uint64_t ordinal = mp_add_relaxed(&mp_local.next_thread_seed, 1);
        mp_self.countdown.rng = mp_mix(mp_local.seed + (ordinal << 32)) | 1;
    }
}

/* The gate: one load of an offset that never changes, one load of the word. */
static inline int64_t mp_gate(void) {
    const int64_t *gate =
        (const int64_t *)((const char *)&mp_gate_off + mp_load_relaxed(&mp_local.gate_offset));
    return mp_load_relaxed(gate);
}

/* HOOK. Does the process have a gate but no segment (pending.h)? */
static inline bool mp_pending_waits(void) {
    return mp_load_relaxed(&mp_local.pending.state) != MP_PENDING_NONE;
}

/*
 * Addresses of one page share one cache line of the small filter and four of the large one: both are as
 * local as the heap, and threads with blocks far apart seldom write to the same line.
 */
static inline uint64_t mp_filter_page(const void *p) {
    return ((uint64_t)(uintptr_t)p >> 12) * 0x9e3779b97f4a7c15ULL;
}

static inline uint64_t mp_filter_small_cell(const void *p) {
    return mp_filter_page(p) >> (64 - MP_FILTER_SMALL_BITS + 5) << 5 | ((uintptr_t)p >> 4 & 0x1f);
}

/* The page also shuffles its cells, so that blocks that begin a page do not meet in a few of them. */
static inline uint64_t mp_filter_large_cell(const void *p) {
    uint64_t page = mp_filter_page(p);
    return page >> (64 - MP_FILTER_LARGE_BITS + 7) << 7 | (((uintptr_t)p >> 5 ^ page >> 37) & 0x7f);
}

/*
 * What one address adds to its large cell: 1, and above the count a mark that tells it from most others
 * that share the cell. A cell that counts one address thus holds exactly what that address added.
 */
static inline uint16_t mp_filter_unit(const void *p) {
    uint64_t mark = mp_filter_page(p) >> 44 ^ (uintptr_t)p >> 3;
    return (uint16_t)(mark << MP_FILTER_COUNT_BITS | 1);
}

static inline unsigned mp_filter_count(uint16_t cell) {
    return cell & ((1u << MP_FILTER_COUNT_BITS) - 1);
}

/* False: `p` is certainly none of ours. One load. */
static inline bool mp_filter_hit(const void *p) {
    return mp_unlikely(mp_load_relaxed(&mp_local.filter_small[mp_filter_small_cell(p)]) != 0);
}

/* The second check, after mp_filter_hit(). */
static inline bool mp_filter_hit_large(const void *p) {
    uint16_t cell = mp_load_acquire(&mp_local.filter_large[mp_filter_large_cell(p)]);
    return mp_filter_count(cell) == 1 ? cell == mp_filter_unit(p) : cell != 0;
}

static inline void mp_filter_prefetch(const void *p) {
    __builtin_prefetch(&mp_local.filter_large[mp_filter_large_cell(p)], 1);
}

/* False, and it adds nothing, when a cell is full. */
static inline bool mp_filter_add(const void *p) {
    uint16_t *small = &mp_local.filter_small[mp_filter_small_cell(p)];
    uint16_t *large = &mp_local.filter_large[mp_filter_large_cell(p)];
    if (mp_unlikely(mp_load_relaxed(small) > MP_FILTER_SMALL_MAX) ||
        mp_unlikely(mp_filter_count(mp_load_relaxed(large)) > MP_FILTER_LARGE_MAX))
        return false;
    __atomic_fetch_add(large, mp_filter_unit(p), __ATOMIC_RELEASE);
    __atomic_fetch_add(small, 1, __ATOMIC_RELEASE);
    return true;
}

/* Take back what mp_filter_add() added. */
static inline void mp_filter_remove(const void *p) {
    __atomic_fetch_sub(&mp_local.filter_small[mp_filter_small_cell(p)], 1, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&mp_local.filter_large[mp_filter_large_cell(p)], mp_filter_unit(p),
                       __ATOMIC_RELEASE);
}

/* INIT. Empty the filters, that of starts.h too, and give their pages back. Addresses that other threads add meanwhile may be
 * lost. */
void mp_filter_clear(void);

/*
 * The re-entry guard. mp_guard_enter() fails while this thread is inside the sampler, except when
 * the frame that holds the guard is gone (siglongjmp out of a signal handler that interrupted it):
 * a shallower frame, or one that finds the guard's mark overwritten, takes it over.
 */
struct mp_guard {
    volatile uintptr_t mark; /* tells a guard in force from memory that was reused */
};

#define MP_GUARD_MARK ((uintptr_t)0x6d656d2d67756172ULL)

/* HOOK. Part of mp_guard_enter(): is the guard in force an abandoned one, so that one at `mine` may take its place? */
bool mp_guard_take_over(uintptr_t mine);

/* Fences of signals: the partner is a handler on this very thread, which finds the guard whole or not at all. */
static inline bool mp_guard_enter(struct mp_guard *guard) {
    if (mp_unlikely(mp_self.guard_sp != 0) && !mp_guard_take_over((uintptr_t)guard))
        return false;
    guard->mark = MP_GUARD_MARK ^ (uintptr_t)guard;
    mp_self.guard_sp = (uintptr_t)guard;
    mp_self.guard_refusals = 0;
    mp_self.of_device = false; /* siglongjmp may have left it set */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return true;
}

static inline void mp_guard_leave(struct mp_guard *guard) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    guard->mark = 0;
    mp_self.guard_sp = 0;
}

/* HOOK. Does the memory at `guard`, which is mapped, still hold a guard that was entered and not left? */
bool mp_guard_in_force(const struct mp_guard *guard);

#endif
