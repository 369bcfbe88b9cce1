/*
 * device_live.c - live blocks of device memory. See device_live.h.
 */
#include "device_live.h"
#include "core/local.h"
#include "core/site_key.h"
#include "device_domains.h"

#define OWNERS_MASK 0xffffffffULL
#define GENERATION_ONE (1ULL << 32)
#define GROW_AHEAD (MP_BUCKET_ROWS + 1) /* rows in use in two buckets: ask for the next level */

/* Even and not 0: bit 0 marks a row being claimed. Two blocks of one key are told apart by the row. */
static uint64_t key_of(uint32_t space, uint64_t address) {
    return (mp_mix(address + ((uint64_t)space << 58)) | 2) & ~MP_LIVE_CLAIMED;
}

static void write_row(struct mp_device_live_row *to, const struct mp_device_live_row *from) {
    mp_store_relaxed(&to->address, from->address);
    mp_store_relaxed(&to->container, from->container);
    mp_store_relaxed(&to->asked_bytes, from->asked_bytes);
    mp_store_relaxed(&to->taken_bytes, from->taken_bytes);
    mp_store_relaxed(&to->birth_ns, from->birth_ns);
    mp_store_relaxed(&to->site_key, from->site_key);
    mp_store_relaxed(&to->site, from->site);
    mp_store_relaxed(&to->thread, from->thread);
    mp_store_relaxed(&to->space, from->space);
    mp_store_relaxed(&to->node, from->node);
}

/* The copy is good only if a compare-and-swap of `state` from the value in it succeeds afterwards. */
static void read_row(struct mp_device_live_row *to, const struct mp_device_live_row *from) {
    to->state = mp_load_acquire(&from->state);
    to->address = mp_load_relaxed(&from->address);
    to->container = mp_load_relaxed(&from->container);
    to->asked_bytes = mp_load_relaxed(&from->asked_bytes);
    to->taken_bytes = mp_load_relaxed(&from->taken_bytes);
    to->birth_ns = mp_load_relaxed(&from->birth_ns);
    to->site_key = mp_load_relaxed(&from->site_key);
    to->site = mp_load_relaxed(&from->site);
    to->thread = mp_load_relaxed(&from->thread);
    to->space = mp_load_relaxed(&from->space);
    to->node = mp_load_relaxed(&from->node);
}

static bool owned(const struct mp_device_live_row *row) {
    return (row->state & OWNERS_MASK) != 0;
}

static bool is_range(uint32_t space) {
    return space == MP_SPACE_HOST || space == MP_SPACE_HOST_KEPT;
}

/* Enter a block in the filter of its space; false when that is full. */
static bool filter_add(const struct mp_device_live_row *row) {
    if (is_range(row->space))
        mp_starts_add(row->address, row->asked_bytes);
    return row->space != MP_SPACE_HEAP || mp_filter_add(mp_heap_address(row->address));
}

static void filter_remove(const struct mp_device_live_row *row) {
    if (is_range(row->space))
        mp_starts_remove(row->address, row->asked_bytes);
    else if (row->space == MP_SPACE_HEAP)
        mp_filter_remove(mp_heap_address(row->address));
}

/* Take a row away from all its owners. On success it is ours: no one else writes to it or its key. */
static bool seize(struct mp_device_live_row *row, const struct mp_device_live_row *seen) {
    if (!mp_cas_u64(&row->state, seen->state, seen->state & ~OWNERS_MASK))
        return false;
    filter_remove(seen);
    return true;
}

static bool same_block(const struct mp_device_live_row *row, uint32_t space, uint64_t address) {
    return row->address == address && row->space == space;
}

/* Claim an empty row of the two buckets; *used counts the occupied rows seen on the way. */
static uint32_t claim_empty(struct mp_segment *seg, const struct mp_level *level, uint64_t key,
                            uint64_t hash, unsigned *used) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (unsigned i = 0; i < 2 * MP_BUCKET_ROWS; i++) {
        uint32_t row = mp_bucket(level, hash, i / MP_BUCKET_ROWS) + i % MP_BUCKET_ROWS;
        if (mp_load_relaxed(&keys[row]) == 0 && mp_cas_u64(&keys[row], 0, key | MP_LIVE_CLAIMED))
            return row;
        ++*used;
    }
    return MP_ROW_NONE;
}

