/*
 * test_device.c - device memory in the segment: domains, limits, marks, threads, fork, nested calls.
 */
#include "device/device_scope.h"
#include "device_segment.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_nothing_without_capture(void) {
    CASE("without a capture nothing is written, and no domain exists");
    open_segment(LIMIT_BYTES);
    CHECK_EQ(mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE), MP_DOMAIN_NONE);
    alloc_block(1, SPACE, 0x1000, 0, 10, 10);
    CHECK(!free_block(SPACE, 0x1000));
    CHECK_EQ(mp_local.segment.control->directory[MP_ARRAY_DOMAINS].reserved_bytes, 0);
    close_segment();
    CASE("nor without a segment");
    CHECK_EQ(mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE), MP_DOMAIN_NONE);
    alloc_block(1, SPACE, 0x1000, 0, 10, 10);
    CHECK(!free_block(SPACE, 0x1000));
    mp_mark_add(MP_MARK_POINT, 1, "", "x");
}

static const char *name_of(uint32_t domain) {
    struct mp_segment *seg = &mp_local.segment;
    return ((struct mp_domain *)mp_array_at(seg, MP_ARRAY_DOMAINS))[domain].name;
}

static void test_domains(void) {
    CASE("a domain has one number, and a name of its own");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    uint32_t cuda0 = mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE);
    uint32_t pinned = mp_domain_intern("cuda", -1, MP_MEMORY_PINNED);
    uint32_t managed = mp_domain_intern("cuda", 11, MP_MEMORY_MANAGED);
    uint32_t pool = mp_domain_intern("PTA/../x y", -1, MP_MEMORY_POOL);
    CHECK(cuda0 && pinned && managed && pool);
    CHECK_EQ(mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE), cuda0);
    CHECK(strcmp(name_of(cuda0), "cuda-0") == 0);
    CHECK(strcmp(name_of(pinned), "cuda-pinned") == 0);
    CHECK(strcmp(name_of(managed), "cuda-11-managed") == 0);
    CHECK(strcmp(name_of(pool), "pool-PTA____x_y") == 0);
    CASE("a domain too many has no number; its blocks are counted as lost");
    uint32_t none = 0;
    for (int device = 0; device < 100; device++)
        none += mp_domain_intern("hip", device, MP_MEMORY_DEVICE) == MP_DOMAIN_NONE;
    CHECK_EQ(none, 100 - (MP_DOMAIN_ROWS - 1 - 4));
    alloc_block(MP_DOMAIN_NONE, SPACE, 0x1000, 0, 10, 10);
    CHECK_EQ(mp_local.segment.control->lost[MP_LOST_DOMAIN_FULL], 1);
    alloc_block(MP_DOMAIN_IGNORED, SPACE, 0x2000, 0, 10, 10);
    CHECK_EQ(mp_local.segment.control->lost[MP_LOST_DOMAIN_FULL], 1);
    CASE("actual and reserved bytes");
    CHECK(mp_device_actual_due(cuda0) && !mp_device_actual_due(cuda0));
    mp_device_actual(cuda0, 70, 100);
    mp_device_reserved(pool, 50);
    mp_device_reserved(pool, -20);
    struct mp_segment *seg = &mp_local.segment;
    const struct mp_domain *rows = mp_array_at(seg, MP_ARRAY_DOMAINS);
    CHECK_EQ(rows[cuda0].actual_used_bytes, 70);
    CHECK_EQ(rows[cuda0].actual_total_bytes, 100);
    CHECK_EQ(rows[cuda0].actual_tracked_bytes, 0);
    alloc_block(cuda0, SPACE, 0x1000, 0, 10, 16);
    alloc_block(cuda0, SPACE, 0x2000, 0, 20, 0);
    alloc_block(pinned, SPACE, 0x3000, 0, 40, 64);
    mp_device_actual(cuda0, 70, 100);
    CHECK_EQ(rows[cuda0].actual_tracked_bytes, 16 + 20);
    CASE("tracked bytes are an estimate where blocks are sampled");
    begin_capture(2, 4096);
    for (unsigned i = 0; i < 10000; i++)
        alloc_block(cuda0, SPACE, 0x100000 + 64 * i, 0, 1024, 2048);
    mp_device_actual(cuda0, 70, 100);
    double tracked = (double)rows[cuda0].actual_tracked_bytes, truth = 10000 * 2048.0;
    CHECK(tracked > truth * 0.85 && tracked < truth * 1.15);
    CHECK(tracked != truth);
    CHECK_EQ(rows[pool].reserved_bytes, 30);
    CHECK_EQ(rows[pool].reserved_peak_bytes, 50);
    close_segment();
}

