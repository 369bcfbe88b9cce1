/*
 * launch_ledger.h - what the stubs really launched: lines of the file "$STUB_LEDGER.launches".
 *
 *   WHAT START_NS END_NS THREAD DEVICE NUMBER NUMBER NAME DETAIL
 *
 * Texts are in hexadecimal digits, "-" is none. Each line is one write, so that those of threads do not mix.
 */
#ifndef STUB_LAUNCH_LEDGER_H
#define STUB_LAUNCH_LEDGER_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline unsigned long long ledger_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec;
}

static inline char *ledger_hex(char *to, const char *text, size_t bytes) {
    if (bytes == 0)
        *to++ = '-';
    for (size_t i = 0; i < bytes; i++)
        to += sprintf(to, "%02x", (unsigned char)text[i]);
    return to;
}

/* `start` 0: it begins now. */
static inline void ledger_write(const char *what, unsigned long long start, int device,
                                unsigned long long a, unsigned long long b, const char *name,
                                size_t name_bytes, const char *detail, size_t detail_bytes) {
    const char *path = getenv("STUB_LEDGER");
    char file[4096];
    char *line = (char *)malloc(256 + 2 * (name_bytes + detail_bytes));
    if (path == NULL || line == NULL) {
        free(line);
        return;
    }
    unsigned long long now = ledger_now();
    char *end = line + sprintf(line, "%s %llu %llu %ld %d %llu %llu ", what, start ? start : now,
                               now, syscall(SYS_gettid), device, a, b);
    end = ledger_hex(end, name, name_bytes);
    *end++ = ' ';
    end = ledger_hex(end, detail, detail_bytes);
    *end++ = '\n';
    snprintf(file, sizeof file, "%s.launches", path);
    int fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0 || write(fd, line, (size_t)(end - line)) != end - line)
        abort();
    close(fd);
    free(line);
}

#endif
