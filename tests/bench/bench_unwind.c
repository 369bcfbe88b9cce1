/*
 * bench_unwind.c - nanoseconds per frame of the unwinder and of the ones it is compared with.
 *
 * Prints one line per measurement, `name ns_per_frame`, where name is unwinder.frames.depth:
 *   cfi_hit             ours, the stack being the one the thread had before
 *   cfi_rules           ours, every rule in the cache but no stack remembered
 *   cfi_miss            ours, all rules forgotten before each stack
 *   fp_walk             a bare walk over frame records (only right where frame pointers are kept)
 *   libunwind           unw_backtrace;  libgcc  _Unwind_Backtrace
 *   nofp / fp           code compiled without and with frame pointers
 *   made                code made at run time: no tables, frame pointers (x86_64)
 * The variants take turns in each round; the median of the rounds is printed.
 *
 * Build: gcc -O2 -D_GNU_SOURCE tests/bench/bench_unwind.c sampler/unwind/*.c -lunwind
 * -DNO_LIBUNWIND leaves libunwind out.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unwind.h>
#ifndef NO_LIBUNWIND
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#endif

#include "unwind/unwind.h"
#include "unwind/unwind_memo.h"

#define ROUNDS 9
#define FRAMES_MAX 160
#define NOINLINE __attribute__((noinline))

typedef void measure_function(void);
static measure_function *at_the_bottom;
static volatile int sink;

/* 100 functions with different frames, twice; chain_*_<i> calls the one below it. */
#define FRAME(kind, attribute, i, below)                                                           \
    attribute NOINLINE static void kind##_##i(void) {                                              \
        volatile char local[16 + (i % 7) * 24];                                                    \
        local[0] = (char)i;                                                                        \
        below();                                                                                   \
        sink += local[0];                                                                          \
    }
