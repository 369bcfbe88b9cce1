/*
 * remote_call.c - one borrowing of a thread, from PTRACE_SEIZE to PTRACE_DETACH: see inject.h.
 *
 * Model: a list of steps (enum mp_inject_step). The order depends on the result of the controller's death
 * between two of them: ptrace then lets the thread go on with its present registers, so these always
 * point to code that returns by itself. The engine never sets a breakpoint, since one that outlives us
 * would kill. It follows the thread by its system calls: at each stop the instruction pointer shows the
 * place.
 *
 * At the end the engine restores the registers at a stop on the way out of the kernel, where the kernel
 * decides about an interrupted system call and about signals: it finds its own state unchanged.
 */
#include "held.h"
#include "safe_point.h"
#include "seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_LIMIT_NS 2000000000ULL /* until a thread answers to PTRACE_INTERRUPT */
/* The engine waits once a second, five times in all, for a thread that is late, before it leaves the
 * thread to return by itself. */
#define RESCUE_LIMIT_NS 1000000000ULL
#define RESCUES 5
#define MAX_ERRNO 4095 /* of the kernel */

const void *mp_inject_pad_code(void) {
    return mp_pad_code;
}

uint64_t mp_inject_pad_bytes(void) {
    return (uint64_t)(mp_pad_code_end - mp_pad_code);
}

static int seize(struct borrow *b) {
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, b->tid, NULL, (void *)options) != 0)
        return mp_held_fail(b, -errno, "the kernel refuses ptrace of thread %d: %s", b->tid,
                            strerror(errno));
    b->traced = true;
    mp_held_reached(b, MP_STEP_SEIZED);
    int status;
    b->since_ns = mp_now_ns();
    int rc = mp_held_stop(b, STOP_LIMIT_NS, false, &status);
    if (rc != 0)
        return rc;
    b->began_ns = b->since_ns;
    if (WSTOPSIG(status) != SIGTRAP) {
        b->job->unsafe = MP_UNSAFE_STOPPED;
        return mp_held_fail(b, -EAGAIN, "the process is stopped");
    }
    return 0;
}

static int check_filters(struct borrow *b) {
    char call[32];
    int rc = b->job->filtered != 0 ? mp_seccomp_check(b->tid, call, sizeof call) : 0;
    if (rc == -EPERM)
        return mp_held_fail(b, -ENOTSUP, "its seccomp filter would end it for the call %s", call);
    if (rc != 0 && b->job->filtered == 1)
        return mp_held_fail(b, -EACCES, "this user may not read its seccomp filter");
    return 0;
}

static int read_state(struct borrow *b) {
    int rc = mp_regs_get(b->tid, &b->regs);
    if (rc == -ENOEXEC)
        return mp_held_fail(b, rc, "thread %d runs 32-bit code", b->tid);
    b->xstate_bytes = sizeof b->xstate;
    if (rc == 0)
        rc = mp_mask_get(b->tid, &b->mask);
    if (rc == 0)
        rc = mp_xstate_get(b->tid, b->xstate, &b->xstate_bytes);
    if (rc != 0)
        return mp_held_fail(b, rc, "cannot read the registers of thread %d", b->tid);
    if (mp_has_shadow_stack(b->tid))
        return mp_held_fail(b, -ENOTSUP, "thread %d keeps a shadow stack (CET)", b->tid);
    rc = check_filters(b);
    if (rc != 0)
        return rc;
    rc = mp_safe_point(b->job, &b->regs);
    mp_regs_hide_stop(&b->regs);
    if (rc != 0) {
        mp_regs_set(b->tid, &b->regs);
        return mp_held_fail(b, rc, "thread %d is not at a safe point", b->tid);
    }
    mp_held_reached(b, MP_STEP_STOPPED);
    return 0;
}

static int write_pad(struct borrow *b) {
    b->pad_bytes = mp_inject_pad_bytes();
    if (b->job->pad_bytes < b->pad_bytes || !mp_pad_can_return(b->job->pad, &b->regs))
        return mp_held_fail(b, -ENOTSUP, "no room for code within reach of thread %d", b->tid);
    b->pad = malloc(b->pad_bytes);
    b->pad_before = malloc(b->pad_bytes);
    if (b->pad == NULL || b->pad_before == NULL)
        return mp_held_fail(b, -ENOMEM, "out of memory");
    struct mp_pad_data data;
    mp_pad_fill(&data, &b->regs, b->mask);
    memcpy(b->pad, mp_pad_code, b->pad_bytes);
    memcpy(b->pad + (mp_pad_data - mp_pad_code), &data, sizeof data);
    mp_pad_link(b->pad, b->job->pad, &b->regs);
    int rc = mp_remote_read(b->job->pid, b->job->pad, b->pad_before, b->pad_bytes);
    if (rc == 0) {
        b->pad_written = true; /* in part, if the write fails */
        rc = mp_remote_write(b->tid, b->mem_fd, b->job->pad, b->pad, b->pad_bytes);
    }
    if (rc != 0)
        return mp_held_fail(b, rc, "cannot write to the memory of pid %d", b->job->pid);
    mp_held_reached(b, MP_STEP_PAD_WRITTEN);
    return 0;
}

