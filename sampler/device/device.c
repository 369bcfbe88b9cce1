/*
 * device.c - a block of device memory, from a driver's wrapper into the segment. See device.h.
 */
#include "device.h"
#include "core/births.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/keyed.h"
#include "core/peak.h"
#include "core/pystacks.h"
#include "core/record.h"
#include "core/scratch.h"
#include "core/threads.h"
#include "device_domains.h"
#include "device_live.h"
#include "device_rows.h"
#include "launches.h"
#include "unwind/stack_range.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct mp_device_live_row) + sizeof(uint64_t) <=
                   sizeof((struct mp_device_taken){0}).opaque,
               "a taken block fits");

static struct mp_keyed sites_of(struct mp_segment *seg) {
    return (struct mp_keyed){.levels = &seg->layout.device_sites,
                             .table = &seg->control->device_sites,
                             .lost = &seg->layout.device_lost_sites,
                             .lost_reserved = &seg->control->device_lost_sites};
}

static void lose(struct mp_segment *seg, enum mp_lost cause) {
    mp_capture_lose(seg->control->device_lost, cause);
}

/* The host's mappings, and the allocators of a program, may have as many stacks as its malloc. */
static bool is_few(uint32_t space) {
    return space != MP_SPACE_HOST && space != MP_SPACE_HOST_KEPT && space != MP_SPACE_HEAP;
}

/* An enum mp_stack_lost value when there is no stack to name. */
static uint32_t stack_of(struct mp_segment *seg, const struct mp_device_block *block,
                         const struct mp_guard *guard) {
    struct mp_scratch *scratch = mp_scratch_take(guard);
    if (mp_unlikely(scratch == NULL))
        return MP_STACK_LOST_BUSY;
    struct mp_stack_wanted wanted = {.caller = &block->caller,
                                     .first_pc = block->api_pc,
                                     .generation = mp_load_acquire(&seg->control->generation),
                                     .lost = seg->control->device_lost};
    mp_self.of_device = is_few(block->space);
    uint32_t id = mp_capture_stack(seg, scratch, &wanted);
    mp_scratch_give_back(scratch);
    if (mp_unlikely(mp_py_present()) && id >= MP_STACK_LOST_MAX)
        id = mp_pystack_pair(seg, id, guard, seg->control->device_lost);
    mp_self.of_device = false;
    return id;
}

/* The row's site: its own, or the reserved one of its size when there is no room. NULL: neither. */
static struct mp_device_site_row *site_of(const struct mp_capture_view *capture, uint32_t domain,
                                          struct mp_device_live_row *row, uint32_t stack) {
    struct mp_segment *seg = capture->segment;
    struct mp_keyed sites = sites_of(seg);
    row->site_key =
        mp_site_key(stack, row->asked_bytes, domain, mp_shard_of(row->thread), capture->number);
    uint32_t ready = mp_table_ready(sites.levels, sites.table);
    row->site = mp_keyed_intern(seg, &sites, row->site_key);
    if (row->site == MP_KEYED_NONE && mp_device_add_level(seg, sites.levels, sites.table, ready))
        row->site = mp_keyed_intern(seg, &sites, row->site_key);
    if (row->site == MP_KEYED_NONE && stack >= MP_STACK_LOST_MAX) {
        row->site_key = mp_site_key(MP_STACK_LOST_SITES_FULL, row->asked_bytes, domain,
                                    mp_shard_of(row->thread), capture->number);
        row->site = mp_keyed_intern(seg, &sites, row->site_key);
    }
    return row->site == MP_KEYED_NONE ? NULL : mp_keyed_at(seg, &sites, row->site, row->site_key);
}

/* The peak of the row's domain in the row's capture; NULL if it is not tracked. A domain that is
 * new in the capture begins with zeros; one from an earlier capture was reset by whoever started
 * this one. */
static struct mp_peak *peak_of(struct mp_domain *domain, const struct mp_device_live_row *row) {
    uint32_t capture = mp_key_capture(row->site_key);
    if (domain == NULL)
        return NULL;
    struct mp_peak *peak = &domain->peak;
    if (mp_load_relaxed(&peak->capture) == 0)
        mp_cas_u32(&peak->capture, 0, capture);
    return mp_load_relaxed(&peak->capture) == capture ? peak : NULL;
}

