/*
 * safe_point.c - see safe_point.h.
 */
#include "safe_point.h"
#include "remote_unwind.h"

#include <errno.h>
#include <stdlib.h>

#define FUTEX_FRAMES 5 /* a function that waits on a futex is this near */

static uint32_t kinds_at(const struct mp_inject_job *job, uint64_t pc) {
    uint32_t kinds = 0;
    for (uint64_t i = 0; i < job->range_count; i++)
        if (pc >= job->ranges[i].start && pc < job->ranges[i].end)
            kinds |= job->ranges[i].kind;
    return kinds;
}

static bool is_wait(const struct mp_inject_job *job, long number) {
    for (uint64_t i = 0; i < job->wait_count; i++)
        if (job->waits[i] == number)
            return true;
    return false;
}

static bool waits_for_event(const struct mp_inject_job *job) {
    for (unsigned i = 0; i < job->frame_count && i < FUTEX_FRAMES; i++)
        if (kinds_at(job, job->frames[i]) & MP_RANGE_WAITING)
            return true;
    return false;
}

static enum mp_inject_unsafe judge(const struct mp_inject_job *job, const struct mp_regs *regs,
                                   bool complete) {
    long number = mp_regs_syscall(regs);
    for (unsigned i = 0; i < job->frame_count; i++)
        if (kinds_at(job, job->frames[i]) & MP_RANGE_FORBIDDEN)
            return MP_UNSAFE_FORBIDDEN;
    if (number >= 0) {
        if (!is_wait(job, number))
            return MP_UNSAFE_SYSCALL;
        return number != job->futex || waits_for_event(job) ? MP_UNSAFE_NOT : MP_UNSAFE_FUTEX;
    }
    if (!job->may_run)
        return MP_UNSAFE_RUNNING;
    if (!complete)
        return MP_UNSAFE_UNKNOWN;
    return kinds_at(job, job->frames[0]) & MP_RANGE_CORE ? MP_UNSAFE_FORBIDDEN : MP_UNSAFE_NOT;
}

int mp_safe_point_prepare(struct mp_inject_job *job) {
    if (job->unwinder != NULL)
        return 0;
    struct mp_remote_unwind *unwind = malloc(sizeof *unwind);
    if (unwind == NULL ||
        mp_remote_unwind_open(unwind, job->pid, job->modules, job->module_count) != 0) {
        free(unwind);
        return -ENOMEM;
    }
    mp_remote_unwind_prepare(unwind);
    job->unwinder = unwind;
    return 0;
}

void mp_inject_close(struct mp_inject_job *job) {
    if (job->unwinder == NULL)
        return;
    mp_remote_unwind_close(job->unwinder);
    free(job->unwinder);
    job->unwinder = NULL;
}

int mp_safe_point(struct mp_inject_job *job, const struct mp_regs *regs) {
    bool complete = false;
    job->frame_count =
        mp_remote_unwind(job->unwinder, regs, job->frames, MP_INJECT_FRAMES, &complete);
    job->unsafe = judge(job, regs, complete);
    if (job->unsafe == MP_UNSAFE_NOT && mp_regs_syscall(regs) < 0 &&
        mp_rseq_section(job->tid, job->pid) != 0)
        job->unsafe = MP_UNSAFE_SEQUENCE;
    return job->unsafe == MP_UNSAFE_NOT ? 0 : -EAGAIN;
}
