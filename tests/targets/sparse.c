/*
 * sparse.c - three sites in glibc's [heap]: dense() keeps all its blocks, sparse() and fast() keep 8 of 100 at random
 * (the argument is the seed), the others are freed; those of fast() are in fastbins and stay there. Then a line for each site,
 * "NAME pages held pinned slop": what its pages cost, from the addresses of all blocks that are left.
 */
#include "target.h"

#include <malloc.h>
#include <stdint.h>
#include <sys/prctl.h>

#define PAGE 4096UL
#define KEPT_MAX 200000
#define HEAP_PAGES 40000

struct site {
    const char *name;
    unsigned count;
    size_t size;
    char *block[KEPT_MAX];
};
static struct site denses = {.name = "dense", .size = 233},
                   sparses = {.name = "sparse", .size = 248}, fasts = {.name = "fast", .size = 41};
static struct site *const sites[] = {&denses, &sparses, &fasts};
static char *others[1 << 20];
static unsigned other_count;
static unsigned used[HEAP_PAGES], alone[HEAP_PAGES];
static uintptr_t low = UINTPTR_MAX;

static char *touched(char *at, size_t size) {
    EXPECT(at != NULL);
    memset(at, 1, size);
    low = (uintptr_t)at / PAGE * PAGE < low ? (uintptr_t)at / PAGE * PAGE : low;
    return at;
}

static void dense(void) {
    denses.block[denses.count++] = touched(keep(malloc(denses.size)), denses.size);
}

static void sparse(void) {
    sparses.block[sparses.count++] = touched(keep(malloc(sparses.size)), sparses.size);
}

static void fast(void) {
    fasts.block[fasts.count++] = touched(keep(malloc(fasts.size)), fasts.size);
}

static void other(size_t size) {
    others[other_count++] = touched(keep(malloc(size)), size);
}

static void free_others(void) {
    while (other_count > 0)
        free(others[--other_count]);
}

/* The bytes of a block that are on the page of `at`, and the page's number; its size is before it. */
static unsigned on_page(const char *block, uintptr_t at, unsigned *page) {
    uintptr_t from = (uintptr_t)block - 8,
              to = (uintptr_t)block + malloc_usable_size((void *)block);
    uintptr_t end = at / PAGE * PAGE + PAGE;
    *page = (unsigned)((at - low) / PAGE);
    EXPECT(*page < HEAP_PAGES);
    return (unsigned)((end < to ? end : to) - (at > from ? at : from));
}

static void count(const struct site *site) {
    for (unsigned i = 0; i < site->count; i++) {
        char *b = site->block[i];
        uintptr_t from = (uintptr_t)b - 8, to = (uintptr_t)b + malloc_usable_size(b);
        for (uintptr_t at = from; at < to; at = at / PAGE * PAGE + PAGE) {
            unsigned page, bytes = on_page(b, at, &page);
            used[page] += bytes;
            alone[page]++;
        }
    }
}

static void tell(const struct site *site) {
    double pages = 0, held = 0, pinned = 0, slop = 0;
    for (unsigned i = 0; i < site->count; i++) {
        char *b = site->block[i];
        uintptr_t from = (uintptr_t)b - 8, to = (uintptr_t)b + malloc_usable_size(b);
        slop += (double)(malloc_usable_size(b) - site->size);
        for (uintptr_t at = from; at < to; at = at / PAGE * PAGE + PAGE) {
            unsigned page, bytes = on_page(b, at, &page);
            double share = (double)(PAGE * bytes) / used[page];
            pages += share;
            held += share - bytes;
            pinned += alone[page] == 1 ? share - bytes : 0;
        }
    }
    say("%s %.0f %.0f %.0f %.0f", site->name, pages, held, pinned, slop);
}

int main(int argc, char **argv) {
    srandom((unsigned)(argc > 1 ? atol(argv[1]) : 1));
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    step("ready");
    for (unsigned k = 0; k < 60000; k++)
        dense();
    for (unsigned k = 0; k < 200000; k++)
        if (random() % 100 < 8)
            sparse();
        else
            other(sparses.size);
    free_others();
    for (unsigned k = 0; k < 400000; k++)
        if (random() % 100 < 8)
            fast();
        else
            other(fasts.size);
    free_others();
    for (unsigned k = 0; k < 3; k++)
        count(sites[k]);
    for (unsigned k = 0; k < 3; k++)
        tell(sites[k]);
    step("told");
    return 0;
}
