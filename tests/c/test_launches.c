/*
 * test_launches.c - launches in the rings: what is written and when, texts that are stored once, what makes no sense.
 */
#include "core/events.h"
#include "device/device.h"
#include "device/launches.h"
#include "device_segment.h"

#include <errno.h>
#include <pthread.h>

#define ALL (MP_LAUNCH_OPERATORS | MP_LAUNCH_KERNELS | MP_LAUNCH_ACCESSES)
#define THREADS 4
#define EACH 2000
#define TOO_MANY 10000

static void open_capture(uint32_t launches) {
    open_segment(LIMIT_BYTES);
    CHECK_EQ(mp_events_begin(&mp_local.segment, -1, 1, 4 << 20, launches), 0);
    begin_capture(1, 1);
}

static uint64_t written(void) {
    const struct mp_ring *rings = mp_array_at(&mp_local.segment, MP_ARRAY_EVENTS);
    uint64_t sum = 0;
    for (unsigned i = 0; i < MP_RING_ROWS; i++)
        sum += rings[i].head + rings[i].lost;
    return sum;
}

/* The first event of the ring that has any. */
static struct mp_event first(void) {
    const struct mp_ring *rings = mp_array_at(&mp_local.segment, MP_ARRAY_EVENTS);
    const struct mp_event *events = (const struct mp_event *)(rings + MP_RING_ROWS);
    unsigned i = 0;
    while (rings[i].head == 0)
        i++;
    return events[(uint64_t)i * mp_local.segment.control->events.ring_events];
}

static const struct mp_stack *record(uint32_t id) {
    return (const struct mp_stack *)((char *)mp_array_at(&mp_local.segment, MP_ARRAY_STACKS) +
                                     (uint64_t)id * 8);
}

static uint64_t lost(void) {
    return mp_local.segment.control->lost[MP_LOST_LAUNCH];
}

static void test_not_wanted(void) {
    CASE("without a segment, a capture, events or a wish nothing is written");
    struct mp_launch launch = {.kind = MP_LAUNCH_KERNEL};
    CHECK_EQ(mp_launch_text("a", 1), 0);
    mp_launch_add(&launch);
    open_segment(LIMIT_BYTES);
    CHECK(!mp_launch_wanted(ALL));
    begin_capture(1, 1);
    CHECK(!mp_launch_wanted(ALL));
    mp_launch_add(&launch);
    close_segment();
    open_capture(0);
    CHECK(!mp_launch_wanted(ALL));
    uint64_t before = mp_local.segment.control->arena_cursor;
    CHECK_EQ(mp_launch_text("a", 1), 0);
    mp_launch_add(&launch);
    CHECK_EQ(written(), 0);
    CHECK_EQ(mp_local.segment.control->arena_cursor, before);
    CHECK_EQ(lost(), 0);
    close_segment();
}

static void test_event(void) {
    CASE("an event has all of a launch; errno stays");
    open_capture(MP_LAUNCH_KERNELS);
    CHECK(mp_launch_wanted(MP_LAUNCH_KERNELS | MP_LAUNCH_OPERATORS));
    CHECK(!mp_launch_wanted(MP_LAUNCH_OPERATORS | MP_LAUNCH_ACCESSES));
    errno = 77;
    uint32_t name = mp_launch_text("matmul", 6), path = mp_launch_text("a/b", 3);
    mp_launch_add(&(struct mp_launch){.kind = MP_LAUNCH_ACCESS,
                                      .device = 5,
                                      .name = name,
                                      .detail = path,
                                      .address = ~0ULL,
                                      .size_bytes = ~0ULL});
    CHECK_EQ(errno, 77);
    CHECK_EQ(written(), 1);
    struct mp_event event = first();
    CHECK_EQ(event.time_kind & ((1 << MP_EVENT_KIND_BITS) - 1), MP_EVENT_LAUNCH);
    CHECK_EQ(event.address, ~0ULL);
    CHECK_EQ(event.size_thread & ((1ULL << MP_LIVE_SIZE_BITS) - 1),
             (1ULL << MP_LIVE_SIZE_BITS) - 1);
    CHECK_EQ(event.stack_domain, name | 5u << MP_KEY_STACK_BITS);
    CHECK_EQ(event.birth, path | (uint32_t)MP_LAUNCH_ACCESS << MP_LAUNCH_KIND_SHIFT);
    close_segment();
    CASE("a device that is unknown, or too large a number");
    for (int device = -1; device <= 63; device += 64) {
        open_capture(ALL);
        mp_launch_add(&(struct mp_launch){.kind = MP_LAUNCH_KERNEL, .device = device});
        CHECK_EQ(first().stack_domain >> MP_KEY_STACK_BITS, MP_LAUNCH_NO_DEVICE);
        close_segment();
    }
}

static void allocate(uint32_t traits) {
    struct mp_device_block block = {.domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE),
                                    .space = MP_SPACE_HAL_POINTER,
                                    .traits = traits,
                                    .address = 0x1000,
                                    .asked_bytes = 512};
    mp_device_alloc(&block);
}

