/*
 * sites.h - counters per site = (stack, size class, domain, capture), sharded so that threads
 * seldom meet.
 *
 * Model: the key word is the whole identity (segment.h), so one compare-and-swap publishes a row. Nobody
 * removes rows; when a bucket is full, a new key takes a row of a capture two or more back. The reader
 * merges shards and the duplicates that this can leave.
 *
 * Sites whose stack id is an enum mp_stack_lost value are in the level control.lost_sites, apart from the
 * others, so that a full table of sites leaves room for them.
 *
 * Threads: any number of HOOK callers. keyed.h says how a key publishes a row. Writers add to the two
 * counts of blocks last, with release; the reader copies them first, with acquire, so that it never sees
 * a block without its bytes.
 */
#ifndef MP_SITES_H
#define MP_SITES_H

#include "births.h"
#include "keyed.h"
#include "peak.h"

#define MP_SITE_NONE MP_KEYED_NONE

/*
 * HOOK. Counters of the site of `key`, added if new. *site is its reference, level << 28 | row, or MP_SITE_NONE when
 * there is no room (for a key of a lost stack: not even in lost_sites). NULL then, and when the row was given away at
 * once. Asks for the next level when the last one fills up.
 */
struct mp_site_row *mp_site_intern(struct mp_segment *seg, uint64_t key, uint32_t *site);

/* HOOK. Counters of a site reference if it is in bounds and still belongs to `key`, else NULL. */
struct mp_site_row *mp_site_at(struct mp_segment *seg, uint32_t site, uint64_t key);

/* HOOK. Let the row remember its live blocks for `epoch` (peak.h), if it does not yet: before any change. */
static inline void mp_site_stamp(struct mp_site_row *row, uint32_t epoch) {
    uint64_t seen;
    if (mp_peak_stale(&row->peak, epoch, &seen))
        mp_peak_write_stamp(&row->peak, seen, epoch,
                            (uint32_t)mp_load_acquire(&row->alloc_blocks) -
                                mp_load_acquire(&row->freed_blocks));
}

/* HOOK. Count one allocated block, born after so many units. `owned`: the row's shard is that of the
 * calling thread and of no other (mp_key_owned() of its own key). */
static inline void mp_site_add(struct mp_site_row *row, uint64_t size, uint64_t units, bool owned) {
    unsigned bucket = mp_births_bucket(&row->alloc_blocks, row->births, MP_BUCKETS - 1, units);
    bool last = bucket >= MP_BUCKETS - 1;
    if (owned) {
        if (!last)
            mp_add_own_u32(&row->births[bucket], 1);
        mp_add_own_u64(&row->alloc_bytes, size);
        mp_add_own_u64(&row->alloc_blocks, 1);
    } else {
        if (!last)
            mp_add_relaxed(&row->births[bucket], 1);
        mp_add_relaxed(&row->alloc_bytes, size);
        __atomic_fetch_add(&row->alloc_blocks, 1, __ATOMIC_RELEASE);
    }
}

/* HOOK. Count one freed block; mp_site_unfree() takes that back. Any thread. */
static inline void mp_site_free(struct mp_site_row *row, uint64_t size) {
    mp_add_relaxed(&row->freed_bytes, size);
    __atomic_fetch_add(&row->freed_blocks, 1, __ATOMIC_RELEASE);
}

static inline void mp_site_unfree(struct mp_site_row *row, uint64_t size) {
    __atomic_fetch_sub(&row->freed_blocks, 1, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&row->freed_bytes, size, __ATOMIC_RELAXED);
}

#endif
