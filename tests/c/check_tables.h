/*
 * check_tables.h - what holds in every segment that nobody writes to, as equations over its tables.
 *
 * Model: each mp_check_*() walks one table whole and CHECKs what its header promises; mp_check_segment()
 * walks them all. Called after every storm, so that a table that was left wrong is found there and not by the
 * next look-up that happens to meet the row. It is here and not in the sampler: it takes time and CHECK,
 * and the sampler has no use for it.
 *
 * Threads: none may be at work in the segment, and none may have been killed there.
 */
#ifndef CHECK_TABLES_H
#define CHECK_TABLES_H

#include "check.h"
#include "core/keyed.h"
#include "core/live.h"
#include "core/local.h"
#include "core/sites.h"
#include "core/stacks.h"
#include "device/device_live.h"

#include <stdlib.h>
#include <string.h>

/* --- any table -------------------------------------------------------------------------------- */

/* Levels that may be used have all of their pages, and nobody holds the lock. */
static inline void mp_check_levels(const struct mp_levels *levels, const struct mp_table *table) {
    CHECK(table->levels_ready <= levels->count);
    for (uint32_t i = 0; i < table->levels_ready; i++)
        CHECK(table->level[i].reserved_bytes >= mp_level_bytes(&levels->level[i]));
}

static inline bool mp_check_in_buckets(const struct mp_level *level, uint64_t hash, uint32_t row) {
    return row - mp_bucket(level, hash, 0) < MP_BUCKET_ROWS ||
           row - mp_bucket(level, hash, 1) < MP_BUCKET_ROWS;
}

/* --- stacks ------------------------------------------------------------------------------------ */

static inline const struct mp_stack *mp_check_stack_at(const struct mp_segment *seg, uint64_t at) {
    return (const struct mp_stack *)((const unsigned char *)mp_array_at(seg, MP_ARRAY_STACKS) + at);
}

/* Records are back to back, from the first id to the cursor. *starts gets a flag for each id. */
static inline void mp_check_arena(const struct mp_segment *seg, unsigned char *starts) {
    const struct mp_control *c = seg->control;
    uint64_t at = MP_STACK_LOST_MAX * 8;
    CHECK(c->directory[MP_ARRAY_STACKS].reserved_bytes <= mp_array_bytes(seg, MP_ARRAY_STACKS));
    while (at < c->arena_cursor &&
           at + sizeof(struct mp_stack) <= mp_array_reserved(seg, MP_ARRAY_STACKS)) {
        const struct mp_stack *stack = mp_check_stack_at(seg, at);
        uint64_t bytes = sizeof *stack + 8ULL * stack->depth;
        if (stack->hash == 0 || at + bytes > mp_array_reserved(seg, MP_ARRAY_STACKS))
            break; /* there was no room for it */
        CHECK(stack->depth >= 1 && stack->depth <= MP_DEPTH_MAX && stack->truncated <= 2);
        starts[at / 8] = 1;
        at += bytes;
    }
    if (c->arena_cursor <= mp_array_reserved(seg, MP_ARRAY_STACKS))
        CHECK_EQ(at, c->arena_cursor);
}

/* The frames of a joined record; how many. */
static inline uint32_t mp_check_joined(const struct mp_segment *seg, const struct mp_stack *joined,
                                       uintptr_t *frames) {
    const uint32_t *ids = (const uint32_t *)(joined + 1);
    uint32_t done = 0;
    for (uint32_t i = 0; i < 2 * joined->depth && ids[i] != 0; i++) {
        const struct mp_stack *run = mp_check_stack_at(seg, ids[i] * 8ULL);
        CHECK_EQ(run->kind, MP_STACK_RUN);
        for (uint32_t n = 0; n < run->depth && done < MP_DEPTH_MAX; n++)
            frames[done++] = ((const uintptr_t *)(run + 1))[n];
    }
    CHECK_EQ(done, joined->interpreter);
    return done;
}

