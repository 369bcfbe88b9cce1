/*
 * table.c - layout, reservation and bucket search of the segment's tables. See table.h.
 */
#include "table.h"
#include "local.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* First levels; each further level is four times as large. */
#define STACK_INDEX_ROWS 8192u /* 64 KiB */
#define SITE_ROWS 2048u        /* 144 KiB */
#define LIVE_ROWS 4096u        /* 128 KiB */
#define LOST_SITE_ROWS 2048u   /* 144 KiB; sites without a stack: one a size class and shard */

/* Driver calls are few: at most some hundred sites. 52, 80 and 26 KiB, and only where a device is used. */
#define DEVICE_SITE_ROWS 512u
#define DEVICE_LIVE_ROWS 1024u
#define DEVICE_LOST_SITE_ROWS 256u

/*
 * Initial reservation of a capture, besides the first levels. Where hooks can get more pages: 128
 * threads, 16 modules, some 280 stacks of 25 frames; with the levels of stacks, sites and live
 * blocks and the control page that is 0.4 MiB. Where they cannot: 2048 threads, 256 modules, some
 * 4700 stacks, and the reserved sites, 1.75 MiB.
 */
static const struct first_pieces {
    uint32_t threads_bytes, modules_bytes, arena_bytes;
} small_pieces = {4u << 10, 16u << 10, 64u << 10}, whole_pieces = {64u << 10, 256u << 10, 1u << 20};

#define PIECE_MIN_BYTES (64u << 10) /* least by which an array grows: a system call each */
#define ARENA_MAX_BYTES (8ULL << MP_KEY_STACK_BITS) /* a stack's id is its offset / 8 */

/* Largest share of the space left by the first arrays; 32 MiB of the usual limit, a million
 * events. */
#define EVENTS_SHARE 7

#define SHRINK_MAX 3 /* MP_LIMIT_WHOLE_BYTES is 2^3 times the smallest limit */

static uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

/* Lay out as many levels as fit in `budget_bytes` (always at least one); returns the end offset. */
static uint64_t lay_table(struct mp_table *table, uint64_t offset, uint64_t budget_bytes,
                          uint32_t rows, uint32_t row_bytes, uint64_t page_bytes) {
    uint64_t begin = offset;
    for (unsigned i = 0; i < MP_LEVELS; i++, rows *= 4) {
        uint64_t bytes = round_up((uint64_t)rows * (8 + row_bytes), page_bytes);
        if (i > 0 && offset - begin + bytes > budget_bytes)
            break;
        table->level[i] = (struct mp_level){.offset = offset, .rows = rows, .row_bytes = row_bytes};
        table->levels = i + 1;
        offset += bytes;
    }
    return offset;
}

/* Enter an array of `rows` into the directory; returns the end offset. */
static uint64_t lay_array(struct mp_control *control, enum mp_array_kind kind, uint64_t offset,
                          uint64_t rows, uint32_t row_bytes, uint64_t page_bytes) {
    control->directory[kind] =
        (struct mp_array){.kind = kind, .row_bytes = row_bytes, .offset = offset, .rows = rows};
    return round_up(offset + rows * row_bytes, page_bytes);
}

/* Device memory: few blocks, beside the host's millions. Returns the end offset. */
static uint64_t lay_devices(struct mp_control *control, uint64_t at, uint64_t rest, uint64_t page,
                            unsigned shrink) {
    at = lay_array(control, MP_ARRAY_DOMAINS, at, MP_DOMAIN_ROWS, sizeof(struct mp_domain), page);
    control->device_lost_sites = (struct mp_level){.offset = at,
                                                   .rows = DEVICE_LOST_SITE_ROWS >> shrink,
                                                   .row_bytes = sizeof(struct mp_device_site_row)};
    at = round_up(at + mp_level_bytes(&control->device_lost_sites), page);
    uint64_t marks = MP_MARK_ROWS_MAX;
    while (marks * sizeof(struct mp_mark) > rest / 64)
        marks /= 2;
    at = lay_array(control, MP_ARRAY_MARKS, at, marks, sizeof(struct mp_mark), page);
    at = lay_table(&control->device_sites, at, rest / 32, DEVICE_SITE_ROWS >> shrink,
                   sizeof(struct mp_device_site_row), page);
    return lay_table(&control->device_live, at, rest / 16, DEVICE_LIVE_ROWS >> shrink,
                     sizeof(struct mp_device_live_row), page);
}

