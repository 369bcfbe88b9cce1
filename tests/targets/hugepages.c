/*
 * hugepages.c - one heap of 96 MiB, all of it touched: small() fills its lower half, which has no huge pages, large()
 * its upper half, which asks for them. Then a line for each site, "NAME bytes huge": how much of its blocks lies on
 * whole huge pages of the upper half.
 */
#include "target.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (2UL << 20)
#define BLOCK 30000UL
#define HEAP (96UL << 20)

static uintptr_t low, middle, top;
static size_t huge_of[2], bytes_of[2];

static uintptr_t upto(char *at, unsigned site) {
    uintptr_t begin = (uintptr_t)at, end = begin + BLOCK;
    EXPECT(at != NULL);
    memset(at, 1, BLOCK);
    bytes_of[site] += BLOCK;
    if (end > middle)
        huge_of[site] += end - (begin > middle ? begin : middle);
    return end;
}

static uintptr_t small(void) {
    return upto(keep(malloc(BLOCK)), 0);
}

static uintptr_t large(void) {
    return upto(keep(malloc(BLOCK)), 1);
}

int main(void) {
    mallopt(M_TOP_PAD, HEAP + 2 * HUGE_PAGE);
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    step("ready");
    low = (uintptr_t)keep(malloc(BLOCK)) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
    middle = low + HEAP / 2;
    top = low + HEAP;
    EXPECT(top <= (uintptr_t)sbrk(0));
    EXPECT(madvise((void *)low, HEAP / 2, MADV_NOHUGEPAGE) == 0);
    EXPECT(madvise((void *)middle, HEAP / 2, MADV_HUGEPAGE) == 0);
    while (small() < middle - BLOCK)
        ;
    while (large() < top - BLOCK)
        ;
    say("small %zu %zu", bytes_of[0], huge_of[0]);
    say("large %zu %zu", bytes_of[1], huge_of[1]);
    step("told");
    return 0;
}
