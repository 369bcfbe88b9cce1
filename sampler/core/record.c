/*
 * record.c - from a sampled block to the segment. See record.h.
 */
#include "record.h"
#include "capture.h"
#include "events.h"
#include "modtab.h"
#include "peak.h"
#include "pystacks.h"
#include "quiescence.h"
#include "scratch.h"
#include "sites.h"
#include "tensors.h"
#include "threads.h"
#include "unwind/stack_range.h"

#include <errno.h>

uintptr_t mp_hook_pc[MP_HOOKS];

static void lose(struct mp_segment *seg, enum mp_lost cause) {
    mp_capture_lose(seg->control->lost, cause);
}

/* An enum mp_stack_lost value when there is no stack to name. */
static uint32_t native_of(struct mp_segment *seg, enum mp_hook hook, const struct mp_frame *caller,
                          const struct mp_guard *guard) {
    struct mp_known_key key;
    uint32_t generation = mp_load_acquire(&seg->control->generation);
    uint32_t id = mp_known_find(caller, hook, generation, &key);
    if (mp_likely(id != 0))
        return id;
    struct mp_scratch *scratch = mp_scratch_take(guard);
    if (mp_unlikely(scratch == NULL))
        return MP_STACK_LOST_BUSY;
    struct mp_stack_wanted wanted = {.caller = caller,
                                     .first_pc = mp_hook_pc[hook],
                                     .generation = generation,
                                     .lost = seg->control->lost};
    id = mp_capture_stack(seg, scratch, &wanted);
    if (id >= MP_STACK_LOST_MAX)
        mp_known_learn(&key, caller, hook, generation, scratch, id);
    mp_scratch_give_back(scratch);
    return id;
}

/* As native_of(), with the Python stack where there is one. */
static uint32_t stack_of(struct mp_segment *seg, enum mp_hook hook, const struct mp_frame *caller,
                         const struct mp_guard *guard) {
    uint32_t id = native_of(seg, hook, caller, guard);
    if (mp_unlikely(mp_py_present()) && id >= MP_STACK_LOST_MAX)
        id = mp_pystack_pair(seg, id, guard, seg->control->lost);
    return id;
}

/* The site for the sample: its own, or the reserved one of its size when there is no room. */
static inline struct mp_site_row *find_site(struct mp_segment *seg, uint32_t stack,
                                            uint32_t capture, struct mp_live_block *row) {
    uint32_t shard = mp_shard_of(row->thread);
    row->site_key = mp_site_key(stack, row->size_bytes, 0, shard, capture);
    struct mp_site_row *counters = mp_site_intern(seg, row->site_key, &row->site);
    if (mp_likely(row->site != MP_SITE_NONE) || stack < MP_STACK_LOST_MAX)
        return counters;
    row->site_key = mp_site_key(MP_STACK_LOST_SITES_FULL, row->size_bytes, 0, shard, capture);
    return mp_site_intern(seg, row->site_key, &row->site);
}

/* A time as a live row can hold it. */
static uint64_t as_stored(uint64_t ns) {
    return ns >> MP_LIVE_BIRTH_SHIFT << MP_LIVE_BIRTH_SHIFT;
}

/* Counters to which a free of `row` belongs; NULL when its capture is over. */
static struct mp_site_row *counters_of(struct mp_segment *seg, const struct mp_live_block *row) {
    if (mp_key_capture(row->site_key) != mp_load_relaxed(&seg->control->capture_number))
        return NULL;
    return mp_site_at(seg, row->site, row->site_key);
}

/* An event of the paths without a guard. */
static __attribute__((noinline)) void note(struct mp_segment *seg, enum mp_event_kind kind,
                                           const void *block, const struct mp_live_block *row) {
    int saved_errno = errno;
    struct mp_guard guard;
    if (mp_guard_enter(&guard)) {
        mp_event_of_block(seg, kind, block, row);
        mp_guard_leave(&guard);
    } else {
        mp_event_lose(seg);
    }
    errno = saved_errno;
}