/* As mp_site_stamp(). */
static void stamp(struct mp_device_site_row *site, const struct mp_peak *peak) {
    uint32_t epoch = mp_peak_epoch(peak);
    uint64_t seen;
    if (mp_peak_stale(&site->peak, epoch, &seen))
        mp_peak_write_stamp(&site->peak, seen, epoch,
                            (uint32_t)(mp_load_acquire(&site->alloc_blocks) -
                                       mp_load_acquire(&site->freed_blocks)));
}

static void count_alloc(struct mp_device_site_row *site, const struct mp_device_live_row *row,
                        uint64_t units) {
    unsigned bucket = mp_births_bucket(&site->alloc_blocks, site->births, MP_BUCKETS, units);
    mp_add_relaxed(&site->births[bucket], 1);
    mp_add_relaxed(&site->alloc_bytes, row->asked_bytes);
    mp_add_relaxed(&site->alloc_taken_bytes, row->taken_bytes);
    __atomic_fetch_add(&site->alloc_blocks, 1, __ATOMIC_RELEASE);
}

/* `sign` 1 or -1: a free, or one taken back. */
static void count_free(struct mp_device_site_row *site, const struct mp_device_live_row *row,
                       uint64_t sign) {
    mp_add_relaxed(&site->freed_bytes, sign * row->asked_bytes);
    mp_add_relaxed(&site->freed_taken_bytes, sign * row->taken_bytes);
    __atomic_fetch_add(&site->freed_blocks, sign, __ATOMIC_RELEASE);
}

struct mp_device_site_row *mp_device_row_site(struct mp_segment *seg,
                                              const struct mp_device_live_row *row) {
    struct mp_keyed sites = sites_of(seg);
    if (mp_key_capture(row->site_key) != mp_load_relaxed(&seg->control->capture_number))
        return NULL;
    return mp_keyed_at(seg, &sites, row->site, row->site_key);
}

/* Under a guard. */
static void write_event(struct mp_segment *seg, enum mp_event_kind kind,
                        const struct mp_device_live_row *row) {
    bool tagged = row->space == MP_SPACE_POOL || row->space == MP_SPACE_HEAP;
    uint64_t bits = tagged ? (1ULL << MP_POOL_SHIFT) - 1 : UINT64_MAX;
    struct mp_event_of event = {.kind = kind,
                                .thread = mp_thread_row(seg),
                                .address = row->address & bits,
                                .size_bytes = row->asked_bytes,
                                .site_key = row->site_key,
                                .birth_ns = row->birth_ns};
    mp_event_write(seg, &event);
}

/* Under a guard, before the block's birth. */
static void write_traits(const struct mp_capture_view *capture,
                         const struct mp_device_block *block) {
    struct mp_launch fact = {.kind = MP_LAUNCH_BLOCK,
                             .device = -1,
                             .address = block->address,
                             .size_bytes = block->traits};
    if (block->traits != 0)
        mp_launch_write(capture->segment, capture->number, &fact);
}

/* An event of the paths without a guard. */
static __attribute__((noinline)) void note(struct mp_segment *seg, enum mp_event_kind kind,
                                           const struct mp_device_live_row *row) {
    int saved_errno = errno;
    struct mp_guard guard;
    if (mp_guard_enter(&guard)) {
        write_event(seg, kind, row);
        mp_guard_leave(&guard);
    } else {
        mp_event_lose(seg);
    }
    errno = saved_errno;
}

void mp_device_row_ended(struct mp_segment *seg, const struct mp_device_live_row *row) {
    struct mp_device_site_row *site = mp_device_row_site(seg, row);
    if (site != NULL && mp_events_on(seg, mp_key_capture(row->site_key)))
        note(seg, MP_EVENT_DEATH, row);
    struct mp_domain *domain = mp_domain_at(seg, mp_key_domain(row->site_key));
    if (site != NULL) {
        struct mp_peak *peak = peak_of(domain, row);
        mp_peak_remove(peak, row->asked_bytes,
                       mp_domain_rate(seg, domain, mp_key_capture(row->site_key)));
        stamp(site, peak);
        count_free(site, row, 1);
    }
    if (domain != NULL)
        mp_add_relaxed(&domain->freed_calls, 1);
}

/* P(sampled) = 1 - exp(-bytes / T), for each block by itself: blocks are few, and no thread counts down. */
static bool chosen(uint64_t bytes, uint64_t rate_bytes) {
    if (rate_bytes <= 1)
        return true;
    uint64_t ordinal = mp_add_relaxed(&mp_local.next_device_draw, 1);
    uint64_t state = mp_mix(mp_local.seed ^ ordinal * 0x9e3779b97f4a7c15ULL);
    return (uint64_t)mp_draw_bytes(&state, rate_bytes) < bytes + (bytes == 0);
}

