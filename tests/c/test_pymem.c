/*
 * test_pymem.c - hooks of CPython's allocators without a CPython: each block counts once, at the outermost hook.
 *
 * The allocators here pass blocks on as CPython's do: objects above 512 bytes go to the raw domain, and that
 * to a hook of malloc.
 */
#include "device_segment.h"
#include "pymem/pymem_hooks.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>

#define NOINLINE __attribute__((noinline, noclone))
#define SMALL_MAX 512
#define THREADS 4

static struct mp_pymem_row raw_row, object_row, arena_row;
static struct mp_pymem_allocator raw, object;
static bool refuses;
static jmp_buf *leaves_to;

/* As the hook of malloc, on top of the C library's. */
static NOINLINE void *hooked_malloc_slow(void *p, size_t size) {
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_record_alloc(p, size, MP_HOOK_MALLOC, &caller);
    return p;
}

static NOINLINE void *hooked_malloc(size_t size) {
    bool due = mp_sample_due(size);
    void *p = malloc(size != 0 ? size : 1);
    return due ? hooked_malloc_slow(p, size) : p;
}

static void *raw_malloc(void *ctx, size_t size) {
    (void)ctx;
    if (leaves_to != NULL)
        longjmp(*leaves_to, 1);
    return hooked_malloc(size);
}

static void *raw_calloc(void *ctx, size_t n, size_t size) {
    void *p = raw_malloc(ctx, n * size);
    return p != NULL ? memset(p, 0, n * size) : NULL;
}

static void *raw_realloc(void *ctx, void *old, size_t size) {
    (void)ctx;
    return realloc(old, size != 0 ? size : 1);
}

static void raw_free(void *ctx, void *block) {
    (void)ctx;
    if (mp_free_hit(block))
        mp_record_free(block);
    free(block);
}

static void *object_malloc(void *ctx, size_t size) {
    (void)ctx;
    if (refuses)
        return NULL;
    return size <= SMALL_MAX ? malloc(size + 1) : raw.malloc(raw.ctx, size);
}

static void *object_calloc(void *ctx, size_t n, size_t size) {
    void *p = object_malloc(ctx, n * size);
    return p != NULL ? memset(p, 0, n * size) : NULL;
}

static void *object_realloc(void *ctx, void *old, size_t size) {
    (void)ctx;
    return refuses ? NULL : raw.realloc(raw.ctx, old, size);
}

static void object_free(void *ctx, void *block) {
    (void)ctx;
    raw.free(raw.ctx, block);
}

static void make_allocators(void) {
    raw_row.real = (struct mp_pymem_allocator){NULL, raw_malloc, raw_calloc, raw_realloc, raw_free};
    object_row.real = (struct mp_pymem_allocator){NULL, object_malloc, object_calloc,
                                                  object_realloc, object_free};
    raw = mp_pymem_hooked(MP_PYMEM_RAW, &raw_row);
    object = mp_pymem_hooked(MP_PYMEM_OBJECT, &object_row);
    mp_pymem_name_frames();
}

/* A segment of which no thread knows anything. */
static void begin(void) {
    open_segment(LIMIT_BYTES);
    mp_self = (struct mp_thread_state){0};
    mp_local.epoch++;
}

static void capture_at(uint32_t number, uint64_t rate_bytes) {
    mp_local.segment.control->capture[number & 1].rate_bytes = rate_bytes;
    begin_capture(number, 1);
}

struct host {
    uint64_t blocks, bytes, freed_blocks, freed_bytes;
};

