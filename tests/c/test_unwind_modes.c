/*
 * The modes, the limits, and what a caller may rely on.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "check.h"
#include "unwind/cfi.h"
#include "unwind/unwind.h"
#include "unwind/unwind_cache.h"

#define NOINLINE __attribute__((noinline))
#define AFTER_CALL() __asm__ volatile("" ::: "memory")
#define FRAMES 64

static uintptr_t pcs[FRAMES];
static struct mp_unwind_result result;
static unsigned max = FRAMES;

static NOINLINE void here(void) {
    struct mp_frame frame;
    MP_CALLER(frame);
    memset(pcs, 0, sizeof(pcs));
    unsigned depth = mp_unwind(&frame, pcs, max, &result);
    CHECK_EQ(depth, result.depth);
    AFTER_CALL();
}

static NOINLINE void nested(unsigned depth) {
    if (depth > 0)
        nested(depth - 1);
    else
        here();
    AFTER_CALL();
}

static void *find(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

static void start(enum mp_unwind_mode mode, unsigned limit) {
    struct mp_unwind_config config = {.mode = mode, .depth_limit = limit, .find_symbol = find};
    CHECK(mp_unwind_init(&config) == 0);
}

static void limits(void) {
    CASE("a stack is cut at the limit, and says so");
    start(MP_UNWIND_CFI, 0);
    nested(10);
    unsigned whole = result.depth;
    CHECK(whole > 12 && result.end == MP_UNWIND_OUTERMOST);
    for (unsigned round = 0; round < 3; round++) {
        for (max = 1; max <= whole; max++) {
            nested(10);
            CHECK_EQ(result.depth, max);
            CHECK_EQ(result.end, max == whole ? MP_UNWIND_OUTERMOST : MP_LOST_TRUNCATED);
            CHECK(max == FRAMES || pcs[max] == 0);
        }
    }
    max = 0;
    nested(10);
    CHECK(result.depth == 0 && result.end == MP_LOST_TRUNCATED);
    max = FRAMES;
    start(MP_UNWIND_CFI, 7);
    nested(10);
    CHECK(result.depth == 7 && result.end == MP_LOST_TRUNCATED);
}

static NOINLINE void in_generated(void) {
    nested(2);
    AFTER_CALL();
}

static void *made;

static NOINLINE void call_generated(void) {
    void (*function)(void (*)(void)) = (void (*)(void (*)(void)))(uintptr_t)made;
    function(in_generated);
    AFTER_CALL();
}

static void make_code(void) {
#ifdef __x86_64__
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
#else
    static const unsigned code[] = {0xa9bf7bfd, 0x910003fd, 0xd63f0000, 0xa8c17bfd, 0xd65f03c0};
#endif
    made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made, code, sizeof(code));
    mprotect(made, 4096, PROT_READ | PROT_EXEC);
    __builtin___clear_cache(made, (char *)made + sizeof(code));
}

static void frame_pointers(void) {
    CASE("frame pointers lead through code without tables");
    make_code();
    start(MP_UNWIND_CFI, 0);
    CHECK(strcmp(mp_unwind_name(), "cfi") == 0);
    call_generated();
    unsigned up_to_there = result.depth;
    CHECK_EQ(result.end, MP_LOST_UNWIND_NO_MODULE);
    CHECK(pcs[up_to_there - 1] - (uintptr_t)made < 4096);
    start(MP_UNWIND_FP, 0);
    CHECK(strcmp(mp_unwind_name(), "fp") == 0);
    for (unsigned round = 0; round < 2; round++) {
        call_generated();
        CHECK(result.depth > up_to_there + 2);
        CHECK_EQ(result.end, MP_UNWIND_OUTERMOST);
        CHECK(pcs[up_to_there - 1] - (uintptr_t)made < 4096);
    }
    CASE("frame pointers: code that keeps none does not hide its caller");
    uintptr_t by_fp[FRAMES];
    nested(5);
    unsigned depth = result.depth;
    memcpy(by_fp, pcs, sizeof(pcs));
    start(MP_UNWIND_CFI, 0);
    nested(5);
    CHECK_EQ(result.depth, depth);
    /* the two calls of nested() stand at different places in this function */
    unsigned differing = 0;
    for (unsigned i = 0; i < depth; i++)
        differing += by_fp[i] != pcs[i];
    CHECK_EQ(differing, 1);
}

static void *find_nothing(const char *name) {
    (void)name;
    return NULL;
}

