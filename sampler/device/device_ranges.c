/*
 * device_ranges.c - see device_ranges.h.
 */
#include "device_ranges.h"
#include "core/record.h"
#include "core/site_key.h"
#include "device_domains.h"
#include "device_live.h"
#include "device_rows.h"

#include <errno.h>

static bool any; /* as mp_range_is_any() */

bool mp_range_is_any(void) {
    return mp_load_relaxed(&any);
}

void mp_range_after_fork(bool some) {
    mp_store_relaxed(&any, some);
}

static uint64_t end_of(const struct mp_device_live_row *row) {
    return row->address + row->asked_bytes;
}

static uint64_t lower(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t higher(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Of the old block's bytes, `bytes` go on in another one: no allocation, no free. In a column of their own, as the
 * means of sizes that a peak is made of stay those of blocks. */
static void carry(struct mp_segment *seg, const struct mp_device_live_row *row, uint64_t bytes) {
    struct mp_device_site_row *site = mp_device_row_site(seg, row);
    if (site == NULL)
        return;
    mp_add_relaxed(&site->freed_taken_bytes, bytes);
    mp_add_relaxed(&site->alloc_taken_bytes, bytes);
}

/* A block at [from, to) with stack, thread, domain and birth of `old`: `carried` of its bytes. */
static __attribute__((noinline)) void add(struct mp_segment *seg, uint32_t space,
                                          const struct mp_device_live_row *old, uint64_t from,
                                          uint64_t to, uint64_t carried) {
    uint32_t number = mp_key_capture(old->site_key);
    struct mp_capture_view capture = {.segment = seg,
                                      .slot = &seg->control->capture[number & 1],
                                      .number = number,
                                      .now_ns = mp_capture_now_ns()};
    struct mp_device_live_row row = *old;
    struct mp_guard guard;
    row.space = space;
    row.address = from;
    row.asked_bytes = to - from;
    if (mp_device_row_site(seg, old) == NULL)
        return;
    if (!mp_guard_enter(&guard)) {
        mp_capture_lose(seg->control->device_lost, MP_LOST_REENTRY);
        return;
    }
    mp_device_row_born(&capture, &row, mp_key_domain(old->site_key), mp_key_stack(old->site_key));
    mp_guard_leave(&guard);
    carry(seg, old, carried);
}

/* The row was removed: end it, and keep what lies outside of the range. */
static void cut(struct mp_segment *seg, const struct mp_device_live_row *row,
                struct mp_range_cleared *cleared) {
    uint64_t start = row->address, end = end_of(row);
    uint64_t low = higher(start, cleared->from), high = lower(end, cleared->to);
    bool keeps = cleared->keeps && cleared->count == MP_RANGE_ROWS;
    if (cleared->count < MP_RANGE_ROWS)
        cleared->rows[cleared->count++] = *row;
    mp_device_row_ended(seg, row);
    if (start < low)
        add(seg, MP_SPACE_HOST, row, start, low, low - start);
    if (high < end)
        add(seg, MP_SPACE_HOST, row, high, end, end - high);
    if (keeps)
        add(seg, MP_SPACE_HOST_KEPT, row, low, high, high - low);
    cleared->kept |= keeps;
}

MP_REALIGN __attribute__((noinline)) void mp_range_clear(uint64_t from, uint64_t to, bool keeps,
                                                         struct mp_range_cleared *cleared) {
    struct mp_segment *seg = mp_load_relaxed(&any) ? mp_capture_segment() : NULL;
    struct mp_device_live_row row;
    uint64_t cursor = 0;
    int saved_errno = errno;
    cleared->from = from;
    cleared->to = to;
    cleared->count = 0;
    cleared->keeps = keeps;
    cleared->kept = false;
    if (seg == NULL || from >= to)
        return;
    bool rest = true;
    if (mp_device_live_leave(seg, MP_SPACE_HOST, from, true, &row) == MP_DEVICE_FREED) {
        rest = end_of(&row) < to;
        cut(seg, &row, cleared);
    }
    while (rest && mp_device_live_drop_within(seg, MP_SPACE_HOST, from, to, &cursor, &row))
        cut(seg, &row, cleared);
    errno = saved_errno;
}

/* Apart from its callers, so that the rows are not on the stack during the unwinding. */
static __attribute__((noinline)) void clear_unseen(uint64_t from, uint64_t to) {
    struct mp_range_cleared unseen;
    mp_range_clear(from, to, false, &unseen);
}

void mp_range_set(const struct mp_device_block *block) {
    clear_unseen(block->address, block->address + block->asked_bytes);
    mp_store_relaxed(&any, true);
    mp_device_alloc(block);
}

MP_REALIGN void mp_range_clear_block(uint64_t from, struct mp_range_cleared *cleared) {
    struct mp_segment *seg = mp_load_relaxed(&any) ? mp_capture_segment() : NULL;
    struct mp_device_live_row row;
    int saved_errno = errno;
    *cleared = (struct mp_range_cleared){.from = from, .to = from};
    if (seg != NULL &&
        mp_device_live_leave(seg, MP_SPACE_HOST, from, true, &row) == MP_DEVICE_FREED) {
        cleared->to = end_of(&row);
        cut(seg, &row, cleared);
    }
    errno = saved_errno;
}

static bool next_kept(struct mp_segment *seg, const struct mp_range_cleared *cleared,
                      uint64_t *cursor, struct mp_device_live_row *row) {
    if (!cleared->kept || !mp_device_live_drop_within(seg, MP_SPACE_HOST_KEPT, cleared->from,
                                                      cleared->to, cursor, row))
        return false;
    mp_device_row_ended(seg, row);
    return true;
}

MP_REALIGN void mp_range_end(const struct mp_range_cleared *cleared) {
    struct mp_segment *seg = cleared->kept ? mp_capture_segment() : NULL;
    struct mp_device_live_row row;
    uint64_t cursor = cleared->from;
    int saved_errno = errno;
    while (seg != NULL && next_kept(seg, cleared, &cursor, &row))
        ;
    errno = saved_errno;
}

/* A block that cut() added. */
static void take_back(struct mp_segment *seg, const struct mp_device_live_row *old, uint64_t from,
                      uint64_t to) {
    struct mp_device_live_row row;
    if (from >= to || mp_device_live_leave(seg, MP_SPACE_HOST, from, true, &row) != MP_DEVICE_FREED)
        return;
    mp_device_row_ended(seg, &row);
    carry(seg, &row, row.asked_bytes);
    carry(seg, old, -(to - from));
}

MP_REALIGN void mp_range_restore(const struct mp_range_cleared *cleared) {
    struct mp_segment *seg = cleared->count != 0 ? mp_capture_segment() : NULL;
    struct mp_device_live_row row;
    uint64_t cursor = cleared->from;
    int saved_errno = errno;
    for (uint32_t i = 0; seg != NULL && i < cleared->count; i++) {
        const struct mp_device_live_row *old = &cleared->rows[i];
        take_back(seg, old, old->address, cleared->from);
        take_back(seg, old, cleared->to, end_of(old));
        mp_device_row_back(seg, old);
    }
    while (seg != NULL && next_kept(seg, cleared, &cursor, &row))
        add(seg, MP_SPACE_HOST, &row, row.address, end_of(&row), row.asked_bytes);
    errno = saved_errno;
}

/* What the row had in the range, to where the range is now; the last one grows. */
static void move(struct mp_segment *seg, const struct mp_range_cleared *cleared,
                 const struct mp_device_live_row *row, uint64_t from, uint64_t to) {
    uint64_t low = higher(row->address, cleared->from), high = lower(end_of(row), cleared->to);
    uint64_t at = from + (low - cleared->from);
    uint64_t end = high == cleared->to ? to : lower(from + (high - cleared->from), to);
    if (at < end)
        add(seg, MP_SPACE_HOST, row, at, end, lower(high - low, end - at));
}

MP_REALIGN void mp_range_move(const struct mp_range_cleared *cleared, uint64_t from, uint64_t to) {
    struct mp_segment *seg = cleared->count != 0 ? mp_capture_segment() : NULL;
    struct mp_device_live_row row;
    uint64_t cursor = cleared->from;
    int saved_errno = errno;
    if (seg != NULL)
        clear_unseen(from, to);
    for (uint32_t i = 0; seg != NULL && i < cleared->count; i++)
        move(seg, cleared, &cleared->rows[i], from, to);
    while (seg != NULL && next_kept(seg, cleared, &cursor, &row))
        move(seg, cleared, &row, from, to);
    errno = saved_errno;
}