static struct host host_sums(uint32_t capture) {
    struct mp_segment *seg = &mp_local.segment;
    struct host total = {0};
    uint32_t ready = mp_table_ready(&seg->layout.sites, &seg->control->sites);
    for (uint32_t i = 0; i <= ready; i++) {
        const struct mp_level *level =
            i < ready ? &seg->layout.sites.level[i] : &seg->layout.lost_sites;
        for (uint32_t row = 0; row < level->rows; row++) {
            uint64_t key = mp_load_acquire(&mp_level_keys(seg, level)[row]);
            const struct mp_site_row *site = mp_level_row(seg, level, row);
            if (key == 0 || mp_key_capture(key) != capture)
                continue;
            total.blocks += mp_births_blocks(site->alloc_blocks);
            total.bytes += site->alloc_bytes;
            total.freed_blocks += site->freed_blocks;
            total.freed_bytes += site->freed_bytes;
        }
    }
    return total;
}

static void check_sums(uint32_t capture, struct host expected) {
    struct host found = host_sums(capture);
    CHECK_EQ(found.blocks, expected.blocks);
    CHECK_EQ(found.bytes, expected.bytes);
    CHECK_EQ(found.freed_blocks, expected.freed_blocks);
    CHECK_EQ(found.freed_bytes, expected.freed_bytes);
}

static void test_once(void) {
    CASE("a block counts once, whatever hooks it passes");
    begin();
    capture_at(1, 1);
    void *p[] = {object.malloc(object.ctx, 100), object.malloc(object.ctx, 600),
                 raw.malloc(raw.ctx, 50), object.calloc(object.ctx, 3, 300)};
    check_sums(1, (struct host){.blocks = 4, .bytes = 1650});
    for (int i = 0; i < 4; i++) {
        struct mp_pymem_allocator *of = i == 2 ? &raw : &object;
        of->free(of->ctx, p[i]);
    }
    check_sums(1, (struct host){4, 1650, 4, 1650});
    CHECK_EQ(mp_self.counting_sp, 0);
    CASE("a block that another size takes to another domain counts as freed and new");
    capture_at(2, 1);
    void *q = object.malloc(object.ctx, 100);
    q = object.realloc(object.ctx, q, 900);
    q = object.realloc(object.ctx, q, 30);
    check_sums(2, (struct host){3, 1030, 2, 1000});
    CASE("a refused block leaves everything as it was");
    refuses = true;
    CHECK(object.realloc(object.ctx, q, 5000) == NULL && object.malloc(object.ctx, 10) == NULL);
    refuses = false;
    check_sums(2, (struct host){3, 1030, 2, 1000});
    object.free(object.ctx, q);
    check_sums(2, (struct host){3, 1030, 3, 1030});
    CASE("hooks are told from other allocators");
    CHECK(mp_pymem_row_of(&object) == &object_row && mp_pymem_row_of(&object_row.real) == NULL);
    close_segment();
}

static void *map_region(void *ctx, size_t size) {
    CHECK(ctx == &arena_row);
    return hooked_malloc(size);
}

static void unmap_region(void *ctx, void *arena, size_t size) {
    CHECK(ctx == &arena_row && size == 9000);
    raw_free(NULL, arena);
}

static void test_arenas(void) {
    CASE("an arena is a block, unless it is taken for an object that counts");
    begin();
    capture_at(1, 1);
    arena_row = (struct mp_pymem_row){.real = {.ctx = &arena_row, .malloc = map_region},
                                      .unmap = unmap_region};
    struct mp_pymem_arenas arenas = mp_pymem_hooked_arenas(&arena_row);
    CHECK(mp_pymem_row_of_arenas(&arenas) == &arena_row);
    void *p = arenas.map(arenas.ctx, 9000);
    void *q = arenas.map(arenas.ctx, 9000);
    check_sums(1, (struct host){.blocks = 2, .bytes = 18000});
    arenas.unmap(arenas.ctx, p, 9000);
    check_sums(1, (struct host){2, 18000, 1, 9000});
    mp_self.counting_sp = (uintptr_t)__builtin_frame_address(0);
    p = arenas.map(arenas.ctx, 9000);
    mp_self.counting_sp = 0;
    check_sums(1, (struct host){2, 18000, 1, 9000});
    arenas.unmap(arenas.ctx, p, 9000);
    arenas.unmap(arenas.ctx, q, 9000);
    check_sums(1, (struct host){2, 18000, 2, 18000});
    close_segment();
}