static void test_sampling(void) {
    CASE("a block of s bytes is sampled with probability 1 - exp(-s/T), a failure always");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 4096);
    uint32_t domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    unsigned trials = 20000;
    for (unsigned i = 0; i < trials; i++) {
        alloc_block(domain, SPACE, 0x1000, 0, 1024, 1024);
        free_block(SPACE, 0x1000);
        fail_block(domain, 77);
    }
    double p = 0.22119921692859512, got = (double)sums(domain, 1).alloc_blocks / trials;
    CHECK((got - p) * (got - p) < 25 * p * (1 - p) / trials);
    CHECK_EQ(sums(domain, 1).failed_blocks, trials);
    CHECK_EQ(sums(domain, 1).failed_bytes, 77 * trials);
    CHECK_EQ(live_rows(), 0);
    close_segment();
}

static void test_limits(void) {
    CASE("a full table loses blocks and says so; a full table of sites loses stacks only");
    open_segment(MP_LIMIT_WHOLE_BYTES);
    begin_capture(1, 1);
    uint32_t domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE), n = 30000;
    for (uint32_t i = 0; i < n; i++)
        alloc_block(domain, SPACE, 0x1000 + 16 * i, 0, 100 + i % 20000, 0);
    struct mp_control *c = mp_local.segment.control;
    uint64_t lost = c->device_lost[MP_LOST_LIVE_FULL] + c->device_lost[MP_LOST_SITE_FULL];
    struct mp_device_site_row total = sums(domain, 1);
    CHECK(lost > 0 && lost < n);
    CHECK_EQ(total.alloc_blocks + lost, n);
    CHECK_EQ(live_rows(), total.alloc_blocks);
    uint32_t gone = 0;
    for (uint32_t i = 0; i < n; i++)
        gone += free_block(SPACE, 0x1000 + 16 * i);
    CHECK_EQ(gone, total.alloc_blocks);
    CHECK_EQ(sums(domain, 1).freed_bytes, total.alloc_bytes);
    CASE("blocks of an old capture make room");
    for (uint32_t capture = 2; capture < 6; capture++) {
        begin_capture(capture, 1);
        uint64_t before = c->device_lost[MP_LOST_LIVE_FULL];
        for (uint32_t i = 0; i < 500; i++)
            alloc_block(domain, SPACE, 0x100000ULL * capture + 16 * i, 0, 100, 0);
        CHECK(c->device_lost[MP_LOST_LIVE_FULL] - before < 40);
    }
    close_segment();
}

static void test_no_room(void) {
    CASE("no page may be had: no domain, the controller is asked, nothing breaks");
    open_segment(LIMIT_BYTES);
    mp_local.segment.control->controller_flags = MP_FLAG_SECCOMP;
    begin_capture(1, 1);
    errno = 7;
    CHECK_EQ(mp_domain_intern("hal", 0, MP_MEMORY_DEVICE), MP_DOMAIN_NONE);
    alloc_block(MP_DOMAIN_NONE, SPACE, 0x1000, 0, 10, 10);
    mp_mark_add(MP_MARK_POINT, 1, "d", "t");
    CHECK_EQ(errno, 7);
    CHECK_EQ(mp_local.segment.control->device_wanted, 1);
    CHECK_EQ(mp_local.segment.control->mark_count, 1);
    close_segment();
}

static void test_marks(void) {
    CASE("the ring keeps the latest marks");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    char text[MP_MARK_TEXT_BYTES + 50];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    uint32_t rows = (uint32_t)mp_array_rows(&mp_local.segment, MP_ARRAY_MARKS);
    for (uint32_t i = 0; i < rows + 3; i++)
        mp_mark_add(MP_MARK_BEGIN, i, "domain", text);
    const struct mp_mark *ring = mp_array_at(&mp_local.segment, MP_ARRAY_MARKS);
    CHECK_EQ(mp_local.segment.control->mark_count, rows + 3);
    CHECK_EQ(ring[2].sequence, rows + 3);
    CHECK_EQ(ring[2].id, rows + 2);
    CHECK_EQ(ring[3].id, 3);
    CHECK_EQ(strlen(ring[2].text), MP_MARK_TEXT_BYTES - 1);
    CHECK(strcmp(ring[2].domain, "domain") == 0 && ring[2].kind == MP_MARK_BEGIN);
    mp_mark_add(MP_MARK_POINT, 1, NULL, NULL);
    close_segment();
}

