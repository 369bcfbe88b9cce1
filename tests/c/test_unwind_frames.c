/*
 * Frames of every common shape: compiled by the test suite with many optimisation levels, with and
 * without frame pointers, by gcc and clang. Each case must equal libgcc's stack, frame by frame.
 */
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "check.h"
#include "unwind_oracle.h"

#define NOINLINE __attribute__((noinline))
/* Keep the compiler from turning the call before it into a jump. */
#define AFTER_CALL() __asm__ volatile("" ::: "memory")

static uint8_t last_end;

static NOINLINE void here(const char *where) {
    last_end = oracle_check(where);
    AFTER_CALL();
}

static NOINLINE void is_complete(const char *where) {
    here(where);
    CHECK(last_end == MP_UNWIND_OUTERMOST);
    AFTER_CALL();
}

static NOINLINE int recurse(int depth, volatile char *from_caller) {
    volatile char local[48];
    local[0] = from_caller != NULL ? from_caller[0] : 0;
    if (depth == 0) {
        is_complete("recursion");
        return local[0];
    }
    int result = recurse(depth - 1, local) + 1;
    AFTER_CALL();
    return result;
}

static NOINLINE void with_alloca(size_t bytes) {
    volatile char *p = alloca(bytes);
    p[0] = 1;
    is_complete("alloca");
    p[bytes - 1] = 2;
}

static NOINLINE void with_vla(unsigned n) {
    volatile int a[n];
    a[0] = 1;
    with_alloca(n * 3 + 17);
    a[n - 1] = 2;
    CHECK(a[n - 1] == 2);
}

static NOINLINE void with_aligned_local(int n) {
    volatile char a[64] __attribute__((aligned(64)));
    a[0] = (char)n;
    is_complete("aligned local");
    a[63] = 1;
    CHECK(a[63] == 1);
}

static NOINLINE void with_aligned_vla(unsigned n) {
    volatile char a[64] __attribute__((aligned(64)));
    volatile char *b = alloca(n);
    a[0] = b[0] = 1;
    with_aligned_local((int)n);
    a[63] = b[n - 1] = 2;
    CHECK(a[63] == 2);
}

#ifdef __x86_64__
typedef double vector __attribute__((vector_size(32)));

__attribute__((target("avx2"))) static NOINLINE double with_vector(volatile vector *v, int n) {
    vector sum = *v, held[4];
    for (int i = 0; i < 4; i++)
        held[i] = sum * (double)(i + n);
    __asm__ volatile("" ::"r"(held) : "memory");
    is_complete("AVX frame");
    volatile char *p = alloca((size_t)n);
    p[0] = 1;
    is_complete("AVX frame with alloca");
    return held[n & 3][0] + sum[1];
}

static void vectors(void) {
    if (__builtin_cpu_supports("avx2")) {
        volatile vector v = {1, 2, 3, 4};
        CHECK(with_vector(&v, 7) != 0);
    }
}
#else
static void vectors(void) {
}
#endif

static NOINLINE void huge_frame(unsigned char fill) {
    volatile unsigned char big[300000];
    big[0] = big[299999] = fill;
    is_complete("frame of 300 kB");
    CHECK(big[0] == fill);
}

static NOINLINE void large_frame(unsigned char fill) {
    volatile unsigned char big[40000];
    big[0] = big[39999] = fill;
    huge_frame(fill);
    CHECK(big[39999] == fill);
}

static int by_value(const void *a, const void *b) {
    is_complete("qsort callback");
    return *(const int *)a - *(const int *)b;
}

static jmp_buf out;

static NOINLINE __attribute__((noreturn)) void never_returns(void) {
    is_complete("below a call that never returns");
    longjmp(out, 1);
}

/* The call is the last instruction: its return address belongs to whatever follows. */
static NOINLINE __attribute__((noreturn)) void ends_in_a_call(void) {
    never_returns();
}

static NOINLINE int early_exit(const int *p) {
    if (p == NULL)  /* the frame may be set up only behind this test */
        return 0;
    volatile int copy[8];
    copy[0] = *p;
    is_complete("shrink-wrapped frame");
    return copy[0] + *p;
}

static NOINLINE long many_arguments(long a, long b, long c, long d, long e, long f, long g, long h,
                                    long i, long j) {
    is_complete("arguments on the stack");
    return a + b + c + d + e + f + g + h + i + j;
}

static void at_exit(void) {
    here("atexit");
    exit(check_end() != 0 || oracle_failures() != 0);
}

__attribute__((constructor)) static void before_main(void) {
    oracle_init(MP_UNWIND_CFI, true);
    is_complete("constructor");
}

int main(void) {
    CASE("frames");
    is_complete("main");
    recurse(5, NULL);
    recurse(30, NULL);
    recurse(10000, NULL);
    with_vla(100);
    with_aligned_vla(333);
    vectors();
    large_frame(3);
    int values[] = {3, 1, 2, 5, 4};
    qsort(values, 5, sizeof(values[0]), by_value);
    if (setjmp(out) == 0)
        ends_in_a_call();
    CHECK(early_exit(values) == 2 && early_exit(NULL) == 0);
    CHECK(many_arguments(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) == 55);
    CHECK(oracle_checks() > 15 && oracle_failures() == 0);
    CHECK(oracle_probes() == 0);
    atexit(at_exit);
    return 0;
}