/* Evict a block of an earlier capture from the two buckets and claim its row. */
static uint32_t claim_old(struct mp_segment *seg, const struct mp_level *level, uint64_t key,
                          uint64_t hash, uint32_t capture) {
    uint64_t *keys = mp_level_keys(seg, level);
    for (unsigned i = 0; i < 2 * MP_BUCKET_ROWS; i++) {
        uint32_t at = mp_bucket(level, hash, i / MP_BUCKET_ROWS) + i % MP_BUCKET_ROWS;
        struct mp_device_live_row *row = mp_level_row(seg, level, at), seen;
        read_row(&seen, row);
        if (!owned(&seen) || mp_key_capture(seen.site_key) == capture || !seize(row, &seen))
            continue;
        mp_store_release(&keys[at], key | MP_LIVE_CLAIMED);
        return at;
    }
    return MP_ROW_NONE;
}

static uint32_t claim(struct mp_segment *seg, uint32_t ready, uint64_t key, uint64_t hash,
                      uint32_t capture, uint32_t *number) {
    const struct mp_levels *levels = &seg->layout.device_live;
    uint32_t row;
    for (*number = ready; (*number)-- > 0;) {
        unsigned used = 0;
        if ((row = claim_empty(seg, &levels->level[*number], key, hash, &used)) != MP_ROW_NONE) {
            if (*number + 1 == ready && used >= GROW_AHEAD)
                mp_store_relaxed(&seg->control->device_live.wanted, ready + 1);
            return row;
        }
    }
    for (*number = ready; (*number)-- > 0;)
        if ((row = claim_old(seg, &levels->level[*number], key, hash, capture)) != MP_ROW_NONE)
            return row;
    return MP_ROW_NONE;
}

static bool add(struct mp_segment *seg, const struct mp_device_live_row *row, uint32_t capture) {
    const struct mp_levels *levels = &seg->layout.device_live;
    struct mp_table *table = &seg->control->device_live;
    uint64_t key = key_of(row->space, row->address), hash = mp_mix(key);
    uint32_t ready = mp_table_ready(levels, table), number;
    if (mp_load_relaxed(&table->wanted) > ready)
        mp_table_grow(seg, levels, table);
    uint32_t at = claim(seg, ready, key, hash, capture, &number);
    if (at == MP_ROW_NONE && mp_device_add_level(seg, levels, table, ready))
        at = claim(seg, mp_table_ready(levels, table), key, hash, capture, &number);
    if (at == MP_ROW_NONE)
        return false;
    const struct mp_level *level = &levels->level[number];
    struct mp_device_live_row *to = mp_level_row(seg, level, at);
    write_row(to, row);
    uint64_t generation = mp_load_relaxed(&to->state) & ~OWNERS_MASK;
    mp_store_release(&mp_level_keys(seg, level)[at], key);
    mp_store_release(&to->state, generation + GENERATION_ONE + 1); /* last: now it has an owner */
    return true;
}

bool mp_device_live_add(struct mp_segment *seg, const struct mp_device_live_row *row,
                        uint32_t capture) {
    if (!filter_add(row))
        return false;
    if (add(seg, row, capture))
        return true;
    filter_remove(row);
    return false;
}

/* The row of a block and a copy of it, or NULL. Skips a key that belongs to another block. */
static struct mp_device_live_row *find(struct mp_segment *seg, uint32_t space, uint64_t address,
                                       struct mp_device_live_row *seen, uint64_t **key_word) {
    const struct mp_levels *levels = &seg->layout.device_live;
    uint64_t key = key_of(space, address), hash = mp_mix(key);
    for (uint32_t i = mp_table_ready(levels, &seg->control->device_live); i-- > 0;) {
        const struct mp_level *level = &levels->level[i];
        uint64_t *keys = mp_level_keys(seg, level);
        for (unsigned n = 0; n < 2 * MP_BUCKET_ROWS; n++) {
            uint32_t at = mp_bucket(level, hash, n / MP_BUCKET_ROWS) + n % MP_BUCKET_ROWS;
            if (mp_load_acquire(&keys[at]) != key)
                continue;
            struct mp_device_live_row *row = mp_level_row(seg, level, at);
            read_row(seen, row);
            if (!owned(seen) || !same_block(seen, space, address))
                continue;
            *key_word = &keys[at];
            return row;
        }
    }
    return NULL;
}

enum mp_device_left mp_device_live_leave(struct mp_segment *seg, uint32_t space, uint64_t address,
                                         bool all, struct mp_device_live_row *out) {
    struct mp_device_live_row *row;
    uint64_t *key;
    if (is_range(space) && !mp_starts_hit(address))
        return MP_DEVICE_UNKNOWN;
    while ((row = find(seg, space, address, out, &key)) != NULL) {
        if (!all && (out->state & OWNERS_MASK) > 1) {
            if (mp_cas_u64(&row->state, out->state, out->state - 1))
                return MP_DEVICE_SHARED;
        } else if (seize(row, out)) {
            mp_store_release(key, 0ULL);
            return MP_DEVICE_FREED;
        }
        /* Another owner came or left meanwhile: it made progress, so this ends. */
    }
    return MP_DEVICE_UNKNOWN;
}