static void run_threads(unsigned n, void *(*run)(void *)) {
    pthread_t threads[8];
    for (uintptr_t i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, run, (void *)i);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static uint32_t race_domain;

/* Threads hand addresses to each other as a driver does: the freed one is the next one given out. */
static uint64_t pool[64];

static void *race(void *arg) {
    uint64_t rng = (uint64_t)(uintptr_t)arg + 1;
    for (int i = 0; i < 20000; i++) {
        unsigned at = (unsigned)(mp_random(&rng) % 64);
        uint64_t address = __atomic_exchange_n(&pool[at], 0, __ATOMIC_ACQ_REL);
        if (address == 0)
            continue; /* another thread has it */
        if (address & 1) {
            struct mp_device_taken taken;
            mp_device_take(SPACE, address & ~1ULL, &taken);
            CHECK(taken.found);
            if (mp_random(&rng) % 8 == 0)
                mp_device_put_back(&taken);
            else
                address &= ~1ULL;
        } else {
            alloc_block(race_domain, SPACE, address, 0, 64 + at, 128);
            address |= 1;
        }
        __atomic_store_n(&pool[at], address, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_reused_addresses(void) {
    CASE("threads racing on reused addresses: every block is counted and freed once");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    race_domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    for (unsigned i = 0; i < 64; i++)
        pool[i] = 0x10000 + 512 * i;
    run_threads(4, race);
    uint64_t held = 0, held_bytes = 0;
    for (unsigned i = 0; i < 64; i++) {
        held += pool[i] & 1;
        held_bytes += (pool[i] & 1) * (64 + i);
    }
    struct mp_device_site_row total = sums(race_domain, 1);
    const uint64_t *lost = mp_local.segment.control->device_lost;
    CHECK_EQ(lost[MP_LOST_LIVE_FULL] + lost[MP_LOST_SITE_FULL] + lost[MP_LOST_REENTRY], 0);
    CHECK_EQ(total.alloc_blocks - total.freed_blocks, held);
    CHECK_EQ(total.alloc_bytes - total.freed_bytes, held_bytes);
    CHECK_EQ(live_rows(), held);
    close_segment();
}

static void *share(void *arg) {
    uint64_t found = 0;
    for (int i = 0; i < 20000; i++) {
        CHECK(mp_device_retain(MP_SPACE_CUDA_HANDLE, 7));
        found += free_block(MP_SPACE_CUDA_HANDLE, 7);
    }
    CHECK_EQ(found, 20000);
    free_block(MP_SPACE_CUDA_HANDLE, 7); /* its own */
    (void)arg;
    return NULL;
}

static void test_owners(void) {
    CASE("owners that come and go in threads: the last one frees, once");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    uint32_t domain = mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE);
    alloc_block(domain, MP_SPACE_CUDA_HANDLE, 7, 0, 1000, 2000);
    for (unsigned i = 1; i < 4; i++)
        mp_device_retain(MP_SPACE_CUDA_HANDLE, 7);
    run_threads(4, share);
    CHECK_EQ(sums(domain, 1).freed_blocks, 1);
    CHECK_EQ(live_rows(), 0);
    CHECK(!mp_device_retain(MP_SPACE_CUDA_HANDLE, 7));
    close_segment();
}

#define CONTEXT 5
static bool contexts_end;

static void *end_contexts(void *unused) {
    (void)unused;
    while (!__atomic_load_n(&contexts_end, __ATOMIC_ACQUIRE))
        mp_device_drop_container(SPACE, CONTEXT);
    return NULL;
}

static void *use_contexts(void *arg) {
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t address = ((uint64_t)(uintptr_t)arg << 32) + 64 * (i % 7 + 1);
        alloc_block(race_domain, SPACE, address, CONTEXT, 100, 100);
        if (i % 3 == 0)
            mp_device_retain(SPACE, address);
        free_block(SPACE, address);
        free_block(SPACE, address);
    }
    return NULL;
}

static void test_containers(void) {
    CASE("a container that ends while its blocks are freed: each is freed once");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    race_domain = mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, i < 2 ? end_contexts : use_contexts, (void *)i);
    pthread_join(threads[2], NULL);
    pthread_join(threads[3], NULL);
    __atomic_store_n(&contexts_end, true, __ATOMIC_RELEASE);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    mp_device_drop_container(SPACE, CONTEXT);
    struct mp_device_site_row total = sums(race_domain, 1);
    CHECK_EQ(total.alloc_blocks, 40000);
    CHECK_EQ(total.freed_blocks, 40000);
    CHECK_EQ(total.freed_bytes, total.alloc_bytes);
    CHECK_EQ(live_rows(), 0);
    close_segment();
}

static void test_fork(void) {
    CASE("a child whose copy was wiped counts nothing");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    uint32_t domain = mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE);
    alloc_block(domain, SPACE, 0x1000, 0, 10, 10);
    pid_t child = fork();
    if (child == 0) {
        memset(&mp_local, 0, sizeof mp_local); /* as MADV_WIPEONFORK does */
        alloc_block(domain, SPACE, 0x2000, 0, 10, 10);
        _exit(free_block(SPACE, 0x1000) || mp_device_retain(SPACE, 0x1000));
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_EQ(sums(domain, 1).alloc_blocks, 1);
    CHECK_EQ(sums(domain, 1).freed_blocks, 0);
    close_segment();
}

/* --- nested driver calls: which one names a block, and which one counts it -------------------- */

/* A driver of two layers: outer_alloc -> inner_alloc; the inner one refuses sizes with bit 0 set. */
static uint32_t scope_domain;
static struct mp_device_taken inner_taken;

static __attribute__((noinline)) bool inner_alloc(uint64_t address, uint64_t size) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)inner_alloc, &caller);
    struct mp_device_block block = {
        .domain = scope_domain, .space = SPACE, .address = address, .asked_bytes = size};
    bool ok = size % 2 == 0;
    if (ok)
        mp_device_scope_alloc(&scope, &block);
    else
        mp_device_scope_refused(&scope, &block);
    mp_device_leave(&scope, ok);
    return ok;
}

