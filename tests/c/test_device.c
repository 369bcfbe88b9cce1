/*
 * test_device.c - device memory in the segment, without a driver.
 *
 *   test_device          the cases of this file
 *   test_device script   operations from stdin, answers on stdout: see script()
 */
#include "check.h"
#include "device.h"
#include "device_scope.h"
#include "local.h"
#include "sites.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_BYTES (64ULL << 20)
#define SPACE MP_SPACE_CUDA_POINTER

static void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

static void begin_capture(uint32_t number, uint64_t rate_bytes) {
    struct mp_control *c = mp_local.segment.control;
    struct mp_capture *slot = &c->capture[number & 1];
    slot->number = number;
    slot->deadline_ns = UINT64_MAX;
    for (unsigned i = 0; i < MP_BUCKETS; i++)
        slot->bucket_end_ns[i] = UINT64_MAX;
    c->device_rate_bytes[number & 1] = rate_bytes;
    mp_store_release(&c->capture_number, number);
    mp_store_release(&c->gate, (int64_t)number << MP_GATE_SHIFT);
}

static void end_capture(void) {
    mp_store_release(&mp_local.segment.control->gate, MP_GATE_OFF);
}

/* `fd` -1: in memory only. */
static void open_segment_in(int fd, uint64_t limit_bytes) {
    void *base = mmap(NULL, limit_bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    struct mp_control *control = base;
    control->magic = MP_SEGMENT_MAGIC;
    control->version = MP_SEGMENT_VERSION;
    control->header_bytes = sizeof *control;
    control->limit_bytes = limit_bytes;
    control->page_bytes = 4096;
    control->gate = MP_GATE_OFF;
    mp_segment_layout(control);
    mp_segment_attach(&mp_local.segment, base);
    CHECK_EQ(mp_segment_reserve_first(&mp_local.segment, -1), 0);
    mp_local.seed = 12345;
    mp_local.gate_offset = (const char *)&control->gate - (const char *)&mp_gate_off;
}

static void open_segment(uint64_t limit_bytes) {
    open_segment_in(-1, limit_bytes);
}

static void open_segment_file(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, MP_LIMIT_MIN_BYTES) == 0);
    open_segment_in(fd, MP_LIMIT_MIN_BYTES);
    close(fd);
}

static void close_segment(void) {
    munmap(mp_local.segment.base, mp_local.segment.control->limit_bytes);
    mp_local.segment = (struct mp_segment){0};
    mp_local.gate_offset = 0;
}

/* Sums of a domain's sites in one capture; domain 0: of all. */
static struct mp_device_site_row sums(uint32_t domain, uint32_t capture) {
    struct mp_segment *seg = &mp_local.segment;
    struct mp_device_site_row total = {0};
    uint32_t ready = mp_table_ready(&seg->layout.device_sites, &seg->control->device_sites);
    for (uint32_t i = 0; i <= ready; i++) {
        const struct mp_level *level =
            i < ready ? &seg->layout.device_sites.level[i] : &seg->layout.device_lost_sites;
        if (i == ready && seg->control->device_lost_sites.reserved_bytes == 0)
            break;
        for (uint32_t row = 0; row < level->rows; row++) {
            uint64_t key = mp_load_acquire(&mp_level_keys(seg, level)[row]);
            const struct mp_device_site_row *site = mp_level_row(seg, level, row);
            if (key == 0 || mp_key_capture(key) != capture ||
                (domain != 0 && ((key >> MP_KEY_DOMAIN_SHIFT) & 63) != domain))
                continue;
            total.alloc_blocks += site->alloc_blocks;
            total.alloc_bytes += site->alloc_bytes;
            total.alloc_taken_bytes += site->alloc_taken_bytes;
            total.freed_blocks += site->freed_blocks;
            total.freed_bytes += site->freed_bytes;
            total.freed_taken_bytes += site->freed_taken_bytes;
            total.failed_blocks += site->failed_blocks;
            total.failed_bytes += site->failed_bytes;
            total.births[0] += site->births[0];
        }
    }
    return total;
}

static uint64_t live_rows(void) {
    struct mp_segment *seg = &mp_local.segment;
    uint64_t live = 0;
    for (uint32_t i = 0; i < mp_table_ready(&seg->layout.device_live, &seg->control->device_live);
         i++) {
        const struct mp_level *level = &seg->layout.device_live.level[i];
        for (uint32_t row = 0; row < level->rows; row++) {
            const struct mp_device_live_row *block = mp_level_row(seg, level, row);
            live += mp_level_keys(seg, level)[row] != 0 && (uint32_t)block->state != 0;
        }
    }
    return live;
}

static __attribute__((noinline)) void alloc_block(uint32_t domain, uint32_t space, uint64_t address,
                                                  uint64_t container, uint64_t asked,
                                                  uint64_t taken) {
    struct mp_device_block block = {.domain = domain,
                                    .space = space,
                                    .address = address,
                                    .container = container,
                                    .asked_bytes = asked,
                                    .taken_bytes = taken,
                                    .api_pc = (uintptr_t)alloc_block};
    MP_CALLER(block.caller);
    mp_device_alloc(&block);
}