/* The region is mapped, its code executable: fill it. */
static int write_region(struct borrow *b) {
    struct mp_payload_frame *frame = malloc(sizeof *frame);
    if (frame == NULL)
        return mp_held_fail(b, -ENOMEM, "out of memory");
    *frame = *b->frame;
    frame->region = b->region;
    frame->nap[1] = MP_NAP_NS;
    frame->loader = b->region + MP_REGION_CODE + (uint64_t)(mp_payload_loader - __start_mp_payload);
    frame->xsave = mp_has_xsave();
    frame->pad_leave = mp_held_pad(b, mp_pad_leave);
    frame->pad_unused = mp_held_pad(b, mp_pad_unused);
    if (b->job->plan != NULL) {
        frame->request.plan = b->region + MP_REGION_PLAN;
        frame->request.plan_bytes = b->job->plan_bytes;
    }
    int rc = mp_remote_write(b->tid, b->mem_fd, b->region + MP_REGION_FRAME, frame, sizeof *frame);
    free(frame);
    if (rc == 0)
        rc = mp_remote_write(b->tid, b->mem_fd, b->region + MP_REGION_CODE, __start_mp_payload,
                             (size_t)(__stop_mp_payload - __start_mp_payload));
    if (rc == 0 && b->job->plan != NULL)
        rc = mp_remote_write(b->tid, b->mem_fd, b->region + MP_REGION_PLAN, b->job->plan,
                             b->job->plan_bytes);
    if (rc != 0)
        return mp_held_fail(b, rc, "cannot write to the new memory of pid %d", b->job->pid);
    mp_held_reached(b, MP_STEP_REGION_WRITTEN);
    return 0;
}

/* After mprotect: fill the region and send the thread there; after a failure it returns by itself. */
static int divert(struct borrow *b, const struct mp_regs *regs) {
    b->region = mp_regs_region(regs);
    mp_held_reached(b, MP_STEP_PROTECTED);
    if (mp_regs_result(regs) != 0) {
        b->refused = MP_STEP_PROTECTED;
        return 0;
    }
    int rc = write_region(b);
    if (rc == 0)
        rc = mp_held_enter(
            b, b->region + MP_REGION_CODE + (uint64_t)(mp_payload_start - __start_mp_payload),
            b->region, 0);
    if (rc != 0)
        return mp_held_enter(b, mp_held_pad(b, mp_pad_unused), b->region, rc) == 0 ? 0 : rc;
    mp_held_reached(b, MP_STEP_DIVERTED);
    b->diverted = true;
    return 0;
}

static bool is_error(long result) {
    return result < 0 && result >= -MAX_ERRNO;
}

/* Handle one stop of a system call. *done: the thread is at the checkpoint, or diverted. */
static int at_syscall(struct borrow *b, bool *done) {
    struct mp_regs regs;
    int rc = mp_regs_get(b->tid, &regs);
    if (rc != 0)
        return rc == -ESRCH ? mp_held_ended(b)
                            : mp_held_fail(b, rc, "cannot read thread %d", b->tid);
    uint64_t pc = mp_regs_pc(&regs);
    if (mp_regs_at_entry(&regs))
        return 0;
    if (pc == mp_held_pad(b, mp_pad_mapped)) {
        mp_held_reached(b, MP_STEP_MAPPED);
        if (is_error(mp_regs_result(&regs)))
            b->refused = MP_STEP_MAPPED;
    }
    if (pc == mp_held_pad(b, mp_pad_protected)) {
        rc = divert(b, &regs);
        *done = b->diverted;
        return rc;
    }
    if (pc == mp_held_pad(b, mp_pad_checkpoint)) {
        b->region = mp_regs_region(&regs);
        b->code = mp_regs_code(&regs);
        *done = true;
    }
    return 0;
}

