/*
 * record.c - from a sampled block to the segment. See record.h.
 */
#include "record.h"
#include "modtab.h"
#include "peak.h"
#include "scratch.h"
#include "sites.h"
#include "stacks.h"
#include "threads.h"
#include "unwind/stack_range.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

uintptr_t mp_hook_pc[MP_HOOKS];

/* What a sample needs to know of the capture it falls into; copied once from the shared slot. */
struct capture_view {
    uint32_t number;
    uint64_t rate_bytes;
    uint64_t start_ns;
    uint64_t now_ns;
    uint64_t birth_ns; /* now, as a live row can hold it */
};

static void lose(struct mp_segment *seg, enum mp_lost cause) {
    mp_add_relaxed(&seg->control->lost[cause], 1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* always answered by the vdso, without a call */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct mp_capture *slot_of(struct mp_segment *seg, int64_t gate) {
    return &seg->control->capture[(gate >> MP_GATE_SHIFT) & 1];
}

/* Copy the capture that `gate` names; closes the gate at the deadline. False: no capture is on. */
static bool view_capture(struct mp_segment *seg, int64_t gate, struct capture_view *view) {
    struct mp_capture *slot = slot_of(seg, gate);
    view->number = (uint32_t)(gate >> MP_GATE_SHIFT);
    view->start_ns = mp_load_relaxed(&slot->start_ns);
    view->now_ns = now_ns();
    view->birth_ns = view->now_ns >> MP_LIVE_BIRTH_SHIFT << MP_LIVE_BIRTH_SHIFT;
    if (view->number == 0 || view->number > MP_CAPTURE_MAX ||
        mp_load_relaxed(&slot->number) != view->number)
        return false;
    if (mp_likely(view->now_ns < mp_load_relaxed(&slot->deadline_ns)))
        return true;
    if (mp_cas_u64((uint64_t *)&seg->control->gate, (uint64_t)gate, (uint64_t)MP_GATE_OFF))
        mp_store_relaxed(&slot->stop_ns, view->now_ns);
    return false;
}

/* From the birth as it is stored, so that a reader comes to the same bucket. */
static unsigned bucket_of(struct mp_segment *seg, int64_t gate, const struct capture_view *view) {
    const struct mp_capture *slot = slot_of(seg, gate);
    uint64_t age = view->birth_ns > view->start_ns ? view->birth_ns - view->start_ns : 0;
    unsigned bucket = 0;
    while (bucket < MP_BUCKETS - 1 && age >= mp_load_relaxed(&slot->bucket_end_ns[bucket]))
        bucket++;
    return bucket;
}

static uint64_t rate_of(struct mp_segment *seg, uint32_t capture) {
    return mp_load_relaxed(&seg->control->capture[capture & 1].rate_bytes);
}

static __attribute__((noinline)) uint32_t unwind_and_intern(
    struct mp_segment *seg, struct mp_scratch *scratch, enum mp_hook hook,
    const struct mp_frame *caller, uint32_t generation, const struct mp_known_key *key) {
    struct mp_unwind_result end;
    uintptr_t *frames = scratch->frames;
    unsigned depth = mp_unwind_traced(caller, frames + 1, MP_DEPTH_DEFAULT, &end, &scratch->trace);
    if (depth == 0)
        return MP_STACK_LOST_EMPTY;
    uint16_t truncated = 0;
    if (end.end != MP_UNWIND_OUTERMOST) {
        truncated = end.end == MP_LOST_TRUNCATED ? 1 : 2;
        lose(seg, end.end);
    }
    frames[0] = mp_hook_pc[hook];
    bool is_new;
    uint32_t id = mp_stack_intern(seg, frames, depth + 1, truncated, generation, &is_new);
    if (is_new)
        mp_modtab_record(seg, frames, depth + 1, generation);
    if (id >= MP_STACK_LOST_MAX)
        mp_known_learn(key, caller, hook, generation, &scratch->trace, frames + 1, id);
    return id;
}

/* An enum mp_stack_lost value when there is no stack to name. */
static uint32_t stack_of(struct mp_segment *seg, enum mp_hook hook, const struct mp_frame *caller,
                         const struct mp_guard *guard) {
    struct mp_known_key key;
    uint32_t generation = mp_load_acquire(&seg->control->generation);
    uint32_t id = mp_known_find(caller, hook, generation, &key);
    if (mp_likely(id != 0))
        return id;
    struct mp_scratch *scratch = mp_scratch_take(guard);
    if (mp_unlikely(scratch == NULL))
        return MP_STACK_LOST_BUSY;
    id = unwind_and_intern(seg, scratch, hook, caller, generation, &key);
    mp_scratch_give_back(scratch);
    return id;
}

/* The site for the sample: its own, or the reserved one of its size when there is no room. */
static uint32_t site_of(struct mp_segment *seg, uint32_t stack, uint64_t size, uint32_t thread,
                        uint32_t capture, uint64_t *key) {
    *key = mp_site_key(stack, size, 0, mp_shard_of(thread), capture);
    uint32_t site = mp_site_intern(seg, *key);
    if (site == MP_SITE_NONE && stack >= MP_STACK_LOST_MAX) {
        *key = mp_site_key(MP_STACK_LOST_SITES_FULL, size, 0, mp_shard_of(thread), capture);
        site = mp_site_intern(seg, *key);
    }
    return site;
}

/* Apart from its caller, so that the row is not on the stack while it is unwound. */
static __attribute__((noinline)) void count_sample(struct mp_segment *seg, int64_t gate,
                                                   const struct capture_view *view,
                                                   const void *block, size_t size, uint32_t stack) {
    struct mp_live_block row = {.size_bytes = size, .birth_ns = view->birth_ns};
    row.thread = mp_thread_row(seg);
    row.site = site_of(seg, stack, size, row.thread, view->number, &row.site_key);
    struct mp_site_row *counters =
        row.site == MP_SITE_NONE ? NULL : mp_site_at(seg, row.site, row.site_key);
    if (counters == NULL)
        lose(seg, MP_LOST_SITE_FULL);
    else if (!mp_live_add(seg, block, &row, view->number))
        lose(seg, MP_LOST_LIVE_FULL);
    else {
        mp_site_add(counters, size, bucket_of(seg, gate, view), mp_key_owned(row.site_key));
        if (mp_peak_kept(seg, view->number))
            mp_peak_add(seg, view->number, size, rate_of(seg, view->number), view->now_ns);
    }
}

static bool segment_is_ours(const struct mp_segment *seg) {
    if (seg->control == NULL)
        return false;
    uint32_t pid = mp_load_relaxed(&mp_local.pid_if_unwiped);
    return pid == 0 || pid == (uint32_t)getpid();
}

MP_REALIGN __attribute__((noinline)) void
mp_record_alloc(const void *block, size_t size, enum mp_hook hook, const struct mp_frame *caller) {
    struct mp_segment *seg = &mp_local.segment;
    int64_t gate = mp_gate();
    struct capture_view view;
    if (gate == MP_GATE_OFF || !segment_is_ours(seg) || !view_capture(seg, gate, &view))
        return;
    struct mp_thread_state *self = &mp_self;
    if (self->countdown.rng == 0) {
        uint64_t ordinal = mp_add_relaxed(&mp_local.next_thread_seed, 1);
        self->countdown.rng = mp_mix(mp_local.seed + (ordinal << 32)) | 1;
    }
    struct mp_capture *slot = slot_of(seg, gate);
    if (!mp_countdown_take(&self->countdown, size, gate, mp_load_relaxed(&slot->rate_bytes)))
        return;
    if (block == NULL)
        return;
    struct mp_guard guard;
    if (mp_stack_is_short((uintptr_t)&guard, mp_unwind_stack_bytes(), &self->mapped_page)) {
        lose(seg, MP_LOST_STACK_ROOM);
        return;
    }
    if (!mp_guard_enter(&guard)) {
        lose(seg, MP_LOST_REENTRY);
        return;
    }
    int saved_errno = errno;
    if (mp_filter_hit(block))
        mp_record_free(block); /* its earlier owner was freed where we could not see it */
    mp_live_prefetch(seg, block);
    count_sample(seg, gate, &view, block, size, stack_of(seg, hook, caller, &guard));
    errno = saved_errno;
    mp_guard_leave(&guard);
}

/* Counters to which a free of `row` belongs; NULL when its capture is over. */
static struct mp_site_row *counters_of(struct mp_segment *seg, const struct mp_live_block *row) {
    if (mp_key_capture(row->site_key) != mp_load_relaxed(&seg->control->capture_number))
        return NULL;
    return mp_site_at(seg, row->site, row->site_key);
}

MP_REALIGN void mp_record_take(const void *block, struct mp_taken *taken) {
    struct mp_segment *seg = &mp_local.segment;
    taken->found = false;
    if (block == NULL || !mp_filter_hit_large(block))
        return;
    if (mp_modtab_closed(seg, block))
        mp_unwind_flush();
    if (!segment_is_ours(seg) || !mp_live_take(seg, block, &taken->row))
        return;
    taken->found = true;
    struct mp_site_row *counters = counters_of(seg, &taken->row);
    if (counters == NULL)
        return;
    mp_site_free(counters, taken->row.size_bytes);
    uint32_t capture = mp_key_capture(taken->row.site_key);
    if (mp_peak_kept(seg, capture))
        mp_peak_remove(seg, capture, taken->row.size_bytes, rate_of(seg, capture));
}

/* Not part of the caller's frame, which lies under the unwinder's. */
__attribute__((noinline)) void mp_record_free(const void *block) {
    struct mp_taken taken;
    mp_record_take(block, &taken);
}

MP_REALIGN void mp_record_put_back(const void *block, const struct mp_taken *taken) {
    struct mp_segment *seg = &mp_local.segment;
    if (!taken->found)
        return;
    int saved_errno = errno; /* the refused realloc's: adding may try to reserve pages in vain */
    uint32_t capture = mp_key_capture(taken->row.site_key);
    struct mp_site_row *counters = counters_of(seg, &taken->row);
    if (!mp_live_add(seg, block, &taken->row, capture)) {
        lose(seg, MP_LOST_LIVE_FULL);
    } else if (counters != NULL) {
        mp_site_unfree(counters, taken->row.size_bytes);
        if (mp_peak_kept(seg, capture))
            mp_peak_add(seg, capture, taken->row.size_bytes, rate_of(seg, capture), now_ns());
    }
    errno = saved_errno;
}