static void test_facts(void) {
    uint32_t traits = MP_TRAIT_KNOWN | MP_TRAIT_CREATED | 33 << MP_TRAIT_MODULE_SHIFT;
    CASE("what a block is comes before its birth, where the capture wants facts and there are any");
    open_capture(MP_LAUNCH_FACTS);
    allocate(traits);
    CHECK_EQ(written(), 2);
    struct mp_event event = first();
    CHECK_EQ(event.time_kind & ((1 << MP_EVENT_KIND_BITS) - 1), MP_EVENT_LAUNCH);
    CHECK_EQ(event.birth, (uint32_t)MP_LAUNCH_BLOCK << MP_LAUNCH_KIND_SHIFT);
    CHECK_EQ(event.address, 0x1000);
    CHECK_EQ(event.size_thread & ((1ULL << MP_LIVE_SIZE_BITS) - 1), traits);
    allocate(0); /* the death of the first, and a birth */
    CHECK_EQ(written(), 4);
    CASE("facts are no launches, and launches are no facts");
    mp_launch_add(&(struct mp_launch){.kind = MP_LAUNCH_KERNEL});
    CHECK_EQ(written(), 4);
    CHECK_EQ(mp_launch_capture(MP_LAUNCH_FACTS), 1);
    CHECK_EQ(mp_launch_capture(ALL), 0);
    close_segment();
    open_capture(ALL);
    allocate(traits);
    mp_launch_add(&(struct mp_launch){.kind = MP_LAUNCH_USED, .address = 1, .size_bytes = 2});
    CHECK_EQ(written(), 1);
    close_segment();
}

static void test_steps(void) {
    CASE("a range of the step's name, and no other mark, makes the process one that ranges divide");
    open_capture(0);
    CHECK(!mp_mark_steps());
    mp_mark_add(MP_MARK_POINT, 0, "", MP_STEP_MESSAGE);
    mp_mark_add(MP_MARK_BEGIN, 1, "", "step start 2");
    mp_mark_add(MP_MARK_BEGIN, 2, "", NULL);
    CHECK(!mp_mark_steps());
    mp_mark_add(MP_MARK_BEGIN, 3, "", MP_STEP_MESSAGE);
    CHECK(mp_mark_steps());
    mp_mark_after_fork();
    CHECK(!mp_mark_steps());
    close_segment();
}

static void test_texts(void) {
    char text[MP_LAUNCH_TEXT_BYTES + 100];
    memset(text, 'x', sizeof text);
    open_capture(ALL);
    CASE("a text is stored once, whatever is behind it");
    uint32_t id = mp_launch_text("abcdefgh1", 8);
    CHECK(id != 0);
    CHECK_EQ(mp_launch_text("abcdefgh2", 8), id);
    CHECK(mp_launch_text("abcdefgh2", 9) != id);
    CHECK(mp_launch_text("abcdefgh\0", 9) != id);
    CHECK_EQ(record(id)->kind, MP_STACK_TEXT);
    CHECK_EQ(*(const uint64_t *)(record(id) + 1), 8);
    CASE("a long one is cut, one without bytes is none");
    CHECK_EQ(mp_launch_text(text, sizeof text), mp_launch_text(text, MP_LAUNCH_TEXT_BYTES));
    CHECK_EQ(mp_launch_text("", 0), 0);
    CHECK_EQ(mp_launch_text(NULL, 3), 0);
    CHECK_EQ(lost(), 0);
    CASE("a tensor has at most eight dimensions");
    const int64_t dimensions[9] = {1, -1, INT64_MAX, 4, 5, 6, 7, 8, 9};
    uint32_t tensor = mp_launch_tensor(-1, 29, dimensions, 8);
    CHECK(tensor != 0 && tensor != mp_launch_tensor(-1, 29, dimensions, 7));
    CHECK_EQ(record(tensor)->kind, MP_STACK_TENSOR);
    CHECK_EQ(*(const uint64_t *)(record(tensor) + 1), 29ULL << 32 | 0xffffffff);
    CHECK(mp_launch_tensor(0, 2, dimensions, 0) != 0);
    CHECK_EQ(mp_launch_tensor(0, 2, dimensions, 9), 0);
    CHECK_EQ(lost(), 1);
    mp_launch_lose();
    CHECK_EQ(lost(), 2);
    close_segment();
}

static void test_no_room(void) {
    CASE("a full arena costs names, which are counted, and nothing else");
    open_segment(8 << 20);
    CHECK_EQ(mp_events_begin(&mp_local.segment, -1, 1, 64 << 10, ALL), 0);
    begin_capture(1, 1);
    char text[MP_LAUNCH_TEXT_BYTES] = {0};
    uint32_t named = 0;
    for (uint32_t i = 0; i < TOO_MANY; i++) {
        memcpy(text, &i, sizeof i);
        named += mp_launch_text(text, sizeof text) != 0;
    }
    CHECK(named > 0 && named < TOO_MANY);
    CHECK_EQ(lost(), TOO_MANY - named);
    close_segment();
}

static void *launch_many(void *number) {
    char name[] = "kernel-0";
    for (unsigned i = 0; i < EACH; i++) {
        name[7] = (char)('0' + i % 10);
        mp_launch_add(&(struct mp_launch){
            .kind = MP_LAUNCH_KERNEL, .name = mp_launch_text(name, 8), .address = *(int *)number});
    }
    return NULL;
}

static void test_threads(void) {
    CASE("threads write all of theirs, and name the same texts");
    pthread_t threads[THREADS];
    int numbers[THREADS];
    open_capture(ALL);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, launch_many, &numbers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(written(), THREADS * EACH);
    CHECK_EQ(lost(), 0);
    close_segment();
}

int main(void) {
    start_unwinder();
    test_not_wanted();
    test_event();
    test_facts();
    test_steps();
    test_texts();
    test_no_room();
    test_threads();
    return check_end();
}
