/*
 * live.c - the table of sampled live blocks. See live.h.
 */
#include "live.h"
#include "local.h"
#include "site_key.h"

#define NEAR_SHIFT 10 /* blocks of one kilobyte share their first bucket */
#define PAGE_SHIFT 12 /* and those of a page lie side by side */

#define CHOICES 3

/* Of the eight rows that a look ahead sees: so many in use are few. The sum of what is above has a bound. */
#define FEW_OF_ROWS 3
#define CROWDED 32

/* The buckets of a block in every level, before they are cut to the level's size. */
struct place {
    uint32_t bucket[CHOICES];
};

static uint64_t key_of(const void *block) {
    return (uint64_t)(uintptr_t)block & ~MP_LIVE_CLAIMED;
}

static struct place place_of(uint64_t key) {
    uint32_t page = (uint32_t)((key >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ULL >> 32);
    uint32_t near = (uint32_t)(key >> NEAR_SHIFT) & ((1u << (PAGE_SHIFT - NEAR_SHIFT)) - 1);
    uint64_t hash = key * 0xd6e8feb86659fd93ULL;
    return (struct place){
        {page << (PAGE_SHIFT - NEAR_SHIFT) | near, (uint32_t)(hash >> 32), (uint32_t)(hash >> 12)}};
}

static struct mp_live_row *bucket_at(const struct mp_segment *seg, const struct mp_level *level,
                                     uint32_t bucket) {
    uint32_t row = bucket * MP_LIVE_BUCKET_ROWS & (level->rows - 1);
    return (struct mp_live_row *)(seg->base + level->offset) + row;
}

/* Bit i is set where the key of row i is `key`. */
static unsigned matches(const struct mp_live_row *rows, uint64_t key) {
    unsigned same = 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < MP_LIVE_BUCKET_ROWS; i++)
        same |= (unsigned)(mp_load_relaxed(&rows[i].key) == key) << i;
    return same;
}

static void write_row(struct mp_live_row *to, const struct mp_live_block *from) {
    uint64_t size = from->size_bytes, most = (1ULL << MP_LIVE_SIZE_BITS) - 1;
    mp_store_relaxed(&to->size_thread,
                     (size < most ? size : most) | (uint64_t)from->thread << MP_LIVE_SIZE_BITS);
    mp_store_relaxed(&to->site_key, from->site_key);
    mp_store_relaxed(&to->site, from->site);
    mp_store_relaxed(&to->birth, (uint32_t)(from->birth_ns >> MP_LIVE_BIRTH_SHIFT));
}

static inline __attribute__((always_inline)) void read_row(struct mp_live_block *to,
                                                           const struct mp_live_row *from) {
    uint64_t size_thread = mp_load_relaxed(&from->size_thread);
    to->size_bytes = size_thread & ((1ULL << MP_LIVE_SIZE_BITS) - 1);
    to->thread = (uint32_t)(size_thread >> MP_LIVE_SIZE_BITS);
    to->site_key = mp_load_relaxed(&from->site_key);
    to->site = mp_load_relaxed(&from->site);
    to->birth_ns = (uint64_t)mp_load_relaxed(&from->birth) << MP_LIVE_BIRTH_SHIFT;
}

/*
 * Claim an empty row of the level, or NULL. If a row has a claim for this same address, a signal handler
 * that jumped away left it: the block is the caller's, so nobody else uses the row. *last: the buckets
 * before the last choice were full.
 */
static struct mp_live_row *claim_empty(struct mp_segment *seg, const struct mp_level *level,
                                       uint64_t key, const struct place *at, bool *last) {
    for (unsigned which = 0; which < CHOICES; which++) {
        struct mp_live_row *rows = bucket_at(seg, level, at->bucket[which]);
        unsigned abandoned = matches(rows, key | MP_LIVE_CLAIMED);
        if (mp_unlikely(abandoned != 0))
            return rows + __builtin_ctz(abandoned);
        for (unsigned empty = matches(rows, 0); empty != 0; empty &= empty - 1) {
            struct mp_live_row *row = rows + __builtin_ctz(empty);
            *last = which == CHOICES - 1;
            if (mp_cas_u64(&row->key, 0, key | MP_LIVE_CLAIMED))
                return row;
        }
    }
    *last = true;
    return NULL;
}