/* An entry is the upper bits of its record's hash, which is that of the frames, in one of its two buckets. */
static inline void mp_check_index_entry(struct mp_segment *seg, const struct mp_level *level,
                                        uint32_t row, const unsigned char *starts) {
    uint64_t entry = mp_level_keys(seg, level)[row], ids = (1ULL << MP_KEY_STACK_BITS) - 1;
    uint64_t id = entry & ids;
    if (entry == 0)
        return;
    CHECK(id * 8 < mp_array_reserved(seg, MP_ARRAY_STACKS) && starts[id] == 1);
    if (id * 8 >= mp_array_reserved(seg, MP_ARRAY_STACKS) || starts[id] == 0)
        return;
    const struct mp_stack *stack = mp_check_stack_at(seg, id * 8);
    CHECK_EQ(entry & ~ids, stack->hash & ~ids);
    CHECK(mp_check_in_buckets(level, stack->hash, row));
    bool is_new = true, is_joined = stack->kind == MP_STACK_JOINED;
    uintptr_t frames[MP_DEPTH_MAX];
    struct mp_stack_identity identity = {
        .frames = is_joined ? frames : (const uintptr_t *)(stack + 1),
        .depth = is_joined ? mp_check_joined(seg, stack, frames) : stack->depth,
        .truncated = stack->truncated,
        .kind = is_joined ? MP_STACK_NATIVE : stack->kind,
        .generation = stack->generation,
        .interpreter = is_joined ? 0 : stack->interpreter};
    uint32_t found = is_joined ? mp_stack_intern_native(seg, &identity, &is_new)
                               : mp_stack_intern(seg, &identity, &is_new);
    CHECK(!is_new && found >= MP_STACK_LOST_MAX);
    CHECK_EQ(mp_check_stack_at(seg, found * 8ULL)->hash, stack->hash);
}

static inline void mp_check_stacks(struct mp_segment *seg) {
    const struct mp_levels *levels = &seg->layout.stack_index;
    unsigned char *starts = calloc(mp_array_reserved(seg, MP_ARRAY_STACKS) / 8 + 1, 1);
    mp_check_levels(levels, &seg->control->stack_index);
    mp_check_arena(seg, starts);
    for (uint32_t i = 0; i < seg->control->stack_index.levels_ready; i++)
        for (uint32_t row = 0; row < levels->level[i].rows; row++)
            mp_check_index_entry(seg, &levels->level[i], row, starts);
    free(starts);
}

/* --- sites ------------------------------------------------------------------------------------- */

/* What the live rows of one site add up to. */
struct mp_check_sum {
    uint64_t blocks, bytes, taken_bytes;
};

/* By reference: level << 28 | row. Level MP_LOST_SITES_LEVEL is the last one. */
struct mp_check_sums {
    const struct mp_keyed *sites;
    struct mp_check_sum *of[MP_LEVELS + 1];
};

static inline const struct mp_level *mp_check_level(const struct mp_keyed *sites, uint32_t i) {
    return i < sites->table->levels_ready ? &sites->levels->level[i] : sites->lost;
}

static inline struct mp_check_sums mp_check_sums_of(const struct mp_keyed *sites) {
    struct mp_check_sums sums = {.sites = sites};
    for (uint32_t i = 0; i <= sites->table->levels_ready; i++)
        sums.of[i] = calloc(mp_check_level(sites, i)->rows, sizeof(struct mp_check_sum));
    return sums;
}

static inline void mp_check_drop_sums(struct mp_check_sums *sums) {
    for (unsigned i = 0; i <= MP_LEVELS; i++)
        free(sums->of[i]);
}

