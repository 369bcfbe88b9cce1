/*
 * test_code_lifetime.c - ends of code objects are counted through the slot of their type, or the slot is left alone.
 *
 * The types are the test's own words; this program stands for the interpreter's module, whose headers and
 * addresses are real.
 */
#include "check.h"
#include "python/code_lifetime.h"
#include "unwind/modules.h"

#include <pthread.h>
#include <stdlib.h>

#define OBJECTS 64
#define ROUNDS 2000
#define THREADS 3

typedef void dealloc_function(void *object);

static uint64_t ended[OBJECTS]; /* what really frees an object counts its ends too */
static char object[OBJECTS][64];
static uintptr_t slot[MP_PY_DEALLOCS], module_start;

static void end_object(void *at) {
    mp_add_relaxed(&ended[((char *)at - object[0]) / (long)sizeof object[0]], 1);
}

static void end_in_other_way(void *at) {
    (void)at;
}

static dealloc_function *const sealed = end_object; /* in PT_GNU_RELRO */

static void free_object(const uintptr_t *through, unsigned number) {
    ((dealloc_function *)mp_load_relaxed(through))(object[number]);
}

static uint64_t ends_of_all(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < OBJECTS; i++)
        sum += ended[i];
    return sum;
}

/* A slot that leads to the interpreter's own function. */
static struct mp_py_dealloc whole(unsigned number) {
    slot[number] = (uintptr_t)end_object;
    return (struct mp_py_dealloc){.slot = &slot[number]};
}

static void expect_left_alone(uintptr_t *of, uintptr_t start) {
    uintptr_t before = *of;
    struct mp_py_dealloc d = {.slot = of};
    uint64_t all = mp_py_deaths.all;
    mp_py_deaths_begin(&d, 3, start);
    CHECK_EQ(*of, before);
    CHECK_EQ(mp_py_deaths_all(&d), 0);
    CHECK_EQ(mp_py_deaths.all, all);
    mp_py_deaths_end(&d, 3);
    CHECK_EQ(*of, before);
}

static void test_counting(void) {
    CASE("each end is counted at its address and in the sum, and the object is freed");
    struct mp_py_dealloc d = whole(0);
    CHECK_EQ(mp_py_deaths_all(&d), 0);
    mp_py_deaths_begin(&d, 0, module_start);
    uint64_t all = mp_py_deaths_all(&d), ends = ends_of_all();
    CHECK(all != 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        uint64_t at = mp_py_deaths_at((uintptr_t)object[i]);
        CHECK(at != 0);
        free_object(&slot[0], i);
        CHECK_EQ(mp_py_deaths_at((uintptr_t)object[i]), at + 1);
        CHECK_EQ(mp_py_deaths_all(&d), ++all);
        CHECK_EQ(ends_of_all(), ++ends);
    }
    CASE("to begin again while it goes on changes nothing");
    mp_py_deaths_begin(&d, 0, module_start);
    CHECK_EQ(mp_py_deaths_all(&d), all);
    CASE("at the end the slot is what it was, and our function forwards to who kept its address");
    uintptr_t kept = slot[0];
    mp_py_deaths_end(&d, 0);
    CHECK_EQ(slot[0], (uintptr_t)end_object);
    CHECK_EQ(mp_py_deaths_all(&d), 0);
    free_object(&kept, 5);
    CHECK_EQ(ends_of_all(), ++ends);
    CASE("what was seen before another beginning proves nothing");
    uint64_t at = mp_py_deaths_at((uintptr_t)object[7]);
    all = mp_py_deaths.all;
    free_object(&slot[0], 7); /* not counted */
    mp_py_deaths_begin(&d, 0, module_start);
    CHECK(mp_py_deaths_at((uintptr_t)object[7]) != at);
    CHECK(mp_py_deaths_all(&d) > all);
    mp_py_deaths_end(&d, 0);
}

static void test_others(void) {
    CASE(
        "a slot that another tool takes is its own; nothing is counted, also when ours comes back");
    struct mp_py_dealloc d = whole(1);
    mp_py_deaths_begin(&d, 1, module_start);
    uintptr_t ours = slot[1];
    slot[1] = (uintptr_t)end_in_other_way;
    CHECK_EQ(mp_py_deaths_all(&d), 0);
    slot[1] = ours;
    CHECK_EQ(mp_py_deaths_all(&d), 0);
    CASE("until it begins again");
    mp_py_deaths_begin(&d, 1, module_start);
    CHECK(mp_py_deaths_all(&d) != 0);
    CASE("and is left alone at the end");
    slot[1] = (uintptr_t)end_in_other_way;
    mp_py_deaths_end(&d, 1);
    CHECK_EQ(slot[1], (uintptr_t)end_in_other_way);
    CASE("our function in the slot, of which nothing is counted any more, goes at the end too");
    slot[1] = ours;
    mp_py_deaths_end(&d, 1);
    CHECK_EQ(slot[1], (uintptr_t)end_object);
}

static void test_refusals(void) {
    static uintptr_t foreign;
    CASE("a slot that leads out of the interpreter's module");
    foreign = (uintptr_t)free;
    expect_left_alone(&foreign, module_start);
    foreign = (uintptr_t)end_object;
    expect_left_alone(&foreign, module_start + 4096);
    CASE("a slot that the loader has sealed");
    expect_left_alone((uintptr_t *)(uintptr_t)&sealed, module_start);
    CASE("a slot in no module");
    uintptr_t *heap = malloc(sizeof *heap);
    *heap = (uintptr_t)end_object;
    expect_left_alone(heap, module_start);
    free(heap);
    CASE("a slot that is no whole word");
    static char odd[16] __attribute__((aligned(8)));
    struct mp_py_dealloc d = {.slot = (uintptr_t *)(void *)(odd + 4)};
    mp_py_deaths_begin(&d, 3, module_start);
    CHECK_EQ(d.ours, 0);
}

static struct mp_py_dealloc shared;

static void *end_all_the_time(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < ROUNDS * 10; i++)
        free_object(&slot[2], i % OBJECTS);
    return NULL;
}

static void *begin_all_the_time(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < ROUNDS; i++) {
        mp_py_deaths_begin(&shared, 2, module_start);
        mp_py_deaths_all(&shared);
    }
    return NULL;
}

static void test_threads(void) {
    CASE("objects end while counting begins and ends: each is freed once");
    pthread_t thread[THREADS + 1];
    uint64_t ends = ends_of_all();
    shared = whole(2);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, end_all_the_time, NULL), 0);
    CHECK_EQ(pthread_create(&thread[THREADS], NULL, begin_all_the_time, NULL), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        mp_py_deaths_begin(&shared, 2, module_start);
        mp_py_deaths_end(&shared, 2);
    }
    for (unsigned i = 0; i <= THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(ends_of_all(), ends + THREADS * ROUNDS * 10);
    mp_py_deaths_end(&shared, 2);
    CHECK_EQ(slot[2], (uintptr_t)end_object);
    CASE("and all are counted while it goes on");
    mp_py_deaths_begin(&shared, 2, module_start);
    uint64_t all = mp_py_deaths_all(&shared);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, end_all_the_time, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(mp_py_deaths_all(&shared), all + THREADS * ROUNDS * 10);
    mp_py_deaths_end(&shared, 2);
}

int main(void) {
    struct mp_module self;
    mp_modules_init(NULL);
    CHECK(mp_module_find((uintptr_t)end_object, &self));
    module_start = self.start;
    test_counting();
    test_others();
    test_refusals();
    test_threads();
    return check_end();
}
