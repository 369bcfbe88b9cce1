/*
 * mapped.c SEED OPERATIONS THREADS [raw|forks] - random mappings with a ledger of every page. Each thread works in a zone
 * of addresses of its own, in which it maps, replaces, moves, resizes and unmaps ranges of any length, and makes calls
 * that the kernel refuses. "raw": some are unmapped by a system call of its own; "forks": some are shared, and a child and its child go
 * on with what they inherit, while their parents and these' other threads do, and tell first, with their number in front. Then a line "NAME bytes" for each
 * function that maps, the peaks of reserve() and of the others (of one thread), and all bytes allocated.
 */
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 2048UL
#define THREADS_MAX 8
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

enum { NOBODY, ALPHA, BETA, GAMMA, RESERVE, SHARE, OTHERS, SITES };
static const char *const names[SITES] = {"nobody",  "alpha", "beta",  "gamma",
                                         "reserve", "share", "others"};

struct zone {
    char *base;
    uint64_t random, allocated;
    uint64_t mapped[2], peak[2]; /* of reserve(), and of the others */
    unsigned char owner[PAGES];
} zones[THREADS_MAX];
static unsigned operations, threads;
static bool raw, forks;

static uint64_t draw(struct zone *zone, uint64_t below) {
    zone->random = zone->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return (zone->random >> 33) % below;
}

/* One function for each, so that each is a row of the profile. */
#define MAPS(name, prot, flags)                                                                    \
    __attribute__((noinline)) static void *name(void *at, size_t bytes) {                          \
        return keep(mmap(at, bytes, (prot), (flags) | MAP_FIXED, -1, 0));                          \
    }
MAPS(alpha, RW, PRIVATE)
MAPS(beta, RW, PRIVATE)
MAPS(gamma, RW, PRIVATE)
MAPS(reserve, PROT_NONE, PRIVATE)
MAPS(share, RW, MAP_SHARED | MAP_ANONYMOUS)
MAPS(others, RW, PRIVATE)
static void *(*const maps[SITES])(void *, size_t) = {NULL,    alpha, beta,  gamma,
                                                     reserve, share, others};

static void own(struct zone *zone, size_t page, size_t pages, int who) {
    for (size_t i = page; i < page + pages; i++) {
        int before = zone->owner[i];
        if (before != NOBODY)
            zone->mapped[before == RESERVE] -= PAGE;
        if (who != NOBODY)
            zone->mapped[who == RESERVE] += PAGE;
        zone->owner[i] = (unsigned char)who;
    }
    for (int i = 0; i < 2; i++)
        if (zone->mapped[i] > zone->peak[i])
            zone->peak[i] = zone->mapped[i];
}

static void map(struct zone *zone, size_t page, size_t pages) {
    int who = 1 + (int)draw(zone, forks ? SHARE : RESERVE);
    if (forks && zone != &zones[0])
        who = OTHERS; /* what these map in a child depends on the moment */
    char *at = zone->base + page * PAGE;
    EXPECT(maps[who](at, pages * PAGE - draw(zone, PAGE)) == at);
    own(zone, page, pages, who);
    zone->allocated += pages * PAGE;
}

static void unmap(struct zone *zone, size_t page, size_t pages) {
    char *at = zone->base + page * PAGE;
    if (raw && draw(zone, 2))
        EXPECT(syscall(SYS_munmap, at, pages * PAGE) == 0);
    else
        EXPECT(munmap(at, pages * PAGE - draw(zone, PAGE)) == 0);
    own(zone, page, pages, NOBODY);
}

/* From [page, pages) to [to, now): a whole range of one owner or of several. */
static void moved(struct zone *zone, size_t page, size_t pages, size_t to, size_t now) {
    unsigned char owners[PAGES];
    memcpy(owners, zone->owner + page, pages);
    unsigned char last = owners[pages - 1];
    own(zone, page, pages, NOBODY);
    own(zone, to, now, NOBODY);
    for (size_t i = 0; i < now; i++)
        own(zone, to + i, 1, i < pages ? owners[i] : last);
    if (now > pages && last != NOBODY)
        zone->allocated += (now - pages) * PAGE;
}

