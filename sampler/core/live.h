/*
 * live.h - the table of sampled blocks that are still live: address -> site, size, birth, thread.
 *
 * Model: key = address; odd = claimed and not published, 0 = empty. Removing writes 0: look-ups
 * read both buckets whole, so no tombstone is needed. A block of an earlier capture may be evicted
 * when its buckets are full; its free then finds nothing, which is what ignoring it means. Every
 * published row has its address in the filter (local.h), so the caller of mp_live_take() has
 * already seen a filter hit.
 *
 * Threads: any number of HOOK callers. The caller owns the address: of two calls for one address at
 * a time the program itself would have freed a block twice.
 */
#ifndef MP_LIVE_H
#define MP_LIVE_H

#include "table.h"

/* HOOK. The block will be added soon: ask for the memory that takes. */
void mp_live_prefetch(const struct mp_segment *seg, const void *block);

/* HOOK. Insert; false when there is no room (the caller counts it). Adds the address to the
 * filter. */
bool mp_live_add(struct mp_segment *seg, const void *block, const struct mp_live_row *row,
                 uint32_t capture);

/* HOOK. Remove the block and copy its row to *out; false when it is not in the table. */
bool mp_live_take(struct mp_segment *seg, const void *block, struct mp_live_row *out);

#endif
