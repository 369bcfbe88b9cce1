/*
 * device_capture.c - the capture that a device event falls into. See device_capture.h.
 */
#include "device_capture.h"

#include <time.h>
#include <unistd.h>

struct mp_segment *mp_device_segment(void) {
    struct mp_segment *seg = &mp_local.segment;
    if (seg->control == NULL)
        return NULL;
    uint32_t pid = mp_load_relaxed(&mp_local.pid_if_unwiped);
    return pid == 0 || pid == (uint32_t)getpid() ? seg : NULL;
}

static unsigned bucket_of(const struct mp_capture *slot, uint64_t now_ns) {
    uint64_t start_ns = mp_load_relaxed(&slot->start_ns);
    uint64_t age = now_ns > start_ns ? now_ns - start_ns : 0;
    unsigned bucket = 0;
    while (bucket < MP_BUCKETS - 1 && age >= mp_load_relaxed(&slot->bucket_end_ns[bucket]))
        bucket++;
    return bucket;
}

bool mp_device_capture_open(struct mp_device_capture *capture) {
    int64_t gate = mp_gate();
    struct mp_segment *seg = gate == MP_GATE_OFF ? NULL : mp_device_segment();
    if (seg == NULL)
        return false;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    unsigned slot_index = (gate >> MP_GATE_SHIFT) & 1;
    struct mp_capture *slot = &seg->control->capture[slot_index];
    capture->segment = seg;
    capture->number = (uint32_t)(gate >> MP_GATE_SHIFT);
    capture->rate_bytes = mp_load_relaxed(&seg->control->device_rate_bytes[slot_index]);
    capture->now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    capture->bucket = bucket_of(slot, capture->now_ns);
    if (capture->number == 0 || capture->number > MP_CAPTURE_MAX ||
        mp_load_relaxed(&slot->number) != capture->number)
        return false;
    if (mp_likely(capture->now_ns < mp_load_relaxed(&slot->deadline_ns)))
        return true;
    if (mp_cas_u64((uint64_t *)&seg->control->gate, (uint64_t)gate, (uint64_t)MP_GATE_OFF))
        mp_store_relaxed(&slot->stop_ns, capture->now_ns);
    return false;
}
