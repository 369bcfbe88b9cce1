/*
 * seccomp.c - forbids itself, on pain of death, all calls but those it already lives on, and allocates on.
 *
 * seccomp PROGRAM: installs a filter that allows everything and executes PROGRAM under it.
 * Allowed: read, write, brk, mmap, munmap, mremap, exit_group, futex. madvise, openat, gettid, prctl kill.
 */
#include "target.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(number)                                                                              \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                                           \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void close_the_door(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read),
        ALLOW(SYS_write),
        ALLOW(SYS_brk),
        ALLOW(SYS_mmap),
        ALLOW(SYS_munmap),
        ALLOW(SYS_mremap),
        ALLOW(SYS_futex),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void become_filtered(const char *program) {
    struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog one = {.len = 1, .filter = filter};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &one) == 0);
    execl(program, program, (char *)NULL);
}

static void alloc_filtered(unsigned n) {
    for (unsigned i = 0; i < n; i++)
        keep(malloc(24));
}

/* As many different stacks as bits: the arena has to grow. */
static void branch(unsigned path, unsigned depth) {
    if (depth == 0)
        free(keep(malloc(16)));
    else if (path & 1)
        branch(path >> 1, depth - 1);
    else
        branch(path >> 1, depth - 1);
}

int main(int argc, char **argv) {
    if (argc > 1)
        become_filtered(argv[1]);
    free(keep(malloc(1))); /* the first malloc of all asks the kernel for a random number */
    close_the_door();
    step("filtered");
    alloc_filtered(30000);
    for (unsigned path = 0; path < 4096; path++)
        branch(path, 12);
    step("allocated");
    return 0;
}