/* Follow the thread through the pad: until it is diverted, or at the checkpoint. */
static int follow(struct borrow *b, uint64_t deadline_ns) {
    bool done = false;
    while (!done) {
        int status;
        int rc = mp_held_resume(b, PTRACE_SYSCALL, 0);
        if (rc == 0)
            rc = mp_held_next_stop(b, deadline_ns, PTRACE_SYSCALL, &status);
        if (rc == 0 && status >> 16 == 0)
            rc = at_syscall(b, &done);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* A report during the creation of the loader: a signal that nobody can block, or the end. */
static int pass_report(struct borrow *b) {
    int status;
    int rc = mp_poll(b->tid, &status);
    if (rc == -EAGAIN)
        return 0;
    if (rc != 0)
        return mp_held_ended(b);
    int event = status >> 16;
    if (event == PTRACE_EVENT_EXEC)
        return mp_held_fail(b, -ESRCH, "the process started another program meanwhile");
    return mp_held_resume(b, PTRACE_CONT, event == 0 ? WSTOPSIG(status) : 0);
}

/* Has the thread reported the creation of the loader? Then b->code has the result. If it failed, and we
 * come too late, the region is gone: a limit is the usual reason. */
static bool is_ready(struct borrow *b) {
    const uint64_t frame = b->region + MP_REGION_FRAME;
    uint32_t ready = 0;
    int32_t created = 0;
    int rc = mp_remote_read(b->job->pid, frame + offsetof(struct mp_payload_frame, ready), &ready,
                            sizeof ready);
    if (rc == 0 && ready == 0)
        return false;
    if (rc == 0)
        rc = mp_remote_read(b->job->pid, frame + offsetof(struct mp_payload_frame, created),
                            &created, sizeof created);
    if (rc != 0 && rc != -EFAULT)
        return false; /* the process is ending: its reports tell */
    b->code = rc == 0 ? -created : -EAGAIN;
    return true;
}

/* The thread runs in the region, unwatched, until the creation or refusal of the loader. */
static int await_loader(struct borrow *b, uint64_t deadline_ns) {
    long nap_ns = MP_NAP_FIRST_NS;
    int rc = mp_held_resume(b, PTRACE_CONT, 0);
    if (rc != 0)
        return rc;
    mp_held_reached(b, MP_STEP_CREATING);
    while (!is_ready(b)) {
        rc = pass_report(b);
        if (rc != 0)
            return rc;
        if (mp_now_ns() >= deadline_ns)
            return -ETIMEDOUT;
        mp_nap(&nap_ns);
    }
    b->made = b->code == 0;
    mp_held_reached(b, MP_STEP_CREATED);
    return 0;
}

/* Is the thread still in our code: in the pad, or on the region's stack? */
static bool is_borrowed(const struct borrow *b, const struct mp_regs *regs) {
    return mp_regs_pc(regs) - b->job->pad <= b->pad_bytes ||
           (b->region != 0 && mp_regs_sp(regs) - b->region <= MP_REGION_BYTES);
}

/* It has returned by itself, before we came; it must only not notice our stop. */
static int leave_alone(struct borrow *b, struct mp_regs *regs) {
    mp_regs_hide_stop(regs);
    mp_regs_set(b->tid, regs);
    b->gone_back = true;
    return 0;
}

/*
 * No loader exists: move the thread out by force. That is safe after a refusal of the loader, in the pad,
 * and where it waits for a lock, which it does before it makes a thread, never after. On its way to the
 * checkpoint it unmaps the region. Anywhere else it is only slow: `*slow` is set.
 */
static int lead_out(struct borrow *b, bool refused, bool *slow) {
    struct mp_regs regs;
    int status;
    int rc = mp_held_stop(b, RESCUE_LIMIT_NS, false, &status);
    if (rc == 0)
        rc = mp_regs_get(b->tid, &regs);
    if (rc != 0)
        return rc;
    if (!is_borrowed(b, &regs))
        return leave_alone(b, &regs);
    *slow = !refused && b->diverted && mp_regs_syscall(&regs) != b->job->futex;
    if (*slow)
        return 0;
    const unsigned char *way = b->region != 0 ? mp_pad_unused : mp_pad_leave;
    rc = mp_held_enter(b, mp_held_pad(b, way), b->region, refused ? b->code : -ETIMEDOUT);
    return rc == 0 ? follow(b, mp_now_ns() + RESCUE_LIMIT_NS) : rc;
}

/* After a refusal or a failure: until it is out, or at least on its way. */
static int rescue(struct borrow *b, int why) {
    bool slow = false;
    int rc = lead_out(b, why == 0, &slow);
    for (unsigned i = 0; rc == 0 && slow && i < RESCUES; i++) {
        rc = await_loader(b, mp_now_ns() + RESCUE_LIMIT_NS);
        if (rc == 0 && b->made)
            return 0;
        if (rc == 0 || rc == -ETIMEDOUT)
            rc = lead_out(b, rc == 0, &slow);
    }
    return rc == 0 && slow
               ? mp_held_fail(b, -ETIMEDOUT, "thread %d is blocked in the kernel", b->tid)
               : rc;
}

/* In the region, or at the checkpoint, all signals blocked: restore everything where the kernel reads it
 * next. `held`: it is at a stop. */
static int put_back(struct borrow *b, bool held) {
    struct mp_regs regs;
    int status;
    int rc = mp_held_stop(b, STOP_LIMIT_NS, held, &status);
    if (rc == 0)
        rc = mp_regs_get(b->tid, &regs);
    if (rc != 0)
        return rc;
    if (!is_borrowed(b, &regs))
        return leave_alone(b, &regs);
    /* From here to the registers, the pad still does the rest if we die. */
    mp_xstate_set(b->tid, b->xstate, b->xstate_bytes);
    mp_mask_set(b->tid, b->mask);
    mp_held_reached(b, MP_STEP_MASK_RESTORED);
    rc = mp_regs_set(b->tid, &b->regs);
    if (rc != 0)
        return rc == -ESRCH ? mp_held_ended(b)
                            : mp_held_fail(b, rc, "cannot restore thread %d", b->tid);
    mp_held_reached(b, MP_STEP_RESTORED);
    if (b->region != 0) {
        const uint32_t left = 1;
        mp_remote_write(b->tid, b->mem_fd, b->region + offsetof(struct mp_payload_frame, left),
                        &left, sizeof left);
    }
    return 0;
}

static void restore_pad(struct borrow *b) {
    if (!b->pad_written)
        return;
    mp_remote_write(b->tid, b->mem_fd, b->job->pad, b->pad_before, b->pad_bytes);
    b->pad_written = false;
    mp_held_reached(b, MP_STEP_PAD_RESTORED);
}

/* The thread is back, and there is no loader: why. */
static int say_refusal(struct borrow *b) {
    int error = (int)b->code;
    if (b->refused == MP_STEP_NONE)
        return mp_held_fail(b, error, "%s", strerror(-error));
    bool forbidden = error == -EACCES || error == -EPERM;
    b->job->step = b->refused;
    if (b->refused == MP_STEP_MAPPED)
        return mp_held_fail(b, forbidden ? -ENOTSUP : error, "it may not map new memory: %s",
                            strerror(-error));
    if (forbidden)
        return mp_held_fail(b, -ENOTSUP,
                            "it denies new executable memory (MDWE, systemd's "
                            "MemoryDenyWriteExecute=)");
    return mp_held_fail(b, error, "it cannot make its new memory executable: %s", strerror(-error));
}

static int visit(struct borrow *b) {
    int rc = write_pad(b);
    if (rc == 0)
        rc = mp_held_enter(b, b->job->pad, 0, 0);
    if (rc != 0) {
        if (b->traced)
            restore_pad(b);
        return rc;
    }
    mp_held_reached(b, MP_STEP_PAD_ENTERED);
    rc = follow(b, b->deadline_ns);
    if (rc == 0 && b->diverted)
        rc = await_loader(b, b->deadline_ns);
    if (rc == -ETIMEDOUT || (rc == 0 && b->diverted && !b->made))
        rc = rescue(b, rc);
    if (rc == 0 && !b->gone_back)
        rc = put_back(b, !b->made);
    if (rc != 0)
        return rc; /* the pad stays: the thread may still be in it */
    restore_pad(b);
    if (b->gone_back && !b->made && b->code == 0)
        b->code = -ETIMEDOUT;
    return b->code == 0 ? 0 : say_refusal(b);
}

static void let_go(struct borrow *b) {
    if (b->traced)
        ptrace(PTRACE_DETACH, b->tid, NULL, NULL);
    if (b->began_ns == 0)
        return;
    uint64_t held_ns = mp_now_ns() - b->began_ns;
    b->job->held_ns += held_ns;
    b->job->holds++;
    if (held_ns > b->job->longest_ns)
        b->job->longest_ns = held_ns;
}

int mp_inject_borrow(struct mp_inject_job *job, const struct mp_payload_frame *frame) {
    struct borrow *b = calloc(1, sizeof *b);
    if (b == NULL)
        return -ENOMEM;
    *b = (struct borrow){.job = job, .frame = frame, .tid = job->tid};
    b->deadline_ns = mp_now_ns() + (uint64_t)job->timeout_ms * 1000000;
    prctl(PR_SET_TIMERSLACK, 1UL); /* naps as short as asked for; of this thread alone */
    job->step = MP_STEP_NONE;
    job->unsafe = MP_UNSAFE_NOT;
    job->region = 0;
    job->text[0] = '\0';
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/mem", job->pid);
    b->mem_fd = open(path, O_RDWR | O_CLOEXEC);
    int rc = mp_safe_point_prepare(job);
    if (rc == 0)
        rc = seize(b);
    if (rc == 0)
        rc = read_state(b);
    if (rc == 0)
        rc = visit(b);
    let_go(b);
    if (rc == 0)
        mp_held_reached(b, MP_STEP_DETACHED);
    if (rc == 0)
        job->region = b->region;
    if (b->mem_fd >= 0)
        close(b->mem_fd);
    free(b->pad);
    free(b->pad_before);
    free(b);
    return rc;
}
