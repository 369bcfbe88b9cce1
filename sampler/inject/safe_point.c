/*
 * safe_point.c - see safe_point.h.
 */
#include "safe_point.h"
#include "remote_unwind.h"

#include <errno.h>
#include <stdlib.h>

#define FUTEX_FRAMES 8 /* a function that waits on a futex is this near */
#define FUTEX_COMMAND 0x7f /* without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME */
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9

static uint32_t kinds_at(const struct mp_inject_job *job, uint64_t pc) {
    uint32_t kinds = 0;
    for (uint64_t i = 0; i < job->range_count; i++)
        if (pc >= job->ranges[i].start && pc < job->ranges[i].end)
            kinds |= job->ranges[i].kind;
    return kinds;
}

static bool is_in(long number, const int64_t *numbers, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

/* Only code of the C library is between the call and a function of it that waits for an event. */
static bool waits_for_event(const struct mp_inject_job *job) {
    for (unsigned i = 0; i < job->frame_count && i < FUTEX_FRAMES; i++) {
        uint32_t kinds = kinds_at(job, job->frames[i]);
        if (kinds & MP_RANGE_WAITING)
            return true;
        if (!(kinds & MP_RANGE_LIBRARY))
            return false;
    }
    return false;
}

static bool is_plain_wait(const struct mp_regs *regs) {
    uint64_t command = mp_regs_second(regs) & FUTEX_COMMAND;
    return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
}

/* clone() is where the C library's threads begin, on glibc before 2.34 and where clone3() is denied. A
 * thread of nobody has no descriptor of its own, and a child of vfork() or posix_spawn() has its
 * parent's memory. */
static bool begins_strangely(const struct mp_inject_job *job) {
    for (unsigned i = 0; i < job->frame_count; i++) {
        if (!(kinds_at(job, job->frames[i]) & MP_RANGE_START))
            continue;
        if (i == 0 || i + 1 != job->frame_count || job->tid == job->pid ||
            !(kinds_at(job, job->frames[i - 1]) & MP_RANGE_LIBRARY))
            return true;
    }
    return false;
}

static enum mp_inject_unsafe judge_wait(const struct mp_inject_job *job, const struct mp_regs *regs,
                                        long number) {
    if (!is_in(number, job->waits, job->wait_count))
        return MP_UNSAFE_SYSCALL;
    if (is_in(number, job->rests, job->rest_count) && !mp_regs_interrupted(regs))
        return MP_UNSAFE_SYSCALL;
    if (number == job->futex)
        return waits_for_event(job) && is_plain_wait(regs) ? MP_UNSAFE_NOT : MP_UNSAFE_FUTEX;
    if (number == job->restart)
        return waits_for_event(job) ? MP_UNSAFE_NOT : MP_UNSAFE_FUTEX;
    return MP_UNSAFE_NOT;
}

static enum mp_inject_unsafe judge(const struct mp_inject_job *job, const struct mp_regs *regs,
                                   bool complete) {
    long number = mp_regs_syscall(regs);
    for (unsigned i = 0; i < job->frame_count; i++)
        if (kinds_at(job, job->frames[i]) & MP_RANGE_FORBIDDEN)
            return MP_UNSAFE_FORBIDDEN;
    if (begins_strangely(job))
        return MP_UNSAFE_FORBIDDEN;
    if (number >= 0)
        return judge_wait(job, regs, number);
    if (!job->may_run)
        return MP_UNSAFE_RUNNING;
    if (!complete)
        return MP_UNSAFE_UNKNOWN;
    return kinds_at(job, job->frames[0]) & MP_RANGE_CORE ? MP_UNSAFE_FORBIDDEN : MP_UNSAFE_NOT;
}

int mp_safe_point_prepare(struct mp_inject_job *job) {
    struct mp_remote_unwind *unwind = job->unwinder;
    if (unwind == NULL) {
        unwind = malloc(sizeof *unwind);
        if (unwind == NULL ||
            mp_remote_unwind_open(unwind, job->pid, job->modules, job->module_count) != 0) {
            free(unwind);
            return -ENOMEM;
        }
        job->unwinder = unwind;
    }
    mp_remote_unwind_prepare(unwind);
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
    bool complete = false, unprepared = false;
    job->frame_count = mp_remote_unwind(job->unwinder, regs, job->frames, MP_INJECT_FRAMES,
                                        &complete, &unprepared);
    job->unsafe = unprepared ? MP_UNSAFE_UNKNOWN : judge(job, regs, complete);
    if (job->unsafe == MP_UNSAFE_NOT && mp_regs_syscall(regs) < 0 &&
        mp_rseq_section(job->tid, job->pid) != 0)
        job->unsafe = MP_UNSAFE_SEQUENCE;
    return job->unsafe == MP_UNSAFE_NOT ? 0 : -EAGAIN;
}