/* The common part of the three ways into a site: a capture, a domain that exists, the guard. */
static bool enter(const struct mp_device_block *block, struct mp_capture_view *capture,
                  struct mp_domain **domain, struct mp_guard *guard) {
    if (block->domain == MP_DOMAIN_IGNORED || !mp_capture_view(capture))
        return false;
    *domain = mp_domain_at(capture->segment, block->domain);
    if (*domain == NULL) {
        mp_add_relaxed(&capture->segment->control->lost[MP_LOST_DOMAIN_FULL], 1);
        return false;
    }
    mp_store_relaxed(&(*domain)->last_capture, capture->number);
    if (mp_stack_is_short((uintptr_t)guard, mp_unwind_stack_bytes(), &mp_self.stack_room)) {
        lose(capture->segment, MP_LOST_STACK_ROOM);
        return false;
    }
    if (mp_guard_enter(guard))
        return true;
    lose(capture->segment, MP_LOST_REENTRY);
    return false;
}

bool mp_device_row_born(const struct mp_capture_view *capture, struct mp_device_live_row *row,
                        uint32_t number, uint32_t stack) {
    struct mp_segment *seg = capture->segment;
    struct mp_domain *domain = mp_domain_at(seg, number);
    struct mp_device_site_row *site = site_of(capture, number, row, stack);
    if (site == NULL || !mp_device_live_add(seg, row, capture->number)) {
        lose(seg, site == NULL ? MP_LOST_SITE_FULL : MP_LOST_LIVE_FULL);
        return false;
    }
    struct mp_peak *peak = peak_of(domain, row);
    if (mp_events_on(seg, capture->number))
        write_event(seg, MP_EVENT_BIRTH, row);
    stamp(site, peak);
    count_alloc(site, row, mp_capture_units(capture, row->birth_ns));
    mp_peak_add(peak, row->asked_bytes, mp_domain_rate(seg, domain, capture->number),
                capture->now_ns);
    return true;
}

/* Apart from their callers, so that the row is not on the stack during the unwinding. */
static __attribute__((noinline)) bool record_alloc(const struct mp_capture_view *capture,
                                                   const struct mp_device_block *block,
                                                   uint32_t stack) {
    struct mp_device_live_row row = {
        .address = block->address,
        .container = block->container,
        .asked_bytes = block->asked_bytes,
        .taken_bytes = block->taken_bytes,
        .birth_ns = block->space == MP_SPACE_HOST ? mp_clock_ns(CLOCK_MONOTONIC) : capture->now_ns,
        .space = block->space,
        .node = block->node,
        .thread = mp_thread_row(capture->segment)};
    if (mp_events_on(capture->segment, capture->number))
        write_traits(capture, block);
    return mp_device_row_born(capture, &row, block->domain, stack);
}

static __attribute__((noinline)) void record_failure(const struct mp_capture_view *capture,
                                                     const struct mp_device_block *block,
                                                     uint32_t stack) {
    struct mp_device_live_row row = {.asked_bytes = block->asked_bytes,
                                     .thread = mp_thread_row(capture->segment)};
    struct mp_device_site_row *site = site_of(capture, block->domain, &row, stack);
    if (mp_events_on(capture->segment, capture->number)) {
        row.birth_ns = capture->now_ns;
        write_event(capture->segment, MP_EVENT_REFUSED, &row);
    }
    if (site != NULL) {
        mp_add_relaxed(&site->failed_bytes, block->asked_bytes);
        mp_add_relaxed(&site->failed_blocks, 1);
    } else {
        lose(capture->segment, MP_LOST_SITE_FULL);
    }
}

/* We did not see the free of the address's earlier owner. Apart from its caller, so that the row is not on the stack
 * during the unwinding. */
static __attribute__((noinline)) bool forget_earlier(const struct mp_device_block *block) {
    struct mp_segment *seg = mp_capture_segment();
    struct mp_device_live_row row;
    if (seg == NULL ||
        mp_device_live_leave(seg, block->space, block->address, true, &row) != MP_DEVICE_FREED)
        return false;
    mp_device_row_ended(seg, &row);
    return true;
}

