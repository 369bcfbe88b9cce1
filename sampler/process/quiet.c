/*
 * quiet.c - see quiet.h.
 */
#include "quiet.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BIT(number) (1ULL << ((number) - 1))
#define RAISED (BIT(SIGXFSZ) | BIT(SIGPIPE))

static uint64_t pending_now(void) {
    uint64_t set = 0;
    syscall(SYS_rt_sigpending, &set, sizeof set);
    return set & RAISED;
}

void mp_quiet_begin(struct mp_quiet *quiet) {
    const uint64_t block = RAISED | BIT(SIGTTOU);
    *quiet = (struct mp_quiet){0};
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &block, &quiet->mask, sizeof block);
    quiet->pending = pending_now();
}

/* A signal of the same number that the program itself blocks stays: it looks the same as ours. */
void mp_quiet_end(const struct mp_quiet *quiet) {
    int saved_errno = errno;
    uint64_t ours = pending_now() & ~quiet->pending;
    const struct timespec at_once = {0};
    if (ours != 0)
        syscall(SYS_rt_sigtimedwait, &ours, NULL, &at_once, sizeof ours);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &quiet->mask, NULL, sizeof quiet->mask);
    errno = saved_errno;
}

/* Not by ppoll(), which wants RLIMIT_NOFILE not to be 0. `fd` is one of the first 64. */
static bool may_write_now(int fd) {
    uint64_t writable = 1ULL << fd;
    struct timespec at_once = {0};
    return syscall(SYS_pselect6, fd + 1, NULL, &writable, NULL, &at_once, NULL) == 1;
}

void mp_quiet_write(int fd, const char *text, size_t n) {
    struct mp_quiet quiet;
    if (!may_write_now(fd))
        return;
    mp_quiet_begin(&quiet);
    long written = syscall(SYS_write, fd, text, n);
    mp_quiet_end(&quiet);
    (void)written; /* nobody reads: there is no other output */
}
