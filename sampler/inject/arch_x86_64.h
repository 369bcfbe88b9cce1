/*
 * arch_x86_64.h - see arch.h.
 */
#ifndef MP_INJECT_ARCH_X86_64_H
#define MP_INJECT_ARCH_X86_64_H

#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define MP_XSTATE_NOTE 0x202 /* NT_X86_XSTATE */
#define MP_XSTATE_BYTES 32768
#define MP_SHADOW_STACK_NOTE 0x204 /* NT_X86_SHSTK */
#define MP_SYSCALL_INSTRUCTION_BYTES 2
#define MP_CS_64 0x33

struct mp_regs {
    struct user_regs_struct user;
};

struct mp_pad_data {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip;
    uint64_t flags;
    uint64_t mask;
};

static inline int mp_regs_get_rest(int tid, struct mp_regs *r) {
    (void)tid;
    return r->user.cs == MP_CS_64 ? 0 : -ENOEXEC;
}

static inline int mp_regs_set_rest(int tid, const struct mp_regs *r) {
    (void)tid;
    (void)r;
    return 0;
}

static inline uint64_t mp_regs_pc(const struct mp_regs *r) {
    return r->user.rip;
}

static inline uint64_t mp_regs_sp(const struct mp_regs *r) {
    return r->user.rsp;
}

static inline uint64_t mp_regs_fp(const struct mp_regs *r) {
    return r->user.rbp;
}

static inline uint64_t mp_regs_ra(const struct mp_regs *r) {
    (void)r;
    return 0;
}

static inline long mp_regs_syscall(const struct mp_regs *r) {
    return (long)r->user.orig_rax;
}

static inline uint64_t mp_regs_second(const struct mp_regs *r) {
    return r->user.rsi;
}

static inline long mp_regs_result(const struct mp_regs *r) {
    return (long)r->user.rax;
}

static inline bool mp_regs_at_entry(const struct mp_regs *r) {
    return (long)r->user.rax == -ENOSYS;
}

static inline uint64_t mp_regs_region(const struct mp_regs *r) {
    return r->user.rbx;
}

static inline long mp_regs_code(const struct mp_regs *r) {
    return (long)r->user.r12;
}

static inline void mp_regs_enter(struct mp_regs *r, uint64_t pc, uint64_t region, long code) {
    r->user.rip = pc;
    r->user.rbx = region;
    r->user.r12 = (uint64_t)code;
    r->user.orig_rax = (uint64_t)-1;
    r->user.eflags &= ~(uint64_t)0x500; /* neither single steps nor backwards */
}

/* Calls that end with -EINTR when the thread only stops, and that may run again. */
static inline bool mp_syscall_repeats(long number) {
    switch (number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case 441: /* epoll_pwait2 */
    case SYS_open:
    case SYS_openat:
    case SYS_connect:
    case SYS_flock:
    case SYS_fcntl:
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_preadv2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_rt_sigtimedwait:
    case SYS_io_getevents:
        return true;
    default:
        return false;
    }
}

static inline bool mp_regs_interrupted(const struct mp_regs *r) {
    long error = -mp_regs_result(r);
    return error == MP_ERESTARTSYS || error == MP_ERESTARTNOINTR || error == MP_ERESTARTNOHAND ||
           error == MP_ERESTART_RESTARTBLOCK ||
           (error == EINTR && mp_syscall_repeats(mp_regs_syscall(r)));
}

static inline void mp_regs_hide_stop(struct mp_regs *r) {
    if (mp_regs_result(r) == -EINTR && mp_syscall_repeats(mp_regs_syscall(r)))
        r->user.rax = (uint64_t)-MP_ERESTARTNOHAND;
}

static inline void mp_pad_fill(struct mp_pad_data *d, const struct mp_regs *r, uint64_t mask) {
    const struct user_regs_struct *u = &r->user;
    *d = (struct mp_pad_data){u->rax, u->rbx, u->rcx, u->rdx,    u->rsi, u->rdi, u->rbp,
                              u->rsp, u->r8,  u->r9,  u->r10,    u->r11, u->r12, u->r13,
                              u->r14, u->r15, u->rip, u->eflags, mask};
    if ((long)u->orig_rax < 0)
        return;
    switch (-(long)u->rax) {
    case MP_ERESTARTSYS:
    case MP_ERESTARTNOINTR:
    case MP_ERESTARTNOHAND:
        d->rax = u->orig_rax;
        d->rip -= MP_SYSCALL_INSTRUCTION_BYTES;
        break;
    case MP_ERESTART_RESTARTBLOCK:
        d->rax = SYS_restart_syscall;
        d->rip -= MP_SYSCALL_INSTRUCTION_BYTES;
        break;
    default:
        break;
    }
}

static inline bool mp_pad_can_return(uint64_t pad, const struct mp_regs *r) {
    (void)pad;
    (void)r;
    return true;
}

/* Whether the payload may use xsave, or must use the older fxsave. */
static inline bool mp_has_xsave(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_OSXSAVE) != 0;
}

/* After the pad was copied to `copy`, which will lie at `pad`. */
static inline void mp_pad_link(unsigned char *copy, uint64_t pad, const struct mp_regs *r) {
    (void)copy;
    (void)pad;
    (void)r;
}

#endif