/* A block left the table: take it out of what its site and the total have live. */
static inline __attribute__((always_inline)) void uncount(struct mp_segment *seg, const void *block,
                                                          enum mp_event_kind why,
                                                          const struct mp_live_block *row) {
    struct mp_site_row *counters = counters_of(seg, row);
    if (counters == NULL)
        return;
    uint32_t capture = mp_key_capture(row->site_key);
    if (mp_events_on(seg, capture))
        note(seg, why, block, row);
    struct mp_peak *peak = mp_peak_of(seg, capture);
    mp_peak_remove(peak, row->size_bytes, mp_capture_rate(seg, capture));
    mp_site_stamp(counters, mp_peak_epoch(peak));
    mp_site_free(counters, row->size_bytes);
}

/* mp_live_add(), with losses counted. */
static inline __attribute__((always_inline)) bool add_live(struct mp_segment *seg,
                                                           const void *block,
                                                           const struct mp_live_block *row,
                                                           uint32_t capture) {
    struct mp_live_evicted evicted;
    bool added = mp_live_add(seg, block, row, capture, &evicted);
    if (mp_unlikely(evicted.row.site_key != 0)) {
        uncount(seg, evicted.block, MP_EVENT_DEATH, &evicted.row);
        lose(seg, MP_LOST_LIVE_FULL);
    }
    if (mp_unlikely(!added))
        lose(seg, MP_LOST_LIVE_FULL);
    return added;
}

/* Apart from its caller, so that the row is not on the stack during the unwinding. */
static __attribute__((noinline)) void count_sample(const struct mp_capture_view *view,
                                                   const void *block, size_t size, uint32_t stack) {
    struct mp_segment *seg = view->segment;
    struct mp_live_block row = {.size_bytes = size, .birth_ns = as_stored(view->now_ns)};
    row.thread = mp_thread_row(seg);
    struct mp_site_row *counters = find_site(seg, stack, view->number, &row);
    if (counters == NULL)
        lose(seg, MP_LOST_SITE_FULL);
    else if (add_live(seg, block, &row, view->number)) {
        struct mp_peak *peak = mp_peak_of(seg, view->number);
        if (mp_events_on(seg, view->number))
            mp_event_of_block(seg, MP_EVENT_BIRTH, block, &row);
        mp_site_stamp(counters, mp_peak_epoch(peak));
        mp_site_add(counters, size, mp_capture_units(view, row.birth_ns),
                    mp_key_owned(row.site_key));
        mp_peak_add(peak, size, mp_capture_rate(seg, view->number), view->now_ns);
    }
}

/* For captures that write events. */
static __attribute__((noinline)) void note_refusal(const struct mp_capture_view *view, size_t size,
                                                   uint32_t stack) {
    struct mp_live_block row = {.size_bytes = size,
                                .birth_ns = view->now_ns,
                                .site_key = mp_site_key(stack, size, 0, 0, view->number)};
    mp_event_of_block(view->segment, MP_EVENT_REFUSED, NULL, &row);
}

/*
 * The block is part of one that an outer hook has already decided about. Counting its bytes down
 * for both changes no probability: the rest of an exponential draw has the same distribution as a
 * new draw. A draw that is used up here must be replaced, for that reason; a capture for which the
 * thread has not drawn yet is left to the next decision.
 */
static void leave_to_outer(struct mp_countdown *c) {
    int64_t gate = mp_gate();
    if (gate != MP_GATE_OFF && c->gate_seen == gate)
        c->value = gate + mp_draw_bytes(&c->rng, c->rate_bytes);
}

/* Does the capture leave out blocks that are not tensors? */
static inline bool is_unwanted(const struct mp_capture_view *view, const struct mp_frame *caller) {
    return mp_events_on(view->segment, view->number) &&
           (mp_load_relaxed(&view->segment->control->events.launches) & MP_LAUNCH_TENSORS) != 0 &&
           !mp_tensors_at(caller->pc);
}

