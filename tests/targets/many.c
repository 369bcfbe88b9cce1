/*
 * many.c N - N children that keep a block each and wait; it prints a line when all of them do.
 *
 * All end with the input of the first process, and by themselves after five minutes.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) static void keep_one(int number) {
    char *volatile block = malloc(10000 + (size_t)number);
    block[0] = 1;
}

static void wait_for_the_end(void) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    _exit(0);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1, ready[2];
    pid_t first = getpid();
    if (pipe(ready) != 0)
        return 1;
    alarm(300);
    for (int k = 0; k < count; k++) {
        pid_t child = fork();
        if (child < 0)
            return 2;
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != first)
                _exit(1);
            alarm(300);
            close(ready[0]);
            keep_one(k);
            if (write(ready[1], "+", 1) != 1)
                _exit(1);
            close(ready[1]);
            wait_for_the_end();
        }
    }
    close(ready[1]);
    char byte;
    for (int k = 0; k < count; k++)
        if (read(ready[0], &byte, 1) != 1)
            return 3;
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    while (wait(NULL) > 0)
        ;
    return 0;
}
