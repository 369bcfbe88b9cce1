/*
 * threads.h - the table of threads that own samples.
 *
 * A thread takes a row at its first sample and keeps it; rows are not reused. Row 0 is shared by
 * all threads that came after the last row was taken.
 *
 * Threads: any number of HOOK callers. Only the owning thread writes a row, `tid` last, with
 * release; the reader loads it with acquire before the name.
 */
#ifndef MP_THREADS_H
#define MP_THREADS_H

#include "table.h"

/* INIT, on the main thread. Learn where the C library keeps a thread's id, so that hooks need no
 * call. */
void mp_threads_init(void);

/* HOOK. Row of the calling thread in this segment, taking one if it has none. No system call when a
 * seccomp filter may be in force: the name stays empty then. */
uint32_t mp_thread_row(struct mp_segment *seg);

#endif