/* A live row of the capture that is on leads to its site. */
static inline void mp_check_add(struct mp_segment *seg, struct mp_check_sums *sums, uint32_t site,
                                uint64_t key, struct mp_check_sum block) {
    uint32_t level = site >> 28;
    CHECK(mp_keyed_at(seg, sums->sites, site, key) != NULL);
    if (mp_keyed_at(seg, sums->sites, site, key) == NULL)
        return;
    level = level == MP_LOST_SITES_LEVEL ? sums->sites->table->levels_ready : level;
    struct mp_check_sum *sum = &sums->of[level][site & 0x0fffffff];
    sum->blocks += block.blocks;
    sum->bytes += block.bytes;
    sum->taken_bytes += block.taken_bytes;
}

/* The smallest size of a class. */
static inline uint64_t mp_check_class_begin(uint32_t cls) {
    uint32_t shift = cls < 128 ? 0 : cls / 64 - 1;
    return (uint64_t)(cls - 64 * shift) << shift;
}

/* Bytes of so many blocks of the class in `key`. */
static inline void mp_check_bytes(uint64_t key, uint64_t blocks, uint64_t bytes) {
    uint32_t last = (1u << MP_KEY_CLASS_BITS) - 1;
    uint32_t cls = (uint32_t)(key >> MP_KEY_CLASS_SHIFT) & last;
    CHECK(bytes >= blocks * mp_check_class_begin(cls));
    CHECK(cls == last || blocks == 0 || bytes < blocks * mp_check_class_begin(cls + 1));
}

static inline uint64_t mp_check_born(const uint32_t *births, unsigned buckets) {
    uint64_t born = 0;
    for (unsigned i = 0; i < buckets; i++)
        born += births[i];
    return born;
}

/* A site remembers no later epoch than the latest, and no more blocks than it ever had. */
static inline void mp_check_stamp(uint64_t word, uint64_t alloc_blocks, uint32_t epoch) {
    CHECK((uint32_t)(word >> 32) <= epoch);
    CHECK((uint32_t)word <= alloc_blocks);
}

/* Is it a row in use, in one of its buckets, in the level where its stack belongs? */
static inline bool mp_check_key(const struct mp_segment *seg, const struct mp_keyed *sites,
                                const struct mp_level *level, uint32_t row) {
    uint64_t key = mp_level_keys(seg, level)[row];
    CHECK(key != MP_KEY_RECYCLING);
    if (key == 0 || key == MP_KEY_RECYCLING)
        return false;
    CHECK(mp_check_in_buckets(level, mp_mix(key), row));
    CHECK_EQ(mp_key_stack(key) < MP_STACK_LOST_MAX, level == sites->lost);
    return true;
}

/* Allocated - freed = live, for each site of the capture. */
static inline void mp_check_site(const struct mp_segment *seg, const struct mp_level *level,
                                 uint32_t row, uint32_t capture, const struct mp_check_sum *live) {
    uint64_t key = mp_level_keys(seg, level)[row];
    const struct mp_site_row *site = mp_level_row(seg, level, row);
    uint64_t alloc_blocks = mp_births_blocks(site->alloc_blocks);
    uint64_t blocks = (uint32_t)alloc_blocks - site->freed_blocks;
    CHECK(mp_check_born(site->births, MP_BUCKETS - 1) <= alloc_blocks);
    CHECK_EQ(site->alloc_blocks & MP_BIRTHS_BUSY, 0);
    CHECK(blocks <= alloc_blocks);
    mp_check_bytes(key, alloc_blocks, site->alloc_bytes);
    mp_check_bytes(key, alloc_blocks - blocks, site->freed_bytes);
    if (mp_key_capture(key) != capture)
        return;
    mp_check_stamp(site->peak, alloc_blocks, seg->control->peak[capture & 1].epoch);
    CHECK_EQ(blocks, live->blocks);
    CHECK_EQ(site->alloc_bytes - site->freed_bytes, live->bytes);
}

