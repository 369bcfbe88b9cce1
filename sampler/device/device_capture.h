/*
 * device_capture.h - the capture that a device event falls into.
 *
 * Threads: HOOK.
 */
#ifndef MP_DEVICE_CAPTURE_H
#define MP_DEVICE_CAPTURE_H

#include "core/local.h"

struct mp_device_capture {
    struct mp_segment *segment;
    uint32_t number;
    uint64_t rate_bytes; /* of device blocks */
    uint64_t now_ns;     /* CLOCK_MONOTONIC_COARSE */
    unsigned bucket;     /* of time */
};

/* True if a capture is on in a segment of this process; shuts the gate when its deadline is over. */
bool mp_device_capture_open(struct mp_device_capture *capture);

/* The segment of this process, capture or not; NULL in a child of fork. */
struct mp_segment *mp_device_segment(void);

#endif
