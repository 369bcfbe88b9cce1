/*
 * filtered.c - puts a seccomp filter over itself and waits.
 *
 * filtered ACTION NUMBER   ACTION: kill, trap, errno or absent (as on an older kernel); what happens to
 *                          system call NUMBER. With absent a second thread waits, too
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *wait_too(void *unused) {
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv) {
    pthread_t second;
    if (argc != 3)
        return 2;
    unsigned action = SECCOMP_RET_ERRNO | EPERM;
    if (strcmp(argv[1], "kill") == 0)
        action = SECCOMP_RET_KILL_PROCESS;
    if (strcmp(argv[1], "trap") == 0)
        action = SECCOMP_RET_TRAP;
    if (strcmp(argv[1], "absent") == 0)
        action = SECCOMP_RET_ERRNO | ENOSYS;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(argv[2]), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    char byte;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 3;
    if (action == (SECCOMP_RET_ERRNO | ENOSYS) &&
        pthread_create(&second, NULL, wait_too, NULL) != 0)
        return 5;
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        return 4;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}
