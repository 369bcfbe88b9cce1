/*
 * quiet.h - system calls that could end the process by a signal; here they only fail.
 *
 * Model: a file that grows past RLIMIT_FSIZE raises SIGXFSZ, a pipe without a reader SIGPIPE, and the
 * terminal of another job SIGTTOU; all of these go to the thread that makes the call. This thread blocks
 * them around the call, and removes a pending one of the call before it restores the mask. The process's
 * own handling of signals does not change, and no other thread notices.
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
