/*
 * test_events.c - the rings of events: order, overwriting, threads that share rings, locks that nobody gives back,
 * and a control page that lies.
 */
#include "check.h"
#include "core/events.h"
#include "core/local.h"
#include "core/site_key.h"

/* What a signal handler does between the reading of a ring's head and the event's first word. */
static __thread void (*in_the_middle)(void);

static void interrupt(void) {
    void (*handler)(void) = in_the_middle;
    in_the_middle = NULL;
    if (handler != NULL)
        handler();
}

#undef mp_fence_release
#define mp_fence_release() interrupt()
#include "core/events.c"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define LIMIT_BYTES (256ULL << 20)
#define CAPTURE 3
#define THREADS 4
#define EACH 20000

static struct mp_segment seg;

static struct mp_ring *ring(unsigned number) {
    return (struct mp_ring *)mp_array_at(&seg, MP_ARRAY_EVENTS) + number;
}

static const struct mp_event *event(unsigned ring_number, uint64_t number) {
    const struct mp_event *first = (const struct mp_event *)ring(MP_RING_ROWS);
    const struct mp_events *e = &seg.control->events;
    return first + (uint64_t)ring_number * e->ring_events + number % e->ring_events;
}

static void begin(uint64_t bytes) {
    void *base =
        mmap(NULL, LIMIT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mp_control *control = base;
    control->limit_bytes = LIMIT_BYTES;
    control->page_bytes = 4096;
    mp_segment_layout(control);
    mp_segment_attach(&seg, base, control);
    CHECK_EQ(mp_events_begin(&seg, -1, CAPTURE, bytes, 0), 0);
}

/* Whatever this machine has of processors. */
static void begin_with(uint32_t rings, uint32_t events) {
    begin(16 << 20);
    seg.control->events.rings = rings;
    seg.control->events.ring_events = events;
}

static void end(void) {
    munmap(seg.base, LIMIT_BYTES);
}

static struct mp_event_of born(uint32_t thread, uint64_t address) {
    return (struct mp_event_of){.kind = MP_EVENT_BIRTH,
                                .thread = thread,
                                .address = address,
                                .size_bytes = address + 1,
                                .site_key = mp_site_key(77, 100, 5, 1, CAPTURE),
                                .birth_ns = 9ULL << MP_LIVE_BIRTH_SHIFT};
}

static void write_one(uint32_t thread, uint64_t address) {
    struct mp_event_of e = born(thread, address);
    mp_event_write(&seg, &e);
}

static void test_an_event_is_whole(void) {
    CASE("an event says what it was given");
    begin_with(1, 1024);
    CHECK(mp_events_on(&seg, CAPTURE) && !mp_events_on(&seg, CAPTURE + 1));
    write_one(7, 0x1000);
    const struct mp_event *e = event(0, 0);
    CHECK_EQ(ring(0)->head, 1);
    CHECK_EQ(ring(0)->owner, 0);
    CHECK_EQ(e->time_kind & 15, MP_EVENT_BIRTH);
    CHECK_EQ(e->address, 0x1000);
    CHECK_EQ(e->size_thread, 0x1001 | 7ULL << MP_LIVE_SIZE_BITS);
    CHECK_EQ(e->stack_domain, 77u | 5u << MP_KEY_STACK_BITS);
    CHECK_EQ(e->birth, 9);
    end();
}

static void test_a_ring_keeps_the_latest(void) {
    CASE("a ring keeps the latest events, in order of time");
    begin_with(1, 1024);
    for (uint64_t i = 0; i < 5000; i++)
        write_one(1, i);
    CHECK_EQ(ring(0)->head, 5000);
    for (uint64_t i = 5000 - 1024; i < 5000; i++) {
        CHECK_EQ(event(0, i)->address, i);
        if (i > 5000 - 1024)
            CHECK(event(0, i)->time_kind >= event(0, i - 1)->time_kind);
    }
    end();
}

static void test_division(void) {
    CASE("rings take the memory they may, and no more");
    for (uint64_t bytes = 32 << 10; bytes < 64 << 20; bytes += bytes / 3) {
        begin(bytes);
        const struct mp_events *e = &seg.control->events;
        uint64_t used = mp_events_bytes(seg.control, CAPTURE);
        CHECK(used <= bytes && (used > bytes / 3 || used > 30 << 20));
        CHECK(e->rings >= (bytes < 64 << 10 ? 1 : 4));
        CHECK(used <= mp_array_reserved(&seg, MP_ARRAY_EVENTS));
        end();
    }
    CASE("too little memory for one ring is refused");
    begin(64 << 10);
    CHECK(mp_events_begin(&seg, -1, CAPTURE, 16000, 0) < 0);
    end();
}

static void test_a_held_lock(void) {
    CASE("a ring that another thread holds is left for its neighbours, then the event is lost and "
         "counted");
    begin_with(4, 1024);
    for (unsigned held = 0; held < 4; held++) {
        ring((2 + held) % 4)->owner = 1;
        write_one(2, held);
        CHECK_EQ(ring((2 + held + 1) % 4)->head, held < 3 ? 1 : 0);
    }
    CHECK_EQ(ring(2)->lost, 1);
    CHECK(ring(2)->first_lost_ns != 0 && ring(2)->last_lost_ns >= ring(2)->first_lost_ns);
    CASE("the thread that left a lock behind takes it over");
    ring(2)->owner = (uint64_t)(uintptr_t)&mp_self;
    write_one(2, 99);
    CHECK_EQ(ring(2)->head, 1);
    CHECK_EQ(ring(2)->owner, 0);
    CHECK_EQ(event(2, 0)->address, 99);
    end();
}

static void handler_writes_two(void) {
    write_one(2, 0x2001);
    write_one(2, 0x2002);
}

static void test_a_handler_inside(void) {
    CASE("of the events that a handler writes inside of a write, the one that is lost is counted");
    begin_with(1, 1024);
    in_the_middle = handler_writes_two;
    write_one(2, 0x1000);
    write_one(2, 0x3000);
    static const uint64_t kept[] = {0x1000, 0x2002, 0x3000};
    CHECK_EQ(ring(0)->head, 3);
    CHECK_EQ(ring(0)->lost, 1);
    CHECK_EQ(ring(0)->owner, 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(event(0, i)->address, kept[i]);
        CHECK_EQ(event(0, i)->size_thread, (kept[i] + 1) | 2ULL << MP_LIVE_SIZE_BITS);
        CHECK(i == 0 || event(0, i)->time_kind >= event(0, i - 1)->time_kind);
    }
    end();
}

static void test_a_lying_control_page(void) {
    CASE("a control page that lies makes no event leave the rings");
    static const uint32_t wrong[] = {0, 3, 128, UINT32_MAX, 1u << 31};
    begin_with(4, 1024);
    struct mp_events *e = &seg.control->events, good = *e;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        *e = good;
        e->rings = wrong[i];
        write_one(1, 1);
        *e = good;
        e->ring_events = wrong[i] == 128 ? 1u << 20 : wrong[i];
        write_one(1, 1);
    }
    seg.control->directory[MP_ARRAY_EVENTS].reserved_bytes = 4096;
    *e = good;
    write_one(1, 1);
    for (unsigned i = 0; i < MP_RING_ROWS; i++)
        CHECK_EQ(ring(i)->head, 0);
    end();
}

