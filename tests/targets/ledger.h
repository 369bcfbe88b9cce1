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

#endif