/*
 * Evict a block of an earlier capture from the buckets and claim its row. Just before, the block may be freed and its
 * address sampled anew in this row: then it is one of this capture, and goes as well. To put it back would keep a row
 * for ever if its owner freed it meanwhile.
 */
static struct mp_live_row *claim_old(struct mp_segment *seg, const struct mp_level *level,
                                     uint64_t key, const struct place *at, uint32_t capture,
                                     struct mp_live_evicted *evicted) {
    for (unsigned i = 0; i < CHOICES * MP_LIVE_BUCKET_ROWS; i++) {
        struct mp_live_row *row =
            bucket_at(seg, level, at->bucket[i / MP_LIVE_BUCKET_ROWS]) + i % MP_LIVE_BUCKET_ROWS;
        uint64_t old = mp_load_acquire(&row->key);
        if (old == 0 || (old & MP_LIVE_CLAIMED) ||
            mp_key_capture(mp_load_relaxed(&row->site_key)) == capture ||
            !mp_cas_u64(&row->key, old, key | MP_LIVE_CLAIMED))
            continue;
        if (mp_unlikely(mp_key_capture(mp_load_relaxed(&row->site_key)) == capture)) {
            evicted->block = (const void *)(uintptr_t)old;
            read_row(&evicted->row, row);
        }
        mp_filter_remove((const void *)(uintptr_t)old);
        return row;
    }
    return NULL;
}

static uint32_t random_of(uint32_t bucket) {
    return bucket * 0x9e3779b9u >> 8;
}

/* Ask for the next level as soon as a block came to its last choice in the first one, and in others once
 * that happened about as often as they have rows / 256: a fifth to a half of them are in use then, and
 * the levels before are in the same state, so there is room until the new one is ready. */
static void ask_ahead(struct mp_table *table, const struct mp_level *last, uint32_t ready,
                      uint32_t bucket) {
    uint32_t often = ready > 1 ? last->rows / 256 : 1;
    if ((random_of(bucket) & (often - 1)) == 0 && mp_load_relaxed(&table->wanted) <= ready)
        mp_store_relaxed(&table->wanted, ready + 1);
}

/*
 * Blocks of one size, side by side, fill all first buckets alike, and then come to their last choice when a
 * level is nearly full, a few blocks before there is no row at all. So one block in 64 looks at the
 * rows of its other choices, which are anywhere in the last level, and asks when they are mostly in use.
 */
static void look_ahead(const struct mp_segment *seg, struct mp_table *table, uint32_t ready,
                       const struct place *at) {
    if (mp_likely((random_of(at->bucket[1]) & 63) != 0) || mp_load_relaxed(&table->wanted) > ready)
        return;
    uint32_t crowded = mp_load_relaxed(&table->crowded);
    for (unsigned which = 1; which < CHOICES; which++) {
        const struct mp_level *last = &seg->layout.live.level[ready - 1];
        for (unsigned empty = matches(bucket_at(seg, last, at->bucket[which]), 0), i = 0;
             i < MP_LIVE_BUCKET_ROWS; i++)
            crowded += !(empty >> i & 1);
    }
    crowded = crowded > FEW_OF_ROWS ? crowded - FEW_OF_ROWS : 0;
    if (crowded > CROWDED) {
        mp_store_relaxed(&table->wanted, ready + 1);
        crowded = 0;
    }
    mp_store_relaxed(&table->crowded, crowded);
}

/* The last level first: it has most of the room, and holds most of the blocks. */
static struct mp_live_row *claim(struct mp_segment *seg, uint32_t ready, uint64_t key,
                                 const struct place *at, uint32_t capture,
                                 struct mp_live_evicted *evicted) {
    const struct mp_levels *levels = &seg->layout.live;
    struct mp_live_row *row;
    for (uint32_t i = ready; i-- > 0;) {
        bool last = false;
        row = claim_empty(seg, &levels->level[i], key, at, &last);
        if (mp_unlikely(last) && i + 1 == ready)
            ask_ahead(&seg->control->live, &levels->level[i], ready, at->bucket[1]);
        if (row != NULL)
            return row;
    }
    for (uint32_t i = ready; i-- > 0;)
        if ((row = claim_old(seg, &levels->level[i], key, at, capture, evicted)) != NULL)
            return row;
    return NULL;
}