static __attribute__((noinline)) void fail_block(uint32_t domain, uint64_t asked) {
    struct mp_device_block block = {
        .domain = domain, .asked_bytes = asked, .api_pc = (uintptr_t)fail_block};
    MP_CALLER(block.caller);
    mp_device_fail(&block);
}

static bool free_block(uint32_t space, uint64_t address) {
    struct mp_device_taken taken;
    mp_device_take(space, address, &taken);
    return taken.found;
}

static void test_nothing_without_capture(void) {
    CASE("without a capture nothing is written, and no domain exists");
    open_segment(LIMIT_BYTES);
    CHECK_EQ(mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE), MP_DOMAIN_NONE);
    alloc_block(1, SPACE, 0x1000, 0, 10, 10);
    CHECK(!free_block(SPACE, 0x1000));
    CHECK_EQ(mp_local.segment.control->domains_reserved_bytes, 0);
    close_segment();
    CASE("nor without a segment");
    CHECK_EQ(mp_domain_intern("cuda", 0, MP_MEMORY_DEVICE), MP_DOMAIN_NONE);
    alloc_block(1, SPACE, 0x1000, 0, 10, 10);
    CHECK(!free_block(SPACE, 0x1000));
    mp_mark_add(MP_MARK_POINT, 1, "", "x");
}

static const char *name_of(uint32_t domain) {
    struct mp_segment *seg = &mp_local.segment;
    return ((struct mp_domain *)(seg->base + seg->layout.domains_offset))[domain].name;
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
    CASE("actual and reserved bytes");
    CHECK(mp_device_actual_due(cuda0) && !mp_device_actual_due(cuda0));
    mp_device_actual(cuda0, 70, 100);
    mp_device_reserved(pool, 50);
    mp_device_reserved(pool, -20);
    struct mp_segment *seg = &mp_local.segment;
    const struct mp_domain *rows = (struct mp_domain *)(seg->base + seg->layout.domains_offset);
    CHECK_EQ(rows[cuda0].actual_used_bytes, 70);
    CHECK_EQ(rows[cuda0].actual_total_bytes, 100);
    CHECK_EQ(rows[pool].reserved_bytes, 30);
    CHECK_EQ(rows[pool].reserved_peak_bytes, 50);
    close_segment();
}

static void test_captures(void) {
    CASE("a free after the stop counts, one after the next start does not");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    uint32_t domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    alloc_block(domain, SPACE, 0x1000, 0, 10, 16);
    alloc_block(domain, SPACE, 0x2000, 0, 20, 32);
    end_capture();
    alloc_block(domain, SPACE, 0x3000, 0, 40, 64);
    CHECK(free_block(SPACE, 0x1000));
    CHECK(!free_block(SPACE, 0x3000));
    struct mp_device_site_row total = sums(domain, 1);
    CHECK_EQ(total.alloc_bytes - total.freed_bytes, 20);
    CHECK_EQ(total.alloc_taken_bytes - total.freed_taken_bytes, 32);
    begin_capture(2, 1);
    CHECK(free_block(SPACE, 0x2000));
    CHECK_EQ(sums(domain, 1).freed_blocks, 1);
    CHECK_EQ(sums(domain, 2).freed_blocks, 0);
    CASE("an address that comes again without a free closes its earlier block");
    alloc_block(domain, SPACE, 0x1000, 0, 10, 16);
    mp_device_retain(SPACE, 0x1000);
    alloc_block(domain, SPACE, 0x1000, 0, 12, 16);
    total = sums(domain, 2);
    CHECK_EQ(total.alloc_blocks, 2);
    CHECK_EQ(total.freed_bytes, 10);
    CHECK_EQ(live_rows(), 1);
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
    open_segment(MP_LIMIT_MIN_BYTES);
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
    uint32_t rows = mp_local.segment.layout.mark_rows;
    for (uint32_t i = 0; i < rows + 3; i++)
        mp_mark_add(MP_MARK_BEGIN, i, "domain", text);
    const struct mp_mark *ring =
        (struct mp_mark *)(mp_local.segment.base + mp_local.segment.layout.marks_offset);
    CHECK_EQ(mp_local.segment.control->mark_count, rows + 3);
    CHECK_EQ(ring[2].sequence, rows + 3);
    CHECK_EQ(ring[2].id, rows + 2);
    CHECK_EQ(ring[3].id, 3);
    CHECK_EQ(strlen(ring[2].text), MP_MARK_TEXT_BYTES - 1);
    CHECK(strcmp(ring[2].domain, "domain") == 0 && ring[2].kind == MP_MARK_BEGIN);
    mp_mark_add(MP_MARK_POINT, 1, NULL, NULL);
    close_segment();
}

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

