/*
 * family.c - every function of the malloc family, at its edges; prints what a program can see of the result.
 *
 * The output must be the same with and without the sampler. With it, each check_* function leaves the blocks
 * in use whose number it prints as `NAME in use BLOCKS BYTES`.
 */
#include "target.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>

#define HUGE_BYTES ((size_t)PTRDIFF_MAX - 4096)

void *reallocarray(void *p, size_t n, size_t size);

static volatile size_t zero, huge = HUGE_BYTES, most = SIZE_MAX;

/* What can be seen of a pointer: null or not, usable size, alignment up to a page, errno. */
static void see(const char *what, void *p, int error) {
    size_t align = 4096;
    while (align > 1 && ((uintptr_t)p & (align - 1)) != 0)
        align /= 2;
    bool aligned16 = align >= 16;
    say("%s: %s usable %zu aligned %d errno %d", what, p ? "block" : "null", malloc_usable_size(p),
        aligned16, error);
}

static void check_malloc(void) {
    errno = 7;
    void *p = malloc(100);
    see("malloc 100", p, errno);
    void *q = malloc(zero);
    see("malloc 0", q, errno);
    void *r = malloc(huge);
    see("malloc huge", r, errno);
    void *s = malloc(300000);
    see("malloc 300000", s, errno);
    free(s);
    errno = 9;
    free(NULL);
    say("errno after free %d", errno);
    say("check_malloc in use 2 100");
}

static void check_calloc(void) {
    errno = 7;
    unsigned char *p = calloc(30, 10);
    see("calloc 30 10", p, errno);
    for (int i = 0; i < 300; i++)
        EXPECT(p[i] == 0);
    void *q = calloc(most / 4, 5);
    see("calloc overflow", q, errno);
    errno = 7;
    void *r = calloc(zero, 5);
    see("calloc 0", r, errno);
    errno = 7;
    void *s = calloc(2, huge / 2);
    see("calloc huge", s, errno);
    say("check_calloc in use 2 300");
}

static void check_realloc(void) {
    errno = 7;
    char *p = realloc(NULL, 40);
    see("realloc null 40", p, errno);
    strcpy(p, "contents");
    p = realloc(p, 400000);
    EXPECT(strcmp(p, "contents") == 0);
    see("realloc grow", p, errno);
    p = realloc(p, 24);
    EXPECT(strcmp(p, "contents") == 0);
    see("realloc shrink", p, errno);
    char *q = realloc(p, huge);
    see("realloc refused", q, errno);
    EXPECT(q == NULL && strcmp(p, "contents") == 0);
    say("check_realloc in use 1 24");
}

static void check_realloc_zero(void) {
    errno = 7;
    void *p = malloc(64);
    void *q = realloc(p, zero);
    see("realloc 0", q, errno);
    void *r = realloc(NULL, zero);
    see("realloc null 0", r, errno);
    say("check_realloc_zero in use 1 0");
}

static void check_reallocarray(void) {
    errno = 7;
    char *p = reallocarray(NULL, 10, 10);
    see("reallocarray 10 10", p, errno);
    p = reallocarray(p, 30, 10);
    see("reallocarray 30 10", p, errno);
    void *q = reallocarray(p, most / 2, 3);
    see("reallocarray overflow", q, errno);
    say("check_reallocarray in use 1 300");
}

static void check_aligned(void) {
    void *p = NULL, *untouched = &untouched;
    void *before = untouched;
    errno = 7;
    say("posix_memalign %d", posix_memalign(&p, 4096, 100));
    EXPECT(((uintptr_t)p & 4095) == 0);
    say("posix_memalign odd %d", posix_memalign(&untouched, 3, 100));
    say("posix_memalign huge %d", posix_memalign(&untouched, 64, huge));
    EXPECT(untouched == before);
    say("errno %d", errno);
    void *q = aligned_alloc(256, 512);
    see("aligned_alloc", q, errno);
    EXPECT(((uintptr_t)q & 255) == 0);
    void *r = memalign(1024, 200);
    see("memalign", r, errno);
    EXPECT(((uintptr_t)r & 1023) == 0);
    void *s = memalign(64, huge);
    see("memalign huge", s, errno);
    say("check_aligned in use 3 812");
}

static void check_paged(void) {
    errno = 7;
    void *p = valloc(50);
    EXPECT(((uintptr_t)p & 4095) == 0);
    see("valloc", p, errno);
    void *q = pvalloc(5000);
    EXPECT(((uintptr_t)q & 4095) == 0);
    see("pvalloc", q, errno);
    say("check_paged in use 2 5050");
}

static void check_freed(void) {
    void *p;
    free(keep(malloc(10)));
    free(keep(calloc(3, 10)));
    free(keep(realloc(malloc(5), 70000)));
    if (posix_memalign(&p, 64, 64) == 0)
        free(p);
    free(keep(aligned_alloc(64, 64)));
    free(keep(memalign(64, 64)));
    free(keep(valloc(64)));
    free(keep(pvalloc(64)));
    free(keep(reallocarray(NULL, 6, 6)));
    say("check_freed in use 0 0");
}

int main(void) {
    check_malloc();
    check_calloc();
    check_realloc();
    check_realloc_zero();
    check_reallocarray();
    check_aligned();
    check_paged();
    check_freed();
    return 0;
}
