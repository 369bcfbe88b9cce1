/*
 * keyed.h - look-up of rows by a site key, which is their whole identity, in any table of levels.
 *
 * Model: the key word (segment.h) holds stack, size class, domain, shard and capture, so one
 * compare-and-swap publishes a row. Nobody removes rows; when a bucket is full, a new key zeroes
 * and takes a row of a capture two or more back. The reader merges shards and the duplicates that
 * this can leave.
 *
 * Threads: any number of HOOK callers. The key word publishes a row: the compare-and-swap or release
 * store that puts a key there pairs with the acquire load of each look-up (mp_keyed_at(),
 * mp_level_find(), the reader), so that a look-up sees the counters of a reused row as zeros. Adds to the
 * counters come after that.
 */
#ifndef MP_KEYED_H
#define MP_KEYED_H

#include "site_key.h"
#include "table.h"

#define MP_KEYED_NONE UINT32_MAX

struct mp_keyed {
    const struct mp_levels *levels; /* of the layout */
    struct mp_table *table;         /* in the control page */
    const struct mp_level *lost;    /* rows of keys whose stack id is below MP_STACK_LOST_MAX */
    struct mp_level *lost_reserved; /* the same level in the control page */
};

/*
 * HOOK. The row of `key`, added if new: level << 28 | row, or MP_KEYED_NONE when there is no room. Asks for
 * the next level when the last one fills up.
 */
uint32_t mp_keyed_intern(struct mp_segment *seg, const struct mp_keyed *keyed, uint64_t key);

/* HOOK. Payload of a reference if it is in bounds and still belongs to `key`, else NULL. Inline: every
 * sample asks for its site. */
static inline void *mp_keyed_at(const struct mp_segment *seg, const struct mp_keyed *keyed,
                                uint32_t reference, uint64_t key) {
    uint32_t number = reference >> 28, row = reference & 0x0fffffff;
    const struct mp_level *level;
    if (number == MP_LOST_SITES_LEVEL && mp_lost_sites_ready(keyed->lost, keyed->lost_reserved))
        level = keyed->lost;
    else if (number < mp_table_ready(keyed->levels, keyed->table))
        level = &keyed->levels->level[number];
    else
        return NULL;
    if (row >= level->rows || mp_load_acquire(&mp_level_keys(seg, level)[row]) != key)
        return NULL;
    return mp_level_row(seg, level, row);
}

#endif