static void remap(struct zone *zone, size_t page, size_t pages) {
    size_t now = 1 + draw(zone, 64), to = draw(zone, PAGES - 64);
    char *at = zone->base + page * PAGE, *wanted = zone->base + to * PAGE;
    if (draw(zone, 2)) {
        if (mremap(at, pages * PAGE, now * PAGE, 0) == at)
            moved(zone, page, pages, page, now);
        return;
    }
    if (to + now > page && page + pages > to)
        return;
    if (mremap(at, pages * PAGE, now * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, wanted) == wanted) {
        moved(zone, page, pages, to, now);
        return;
    }
    /* What it had unmapped before it refused depends on the kernel. */
    EXPECT(munmap(at, pages * PAGE) == 0 && munmap(wanted, now * PAGE) == 0);
    own(zone, page, pages, NOBODY);
    own(zone, to, now, NOBODY);
}

static void refused(struct zone *zone, size_t page, size_t pages) {
    char *at = zone->base + page * PAGE;
    EXPECT(munmap(at + 1, pages * PAGE) != 0 && errno == EINVAL);
    EXPECT(munmap(at, 0) != 0 && munmap(at, SIZE_MAX - PAGE) != 0);
    EXPECT(mmap(at + 1, pages * PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED);
    EXPECT(mmap(at, 0, RW, PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
    EXPECT(mmap(at, pages * PAGE, RW, MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED);
    EXPECT(mremap(at, pages * PAGE, 0, 0) == MAP_FAILED && errno == EINVAL);
}

static void *work(void *arg) {
    struct zone *zone = arg;
    for (unsigned i = 0; i < operations; i++) {
        size_t page = draw(zone, PAGES - 64), pages = 1 + draw(zone, draw(zone, 2) ? 4 : 63);
        switch (draw(zone, 8)) {
        case 0:
            refused(zone, page, pages);
            break;
        case 1:
        case 2:
            remap(zone, page, pages);
            break;
        case 3:
        case 4:
            unmap(zone, page, pages);
            break;
        default:
            map(zone, page, pages);
        }
    }
    return NULL;
}

static void tell(const char *before) {
    uint64_t bytes[SITES] = {0};
    for (unsigned i = 0; i < threads; i++)
        for (size_t k = 0; k < PAGES; k++)
            bytes[zones[i].owner[k]] += PAGE;
    for (int who = 1; who < OTHERS; who++)
        say("%s%s %llu", before, names[who], (unsigned long long)bytes[who]);
}

/* Children go on from here, and end with their parents. */
static void work_with_children(unsigned depth) {
    int hold[2], told[2];
    char byte = 0;
    work(&zones[0]);
    if (depth == 0)
        return;
    EXPECT(pipe(hold) == 0 && pipe(told) == 0);
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        char before[32];
        close(hold[1]);
        zones[0].random += depth;
        work_with_children(depth - 1);
        snprintf(before, sizeof before, "%d ", (int)getpid());
        tell(before);
        EXPECT(write(told[1], &byte, 1) == 1 && read(hold[0], &byte, 1) == 0);
        _exit(0);
    }
    work(&zones[0]);
    EXPECT(read(told[0], &byte, 1) == 1);
}

int main(int argc, char **argv) {
    pthread_t thread[THREADS_MAX];
    uint64_t peak[2] = {0}, allocated = 0;
    EXPECT(argc >= 4);
    operations = (unsigned)atol(argv[2]);
    threads = (unsigned)atol(argv[3]);
    raw = argc > 4 && strcmp(argv[4], "raw") == 0;
    forks = argc > 4 && strcmp(argv[4], "forks") == 0;
    EXPECT(threads <= THREADS_MAX);
    char *all = (char *)syscall(SYS_mmap, NULL, threads * PAGES * PAGE, PROT_NONE, PRIVATE, -1, 0);
    EXPECT(all != MAP_FAILED);
    step("ready");
    for (unsigned i = 0; i < threads; i++) {
        zones[i].base = all + i * PAGES * PAGE;
        zones[i].random = (uint64_t)atol(argv[1]) * 1000 + i;
    }
    unsigned first = threads == 1 || forks ? 1 : 0;
    for (unsigned i = first; i < threads; i++)
        EXPECT(pthread_create(&thread[i], NULL, work, &zones[i]) == 0);
    if (first == 1)
        work_with_children(forks ? 2 : 0);
    for (unsigned i = first; i < threads; i++)
        EXPECT(pthread_join(thread[i], NULL) == 0);
    for (unsigned i = 0; i < threads; i++) {
        for (int k = 0; k < 2; k++)
            peak[k] += zones[i].peak[k];
        allocated += zones[i].allocated;
    }
    tell("");
    say("peak %llu", (unsigned long long)peak[0]);
    say("peak-reserved %llu", (unsigned long long)peak[1]);
    say("allocated %llu", (unsigned long long)allocated);
    step("told");
    return 0;
}
