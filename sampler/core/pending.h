/*
 * pending.h - create the segment of a fork child only when it needs one.
 *
 * Model: a child of a capturing process continues at its parent's rate. Nearly all children are
 * short-lived, and most take no sample, so at first the child has only its own gate, against which
 * its hooks count down. The segment is created at the first sampled block, at the first device
 * block, or just before the program drops the rights needed for that (process/filter_watch.h).
 *
 * Threads: HOOK. One thread creates the segment; samples of other threads are lost meanwhile, and
 * counted. Creation blocks no other thread and allocates nothing; it makes system calls, because
 * the child has no seccomp filter yet.
 */
#ifndef MP_PENDING_H
#define MP_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum mp_pending_state { MP_PENDING_NONE, MP_PENDING_WAITS, MP_PENDING_OPENS };

/* Part of mp_local: a child of any kind of fork finds MP_PENDING_NONE. */
struct mp_pending {
    int64_t gate;
    uint64_t rate_bytes;
    uint64_t lost;    /* samples of other threads while one opens, and of vfork children */
    pid_t pid;        /* whose segment it will be */
    void (*open)(void); /* makes the segment and points the hot path to its gate */
    uint32_t state;
};

/* INIT. In the only thread of a child: let hooks count down from now on. */
void mp_pending_begin(uint64_t rate_bytes, void (*open)(void));

/* HOOK. Finish the decision of mp_sample_due() about `size` bytes. True: the block is a sample, and there is a
 * segment for it. */
bool mp_pending_sampled(size_t size);

/* HOOK. Make the segment now, if it is pending. */
void mp_pending_open(void);

/* INIT. Never make the segment. False if a thread is making it now. */
bool mp_pending_cancel(void);

#endif
