/*
 * live.c - the table of sampled live blocks. See live.h.
 */
#include "live.h"
#include "local.h"
#include "sites.h"

#define GROW_AHEAD (MP_BUCKET_ROWS + 1) /* rows in use in two buckets: ask for the next level */

static uint64_t key_of(const void *block) {
    return (uint64_t)(uintptr_t)block & ~MP_LIVE_CLAIMED;
}

static void write_row(struct mp_live_row *to, const struct mp_live_row *from) {
    mp_store_relaxed(&to->size_bytes, from->size_bytes);
    mp_store_relaxed(&to->birth_ns, from->birth_ns);
    mp_store_relaxed(&to->site_key, from->site_key);
    mp_store_relaxed(&to->site, from->site);
    mp_store_relaxed(&to->thread, from->thread);
}

static void read_row(struct mp_live_row *to, const struct mp_live_row *from) {
    to->size_bytes = mp_load_relaxed(&from->size_bytes);
    to->birth_ns = mp_load_relaxed(&from->birth_ns);
    to->site_key = mp_load_relaxed(&from->site_key);
    to->site = mp_load_relaxed(&from->site);
    to->thread = mp_load_relaxed(&from->thread);
}

/* Bits set in the low byte; the builtin would be a call without a newer instruction set. */
static unsigned bits_of(unsigned x) {
    x -= x >> 1 & 0x55;
    x = (x & 0x33) + (x >> 2 & 0x33);
    return (x + (x >> 4)) & 0x0f;
}

/* Claim an empty row of the level; *used counts the occupied rows seen on the way. */
static uint32_t claim_empty(struct mp_segment *seg, const struct mp_level *level, uint64_t key,
                            uint64_t hash, unsigned *used) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (unsigned which = 0; which < 2; which++) {
        uint32_t first = mp_bucket(level, hash, which);
        unsigned empty = mp_bucket_matches(keys + first, 0);
        *used += MP_BUCKET_ROWS - bits_of(empty);
        for (; empty != 0; empty &= empty - 1) {
            uint32_t row = first + (uint32_t)__builtin_ctz(empty);
            if (mp_cas_u64(&keys[row], 0, key | MP_LIVE_CLAIMED))
                return row;
        }
    }
    return MP_ROW_NONE;
}

/* Evict a block of an earlier capture from the two buckets and claim its row. */
static uint32_t claim_old(struct mp_segment *seg, const struct mp_level *level, uint64_t key,
                          uint64_t hash, uint32_t capture) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (unsigned i = 0; i < 2 * MP_BUCKET_ROWS; i++) {
        uint32_t row = mp_bucket(level, hash, i / MP_BUCKET_ROWS) + i % MP_BUCKET_ROWS;
        struct mp_live_row *payload = mp_level_row(seg, level, row);
        uint64_t old = mp_load_acquire(&keys[row]);
        if (old == 0 || (old & MP_LIVE_CLAIMED) ||
            mp_key_capture(mp_load_relaxed(&payload->site_key)) == capture ||
            !mp_cas_u64(&keys[row], old, key | MP_LIVE_CLAIMED))
            continue;
        if (mp_key_capture(mp_load_relaxed(&payload->site_key)) == capture) {
            mp_store_release(&keys[row], old); /* meanwhile freed, and sampled anew there */
            continue;
        }
        mp_filter_remove((const void *)(uintptr_t)old);
        return row;
    }
    return MP_ROW_NONE;
}

/* The last level first: it has most of the room, and holds most of the blocks. */
static uint32_t claim(struct mp_segment *seg, uint32_t ready, uint64_t key, uint64_t hash,
                      uint32_t capture, uint32_t *number) {
    const struct mp_levels *levels = &seg->layout.live;
    uint32_t row;
    for (*number = ready; (*number)-- > 0;) {
        unsigned used = 0;
        if ((row = claim_empty(seg, &levels->level[*number], key, hash, &used)) != MP_ROW_NONE) {
            if (*number + 1 == ready && used >= GROW_AHEAD)
                mp_store_relaxed(&seg->control->live.wanted, ready + 1);
            return row;
        }
    }
    for (*number = ready; (*number)-- > 0;)
        if ((row = claim_old(seg, &levels->level[*number], key, hash, capture)) != MP_ROW_NONE)
            return row;
    return MP_ROW_NONE;
}

void mp_live_prefetch(const struct mp_segment *seg, const void *block) {
    const struct mp_levels *levels = &seg->layout.live;
    uint32_t ready = mp_table_ready(levels, &seg->control->live);
    uint64_t hash = mp_mix(key_of(block));
    mp_filter_prefetch(block);
    for (uint32_t i = ready; i-- > 0 && i + 2 >= ready;) {
        const struct mp_level *level = &levels->level[i];
        const uint64_t *keys = mp_level_keys(seg, level);
        __builtin_prefetch(keys + mp_bucket(level, hash, 0), 1);
        __builtin_prefetch(keys + mp_bucket(level, hash, 1), 1);
    }
}

bool mp_live_add(struct mp_segment *seg, const void *block, const struct mp_live_row *row,
                 uint32_t capture) {
    const struct mp_levels *levels = &seg->layout.live;
    struct mp_table *table = &seg->control->live;
    uint64_t key = key_of(block), hash = mp_mix(key);
    uint32_t ready = mp_table_ready(levels, &seg->control->live), number;
    if (mp_load_relaxed(&table->wanted) > ready)
        mp_table_grow(seg, levels, table);
    uint32_t at = claim(seg, ready, key, hash, capture, &number);
    if (at == MP_ROW_NONE) {
        mp_store_relaxed(&table->wanted, ready + 1);
        mp_table_grow(seg, levels, table);
        at = claim(seg, mp_table_ready(levels, &seg->control->live), key, hash, capture, &number);
    }
    if (at == MP_ROW_NONE)
        return false;
    const struct mp_level *level = &levels->level[number];
    write_row(mp_level_row(seg, level, at), row);
    mp_filter_add((const void *)(uintptr_t)key);
    mp_store_release(&mp_level_keys(seg, level)[at], key);
    return true;
}

bool mp_live_take(struct mp_segment *seg, const void *block, struct mp_live_row *out) {
    const struct mp_levels *levels = &seg->layout.live;
    uint64_t key = key_of(block), hash = mp_mix(key);
    uint32_t ready = mp_table_ready(levels, &seg->control->live);
    if (key == 0)
        return false;
    for (uint32_t i = ready; i-- > 0;) {
        const struct mp_level *level = &levels->level[i];
        uint32_t row = mp_level_find(seg, level, hash, key);
        if (row == MP_ROW_NONE)
            continue;
        uint64_t *keys = mp_level_keys(seg, level);
        if (!mp_cas_u64(&keys[row], key, key | MP_LIVE_CLAIMED))
            continue; /* evicted under us */
        read_row(out, mp_level_row(seg, level, row));
        mp_store_release(&keys[row], 0ULL);
        mp_filter_remove((const void *)(uintptr_t)key);
        return true;
    }
    return false;
}