static inline void mp_check_device_site(const struct mp_segment *seg, const struct mp_level *level,
                                        uint32_t row, uint32_t capture,
                                        const struct mp_check_sum *live) {
    uint64_t key = mp_level_keys(seg, level)[row];
    const struct mp_device_site_row *site = mp_level_row(seg, level, row);
    uint64_t alloc_blocks = mp_births_blocks(site->alloc_blocks);
    CHECK_EQ(mp_check_born(site->births, MP_BUCKETS), alloc_blocks);
    mp_check_bytes(key, alloc_blocks, site->alloc_bytes);
    mp_check_bytes(key, site->freed_blocks, site->freed_bytes);
    mp_check_bytes(key, site->failed_blocks, site->failed_bytes);
    CHECK(mp_key_domain(key) != 0);
    if (mp_key_capture(key) != capture)
        return;
    CHECK_EQ(alloc_blocks - site->freed_blocks, live->blocks);
    CHECK_EQ(site->alloc_bytes - site->freed_bytes, live->bytes);
    CHECK_EQ(site->alloc_taken_bytes - site->freed_taken_bytes, live->taken_bytes);
}

typedef void mp_check_row(const struct mp_segment *seg, const struct mp_level *level, uint32_t row,
                          uint32_t capture, const struct mp_check_sum *live);

static inline void mp_check_sites(struct mp_segment *seg, const struct mp_check_sums *sums,
                                  uint32_t capture, mp_check_row *check) {
    const struct mp_keyed *sites = sums->sites;
    for (uint32_t i = 0; i <= sites->table->levels_ready; i++) {
        const struct mp_level *level = mp_check_level(sites, i);
        for (uint32_t row = 0; row < level->rows; row++)
            if (mp_check_key(seg, sites, level, row))
                check(seg, level, row, capture, &sums->of[i][row]);
    }
}

/* --- live blocks -------------------------------------------------------------------------------- */

/* The row is found by its address, with what is in it, and the filter knows it. */
static inline void mp_check_found(struct mp_segment *seg, const struct mp_live_row *row) {
    const void *block = (const void *)(uintptr_t)row->key;
    uint64_t size = row->size_thread & ((1ULL << MP_LIVE_SIZE_BITS) - 1), site = row->site_key;
    CHECK(mp_filter_hit(block) && mp_filter_hit_large(block));
    struct mp_live_block out = {0};
    CHECK(mp_live_take(seg, block, &out));
    CHECK_EQ(out.size_bytes, size);
    CHECK_EQ(out.site_key, site);
    struct mp_live_evicted evicted;
    CHECK(mp_live_add(seg, block, &out, mp_key_capture(out.site_key), &evicted));
    CHECK_EQ(evicted.row.site_key, 0);
}

/* Each filter counts the live blocks, and link maps that are watched (`watched`). */
static inline void mp_check_filters(uint64_t live, uint64_t watched) {
    uint64_t small = 0, large = 0;
    for (uint32_t i = 0; i < 1u << MP_FILTER_SMALL_BITS; i++)
        small += mp_local.filter_small[i];
    for (uint32_t i = 0; i < 1u << MP_FILTER_LARGE_BITS; i++)
        large += mp_filter_count(mp_local.filter_large[i]);
    CHECK_EQ(small, live + watched);
    CHECK_EQ(large, live + watched);
}

/* Returns how many there are. `sums` NULL: the rows name no site. */
static inline uint64_t mp_check_live(struct mp_segment *seg, struct mp_check_sums *sums,
                                     uint32_t capture) {
    const struct mp_levels *levels = &seg->layout.live;
    uint64_t live = 0;
    mp_check_levels(levels, &seg->control->live);
    for (uint32_t i = 0; i < seg->control->live.levels_ready; i++) {
        struct mp_live_row *rows = (struct mp_live_row *)(seg->base + levels->level[i].offset);
        for (uint32_t at = 0; at < levels->level[i].rows; at++) {
            if (rows[at].key == 0)
                continue;
            live++;
            CHECK((rows[at].key & MP_LIVE_CLAIMED) == 0);
            struct mp_check_sum one = {
                .blocks = 1, .bytes = rows[at].size_thread & ((1ULL << MP_LIVE_SIZE_BITS) - 1)};
            if (sums != NULL && mp_key_capture(rows[at].site_key) == capture)
                mp_check_add(seg, sums, rows[at].site, rows[at].site_key, one);
        }
    }
    for (uint32_t i = 0; i < seg->control->live.levels_ready; i++) {
        struct mp_live_row *rows = (struct mp_live_row *)(seg->base + levels->level[i].offset);
        for (uint32_t at = 0; at < levels->level[i].rows; at++)
            if (rows[at].key != 0)
                mp_check_found(seg, &rows[at]);
    }
    return live;
}