static void test_idle(void) {
    CASE("while no capture runs nothing is counted down, and frees of captured blocks are seen");
    begin();
    capture_at(1, 1);
    void *p = object.malloc(object.ctx, 700);
    end_capture();
    int64_t before = mp_self.countdown.value;
    void *q = object.malloc(object.ctx, 100);
    q = object.realloc(object.ctx, q, 200);
    CHECK_EQ(mp_self.countdown.value, before);
    object.free(object.ctx, q);
    object.free(object.ctx, p);
    check_sums(1, (struct host){1, 700, 1, 700});
    close_segment();
}

static void test_chance(void) {
    CASE("the chance of a block does not depend on how many hooks it passes");
    begin();
    const size_t sizes[] = {60, 600, 3000};
    for (unsigned i = 0; i < 3; i++) {
        capture_at(i + 1, 1000);
        const int n = 100000;
        for (int k = 0; k < n; k++)
            object.free(object.ctx, object.malloc(object.ctx, sizes[i]));
        double p = -expm1(-(double)sizes[i] / 1000), sigma = sqrt(p * (1 - p) * n);
        CHECK(fabs((double)host_sums(i + 1).blocks - p * n) < 5 * sigma);
    }
    CASE("nor on whether it is the thread's first one of a capture");
    int taken = 0, n = 20000;
    for (int k = 0; k < n; k++) {
        capture_at((uint32_t)(k + 4), 1000);
        void *p = object.malloc(object.ctx, 600);
        taken += mp_filter_hit_large(p);
        object.free(object.ctx, p);
    }
    double p = -expm1(-0.6);
    CHECK(fabs(taken - p * n) < 5 * sqrt(p * (1 - p) * n));
    close_segment();
}

static NOINLINE void leave_from_below(void) {
    jmp_buf here;
    leaves_to = &here;
    if (setjmp(here) == 0)
        object.malloc(object.ctx, 600);
    leaves_to = NULL;
}

static void test_left(void) {
    CASE("a hook that was left does not count for what comes after it");
    begin();
    capture_at(1, 1000000);
    mp_self.countdown.value = mp_gate() + 1000000; /* not the slow way */
    leave_from_below();
    CHECK(mp_self.counting_sp != 0);
    capture_at(2, 1);
    void *p = hooked_malloc(40);
    void *q = object.malloc(object.ctx, 50);
    CHECK_EQ(mp_self.counting_sp, 0);
    check_sums(2, (struct host){.blocks = 2, .bytes = 90});
    raw_free(NULL, p);
    object.free(object.ctx, q);
    close_segment();
}

static void *allocate_much(void *number) {
    for (size_t i = 0; i < 5000; i++) {
        size_t size = 1 + (i * 37 + (uintptr_t)number) % 1500;
        void *p = i % 3 == 0 ? raw.malloc(raw.ctx, size) : object.malloc(object.ctx, size);
        if (i % 3 == 1)
            p = object.realloc(object.ctx, p, size / 2);
        (i % 3 == 0 ? raw : object).free(i % 3 == 0 ? raw.ctx : object.ctx, p);
    }
    return NULL;
}

static void test_threads(void) {
    CASE("threads count each block once");
    begin();
    capture_at(1, 1);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, allocate_much, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct host found = host_sums(1);
    uint64_t blocks = THREADS * (5000 + 1667);
    CHECK_EQ(found.blocks, blocks);
    CHECK_EQ(found.freed_blocks, blocks);
    CHECK_EQ(found.freed_bytes, found.bytes);
    close_segment();
}

int main(void) {
    start_unwinder();
    make_allocators();
    test_once();
    test_arenas();
    test_idle();
    test_chance();
    test_left();
    test_threads();
    return check_end();
}
