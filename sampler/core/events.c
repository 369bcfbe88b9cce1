/*
 * events.c - see events.h.
 */
#include "events.h"
#include "capture.h"
#include "local.h"
#include "site_key.h"
#include "threads.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RINGS_MIN 4
#define TRIES 4             /* rings that a thread tries for one event */

struct ring {
    struct mp_ring *head;
    struct mp_event *event;
    uint64_t mask;
};

/* The rings as the control page describes them, if they fit in reserved pages. */
struct rings {
    unsigned char *base;
    uint32_t count, events;
};

static bool is_power_of_two(uint32_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

static uint64_t bytes_of(uint32_t rings, uint32_t events) {
    return MP_RING_HEADS_BYTES + (uint64_t)rings * events * sizeof(struct mp_event);
}

static bool find_rings(const struct mp_segment *seg, struct rings *rings) {
    const struct mp_events *e = &seg->control->events;
    uint32_t count = mp_load_relaxed(&e->rings), events = mp_load_relaxed(&e->ring_events);
    if (!is_power_of_two(count) || !is_power_of_two(events) || count > MP_RING_ROWS ||
        bytes_of(count, events) > mp_array_reserved(seg, MP_ARRAY_EVENTS))
        return false;
    *rings = (struct rings){mp_array_at(seg, MP_ARRAY_EVENTS), count, events};
    return true;
}

static struct ring ring_at(const struct rings *rings, uint32_t number) {
    number &= rings->count - 1;
    struct mp_event *events = (struct mp_event *)(rings->base + MP_RING_HEADS_BYTES);
    return (struct ring){(struct mp_ring *)rings->base + number,
                         events + (uint64_t)number * rings->events, rings->events - 1};
}

static uint64_t own_mark(void) {
    return (uint64_t)(uintptr_t)&mp_self;
}

static bool take(struct mp_ring *ring) {
    uint64_t owner = mp_load_relaxed(&ring->owner);
    return owner == own_mark() || (owner == 0 && mp_cas_u64(&ring->owner, 0, own_mark()));
}

static void fill(struct mp_event *at, const struct mp_event_of *from, uint64_t time_ns) {
    uint64_t size = from->size_bytes, most = (1ULL << MP_LIVE_SIZE_BITS) - 1;
    mp_store_relaxed(&at->time_kind, time_ns << MP_EVENT_KIND_BITS | from->kind);
    mp_store_relaxed(&at->address, from->address);
    mp_store_relaxed(&at->size_thread,
                     (size < most ? size : most) | (uint64_t)from->thread << MP_LIVE_SIZE_BITS);
    mp_store_relaxed(&at->stack_domain,
                     mp_key_stack(from->site_key) | (uint32_t)mp_key_domain(from->site_key)
                                                        << MP_KEY_STACK_BITS);
    mp_store_relaxed(&at->birth, (uint32_t)(from->birth_ns >> MP_LIVE_BIRTH_SHIFT));
}

static void lose(struct mp_ring *ring) {
    uint64_t now = mp_capture_now_ns();
    mp_cas_u64(&ring->first_lost_ns, 0, now);
    mp_store_relaxed(&ring->last_lost_ns, now);
    __atomic_fetch_add(&ring->lost, 1, __ATOMIC_RELEASE); /* pairs with the reader's load of it */
}

/*
 * A signal handler that took the guard over from this thread (local.h) may have written here meanwhile, and have opened
 * the lock: then this event takes the place of the handler's first one, whole, and that one is lost. A reader copies
 * `head`, the events and `head` again by one system call after the other, which keeps them in this order.
 */
static void append(const struct ring *ring, const struct mp_event_of *event) {
    uint64_t time_ns = mp_clock_ns(CLOCK_MONOTONIC), head = mp_load_relaxed(&ring->head->head);
    struct mp_event *at = &ring->event[head & ring->mask];
    mp_fence_release(); /* a reader that sees a word of this event sees `head` as the last one left it */
    fill(at, event, time_ns);
    if (mp_unlikely(!mp_cas_u64(&ring->head->head, head, head + 1))) {
        fill(at, event, time_ns);
        lose(ring->head);
    }
    mp_cas_u64(&ring->head->owner, own_mark(), 0); /* pairs with take() */
}

void mp_event_write(struct mp_segment *seg, const struct mp_event_of *event) {
    struct rings rings;
    if (!find_rings(seg, &rings))
        return;
    uint32_t tries = rings.count < TRIES ? rings.count : TRIES;
    for (uint32_t i = 0; i < tries; i++) {
        struct ring ring = ring_at(&rings, event->thread + i);
        if (mp_likely(take(ring.head))) {
            append(&ring, event);
            return;
        }
    }
    lose(ring_at(&rings, event->thread).head);
}

void mp_event_lose(struct mp_segment *seg) {
    struct rings rings;
    if (find_rings(seg, &rings))
        lose(ring_at(&rings, mp_thread_row(seg)).head);
}

void mp_event_of_block(struct mp_segment *seg, enum mp_event_kind kind, const void *block,
                       const struct mp_live_block *row) {
    if (!mp_events_on(seg, mp_key_capture(row->site_key)))
        return;
    struct mp_event_of event = {.kind = kind,
                                .thread = mp_thread_row(seg),
                                .address = (uint64_t)(uintptr_t)block,
                                .size_bytes = row->size_bytes,
                                .site_key = row->site_key,
                                .birth_ns = row->birth_ns};
    mp_event_write(seg, &event);
}

uint64_t mp_events_bytes(const struct mp_control *control, uint32_t number) {
    const struct mp_events *e = &control->events;
    if (mp_load_relaxed(&e->capture) != number)
        return 0;
    return bytes_of(mp_load_relaxed(&e->rings), mp_load_relaxed(&e->ring_events));
}

uint32_t mp_events_launches(const struct mp_control *control, uint32_t number) {
    const struct mp_events *e = &control->events;
    return mp_load_relaxed(&e->capture) == number ? mp_load_relaxed(&e->launches) : 0;
}

/* Processors that the process may run on; 0: unknown. */
static uint32_t processors(void) {
    static uint64_t mask[128]; /* too large for the stack of a small thread that forks */
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    uint32_t count = 0;
    for (long i = 0; i < bytes / 8; i++)
        count += (uint32_t)__builtin_popcountll(mask[i]);
    return count;
}

/* As many rings as threads can run at a time, and again as many for those that were interrupted inside; they share
 * the memory. */
static void divide(struct rings *rings, uint64_t bytes) {
    uint32_t wanted = 2 * processors();
    rings->count = 1;
    rings->events = MP_RING_EVENTS_MIN;
    while (rings->count < MP_RING_ROWS && (rings->count < RINGS_MIN || rings->count < wanted) &&
           bytes_of(2 * rings->count, rings->events) <= bytes)
        rings->count *= 2;
    while (bytes_of(rings->count, 2 * rings->events) <= bytes)
        rings->events *= 2;
}

/* Events of earlier captures stay where they are, behind `begun`. */
static void begin_ring(struct mp_ring *ring) {
    uint64_t head = mp_load_acquire(&ring->head);
    mp_store_relaxed(&ring->begun, head);
    mp_store_relaxed(&ring->drained, head);
    mp_store_relaxed(&ring->lost_begun, mp_load_acquire(&ring->lost));
}

int mp_events_begin(struct mp_segment *seg, int fd, uint32_t number, uint64_t bytes,
                    uint32_t launches) {
    struct mp_events *e = &seg->control->events;
    struct rings rings = {.base = mp_array_at(seg, MP_ARRAY_EVENTS)};
    uint64_t most = mp_array_bytes(seg, MP_ARRAY_EVENTS);
    bytes = bytes < most ? bytes : most;
    if (bytes < bytes_of(1, MP_RING_EVENTS_MIN))
        return -ENOSPC;
    divide(&rings, bytes);
    int rc =
        mp_segment_reserve_array(seg, fd, MP_ARRAY_EVENTS, bytes_of(rings.count, rings.events));
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < MP_RING_ROWS; i++)
        begin_ring((struct mp_ring *)rings.base + i);
    mp_store_relaxed(&e->rings, rings.count);
    mp_store_relaxed(&e->ring_events, rings.events);
    mp_store_relaxed(&e->launches, launches);
    mp_store_release(&e->capture, number);
    return 0;
}
