/*
 * pending.c - see pending.h.
 */
#include "pending.h"
#include "capture.h"
#include "unwind/stack_range.h"

#include <errno.h>
#include <unistd.h>

#define OPEN_STACK_BYTES 4096

void mp_pending_begin(uint64_t rate_bytes, void (*open)(void)) {
    struct mp_pending *p = &mp_local.pending;
    *p = (struct mp_pending){.gate = (int64_t)1 << MP_GATE_SHIFT,
                             .rate_bytes = rate_bytes,
                             .open = open,
                             .pid = getpid()};
    p->state = MP_PENDING_WAITS;
    mp_store_release(&mp_local.gate_offset, (const char *)&p->gate - (const char *)&mp_gate_off);
}

static bool has_room(void) {
    char here;
    return !mp_stack_is_short((uintptr_t)&here, OPEN_STACK_BYTES, &mp_self.stack_room);
}

void mp_pending_open(void) {
    struct mp_pending *p = &mp_local.pending;
    if (mp_likely(!mp_pending_waits()))
        return;
    /* A vfork child shares its parent's memory, and would create a segment under its own pid in
     * it. */
    if (!has_room() || getpid() != p->pid ||
        !mp_cas_u32(&p->state, MP_PENDING_WAITS, MP_PENDING_OPENS)) {
        mp_add_relaxed(&p->lost, 1);
        return;
    }
    int saved_errno = errno;
    p->open();
    if (mp_local.segment.control != NULL)
        mp_add_relaxed(&mp_local.segment.control->lost[MP_LOST_REENTRY], mp_load_relaxed(&p->lost));
    mp_store_release(&p->state, (uint32_t)MP_PENDING_NONE);
    errno = saved_errno;
}

bool mp_pending_sampled(size_t size) {
    mp_thread_seed();
    if (!mp_countdown_take(&mp_self.countdown, size, mp_local.pending.gate,
                           mp_local.pending.rate_bytes))
        return false;
    mp_pending_open();
    return mp_capture_segment() != NULL;
}

bool mp_pending_cancel(void) {
    if (!mp_cas_u32(&mp_local.pending.state, MP_PENDING_WAITS, MP_PENDING_NONE))
        return !mp_pending_waits();
    mp_store_release(&mp_local.gate_offset, (intptr_t)0);
    return true;
}
