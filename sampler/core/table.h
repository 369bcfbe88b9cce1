/*
 * table.h - laying out the segment, reserving its pages, and hashing keys into its levels.
 *
 * Model: a table has up to MP_LEVELS levels, each four times the size of the one before. A level is an
 * array of 8-byte keys in buckets of one cache line, followed by an array of payload rows. A key may be
 * in two buckets of every ready level; there are no tombstones because every look-up reads both buckets
 * whole. Nothing ever moves.
 *
 * Reserving: the maker of the file writes page 0. Nobody uses another page before the controller
 * (fallocate from outside) or this code (madvise(MADV_POPULATE_WRITE), one bounded slice per call) has
 * reserved it. lost[MP_LOST_RESERVE] counts a refusal, which is not an error.
 *
 * Threads: all functions but mp_segment_layout() may run in any number of threads at once. They are HOOK.
 * The giver of a region's pages raises reserved_bytes by a compare-and-swap with release, and
 * levels_ready likewise once that covers the level; the acquire load of either, in the target or the
 * controller, allows an access. Any number may give pages to one region at once: a lock would make all
 * others lose samples while its holder is off its core.
 */
#ifndef MP_TABLE_H
#define MP_TABLE_H

#include "abi/atomics.h"
#include "abi/segment.h"

#include <stdbool.h>
#include <stddef.h>

/* Where one table's levels lie. */
struct mp_levels {
    struct mp_level level[MP_LEVELS]; /* reserved_bytes is not kept here */
    uint32_t count;
};

/* The constant part of the control page, copied before anybody else can write there. */
struct mp_layout {
    struct mp_levels stack_index;
    struct mp_levels sites;
    struct mp_levels live;
    struct mp_level lost_sites;
    struct mp_array array[MP_ARRAYS]; /* reserved_bytes is not kept here */
    uint64_t page_bytes;
    struct mp_levels device_sites;
    struct mp_levels device_live;
    struct mp_level device_lost_sites;
};

/* A mapped segment as the target sees it. */
struct mp_segment {
    unsigned char *base;        /* whole file, limit_bytes long */
    struct mp_control *control; /* == base */
    struct mp_layout layout;    /* not read from the control page again: that may be forged */
};

#define MP_SLICE_BYTES (512u << 10) /* most bytes one hook call reserves: bounds its time */
#define MP_LOST_SITES_LEVEL 15u
#define MP_ROW_NONE UINT32_MAX

/* INIT. The same where pages are so large that each table's rounding counts. */
static inline uint64_t mp_limit_min_bytes(uint64_t page_bytes) {
    return page_bytes <= 16384 ? MP_LIMIT_MIN_BYTES : 4 * MP_LIMIT_MIN_BYTES;
}

/* INIT. Fill in the tables of a fresh control page for a file of control->limit_bytes. */
void mp_segment_layout(struct mp_control *control);

/* INIT. Make *seg out of a fresh file mapped at `base`, laid out according to `control`, a private
 * copy. */
void mp_segment_attach(struct mp_segment *seg, void *base, const struct mp_control *control);

/*
 * INIT. Reserve what a capture needs from its first sample on: the first level of each table and the first
 * pieces of arena, threads and modules; where hooks cannot reserve more, mp_segment_reserve_whole(). `fd` may
 * be -1: then madvise is used. Returns 0 or -errno; pieces reserved before a failure stay reserved.
 */
int mp_segment_reserve_first(struct mp_segment *seg, int fd);

/* INIT. The same with the reserved sites and larger pieces, for a capture in which hooks make no system call. */
int mp_segment_reserve_whole(struct mp_segment *seg, int fd);

/* INIT. Reserve the first `bytes` (at most its size) of an array before any hook uses it. `fd` as
 * above. 0 or -errno. */
int mp_segment_reserve_array(struct mp_segment *seg, int fd, enum mp_array_kind kind,
                             uint64_t bytes);

/* HOOK. Reserve as mp_segment_reserve_whole() does, but while other threads sample: from now on
 * hooks will make no system call. A refusal is counted. */
void mp_segment_reserve_ahead(struct mp_segment *seg);

/* HOOK. Give the piece [offset, offset+bytes) pages. 0 or -errno; never blocks on another
 * thread. */
int mp_reserve(struct mp_segment *seg, uint64_t offset, uint64_t bytes);

