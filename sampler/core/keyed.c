/*
 * keyed.c - rows found by a site key. See keyed.h.
 */
#include "keyed.h"

#include <string.h>

/* Give a row of a capture that ended long ago to `key`; MP_ROW_NONE if the bucket holds none. */
static uint32_t recycle(struct mp_segment *seg, const struct mp_level *level, uint32_t first,
                        uint64_t key) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (uint32_t row = first; row < first + MP_BUCKET_ROWS; row++) {
        uint64_t old = mp_load_relaxed(&keys[row]);
        /* MP_KEY_RECYCLING has the number of no capture before the last: nobody takes it. */
        if (mp_key_capture(old) + 2 > mp_key_capture(key))
            continue;
        if (!mp_cas_u64(&keys[row], old, MP_KEY_RECYCLING))
            continue;
        memset(mp_level_row(seg, level, row), 0, level->row_bytes);
        mp_store_release(&keys[row], key);
        return row;
    }
    return MP_ROW_NONE;
}

/* Take a free row of one bucket for `key`, or find that another thread just did. */
static uint32_t claim(struct mp_segment *seg, const struct mp_level *level, uint32_t first,
                      uint64_t key) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (uint32_t row = first; row < first + MP_BUCKET_ROWS; row++) {
        uint64_t old = mp_load_acquire(&keys[row]);
        if (old == 0 && !mp_cas_u64(&keys[row], 0, key))
            old = mp_load_acquire(&keys[row]);
        if (old == 0 || old == key)
            return row;
    }
    return MP_ROW_NONE;
}

static uint32_t add_to_level(struct mp_segment *seg, const struct mp_level *level, uint64_t hash,
                             uint64_t key) {
    for (unsigned which = 0; which < 2; which++) {
        uint32_t row = claim(seg, level, mp_bucket(level, hash, which), key);
        if (row == MP_ROW_NONE)
            row = recycle(seg, level, mp_bucket(level, hash, which), key);
        if (row != MP_ROW_NONE)
            return row;
    }
    return MP_ROW_NONE;
}

static uint32_t intern_lost(struct mp_segment *seg, const struct mp_keyed *keyed, uint64_t hash,
                            uint64_t key) {
    const struct mp_level *level = keyed->lost;
    if (!mp_lost_sites_reserve(seg, level, keyed->lost_reserved))
        return MP_KEYED_NONE;
    uint32_t row = mp_level_find(seg, level, hash, key);
    if (row == MP_ROW_NONE)
        row = add_to_level(seg, level, hash, key);
    return row == MP_ROW_NONE ? MP_KEYED_NONE : MP_LOST_SITES_LEVEL << 28 | row;
}

uint32_t mp_keyed_intern(struct mp_segment *seg, const struct mp_keyed *keyed, uint64_t key) {
    const struct mp_levels *levels = keyed->levels;
    struct mp_table *table = keyed->table;
    uint64_t hash = mp_mix(key);
    if (mp_key_stack(key) < MP_STACK_LOST_MAX)
        return intern_lost(seg, keyed, hash, key);

    uint32_t ready = mp_table_ready(levels, table), row;
    for (uint32_t i = 0; i < ready; i++)
        if ((row = mp_level_find(seg, &levels->level[i], hash, key)) != MP_ROW_NONE)
            return i << 28 | row;
    if (mp_load_relaxed(&table->wanted) > ready) {
        mp_table_grow(seg, levels, table);
        ready = mp_table_ready(levels, table);
    }
    for (uint32_t i = 0; i < ready; i++) {
        if ((row = add_to_level(seg, &levels->level[i], hash, key)) == MP_ROW_NONE)
            continue;
        if (i + 1 == ready && row - mp_bucket(&levels->level[i], hash, 0) >= MP_BUCKET_ROWS)
            mp_store_relaxed(&table->wanted, ready + 1); /* its first bucket was full: ask ahead */
        return i << 28 | row;
    }
    mp_store_relaxed(&table->wanted, ready + 1);
    mp_table_grow(seg, levels, table);
    if (mp_table_ready(levels, table) > ready &&
        (row = add_to_level(seg, &levels->level[ready], hash, key)) != MP_ROW_NONE)
        return ready << 28 | row;
    return MP_KEYED_NONE;
}
