/*
 * device_live.h - the table of sampled live blocks of device memory, found by (space, address).
 *
 * Model: as live.h, but a block may have several owners and may be freed through its container. The word
 * `state` of a row says who may do what: it holds the number of owners, and a generation that every use
 * of the row raises. An owner leaves by one compare-and-swap of that word; the one that takes it to 0
 * owns the row alone, and empties it. A thread that read the row before fails its own compare-and-swap,
 * as the generation is higher now. So nobody waits, and a handle that two owners release at once has one
 * free.
 *
 * Blocks of heaps (MP_SPACE_HEAP) are also in the filter of addresses that free() asks (core/local.h): nearly every
 * free of a program's allocator is of a block that is no sample. Those of the process's own addresses (MP_SPACE_HOST,
 * MP_SPACE_HOST_KEPT) begin with a page, and are in the filter that finds them by range (core/starts.h).
 *
 * Threads: any number of HOOK callers. Two blocks of one (space, address) at a time do not exist. The
 * release store of `state`, after all words of the row, pairs with the acquire load before they are
 * copied, and the compare-and-swap of `state` afterwards proves the copy whole. The writer stores the key
 * (release) before the row has an owner and after it has none: the key only finds rows, and decides
 * nothing.
 */
#ifndef MP_DEVICE_LIVE_H
#define MP_DEVICE_LIVE_H

#include "core/table.h"
#include "device.h"

enum mp_device_left {
    MP_DEVICE_UNKNOWN, /* no such block */
    MP_DEVICE_SHARED,  /* one owner left, others stay */
    MP_DEVICE_FREED,   /* the last owner left: the row is empty */
};

/* HOOK. Insert with one owner (`row->state` is ignored); false when there is no room. */
bool mp_device_live_add(struct mp_segment *seg, const struct mp_device_live_row *row,
                        uint32_t capture);

/* HOOK. One owner leaves; `all`: every owner. *out is the row as it was, unless UNKNOWN. */
enum mp_device_left mp_device_live_leave(struct mp_segment *seg, uint32_t space, uint64_t address,
                                         bool all, struct mp_device_live_row *out);

/* HOOK. One more owner; false when there is no such block. */
bool mp_device_live_join(struct mp_segment *seg, uint32_t space, uint64_t address);

/*
 * HOOK. Remove one block of a container, whatever its owners, starting the search at *cursor (0 at first).
 * False when there is none any more.
 */
bool mp_device_live_drop(struct mp_segment *seg, uint32_t space, uint64_t container,
                         uint64_t *cursor, struct mp_device_live_row *out);

/*
 * HOOK. The same for a block of the process's own addresses that has a byte in [from, to); no two have one in common.
 * *cursor may be `from` at first where none reaches in from below. A search that takes too long counts as
 * MP_LOST_LIVE_FULL, and ends.
 */
bool mp_device_live_drop_within(struct mp_segment *seg, uint32_t space, uint64_t from, uint64_t to,
                                uint64_t *cursor, struct mp_device_live_row *out);

/* HOOK. A copy of the row of a block that nobody frees meanwhile; false when there is no such block. */
bool mp_device_live_look(struct mp_segment *seg, uint32_t space, uint64_t address,
                         struct mp_device_live_row *out);

/* The address in the key of a heap's block. */
static inline const void *mp_heap_address(uint64_t key) {
    return (const void *)(uintptr_t)(key & ((1ULL << MP_POOL_SHIFT) - 1));
}

/* HOOK. A copy of one live block of that space and of those that follow, by *cursor as above. */
bool mp_device_live_next(struct mp_segment *seg, uint32_t space, uint64_t *cursor,
                         struct mp_device_live_row *out);

#endif