/* A row is empty, or it has owners and is found by its address. */
static inline void mp_check_device_live_row(struct mp_segment *seg, struct mp_check_sums *sums,
                                            uint32_t capture, const struct mp_level *level,
                                            uint32_t at) {
    uint64_t key = mp_level_keys(seg, level)[at];
    struct mp_device_live_row *row = mp_level_row(seg, level, at);
    CHECK_EQ(key != 0, (uint32_t)row->state != 0);
    if (key == 0)
        return;
    CHECK((key & MP_LIVE_CLAIMED) == 0);
    CHECK(mp_check_in_buckets(level, mp_mix(key), at));
    struct mp_check_sum one = {
        .blocks = 1, .bytes = row->asked_bytes, .taken_bytes = row->taken_bytes};
    if (mp_key_capture(row->site_key) == capture)
        mp_check_add(seg, sums, row->site, row->site_key, one);
    struct mp_device_live_row out;
    uint32_t owners = (uint32_t)row->state;
    CHECK(mp_device_live_join(seg, row->space, row->address));
    CHECK_EQ(mp_device_live_leave(seg, row->space, row->address, false, &out), MP_DEVICE_SHARED);
    CHECK_EQ((uint32_t)row->state, owners);
}

static inline void mp_check_device(struct mp_segment *seg) {
    const struct mp_levels *levels = &seg->layout.device_live;
    const struct mp_keyed sites = {.levels = &seg->layout.device_sites,
                                   .table = &seg->control->device_sites,
                                   .lost = &seg->layout.device_lost_sites,
                                   .lost_reserved = &seg->control->device_lost_sites};
    uint32_t capture = seg->control->capture_number;
    mp_check_levels(sites.levels, sites.table);
    mp_check_levels(levels, &seg->control->device_live);
    if (seg->control->device_lost_sites.reserved_bytes == 0)
        return; /* no device was seen */
    struct mp_check_sums sums = mp_check_sums_of(&sites);
    for (uint32_t i = 0; i < seg->control->device_live.levels_ready; i++)
        for (uint32_t at = 0; at < levels->level[i].rows; at++)
            mp_check_device_live_row(seg, &sums, capture, &levels->level[i], at);
    mp_check_sites(seg, &sums, capture, mp_check_device_site);
    mp_check_drop_sums(&sums);
}

/* Host blocks and their sites. `whole`: the rows are those of real samples, so that they add up. Returns how
 * many blocks there are. */
static inline uint64_t mp_check_host(struct mp_segment *seg, uint32_t capture, bool whole) {
    const struct mp_keyed sites = {.levels = &seg->layout.sites,
                                   .table = &seg->control->sites,
                                   .lost = &seg->layout.lost_sites,
                                   .lost_reserved = &seg->control->lost_sites};
    struct mp_check_sums sums = mp_check_sums_of(&sites);
    mp_check_levels(sites.levels, sites.table);
    uint64_t live = mp_check_live(seg, whole ? &sums : NULL, capture);
    mp_check_sites(seg, &sums, whole ? capture : 0, mp_check_site);
    mp_check_drop_sums(&sums);
    return live;
}

/* --- modules ------------------------------------------------------------------------------------ */

static inline bool mp_check_same_module(const struct mp_module_row *a,
                                        const struct mp_module_row *b) {
    return a->start == b->start && a->path_bytes == b->path_bytes &&
           memcmp(a->path, b->path, a->path_bytes) == 0 &&
           memcmp(a->build_id, b->build_id, sizeof a->build_id) == 0;
}

