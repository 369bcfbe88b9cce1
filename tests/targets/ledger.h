/*
 * ledger.h - what a target really allocated on a device, told by the target itself: the truth that
 * a profile is compared with. A line "FUNCTION DOMAIN blocks bytes taken live_blocks live_bytes
 * failed_blocks failed_bytes" for each function that allocates, then "end".
 */
#ifndef LEDGER_H
#define LEDGER_H

#include "target.h"

#include <pthread.h>
#include <stdint.h>

struct ledger_row {
    const char *function, *domain;
    uint64_t blocks, bytes, taken, live_blocks, live_bytes, failed_blocks, failed_bytes;
};

static struct ledger_row ledger[64];
static pthread_mutex_t ledger_lock = PTHREAD_MUTEX_INITIALIZER;

static inline struct ledger_row *ledger_row(const char *function, const char *domain) {
    for (unsigned i = 0; i < sizeof ledger / sizeof ledger[0]; i++) {
        struct ledger_row *row = &ledger[i];
        if (row->function == NULL)
            *row = (struct ledger_row){.function = function, .domain = domain};
        if (strcmp(row->function, function) == 0 && strcmp(row->domain, domain) == 0)
            return row;
    }
    _exit(93);
}

static inline void ledger_alloc(const char *function, const char *domain, uint64_t bytes,
                                uint64_t taken) {
    pthread_mutex_lock(&ledger_lock);
    struct ledger_row *row = ledger_row(function, domain);
    row->blocks++;
    row->bytes += bytes;
    row->taken += taken;
    row->live_blocks++;
    row->live_bytes += bytes;
    pthread_mutex_unlock(&ledger_lock);
}

static inline void ledger_free(const char *function, const char *domain, uint64_t bytes) {
    pthread_mutex_lock(&ledger_lock);
    struct ledger_row *row = ledger_row(function, domain);
    row->live_blocks--;
    row->live_bytes -= bytes;
    pthread_mutex_unlock(&ledger_lock);
}

static inline void ledger_fail(const char *function, const char *domain, uint64_t bytes) {
    pthread_mutex_lock(&ledger_lock);
    struct ledger_row *row = ledger_row(function, domain);
    row->failed_blocks++;
    row->failed_bytes += bytes;
    pthread_mutex_unlock(&ledger_lock);
}

/* A context or device took all that was left with it. */
static inline void ledger_drop_all(void) {
    for (unsigned i = 0; i < sizeof ledger / sizeof ledger[0]; i++)
        ledger[i].live_blocks = ledger[i].live_bytes = 0;
}

static inline void ledger_tell(void) {
    for (unsigned i = 0; i < sizeof ledger / sizeof ledger[0] && ledger[i].function; i++) {
        const struct ledger_row *r = &ledger[i];
        say("%s %s %llu %llu %llu %llu %llu %llu %llu", r->function, r->domain,
            (unsigned long long)r->blocks, (unsigned long long)r->bytes,
            (unsigned long long)r->taken, (unsigned long long)r->live_blocks,
            (unsigned long long)r->live_bytes, (unsigned long long)r->failed_blocks,
            (unsigned long long)r->failed_bytes);
    }
    step("end");
}

/* --- threads: in each round one hands its block to the next one through a slot ---------------- */

#define LEDGER_THREADS 4
#define LEDGER_ROUNDS 200

struct ledger_use {
    uint64_t (*make)(uint64_t bytes); /* 0: never */
    void (*release)(uint64_t memory, uint64_t bytes);
};

static struct {
    uint64_t memory, bytes;
} ledger_slots[LEDGER_THREADS];
static const struct ledger_use *ledger_used;

static inline void *ledger_worker(void *arg) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    unsigned self = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < LEDGER_ROUNDS; i++) {
        uint64_t bytes = 256 + (i * 37 + self * 101) % 5000, mine = ledger_used->make(bytes);
        pthread_mutex_lock(&lock);
        uint64_t theirs = ledger_slots[(self + i) % LEDGER_THREADS].memory;
        uint64_t their_bytes = ledger_slots[(self + i) % LEDGER_THREADS].bytes;
        ledger_slots[(self + i) % LEDGER_THREADS].memory = mine;
        ledger_slots[(self + i) % LEDGER_THREADS].bytes = bytes;
        pthread_mutex_unlock(&lock);
        if (theirs != 0)
            ledger_used->release(theirs, their_bytes);
    }
    return NULL;
}

static inline void ledger_share(const struct ledger_use *use) {
    pthread_t ids[LEDGER_THREADS];
    ledger_used = use;
    for (uintptr_t i = 0; i < LEDGER_THREADS; i++)
        EXPECT(pthread_create(&ids[i], NULL, ledger_worker, (void *)i) == 0);
    for (int i = 0; i < LEDGER_THREADS; i++)
        EXPECT(pthread_join(ids[i], NULL) == 0);
    ledger_tell();
}

#endif
