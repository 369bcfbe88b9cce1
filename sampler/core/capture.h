/*
 * capture.h - the one entry for a sample: the capture to which it belongs, and its stack.
 *
 * Model: record.h (blocks of malloc) and device/device.h (blocks of devices) draw and count
 * differently, but both read the capture and take stacks here. A view is one copy of the gate: the
 * gate's bits are the capture's number, and the low one selects the slot with its parameters. The
 * controller writes the slot, so the user of a field reads it once, when it needs it, and checks
 * it.
 *
 * Threads: HOOK.
 */
#ifndef MP_CAPTURE_H
#define MP_CAPTURE_H

#include "abi/clock.h"
#include "local.h"
#include "unwind/unwind.h"

#include <unistd.h>

struct mp_capture_view {
    struct mp_segment *segment;
    struct mp_capture *slot;
    int64_t gate;
    uint32_t number;
    uint64_t now_ns; /* CLOCK_MONOTONIC_COARSE */
};

/* HOOK. The segment of this process, capturing or not. NULL if it has none, or only its
 * parent's. */
static inline struct mp_segment *mp_capture_segment(void) {
    struct mp_segment *seg = &mp_local.segment;
    if (seg->control == NULL)
        return NULL;
    uint32_t pid = mp_load_relaxed(&mp_local.pid_if_unwiped);
    return pid == 0 || pid == (uint32_t)getpid() ? seg : NULL;
}

/* HOOK. The time of a capture: its start, its deadline, births. */
static inline uint64_t mp_capture_now_ns(void) {
    return mp_clock_ns(CLOCK_MONOTONIC_COARSE);
}

/* HOOK. Shut the gate: the deadline has passed. */
void mp_capture_end(const struct mp_capture_view *view);

/* HOOK. Copy the state of the running capture of this process; shuts the gate if its deadline has
 * passed. Returns false if no capture runs. Inline because every sample calls it. */
static inline bool mp_capture_view(struct mp_capture_view *view) {
    if (mp_unlikely(mp_pending_waits()))
        mp_pending_open();
    int64_t gate = mp_gate();
    struct mp_segment *seg = gate == MP_GATE_OFF ? NULL : mp_capture_segment();
    if (seg == NULL)
        return false;
    uint32_t number = (uint32_t)(gate >> MP_GATE_SHIFT);
    struct mp_capture *slot = &seg->control->capture[number & 1];
    if (number == 0 || number > MP_CAPTURE_MAX || mp_load_relaxed(&slot->number) != number)
        return false;
    *view = (struct mp_capture_view){.segment = seg,
                                     .slot = slot,
                                     .gate = gate,
                                     .number = number,
                                     .now_ns = mp_capture_now_ns()};
    if (mp_likely(view->now_ns < mp_load_relaxed(&slot->deadline_ns)))
        return true;
    mp_capture_end(view);
    return false;
}

/* HOOK. When a block was born, for births.h. `birth_ns` is the birth as its live row stores it, so that a
 * reader comes to the same bucket. */
static inline uint64_t mp_capture_units(const struct mp_capture_view *view, uint64_t birth_ns) {
    uint64_t start_ns = mp_load_relaxed(&view->slot->start_ns);
    uint64_t unit_ns = mp_load_relaxed(&view->slot->birth_unit_ns);
    return birth_ns > start_ns && unit_ns != 0 ? (birth_ns - start_ns) / unit_ns : 0;
}

/* HOOK. T of the host's blocks, and of the devices', in a capture. */
static inline uint64_t mp_capture_rate(const struct mp_segment *seg, uint32_t capture) {
    return mp_load_relaxed(&seg->control->capture[capture & 1].rate_bytes);
}

static inline uint64_t mp_capture_device_rate(const struct mp_segment *seg, uint32_t capture) {
    return mp_load_relaxed(&seg->control->device_rate_bytes[capture & 1]);
}

/* HOOK. Frames of a stack without frame 0: 1 to MP_DEPTH_LIMIT_MAX, even if the control page is
 * forged. */
unsigned mp_capture_depth_limit(const struct mp_control *control);

/* HOOK. Count a loss in `lost` or `device_lost` of the control page. */
static inline void mp_capture_lose(uint64_t *lost, unsigned cause) {
    mp_add_relaxed(&lost[cause], 1);
}

/* Parameters of mp_capture_stack(). */
struct mp_stack_wanted {
    const struct mp_frame *caller;
    uintptr_t first_pc;  /* frame 0: first byte of the hook or wrapper */
    uint32_t generation; /* of the loader: an acquire load, which keeps the unwinding behind it */
    uint64_t
        *lost; /* counts why a stack ended early: `lost` or `device_lost` of the control page */
};

/*
 * HOOK. Unwind and intern the stack; for a new one, record its modules. Leaves the frames and their
 * trace in *scratch. Returns its id, or an enum mp_stack_lost value when there is no stack to name.
 */
uint32_t mp_capture_stack(struct mp_segment *seg, struct mp_scratch *scratch,
                          const struct mp_stack_wanted *wanted);

#endif