static void prefetch_rows(const struct mp_segment *seg, const struct place *at) {
    const struct mp_levels *levels = &seg->layout.live;
    uint32_t ready = mp_table_ready(levels, &seg->control->live);
    if (ready == 0)
        return;
    const struct mp_live_row *rows = bucket_at(seg, &levels->level[ready - 1], at->bucket[0]);
    __builtin_prefetch(rows, 1);
    __builtin_prefetch(rows + MP_LIVE_BUCKET_ROWS / 2, 1);
}

void mp_live_prefetch(const struct mp_segment *seg, const void *block) {
    struct place at = place_of(key_of(block));
    mp_filter_prefetch(block);
    prefetch_rows(seg, &at);
}

bool mp_live_add(struct mp_segment *seg, const void *block, const struct mp_live_block *row,
                 uint32_t capture, struct mp_live_evicted *evicted) {
    const struct mp_levels *levels = &seg->layout.live;
    struct mp_table *table = &seg->control->live;
    uint64_t key = key_of(block);
    struct place at = place_of(key);
    uint32_t ready = mp_table_ready(levels, table);
    if (ready > 1)
        look_ahead(seg, table, ready, &at);
    if (mp_unlikely(mp_load_relaxed(&table->wanted) > ready))
        mp_table_grow(seg, levels, table);
    evicted->row.site_key = 0;
    struct mp_live_row *to;
    for (bool grown = false; (to = claim(seg, ready, key, &at, capture, evicted)) == NULL;
         grown = true) {
        if (grown)
            return false;
        mp_store_relaxed(&table->wanted, ready + 1);
        mp_table_grow(seg, levels, table);
        ready = mp_table_ready(levels, table);
    }
    write_row(to, row);
    bool added = mp_filter_add((const void *)(uintptr_t)key);
    mp_store_release(&to->key, added ? key : 0);
    return added;
}

/* The block's owner alone may add its address, so nobody changed a row in between that still has it. */
static bool take_from(struct mp_live_row *row, uint64_t key, struct mp_live_block *out) {
    if (mp_load_acquire(&row->key) != key)
        return false;
    read_row(out, row);
    return mp_cas_u64(&row->key, key, 0); /* else evicted under us */
}

bool mp_live_take(struct mp_segment *seg, const void *block, struct mp_live_block *out) {
    const struct mp_levels *levels = &seg->layout.live;
    uint64_t key = key_of(block);
    struct place at = place_of(key);
    uint32_t ready = mp_table_ready(levels, &seg->control->live);
    if (key == 0)
        return false;
    for (uint32_t i = 0; i < CHOICES * ready; i++) {
        const struct mp_level *level = &levels->level[ready - 1 - i / CHOICES];
        struct mp_live_row *rows = bucket_at(seg, level, at.bucket[i % CHOICES]);
        for (unsigned same = matches(rows, key); same != 0; same &= same - 1) {
            if (take_from(rows + __builtin_ctz(same), key, out)) {
                mp_filter_remove(block);
                return true;
            }
        }
    }
    return false;
}

const void *mp_live_next(const struct mp_segment *seg, uint64_t *cursor) {
    const struct mp_levels *levels = &seg->layout.live;
    uint32_t ready = mp_table_ready(levels, &seg->control->live);
    uint32_t row = (uint32_t)*cursor;
    for (uint32_t i = (uint32_t)(*cursor >> 32); i < ready; i++, row = 0) {
        const struct mp_live_row *rows =
            (const struct mp_live_row *)(seg->base + levels->level[i].offset);
        for (; row < levels->level[i].rows; row++) {
            uint64_t key = mp_load_relaxed(&rows[row].key);
            if (key == 0 || (key & MP_LIVE_CLAIMED) != 0)
                continue;
            *cursor = (uint64_t)i << 32 | (row + 1);
            return (const void *)(uintptr_t)key;
        }
    }
    return NULL;
}