static __attribute__((noinline)) bool outer_alloc(uint64_t address, uint64_t size, int more) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)outer_alloc, &caller);
    bool ok =
        inner_alloc(address, size) || (more != 0 && inner_alloc(address, size + (uint64_t)more));
    struct mp_device_block block = {
        .domain = scope_domain, .space = SPACE, .address = address, .asked_bytes = size};
    if (ok)
        mp_device_scope_alloc(&scope, &block);
    CHECK(!mp_device_scope_nested(&scope));
    mp_device_leave(&scope, ok);
    return ok;
}

static __attribute__((noinline)) void inner_free(uint64_t address) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)inner_free, &caller);
    mp_device_scope_take(&scope, SPACE, address, &inner_taken);
    mp_device_leave(&scope, true);
}

static __attribute__((noinline)) void outer_free(uint64_t address) {
    struct mp_device_scope scope;
    struct mp_device_taken taken;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)outer_free, &caller);
    mp_device_scope_take(&scope, SPACE, address, &taken);
    CHECK(taken.found);
    inner_free(address);
    CHECK(!inner_taken.found);
    mp_device_leave(&scope, true);
}

/* Whether frame 0 of some stored stack is `pc`. */
static bool named(uintptr_t pc) {
    struct mp_segment *seg = &mp_local.segment;
    const uint64_t *arena = mp_array_at(seg, MP_ARRAY_STACKS);
    for (uint64_t at = MP_STACK_LOST_MAX; at < seg->control->arena_cursor / 8;) {
        const struct mp_stack *stack = (const struct mp_stack *)(arena + at);
        if (arena[at + sizeof *stack / 8] == pc)
            return true;
        at += sizeof *stack / 8 + stack->depth;
    }
    return false;
}

static jmp_buf escape;

static __attribute__((noinline)) void left_by_longjmp(void) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)left_by_longjmp, &caller);
    longjmp(escape, 1);
}

static void test_scopes(void) {
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    scope_domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    CASE("nested calls count a block once, and the outermost names it");
    CHECK(outer_alloc(0x1000, 100, 0));
    CHECK_EQ(sums(scope_domain, 1).alloc_blocks, 1);
    CHECK(named((uintptr_t)outer_alloc) && !named((uintptr_t)inner_alloc));
    CASE("a refusal followed by success is none; else it counts once, at the outermost call");
    CHECK(outer_alloc(0x2000, 201, 1));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 0);
    CHECK(!outer_alloc(0x3000, 301, 0));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 1);
    CHECK_EQ(sums(scope_domain, 1).failed_bytes, 301);
    CHECK(!inner_alloc(0x3000, 303));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 2);
    CASE("of two refusals in one call the larger counts");
    CHECK(!outer_alloc(0x3000, 1001, 2) && !outer_alloc(0x3000, 3001, -2));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 4);
    CHECK_EQ(sums(scope_domain, 1).failed_bytes, 301 + 303 + 1003 + 3001);
    CASE("nested frees drop one owner");
    mp_device_retain(SPACE, 0x1000);
    outer_free(0x1000);
    CHECK_EQ(sums(scope_domain, 1).freed_blocks, 0);
    outer_free(0x1000);
    CHECK_EQ(sums(scope_domain, 1).freed_blocks, 1);
    CASE("a scope that was left by longjmp is forgotten");
    if (setjmp(escape) == 0)
        left_by_longjmp();
    CHECK(inner_alloc(0x4000, 400));
    CHECK(named((uintptr_t)inner_alloc) && !named((uintptr_t)left_by_longjmp));
    close_segment();
}

int main(void) {
    start_unwinder();
    test_nothing_without_capture();
    test_domains();
    test_sampling();
    test_limits();
    test_no_room();
    test_marks();
    test_reused_addresses();
    test_owners();
    test_containers();
    test_fork();
    test_scopes();
    return check_end();
}
