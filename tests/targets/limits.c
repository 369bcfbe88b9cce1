/*
 * limits.c - preloaded behind the sampler, so begun before it: sets one resource limit.
 *
 *   LIMIT=NUMBER:BYTES      setrlimit(NUMBER, BYTES), soft and hard
 *   LIMIT_AT=CALL           not at once, but between the look at the limit, which shows none, and the system call
 *                           of that number: what another process could do
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PASS 0x70617373 /* sixth argument of a call that the filter lets through */

static int number = -1;
static unsigned long bytes;

static void set_limit(void) {
    struct rlimit limit = {bytes, bytes};
    setrlimit((__rlimit_resource_t)number, &limit);
}

static void on_call(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    set_limit();
#if defined(__x86_64__)
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long result = syscall(info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10],
                          r[REG_R8], (long)PASS);
    r[REG_RAX] = result < 0 ? -errno : result;
#else
    unsigned long long *r = ((ucontext_t *)context)->uc_mcontext.regs;
    long result = syscall(info->si_syscall, r[0], r[1], r[2], r[3], r[4], (long)PASS);
    r[0] = (unsigned long long)(result < 0 ? -errno : result);
#endif
}

/* The sampler makes its calls of the kernel itself, so the kernel tells of this one. */
static void watch(long call) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PASS, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("LIMIT_AT"), *limit = getenv("LIMIT");
    if (limit == NULL || sscanf(limit, "%d:%lu", &number, &bytes) != 2)
        return;
    if (at != NULL)
        watch(atol(at));
    else
        set_limit();
}
