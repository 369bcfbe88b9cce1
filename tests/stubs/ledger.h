/*
 * ledger.h - what a stub driver really allocated and freed, for the test to compare with the
 * profile.
 *
 * Model: one line for each true event is appended to the file that STUB_LEDGER names, by one
 * write(2), so that it survives SIGKILL and can be read while the program runs:
 *   alloc DOMAIN KEY BYTES     memory was given (DOMAIN as the profile names it: hal-0)
 *   free DOMAIN KEY BYTES      it was given back, by whatever way
 *   fail DOMAIN FUNCTION BYTES the function refused
 * STUB_FAIL=FUNCTION:N[:M] makes calls N to M of a function (counted from 1) fail; several are
 * joined by commas.
 */
#ifndef STUB_LEDGER_H
#define STUB_LEDGER_H

/* A stub has the whole signature of a function and seldom needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void stub_write(const char *line, int n) {
    const char *path = getenv("STUB_LEDGER");
    int fd = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    if (write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

static inline void stub_note(const char *event, const char *domain, unsigned long long key,
                             unsigned long long bytes) {
    char line[160];
    stub_write(line, snprintf(line, sizeof line, "%s %s %#llx %llu\n", event, domain, key, bytes));
}

static inline void stub_note_fail(const char *domain, const char *function,
                                  unsigned long long bytes) {
    char line[160];
    stub_write(line, snprintf(line, sizeof line, "fail %s %s %llu\n", domain, function, bytes));
}

/* Is this call, the `call`th of `function`, one that shall fail? */
static inline bool stub_shall_fail(const char *function, unsigned call) {
    const char *text = getenv("STUB_FAIL");
    size_t n = strlen(function);
    while (text != NULL && *text != '\0') {
        if (strncmp(text, function, n) == 0 && text[n] == ':') {
            char *end;
            unsigned long first = strtoul(text + n + 1, &end, 10), last = first;
            if (*end == ':')
                last = strtoul(end + 1, NULL, 10);
            if (call >= first && call <= last)
                return true;
        }
        text = strchr(text, ',');
        text = text != NULL ? text + 1 : NULL;
    }
    return false;
}

/* True when this call of the enclosing function shall fail. */
#define STUB_FAILS(function)                                                                       \
    ({                                                                                             \
        static atomic_uint calls_;                                                                 \
        stub_shall_fail(function, atomic_fetch_add(&calls_, 1) + 1);                               \
    })

#endif
