/*
 * quiet.h - system calls that can end the process by a signal, made so that they only fail.
 *
 * Model: a file that grows past RLIMIT_FSIZE raises SIGXFSZ, a pipe without a reader SIGPIPE, and the terminal of
 * another job SIGTTOU; all of these go to the thread that makes the call. They are blocked on this thread around
 * it, and what the call left pending is taken away before the mask is what it was. Nothing of the process's own
 * handling of signals changes, and no other thread notices.
 *
 * Threads: INIT. errno is that of the call in between.
 */
#ifndef MP_QUIET_H
#define MP_QUIET_H

#include <stddef.h>
#include <stdint.h>

struct mp_quiet {
    uint64_t mask; /* as it was */
    uint64_t pending;
};

void mp_quiet_begin(struct mp_quiet *quiet);
void mp_quiet_end(const struct mp_quiet *quiet);

/* Write text to a descriptor of the program's; not at all where the program would have to wait, or nobody reads. */
void mp_quiet_write(int fd, const char *text, size_t n);

#endif
