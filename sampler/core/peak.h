/*
 * peak.h - the highest live total of a capture, and what each site had live at that moment.
 *
 * Model: each sampled block stands for its weight, s / (1 - exp(-s/T)) bytes. One word holds the sum of
 * the weights of the live blocks, another one the highest sum. When a block is about to be freed while
 * the sum is at a new high, an epoch begins: this is the moment that the sites remember. Epochs are
 * numbered by the class of the total, MP_PEAK_STEPS classes to a power of two, so at most one begins while
 * the total grows by a part in MP_PEAK_STEPS: the moment that sites remember had a total at most that
 * much below the highest one.
 *
 * No site is visited when an epoch begins. A site's word `peak` holds the epoch in which the site last
 * changed and its live blocks before that change. Before a change, mp_peak_write_stamp() brings it up to
 * date. So a site whose word names the latest epoch has its count there, and any other site has not
 * changed since that epoch began, and still has what it had.
 *
 * Error: a thread between its two updates, of the total and of its site, may be on both sides of the
 * moment: one sampled block a thread.
 *
 * Threads: HOOK, any number, no waiting. The epoch is one word and only grows. A thread that frees at a
 * new high begins the epoch itself, so it does not matter how long another one takes to do the same: its
 * compare-and-swap fails. The same holds for the word of a site: whoever changes the site next brings the
 * word up to date first, and all but the first compare-and-swap fail. The acquire load of the count of
 * blocks pairs with the release add of a change, which comes after the changer's own stamp.
 */
#ifndef MP_PEAK_H
#define MP_PEAK_H

#include "sample.h"
#include "table.h"

#define MP_PEAK_STEPS (1u << MP_PEAK_STEP_BITS)

/* HOOK. The class of a total: exact below MP_PEAK_STEPS, then as many classes for each power of two. */
static inline uint32_t mp_peak_class(int64_t total_parts) {
    uint64_t total = total_parts < 0 ? 0 : (uint64_t)total_parts;
    if (total < MP_PEAK_STEPS)
        return (uint32_t)total;
    uint32_t shift = (uint32_t)(63 - __builtin_clzll(total)) - MP_PEAK_STEP_BITS;
    return MP_PEAK_STEPS * shift + (uint32_t)(total >> shift);
}

/* HOOK. The peak of the host's memory in a capture; NULL if it is not tracked. */
static inline struct mp_peak *mp_peak_of(const struct mp_segment *seg, uint32_t capture) {
    struct mp_peak *peak = &seg->control->peak[capture & 1];
    return mp_likely(mp_load_relaxed(&peak->capture) == capture) ? peak : NULL;
}

static inline uint32_t mp_peak_epoch(const struct mp_peak *peak) {
    return peak == NULL ? 0 : mp_load_acquire(&peak->epoch);
}

/* HOOK. Bring a site's word up to date, before a change of its counts. `live_blocks` is its present
 * count. */
void mp_peak_write_stamp(uint64_t *word, uint64_t seen, uint32_t epoch, uint32_t live_blocks);

/* HOOK. Is the word of a site older than `epoch`? *seen is the word. */
static inline bool mp_peak_stale(const uint64_t *word, uint32_t epoch, uint64_t *seen) {
    *seen = mp_load_acquire(word);
    return mp_unlikely((uint32_t)(*seen >> 32) < epoch);
}

/* HOOK. Part of mp_peak_add(): the total may be a new maximum. */
void mp_peak_raise(struct mp_peak *peak, int64_t live_parts, uint64_t now_ns);

/* HOOK. Part of mp_peak_remove(): the total is about to fall from its maximum. */
void mp_peak_begin_epoch(struct mp_peak *peak, int64_t live_parts);

/* HOOK. Count a block's weight, after its site counted it. */
static inline void mp_peak_add(struct mp_peak *peak, uint64_t size_bytes, uint64_t rate_bytes,
                               uint64_t now_ns) {
    if (peak == NULL)
        return;
    int64_t weight = mp_weight_parts(size_bytes, rate_bytes);
    int64_t live = __atomic_add_fetch(&peak->live_parts, weight, __ATOMIC_RELAXED);
    if (mp_unlikely(live > mp_load_relaxed(&peak->high_parts)))
        mp_peak_raise(peak, live, now_ns);
}

/* HOOK. A block is about to be freed: begin an epoch if the total is at a new high, then take its weight
 * away. Call before its site counts the free. */
static inline void mp_peak_remove(struct mp_peak *peak, uint64_t size_bytes, uint64_t rate_bytes) {
    if (peak == NULL)
        return;
    int64_t live = mp_load_relaxed(&peak->live_parts);
    if (mp_unlikely(live >= mp_load_relaxed(&peak->high_parts)))
        mp_peak_begin_epoch(peak, live);
    __atomic_fetch_sub(&peak->live_parts, mp_weight_parts(size_bytes, rate_bytes),
                       __ATOMIC_RELAXED);
}

#endif
