/*
 * live.h - the table of sampled blocks that are still live: address -> site, size, birth, thread.
 *
 * Model: key = address; odd = claimed and not published, 0 = empty. Removing writes 0: look-ups read its
 * three buckets whole, so no tombstone is needed. The kilobyte of a block's address selects its first
 * bucket, so that blocks allocated together are close together; the address selects the others. When its
 * buckets are full, a new block may evict a block of an earlier capture; the free of that block then
 * finds nothing and is not counted. Every published row has its address in the filter (local.h), so
 * the caller of mp_live_take() has already seen a filter hit.
 *
 * Threads: any number of HOOK callers. The caller owns the address: two calls for one address at a time
 * mean that the program itself freed a block twice. A compare-and-swap of the key claims a row, and a
 * release store of the key publishes it; the store pairs with the acquire load before a read of the row.
 * The compare-and-swap that removes a row comes after that reading, and pairs with the one that claims
 * the row next.
 */
#ifndef MP_LIVE_H
#define MP_LIVE_H

#include "table.h"

/* A row outside the table: the unpacked form of struct mp_live_row. */
struct mp_live_block {
    uint64_t size_bytes;
    uint64_t birth_ns; /* CLOCK_MONOTONIC_COARSE; comes back rounded to 2^MP_LIVE_BIRTH_SHIFT */
    uint64_t site_key;
    uint32_t site; /* level << 28 | row; level 15 = lost_sites */
    uint32_t thread; /* row in threads */
};

/* A row that left the table before its block was freed; site_key 0 if there was no such row. */
struct mp_live_evicted {
    const void *block;
    struct mp_live_block row;
};

/* HOOK. Prefetch the memory that mp_live_add() of this block will touch. */
void mp_live_prefetch(const struct mp_segment *seg, const void *block);

/* HOOK. Insert; false when there is no room (the caller counts it). Adds the address to the
 * filter. *evicted: a block of this capture that lost its row, so that its free goes unseen (the
 * caller counts that too). This needs two threads that race for one row. */
bool mp_live_add(struct mp_segment *seg, const void *block, const struct mp_live_block *row,
                 uint32_t capture, struct mp_live_evicted *evicted);

/* HOOK. The next block of the table from `cursor` on, at first 0; NULL: no more. */
const void *mp_live_next(const struct mp_segment *seg, uint64_t *cursor);

/* HOOK. Remove the block and copy its row to *out; false when it is not in the table. */
bool mp_live_take(struct mp_segment *seg, const void *block, struct mp_live_block *out);

#endif
