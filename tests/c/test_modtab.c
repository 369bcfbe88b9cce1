/*
 * test_modtab.c - which module lay at an address at the time of a stack: told rightly or not at all.
 *
 * The loader is the test's own: it opens modules at one place, their link maps at one address, as dlopen
 * and dlclose do in a program that loads its plugins in turn.
 */
#include "core/modtab.h"
#include "device_segment.h"

#include <link.h>
#include <pthread.h>

#define PLACE_BYTES 8192u
#define ROUNDS 300
#define THREADS 2
#define SPINS 100000

static _Alignas(4096) char place[PLACE_BYTES];
static struct link_map map;

bool mp_module_find(uintptr_t pc, struct mp_module *out) {
    if (pc - (uintptr_t)place >= PLACE_BYTES || map.l_name == NULL)
        return false;
    *out = (struct mp_module){.start = (uintptr_t)place,
                              .end = (uintptr_t)place + PLACE_BYTES,
                              .run_start = (uintptr_t)place,
                              .run_end = (uintptr_t)place + PLACE_BYTES,
                              .bias = (uintptr_t)place,
                              .name = map.l_name,
                              .link_map = &map};
    return true;
}

const Elf64_Phdr *mp_module_headers(const struct mp_module *module, unsigned *count) {
    (void)module, (void)count;
    return NULL;
}

static struct mp_segment *segment(void) {
    return &mp_local.segment;
}

static uint32_t generation(void) {
    return mp_load_acquire(&segment()->control->generation);
}

static void open_module(char *name) {
    map.l_name = name;
}

/* A new stack through the module that is open. Returns the generation it is stored with. */
static uint32_t use(void) {
    uintptr_t frames[2] = {1, (uintptr_t)place + 100};
    uint32_t now = generation();
    mp_modtab_record(segment(), frames, 2, now);
    return now;
}

static void close_module(void) {
    CHECK(mp_modtab_closed(segment(), &map));
    map.l_name = NULL;
}

/* The letter of the module that lay at the place; '?': no row says it; '!': two do. */
static char named_at(uint32_t when) {
    const struct mp_module_row *rows = mp_array_at(segment(), MP_ARRAY_MODULES);
    char name = '?';
    for (uint32_t i = 0; i < segment()->control->module_count; i++)
        if (rows[i].published && rows[i].first_generation <= when &&
            when <= rows[i].last_generation)
            name = name == '?' || name == rows[i].path[0] ? rows[i].path[0] : '!';
    return name;
}

static void begin(void) {
    open_segment(LIMIT_BYTES);
    mp_modtab_forget();
}

static void test_turns(void) {
    begin();
    CASE("each stack has the name of the module that was open then");
    uint32_t when[6];
    for (unsigned i = 0; i < 6; i++) {
        open_module(i % 2 ? "b" : "a");
        when[i] = use();
        close_module();
    }
    for (unsigned i = 0; i < 6; i++)
        CHECK_EQ(named_at(when[i]), i % 2 ? 'b' : 'a');
    CASE("a module that is opened again with no other between keeps its row");
    uint32_t rows = segment()->control->module_count;
    for (unsigned i = 0; i < 6; i++) {
        open_module("b");
        CHECK_EQ(named_at(use()), 'b');
        close_module();
    }
    CHECK_EQ(segment()->control->module_count, rows);
    close_segment();
}

static void test_a_late_first_stack(void) {
    begin();
    CASE("a stack that was begun before another's module was closed still has its name");
    open_module("a");
    uint32_t begun = generation();
    mp_add_relaxed(&segment()->control->generation, 1);
    uint32_t later = use();
    uintptr_t frames[1] = {(uintptr_t)place + 200};
    mp_modtab_record(segment(), frames, 1, begun);
    CHECK_EQ(named_at(begun), 'a');
    CHECK_EQ(named_at(later), 'a');
    close_module();
    close_segment();
}

static void test_no_room(void) {
    begin();
    CASE("a module without a row is not taken for the one before or after it");
    struct mp_control *c = segment()->control;
    open_module("a");
    uint32_t first = use();
    close_module();
    uint64_t *modules_bytes = &c->directory[MP_ARRAY_MODULES].reserved_bytes;
    uint64_t reserved = *modules_bytes;
    *modules_bytes = c->module_count * sizeof(struct mp_module_row);
    c->controller_flags |= MP_FLAG_SECCOMP; /* hooks reserve nothing */
    open_module("b");
    uint32_t nameless = use();
    close_module();
    c->controller_flags &= ~(uint32_t)MP_FLAG_SECCOMP;
    *modules_bytes = reserved;
    open_module("a");
    uint32_t again = use();
    CHECK_EQ(named_at(first), 'a');
    CHECK_EQ(named_at(nameless), '?');
    CHECK_EQ(named_at(again), 'a');
    CHECK_EQ(c->lost[MP_LOST_MODULE_FULL], 1);
    close_module();
    close_segment();
}

static void test_a_row_of_another_segment(void) {
    begin();
    CASE("a row number of a segment that was left is not believed in the next one");
    open_module("a");
    use();
    close_segment();
    open_segment(LIMIT_BYTES);
    CHECK_EQ(named_at(use()), 'a');
    CHECK_EQ(segment()->control->module_count, 1);
    close_module();
    close_segment();
}

static pthread_barrier_t barrier;
static uint32_t arrived;

/* Both go on within nanoseconds, where a barrier wakes them one after the other. */
static void arrive_together(unsigned rounds) {
    mp_add_relaxed(&arrived, 1);
    for (unsigned i = 0; i < SPINS && mp_load_acquire(&arrived) < rounds * THREADS; i++)
        ;
}

static void *meet(void *unused) {
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&barrier);
        arrive_together(i + 1);
        use();
        pthread_barrier_wait(&barrier);
    }
    return unused;
}

static void test_two_threads_meet_a_module(void) {
    begin();
    CASE("a module that two threads meet at once is forgotten whole when it is closed");
    pthread_t threads[THREADS];
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, meet, NULL), 0);
    unsigned wrong = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        open_module("a");
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        close_module();
        open_module(i % 2 ? "b" : "c");
        char name = named_at(use());
        wrong += name != map.l_name[0];
        close_module();
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(wrong, 0);
    close_segment();
}

int main(void) {
    test_turns();
    test_a_late_first_stack();
    test_no_room();
    test_a_row_of_another_segment();
    test_two_threads_meet_a_module();
    return check_end();
}
