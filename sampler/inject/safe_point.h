/*
 * safe_point.h - may the engine borrow this stopped thread?
 *
 * The creation of a thread takes locks of the C library, of its allocator and of the loader. The thread
 * must hold none of them. So: it only waits in a system call, and none of its callers is inside one of
 * the three; or, where the caller allows it (may_run), it runs code of its own, known up to the outermost
 * frame.
 */
#ifndef MP_INJECT_SAFE_POINT_H
#define MP_INJECT_SAFE_POINT_H

#include "inject.h"
#include "remote.h"

/* Before each stop of a thread: copy the unwind tables that the check needs, or lacked. 0, or -ENOMEM. */
int mp_safe_point_prepare(struct mp_inject_job *job);

/* 0; -EAGAIN with job->unsafe, and its callers in job->frames. */
int mp_safe_point(struct mp_inject_job *job, const struct mp_regs *regs);

#endif