#define TEN(kind, attribute, t, below)                                                             \
    FRAME(kind, attribute, t##0, below)                                                            \
    FRAME(kind, attribute, t##1, kind##_##t##0)                                                    \
    FRAME(kind, attribute, t##2, kind##_##t##1)                                                    \
    FRAME(kind, attribute, t##3, kind##_##t##2)                                                    \
    FRAME(kind, attribute, t##4, kind##_##t##3)                                                    \
    FRAME(kind, attribute, t##5, kind##_##t##4)                                                    \
    FRAME(kind, attribute, t##6, kind##_##t##5)                                                    \
    FRAME(kind, attribute, t##7, kind##_##t##6)                                                    \
    FRAME(kind, attribute, t##8, kind##_##t##7)                                                    \
    FRAME(kind, attribute, t##9, kind##_##t##8)
#define HUNDRED(kind, attribute)                                                                   \
    static NOINLINE attribute void kind##_bottom(void) {                                           \
        at_the_bottom();                                                                           \
        sink++;                                                                                    \
    }                                                                                              \
    TEN(kind, attribute, 1, kind##_bottom)                                                         \
    TEN(kind, attribute, 2, kind##_19)                                                             \
    TEN(kind, attribute, 3, kind##_29)                                                             \
    TEN(kind, attribute, 4, kind##_39)                                                             \
    TEN(kind, attribute, 5, kind##_49)                                                             \
    TEN(kind, attribute, 6, kind##_59)                                                             \
    TEN(kind, attribute, 7, kind##_69)                                                             \
    TEN(kind, attribute, 8, kind##_79)                                                             \
    TEN(kind, attribute, 9, kind##_89)

HUNDRED(nofp, __attribute__((optimize("omit-frame-pointer"))))
HUNDRED(fp, __attribute__((optimize("no-omit-frame-pointer"))))

#ifdef __x86_64__
/* Each function makes a frame of another size and calls the next; the last calls bottom_of_made(). */
#define MADE 100
#define MADE_BYTES 32

static void (*made)(void);

static NOINLINE void bottom_of_made(void) {
    at_the_bottom();
    sink++;
}

static void make_function(unsigned char *at, bool is_last) {
    static const unsigned char head[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec};
    static const unsigned char tail[] = {0xff, 0xd0, 0xc9, 0xc3}; /* call *%rax; leave; ret */
    void *callee = is_last ? (void *)(uintptr_t)bottom_of_made : at + MADE_BYTES;
    unsigned char frame = (unsigned char)(16 * (1 + (uintptr_t)at / MADE_BYTES % 7));
    memcpy(at, head, sizeof(head));
    memcpy(at + 7, &frame, 1);
    memcpy(at + 8, "\x48\xb8", 2); /* mov $callee, %rax */
    memcpy(at + 10, &callee, sizeof(callee));
    memcpy(at + 18, tail, sizeof(tail));
}

static void make_functions(void) {
    unsigned char *code = mmap(NULL, MADE * MADE_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < MADE; i++) {
        make_function(code + i * MADE_BYTES, i + 1 == MADE);
    }
    mprotect(code, MADE * MADE_BYTES, PROT_READ | PROT_EXEC);
    made = (void (*)(void))(uintptr_t)code;
}

static NOINLINE void call_made(void) {
    made();
    sink++;
}
#define CALL_MADE call_made
#else
#define CALL_MADE NULL
static void make_functions(void) {
}
#endif

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uintptr_t pcs[FRAMES_MAX];
static unsigned limit, repeats;
static double ns_per_frame;

static void finish(double start, unsigned long frames) {
    ns_per_frame = (now_ns() - start) / (double)frames;
}

static NOINLINE void measure_cfi_hit(void) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    MP_CALLER(frame);
    unsigned long frames = 0;
    double start = now_ns();
    for (unsigned i = 0; i < repeats; i++) {
        frames += mp_unwind(&frame, pcs, limit, &result);
    }
    finish(start, frames);
}

static void forbid_memos(uint32_t busy) {
    for (unsigned i = 0; i < MP_MEMO_SLOTS; i++) {
        mp_memos[i].busy = busy;
    }
}

static NOINLINE void measure_cfi_rules(void) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    MP_CALLER(frame);
    unsigned long frames = 0;
    forbid_memos(1);
    double start = now_ns();
    for (unsigned i = 0; i < repeats; i++) {
        frames += mp_unwind(&frame, pcs, limit, &result);
    }
    finish(start, frames);
    forbid_memos(0);
}

static NOINLINE void measure_cfi_miss(void) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    MP_CALLER(frame);
    unsigned long frames = 0;
    double start = now_ns();
    for (unsigned i = 0; i < repeats / 20; i++) {
        mp_unwind_flush();
        frames += mp_unwind(&frame, pcs, limit, &result);
    }
    finish(start, frames);
}

static NOINLINE unsigned walk_records(const struct mp_frame *from, uintptr_t *to, unsigned max,
                                      uintptr_t top) {
    uintptr_t fp = from->fp, sp = from->sp;
    unsigned n = 0;
    to[n++] = from->pc;
    while (n < max && fp > sp && fp < top && (fp & 7) == 0) {
        const uintptr_t *record = (const uintptr_t *)fp;
        sp = fp;
        to[n++] = record[1];
        fp = record[0];
    }
    return n;
}

static NOINLINE void measure_fp_walk(void) {
    struct mp_frame frame;
    MP_CALLER(frame);
    unsigned long frames = 0;
    double start = now_ns();
    for (unsigned i = 0; i < repeats; i++) {
        frames += walk_records(&frame, pcs, limit, frame.sp + (8 << 20));
    }
    finish(start, frames);
}

static unsigned traced;
static _Unwind_Reason_Code trace(struct _Unwind_Context *context, void *data) {
    (void)data;
    if (traced == limit) {
        return _URC_NORMAL_STOP;
    }
    pcs[traced++] = _Unwind_GetIP(context);
    return _URC_NO_REASON;
}

static NOINLINE void measure_libgcc(void) {
    unsigned long frames = 0;
    double start = now_ns();
    for (unsigned i = 0; i < repeats / 20; i++) {
        traced = 0;
        _Unwind_Backtrace(trace, NULL);
        frames += traced;
    }
    finish(start, frames);
}

#ifndef NO_LIBUNWIND
static NOINLINE void measure_libunwind(void) {
    unsigned long frames = 0;
    double start = now_ns();
    for (unsigned i = 0; i < repeats / 4; i++) {
        frames += (unsigned)unw_backtrace((void **)pcs, (int)limit);
    }
    finish(start, frames);
}
#endif

static const struct variant {
    const char *name;
    measure_function *measure;
    void (*nofp[2])(void);
    void (*fp[2])(void);
    void (*made[2])(void);
} variants[] = {
#define BOTH                                                                                       \
    {nofp_32, nofp_99}, {                                                                          \
        fp_32, fp_99                                                                               \
    }
#define MADE_TOO {CALL_MADE, CALL_MADE}
    {"cfi_hit", measure_cfi_hit, BOTH, MADE_TOO},
    {"cfi_rules", measure_cfi_rules, BOTH, MADE_TOO},
    {"cfi_miss", measure_cfi_miss, BOTH, MADE_TOO},
    {"fp_walk", measure_fp_walk, {NULL, NULL}, {fp_32, fp_99}, MADE_TOO},
    {"libgcc", measure_libgcc, BOTH, {NULL, NULL}},
#ifndef NO_LIBUNWIND
    {"libunwind", measure_libunwind, BOTH, {NULL, NULL}},
#endif
};
#define VARIANTS (sizeof(variants) / sizeof(variants[0]))
#define CASES 6

static double results[VARIANTS][CASES][ROUNDS];

static void (*entry_of(unsigned v, unsigned which))(void) {
    const struct variant *variant = &variants[v];
    void (*const *entries[])(void) = {variant->nofp, variant->fp, variant->made};
    return entries[which / 2][which & 1];
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void one_round(unsigned round) {
    static const unsigned limits[2] = {24, 90};
    for (unsigned v = 0; v < VARIANTS; v++) {
        for (unsigned which = 0; which < CASES; which++) {
            void (*enter)(void) = entry_of(v, which);
            if (enter == NULL) {
                continue;
            }
            at_the_bottom = variants[v].measure;
            limit = limits[which & 1];
            repeats = 480000 / limit;
            enter();
            results[v][which][round] = ns_per_frame;
        }
    }
}

static void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

int main(void) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_FP, .find_symbol = find_symbol};
    if (mp_unwind_init(&config) != 0) {
        return 1;
    }
    make_functions();
    for (unsigned round = 0; round < ROUNDS; round++) {
        one_round(round);
    }
    static const char *const names[CASES] = {"nofp.24", "nofp.90", "fp.24",
                                             "fp.90",   "made.24", "made.90"};
    for (unsigned v = 0; v < VARIANTS; v++) {
        for (unsigned which = 0; which < CASES; which++) {
            if (entry_of(v, which) != NULL) {
                qsort(results[v][which], ROUNDS, sizeof(double), by_value);
                printf("%s.%s %.2f\n", variants[v].name, names[which],
                       results[v][which][ROUNDS / 2]);
            }
        }
    }
    return 0;
}
