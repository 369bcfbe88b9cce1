/*
 * sites.c - the table of sites. See sites.h.
 */
#include "sites.h"
#include "local.h"

static struct mp_site_row *row_at(struct mp_segment *seg, const struct mp_level *level,
                                  uint32_t row) {
    return mp_level_row(seg, level, row);
}

/* Hand a row of a capture long over to `key`; MP_ROW_NONE if the bucket holds none. */
static uint32_t recycle(struct mp_segment *seg, const struct mp_level *level, uint32_t first,
                        uint64_t key) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (uint32_t row = first; row < first + MP_BUCKET_ROWS; row++) {
        uint64_t old = mp_load_relaxed(&keys[row]);
        if (old == MP_KEY_RECYCLING || mp_key_capture(old) + 2 > mp_key_capture(key))
            continue;
        if (!mp_cas_u64(&keys[row], old, MP_KEY_RECYCLING))
            continue;
        *row_at(seg, level, row) = (struct mp_site_row){0};
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

static uint32_t intern_lost(struct mp_segment *seg, uint64_t hash, uint64_t key) {
    const struct mp_level *level = &seg->layout.lost_sites;
    uint32_t row = mp_level_find(seg, level, hash, key);
    if (row == MP_ROW_NONE)
        row = add_to_level(seg, level, hash, key);
    return row == MP_ROW_NONE ? MP_SITE_NONE : MP_LOST_SITES_LEVEL << 28 | row;
}

static uint32_t intern(struct mp_segment *seg, uint64_t hash, uint64_t key) {
    const struct mp_levels *levels = &seg->layout.sites;
    struct mp_table *table = &seg->control->sites;
    if ((key & ((1ULL << MP_KEY_STACK_BITS) - 1)) < MP_STACK_LOST_MAX)
        return intern_lost(seg, hash, key);

    uint32_t ready = mp_table_ready(levels, table), row;
    for (uint32_t i = 0; i < ready; i++)
        if ((row = mp_level_find(seg, &levels->level[i], hash, key)) != MP_ROW_NONE)
            return i << 28 | row;
    if (mp_load_relaxed(&table->wanted) > ready)
        mp_table_grow(seg, levels, table);
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
    return MP_SITE_NONE;
}

uint32_t mp_site_intern(struct mp_segment *seg, uint64_t key) {
    uint64_t hash = mp_mix(key);
    uint32_t *memo = &mp_local.site_memo[hash >> (64 - MP_SITE_MEMO_BITS)];
    uint32_t site = mp_load_relaxed(memo);
    if (mp_likely(mp_site_at(seg, site, key) != NULL))
        return site;
    site = intern(seg, hash, key);
    if (site != MP_SITE_NONE)
        mp_store_relaxed(memo, site);
    return site;
}

struct mp_site_row *mp_site_at(struct mp_segment *seg, uint32_t site, uint64_t key) {
    uint32_t number = site >> 28, row = site & 0x0fffffff;
    const struct mp_level *level;
    if (number == MP_LOST_SITES_LEVEL)
        level = &seg->layout.lost_sites;
    else if (number < mp_table_ready(&seg->layout.sites, &seg->control->sites))
        level = &seg->layout.sites.level[number];
    else
        return NULL;
    if (row >= level->rows || mp_load_acquire(&mp_level_keys(seg, level)[row]) != key)
        return NULL;
    return row_at(seg, level, row);
}