/* Rings of events; a small segment has none. Returns the end offset. */
static uint64_t lay_events(struct mp_control *control, uint64_t at, uint64_t rest, uint64_t page) {
    if (control->limit_bytes < MP_LIMIT_WHOLE_BYTES)
        return at;
    uint64_t events = MP_RING_EVENTS_MIN, item = sizeof(struct mp_event);
    while (2 * events * item <= rest / EVENTS_SHARE)
        events *= 2;
    return lay_array(control, MP_ARRAY_EVENTS, at, events + MP_RING_HEADS_BYTES / item,
                     (uint32_t)item, page);
}

/* How often the first tables are halved. */
static unsigned shrink_of(uint64_t limit_bytes) {
    unsigned shrink = 0;
    while (limit_bytes << shrink < MP_LIMIT_WHOLE_BYTES && shrink < SHRINK_MAX)
        shrink++;
    return shrink;
}

void mp_segment_layout(struct mp_control *control) {
    unsigned shrink = shrink_of(control->limit_bytes);
    uint64_t page = control->page_bytes < MP_CONTROL_BYTES ? MP_CONTROL_BYTES : control->page_bytes;
    uint64_t at = page;

    at = lay_array(control, MP_ARRAY_THREADS, at, MP_THREAD_ROWS >> shrink,
                   sizeof(struct mp_thread), page);
    at = lay_array(control, MP_ARRAY_MODULES, at, MP_MODULE_ROWS >> shrink,
                   sizeof(struct mp_module_row), page);
    control->lost_sites = (struct mp_level){
        .offset = at, .rows = LOST_SITE_ROWS >> shrink, .row_bytes = sizeof(struct mp_site_row)};
    at = round_up(at + mp_level_bytes(&control->lost_sites), page);

    uint64_t rest = control->limit_bytes - at;
    /* Shares of the file; the stacks' frames get the rest: about a fifth, or more. */
    at = lay_table(&control->stack_index, at, rest / 10, STACK_INDEX_ROWS >> shrink, 0, page);
    at = lay_table(&control->sites, at, rest / 4, SITE_ROWS >> shrink, sizeof(struct mp_site_row),
                   page);
    at = lay_table(&control->live, at, rest * 2 / 5, LIVE_ROWS >> shrink,
                   sizeof(struct mp_live_row) - 8, page);
    at = lay_devices(control, at, rest, page, shrink);
    at = lay_events(control, at, rest, page);
    uint64_t arena = (control->limit_bytes - at) / page * page;
    arena = arena < ARENA_MAX_BYTES ? arena : ARENA_MAX_BYTES;
    lay_array(control, MP_ARRAY_STACKS, at, arena / 8, 8, page);
    control->arena_cursor = MP_STACK_LOST_MAX * 8;
}

static void copy_levels(struct mp_levels *to, const struct mp_table *from) {
    memcpy(to->level, from->level, sizeof to->level);
    to->count = from->levels;
}

void mp_segment_attach(struct mp_segment *seg, void *base, const struct mp_control *c) {
    *seg = (struct mp_segment){.base = base, .control = base};
    copy_levels(&seg->layout.stack_index, &c->stack_index);
    copy_levels(&seg->layout.sites, &c->sites);
    copy_levels(&seg->layout.live, &c->live);
    seg->layout.lost_sites = c->lost_sites;
    memcpy(seg->layout.array, c->directory, sizeof seg->layout.array);
    seg->layout.page_bytes = c->page_bytes;
    copy_levels(&seg->layout.device_sites, &c->device_sites);
    copy_levels(&seg->layout.device_live, &c->device_live);
    seg->layout.device_lost_sites = c->device_lost_sites;
}

