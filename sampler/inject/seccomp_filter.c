/*
 * seccomp_filter.c - see seccomp_filter.h. The instructions: linux/filter.h; of loads only whole words
 * of struct seccomp_data exist (seccomp(2)).
 */
#include "seccomp_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define PROGRAMS_MAX 64
#define CLONE_OF_THREADS 0x3d0f00 /* what pthread_create asks for */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

struct call {
    const char *name;
    int number;
    uint64_t arguments[6];
};

#define CALL(name, ...)                                                                            \
    {                                                                                              \
        #name, SYS_##name, {                                                                       \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct call calls[] = {
    CALL(mmap, 0, 0x50000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0),
    CALL(mmap, 0, 0x1000, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, 3, 0),
    CALL(mmap, 0, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0),
    CALL(mprotect, 0, 0x10000, PROT_READ | PROT_EXEC),
    CALL(mprotect, 0, 0x1000, PROT_READ | PROT_WRITE),
    CALL(munmap, 0, 0x50000),
    CALL(madvise, 0, 0x1000, 4),
    CALL(rt_sigprocmask, 2, 0, 0, 8),
    CALL(clone, CLONE_OF_THREADS),
#ifdef SYS_clone3
    CALL(clone3, 0, 88),
#endif
    CALL(set_robust_list, 0, 24),
#ifdef SYS_rseq
    CALL(rseq, 0, 32),
#endif
    CALL(gettid, 0),
    CALL(getpid, 0),
    CALL(getuid, 0),
    CALL(geteuid, 0),
    CALL(futex, 0, 0x81, 1),
    CALL(nanosleep, 0, 0),
    CALL(readlinkat, (uint64_t)-100),
    CALL(memfd_create, 0, 3),
    CALL(write, 3, 0, 4096),
    CALL(fcntl, 3, 1033, 15),
    CALL(openat, (uint64_t)-100, 0, 0x80000),
    CALL(read, 3, 0, 832),
    CALL(pread64, 3, 0, 832),
    CALL(fstat, 3),
    CALL(newfstatat, (uint64_t)-100),
    CALL(lseek, 3, 0, 0),
    CALL(close, 3),
    CALL(mkdirat, (uint64_t)-100),
    CALL(ftruncate, 3, 4096),
    CALL(fallocate, 3, 0, 0, 4096),
    CALL(fstatfs, 3),
    CALL(unlinkat, (uint64_t)-100),
    CALL(getrandom, 0, 8),
    CALL(sched_getaffinity, 0, 128),
    CALL(prctl, 16),
    CALL(exit, 0),
#ifdef SYS_open
    CALL(open, 0, 0x80000),
    CALL(stat, 0),
    CALL(lstat, 0),
    CALL(mkdir, 0),
    CALL(unlink, 0),
    CALL(readlink, 0),
#endif
};

struct machine {
    uint32_t a, x;
    uint32_t memory[BPF_MEMWORDS];
};

static uint32_t compute(uint16_t operation, uint32_t a, uint32_t b) {
    switch (operation) {
    case BPF_ADD:
        return a + b;
    case BPF_SUB:
        return a - b;
    case BPF_MUL:
        return a * b;
    case BPF_DIV:
        return b != 0 ? a / b : 0;
    case BPF_OR:
        return a | b;
    case BPF_AND:
        return a & b;
    case BPF_XOR:
        return a ^ b;
    case BPF_LSH:
        return b < 32 ? a << b : 0;
    case BPF_RSH:
        return b < 32 ? a >> b : 0;
    default: /* BPF_NEG */
        return 0u - a;
    }
}

static int holds(uint16_t comparison, uint32_t a, uint32_t b) {
    switch (comparison) {
    case BPF_JEQ:
        return a == b;
    case BPF_JGT:
        return a > b;
    case BPF_JGE:
        return a >= b;
    default: /* BPF_JSET */
        return (a & b) != 0;
    }
}

/* A load into A or X; 0 where the address makes no sense. */
static int load(const struct machine *m, const struct sock_filter *i,
                const struct seccomp_data *data, uint32_t *to) {
    switch (BPF_MODE(i->code)) {
    case BPF_IMM:
        *to = i->k;
        return 1;
    case BPF_LEN:
        *to = sizeof *data;
        return 1;
    case BPF_MEM:
        if (i->k >= BPF_MEMWORDS)
            return 0;
        *to = m->memory[i->k];
        return 1;
    case BPF_ABS:
        if (i->k % 4 != 0 || i->k > sizeof *data - 4)
            return 0;
        memcpy(to, (const char *)data + i->k, 4);
        return 1;
    default:
        return 0;
    }
}

uint32_t mp_seccomp_run(const struct sock_filter *code, unsigned count,
                        const struct seccomp_data *data) {
    struct machine m;
    memset(&m, 0, sizeof m);
    for (uint64_t at = 0; at < count; at++) {
        const struct sock_filter *i = &code[at];
        uint32_t operand = BPF_SRC(i->code) == BPF_X ? m.x : i->k;
        switch (BPF_CLASS(i->code)) {
        case BPF_LD:
        case BPF_LDX:
            if (!load(&m, i, data, BPF_CLASS(i->code) == BPF_LD ? &m.a : &m.x))
                return SECCOMP_RET_KILL_PROCESS;
            break;
        case BPF_ST:
        case BPF_STX:
            if (i->k >= BPF_MEMWORDS)
                return SECCOMP_RET_KILL_PROCESS;
            m.memory[i->k] = BPF_CLASS(i->code) == BPF_ST ? m.a : m.x;
            break;
        case BPF_ALU:
            m.a = compute(BPF_OP(i->code), m.a, operand);
            break;
        case BPF_JMP:
            if (BPF_OP(i->code) == BPF_JA)
                at += i->k;
            else
                at += holds(BPF_OP(i->code), m.a, operand) ? i->jt : i->jf;
            break;
        case BPF_RET:
            return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
        default: /* BPF_MISC */
            if (BPF_MISCOP(i->code) == BPF_TAX)
                m.x = m.a;
            else
                m.a = m.x;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

static int harmless(uint32_t action) {
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ERRNO:
        return 1;
    default: /* kill, trap, trace, ask a supervisor */
        return 0;
    }
}

int mp_seccomp_check(int tid, char *call, size_t call_bytes) {
    static struct sock_filter code[BPF_MAXINSNS];
    for (unsigned n = 0; n < PROGRAMS_MAX; n++) {
        long count =
            ptrace((enum __ptrace_request)PTRACE_SECCOMP_GET_FILTER, tid, (void *)(long)n, code);
        if (count < 0)
            return errno == ENOENT && n > 0 ? 0 : -EACCES;
        for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
            struct seccomp_data data = {.nr = calls[i].number, .arch = ARCHITECTURE};
            memcpy(data.args, calls[i].arguments, sizeof data.args);
            if (!harmless(mp_seccomp_run(code, (unsigned)count, &data))) {
                snprintf(call, call_bytes, "%s", calls[i].name);
                return -EPERM;
            }
        }
    }
    return -EACCES;
}