static __attribute__((noinline)) bool outer_alloc(uint64_t address, uint64_t size, bool retry) {
    struct mp_device_scope scope;
    struct mp_frame caller;
    MP_CALLER(caller);
    mp_device_enter(&scope, MP_FAMILY_HAL, (uintptr_t)outer_alloc, &caller);
    bool ok = inner_alloc(address, size) || (retry && inner_alloc(address, size + 1));
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
    const uint64_t *arena = (const uint64_t *)(seg->base + seg->layout.arena_offset);
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
    CHECK(outer_alloc(0x1000, 100, false));
    CHECK_EQ(sums(scope_domain, 1).alloc_blocks, 1);
    CHECK(named((uintptr_t)outer_alloc) && !named((uintptr_t)inner_alloc));
    CASE("a refusal followed by success is none; else it counts once, at the outermost call");
    CHECK(outer_alloc(0x2000, 201, true));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 0);
    CHECK(!outer_alloc(0x3000, 301, false));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 1);
    CHECK_EQ(sums(scope_domain, 1).failed_bytes, 301);
    CHECK(!inner_alloc(0x3000, 303));
    CHECK_EQ(sums(scope_domain, 1).failed_blocks, 2);
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
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, race, (void *)i);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
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
    pthread_t threads[4];
    for (unsigned i = 1; i < 4; i++)
        mp_device_retain(MP_SPACE_CUDA_HANDLE, 7);
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, share, NULL);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(sums(domain, 1).freed_blocks, 1);
    CHECK_EQ(live_rows(), 0);
    CHECK(!mp_device_retain(MP_SPACE_CUDA_HANDLE, 7));
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

#define TAKEN_MAX 64

/*
 * One operation a line: alloc D S A C ASKED TAKEN | fail D ASKED | take S A | put N | retain S A | drop S C |
 * start N | stop | mark ID | actual D USED TOTAL | sums D N | live | new PATH. Each is answered by one line of
 * numbers.
 */
static void script(void) {
    static struct mp_device_taken taken[TAKEN_MAX];
    unsigned n_taken = 0;
    char line[512], word[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a[6] = {0};
        int n = sscanf(line, "%15s %llu %llu %llu %llu %llu %llu", word, &a[0], &a[1], &a[2], &a[3],
                       &a[4], &a[5]);
        uint64_t answer = 0;
        bool of_domain = strcmp(word, "alloc") == 0 || strcmp(word, "fail") == 0 ||
                         strcmp(word, "actual") == 0 || strcmp(word, "sums") == 0;
        uint32_t domain =
            of_domain && n > 1 ? mp_domain_intern("hal", (int)a[0], MP_MEMORY_DEVICE) : 0;
        if (strcmp(word, "new") == 0) {
            if (mp_local.segment.base != NULL)
                close_segment();
            line[strcspn(line, "\n")] = '\0';
            open_segment_file(line + strlen("new "));
            n_taken = 0;
        } else if (strcmp(word, "mark") == 0) {
            mp_mark_add(MP_MARK_BEGIN, a[0], "test", "a mark");
        } else if (strcmp(word, "actual") == 0) {
            mp_device_actual(domain, a[1], a[2]);
        } else if (strcmp(word, "start") == 0) {
            begin_capture((uint32_t)a[0], 1);
        } else if (strcmp(word, "stop") == 0) {
            end_capture();
        } else if (strcmp(word, "alloc") == 0) {
            alloc_block(domain, (uint32_t)a[1], a[2], a[3], a[4], a[5]);
        } else if (strcmp(word, "fail") == 0) {
            fail_block(domain, a[1]);
        } else if (strcmp(word, "take") == 0) {
            mp_device_take((uint32_t)a[0], a[1], &taken[n_taken % TAKEN_MAX]);
            answer = taken[n_taken++ % TAKEN_MAX].found;
        } else if (strcmp(word, "put") == 0) {
            mp_device_put_back(&taken[a[0] % TAKEN_MAX]);
        } else if (strcmp(word, "retain") == 0) {
            answer = mp_device_retain((uint32_t)a[0], a[1]);
        } else if (strcmp(word, "drop") == 0) {
            answer = mp_device_drop_container((uint32_t)a[0], a[1]);
        } else if (strcmp(word, "live") == 0) {
            answer = live_rows();
        } else if (strcmp(word, "sums") == 0) {
            struct mp_device_site_row s = sums(domain, (uint32_t)a[1]);
            printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                   " %" PRIu64 " ",
                   s.alloc_blocks, s.alloc_bytes, s.alloc_taken_bytes, s.freed_blocks,
                   s.freed_bytes, s.freed_taken_bytes, s.failed_blocks);
            answer = s.failed_bytes;
        }
        printf("%" PRIu64 "\n", answer);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_CFI, .find_symbol = find_symbol};
    CHECK_EQ(mp_unwind_init(&config), 0);
    if (argc > 1 && strcmp(argv[1], "script") == 0) {
        script();
        return 0;
    }
    test_nothing_without_capture();
    test_domains();
    test_captures();
    test_sampling();
    test_limits();
    test_no_room();
    test_marks();
    test_scopes();
    test_reused_addresses();
    test_owners();
    test_fork();
    return check_end();
}