/* A kernel before 5.14 (EINVAL) says nothing about the file system. */
static void count_refusal(struct mp_segment *seg, int error) {
    if (error != EINVAL)
        mp_add_relaxed(&seg->control->lost[MP_LOST_RESERVE], 1);
}

int mp_reserve(struct mp_segment *seg, uint64_t offset, uint64_t bytes) {
    if (mp_load_relaxed(&seg->control->controller_flags) & MP_FLAG_SECCOMP)
        return -EPERM; /* a filter may kill for a new system call */
    if (madvise(seg->base + offset, bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    int error = errno;
    count_refusal(seg, error);
    return -error;
}

/* Others may have given more pages meanwhile. */
static void raise_to(uint64_t *reserved, uint64_t value) {
    uint64_t have = mp_load_relaxed(reserved);
    while (have < value && !__atomic_compare_exchange_n(reserved, &have, value, false,
                                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
}

int mp_region_extend(struct mp_segment *seg, uint64_t offset, uint64_t bytes, uint64_t *reserved,
                     uint64_t slice) {
    uint64_t have = mp_load_acquire(reserved);
    if (have >= bytes)
        return -ENOSPC;
    if (slice > bytes - have)
        slice = bytes - have;
    int rc = mp_reserve(seg, offset + have, slice);
    if (rc == 0)
        raise_to(reserved, have + slice);
    return rc;
}

/* Twice as large each time, so that a short program needs little and a long one few system calls. */
int mp_array_extend(struct mp_segment *seg, enum mp_array_kind kind) {
    uint64_t slice = mp_array_reserved(seg, kind);
    slice = slice < PIECE_MIN_BYTES ? PIECE_MIN_BYTES : slice;
    slice = slice > MP_SLICE_BYTES ? MP_SLICE_BYTES : slice;
    return mp_region_extend(seg, seg->layout.array[kind].offset, mp_array_bytes(seg, kind),
                            &seg->control->directory[kind].reserved_bytes, slice);
}

void mp_table_grow(struct mp_segment *seg, const struct mp_levels *levels, struct mp_table *table) {
    uint32_t ready = mp_table_ready(levels, table);
    if (ready >= levels->count)
        return;
    const struct mp_level *level = &levels->level[ready];
    uint64_t *reserved = &table->level[ready].reserved_bytes;
    uint64_t bytes = round_up(mp_level_bytes(level), MP_CONTROL_BYTES);
    if (mp_load_acquire(reserved) < bytes)
        mp_region_extend(seg, level->offset, bytes, reserved, MP_SLICE_BYTES);
    if (mp_load_acquire(reserved) >= bytes)
        mp_cas_u32(&table->levels_ready, ready, ready + 1);
}

bool mp_lost_sites_reserve(struct mp_segment *seg, const struct mp_level *layout,
                           struct mp_level *level) {
    if (mp_likely(mp_lost_sites_ready(layout, level)))
        return true;
    uint64_t bytes = round_up(mp_level_bytes(layout), MP_CONTROL_BYTES);
    if (mp_reserve(seg, layout->offset, bytes) != 0)
        return false;
    mp_store_release(&level->reserved_bytes, bytes);
    return true;
}

uint32_t mp_level_find(const struct mp_segment *seg, const struct mp_level *level, uint64_t hash,
                       uint64_t key) {
    const uint64_t *keys = mp_level_keys(seg, level);
    for (unsigned which = 0; which < 2; which++) {
        uint32_t row = mp_bucket(level, hash, which);
        unsigned same = mp_bucket_matches(keys + row, key);
        for (; same != 0; same &= same - 1) {
            uint32_t at = row + (uint32_t)__builtin_ctz(same);
            if (mp_load_acquire(&keys[at]) == key)
                return at;
        }
    }
    return MP_ROW_NONE;
}

/* Whole piece at once, before any hook uses it. */
static int reserve_now(struct mp_segment *seg, int fd, uint64_t offset, uint64_t want,
                       uint64_t *reserved) {
    if (*reserved >= want)
        return 0;
    long rc;
    if (fd >= 0)
        rc = syscall(SYS_fallocate, fd, 0, (long)(offset + *reserved), (long)(want - *reserved));
    else
        rc = madvise(seg->base + offset + *reserved, want - *reserved, MADV_POPULATE_WRITE);
    if (rc != 0) {
        int error = errno;
        count_refusal(seg, error);
        return -error;
    }
    mp_store_release(reserved, want);
    return 0;
}

static int reserve_level(struct mp_segment *seg, int fd, struct mp_level *level) {
    uint64_t bytes = round_up(mp_level_bytes(level), MP_CONTROL_BYTES);
    return reserve_now(seg, fd, level->offset, bytes, &level->reserved_bytes);
}

int mp_segment_reserve_array(struct mp_segment *seg, int fd, enum mp_array_kind kind,
                             uint64_t bytes) {
    return reserve_now(seg, fd, seg->layout.array[kind].offset, bytes,
                       &seg->control->directory[kind].reserved_bytes);
}

/* The first piece of an array, or the whole of a small one. */
static int reserve_array(struct mp_segment *seg, int fd, enum mp_array_kind kind, uint64_t most) {
    uint64_t bytes = mp_array_bytes(seg, kind);
    return mp_segment_reserve_array(seg, fd, kind, bytes < most ? bytes : most);
}

static int reserve_arrays(struct mp_segment *seg, int fd, const struct first_pieces *first) {
    int rc = reserve_array(seg, fd, MP_ARRAY_STACKS, first->arena_bytes);
    if (rc == 0)
        rc = reserve_array(seg, fd, MP_ARRAY_THREADS, first->threads_bytes);
    if (rc == 0)
        rc = reserve_array(seg, fd, MP_ARRAY_MODULES, first->modules_bytes);
    return rc;
}

/* May hooks reserve pages? Not under a filter, nor on a kernel before 5.14. The control page has its own. */
static bool hooks_can_reserve(const struct mp_segment *seg) {
    if (mp_load_relaxed(&seg->control->controller_flags) & MP_FLAG_SECCOMP)
        return false;
    return madvise(seg->base, MP_CONTROL_BYTES, MADV_POPULATE_WRITE) == 0;
}

int mp_segment_reserve_first(struct mp_segment *seg, int fd) {
    struct mp_control *c = seg->control;
    struct mp_table *tables[] = {&c->stack_index, &c->sites, &c->live};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < 3; i++) {
        rc = reserve_level(seg, fd, &tables[i]->level[0]);
        if (rc == 0)
            mp_cas_u32(&tables[i]->levels_ready, 0, 1);
    }
    if (rc != 0)
        return rc;
    return hooks_can_reserve(seg) ? reserve_arrays(seg, fd, &small_pieces)
                                  : mp_segment_reserve_whole(seg, fd);
}

int mp_segment_reserve_whole(struct mp_segment *seg, int fd) {
    int rc = reserve_level(seg, fd, &seg->control->lost_sites);
    return rc == 0 ? reserve_arrays(seg, fd, &whole_pieces) : rc;
}

void mp_segment_reserve_ahead(struct mp_segment *seg) {
    struct mp_control *c = seg->control;
    const struct {
        enum mp_array_kind kind;
        uint64_t bytes;
    } pieces[] = {{MP_ARRAY_STACKS, whole_pieces.arena_bytes},
                  {MP_ARRAY_THREADS, whole_pieces.threads_bytes},
                  {MP_ARRAY_MODULES, whole_pieces.modules_bytes}};
    for (unsigned i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        uint64_t have = mp_array_reserved(seg, pieces[i].kind);
        if (have < pieces[i].bytes)
            mp_region_extend(seg, seg->layout.array[pieces[i].kind].offset,
                             mp_array_bytes(seg, pieces[i].kind),
                             &c->directory[pieces[i].kind].reserved_bytes, pieces[i].bytes - have);
    }
    mp_lost_sites_reserve(seg, &seg->layout.lost_sites, &c->lost_sites);
}
