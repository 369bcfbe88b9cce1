/*
 * capture.c - see capture.h.
 */
#include "capture.h"
#include "modtab.h"
#include "stacks.h"

/* If several threads find the deadline over at once, the one that shuts the gate stores the time. */
void mp_capture_end(const struct mp_capture_view *view) {
    if (mp_cas_u64((uint64_t *)&view->segment->control->gate, (uint64_t)view->gate,
                   (uint64_t)MP_GATE_OFF))
        mp_store_relaxed(&view->slot->stop_ns, view->now_ns);
}

/* Apart from its caller, so that the identity is not on the stack during the unwinding. */
static __attribute__((noinline)) uint32_t intern(struct mp_segment *seg,
                                                 const struct mp_stack_wanted *wanted,
                                                 const uintptr_t *frames, uint32_t depth,
                                                 uint16_t truncated) {
    struct mp_stack_identity stack = {
        .frames = frames, .depth = depth, .truncated = truncated, .generation = wanted->generation};
    bool is_new;
    uint32_t id = mp_stack_intern_native(seg, &stack, &is_new);
    if (is_new)
        mp_modtab_record(seg, frames, depth, wanted->generation);
    return id;
}

_Static_assert(MP_DEPTH_LIMIT_MAX + 1 == MP_DEPTH_MAX, "frame 0 is one more");

unsigned mp_capture_depth_limit(const struct mp_control *control) {
    uint32_t chosen = mp_load_relaxed(&control->capture_depth_limit);
    if (chosen == 0)
        chosen = mp_load_relaxed(&control->depth_limit);
    return chosen - 1 < MP_DEPTH_LIMIT_MAX ? chosen : MP_DEPTH_DEFAULT;
}

uint32_t mp_capture_stack(struct mp_segment *seg, struct mp_scratch *scratch,
                          const struct mp_stack_wanted *wanted) {
    struct mp_unwind_result end;
    uintptr_t *frames = scratch->frames;
    unsigned depth = mp_unwind_traced(wanted->caller, frames + 1,
                                      mp_capture_depth_limit(seg->control), &end, &scratch->trace);
    if (depth == 0)
        return MP_STACK_LOST_EMPTY;
    uint16_t truncated = 0;
    if (end.end != MP_UNWIND_OUTERMOST) {
        truncated = end.end == MP_LOST_TRUNCATED ? 1 : 2;
        mp_capture_lose(wanted->lost, end.end);
    }
    frames[0] = wanted->first_pc;
    return intern(seg, wanted, frames, depth + 1, truncated);
}