static inline __attribute__((always_inline)) void
record_alloc(const void *block, size_t size, enum mp_hook hook, const struct mp_frame *caller) {
    struct mp_capture_view view;
    struct mp_thread_state *self = &mp_self;
    if (mp_unlikely(mp_counted_further_out(caller->sp))) {
        leave_to_outer(&self->countdown);
        return;
    }
    bool pending = mp_unlikely(mp_pending_waits());
    if ((pending && !mp_pending_sampled(size)) || !mp_capture_view(&view))
        return;
    struct mp_segment *seg = view.segment;
    mp_thread_seed();
    if (!pending && !mp_countdown_take(&self->countdown, size, view.gate,
                                       mp_load_relaxed(&view.slot->rate_bytes)))
        return;
    /* Nothing for 0 bytes is what some functions give, realloc(p, 0) among them: no refusal. */
    if (block == NULL && (size == 0 || !mp_events_on(seg, view.number)))
        return;
    int saved_errno = errno;
    if (mp_filter_hit(block))
        mp_record_free(block); /* we did not see the free of its earlier owner */
    if (is_unwanted(&view, caller)) {
        errno = saved_errno;
        return;
    }
    struct mp_guard guard;
    if (mp_stack_is_short((uintptr_t)&guard, mp_unwind_stack_bytes(), &self->stack_room)) {
        lose(seg, MP_LOST_STACK_ROOM);
        return;
    }
    if (!mp_guard_enter(&guard)) {
        lose(seg, MP_LOST_REENTRY);
        return;
    }
    mp_live_prefetch(seg, block);
    uint32_t stack = stack_of(seg, hook, caller, &guard);
    if (mp_likely(block != NULL))
        count_sample(&view, block, size, stack);
    else
        note_refusal(&view, size, stack);
    mp_guard_leave(&guard);
    errno = saved_errno;
}

MP_REALIGN __attribute__((noinline)) void
mp_record_alloc(const void *block, size_t size, enum mp_hook hook, const struct mp_frame *caller) {
    struct mp_inside *in = mp_inside_enter();
    record_alloc(block, size, hook, caller);
    mp_inside_leave(in);
}

static inline __attribute__((always_inline)) void
record_take(const void *block, enum mp_event_kind why, struct mp_taken *taken) {
    struct mp_segment *seg = &mp_local.segment;
    if (mp_modtab_closed(seg, block))
        mp_unwind_flush();
    if (mp_capture_segment() == NULL || !mp_live_take(seg, block, &taken->row))
        return;
    taken->found = true;
    uncount(seg, block, why, &taken->row);
}

static inline __attribute__((always_inline)) void take(const void *block, enum mp_event_kind why,
                                                       struct mp_taken *taken) {
    taken->found = false;
    if (block == NULL || !mp_filter_hit_large(block))
        return;
    struct mp_inside *in = mp_inside_enter();
    if (!mp_inside_too_late(in))
        record_take(block, why, taken);
    mp_inside_leave(in);
}

MP_REALIGN void mp_record_take(const void *block, struct mp_taken *taken) {
    take(block, MP_EVENT_MOVED, taken);
}

/* Not part of the caller's frame, which is under the unwinder's. */
MP_REALIGN __attribute__((noinline)) void mp_record_free(const void *block) {
    struct mp_taken taken;
    take(block, MP_EVENT_DEATH, &taken);
}

static inline __attribute__((always_inline)) void record_put_back(const void *block,
                                                                  const struct mp_taken *taken) {
    struct mp_segment *seg = &mp_local.segment;
    int saved_errno = errno; /* the refused realloc's: adding may try to reserve pages in vain */
    uint32_t capture = mp_key_capture(taken->row.site_key);
    struct mp_site_row *counters = counters_of(seg, &taken->row);
    if (add_live(seg, block, &taken->row, capture) && counters != NULL) {
        struct mp_peak *peak = mp_peak_of(seg, capture);
        if (mp_events_on(seg, capture))
            note(seg, MP_EVENT_BACK, block, &taken->row);
        mp_site_stamp(counters, mp_peak_epoch(peak));
        mp_site_unfree(counters, taken->row.size_bytes);
        mp_peak_add(peak, taken->row.size_bytes, mp_capture_rate(seg, capture),
                    mp_capture_now_ns());
    }
    errno = saved_errno;
}

MP_REALIGN void mp_record_put_back(const void *block, const struct mp_taken *taken) {
    if (!taken->found)
        return;
    struct mp_inside *in = mp_inside_enter();
    if (!mp_inside_too_late(in))
        record_put_back(block, taken);
    mp_inside_leave(in);
}
