/*
 * sites.h - counters per site = (stack, size class, domain, capture), sharded so that threads
 * seldom meet.
 *
 * Model: the key word is the whole identity (segment.h), so one compare-and-swap publishes a row.
 * Rows are never removed; a row of a capture two or more back is handed to a new key when its
 * bucket is full. The reader merges shards and the duplicates such a hand-over can leave.
 *
 * Sites whose stack id is an enum mp_stack_lost value live in the level control.lost_sites, kept
 * apart so that a full table of sites cannot crowd them out.
 *
 * Threads: any number of HOOK callers.
 */
#ifndef MP_SITES_H
#define MP_SITES_H

#include "table.h"

#define MP_SITE_NONE UINT32_MAX

/* HOOK. Size class: exact below 128, then 64 classes per power of two. Monotonic in size. */
static inline uint32_t mp_size_class(uint64_t size) {
    if (size < 128)
        return (uint32_t)size;
    uint32_t shift = (uint32_t)(63 - __builtin_clzll(size)) - 6;
    uint32_t cls = 64 * shift + (uint32_t)(size >> shift);
    return cls < (1u << MP_KEY_CLASS_BITS) ? cls : (1u << MP_KEY_CLASS_BITS) - 1;
}

static inline uint64_t mp_site_key(uint32_t stack, uint64_t size, uint32_t domain, uint32_t shard,
                                   uint32_t capture) {
    return (uint64_t)stack << MP_KEY_STACK_SHIFT |
           (uint64_t)mp_size_class(size) << MP_KEY_CLASS_SHIFT |
           (uint64_t)domain << MP_KEY_DOMAIN_SHIFT |
           (uint64_t)(shard & ((1u << MP_KEY_SHARD_BITS) - 1)) << MP_KEY_SHARD_SHIFT |
           (uint64_t)capture << MP_KEY_CAPTURE_SHIFT;
}

/* HOOK. The shard of a thread's row: the first threads own one each, the others share the rest. */
static inline uint32_t mp_shard_of(uint32_t thread) {
    uint32_t shared = (1u << MP_KEY_SHARD_BITS) - MP_SHARDS_OWNED;
    return thread - 1 < MP_SHARDS_OWNED ? thread - 1 : MP_SHARDS_OWNED + thread % shared;
}

static inline bool mp_key_owned(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_SHARD_SHIFT) % (1u << MP_KEY_SHARD_BITS) < MP_SHARDS_OWNED;
}

static inline uint32_t mp_key_capture(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_CAPTURE_SHIFT) & ((1u << MP_KEY_CAPTURE_BITS) - 1);
}

static inline uint32_t mp_key_domain(uint64_t key) {
    return (uint32_t)(key >> MP_KEY_DOMAIN_SHIFT) & ((1u << MP_KEY_DOMAIN_BITS) - 1);
}

/*
 * HOOK. The site of `key`, added if new: level << 28 | row, or MP_SITE_NONE when there is no room
 * (for a key of a lost stack: not even in lost_sites). Asks for the next level when the last one
 * fills up.
 */
uint32_t mp_site_intern(struct mp_segment *seg, uint64_t key);

/* HOOK. Counters of a site reference if it is in bounds and still belongs to `key`, else NULL. */
struct mp_site_row *mp_site_at(struct mp_segment *seg, uint32_t site, uint64_t key);

/* HOOK. Count one allocated block, born in time bucket `bucket`. `owned`: the row's shard is that of the
 * calling thread and of no other (mp_key_owned() of its own key). */
static inline void mp_site_add(struct mp_site_row *row, uint64_t size, unsigned bucket,
                               bool owned) {
    if (owned) {
        mp_add_own_u32(&row->births[bucket], 1);
        mp_add_own_u64(&row->alloc_bytes, size);
        mp_add_own_u64(&row->alloc_blocks, 1);
    } else {
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