static inline void mp_check_module(const struct mp_segment *seg, const struct mp_module_row *row) {
    CHECK(row->start < row->end && row->first_generation <= row->last_generation);
    CHECK(row->last_generation == UINT32_MAX || row->last_generation < seg->control->generation);
    CHECK(row->build_id_bytes <= sizeof row->build_id && row->exec_ranges <= MP_EXEC_RANGES);
    CHECK(row->path_bytes < sizeof row->path && row->path[row->path_bytes] == '\0');
}

/* At one address in one generation there is one module. */
static inline void mp_check_modules(const struct mp_segment *seg) {
    const struct mp_module_row *rows = mp_array_at(seg, MP_ARRAY_MODULES);
    uint32_t n = seg->control->module_count;
    CHECK(n * sizeof *rows <= mp_array_reserved(seg, MP_ARRAY_MODULES));
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(rows[i].published, 1);
        mp_check_module(seg, &rows[i]);
        for (uint32_t j = 0; j < i; j++)
            CHECK(rows[j].end <= rows[i].start || rows[i].end <= rows[j].start ||
                  rows[j].last_generation < rows[i].first_generation ||
                  rows[i].last_generation < rows[j].first_generation ||
                  mp_check_same_module(&rows[i], &rows[j]));
    }
}

/* --- domains, marks, threads --------------------------------------------------------------------- */

/* A domain has one row, whose texts end. */
static inline void mp_check_domains(const struct mp_segment *seg) {
    const struct mp_domain *rows = mp_array_at(seg, MP_ARRAY_DOMAINS);
    if (mp_array_reserved(seg, MP_ARRAY_DOMAINS) == 0)
        return;
    CHECK_EQ(rows[0].key, 0); /* the host's */
    for (uint32_t i = 1; i < MP_DOMAIN_ROWS; i++) {
        CHECK_EQ(rows[i].key != 0, rows[i].published == 1);
        CHECK(memchr(rows[i].name, '\0', sizeof rows[i].name) != NULL);
        CHECK(memchr(rows[i].family, '\0', sizeof rows[i].family) != NULL);
        for (uint32_t j = 1; j < i && rows[i].key != 0; j++)
            CHECK(rows[j].key != rows[i].key);
    }
}

/* Mark n is in row n % rows, and no row holds one that was not added yet. */
static inline void mp_check_marks(const struct mp_segment *seg) {
    const struct mp_mark *rows = mp_array_at(seg, MP_ARRAY_MARKS);
    if (mp_array_reserved(seg, MP_ARRAY_MARKS) == 0)
        return;
    for (uint32_t i = 0; i < mp_array_rows(seg, MP_ARRAY_MARKS); i++) {
        uint64_t sequence = rows[i].sequence;
        CHECK(sequence <= seg->control->mark_count);
        CHECK(sequence == 0 || (sequence - 1) % mp_array_rows(seg, MP_ARRAY_MARKS) == i);
    }
}

/* Rows that were taken are in reserved pages; all others share row 0, and each is a loss. */
static inline void mp_check_threads(const struct mp_segment *seg) {
    const struct mp_control *c = seg->control;
    uint64_t in_table = c->thread_count - c->lost[MP_LOST_THREAD_FULL];
    CHECK(in_table < mp_array_rows(seg, MP_ARRAY_THREADS));
    CHECK(in_table == 0 ||
          (in_table + 1) * sizeof(struct mp_thread) <= mp_array_reserved(seg, MP_ARRAY_THREADS));
}

/* --- all ---------------------------------------------------------------------------------------- */

static inline void mp_check_segment(struct mp_segment *seg) {
    mp_check_stacks(seg);
    mp_check_host(seg, seg->control->capture_number, true);
    mp_check_device(seg);
    mp_check_modules(seg);
    mp_check_domains(seg);
    mp_check_marks(seg);
    mp_check_threads(seg);
}

#endif