static void test_a_new_capture(void) {
    CASE("numbers go on from capture to capture");
    begin_with(2, 1024);
    write_one(2, 1);
    write_one(2, 2);
    CHECK_EQ(mp_events_begin(&seg, -1, CAPTURE + 1, 64 << 10, 0), 0);
    CHECK_EQ(ring(0)->begun, 2);
    CHECK_EQ(ring(0)->drained, 2);
    CHECK(!mp_events_on(&seg, CAPTURE));
    CHECK_EQ(mp_events_bytes(seg.control, CAPTURE), 0);
    end();
}

static void *writer(void *arg) {
    uint64_t me = (uint64_t)(uintptr_t)arg;
    for (uint64_t i = 0; i < EACH; i++)
        write_one((uint32_t)me, me << 32 | i);
    return NULL;
}

/* Threads with fewer rings than threads: what a ring has and what it lost is what was written. */
static void test_threads(uint32_t rings) {
    pthread_t thread[THREADS];
    uint64_t written = 0, lost = 0;
    begin_with(rings, 16384);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, writer, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned r = 0; r < seg.control->events.rings; r++) {
        uint64_t head = ring(r)->head, keeps = seg.control->events.ring_events;
        uint64_t next[THREADS] = {0}, first = head > keeps ? head - keeps : 0;
        for (uint64_t n = first; n < head; n++) {
            uint64_t address = event(r, n)->address, who = address >> 32;
            CHECK_EQ(event(r, n)->size_thread >> MP_LIVE_SIZE_BITS, who);
            CHECK(who < THREADS && (uint32_t)address >= next[who]);
            next[who] = (uint32_t)address + 1;
        }
        written += head;
        lost += ring(r)->lost;
        CHECK_EQ(ring(r)->owner, 0);
    }
    CHECK_EQ(written + lost, THREADS * EACH);
    CHECK(written > 0);
    end();
}

int main(void) {
    test_an_event_is_whole();
    test_a_ring_keeps_the_latest();
    test_division();
    test_a_held_lock();
    test_a_handler_inside();
    test_a_lying_control_page();
    test_a_new_capture();
    CASE("threads that share one ring lose and mix nothing unseen");
    test_threads(1);
    CASE("threads that share two rings lose and mix nothing unseen");
    test_threads(2);
    return check_end();
}
