/* undumpable.c - allocates, makes itself undumpable by prctl or by syscall, allocates again, and so does its child. */
#include "target.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void alloc_before(void) {
    for (int i = 0; i < 10; i++)
        keep(malloc(10));
}

static void alloc_after(void) {
    for (int i = 0; i < 20; i++)
        keep(malloc(20));
}

int main(int argc, char **argv) {
    step("ready");
    alloc_before();
    if (argc > 1 && strcmp(argv[1], "syscall") == 0)
        EXPECT(syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    else
        EXPECT(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
    alloc_after();
    pid_t pid = fork();
    if (pid == 0) {
        alloc_after();
        _exit(0);
    }
    int status;
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    step("undumpable");
    return 0;
}
