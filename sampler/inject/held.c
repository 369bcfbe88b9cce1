/*
 * held.c - see held.h.
 */
#include "held.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)

uint64_t mp_held_pad(const struct borrow *b, const unsigned char *label) {
    return b->job->pad + (uint64_t)(label - mp_pad_code);
}

void mp_held_reached(struct borrow *b, uint32_t step) {
    b->job->step = step;
    if (b->job->kill_at == step && b->job->kill_pid > 0)
        kill(b->job->kill_pid, SIGKILL);
}

int mp_held_fail(struct borrow *b, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(b->job->text, sizeof b->job->text, format, arguments);
    va_end(arguments);
    return error;
}

int mp_held_ended(struct borrow *b) {
    b->traced = false;
    return mp_held_fail(b, -ESRCH, "thread %d ended meanwhile", b->tid);
}

int mp_held_resume(struct borrow *b, int request, int signal_number) {
    if (ptrace(request, b->tid, NULL, (void *)(intptr_t)signal_number) == 0)
        return 0;
    return errno == ESRCH ? mp_held_ended(b)
                          : mp_held_fail(b, -errno, "cannot resume thread %d", b->tid);
}

int mp_held_next_stop(struct borrow *b, uint64_t deadline_ns, int how, int *status) {
    for (;;) {
        int rc = mp_wait(b->tid, deadline_ns, status, &b->since_ns);
        if (rc == -ESRCH)
            return mp_held_ended(b);
        if (rc != 0)
            return rc;
        int event = *status >> 16, number = WSTOPSIG(*status);
        if (event == PTRACE_EVENT_EXEC)
            return mp_held_fail(b, -ESRCH, "the process started another program meanwhile");
        if (event != 0 || number == SYSCALL_STOP)
            return 0;
        rc = mp_held_resume(b, how, number);
        if (rc != 0)
            return rc;
    }
}

int mp_held_stop(struct borrow *b, uint64_t limit_ns, bool held, int *status) {
    if (ptrace(PTRACE_INTERRUPT, b->tid, NULL, NULL) != 0)
        return errno == ESRCH ? mp_held_ended(b)
                              : mp_held_fail(b, -errno, "cannot stop thread %d", b->tid);
    uint64_t deadline_ns = mp_now_ns() + limit_ns;
    if (held) {
        int rc = mp_held_resume(b, PTRACE_CONT, 0);
        if (rc != 0)
            return rc;
    }
    for (;;) {
        int rc = mp_held_next_stop(b, deadline_ns, PTRACE_CONT, status);
        if (rc == -ETIMEDOUT)
            return mp_held_fail(b, rc, "thread %d does not answer: it is blocked in the kernel",
                                b->tid);
        if (rc != 0 || *status >> 16 == PTRACE_EVENT_STOP)
            return rc;
        rc = mp_held_resume(b, PTRACE_CONT, 0); /* a system call's stop that was on its way */
        if (rc != 0)
            return rc;
    }
}

int mp_held_enter(struct borrow *b, uint64_t pc, uint64_t region, long code) {
    struct mp_regs regs;
    int rc = mp_regs_get(b->tid, &regs);
    if (rc == 0) {
        mp_regs_enter(&regs, pc, region, code);
        rc = mp_regs_set(b->tid, &regs);
    }
    if (rc == -ESRCH)
        return mp_held_ended(b);
    return rc == 0 ? 0 : mp_held_fail(b, rc, "cannot write the registers of thread %d", b->tid);
}
