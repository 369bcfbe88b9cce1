/*
 * Frame records: where unwind tables end, frame pointers lead on, and only to what may be a frame.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "check.h"
#include "made_code.h"
#include "unwind/unwind.h"
#include "unwind/unwind_cache.h"
#include "unwind/unwind_code.h"

#define NOINLINE __attribute__((noinline))
#define AFTER_CALL() __asm__ volatile("" ::: "memory")
#define FRAMES 64
#ifdef __x86_64__
#define MP_TEST_LEAPS 1
#else
#define MP_TEST_LEAPS 0 /* there each step by a record is a call */
#endif
#define WORDS 64
#define NOISE_PAGES 3
#define NOISE_ROUNDS 40000

static uintptr_t pcs[FRAMES];
static struct mp_unwind_result result;
static struct mp_unwind_trace trace;
static made_function *small, *large;
static bool probing = true;

static bool may_probe(void) {
    return probing;
}

static void start(enum mp_unwind_mode mode) {
    struct mp_unwind_config config = {.mode = mode, .may_probe = may_probe};
    CHECK_EQ(mp_unwind_init(&config), 0);
    mp_unwind_flush();
}

static NOINLINE void here(uintptr_t unused) {
    struct mp_frame frame;
    MP_CALLER(frame);
    (void)unused;
    memset(pcs, 0, sizeof(pcs));
    errno = 77;
    mp_unwind_traced(&frame, pcs, FRAMES, &result, &trace);
    CHECK_EQ(errno, 77);
    AFTER_CALL();
}

/* --- through code without tables --- */

static NOINLINE void middle(uintptr_t deeper);

static NOINLINE void plain(uintptr_t deeper) {
    volatile char local[200];
    local[0] = 1;
    middle(deeper);
    CHECK(local[0] == 1);
}

static NOINLINE void middle(uintptr_t deeper) {
    if (deeper == 0)
        here(0);
    else
        (deeper % 2 ? small : large)(deeper - 1, plain);
    AFTER_CALL();
}

/* Where the loader put the program decides it; the rule of one of them is then derived at each step. */
static bool two_share_an_entry(void) {
    for (unsigned i = 0; i < result.depth; i++)
        for (unsigned j = 0; j < i; j++)
            if (pcs[i] != pcs[j] &&
                mp_cache_slot(mp_cache_hash(pcs[i])) == mp_cache_slot(mp_cache_hash(pcs[j])))
                return true;
    return false;
}

static void through(void) {
    CASE("records lead through made code and back into tables");
    uintptr_t first[FRAMES];
    start(MP_UNWIND_FP);
    for (unsigned round = 0; round < 6; round++) {
        if (round == 3)
            mp_unwind_flush();
        middle(6);
        CHECK_EQ(result.end, MP_UNWIND_OUTERMOST);
        unsigned made = 0;
        for (unsigned i = 0; i < result.depth; i++) {
            bool is_small = is_made_by(pcs[i], small), is_large = is_made_by(pcs[i], large);
            CHECK(!is_small || made % 2 == 0);
            CHECK(!is_large || made % 2 == 1);
            made += is_small + is_large;
        }
        CHECK_EQ(made, 6);
        CHECK(result.depth >= 3 * 6 + 2);
        if (round == 0)
            memcpy(first, pcs, sizeof(first));
        /* from here on each step is a leap, which the next stack can be compared with */
        if (MP_TEST_LEAPS && round >= 1 && round != 3 && !two_share_an_entry())
            CHECK(trace.complete);
        CHECK(memcmp(first, pcs, 3 * 6 * sizeof(pcs[0])) == 0);
    }
    CASE("without frame pointers the stack ends at the first made code");
    start(MP_UNWIND_CFI);
    middle(6);
    CHECK_EQ(result.end, MP_LOST_UNWIND_NO_MODULE);
    CHECK(is_made_by(pcs[result.depth - 1], small) && result.depth <= 3);
}

/* --- records that are none --- */

struct forged {
    uintptr_t word[WORDS];
    struct mp_frame frame;
};

static int some_data;

static unsigned unwind_forged(struct forged *f) {
    memset(pcs, 0, sizeof(pcs));
    return mp_unwind(&f->frame, pcs, FRAMES, &result);
}

static uintptr_t in_code(made_function *made) {
    return (uintptr_t)made + 8;
}

static NOINLINE void expect_end(uintptr_t saved, uintptr_t pc, unsigned depth, uint8_t end) {
    struct forged f;
    memset(&f, 0, sizeof(f));
    f.frame = (struct mp_frame){in_code(small), (uintptr_t)f.word, (uintptr_t)&f.word[4]};
    f.word[4] = saved == 1 ? (uintptr_t)&f.word[8] : saved;
    f.word[5] = pc == 1 ? (uintptr_t)&f.word[9] : pc;
    CHECK_EQ(unwind_forged(&f), depth);
    CHECK_EQ(result.end, end);
}

