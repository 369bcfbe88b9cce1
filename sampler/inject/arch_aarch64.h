/*
 * arch_aarch64.h - see arch.h.
 *
 * At a stop the kernel has already prepared an interrupted call for its repetition: the program counter
 * is at the system call again, the first argument is back. So it is enough to restore the registers,
 * except for the calls that go on with the rest of their time (restart_syscall): the engine must set
 * their number.
 */
#ifndef MP_INJECT_ARCH_AARCH64_H
#define MP_INJECT_ARCH_AARCH64_H

#include <asm/ptrace.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define MP_XSTATE_NOTE 0x2 /* NT_PRFPREG: v0 to v31, fpsr, fpcr */
#define MP_XSTATE_BYTES 32768
#define MP_SHADOW_STACK_NOTE 0x410 /* NT_ARM_GCS: the features in use come first */
#define MP_SVC_0 0xd4000001u
#define MP_BRANCH 0x14000000u
#define MP_BRANCH_REACH ((int64_t)1 << 27)

struct mp_regs {
    struct user_pt_regs user;
    int32_t syscall; /* -1: none */
};

/* x0..x30, sp, flags, signal mask; in the order in which pad_aarch64.c reads them. */
struct mp_pad_data {
    uint64_t x[31];
    uint64_t sp;
    uint64_t flags;
    uint64_t mask;
};

/* A stop on the way out of an interrupted call: the kernel has forgotten its number, but the code and x8
 * tell it. */
static inline int mp_regs_get_rest(int tid, struct mp_regs *r) {
    bool interrupted = (long)r->user.regs[0] == -EINTR;
    r->syscall = -1;
    for (uint64_t at = r->user.pc, tries = 0; tries < 1 + (uint64_t)interrupted; tries++, at -= 4) {
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)at, NULL);
        if (errno == 0 && (uint32_t)word == MP_SVC_0)
            r->syscall = (int32_t)r->user.regs[8];
    }
    return (r->user.pstate & PSR_MODE32_BIT) == 0 ? 0 : -ENOEXEC;
}

static inline int mp_regs_set_rest(int tid, const struct mp_regs *r) {
    int32_t none = -1;
    struct iovec io = {&none, sizeof none};
    (void)r;
    return ptrace(PTRACE_SETREGSET, tid, (void *)NT_ARM_SYSTEM_CALL, &io) == 0 ? 0 : -errno;
}

static inline uint64_t mp_regs_pc(const struct mp_regs *r) {
    return r->user.pc;
}

static inline uint64_t mp_regs_sp(const struct mp_regs *r) {
    return r->user.sp;
}

static inline uint64_t mp_regs_fp(const struct mp_regs *r) {
    return r->user.regs[29];
}

static inline uint64_t mp_regs_ra(const struct mp_regs *r) {
    return r->user.regs[30];
}

static inline long mp_regs_syscall(const struct mp_regs *r) {
    return r->syscall;
}

static inline uint64_t mp_regs_second(const struct mp_regs *r) {
    return r->user.regs[1];
}

static inline long mp_regs_result(const struct mp_regs *r) {
    return (long)r->user.regs[0];
}

/* At the entry the kernel shows 0 in x7, at the exit 1 (Documentation/arch/arm64, ptrace). */
static inline bool mp_regs_at_entry(const struct mp_regs *r) {
    return r->user.regs[7] == 0;
}

static inline uint64_t mp_regs_region(const struct mp_regs *r) {
    return r->user.regs[19];
}

static inline long mp_regs_code(const struct mp_regs *r) {
    return (long)r->user.regs[20];
}

static inline void mp_regs_enter(struct mp_regs *r, uint64_t pc, uint64_t region, long code) {
    r->user.pc = pc;
    r->user.regs[19] = region;
    r->user.regs[20] = (uint64_t)code;
}

/* A known call is one that the kernel has prepared for repetition, or one that gave -EINTR. */
static inline bool mp_regs_interrupted(const struct mp_regs *r) {
    return r->syscall >= 0 && mp_regs_result(r) != -EINTR;
}

/* Calls that go on by restart_syscall, with the time that is left. */
static inline bool mp_syscall_resumes(long number) {
    return number == SYS_nanosleep || number == SYS_clock_nanosleep || number == SYS_futex;
}

/*
 * At the call, the kernel repeats it. Behind it with -EINTR, its first argument is lost: it stays as it
 * is, as after SIGSTOP and SIGCONT.
 */
static inline void mp_regs_hide_stop(struct mp_regs *r) {
    if (mp_syscall_resumes(r->syscall) && (long)r->user.regs[0] != -EINTR)
        r->user.regs[8] = SYS_restart_syscall;
}

static inline void mp_pad_fill(struct mp_pad_data *d, const struct mp_regs *r, uint64_t mask) {
    memcpy(d->x, r->user.regs, sizeof d->x);
    d->sp = r->user.sp;
    d->flags = r->user.pstate & 0xf0000000u;
    d->mask = mask;
}

/* The last instruction is a direct branch, since no register is free to hold the address. */
static inline bool mp_pad_can_return(uint64_t pad, const struct mp_regs *r) {
    int64_t distance = (int64_t)(r->user.pc - pad);
    return distance > -(MP_BRANCH_REACH - 4096) && distance < MP_BRANCH_REACH - 4096;
}

static inline bool mp_has_xsave(void) {
    return true;
}

extern const unsigned char mp_pad_code[], mp_pad_branch[], mp_pad_data[];

static inline void mp_pad_link(unsigned char *copy, uint64_t pad, const struct mp_regs *r) {
    uint64_t offset = (uint64_t)(mp_pad_branch - mp_pad_code);
    int64_t distance = (int64_t)(r->user.pc - (pad + offset));
    uint32_t branch = MP_BRANCH | ((uint32_t)(distance / 4) & 0x03ffffffu);
    memcpy(copy + offset, &branch, sizeof branch);
}

#endif
