/*
 * events.h - rings of the latest sampled events: births, deaths, resizes, refusals, marks,
 * launches.
 *
 * Model: a capture with events has rings in the segment; whoever starts it reserves all their pages
 * before the gate opens. A thread writes to the ring of its row in the table of threads. It takes
 * the ring's try-lock, reads the clock, appends one event and releases the lock. So a ring is
 * ordered by time, and threads do not share a lock while there are no more threads than rings.
 * If another thread holds the lock, it tries the neighbouring rings; if these are taken too, the
 * event is lost, and the ring counts it. A ring is never full: a new event overwrites the oldest
 * one. Any number of readers may read, without slowing a writer down.
 *
 * Order: the time of a birth is read after the allocator's call, that of a death before it. So
 * sorting by time, deaths first, gives the true order of the events of one address, also across
 * threads.
 *
 * Reading: copy events [from, head), then load `head` again: in the copy, only events from head
 * - ring_events + 1 on are valid, because the writer may be overwriting the one before.
 *
 * A signal handler that never returns (siglongjmp) leaves the lock held. The same thread, or one
 * whose thread block is at the same address, takes it over; others use a neighbour.
 *
 * Threads: any, HOOK, under a guard: a signal handler must not re-enter on its own thread. Nothing
 * waits.
 */
#ifndef MP_EVENTS_H
#define MP_EVENTS_H

#include "live.h"

/* One event, unpacked. */
struct mp_event_of {
    enum mp_event_kind kind;
    uint32_t thread;  /* row in threads */
    uint64_t address;
    uint64_t size_bytes;
    uint64_t site_key; /* its stack and domain are kept */
    uint64_t birth_ns; /* CLOCK_MONOTONIC_COARSE */
};

/* HOOK. Does this capture write events? */
static inline bool mp_events_on(const struct mp_segment *seg, uint32_t capture) {
    return mp_unlikely(mp_load_relaxed(&seg->control->events.capture) == capture);
}

/* HOOK. Count an event that cannot be written, because the thread is inside the sampler. */
void mp_event_lose(struct mp_segment *seg);

/* HOOK. Write an event of a capture for which mp_events_on() said true. */
void mp_event_write(struct mp_segment *seg, const struct mp_event_of *event);

/* HOOK. Write an event of a block of the host, if its capture writes events. */
void mp_event_of_block(struct mp_segment *seg, enum mp_event_kind kind, const void *block,
                       const struct mp_live_block *row);

/* Bytes of the rings of capture `number`, according to the control page (untrusted); 0 if it writes
 * no events. */
uint64_t mp_events_bytes(const struct mp_control *control, uint32_t number);

/* Bits of enum mp_launch_want that capture `number` has; 0: it writes no events. */
uint32_t mp_events_launches(const struct mp_control *control, uint32_t number);

/*
 * INIT. Let capture `number` write events into rings of about `bytes` together, or as many as fit; reserves their
 * pages through `fd`, as mp_segment_reserve_first(). `launches`: bits of enum mp_launch_want. 0 or
 * -errno; on failure the capture writes no events.
 */
int mp_events_begin(struct mp_segment *seg, int fd, uint32_t number, uint64_t bytes,
                    uint32_t launches);

#endif
