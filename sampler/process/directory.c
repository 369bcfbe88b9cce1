/*
 * directory.c - see directory.h.
 */
#include "directory.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct kernel_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

/* Too large for the stack of a small thread that forks. */
static _Alignas(8) char buffer[4096];

bool mp_directory_each(int fd, unsigned most, bool (*visit)(const char *name, void *arg),
                       void *arg) {
    long n = 1;
    for (unsigned seen = 0;
         seen < most && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;) {
        for (long at = 0; at < n; seen++) {
            const struct kernel_dirent *d = (const struct kernel_dirent *)(buffer + at);
            if (visit(d->name, arg))
                return false;
            at += d->reclen;
        }
    }
    return n <= 0;
}
