/*
 * eventful.c - threads that make, resize, free and hand over blocks, and write down each of these themselves.
 *
 * eventful THREADS OPERATIONS LEDGER: the file LEDGER has a struct entry for each operation, by thread in order. The sizes
 * of all blocks are 7 modulo 16, so that blocks of the C library are told from them.
 */
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#define THREADS_MAX 16
#define SLOTS 64
#define HUGE_BYTES ((1ULL << 46) + 7)

enum what { BORN = 1, FREED = 2, MOVED = 3, BACK = 4, REFUSED = 5 };

struct entry {
    uint64_t before_ns, after_ns; /* the event's time is between */
    uint64_t address, size;
    uint32_t thread, what;
};

static struct entry *ledger[THREADS_MAX];
static uint64_t entries[THREADS_MAX];
static unsigned operations;

/* Blocks that any thread may take; the size is in the block's first word. */
static void *slot[SLOTS];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void note(uint32_t me, enum what what, uint64_t before, const void *p, uint64_t size) {
    ledger[me][entries[me]++] = (struct entry){.before_ns = before,
                                               .after_ns = now(),
                                               .address = (uint64_t)(uintptr_t)p,
                                               .size = size,
                                               .thread = me,
                                               .what = what};
}

static uint64_t *make(uint32_t me, uint64_t size) {
    uint64_t before = now();
    uint64_t *p = keep(malloc(size));
    note(me, BORN, before, p, size);
    p[0] = size;
    return p;
}

static void drop(uint32_t me, uint64_t *p) {
    uint64_t before = now(), size = p[0];
    void *was = keep(p);
    free(p);
    note(me, FREED, before, was, size);
}

/* The address of the block's new place is only known afterwards; the two events have no other between. */
static uint64_t *resize(uint32_t me, uint64_t *p, uint64_t size) {
    uint64_t before = now(), old = p[0];
    void *was = keep(p);
    p = keep(realloc(p, size));
    note(me, MOVED, before, was, old);
    note(me, BORN, before, p, size);
    p[0] = size;
    return p;
}

static void resize_in_vain(uint32_t me, uint64_t *p) {
    uint64_t before = now();
    EXPECT(realloc(p, HUGE_BYTES) == NULL);
    note(me, MOVED, before, p, p[0]);
    note(me, BACK, before, p, p[0]);
    note(me, REFUSED, before, NULL, HUGE_BYTES);
}

static uint64_t random_of(uint64_t *state) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

static void *work(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    uint64_t state = me + 1;
    for (unsigned i = 0; i < operations; i++) {
        uint64_t choice = random_of(&state) % 16, at = random_of(&state) % SLOTS;
        uint64_t *p = __atomic_exchange_n(&slot[at], NULL, __ATOMIC_ACQ_REL);
        if (p == NULL)
            p = make(me, 16 * (1 + random_of(&state) % 64) + 7);
        else if (choice < 8)
            drop(me, p), p = NULL;
        else if (choice < 15)
            p = resize(me, p, 16 * (1 + random_of(&state) % 64) + 7);
        else
            resize_in_vain(me, p);
        if (p != NULL)
            p = __atomic_exchange_n(&slot[at], p, __ATOMIC_ACQ_REL);
        if (p != NULL)
            drop(me, p);
    }
    return NULL;
}

static void save(const char *path, unsigned threads) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    EXPECT(fd >= 0);
    for (unsigned i = 0; i < threads; i++) {
        size_t bytes = entries[i] * sizeof(struct entry);
        EXPECT(write(fd, ledger[i], bytes) == (ssize_t)bytes);
    }
    close(fd);
}

int main(int argc, char **argv) {
    EXPECT(argc == 4);
    unsigned threads = (unsigned)atoi(argv[1]);
    pthread_t thread[THREADS_MAX];
    operations = (unsigned)atoi(argv[2]);
    EXPECT(threads <= THREADS_MAX);
    for (unsigned i = 0; i < threads; i++) {
        ledger[i] = mmap(NULL, 3ULL * (operations + 1) * sizeof(struct entry),
                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(ledger[i] != MAP_FAILED);
    }
    step("ready");
    for (uintptr_t i = 0; i < threads; i++)
        EXPECT(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    save(argv[3], threads);
    step("done");
    return 0;
}