/*
 * HOOK. Extend the reserved prefix of a region by `slice` bytes past *reserved, up to `bytes`. 0, -ENOSPC
 * or -errno. Others may be at the same slice: a page is given once, so whoever is first lets all go on.
 */
int mp_region_extend(struct mp_segment *seg, uint64_t offset, uint64_t bytes, uint64_t *reserved,
                     uint64_t slice);

/*
 * HOOK. Reserve one more slice of the level that `table` (in the control page) wants next; publishes
 * the level when done. `levels` is the table's layout.
 */
void mp_table_grow(struct mp_segment *seg, const struct mp_levels *levels, struct mp_table *table);

static inline void *mp_array_at(const struct mp_segment *seg, enum mp_array_kind kind) {
    return seg->base + seg->layout.array[kind].offset;
}

/* HOOK. Rows of an array; a caller may access only those in reserved pages. */
static inline uint64_t mp_array_rows(const struct mp_segment *seg, enum mp_array_kind kind) {
    return seg->layout.array[kind].rows;
}

static inline uint64_t mp_array_bytes(const struct mp_segment *seg, enum mp_array_kind kind) {
    return seg->layout.array[kind].rows * seg->layout.array[kind].row_bytes;
}

/* HOOK. Reserved bytes of an array, safe against a hostile other side. */
static inline uint64_t mp_array_reserved(const struct mp_segment *seg, enum mp_array_kind kind) {
    uint64_t reserved = mp_load_acquire(&seg->control->directory[kind].reserved_bytes);
    uint64_t bytes = mp_array_bytes(seg, kind);
    return reserved < bytes ? reserved : bytes;
}

/* HOOK. Reserve one more slice of an array. As mp_region_extend(). */
int mp_array_extend(struct mp_segment *seg, enum mp_array_kind kind);

static inline uint64_t mp_level_bytes(const struct mp_level *level) {
    return (uint64_t)level->rows * (8 + level->row_bytes);
}

/* HOOK. Mix 64 bits (the finaliser of splitmix64). */
static inline uint64_t mp_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline uint64_t *mp_level_keys(const struct mp_segment *seg, const struct mp_level *level) {
    return (uint64_t *)(seg->base + level->offset);
}

static inline void *mp_level_row(const struct mp_segment *seg, const struct mp_level *level,
                                 uint32_t row) {
    return seg->base + level->offset + (uint64_t)level->rows * 8 + (uint64_t)row * level->row_bytes;
}

/* First row of the which-th (0 or 1) bucket of `hash` in a level. */
static inline uint32_t mp_bucket(const struct mp_level *level, uint64_t hash, unsigned which) {
    uint32_t buckets = level->rows / MP_BUCKET_ROWS;
    uint32_t h = which ? (uint32_t)(hash >> 32) : (uint32_t)hash;
    return (h & (buckets - 1)) * MP_BUCKET_ROWS;
}

/* Bit i is set where keys[i] == key. It compares all eight, so that the processor predicts no branch. */
static inline unsigned mp_bucket_matches(const uint64_t *keys, uint64_t key) {
    unsigned same = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < MP_BUCKET_ROWS; i++)
        same |= (unsigned)(mp_load_relaxed(&keys[i]) == key) << i;
    return same;
}

/* HOOK. May a level of reserved sites be used? `layout` is its constant part, `level` that of the control page. */
static inline bool mp_lost_sites_ready(const struct mp_level *layout,
                                       const struct mp_level *level) {
    return mp_load_acquire(&level->reserved_bytes) >= mp_level_bytes(layout);
}

/* HOOK. The same, and gives it pages if it has none: most captures need no reserved site. Any number of threads may
 * do that at once. */
bool mp_lost_sites_reserve(struct mp_segment *seg, const struct mp_level *layout,
                           struct mp_level *level);

/* HOOK. Levels of `table` that a caller may read, safe against a hostile other side. */
static inline uint32_t mp_table_ready(const struct mp_levels *levels,
                                      const struct mp_table *table) {
    uint32_t ready = mp_load_acquire(&table->levels_ready);
    return ready < levels->count ? ready : levels->count;
}

/* HOOK. The row in `level` that holds `key`, or MP_ROW_NONE. */
uint32_t mp_level_find(const struct mp_segment *seg, const struct mp_level *level, uint64_t hash,
                       uint64_t key);

#endif
