/*
 * Libraries that come and go: two with different frames are opened in turn, mostly at the same address.
 *
 * Arguments: the two libraries.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "unwind/modules.h"
#include "unwind_oracle.h"

#define TURNS 200

static unsigned constructed;
static bool check_constructors = true;
static const char *paths[2];

__attribute__((noinline)) static void check_here(void) {
    CHECK_EQ(oracle_check("from a library"), MP_UNWIND_OUTERMOST);
    __asm__ volatile("" ::: "memory");
}

/* Called by the constructor of the library, that is, from inside dlopen. */
__attribute__((noinline)) void plugin_constructed(void) {
    constructed++;
    if (check_constructors)
        check_here();
    __asm__ volatile("" ::: "memory");
}

static void *open_and_call(const char *path, void (*callback)(void)) {
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library != NULL);
    mp_modules_refresh();
    int (*plugin)(void (*)(void)) = (int (*)(void (*)(void)))(uintptr_t)dlsym(library, "plugin");
    CHECK_EQ(plugin(callback), 3);
    return library;
}

static void close_it(void *library) {
    mp_unwind_close_begin();
    CHECK(dlclose(library) == 0);
    mp_unwind_close_end();
}

static void in_turn(void) {
    uintptr_t last = 0;
    unsigned at_the_same_place = 0;
    for (unsigned i = 0; i < TURNS; i++) {
        void *library = open_and_call(paths[i % 2], check_here);
        uintptr_t here = (uintptr_t)dlsym(library, "plugin");
        at_the_same_place += here == last;
        last = here;
        close_it(library);
    }
    CHECK(at_the_same_place > TURNS / 2);
}

/* Frames of other threads are looked at without the oracle, which keeps one stack at a time. */
static bool stop;
/* While a module is being closed, a table of our own answers only for those of the start. */
static bool may_be_cut;

__attribute__((noinline)) static void unwind_here(void) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    uintptr_t pcs[64];
    MP_CALLER(frame);
    unsigned depth = mp_unwind(&frame, pcs, 64, &result);
    bool cut = may_be_cut && result.end == MP_LOST_UNWIND_NO_MODULE;
    CHECK(depth >= (cut ? 1 : 4) && depth < 16);
    CHECK(cut || result.end == MP_UNWIND_OUTERMOST);
    __asm__ volatile("" ::: "memory");
}

static int by_value(const void *a, const void *b) {
    unwind_here();
    return *(const int *)a - *(const int *)b;
}

static void *unwind_all_the_time(void *argument) {
    (void)argument;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        int values[4] = {4, 2, 3, 1};
        qsort(values, 4, sizeof(values[0]), by_value);
    }
    return NULL;
}

static void *open_all_the_time(void *argument) {
    const char *path = argument;
    for (unsigned i = 0; i < TURNS; i++)
        close_it(open_and_call(path, unwind_here));
    return NULL;
}

static void at_once(void) {
    pthread_t unwinder, opener[2];
    __atomic_store_n(&stop, false, __ATOMIC_RELAXED);
    pthread_create(&unwinder, NULL, unwind_all_the_time, NULL);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&opener[i], NULL, open_all_the_time, (void *)(uintptr_t)paths[i]);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(opener[i], NULL);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(unwinder, NULL);
}

#define NOTED_MAX 64

static unsigned noted;
static uintptr_t noted_start[NOTED_MAX];

static void note_module(const struct mp_module *module) {
    if (noted < NOTED_MAX)
        noted_start[noted] = module->start;
    noted++;
}

/* Any module may be noted again: the unwinder remembers few of them. */
static bool was_noted(uintptr_t start, unsigned since) {
    for (unsigned i = since; i < noted && i < NOTED_MAX; i++)
        if (noted_start[i] == start)
            return true;
    return false;
}

static void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

static void notes(void) {
    struct mp_unwind_config config = {
        .mode = MP_UNWIND_CFI, .note_module = note_module, .find_symbol = find_symbol};
    struct mp_module module;
    CHECK(mp_unwind_init(&config) == 0);
    mp_unwind_flush();
    unwind_here();
    CHECK(noted >= 2); /* the program and libc */
    unsigned before = noted;
    unwind_here();
    CHECK_EQ(noted, before);
    void *library = open_and_call(paths[0], unwind_here);
    CHECK(noted > before);
    CHECK(mp_module_find((uintptr_t)dlsym(library, "plugin"), &module));
    CHECK(was_noted(module.start, before));
    CHECK(!module.permanent);
    close_it(library);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    paths[0] = argv[1];
    paths[1] = argv[2];
    oracle_init(MP_UNWIND_CFI, true);
    CASE("the loader's table");
    in_turn();
    check_constructors = false;
    at_once();
    notes();
    CASE("a table of our own");
    oracle_init(MP_UNWIND_CFI, true);
    mp_modules_force_table(true);
    in_turn();
    may_be_cut = true;
    at_once();
    CHECK(constructed > TURNS);
    CHECK_EQ(oracle_failures(), 0);
    return check_end();
}
