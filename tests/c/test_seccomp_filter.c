/*
 * test_seccomp_filter.c - mp_seccomp_run() against the kernel: each filter is put over a child, which
 * makes one system call, and what happened to it is compared with what was foretold.
 */
#include "inject/seccomp_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PROGRAMS 400
#define LENGTH 24
#define CALL SYS_getppid

static uint64_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(state >> 33) % below;
}

/* A word that comparisons may meet: of the data, or any. */
static uint32_t word(void) {
    static const uint32_t known[] = {CALL, AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, 0, 1, 7, 0x1234};
    return draw(4) ? known[draw(sizeof known / sizeof *known)] : draw(1u << 31);
}

static struct sock_filter instruction(unsigned left) {
    static const uint16_t arithmetic[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR, BPF_AND,
                                          BPF_XOR, BPF_LSH, BPF_RSH, BPF_NEG};
    static const uint16_t comparisons[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    uint16_t source = draw(2) ? BPF_X : BPF_K;
    uint16_t operation;
    switch (draw(8)) {
    case 0:
        return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4 * draw(16));
    case 1:
        return (struct sock_filter)BPF_STMT(draw(2) ? BPF_LD | BPF_IMM : BPF_LDX | BPF_IMM, word());
    case 2:
        return (struct sock_filter)BPF_STMT(draw(2) ? BPF_ST : BPF_STX, draw(4));
    case 3:
        return (struct sock_filter)BPF_STMT(BPF_MISC | (draw(2) ? BPF_TAX : BPF_TXA), 0);
    case 4:
    case 5:
        operation = arithmetic[draw(sizeof arithmetic / sizeof *arithmetic)];
        if (operation == BPF_LSH || operation == BPF_RSH)
            return (struct sock_filter)BPF_STMT(BPF_ALU | operation | BPF_K, draw(32));
        return (struct sock_filter)BPF_STMT(BPF_ALU | operation | source, word());
    default:
        operation = comparisons[draw(sizeof comparisons / sizeof *comparisons)];
        return (struct sock_filter)BPF_JUMP(BPF_JMP | operation | source, word(),
                                            (uint8_t)draw(left < 200 ? left : 200),
                                            (uint8_t)draw(left < 200 ? left : 200));
    }
}

/* Ends in four instructions that return one of four actions. */
static void make(struct sock_filter *code) {
    static const uint32_t actions[] = {SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | 7,
                                       SECCOMP_RET_ERRNO | 9, SECCOMP_RET_KILL_PROCESS};
    for (unsigned i = 0; i < 4; i++) /* the kernel refuses a load of what was not stored */
        code[i] = (struct sock_filter)BPF_STMT(BPF_ST, i);
    for (unsigned i = 4; i < LENGTH; i++)
        code[i] = instruction(LENGTH - 1 - i + 4);
    for (unsigned i = 0; i < 4; i++)
        code[LENGTH + i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, actions[i]);
}

static uint32_t by_kernel(struct sock_filter *code) {
    struct sock_fprog program = {LENGTH + 4, code};
    int status;
    pid_t child = fork();
    if (child == 0) {
        /* Calls but CALL pass: the filter under test is reached by it alone. */
        struct sock_filter guard[LENGTH + 4 + 4] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            BPF_STMT(BPF_LD | BPF_IMM, 0),
        };
        for (unsigned i = 0; i < LENGTH + 4; i++)
            guard[4 + i] = code[i];
        program = (struct sock_fprog){LENGTH + 8, guard};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
            _exit(99);
        errno = 0;
        long rc = syscall(CALL, 1, 7, 0x1234, 0, 1, 7);
        _exit(rc < 0 ? errno : 0);
    }
    if (waitpid(child, &status, 0) != child || (WIFEXITED(status) && WEXITSTATUS(status) == 99))
        return UINT32_MAX;
    if (!WIFEXITED(status))
        return SECCOMP_RET_KILL_PROCESS;
    return WEXITSTATUS(status) == 0 ? SECCOMP_RET_ALLOW
                                    : SECCOMP_RET_ERRNO | (uint32_t)WEXITSTATUS(status);
}

int main(void) {
    CASE("as the kernel");
    struct seccomp_data data = {.nr = CALL, .args = {1, 7, 0x1234, 0, 1, 7}};
#if defined(__x86_64__)
    data.arch = AUDIT_ARCH_X86_64;
#else
    data.arch = AUDIT_ARCH_AARCH64;
#endif
    unsigned compared = 0;
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct sock_filter code[LENGTH + 4];
        make(code);
        /* Loads of the caller's address differ from run to run. */
        for (unsigned k = 0; k < LENGTH; k++)
            if (code[k].code == (BPF_LD | BPF_W | BPF_ABS) && code[k].k / 4 - 2 < 2)
                code[k].k = 0;
        uint32_t expected = by_kernel(code);
        if (expected == UINT32_MAX)
            continue;
        compared++;
        CHECK(mp_seccomp_run(code, LENGTH + 4, &data) == expected);
    }
    CHECK(compared > PROGRAMS / 2);
    struct sock_filter endless = BPF_STMT(BPF_LD | BPF_IMM, 1);
    CHECK(mp_seccomp_run(&endless, 1, &data) == SECCOMP_RET_KILL_PROCESS);
    return check_end();
}