static inline __attribute__((always_inline)) bool alloc(const struct mp_device_block *block,
                                                        bool is_sampled) {
    struct mp_capture_view capture;
    struct mp_domain *domain;
    struct mp_guard guard;
    int saved_errno = errno;
    bool repeated = forget_earlier(block), recorded = false;
    if (enter(block, &capture, &domain, &guard)) {
        struct mp_segment *seg = capture.segment;
        mp_add_relaxed(&domain->alloc_calls, !is_sampled);
        mp_add_relaxed(&domain->repeated_blocks, repeated && block->space == MP_SPACE_HEAP);
        if (is_sampled || chosen(block->asked_bytes, mp_domain_rate(seg, domain, capture.number)))
            recorded = record_alloc(&capture, block, stack_of(seg, block, &guard));
        mp_guard_leave(&guard);
    }
    errno = saved_errno;
    return recorded;
}

MP_REALIGN __attribute__((noinline)) void mp_device_alloc(const struct mp_device_block *block) {
    alloc(block, false);
}

MP_REALIGN __attribute__((noinline)) bool
mp_device_alloc_sampled(const struct mp_device_block *block) {
    return alloc(block, true);
}

MP_REALIGN __attribute__((noinline)) void mp_device_fail(const struct mp_device_block *block) {
    struct mp_capture_view capture;
    struct mp_domain *domain;
    struct mp_guard guard;
    int saved_errno = errno;
    if (enter(block, &capture, &domain, &guard)) {
        mp_add_relaxed(&domain->failed_calls, 1);
        record_failure(&capture, block, stack_of(capture.segment, block, &guard));
        mp_guard_leave(&guard);
    }
    errno = saved_errno;
}

void mp_device_take(uint32_t space, uint64_t address, struct mp_device_taken *taken) {
    struct mp_segment *seg = mp_capture_segment();
    struct mp_device_live_row row;
    taken->found = false;
    if (seg == NULL)
        return;
    enum mp_device_left left = mp_device_live_leave(seg, space, address, false, &row);
    if (left == MP_DEVICE_UNKNOWN)
        return;
    if (left == MP_DEVICE_FREED)
        mp_device_row_ended(seg, &row);
    taken->found = true;
    taken->opaque[0] = left;
    memcpy(&taken->opaque[1], &row, sizeof row);
}

void mp_device_row_back(struct mp_segment *seg, const struct mp_device_live_row *row) {
    uint32_t capture = mp_key_capture(row->site_key);
    if (!mp_device_live_add(seg, row, capture)) {
        lose(seg, MP_LOST_LIVE_FULL);
        return;
    }
    struct mp_device_site_row *site = mp_device_row_site(seg, row);
    struct mp_domain *domain = mp_domain_at(seg, mp_key_domain(row->site_key));
    if (site != NULL) {
        if (mp_events_on(seg, capture))
            note(seg, MP_EVENT_BACK, row);
        struct mp_peak *peak = peak_of(domain, row);
        stamp(site, peak);
        count_free(site, row, UINT64_MAX);
        mp_peak_add(peak, row->asked_bytes, mp_domain_rate(seg, domain, capture),
                    mp_capture_now_ns());
    }
    if (domain != NULL)
        mp_add_relaxed(&domain->freed_calls, UINT64_MAX);
}

void mp_device_put_back(const struct mp_device_taken *taken) {
    struct mp_segment *seg = mp_capture_segment();
    struct mp_device_live_row row;
    if (!taken->found || seg == NULL)
        return;
    int saved_errno = errno;
    memcpy(&row, &taken->opaque[1], sizeof row);
    if (taken->opaque[0] == MP_DEVICE_SHARED)
        mp_device_live_join(seg, row.space, row.address);
    else
        mp_device_row_back(seg, &row);
    errno = saved_errno;
}

bool mp_device_retain(uint32_t space, uint64_t address) {
    struct mp_segment *seg = mp_capture_segment();
    return seg != NULL && mp_device_live_join(seg, space, address);
}

uint32_t mp_device_drop_container(uint32_t space, uint64_t container) {
    struct mp_segment *seg = mp_capture_segment();
    struct mp_device_live_row row;
    uint64_t cursor = 0;
    uint32_t dropped = 0;
    if (seg == NULL || container == 0)
        return 0;
    for (; mp_device_live_drop(seg, space, container, &cursor, &row); dropped++)
        mp_device_row_ended(seg, &row);
    return dropped;
}