static NOINLINE void expect_refused(uintptr_t fp_offset) {
    struct forged f;
    memset(&f, 0, sizeof(f));
    for (unsigned i = 0; i < WORDS; i++)
        f.word[i] = in_code(small);
    f.frame =
        (struct mp_frame){in_code(small), (uintptr_t)&f.word[8], (uintptr_t)f.word + fp_offset};
    CHECK_EQ(unwind_forged(&f), 1);
    CHECK_EQ(result.end, MP_LOST_UNWIND_NO_MODULE);
}

static void forged_records(void) {
    made_function *other = make_function(32), *third = make_function(32);
    uintptr_t heap = (uintptr_t)sbrk(64);
    CASE("a record leads to code, or nowhere");
    start(MP_UNWIND_FP);
    expect_end(1, (uintptr_t)&some_data, 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(1, (uintptr_t)here, 1, MP_LOST_UNWIND_NO_MODULE); /* no call is before it */
    expect_end(1, 1, 1, MP_LOST_UNWIND_NO_MODULE); /* the stack itself */
    expect_end(1, 4096, 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(1, (uintptr_t)1 << 60 | 4096, 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(12345, in_code(other), 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(1, heap + 8, 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(1, in_code(other), 2, MP_UNWIND_OUTERMOST);
    CASE("zeros mark the outermost frame where a record had them");
    expect_end(0, 0, 1, MP_UNWIND_OUTERMOST);
    expect_end(12345, 0, 1, MP_LOST_UNWIND_NO_MODULE);
    expect_end(0, in_code(third), 2, MP_UNWIND_OUTERMOST);
    expect_end(0, in_code(third), 2, MP_UNWIND_OUTERMOST); /* the same from the cache */
    CASE("a frame pointer that does not point up the stack is not followed");
    expect_refused(0);
    expect_refused(8 * 9 + 4);
    expect_refused((uintptr_t)1 << 40);
    expect_refused(UINTPTR_MAX - 8 - (uintptr_t)0);
    struct forged f = {.frame = {in_code(small), 0, 0}};
    f.frame.sp = (uintptr_t)f.word;
    CHECK_EQ(unwind_forged(&f), 1); /* 0, but no record had it */
    CHECK_EQ(result.end, MP_LOST_UNWIND_NO_MODULE);
}

static void stray_words(void) {
    CASE("a return address that is no code is no frame");
    struct forged f;
    uintptr_t code[2];
    start(MP_UNWIND_FP);
    plain(0);
    memcpy(code, pcs, sizeof(code)); /* in middle() and plain() */
    for (unsigned mode = 0; mode < 2; mode++) {
        start(mode == 0 ? MP_UNWIND_FP : MP_UNWIND_CFI);
        for (unsigned i = 0; i < WORDS; i++)
            f.word[i] = (uintptr_t)&some_data;
        f.frame = (struct mp_frame){code[1], (uintptr_t)f.word, (uintptr_t)&f.word[32]};
        CHECK_EQ(unwind_forged(&f), 1);
        CHECK_EQ(result.end, MP_LOST_UNWIND_NO_RULE);
        for (unsigned i = 0; i < WORDS; i++)
            f.word[i] = (uintptr_t)f.word + 8;
        CHECK_EQ(unwind_forged(&f), 1);
        CHECK_EQ(result.end, MP_LOST_UNWIND_NO_MODULE);
    }
}

/* --- other stacks --- */

/* switch_stack(argument, callee, top): calls it there. No .cfi_ lines: no tables. */
void switch_stack(uintptr_t argument, void (*callee)(uintptr_t), char *top);
#ifdef __x86_64__
__asm__(".text\n.globl switch_stack\n.type switch_stack, @function\nswitch_stack:\n"
        "push %rbp\nmov %rsp, %rbp\nmov %rdx, %rsp\ncall *%rsi\n"
        "mov %rbp, %rsp\npop %rbp\nret\n.size switch_stack, . - switch_stack\n");
#else
__asm__(".text\n.globl switch_stack\n.type switch_stack, %function\nswitch_stack:\n"
        "stp x29, x30, [sp, #-16]!\nmov x29, sp\nmov sp, x2\nblr x1\n"
        "mov sp, x29\nldp x29, x30, [sp], #16\nret\n.size switch_stack, . - switch_stack\n");
#endif

static char *other_top;

static NOINLINE void go_on(uintptr_t deeper) {
    if (deeper == 0)
        here(0);
    else
        switch_stack(deeper - 1, go_on, other_top - 65536 * deeper);
    AFTER_CALL();
}

static bool can_copy(void) {
    uintptr_t from = 5, to = 0;
    struct iovec there = {&from, sizeof(from)}, local = {&to, sizeof(to)};
    return syscall(SYS_process_vm_readv, (long)getpid(), &local, 1L, &there, 1L, 0L) == 8;
}

static void other_stacks(void) {
    CASE("a stack that assembly switched to is followed to where it was entered");
    size_t bytes = 1 << 20;
    char *stacks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    other_top = stacks + bytes;
    start(MP_UNWIND_FP);
    for (unsigned round = 0; round < 3 && can_copy(); round++) {
        go_on(3);
        CHECK_EQ(result.end, MP_UNWIND_OUTERMOST);
        unsigned switched = 0;
        for (unsigned i = 0; i < result.depth; i++)
            switched += pcs[i] - (uintptr_t)switch_stack < 32;
        CHECK_EQ(switched, 3);
    }
    CASE("and ends there where no system call is allowed");
    probing = false;
    go_on(1);
    CHECK(result.end != MP_UNWIND_OUTERMOST && result.depth <= 2);
    probing = true;
    CASE("a frame pointer to nowhere is not followed to another stack");
    struct forged f = {.frame = {(uintptr_t)switch_stack + 8, 0, 0}};
    f.frame.sp = (uintptr_t)f.word;
    munmap(stacks, bytes);
    const uintptr_t nowhere[] = {(uintptr_t)other_top - 64, 64, (uintptr_t)1 << 62, 3};
    for (unsigned i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        f.frame.fp = nowhere[i];
        CHECK_EQ(unwind_forged(&f), 1);
        CHECK_EQ(result.end, MP_LOST_UNWIND_NO_RULE);
    }
}

/* --- noise --- */

static uint64_t state = 1;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uintptr_t noisy_word(char *stack, size_t bytes) {
    switch (draw() % 8) {
    case 0:
    case 1:
        return (uintptr_t)stack + draw() % bytes / 8 * 8;
    case 2:
        return in_code(draw() % 2 ? small : large);
    case 3:
        return (uintptr_t)here + draw() % 64;
    case 4:
        return (uintptr_t)switch_stack + draw() % 16;
    case 5:
        return (uintptr_t)&some_data + draw() % 64;
    case 6:
        return draw() % 2 ? 0 : (uintptr_t)stack + bytes + draw() % 64;
    default:
        return (uintptr_t)draw();
    }
}

static bool may_be_code(uintptr_t pc) {
    struct mp_module module;
    return !mp_module_find(pc - 1, &module) || mp_code_in_module(&module, pc - 1);
}

static void noise(void) {
    CASE("a stack of noise between pages that nobody may read");
    size_t page = 4096, bytes = NOISE_PAGES * page;
    char *whole = mmap(NULL, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *stack = whole + page;
    mprotect(stack, bytes, PROT_READ | PROT_WRITE);
    start(MP_UNWIND_FP);
    unsigned deep = 0;
    for (unsigned round = 0; round < NOISE_ROUNDS; round++) {
        uintptr_t *word = (uintptr_t *)(stack + draw() % NOISE_PAGES * page);
        for (unsigned i = 0; i < 512; i++)
            if (draw() % 4 == 0)
                word[i] = noisy_word(stack, bytes);
        for (unsigned i = 0; i + 16 < 512; i += 1 + draw() % 8) { /* a record that may pass */
            word[i] = (uintptr_t)&word[i + 2 + draw() % 14];
            word[i + 1] = in_code(draw() % 2 ? small : large);
        }
        struct mp_frame frame = {.pc = draw() % 2 ? in_code(small) : (uintptr_t)switch_stack + 8,
                                 .sp = (uintptr_t)stack + 8 + draw() % (bytes - 8) / 8 * 8,
                                 .fp = noisy_word(stack, bytes)};
        probing = draw() % 8 != 0;
        if (draw() % 64 == 0)
            mp_unwind_flush();
        unsigned depth = mp_unwind_traced(&frame, pcs, FRAMES, &result, &trace);
        CHECK(depth >= 1 && depth <= FRAMES);
        deep += depth > 2;
        for (unsigned i = 1; i < depth; i++)
            CHECK(may_be_code(pcs[i]));
    }
    CHECK(deep > NOISE_ROUNDS / 100);
    probing = true;
    munmap(whole, bytes + 2 * page);
}

/* --- a library over made code --- */

static void overlaid(void) {
    CASE("a module that lies over kept addresses is noticed once, and again after an unloading");
    uintptr_t at = (uintptr_t)small;
    struct mp_module module = {.start = at - 4096, .end = at + 65536};
    struct mp_module apart = {.start = (uintptr_t)1 << 46, .end = ((uintptr_t)1 << 46) + 4096};
    start(MP_UNWIND_FP);
    middle(2); /* keeps addresses of made code */
    CHECK(mp_code_is_overlaid(&module));
    CHECK(!mp_code_is_overlaid(&module));
    CHECK(!mp_code_is_overlaid(&apart));
    mp_unwind_flush();
    CHECK(mp_code_is_overlaid(&module));
    module.permanent = true;
    mp_unwind_flush();
    CHECK(!mp_code_is_overlaid(&module));
    CASE("more modules than there is room for are taken for known");
    module.permanent = false;
    unsigned noticed = 0;
    for (unsigned i = 0; i < 2000; i++) {
        module.start = at - 4096 * (uintptr_t)(i + 1);
        noticed += mp_code_is_overlaid(&module);
    }
    CHECK(noticed >= 100 && noticed <= 256);
}

int main(void) {
    small = make_function(0);
    large = make_function(96);
    through();
    forged_records();
    stray_words();
    other_stacks();
    overlaid();
    noise();
    return check_end();
}
