/*
 * pending.h - a fork child that makes its segment when it needs one.
 *
 * Model: a child of a process that captures goes on at its parent's rate. Nearly all children are short, and most take
 * no sample; so the child has only a gate of its own at first, against which its hooks count down. The first block that
 * is a sample, the first one of a device, and the moment before the program gives up the rights that this takes
 * (process/filter_watch.h) open the segment.
 *
 * Threads: HOOK. One thread opens; others lose their samples meanwhile, which are counted. Opening takes no lock that
 * anybody waits for, and no memory; its system calls are those of a child that has no filter yet.
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
    void (*open)(void); /* makes the segment and leads the hot path to its gate */
    uint32_t state;
};

/* INIT. In the only thread of a child: let hooks count down from now on. */
void mp_pending_begin(uint64_t rate_bytes, void (*open)(void));

/* HOOK. Finish the decision of mp_sample_due() about `size` bytes. True: the block is a sample, and there is a
 * segment for it. */
bool mp_pending_sampled(size_t size);

/* HOOK. Make the segment now, if it is pending. */
void mp_pending_open(void);

/* INIT. Never make one. False: a thread does at this moment. */
bool mp_pending_cancel(void);

#endif
