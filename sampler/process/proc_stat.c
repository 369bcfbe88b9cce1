/*
 * proc_stat.c - see proc_stat.h.
 */
#include "proc_stat.h"
#include "text.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STAT_THREADS 20
#define STAT_START_TICKS 22 /* since boot */

long mp_proc_read(const char *path, char *buffer, size_t n) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    size_t got = 0;
    long r;
    while (got < n - 1 && (r = read(fd, buffer + got, n - 1 - got)) > 0)
        got += (size_t)r;
    close(fd);
    buffer[got] = '\0';
    return (long)got;
}

/* A field of a /proc/PID/stat; 0 when there is no such process. */
static uint64_t stat_field(const char *stat_path, int wanted) {
    static char text[1024]; /* too large for the stack of a small thread that forks */
    if (mp_proc_read(stat_path, text, sizeof text) <= 0)
        return 0;
    /* the command name may hold spaces and parentheses */
    const char *p = strrchr(text, ')');
    for (int field = 2; p != NULL && field < wanted; field++)
        p = strchr(p + 1, ' ');
    return p ? strtoull(p + 1, NULL, 10) : 0;
}

bool mp_only_thread(void) {
    return stat_field("/proc/self/stat", STAT_THREADS) == 1;
}

uint64_t mp_start_ticks_of(uint32_t pid) {
    char path[32];
    struct mp_text name = {.buffer = path, .size = sizeof path};
    if (pid == 0)
        return stat_field("/proc/self/stat", STAT_START_TICKS);
    mp_put(&name, "/proc/");
    mp_put_number(&name, pid);
    mp_put(&name, "/stat");
    return stat_field(path, STAT_START_TICKS);
}