bool mp_device_live_look(struct mp_segment *seg, uint32_t space, uint64_t address,
                         struct mp_device_live_row *out) {
    uint64_t *key;
    return find(seg, space, address, out, &key) != NULL;
}

bool mp_device_live_join(struct mp_segment *seg, uint32_t space, uint64_t address) {
    struct mp_device_live_row *row, seen;
    uint64_t *key;
    while ((row = find(seg, space, address, &seen, &key)) != NULL)
        if ((seen.state & OWNERS_MASK) == OWNERS_MASK ||
            mp_cas_u64(&row->state, seen.state, seen.state + 1))
            return true;
    return false;
}

bool mp_device_live_drop(struct mp_segment *seg, uint32_t space, uint64_t container,
                         uint64_t *cursor, struct mp_device_live_row *out) {
    const struct mp_levels *levels = &seg->layout.device_live;
    uint32_t ready = mp_table_ready(levels, &seg->control->device_live);
    uint64_t begin = 0;
    for (uint32_t i = 0; i < ready; begin += levels->level[i++].rows) {
        const struct mp_level *level = &levels->level[i];
        uint64_t *keys = mp_level_keys(seg, level);
        for (; *cursor < begin + level->rows; ++*cursor) {
            uint32_t at = (uint32_t)(*cursor - begin);
            uint64_t key = mp_load_acquire(&keys[at]);
            if (key == 0 || (key & MP_LIVE_CLAIMED))
                continue;
            struct mp_device_live_row *row = mp_level_row(seg, level, at);
            for (;;) {
                read_row(out, row);
                if (!owned(out) || out->space != space || out->container != container)
                    break;
                if (!seize(row, out))
                    continue;
                mp_store_release(&keys[at], 0ULL);
                return true;
            }
        }
    }
    return false;
}

/* The block before `from`, if it reaches beyond. */
static bool drop_over(struct mp_segment *seg, uint32_t space, uint64_t from,
                      struct mp_starts_search *search, struct mp_device_live_row *out) {
    for (search->at = from - 1; mp_starts_last(search); search->at--) {
        struct mp_device_live_row *row;
        uint64_t *key;
        while ((row = find(seg, space, search->at, out, &key)) != NULL) {
            if (out->asked_bytes <= from - out->address)
                return false;
            if (seize(row, out)) {
                mp_store_release(key, 0ULL);
                return true;
            }
        }
    }
    return false;
}

bool mp_device_live_drop_within(struct mp_segment *seg, uint32_t space, uint64_t from, uint64_t to,
                                uint64_t *cursor, struct mp_device_live_row *out) {
    struct mp_starts_search search = {.steps_left = MP_STARTS_STEPS};
    bool found = false;
    if (*cursor == 0) {
        found = drop_over(seg, space, from, &search, out);
        *cursor = from;
    }
    search.at = *cursor;
    for (; !found && mp_starts_next(&search, to); search.at++)
        found = mp_device_live_leave(seg, space, search.at, true, out) == MP_DEVICE_FREED;
    *cursor = search.at;
    if (search.steps_left == 0)
        mp_capture_lose(seg->control->device_lost, MP_LOST_LIVE_FULL);
    return found;
}

bool mp_device_live_next(struct mp_segment *seg, uint32_t space, uint64_t *cursor,
                         struct mp_device_live_row *out) {
    const struct mp_levels *levels = &seg->layout.device_live;
    uint32_t ready = mp_table_ready(levels, &seg->control->device_live);
    uint64_t begin = 0;
    for (uint32_t i = 0; i < ready; begin += levels->level[i++].rows) {
        const struct mp_level *level = &levels->level[i];
        for (; *cursor < begin + level->rows; ++*cursor) {
            uint32_t at = (uint32_t)(*cursor - begin);
            struct mp_device_live_row *row = mp_level_row(seg, level, at);
            if (mp_load_acquire(&mp_level_keys(seg, level)[at]) == 0)
                continue;
            read_row(out, row);
            if (!owned(out) || out->space != space ||
                !mp_cas_u64(&row->state, out->state, out->state))
                continue;
            ++*cursor;
            return true;
        }
    }
    return false;
}