static void libgcc(void) {
    CASE("libgcc");
    struct mp_unwind_config config = {.mode = MP_UNWIND_LIBGCC, .find_symbol = find_nothing};
    start(MP_UNWIND_CFI, 0);
    CHECK_EQ(mp_unwind_init(&config), -ENOENT);
    config.find_symbol = NULL;
    CHECK_EQ(mp_unwind_init(&config), -ENOENT);
    CHECK(strcmp(mp_unwind_name(), "cfi") == 0);
    config.mode = (enum mp_unwind_mode)9;
    CHECK_EQ(mp_unwind_init(&config), -EINVAL);
    nested(6);
    unsigned depth = result.depth;
    config = (struct mp_unwind_config){.mode = MP_UNWIND_LIBGCC, .find_symbol = find};
    CHECK(dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_GLOBAL) != NULL);
    CHECK_EQ(mp_unwind_init(&config), 0);
    CHECK(strcmp(mp_unwind_name(), "libgcc") == 0);
    nested(6);
    CHECK_EQ(result.depth, depth);
    CHECK_EQ(result.end, MP_UNWIND_OUTERMOST);
    max = 3;
    nested(6);
    CHECK(result.depth == 3 && result.end == MP_LOST_TRUNCATED);
    max = FRAMES;
}

static NOINLINE void middle(size_t bytes) {
    volatile char *p = alloca(bytes);
    p[0] = 1;
    here();
    CHECK(p[0] == 1);
}

static NOINLINE void outer_a(size_t above, size_t below) {
    volatile char *p = alloca(above);
    p[0] = 1;
    middle(below);
    CHECK(p[0] == 1);
}

static NOINLINE void outer_b(size_t above, size_t below) {
    volatile char *p = alloca(above);
    p[0] = 2;
    middle(below);
    CHECK(p[0] == 2);
}

static void stale_frames(void) {
    CASE("a frame of before that still lies in memory is not taken for the present one");
    static const struct {
        void (*outer)(size_t, size_t);
        size_t above, below;
        bool flush;
    } calls[] = {
        /* recorded, compared, recorded with all rules known, compared */
        {outer_a, 64, 2048, true},
        {outer_a, 64, 2048, false},
        {outer_a, 64, 2048, false},
        {outer_a, 64, 2048, false},
        /* the same stack pointer at the innermost frame; the old frame of middle() above it */
        {outer_b, 2048, 64, false},
        {outer_b, 2048, 64, true},
    };
    uintptr_t before[FRAMES];
    start(MP_UNWIND_CFI, 0);
    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        memcpy(before, pcs, sizeof(pcs));
        if (calls[i].flush)
            mp_unwind_flush();
        calls[i].outer(calls[i].above, calls[i].below);
        CHECK(result.end == MP_UNWIND_OUTERMOST && result.depth > 4);
        if (i == 1 || i == 2 || i == 3 || i == 5)
            CHECK(memcmp(before, pcs, sizeof(pcs)) == 0);
    }
}

static void vdso(void) {
    CASE("the vdso has rules like any module");
    uintptr_t start_of_vdso = getauxval(AT_SYSINFO_EHDR);
    struct mp_module module;
    struct mp_cfi_image image;
    if (start_of_vdso == 0)
        return;
    CHECK(mp_module_find(start_of_vdso, &module) && module.permanent);
    CHECK(module.start == start_of_vdso && module.eh_frame_hdr != NULL);
    struct mp_cfi_place place = {.start = module.start, .end = module.end, .bias = module.bias};
    place.phdr = mp_module_headers(&module, &place.phdrs);
    CHECK(mp_cfi_image(&place, module.eh_frame_hdr, &image) == 0);
    CHECK(mp_cfi_count(&image) > 0);
}

static void cache(void) {
    CASE("an entry names one address of one epoch");
    uint32_t sequence = mp_cache_sequence();
    uint64_t epoch = mp_cache_epoch(sequence);
    mp_cache_store(0x1000, MP_RULE_END, sequence, true);
    CHECK_EQ(mp_cache_find(0x1000, epoch), MP_RULE_END);
    CHECK(!mp_cache_hit(mp_cache_find(0x1001, epoch)));
    unsigned hits = 0;
    for (uintptr_t pc = 0x7f0000000000; pc < 0x7f0000000000 + (1 << 20); pc++)
        hits += mp_cache_hit(mp_cache_find(pc, epoch));
    CHECK_EQ(hits, 0);
    mp_cache_flush();
    CHECK(!mp_cache_hit(mp_cache_find(0x1000, mp_cache_epoch(mp_cache_sequence()))));
    mp_cache_store(0x1000, MP_RULE_END, sequence, true); /* derived before the flush */
    for (unsigned i = 0; i < 200; i++) {
        CHECK(!mp_cache_hit(mp_cache_find(0x1000, mp_cache_epoch(mp_cache_sequence()))));
        mp_cache_flush();
    }
    CASE("nothing is remembered of a module that may be going");
    mp_cache_close_begin();
    sequence = mp_cache_sequence();
    mp_cache_store(0x2000, MP_RULE_END, sequence, false);
    mp_cache_store(0x3000, MP_RULE_END, sequence, true);
    CHECK(!mp_cache_hit(mp_cache_find(0x2000, mp_cache_epoch(sequence))));
    CHECK(mp_cache_hit(mp_cache_find(0x3000, mp_cache_epoch(sequence))));
    mp_cache_close_end();
}

int main(void) {
    limits();
    frame_pointers();
    libgcc();
    stale_frames();
    vdso();
    cache();
    return check_end();
}
